//! Makes plans from the fuzzer's bytes. Most are honest, so that the rules behind the first ones are reached, but a few
//! lies are among them.

use arbitrary::{Result, Unstructured};
use guillemet_base::problem::Problem;
use guillemet_plan::encode::{
    BytesEncoding, CharacterSet, ENCODERS, EncoderDefinition, EncoderOptions, EscapeTable, HmacAlgorithm, Placement,
    Signature,
};
use guillemet_plan::expr::{DigestAlgorithm, Expr, Op, Part, TextParts};
use guillemet_plan::protocol::{
    Cost, Description, DocumentKind, Emission, Planned, PlannedSlot, PlannerResponse, Report, Target,
};
use guillemet_template::ValueFilter;
use serde_json::Value;

/// Texts that are syntax for one of the readers.
const WORDS: [&str; 16] =
    ["", "a", "x=", "https://h/", "/", "?k=", "\"", "\\", "\\u005a", "é", "\n", "\u{1b}[2J", "<a>", ":", "${", "z00"];

fn word(u: &mut Unstructured<'_>) -> Result<String> {
    if rarely(u, 8)? { u.arbitrary() } else { Ok((*u.choose(&WORDS)?).to_owned()) }
}

/// Returns true about once in `of` times, and never if there are no bytes left.
fn rarely(u: &mut Unstructured<'_>, of: u8) -> Result<bool> {
    Ok(!u.is_empty() && u.ratio(1, of)?)
}

fn slot(number: usize) -> String {
    format!("Z{number:039}")
}

/// Makes a plan with up to four slots. Each lie occurs about once in sixteen times.
pub fn planned(bytes: &[u8]) -> Result<Planned> {
    let u = &mut Unstructured::new(bytes);
    let kind = if u.arbitrary()? { DocumentKind::Json } else { DocumentKind::Text };
    let mut emissions = Vec::new();
    let mut slots = Vec::new();
    let mut pieces = Vec::new();
    for number in 0..u.int_in_range(0..=4)? {
        let mut expr = expr(u, 0, &mut emissions)?;
        if kind == DocumentKind::Text && !rarely(u, 16)? {
            let is_terminal = |definition: &&EncoderDefinition| definition.place == Placement::TextDocument;
            let terminal: Vec<_> = ENCODERS.iter().filter(is_terminal).collect();
            let reason = "for a reason".into();
            let table = table(u)?;
            let options = EncoderOptions { option: "x".into(), number: 40, reason, table, ..EncoderOptions::default() };
            let op = u.choose(&terminal)?.op(options);
            expr = Expr::Apply { op, args: vec![vec![Part::Expr(expr)]] };
        }
        let written = if u.ratio(1, 4)? { slot(number).to_lowercase() } else { slot(number) };
        let (before, behind) = (word(u)?, word(u)?);
        pieces.push(match kind {
            DocumentKind::Text => format!("{before}{written}{behind}\n"),
            DocumentKind::Json => {
                let text = Value::String(format!("{before}{written}{behind}")).to_string();
                let nested = u.int_in_range(0..=3)?;
                format!("{}{text}{}", r#"{"a":["#.repeat(nested), "]}".repeat(nested))
            }
        });
        slots.push(PlannedSlot { slot: written, expr });
    }
    let mut document = match kind {
        DocumentKind::Text => pieces.concat(),
        DocumentKind::Json => format!("[{}]", pieces.join(", ")),
    };
    while rarely(u, 16)? {
        lie(u, &mut document, &mut slots, &mut emissions)?;
    }
    let warnings = if rarely(u, 8)? { vec![problem(u)?] } else { Vec::new() };
    Ok(Planned { document, kind, slots, emissions, warnings, cost: Cost::default() })
}

fn problem(u: &mut Unstructured<'_>) -> Result<Problem> {
    Ok(Problem { path: word(u)?, line: u.arbitrary()?, column: u.arbitrary()?, message: word(u)?, help: None })
}

fn lie(
    u: &mut Unstructured<'_>,
    document: &mut String,
    slots: &mut Vec<PlannedSlot>,
    emissions: &mut Vec<Emission>,
) -> Result<()> {
    let at = document.floor_char_boundary(u.choose_index(document.len() + 1)?);
    match u.int_in_range(0..=7)? {
        0 => document.insert_str(at, &word(u)?),
        1 => document.insert_str(at, &slot(u.int_in_range(0..=5)?)),
        2 => document.truncate(at),
        3 => document.insert_str(0, &"[".repeat(u.int_in_range(0..=300)?)),
        4 => drop(slots.pop()),
        5 => slots.push(PlannedSlot { slot: slot(u.int_in_range(0..=5)?), expr: Expr::Secret(u.arbitrary()?) }),
        6 => emissions.push(Emission { reference: u.int_in_range(0..=5)?, field: word(u)? }),
        _ => drop(emissions.pop()),
    }
    Ok(())
}

/// Makes an expression. Most of the time, a secret has the filters of its reference.
fn expr(u: &mut Unstructured<'_>, depth: usize, emissions: &mut Vec<Emission>) -> Result<Expr> {
    if depth > 30 || u.ratio(1, 3)? {
        let emission = u32::try_from(emissions.len()).unwrap();
        let reference = u.int_in_range(0..=3)?;
        emissions.push(Emission { reference, field: format!("f.{}", word(u)?.replace(char::is_control, "")) });
        let filters = super::references()[reference as usize].filters.clone();
        let filters = if rarely(u, 16)? { vec![ValueFilter::Hex] } else { filters };
        let wrap = |inner, filter| Expr::Apply { op: Op::Filter(filter), args: vec![vec![Part::Expr(inner)]] };
        return Ok(filters.into_iter().fold(Expr::Secret(emission), wrap));
    }
    let (op, arguments) = op(u)?;
    let args = (0..arguments).map(|_| text(u, depth + 1, emissions)).collect::<Result<_>>()?;
    Ok(Expr::Apply { op, args })
}

fn text(u: &mut Unstructured<'_>, depth: usize, emissions: &mut Vec<Emission>) -> Result<TextParts> {
    let mut text = Vec::new();
    if u.arbitrary()? {
        text.push(Part::Literal(word(u)?));
    }
    if !rarely(u, 16)? {
        text.push(Part::Expr(expr(u, depth, emissions)?));
    }
    if u.ratio(1, 4)? {
        text.push(Part::Literal(word(u)?));
    }
    Ok(text)
}

/// An operation, and how many arguments it gets: one too few is a lie.
fn op(u: &mut Unstructured<'_>) -> Result<(Op, usize)> {
    let definition = u.choose(ENCODERS)?;
    let op = match &definition.signature {
        Signature::Text(op) => op.clone(),
        Signature::TwoTexts(op) => return Ok((op.clone(), if rarely(u, 8)? { 1 } else { 2 })),
        Signature::DigestTexts(op) => op(DigestAlgorithm::Md5),
        Signature::Hmac(op) => {
            let op = op(HmacAlgorithm::Sha1, BytesEncoding::Base64);
            return Ok((op, if rarely(u, 8)? { 1 } else { 2 }));
        }
        Signature::TextOptionReason(op) => op(word(u)?, word(u)?),
        Signature::TextNumberReason(op) => op(u.int_in_range(0..=40)?, word(u)?),
        Signature::TextTable(op) => op(table(u)?),
    };
    Ok((op, definition.texts()))
}

fn table(u: &mut Unstructured<'_>) -> Result<EscapeTable> {
    let mut table = EscapeTable { opening: word(u)?, closing: word(u)?, ..EscapeTable::default() };
    for _ in 0..u.int_in_range(0..=3)? {
        table.replacements.push((u.arbitrary()?, word(u)?));
        table.refused.push((CharacterSet(word(u)?), word(u)?));
    }
    if !rarely(u, 8)? {
        table.refused.push((CharacterSet("\0-\u{10ffff}".into()), "for a reason".into()));
    }
    Ok(table)
}

/// Makes an answer as JSON in which a few things have another type than they should.
pub fn spoiled(bytes: &[u8]) -> Result<Value> {
    let (head, body) = bytes.split_at(bytes.len().min(16));
    let u = &mut Unstructured::new(head);
    let answer = match u.int_in_range(0..=3)? {
        0 => PlannerResponse::Loaded(Report {
            description: Some(description(&mut Unstructured::new(body))?),
            ..Report::default()
        }),
        1 => PlannerResponse::Problems(vec![problem(&mut Unstructured::new(body))?; 3]),
        _ => PlannerResponse::Planned(planned(body)?),
    };
    let mut answer = serde_json::to_value(answer).unwrap();
    for _ in 0..u.int_in_range(0..=3)? {
        spoil(u, &mut answer)?;
    }
    Ok(answer)
}

fn description(u: &mut Unstructured<'_>) -> Result<Description> {
    let target = |u: &mut Unstructured<'_>| {
        let media_type = format!("application/json{}", word(u)?);
        let (id, title, file_name) = (format!("t{}", word(u)?), word(u)?, format!("f{}", word(u)?));
        Ok(Target { id, title, media_type, file_name, aliases: vec![word(u)?] })
    };
    Ok(Description {
        feature: format!("f{}", word(u)?),
        title: word(u)?,
        version: word(u)?,
        schema: format!("{{{}}}", word(u)?),
        secret_fields: vec![format!("a.{}", word(u)?)],
        targets: (0..u.int_in_range(0..=2)?).map(|_| target(u)).collect::<Result<_>>()?,
    })
}

/// Descends at random and changes what it finds.
fn spoil(u: &mut Unstructured<'_>, value: &mut Value) -> Result<()> {
    match value {
        Value::Array(items) if !items.is_empty() && u.ratio(3, 4)? => {
            let at = u.choose_index(items.len())?;
            match u.int_in_range(0..=9)? {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => spoil(u, &mut items[at])?,
            }
        }
        Value::Object(fields) if !fields.is_empty() && u.ratio(3, 4)? => {
            let at = u.choose_index(fields.len())?;
            let key = fields.keys().nth(at).unwrap().clone();
            match u.int_in_range(0..=9)? {
                0 => drop(fields.remove(&key)),
                1 => drop(fields.insert(word(u)?, fields[&key].clone())),
                _ => spoil(u, &mut fields[&key])?,
            }
        }
        other => {
            *other = match u.int_in_range(0..=5)? {
                0 => Value::Null,
                1 => Value::from(u.arbitrary::<i64>()?),
                2 => Value::from(u.int_in_range(0..=5)?),
                3 => Value::Array(vec![other.clone()]),
                4 => Value::String(slot(u.int_in_range(0..=5)?)),
                _ => Value::String(word(u)?),
            }
        }
    }
    Ok(())
}

//! Answers of a planner: they are accepted only if every rule holds, and an accepted plan stays what it says, whatever
//! the values are.

use std::collections::{HashMap, HashSet};

use guillemet_base::display::sanitize;
use guillemet_base::problem::{PROBLEMS_MAX, Problem, sanitize_problems};
use guillemet_base::sys::memory::Clear;
use guillemet_plan::expr::{Expr, Op, Part};
use guillemet_plan::plan::{DOCUMENT_MAX, EXPR_DEPTH_MAX, Plan, PlanPiece, SLOT_LEN, SLOTS_MAX};
use guillemet_plan::protocol::{Description, DocumentKind, Planned, PlannerResponse, Target};
use guillemet_plan::{encode, plan};
use guillemet_plugin::client::{ChildError, named_targets, read_answer, shown_log, validated};
use guillemet_plugin::fill::{Values, fill};
use guillemet_secret::memory::SealedValue;
use guillemet_template::ValueFilter;
use guillemet_template::lexer::Reference;
use serde_json::Value;

mod made;

/// The deepest nesting of a document: no deeper than every JSON reader supports.
const DEPTH_MAX: usize = 128;

/// Values that would be syntax in some place.
const HOSTILE: [&str; 6] = [
    "plain",
    "\"},{\"x\":[\\\"",
    "\\u0022\\\\\n\r\t\0\u{7f}\u{2028}",
    "]]></a><b x='1' y=\"2\">&amp;<!--",
    "Z000000000000000000000000000000000000001 << secret \"other\" >> ${HOME} ;--",
    "https://h/a?b=c#d'`",
];

/// The first byte selects how the others are read.
pub fn holds(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 4 {
        0 => pipe(rest),
        1 => pipe(&framed(rest)),
        2 => {
            if let Ok(planned) = made::planned(rest) {
                pipe(&framed(&serde_json::to_vec(&PlannerResponse::Planned(planned)).unwrap()));
            }
        }
        _ => {
            if let Ok(answer) = made::spoiled(rest) {
                pipe(&framed(&serde_json::to_vec(&answer).unwrap()));
            }
        }
    }
}

fn framed(frame: &[u8]) -> Vec<u8> {
    [&u32::try_from(frame.len()).unwrap().to_le_bytes(), frame].concat()
}

/// Checks what comes out of a planner's pipe.
fn pipe(bytes: &[u8]) {
    let mut rest = bytes;
    let answer = match super::now(read_answer(&mut rest)) {
        Ok(answer) => answer,
        Err(lost) => return assert!(matches!(lost, ChildError::Garbage | ChildError::Ended)),
    };
    let announced = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    assert_eq!(bytes.len() - rest.len(), 4 + announced, "one frame, no more");
    match answer {
        PlannerResponse::Planned(planned) => check(planned),
        PlannerResponse::Log(log) => assert!(shown_log(log).iter().all(|line| is_shown(line, 501))),
        PlannerResponse::Problems(problems) => shown(&sanitize_problems(problems)),
        PlannerResponse::Targets(ids) => {
            let description = Description {
                feature: "a".into(),
                title: "A".into(),
                version: "1".into(),
                schema: "{}".into(),
                secret_fields: Vec::new(),
                targets: ["json", "text"].map(target).to_vec(),
            };
            let Some(named) = named_targets(&ids, &description) else { return };
            let once: HashSet<&String> = named.iter().map(|target| &target.id).collect();
            assert!(once.len() == ids.len() && named.iter().all(|target| description.targets.contains(target)));
        }
        PlannerResponse::Broken { rule: message } | PlannerResponse::Failed { message } => {
            assert!(is_shown(&sanitize(&message, 2000), 2001))
        }
        PlannerResponse::Loaded(report) => {
            let Some(report) = validated(report) else { return };
            let functions = report.imports.iter().flat_map(|import| &import.functions);
            let texts = report.imports.iter().map(|import| &import.name).chain(functions);
            let texts = texts.chain(report.broken.iter().map(|rule| &rule.sentence));
            assert!(texts.into_iter().all(|text| is_shown(text, 501)));
            let Some(description) = report.description.filter(|_| report.broken.is_empty()) else {
                return assert!(!report.broken.is_empty(), "it is usable, or says why not");
            };
            assert!(!description.targets.is_empty());
            let of_id = |id: &String| id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            for Target { id, title, media_type, file_name, aliases } in &description.targets {
                assert!(is_shown(title, 201));
                assert!([id].into_iter().chain(aliases).all(of_id));
                assert!(media_type.bytes().all(|b| (b' '..=b'~').contains(&b)), "it becomes a header");
                assert!(!file_name.contains(['/', '\0']) && file_name != "..");
            }
        }
    }
}

fn target(id: &str) -> Target {
    Target {
        id: id.into(),
        title: "A target".into(),
        media_type: "application/json".into(),
        file_name: "a.json".into(),
        aliases: Vec::new(),
    }
}

/// Checks the problems that people are shown.
fn shown(problems: &[Problem]) {
    assert!(problems.len() <= PROBLEMS_MAX);
    for problem in problems {
        let texts = [Some(&problem.path), Some(&problem.message), problem.help.as_ref()];
        assert!(texts.into_iter().flatten().all(|text| is_shown(text, 501)));
    }
}

fn is_shown(text: &str, most: usize) -> bool {
    let drives = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    text.chars().count() <= most && !text.contains(drives)
}

/// Returns the references of the template that the planner was asked about.
fn references() -> Vec<Reference> {
    let filters = [vec![], vec![], vec![ValueFilter::Trim, ValueFilter::Base64], vec![ValueFilter::Url]];
    let reference = |(index, filters): (usize, Vec<ValueFilter>)| Reference {
        name: format!("secret-{index}").parse().unwrap(),
        line: u32::try_from(index).unwrap() + 1,
        column: 1,
        filters,
    };
    filters.into_iter().enumerate().map(reference).collect()
}

fn check(planned: Planned) {
    let references = references();
    let target = target("json");
    let document = planned.document.clone();
    let slots: HashMap<String, Expr> =
        planned.slots.iter().map(|slot| (slot.slot.clone(), slot.expr.clone())).collect();
    let (listed, emissions) = (planned.slots.len(), planned.emissions.clone());
    let Ok(plan) = plan::verify(planned, &references, target) else { return };

    assert!(document.len() <= DOCUMENT_MAX && listed <= SLOTS_MAX);
    assert_eq!(slots.len(), listed, "no slot is listed twice");
    taken_apart(&plan, &document, &slots);
    assert_eq!(plan.uses.len(), emissions.len());
    let mut counts = vec![0; plan.uses.len()];
    for expr in slots.values() {
        counted(expr, 0, &plan, &references, &mut counts);
    }
    for ((usage, emission), count) in plan.uses.iter().zip(&emissions).zip(counts) {
        assert_eq!((usage.reference, &usage.field), (emission.reference as usize, &emission.field));
        assert_eq!(usage.name, references[usage.reference].name);
        assert!(usage.count == count && count > 0, "every use is counted, and every secret is used");
        assert!(!usage.field.contains(char::is_control));
    }
    shown(&plan.warnings);
    if plan.kind == DocumentKind::Json {
        assert!(depth(&document) <= DEPTH_MAX, "a document that nests too deeply");
    }
    for first in 0..HOSTILE.len() {
        filled(&plan, &document, &slots, first);
    }
}

/// Checks that the pieces make up the document: text as it is there, and every listed slot once.
fn taken_apart(plan: &Plan, document: &str, slots: &HashMap<String, Expr>) {
    let (mut rest, mut literal, mut met) = (document, 0, HashSet::new());
    for piece in &plan.pieces {
        match piece {
            PlanPiece::Text(text) => {
                rest = rest.strip_prefix(text.as_str()).expect("text as it stands there");
                literal += text.len();
            }
            PlanPiece::Slot { expr, uses } => {
                let (slot, behind) = rest.split_at(SLOT_LEN);
                assert_eq!(slots.get(slot), Some(expr));
                assert_eq!(*uses, expr.emissions());
                assert!(met.insert(slot), "a slot stands once");
                rest = behind;
            }
        }
    }
    assert_eq!((rest, met.len(), literal), ("", slots.len(), plan.literal_len));
}

/// Counts the secrets of an expression. Checks that each has exactly the filters of its template, and that there is no
/// other filter.
fn counted(expr: &Expr, depth: usize, plan: &Plan, references: &[Reference], counts: &mut [u32]) {
    assert!(depth <= EXPR_DEPTH_MAX);
    let (mut inner, mut filters) = (expr, Vec::new());
    while let Expr::Apply { op: Op::Filter(filter), args } = inner {
        let [text] = args.as_slice() else { panic!("a filter takes one text") };
        let [Part::Expr(next)] = text.as_slice() else { panic!("a filter of the template takes a secret alone") };
        filters.insert(0, *filter);
        inner = next;
    }
    match inner {
        Expr::Secret(emission) => {
            counts[*emission as usize] += 1;
            assert_eq!(filters, references[plan.uses[*emission as usize].reference].filters);
        }
        Expr::Apply { args, .. } => {
            assert!(filters.is_empty());
            let inner = args.iter().flatten().filter_map(|part| match part {
                Part::Expr(inner) => Some(inner),
                Part::Literal(text) => {
                    assert_eq!(plan::find_slots(text).count(), 0);
                    None
                }
            });
            assert!(inner.map(|inner| counted(inner, depth + 1, plan, references, counts)).count() > 0);
        }
    }
}

/// Returns how deep a JSON document nests.
fn depth(document: &str) -> usize {
    let (mut depth, mut deepest, mut string, mut escaped) = (0_usize, 0, false, false);
    for b in document.bytes() {
        match (string, b) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => string = !string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Checks that, with hostile values, the filled document is the one that was checked: the same text or the same tree,
/// with each value encoded in its place.
fn filled(plan: &Plan, document: &str, slots: &HashMap<String, Expr>, first: usize) {
    let sealed: Vec<SealedValue> =
        (0..plan.uses.len()).map(|index| SealedValue::seal(HOSTILE[(first + index) % HOSTILE.len()])).collect();
    let values = Values(sealed.iter().map(Some).collect());
    let written = |expr: &Expr| {
        let mut out = Clear::new();
        let outcome = encode::eval(expr, &values, &mut out);
        outcome.map(|()| String::from_utf8(out.to_vec()).expect("text gives text"))
    };
    let out = match fill(plan, &values) {
        Ok(out) => String::from_utf8(out.to_vec()).expect("text gives text"),
        // Filling stops at a value that takes too much, so the other refusals are not complete.
        Err(unfit) if unfit.iter().any(|unfit| unfit.refusal.reason == encode::TOO_MUCH) => return,
        Err(unfit) => {
            assert_eq!(unfit.len(), slots.values().filter(|expr| written(expr).is_err()).count());
            return assert!(unfit.iter().all(|unfit| !unfit.uses.is_empty()));
        }
    };
    let place = |text: &str| {
        let (mut placed, mut from) = (String::new(), 0);
        for at in plan::find_slots(text) {
            placed.push_str(&text[from..at]);
            let slot = &text[at..at + SLOT_LEN];
            placed.push_str(&slots.get(slot).map_or(slot.to_owned(), |expr| written(expr).unwrap()));
            from = at + SLOT_LEN;
        }
        placed + &text[from..]
    };
    if plan.kind == DocumentKind::Text {
        return assert_eq!(out, place(document));
    }
    // A tree cannot hold a number that is out of range or half of a surrogate pair.
    let Ok(mut expected) = serde_json::from_str::<Value>(document) else {
        return assert!(serde_json::from_str::<serde::de::IgnoredAny>(&out).is_ok());
    };
    let mut placed = serde_json::from_str::<Value>(&out).expect("still JSON");
    let mut met = 0;
    each_string(&mut expected, &mut |text| {
        met += plan::find_slots(text).count();
        *text = place(text);
    });
    // A slot that was written with escapes is text for us, but a slot for the reader above.
    if met == slots.len() {
        assert_eq!(placed, expected, "a value became syntax");
    }
    // Apart from its strings, the tree has the same keys, lists and numbers.
    each_string(&mut expected, &mut String::clear);
    each_string(&mut placed, &mut String::clear);
    assert_eq!(placed, expected, "a value is somewhere else than in a string");
}

fn each_string(value: &mut Value, each: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => each(text),
        Value::Array(items) => items.iter_mut().for_each(|item| each_string(item, each)),
        Value::Object(fields) => fields.values_mut().for_each(|item| each_string(item, each)),
        _ => {}
    }
}

//! Checks the rules of tables that plugins bring along.

use super::escape::{CharacterSet, EscapeTable};
use guillemet_base::sys::memory::Clear;

fn table(opening: &str, closing: &str, replacements: &[(char, &str)], refused: &[&str]) -> EscapeTable {
    EscapeTable {
        opening: opening.into(),
        closing: closing.into(),
        replacements: replacements.iter().map(|(c, text)| (*c, (*text).into())).collect(),
        refused: refused.iter().map(|set| (CharacterSet((*set).into()), "it cannot".into())).collect(),
    }
}

fn written(table: &EscapeTable, text: &str) -> Result<String, String> {
    let mut out = Clear::new();
    table.write(text, &mut out).map_err(|refusal| refusal.reason)?;
    Ok(String::from_utf8(out.to_vec()).unwrap())
}

#[test]
fn a_set_has_ranges_and_a_dash_at_its_ends_is_itself() {
    let set = |text: &str| CharacterSet(text.into());
    let of = |text: &str| ('\0'..='\u{7f}').filter(|c| set(text).contains(*c)).collect::<String>();
    assert_eq!(of("a-c_"), "_abc");
    assert_eq!(of("-ac"), "-ac");
    assert_eq!(of("ac-"), "-ac");
    assert_eq!(of("a--c"), of("c"));
    assert_eq!(of("+--x"), "+,-x");
    assert!(set("\0-\u{1f}").contains('\n') && set("é-ö").contains('í'));
    assert!(set("a-z").is_valid() && !set("z-a").is_valid() && !set("").is_valid());
}

#[test]
fn a_table_that_lets_a_text_run_on_is_refused() {
    let clause = |table: EscapeTable| table.check().unwrap_err();
    assert_eq!(table("\"", "\"", &[('"', "\\\""), ('\\', "\\\\")], &["\0"]).check(), Ok(()));
    assert_eq!(table("", "", &[], &["\n\r"]).check(), Ok(()));
    assert_eq!(clause(table("\"", "\"", &[], &[])), "without a replacement or refusal of `\"`, which ends the text");
    assert_eq!(
        clause(table("", "", &[('\n', "\\n")], &[])),
        "without a replacement or refusal of a carriage return, which ends the text"
    );
    assert_eq!(clause(table("", "", &[('a', "b"), ('a', "c")], &["\n\r"])), "with two replacements of `a`");
    assert_eq!(
        clause(table("", "", &[('\u{1}', "")], &["\n\r"])),
        "with an empty replacement of U+0001: that would drop it"
    );
    assert!(clause(table(&"x".repeat(65), "", &[], &["\n\r"])).contains("more than 64 bytes"));
    let mut many = table("", "", &[], &["\n\r"]);
    many.replacements = (0..257).map(|n| (char::from_u32(0x1000 + n).unwrap(), "x".into())).collect();
    assert!(clause(many).contains("more than 256 rules"));
}

#[test]
fn a_refused_character_is_refused_with_the_reason_of_the_table() {
    let table = table("'", "'", &[('a', "b"), ('x', "X")], &["'", "x-z"]);
    assert_eq!(written(&table, "ax!"), Ok("'bX!'".into()));
    assert_eq!(written(&table, "ay"), Err("it cannot".into()));
}

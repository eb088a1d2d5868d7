//! Templates are rendered as written, and every mistake is reported without any value.

use super::*;
use crate::slot_tracking::find_emitted;
use guillemet_plan::protocol::PlanReference;
use guillemet_template::Format;

fn request(text: &str) -> PlanRequest {
    let mut engine = text.replace("@0", "\u{e002} call0() \u{e003}");
    for (own, private) in [
        ("<%", "\u{e000}"),
        ("%>", "\u{e001}"),
        ("<<", "\u{e002}"),
        (">>", "\u{e003}"),
        ("<#", "\u{e004}"),
        ("#>", "\u{e005}"),
    ] {
        engine = engine.replace(own, private);
    }
    PlanRequest {
        text: engine,
        format: Format::Yaml,
        call_prefix: "call".into(),
        references: vec![PlanReference { name: "api".into(), line: 3, column: 5, filters: Vec::new() }],
        vars: serde_json::json!({"name": "canary-value", "list": [1, 2], "nested": {"a": "b"}}),
        env: [("HOME_URL".to_owned(), "canary-env".to_owned())].into(),
        target: "json".into(),
    }
}

fn rendered(text: &str) -> RenderedText {
    render(&request(text)).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn problems(text: &str) -> Vec<Problem> {
    let problems = render(&request(text)).err().expect("it renders");
    let shown = format!("{problems:?}");
    assert!(!shown.contains("canary") && !shown.contains(['\u{e002}', '\u{e000}']), "{shown}");
    problems
}

#[test]
fn variables_conditions_and_loops_work_and_other_languages_pass() {
    assert_eq!(rendered("a: << vars.name >>, {{ x }} ${y}\n\n").text, "a: canary-value, {{ x }} ${y}\n\n");
    assert_eq!(rendered("<% for i in vars.list %><< i >>,<% endfor %>").text, "1,2,");
    assert_eq!(rendered("<% if env.HOME_URL %>y<% endif %><# no #>").text, "y");
    assert_eq!(rendered("<< vars.missing | default('d') >>").text, "d");
    assert_eq!(rendered("<< vars.name | tojson >>").text, "\"canary-value\"");
}

#[test]
fn every_unknown_name_and_every_undefined_variable_is_told() {
    let unknown = problems("a: << region >>\nb: << x.y >> << region >>\n<% if foo is defined %><% endif %>\n");
    let messages: Vec<_> = unknown.iter().map(|p| (p.message.as_str(), p.line, p.column.is_some())).collect();
    assert_eq!(
        messages,
        [
            ("unknown name `region`", Some(1), false),
            ("unknown name `x`", Some(2), false),
            ("unknown name `foo`", Some(3), false),
        ]
    );
    assert!(unknown[0].help.as_ref().unwrap().contains("<% raw %>"));
    let undefined = problems("a: << vars.one >>\nb: << vars.nested.two | upper >>\nc: << env.THREE ~ vars.name >>\n");
    let names: Vec<_> = undefined.iter().map(|p| (p.message.split('`').nth(1).unwrap_or(&p.message), p.line)).collect();
    assert_eq!(names, [("vars.one", Some(1)), ("vars.nested.two", Some(2)), ("env.THREE", Some(3))]);
}

#[test]
fn errors_have_lines_and_no_values() {
    for (text, line) in [
        ("\n<< vars.name + 1 >>", 2),
        ("\n\n<< vars.name | nofilter >>", 3),
        ("<< vars.name.upper() >>", 1),
        ("\n<% if %>", 2),
        ("<< vars.name | int >>", 1),
        ("\n<< vars.name | batch('canary') >>", 2),
        ("<% include 'canary-value' %>", 1),
        ("<< debug() >>", 1),
        ("<< now() >>", 1),
        ("<% for a, b in vars.list %><% endfor %>", 1),
    ] {
        let problems = problems(text);
        assert_eq!(problems[0].line, Some(line), "{text}: {problems:?}");
        assert!(problems[0].help.is_some());
    }
}

#[test]
fn endless_templates_are_stopped() {
    let nested = "<% for a in range(1000) %><% for b in range(1000) %>x<% endfor %><% endfor %>";
    assert!(problems(nested)[0].message.contains("too long"));
    assert!(!problems("<% macro m() %><< m() >><% endmacro %><< m() >>").is_empty());
}

#[test]
fn a_secret_that_is_cut_changed_or_never_written_is_an_error_with_its_name() {
    for text in [
        "<% set x %>@0<% endset %><< x[:20] >>",
        "<% set x %>@0<% endset %>",
        "<% set x %>@0<% endset %><< x | replace('1', '2') | replace('3', '4') | replace('5', '6') >>",
        "<% filter reverse %>@0<% endfilter %>",
    ] {
        let request = request(text);
        let problems = find_emitted(&request, render(&request).unwrap()).err().expect(text);
        assert!(problems[0].message.contains("\"api\"") && problems[0].line == Some(3), "{problems:?}");
    }
    let request = self::request("<% filter lower %>@0<% endfilter %>");
    assert!(find_emitted(&request, render(&request).unwrap()).is_ok(), "either case is the same slot");
}

#[test]
fn a_text_that_looks_like_a_slot_is_refused() {
    let request = request(&format!("a: 1\nb: z{}\n", "7".repeat(39)));
    let problems = find_emitted(&request, render(&request).unwrap()).err().unwrap();
    assert_eq!((problems[0].line, problems[0].column), (Some(2), Some(4)));
}

#[test]
fn the_way_back_leads_to_the_line_and_before_tags_to_the_column() {
    let rendered = rendered("a: 1\n<% for i in vars.list %>\nx: é5\n<% endfor %>\nend: << vars.name >> tail\n");
    let place = |word: &str| {
        let place = rendered.origins.of_output(rendered.text.rfind(word).unwrap());
        (place.line, place.column)
    };
    assert_eq!(place("1"), (Some(1), Some(4)));
    assert_eq!(place("5"), (Some(3), Some(5)));
    assert_eq!(place("end"), (Some(5), Some(1)));
    assert_eq!(place("tail"), (Some(5), None));
}

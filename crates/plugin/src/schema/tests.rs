use serde_json::json;

use super::*;

fn fields(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn pager() -> Value {
    json!({
        "type": "object",
        "required": ["url"],
        "properties": {
            "url": {"type": "string", "format": "uri"},
            "token": {"type": "string", "examples": ["abc"]},
            "port": {"type": "integer", "minimum": 5},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "hosts": {"type": "array", "items": {"$ref": "#/$defs/host"}},
            "auth": {"oneOf": [
                {"type": "object", "required": ["kind", "key"], "properties": {"kind": {"const": "key"}, "key": {"type": "string"}}},
                {"type": "object", "required": ["kind", "user"], "properties": {"kind": {"const": "basic"}, "user": {"type": "string"}, "password": {"type": "string"}}}
            ]},
            "body": {},
            "closed": {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": false}
        },
        "$defs": {"host": {"type": "object", "properties": {"name": {"type": "string"}}}}
    })
}

#[test]
fn a_schema_knows_every_secret_field() {
    let known =
        ["url", "token", "labels.*", "labels.team", "hosts.*.name", "auth.key", "auth.password", "body.**", "closed.a"];
    assert_eq!(rules(&pager(), &fields(&known)), Vec::<String>::new());
    for (field, words) in [
        ("tokn", "does not describe the secret field `tokn`"),
        ("closed.b", "does not describe the secret field `closed.b`"),
        ("auth.secret", "does not describe"),
        ("hosts.*.nam", "does not describe"),
        ("token.a", "does not describe"),
        ("port", "does not allow text in the secret field `port`"),
        ("labels", "does not allow text"),
    ] {
        let problems = rules(&pager(), &fields(&[field]));
        assert!(problems.len() == 1 && problems[0].contains(words), "{field}: {problems:?}");
    }
}

#[test]
fn what_is_no_schema_is_told_by_its_places() {
    let check = |schema: Value| rules(&schema, &[]);
    let broken = check(json!({
        "type": "object",
        "properties": {"a": {"type": "text"}, "b": {"minimum": "1"}, "c": {"pattern": "("}}
    }));
    for place in ["`/properties/a/type`", "`/properties/b/minimum`"] {
        assert!(broken.iter().any(|rule| rule.contains(place)), "{place}: {broken:?}");
    }
    assert!(check(json!({"type": "array", "properties": {"a": {}}}))[0].contains("\"type\": \"object\""));
    assert!(check(json!({"type": "object"}))[0].contains("no `properties`"));
    // Nothing is fetched from anywhere.
    for elsewhere in ["file:///etc/passwd", "http://127.0.0.1:9/schema", "other.json"] {
        let problems = check(json!({"type": "object", "properties": {"a": {"$ref": elsewhere}}}));
        assert!(problems.len() == 1 && !problems[0].contains("root:"), "{problems:?}");
    }
    let meta = check(json!({"$schema": "http://127.0.0.1:9/meta", "type": "object", "properties": {"a": {}}}));
    assert_eq!(meta.len(), 1, "{meta:?}");
}

#[test]
fn configs_are_held_against_it() {
    let schema = Schema::new(&pager()).unwrap_or_else(|problems| panic!("{problems:?}"));
    let config = |value: Value| value.as_object().cloned().unwrap();
    assert!(schema.mistakes(&config(json!({"url": "https://example.com"}))).is_empty());
    let refused = schema.mistakes(&config(json!({"port": "x"})));
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(refused.iter().any(|told| told.starts_with("`/port`: ")), "{refused:?}");
}

#[test]
fn examples_are_made_one_for_each_secret_field() {
    let made = examples(&pager(), &fields(&["url", "labels.*", "hosts.*.name", "auth.password", "body.**"]));
    let configs: Vec<Value> = made.into_iter().map(|example| Value::Object(example.config)).collect();
    let with = |rest: Value| {
        let mut config = json!({"url": "https://example.com/", "token": "abc"});
        config.as_object_mut().unwrap().extend(rest.as_object().cloned().unwrap());
        config
    };
    assert_eq!(
        configs,
        [
            with(json!({"url": "«canary»"})),
            with(json!({"labels": {"X-Example": "«canary»"}})),
            with(json!({"hosts": [{"name": "«canary»"}]})),
            with(json!({"auth": {"kind": "basic", "user": "text", "password": "«canary»"}})),
            with(json!({"body": {"X-Example": "«canary»"}})),
        ]
    );
}

#[test]
fn a_plugin_without_secrets_has_an_example_too() {
    let made = examples(&pager(), &[]);
    assert_eq!(made.len(), 1);
    assert_eq!(Value::Object(made[0].config.clone()), json!({"url": "https://example.com/", "token": "abc"}));
}

#[test]
fn a_schema_without_an_end_is_no_trap() {
    let endless = json!({
        "type": "object",
        "properties": {"a": {"$ref": "#/properties/a"}, "b": {"allOf": [{"$ref": "#/properties/b"}, {"$ref": "#/properties/b"}]}, "c": {"$ref": "#"}},
        "required": ["a", "b", "c"]
    });
    rules(&endless, &fields(&["a", "b.x", "c.c.c"]));
    assert_eq!(examples(&endless, &fields(&["c.c.c"])).len(), 1);
}

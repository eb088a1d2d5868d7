//! docs/features/*.md are made from the plugins' own descriptions and schemas, and from the daemon's explanation of the
//! example templates. This test checks them. `BLESS=1 cargo nextest run --workspace --test it feature_docs::` writes
//! them again.

use std::fmt::Write as _;
use std::path::Path;

use crate::support::daemon::Guillemet;
use serde_json::Value;

#[test]
fn the_pages_of_the_features_are_those_of_the_plugins() {
    let mut guillemet = Guillemet::init();
    guillemet.write_examples();
    guillemet.run();
    let plugins = guillemet.get("/v1/plugins").json();
    let templates = guillemet.get("/v1/templates").json();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/features");
    let mut expected = vec![("README.md".to_owned(), index(&plugins))];
    for plugin in plugins["items"].as_array().unwrap() {
        let feature = text(&plugin["feature"]);
        let example = templates["items"].as_array().unwrap().iter().find(|template| template["feature"] == *feature);
        let page = page(&guillemet, plugin, example.expect("a template for each feature"));
        expected.push((format!("{feature}.md"), page));
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, page) in &expected {
            std::fs::write(folder.join(name), page).unwrap();
        }
    }
    let mut there: Vec<String> = std::fs::read_dir(&folder)
        .expect("docs/features")
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    let mut names: Vec<String> = expected.iter().map(|(name, _)| name.clone()).collect();
    names.sort();
    assert_eq!(there, names, "BLESS=1 writes them; a page without a feature has to go");
    for (name, page) in expected {
        let found = std::fs::read_to_string(folder.join(&name)).unwrap();
        assert!(found == page, "docs/features/{name} is not what the plugin says; write it anew with BLESS=1:\n{page}");
    }
}

const MADE: &str =
    "<!-- Made from the plugin's own schema by tests/it/feature_docs.rs; change that, not this page. -->\n";

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn index(plugins: &Value) -> String {
    let mut page = format!("{MADE}# Features\n\n| feature | for | targets |\n|---|---|---|\n");
    for plugin in plugins["items"].as_array().unwrap() {
        let (feature, title) = (text(&plugin["feature"]), text(&plugin["title"]));
        let targets: Vec<String> =
            plugin["targets"].as_array().unwrap().iter().map(|target| format!("`{}`", text(&target["id"]))).collect();
        writeln!(page, "| [`{feature}`]({feature}.md) | {title} | {} |", targets.join(", ")).unwrap();
    }
    page
}

fn page(guillemet: &Guillemet, plugin: &Value, example: &Value) -> String {
    let (feature, schema) = (text(&plugin["feature"]), &plugin["schema"]);
    let mut page = format!("{MADE}# {} (`{feature}`)\n\n", text(&plugin["title"]));
    if let Some(description) = schema["description"].as_str() {
        writeln!(page, "{description}\n").unwrap();
    }
    let secrets: Vec<&str> = plugin["secret_fields"].as_array().unwrap().iter().map(text).collect();
    writeln!(
        page,
        "Its templates lie in `templates/{feature}/`. A secret may stand in {}. An editor completes the fields with the \
         schema that `guillemet plugin show {feature} --schema` prints.\n",
        secrets.iter().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ")
    )
    .unwrap();
    page.push_str("## Fields\n\n| field | | what it is |\n|---|---|---|\n");
    fields(&mut page, schema, "", &secrets);
    page.push_str("\n## Targets\n\n| `--target` | for | written as |\n|---|---|---|\n");
    let targets = plugin["targets"].as_array().unwrap();
    for (index, target) in targets.iter().enumerate() {
        let default = if index == 0 { " (default)" } else { "" };
        let media_type = text(&target["media_type"]).split(';').next().unwrap_or_default();
        let (id, title, file) = (text(&target["id"]), text(&target["title"]), text(&target["file_name"]));
        writeln!(page, "| `{id}`{default} | {title} | `{file}`, {media_type} |").unwrap();
    }
    for target in targets {
        let id = text(&target["id"]);
        for alias in target["aliases"].as_array().into_iter().flatten().map(text) {
            writeln!(page, "\n`{alias}` is the former name of `{id}`. It still works, with a warning.").unwrap();
        }
        if id == "dotenv" {
            let readers =
                "python-dotenv, Node's `--env-file`, systemd's `EnvironmentFile=` and a shell that sources it";
            writeln!(
                page,
                "\n`{id}` is read alike by {readers}; a value that they would not read alike is refused. `docker --env-file` \
                 and `kubectl --from-env-file` do not unquote: they take the quotes around a value as part of it. \
                 [How values are written](../plugins.md#readers-of-a-dotenv-file)."
            )
            .unwrap();
        }
    }
    let (id, format) = (text(&example["id"]), text(&example["format"]));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("templates/{id}.{format}"));
    let template = std::fs::read_to_string(file).unwrap();
    writeln!(page, "\n## Example\n\n`guillemet template new {feature}/NAME` writes a first template. This one, `templates/{id}.{format}`, shows more:\n").unwrap();
    writeln!(page, "```{format}\n{template}```\n").unwrap();
    page.push_str("What the targets make of it; `«name»` is where a secret will stand.\n");
    for target in targets {
        let target = text(&target["id"]);
        writeln!(page, "\n### `{target}`\n").unwrap();
        let explained = guillemet.get(&format!("/v1/templates/{id}/explain?target={target}"));
        if explained.status == 200 {
            let explained = explained.json();
            let document = text(&explained["document"]).trim_end();
            let language = match text(&explained["media_type"]).split(';').next().unwrap_or_default() {
                "application/json" => "json",
                "application/xml" | "text/xml" => "xml",
                _ => "text",
            };
            writeln!(page, "```{language}\n{document}\n```").unwrap();
            for warning in explained["warnings"].as_array().unwrap() {
                writeln!(page, "\nWarning: `{}` {}.", text(&warning["path"]), text(&warning["message"])).unwrap();
            }
        } else {
            page.push_str("Refused:\n\n");
            for error in explained.json()["errors"].as_array().unwrap() {
                writeln!(page, "- `{}`: {}", text(&error["path"]), text(&error["message"])).unwrap();
            }
        }
    }
    page
}

/// Writes a row for each member of an object, followed by the rows of the objects in it.
fn fields(page: &mut String, schema: &Value, above: &str, secrets: &[&str]) {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{above}{name}");
        let mut marks: Vec<&str> = Vec::new();
        if required.iter().any(|wanted| wanted == name) {
            marks.push("required");
        }
        if secrets.iter().any(|secret| *secret == path || secret.split_once(".*").is_some_and(|(root, _)| root == path))
        {
            marks.push("may hold secrets");
        }
        let mut what = text(&field["description"]).replace('|', "\\|");
        if let Some(kind) = kind(field) {
            let stop = if what.is_empty() || what.ends_with(['.', '?']) { "" } else { "." };
            what = format!("{what}{stop} {kind}.");
        }
        writeln!(page, "| `{path}` | {} | {} |", marks.join(", "), what.trim()).unwrap();
        fields(page, field, &format!("{path}."), secrets);
        for variant in field["oneOf"].as_array().into_iter().flatten() {
            let name = text(&variant["properties"]["type"]["const"]);
            writeln!(page, "| `{path}.type = \"{name}\"` | | {} |", text(&variant["description"])).unwrap();
            let mut variant = variant.clone();
            if let Some(members) = variant["properties"].as_object_mut() {
                members.remove("type");
            }
            fields(page, &variant, &format!("{path}."), secrets);
        }
    }
}

/// Returns the kind of a value in words, unless the description states it.
fn kind(field: &Value) -> Option<String> {
    let list =
        |values: &[Value]| values.iter().map(|value| format!("`{}`", plain(value))).collect::<Vec<_>>().join(", ");
    let mut said = Vec::new();
    if let Some(values) = field["enum"].as_array() {
        said.push(format!("One of {}", list(values)));
    } else if field["type"] == "integer" {
        said.push(match (&field["minimum"], &field["maximum"]) {
            (Value::Null, Value::Null) => "A number".into(),
            (least, Value::Null) => format!("A number from {least}"),
            (least, most) => format!("A number from {least} to {most}"),
        });
    } else if field["type"] == "boolean" {
        said.push("`true` or `false`".into());
    } else if field["type"] == "array" {
        said.push("A list".into());
    }
    if !field["default"].is_null() {
        said.push(format!("`{}` where it is left out", plain(&field["default"])));
    }
    if let Some(examples) = field["examples"].as_array() {
        said.push(format!("For example {}", list(examples)));
    }
    (!said.is_empty()).then(|| said.join("; "))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

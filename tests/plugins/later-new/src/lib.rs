//! A plugin for guillemet:feature@1.7.0 that uses what is new in it. Its config has one field: `{"token": "…"}`.

wit_bindgen::generate!({ path: "../later/wit", world: "feature" });

use exports::guillemet::feature::plugin::{Description, Document, Guest, Planned, Problem, Target};
use guillemet::feature::encode;

struct Plugin;

impl Guest for Plugin {
    fn describe() -> Description {
        let target = Target {
            id: "json".into(),
            title: "JSON".into(),
            media_type: "application/json".into(),
            file_name: "later.json".into(),
        };
        Description {
            feature: "later".into(),
            title: "Later".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            schema: r#"{"type":"object","properties":{"token":{"type":"string"}}}"#.into(),
            secret_fields: vec!["token".into()],
            targets: vec![target],
        }
    }

    fn plan(config: String, _target: String) -> Result<Planned, Vec<Problem>> {
        let slot = config.split('"').nth(3).unwrap_or_default();
        assert!(encode::has_secret(slot), "the token is a secret");
        Ok(Planned {
            document: Document::Json(format!("{{\"token\":\"{}\"}}", encode::quoted_printable(slot))),
            warnings: Vec::new(),
        })
    }
}

export!(Plugin);

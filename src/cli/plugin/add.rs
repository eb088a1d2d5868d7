//! `plugin add` and `plugin remove`.

use std::path::PathBuf;

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::super::client::{self, part};
use super::super::{Done, output, prompt};
use super::list::print;
use crate::home::Home;

#[derive(Args)]
pub struct Add {
    /// A component.
    file: PathBuf,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub struct Remove {
    /// The feature.
    feature: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Add {
    pub fn run(self, home: &Home) -> Done {
        let file = std::path::absolute(&self.file)?;
        let ask = |confirm: bool, digest: &Value| json!({"file": file, "confirm": confirm, "digest": digest});
        let plugin = client::json(home, Method::POST, "/v1/plugins", Some(&ask(false, &Value::Null)))?;
        print(&plugin, output::note);
        output::note("Adding it trusts its author with the secrets of its templates: it decides where they go.");
        let feature = output::text(&plugin["feature"]);
        let known = client::all(home, "/v1/plugins", "")?;
        let replaces = known["items"].as_array().into_iter().flatten().any(|known| known["feature"] == *feature);
        let question = if replaces {
            format!("Use it for `{feature}`, in place of the plugin that is there?")
        } else {
            format!("Add it for `{feature}`?")
        };
        prompt::confirm(&question, self.yes)?;
        client::json(home, Method::POST, "/v1/plugins", Some(&ask(true, &plugin["digest"])))?;
        output::note(&format!("added {feature}"));
        Ok(())
    }
}

impl Remove {
    pub fn run(self, home: &Home) -> Done {
        prompt::confirm(&format!("Remove the plugin of `{}`?", self.feature), self.yes)?;
        client::call(home, Method::DELETE, &format!("/v1/plugins/{}", part(&self.feature)), None)?.good(home)?;
        output::note(&format!("removed {}", self.feature));
        Ok(())
    }
}

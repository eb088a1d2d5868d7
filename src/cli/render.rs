//! `render`.

mod out;

use std::path::PathBuf;

use clap::Args;
use hyper::Method;

use self::out::Out;
use super::client::{self, part, template_path};
use super::{Done, output};
use crate::home::Home;

#[derive(Args)]
pub struct Render {
    /// FEATURE/NAME.
    id: String,
    /// The consumer's format. Default: the first the template names (`targets`), or its feature's default.
    #[arg(long)]
    target: Option<String>,
    /// Write to this file instead of to standard output: whole or not at all, and only when its bytes differ. Owner and
    /// permissions of a file that exists stay.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The file's permissions; a new file gets 0600 without this. Needed for a file that everyone can read.
    #[arg(long, value_name = "OCTAL", value_parser = mode, requires = "out")]
    mode: Option<u32>,
    /// Replace a file that does not come from this template and target.
    #[arg(long, requires = "out")]
    force: bool,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "octal permissions are needed, such as 0600".into())
}

impl Render {
    pub fn run(self, home: &Home) -> Done {
        let target = self.target.as_ref().map_or_else(String::new, |target| format!("?target={}", part(target)));
        // Also what a written file says of where it comes from: without a target the template's default.
        let source = format!("{}{target}", template_path(&self.id)?);
        let out = self.out.as_deref().map(|path| Out::open(path, self.mode, self.force, &source)).transpose()?;
        let answer = client::call(home, Method::GET, &format!("/v1/render/{source}"), None)?.good(home)?;
        match out {
            Some(out) => out.write(&answer.body),
            None => {
                output::bytes(&answer.body);
                Ok(())
            }
        }
    }
}

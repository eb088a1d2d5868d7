//! The `render` command: prints a config with its secrets, or writes it to a file.

mod out;

use std::path::PathBuf;

use clap::Args;

use self::out::{Out, RenderSource};
use super::client::{self, percent_encode, template_path};
use super::{Done, output};
use guillemet_base::home::Home;

#[derive(Args)]
pub struct RenderArgs {
    /// FEATURE/NAME.
    id: String,
    /// The consumer's format [default: the first of the template's `targets`, or the default of its feature].
    #[arg(long)]
    target: Option<String>,
    /// Write to this file instead of standard output: completely or not at all, and only if its content changes. An
    /// existing file keeps its owner and permissions.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The file's permissions [default for a new file: 0600]. Required if everyone can read the file.
    #[arg(long, value_name = "OCTAL", value_parser = mode, requires = "out")]
    mode: Option<u32>,
    /// Replace a file that was not written from this template and target.
    #[arg(long, requires = "out")]
    force: bool,
    /// Print control characters to a terminal as they are, not as escapes.
    #[arg(long, conflicts_with = "out")]
    raw: bool,
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    mode.ok_or_else(|| "must be octal permissions, such as 0600".into())
}

impl RenderArgs {
    pub fn run(self, home: &Home) -> Done {
        let source =
            RenderSource { template: template_path(&self.id)?, target: self.target.as_deref().map(percent_encode) };
        let requested = source.to_string();
        let out = self.out.as_deref().map(|path| Out::open(path, self.mode, self.force, source)).transpose()?;
        let copy = out.as_ref().and_then(Out::other_target);
        let response = client::render(home, &requested, copy)?;
        if let Some(out) = out.as_ref().filter(|out| out.other_target().is_some())
            && response.status == 409
            && response.error().is_some_and(|error| error.code == "conflict")
        {
            return Err(out.of_other_target());
        }
        let response = client::error_for_status(home, response)?;
        if let Some(warning) = &response.warning {
            output::note(&format!("warning: {warning}"));
        }
        match out {
            Some(out) => out.write(&response.body, response.target),
            None => {
                output::document(&response.body, self.raw);
                Ok(())
            }
        }
    }
}

//! The `console` command: prints a link that opens the console in a browser.

use clap::Args;
use hyper::Method;

use super::{Done, client, output};
use guillemet_base::home::Home;

#[derive(Args)]
pub struct Console {}

impl Console {
    pub fn run(self, home: &Home) -> Done {
        let link = client::json(home, Method::POST, "/v1/console", None)?;
        output::line(&output::text(&link["url"]));
        output::note(&format!(
            "Open this link in a browser on this machine within {} s. It works once.",
            output::text(&link["expires_in"])
        ));
        Ok(())
    }
}

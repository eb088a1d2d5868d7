//! The `console` command: prints a link that opens the console in a browser.

use clap::Args;
use hyper::Method;

use super::{Done, client, output};
use guillemet_api::console::ConsoleLink;
use guillemet_base::home::Home;

#[derive(Args)]
pub struct ConsoleArgs {}

impl ConsoleArgs {
    pub fn run(self, home: &Home) -> Done {
        let link: ConsoleLink = client::fetch(home, Method::POST, "/v1/console")?.read()?;
        output::line(&link.url);
        output::note(&format!(
            "Open this link in a browser on this machine within {} s. It works once.",
            link.expires_in
        ));
        Ok(())
    }
}

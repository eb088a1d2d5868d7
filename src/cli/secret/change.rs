//! `secret edit`, `rotate`, `rollback`, `enable`, `disable` and `reveal`: the commands that change a secret, and the
//! one that shows its value.
//!
//! `edit`, `rotate` and `rollback` change exactly the state that was shown: its entity tag is sent along, and the
//! daemon refuses the change if somebody else has changed the secret meanwhile.

use clap::Args;
use hyper::Method;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{last_use, path, place};
use crate::cli::{Done, Failure, client, output, prompt};
use guillemet_api::error::ErrorEntry;
use guillemet_api::secrets::{
    ChangedSecret, ReferenceView, ResolveSecrets, ResolvedValues, RollBackSecret, SecretDetail, UpdateSecret,
};
use guillemet_base::home::Home;

#[derive(Args)]
#[command(after_help = prompt::VALUES)]
pub struct SecretEditArgs {
    /// The secret.
    name: String,
    /// The new name. References by the old name continue to work.
    #[arg(long, value_name = "NEW")]
    rename: Option<String>,
    /// Write the current name into all templates that use a former one, or into none if one fails.
    #[arg(long)]
    rewrite: bool,
    #[command(flatten)]
    value: prompt::ValueFrom,
}

#[derive(Args)]
#[command(after_help = prompt::VALUES)]
pub struct SecretRotateArgs {
    /// The secret.
    name: String,
    #[command(flatten)]
    value: prompt::ValueFrom,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

#[derive(Args)]
pub struct SecretRollbackArgs {
    /// The secret.
    name: String,
    /// The version [default: the one before the current version].
    #[arg(long, value_name = "N")]
    to: Option<u32>,
    /// Do not ask for confirmation.
    #[arg(long)]
    yes: bool,
}

/// A secret as it was shown, with the entity tag of that state.
pub struct Shown {
    detail: SecretDetail,
}

/// Gets the secret with this name or former name, and notes if it has another name now.
///
/// # Errors
/// When no such secret exists. If templates reference the name all the same, the message lists the places.
pub fn show(home: &Home, name: &str) -> Result<Shown, Failure> {
    let response = client::fetch(home, Method::GET, &path(name))?;
    let shown = Shown { detail: SecretDetail { etag: response.etag.clone(), ..response.read()? } };
    if shown.detail.secret.id.is_none() {
        let mut text = format!(
            "there is no secret `{name}` yet, but templates reference it; run `guillemet secret add {name}` to create \
             it"
        );
        let templates = client::templates(home);
        for reference in &shown.detail.references {
            let entry = ErrorEntry::of_reference(reference.clone(), "referenced here");
            text.push_str(&client::entry_text(templates.as_deref(), &entry));
        }
        return Err(Failure::new(text));
    }
    if !shown.name().eq_ignore_ascii_case(name) {
        output::note(&format!("`{name}` is now called {}", shown.name()));
    }
    Ok(shown)
}

impl Shown {
    /// Returns the present name, which can differ from the name it was found by.
    pub fn name(&self) -> &str {
        &self.detail.secret.name
    }

    /// Returns the time of the last use, as far as the daemon knows; `None` if there was none.
    pub fn last_use(&self) -> Option<&str> {
        self.detail.secret.last_used_at.as_deref()
    }

    /// Prints when and where the secret was last used.
    pub fn print_last_use(&self) {
        output::note(&last_use::sentence(&self.detail));
    }

    /// Prints the references to the secret, and its last use.
    fn print_uses(&self) {
        match self.detail.references.as_slice() {
            [] => output::note("No active references yet"),
            references => {
                output::note(&format!("{} is used by", self.name()));
                for reference in references {
                    output::note(&format!("  {}", place(reference)));
                }
            }
        }
        self.print_last_use();
    }

    /// Returns the entity tag of the state that was shown.
    pub fn etag(&self) -> Option<&str> {
        self.detail.etag.as_deref()
    }

    /// Sends a change that applies only if the secret is still as it was shown.
    fn change(&self, home: &Home, method: Method, path: &str, body: &impl Serialize) -> Result<ChangedSecret, Failure> {
        let response =
            client::error_for_status(home, client::send(home, method, path, self.detail.etag.as_deref(), body)?)?;
        Ok(ChangedSecret { etag: response.etag.clone(), ..response.read()? })
    }
}

impl SecretEditArgs {
    pub fn run(self, home: &Home) -> Done {
        let before = show(home, &self.name)?;
        let only_names = (self.rename.is_some() || self.rewrite) && !self.value.is_given();
        let value = if only_names { None } else { prompt::new_value(before.name(), &self.value)? };
        let body = UpdateSecret {
            name: self.rename.as_deref(),
            value: value.as_ref().map(|value| value.as_str()),
            rewrite: self.rewrite,
            ..UpdateSecret::default()
        };
        let after = before.change(home, Method::PATCH, &path(before.name()), &body)?;
        let name = &after.secret.name;
        if before.name() != name {
            output::note(&format!("{} is now called {name}", before.name()));
        }
        if before.detail.secret.version != after.secret.version {
            output::note(&format!("{name} has a new value: version {}", output::or_dash(after.secret.version)));
        }
        for template in &after.rewritten {
            output::note(&format!("rewrote {template}"));
        }
        if before.detail.etag == after.etag && after.rewritten.is_empty() {
            output::note("nothing was changed");
        }
        print_former_uses(&show(home, name)?);
        Ok(())
    }
}

/// Prints which templates still use a former name.
fn print_former_uses(secret: &Shown) {
    let name = secret.name();
    let spelled = |reference: &ReferenceView| output::or_dash(reference.name.as_ref());
    let is_former = |reference: &&ReferenceView| !spelled(reference).eq_ignore_ascii_case(name);
    let former: Vec<&ReferenceView> = secret.detail.references.iter().filter(is_former).collect();
    if former.is_empty() {
        return;
    }
    output::note("these references use a former name, which continues to work:");
    for reference in former {
        output::note(&format!("  {} ({})", place(reference), spelled(reference)));
    }
    output::note(&format!("run `guillemet secret edit {name} --rewrite` to write the current name into them"));
}

impl SecretRotateArgs {
    pub fn run(self, home: &Home) -> Done {
        let before = show(home, &self.name)?;
        let name = before.name();
        before.print_uses();
        // The value is asked for before the confirmation, whose answer is shown: a value that is pasted too early stays
        // hidden.
        let value = prompt::value(name, &self.value)?;
        if value.is_empty() {
            return Err(Failure::new("a value cannot be empty; nothing was changed"));
        }
        prompt::confirm(&format!("Replace the value of {name}?"), self.yes)?;
        let body = UpdateSecret { value: Some(&value), ..UpdateSecret::default() };
        let after = before.change(home, Method::PATCH, &path(name), &body)?;
        output::note(&format!("rotated {name}: version {}", output::or_dash(after.secret.version)));
        Ok(())
    }
}

impl SecretRollbackArgs {
    pub fn run(self, home: &Home) -> Done {
        let before = show(home, &self.name)?;
        let name = before.name();
        let previous = before.detail.versions.get(1).map(|previous| previous.version);
        let Some(version) = self.to.or(previous) else {
            return Err(Failure::new(format!("{name} has no former version; nothing was changed")));
        };
        before.print_uses();
        prompt::confirm(&format!("Restore the value of version {version} of {name}?"), self.yes)?;
        let path = format!("{}/rollback", path(name));
        let after = before.change(home, Method::POST, &path, &RollBackSecret { version })?;
        output::note(&format!(
            "{name} has the value of version {version} again, as version {}",
            output::or_dash(after.secret.version)
        ));
        Ok(())
    }
}

pub fn enable(home: &Home, name: &str, enabled: bool) -> Done {
    let shown = show(home, name)?;
    let name = shown.name();
    let body = UpdateSecret { enabled: Some(enabled), ..UpdateSecret::default() };
    let ChangedSecret { secret, .. } = client::patch(home, &path(name), &body)?;
    output::note(&format!("{} is {}", secret.name, secret.status.name()));
    let uses = secret.usage_count;
    if !enabled && uses > 0 {
        let references = if uses == 1 { "1 reference is".into() } else { format!("{uses} references are") };
        output::note(&format!("{references} refused from now on; run `guillemet secret show {name}` to list them"));
    }
    Ok(())
}

#[derive(Args)]
pub struct SecretRevealArgs {
    /// The secret.
    name: String,
    /// Print control characters to a terminal as they are, not as escapes.
    #[arg(long)]
    raw: bool,
}

pub fn reveal(home: &Home, SecretRevealArgs { name, raw }: &SecretRevealArgs) -> Done {
    let body = ResolveSecrets { secrets: &[name.as_str()], reveal: true };
    let mut values: ResolvedValues = client::post(home, "/v1/resolve", &body)?;
    let Some(value) = values.secrets.remove(name) else {
        return Err(Failure::new("the daemon sent no value; check that it has the same version as this command"));
    };
    let mut value = Zeroizing::new(value);
    // `--from-file` drops this line break again.
    value.push('\n');
    output::document(value.as_bytes(), *raw);
    Ok(())
}

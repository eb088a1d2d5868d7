//! Carries out a proposal: stores the secrets, writes the template, and replaces the file if the user wants that.
//!
//! Invariant: no value is lost. The file is replaced last, after the daemon has rendered exactly the bytes that were
//! compared. A failure before that undoes what this run has made, and says so.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

use hyper::Method;
use zeroize::Zeroizing;

use super::AdoptProposal;
use super::source::Problems;
use super::tokens::Spot;
use crate::cli::client::{percent_encode, template_path};
use crate::cli::secret::wait_for;
use crate::cli::{Done, Failure, client, output};
use guillemet_api::secrets::{CreateSecret, ResolveSecrets, ResolvedValues};
use guillemet_base::files::{self, Destination, Fingerprint};
use guillemet_base::home::Home;
use guillemet_base::names::SecretName;
use guillemet_template::catalog::files_of;

fn template_file(home: &Home, feature: &str, name: &str, extension: &str) -> PathBuf {
    // The extension is appended, not set with `with_extension`, because a name may contain dots.
    home.templates().join(feature).join(format!("{name}.{extension}"))
}

/// Checks that no template has this id.
///
/// # Errors
/// When a template with this id exists, in any format.
pub fn check_free(home: &Home, feature: &str, name: &str) -> Result<(), Failure> {
    match files_of(&home.templates(), &format!("{feature}/{name}")).into_iter().next() {
        None => Ok(()),
        Some(path) => Err(Failure::new(format!(
            "there is already a template {feature}/{name} ({}); choose another --name. Nothing was changed",
            path.display()
        ))),
    }
}

/// Returns the file's text with marks in place of the values.
///
/// # Errors
/// When a value cannot be replaced in the text, or is in the text a second time.
pub fn rewritten(proposal: &AdoptProposal) -> Result<Zeroizing<String>, Failure> {
    let source = &proposal.source;
    let mut problems = Problems::new(source);
    let mut marks: Vec<(Spot, String)> = Vec::new();
    for finding in proposal.findings.values().flatten() {
        match &finding.spot {
            Some(spot) => marks.push((spot.clone(), format!("«{}»", finding.name))),
            None => {
                problems.add(None, &finding.field, "is written in the file in a form that cannot be replaced", None)
            }
        }
    }
    let text = proposal.reading.tokens.rewrite(&source.text, &marks);
    for finding in proposal.findings.values().flatten().filter(|finding| finding.value.len() >= 4) {
        if let Some(at) = text.find(finding.value.as_str()) {
            let line = text[..at].matches('\n').count() + 1;
            let message = format!("appears in the file a second time, outside of {}: line {line}", finding.field);
            problems.add(None, &finding.field, message, None);
        }
    }
    let summary = format!("the values cannot be removed from {}", source.label);
    problems.check(&summary).map_err(|Failure(text)| {
        Failure::new(format!("{text}\nrun again without --replace, and remove the values by hand afterwards"))
    })?;
    check_replaceable(proposal)?;
    Ok(text)
}

/// Checks that the file can be replaced as a whole, and that it has no other name.
fn check_replaceable(proposal: &AdoptProposal) -> Result<(), Failure> {
    let Some((path, _)) = &proposal.source.file else { return Ok(()) };
    let irreplaceable =
        |reason: String| Failure::new(format!("{} {reason}; nothing was changed", proposal.source.label));
    let checked = Destination::open(path).and_then(|destination| {
        let existing = destination.expect()?;
        let has_one_name = existing.metadata().nlink() == 1;
        if has_one_name {
            destination.check_creation(&existing.attributes()?)?;
        }
        Ok(has_one_name)
    });
    match checked {
        Ok(true) => Ok(()),
        Ok(false) => Err(irreplaceable("has other names (hard links), where the values would remain".into())),
        Err(error) => Err(irreplaceable(format!("cannot be replaced: {error}"))),
    }
}

/// Stores the secrets, writes the template, and puts the marks into the file.
///
/// # Errors
/// When a step fails. The message says what failed and what remains.
pub fn store(home: &Home, proposal: &AdoptProposal, rewritten: Option<Zeroizing<String>>) -> Done {
    check_reused(home, proposal)?;
    let mut created = CreatedItems { home, secrets: Vec::new(), template: None };
    for (name, value, exists) in proposal.secrets() {
        if !exists {
            created.secret(name, value)?;
        }
    }
    created.template(proposal)?;
    if rewritten.is_some() {
        created.compare(proposal)?;
    }
    for (name, ..) in &created.secrets {
        output::note(&format!("created {name}"));
    }
    let path = template_file(home, &proposal.feature, &proposal.name, proposal.format.extension());
    output::note(&format!("wrote {}", path.display()));
    if let (Some(text), Some((path, fingerprint))) = (&rewritten, &proposal.source.file) {
        let mark = "\u{feff}".repeat(usize::from(proposal.source.mark > 0));
        let text = Zeroizing::new(format!("{mark}{}", **text));
        if let Err(error) = replace(path, fingerprint, text.as_bytes()) {
            return Err(Failure::new(format!(
                "{} still contains the values: {error}. The template and the secrets were created; remove the values \
                 by hand",
                proposal.source.label
            )));
        }
        output::note(&format!("removed the values from {}", proposal.source.label));
    }
    let target = proposal.target;
    output::note(&format!(
        "run `guillemet render {} --target {target}` to print the config with its values",
        proposal.id()
    ));
    if rewritten.is_none() && proposal.source.file.is_some() {
        output::note(&format!(
            "{} still contains the values; delete it when nothing reads it any more",
            proposal.source.label
        ));
    }
    Ok(())
}

/// Checks that each existing secret that the template uses has the value from the file.
fn check_reused(home: &Home, proposal: &AdoptProposal) -> Result<(), Failure> {
    let reused: Vec<_> = proposal.secrets().into_iter().filter(|(.., exists)| *exists).collect();
    if reused.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = reused.iter().map(|(name, ..)| name.as_str()).collect();
    let body = ResolveSecrets { secrets: &names, reveal: false };
    let values: ResolvedValues = client::post(home, "/v1/resolve", &body)?;
    let differs = |(name, value, _): &&(&SecretName, &Zeroizing<String>, bool)| {
        let mut stored = values.secrets.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_str()));
        !stored.any(|(_, stored_value)| stored_value == value.as_str())
    };
    let others: Vec<String> = reused.iter().filter(differs).map(|(name, ..)| format!("`{name}`")).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{} already exists with a different value; choose another name, or rotate the secret first. Nothing was \
         changed",
        others.join(", ")
    )))
}

/// The things that this run has made, for undoing them.
struct CreatedItems<'a> {
    home: &'a Home,
    /// Names of secrets, each with the entity tag of its new state.
    secrets: Vec<(SecretName, Option<String>)>,
    template: Option<PathBuf>,
}

impl CreatedItems<'_> {
    fn secret(&mut self, name: &SecretName, value: &str) -> Result<(), Failure> {
        let body = CreateSecret { name: name.as_str(), value, enabled: true };
        let created = client::send(self.home, Method::POST, "/v1/secrets", None, &body)
            .and_then(|response| client::error_for_status(self.home, response))
            .map_err(|error| self.undo(&format!("`{name}` cannot be created: {}", error.0)))?;
        self.secrets.push((name.clone(), created.etag));
        Ok(())
    }

    fn template(&mut self, proposal: &AdoptProposal) -> Result<(), Failure> {
        let path = template_file(self.home, &proposal.feature, &proposal.name, proposal.format.extension());
        let dir = path.parent().unwrap_or(Path::new("/"));
        let written =
            check_free(self.home, &proposal.feature, &proposal.name).map_err(|Failure(text)| text).and_then(|()| {
                let result = DirBuilder::new().recursive(true).mode(0o700).create(dir);
                result
                    .and_then(|()| files::write_new(&path, proposal.template.as_bytes()))
                    .map_err(|error| error.to_string())
            });
        written.map_err(|error| self.undo(&format!("{} cannot be written: {error}", path.display())))?;
        self.template = Some(path);
        Ok(())
    }

    /// Checks that the daemon renders the config that was compared. After this the file is no longer needed.
    fn compare(&mut self, proposal: &AdoptProposal) -> Result<(), Failure> {
        let path = format!("/v1/render/{}?target={}", template_path(&proposal.id())?, percent_encode(proposal.target));
        let reason = match client::fetch(self.home, Method::GET, &path) {
            Ok(response) if *response.body == **proposal.rendered => return Ok(()),
            Ok(_) => "the daemon renders a different config than the one compared".to_owned(),
            Err(error) => error.0,
        };
        Err(self.undo(&reason))
    }

    /// Undoes everything that was made, and returns the failure. The file has not been changed yet.
    fn undo(&mut self, reason: &str) -> Failure {
        let mut remaining = Vec::new();
        if let Some(path) = self.template.take()
            && let Err(error) = fs::remove_file(&path)
        {
            remaining.push(format!("{} ({error})", path.display()));
        }
        for (name, etag) in std::mem::take(&mut self.secrets).into_iter().rev() {
            if let Err(error) = self.delete(&name, etag.as_deref()) {
                remaining.push(format!("the secret {name} ({})", error.0.lines().next().unwrap_or_default()));
            }
        }
        Failure::new(match remaining.as_slice() {
            [] => format!("{reason}\neverything was undone; nothing was changed"),
            remaining => format!("{reason}\neverything was undone, except {}", remaining.join(", ")),
        })
    }

    fn delete(&self, name: &SecretName, etag: Option<&str>) -> Result<(), Failure> {
        let path = format!("/v1/secrets/{}", percent_encode(name.as_str()));
        loop {
            let response = client::delete(self.home, &path, etag)?;
            // To the daemon, the template that was just removed may come back.
            match response.error().as_ref().and_then(wait_for) {
                Some(wait) if response.status == 409 => std::thread::sleep(wait),
                _ => return client::error_for_status(self.home, response).map(|_| ()),
            }
        }
    }
}

/// Replaces a file that has not changed since it was read: as a whole, with the same owner, permissions and attributes.
fn replace(path: &Path, fingerprint: &Fingerprint, bytes: &[u8]) -> io::Result<()> {
    let destination = Destination::open(path)?;
    let existing = destination.expect()?;
    if Fingerprint::from_metadata(existing.metadata()) != *fingerprint {
        return Err(io::Error::other("it has changed since it was read"));
    }
    destination.put(bytes, &existing.attributes()?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_with_its_permissions_unless_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "plain").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let fingerprint = Fingerprint::from_metadata(&fs::metadata(&path).unwrap());
        replace(&path, &fingerprint, b"marked").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"marked");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert!(replace(&path, &fingerprint, b"again").is_err(), "it is another file by now");
        assert_eq!(fs::read(&path).unwrap(), b"marked");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }
}

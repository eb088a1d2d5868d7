//! The server's certificate: two files that are read again when they change, or one that the server makes itself, which
//! devices know by its hash (the pin).
//!
//! Knows no HTTP.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::MissedTickBehavior;

use guillemet_base::files::{self, Fingerprint, Links};
use guillemet_http::shutdown::Shutdown;
use guillemet_wire::Hash;

/// The interval at which the files are checked for changes.
const LOOK: Duration = Duration::from_secs(1);

/// The most checks between two attempts to read files that could not be read and have not changed.
const PATIENCE_MAX: u32 = 60;

/// The largest file with certificates, in bytes.
const PEM_MAX: u64 = 1 << 20;

/// The reasons why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {source}. Check that it exists and is readable")]
    File {
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A file does not contain what it should.
    #[error("{path} contains no {what} in PEM; pass the file from your certificate authority")]
    Pem {
        /// The path of the file.
        path: PathBuf,
        /// The kind of object that the file should contain.
        what: &'static str,
    },
    /// Certificate and key do not fit together, or the key is not supported.
    #[error("the certificate {path} cannot be used: {problem}. Check that the key belongs to it")]
    Unfit {
        /// The path of the certificate.
        path: PathBuf,
        /// The error of rustls.
        problem: rustls::Error,
    },
    /// The server's own certificate cannot be made.
    #[error("cannot create a certificate: {0}. Pass one with --cert and --key")]
    Unmade(#[from] rcgen::Error),
    /// TLS itself cannot be set up.
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate that connections use, and the files it comes from.
#[derive(Debug)]
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    /// The last attempt to read the files.
    attempt: Mutex<Attempt>,
    current: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

/// An attempt to read the files.
#[derive(Debug)]
struct Attempt {
    /// The fingerprints of the files, taken before they were read.
    files: Fingerprints,
    /// The reason why the attempt failed; `None` if it succeeded.
    failure: Option<ReloadFailure>,
}

/// The reason why the files are not in use, and when they are read again. The cause may go away without changing the
/// files: a folder above that was not accessible, too few descriptors, a disk that did not answer.
#[derive(Debug)]
struct ReloadFailure {
    message: String,
    /// The number of checks to wait before the next attempt; it doubles with each attempt.
    delay: u32,
    /// The number of checks since the last attempt.
    checks: u32,
}

/// The fingerprints of certificate and key; `None` for a file that does not exist.
type Fingerprints = [Option<Fingerprint>; 2];

fn fingerprints(certificate: &Path, key: &Path) -> Fingerprints {
    [certificate, key].map(|path| Fingerprint::of(path).ok())
}

impl Certificate {
    /// Reads the certificate from files in PEM: the chain, with the server's own certificate first, and its key.
    ///
    /// # Errors
    /// [`TlsError`] if they cannot be read, or do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let attempt = Mutex::new(Attempt { files: fingerprints(certificate, key), failure: None });
        let current = ArcSwap::from_pointee(load(certificate, key)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), attempt, current })
    }

    /// Reads the certificate in a folder, and makes it for these names (hosts or addresses) if there is none.
    ///
    /// # Errors
    /// [`TlsError`] if it can neither be read nor made.
    pub fn self_signed(folder: &Path, names: Vec<String>) -> Result<Self, TlsError> {
        let [certificate, key] = self_signed_files(folder);
        if !certificate.exists() {
            let generated = rcgen::generate_simple_self_signed(names)?;
            let write = |path: &Path, text: String| {
                let failed = |source| TlsError::File { path: path.to_owned(), source };
                files::replace(path, text.as_bytes()).map_err(failed)
            };
            // The certificate is written last, so if it exists, its key does too.
            write(&key, generated.signing_key.serialize_pem())?;
            write(&certificate, generated.cert.pem())?;
        }
        Self::read(&certificate, &key)
    }

    /// Returns the SHA-256 of the certificate, which codes contain as the pin.
    pub fn pin(&self) -> Hash {
        let current = self.current.load();
        Hash::of(&[current.cert.first().map_or(&[][..], |leaf| leaf.as_ref())])
    }

    /// Reads the files again whenever they change, until told to stop. If they cannot be read or do not belong
    /// together, logs it once, tries again later, and keeps the former certificate: files are often replaced one after
    /// the other, and made readable for the server's user last.
    pub async fn follow(self: Arc<Self>, mut stop: Shutdown) {
        let mut interval = tokio::time::interval(LOOK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.requested() => return,
                _ = interval.tick() => {}
            }
            // The files may be on a disk that does not answer.
            let certificate = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || certificate.reload()).await;
        }
    }

    fn reload(&self) {
        let mut attempt = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the files are read, so a change in between shows at the next check.
        let files = fingerprints(&self.certificate, &self.key);
        let has_changed = files != attempt.files;
        let previous_delay = match &mut attempt.failure {
            _ if has_changed => None,
            None => return,
            Some(failure) => {
                failure.checks += 1;
                if failure.checks < failure.delay {
                    return;
                }
                Some(failure.delay)
            }
        };
        attempt.files = files;
        match load(&self.certificate, &self.key) {
            Ok(loaded) => {
                attempt.failure = None;
                self.current.store(Arc::new(loaded));
                tracing::info!(pin = %self.pin(), "the certificate was reloaded");
            }
            Err(error) => {
                let message = error.to_string();
                if attempt.failure.as_ref().is_none_or(|previous| previous.message != message) {
                    tracing::warn!(%error, "the previous certificate stays in use; Guillemet tries the files again");
                }
                let delay = previous_delay.map_or(1, |delay| (delay * 2).min(PATIENCE_MAX));
                attempt.failure = Some(ReloadFailure { message, delay, checks: 0 });
            }
        }
    }

    /// Returns the TLS configuration for connections.
    ///
    /// # Errors
    /// [`TlsError::Tls`] if no version of TLS is available.
    pub fn config(self: &Arc<Self>) -> Result<Arc<rustls::ServerConfig>, TlsError> {
        let resolver = Arc::clone(self);
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Returns the pin of the certificate that a server has made in this folder; `None` if it has made none.
///
/// # Errors
/// [`TlsError`] if the certificate cannot be read.
pub fn self_signed_pin(folder: &Path) -> Result<Option<Hash>, TlsError> {
    let [path, _] = self_signed_files(folder);
    if !path.exists() {
        return Ok(None);
    }
    Ok(chain(&path)?.first().map(|leaf| Hash::of(&[leaf.as_ref()])))
}

/// Returns the paths of the certificate that a server makes in its folder, and of its key.
pub fn self_signed_files(folder: &Path) -> [PathBuf; 2] {
    ["account.crt", "account.key"].map(|name| folder.join(name))
}

fn load(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = chain(certificate)?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| TlsError::Pem { path: key.to_owned(), what: "private key" })?;
    CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|problem| TlsError::Unfit { path: certificate.to_owned(), problem })
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let missing = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let read = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&read).collect::<Result<Vec<_>, _>>().map_err(|_| missing())?;
    if chain.is_empty() { Err(missing()) } else { Ok(chain) }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = files::read_regular(path, Links::Follow, PEM_MAX);
    read.map(|(bytes, _)| bytes).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(self_signed_pin(dir.path()).unwrap(), None);
        let names = || vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let pin = Certificate::self_signed(dir.path(), names()).unwrap().pin();
        assert_eq!(Certificate::self_signed(dir.path(), names()).unwrap().pin(), pin);
        assert_eq!(self_signed_pin(dir.path()).unwrap(), Some(pin));
        let mode = fs::metadata(dir.path().join("account.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &other] {
            Certificate::self_signed(dir.path(), vec!["localhost".to_owned()]).unwrap();
        }
        let mixed = Certificate::read(&one.path().join("account.crt"), &other.path().join("account.key"));
        assert!(matches!(mixed, Err(TlsError::Unfit { .. })));
        let swapped = Certificate::read(&one.path().join("account.key"), &one.path().join("account.crt"));
        assert!(matches!(swapped, Err(TlsError::Pem { .. })));
    }
}

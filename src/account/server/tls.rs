//! The server's certificate: two files that are read again when they change, or one it makes itself, which
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
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::stopped;
use crate::account::wire::Hash;
use crate::files::{self, Fingerprint, Links};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The most looks between two attempts to read files that could not be read and look as they did.
const PATIENCE_MAX: u32 = 60;

/// The largest file of certificates, in bytes.
const PEM_MAX: u64 = 1 << 20;

/// What is wrong with a certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{path}: {source}. Check that it is there and may be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in a file.
    #[error("{path} holds no {what} in PEM; pass the file your certificate authority gave you")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Certificate and key.
    #[error("the certificate {path} cannot be used: {problem}. Check that the key belongs to it")]
    Unfit {
        /// Which.
        path: PathBuf,
        /// Why.
        problem: rustls::Error,
    },
    /// A certificate of one's own.
    #[error("a certificate cannot be made: {0}. Pass one with --cert and --key")]
    Unmade(#[from] rcgen::Error),
    /// TLS itself.
    #[error("TLS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// The certificate in force.
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
    /// How they looked before.
    files: Fingerprints,
    /// What was wrong.
    failure: Option<Failure>,
}

/// Why files are not in force, and when they are read again. What is wrong may pass without a trace on them: a folder
/// above that was closed, too few descriptors, a disk that did not answer.
#[derive(Debug)]
struct Failure {
    message: String,
    /// How many looks are waited for; twice as many each time.
    patience: u32,
    /// How many there were since.
    looks: u32,
}

/// How certificate and key look; nothing of what is not there.
type Fingerprints = [Option<Fingerprint>; 2];

fn fingerprints(certificate: &Path, key: &Path) -> Fingerprints {
    [certificate, key].map(|path| Fingerprint::of(path).ok())
}

impl Certificate {
    /// From files in PEM: the chain, the server's own first, and its key.
    ///
    /// # Errors
    /// When they cannot be read, or do not fit each other.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let attempt = Mutex::new(Attempt { files: fingerprints(certificate, key), failure: None });
        let current = ArcSwap::from_pointee(load(certificate, key)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), attempt, current })
    }

    /// The one in a folder; made for these names (hosts or addresses) where there is none.
    ///
    /// # Errors
    /// When it can neither be read nor made.
    pub fn own(folder: &Path, names: Vec<String>) -> Result<Self, TlsError> {
        let [certificate, key] = own_files(folder);
        if !certificate.exists() {
            let made = rcgen::generate_simple_self_signed(names)?;
            let write = |path: &Path, text: String| {
                let failed = |source| TlsError::File { path: path.to_owned(), source };
                files::replace(path, text.as_bytes()).map_err(failed)
            };
            // The certificate last: with it there is a key.
            write(&key, made.signing_key.serialize_pem())?;
            write(&certificate, made.cert.pem())?;
        }
        Self::read(&certificate, &key)
    }

    /// The hash of the certificate: what a code pins.
    pub fn pin(&self) -> Hash {
        let current = self.current.load();
        Hash::of(&[current.cert.first().map_or(&[][..], |leaf| leaf.as_ref())])
    }

    /// Reads the files again whenever they have changed, until told to stop. What cannot be read or does not fit is told
    /// once and tried again, and the former certificate stays: files are often replaced one after the other, and given
    /// to the server's user last.
    pub async fn follow(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stopped(&mut stop) => return,
                _ = look.tick() => {}
            }
            // The files may be on a disk that does not answer.
            let following = Arc::clone(&self);
            let _ = tokio::task::spawn_blocking(move || following.read_again()).await;
        }
    }

    fn read_again(&self) {
        let mut attempt = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        // Before they are read: what changes meanwhile looks different at the next look.
        let files = fingerprints(&self.certificate, &self.key);
        let has_changed = files != attempt.files;
        let former = match &mut attempt.failure {
            _ if has_changed => None,
            None => return,
            Some(failure) => {
                failure.looks += 1;
                if failure.looks < failure.patience {
                    return;
                }
                Some(failure.patience)
            }
        };
        attempt.files = files;
        match load(&self.certificate, &self.key) {
            Ok(loaded) => {
                attempt.failure = None;
                self.current.store(Arc::new(loaded));
                tracing::info!(pin = %self.pin(), "the certificate was read again");
            }
            Err(error) => {
                let message = error.to_string();
                if attempt.failure.as_ref().is_none_or(|known| known.message != message) {
                    tracing::warn!(%error, "the former certificate stays in force, and the files are tried again");
                }
                let patience = former.map_or(1, |patience| (patience * 2).min(PATIENCE_MAX));
                attempt.failure = Some(Failure { message, patience, looks: 0 });
            }
        }
    }

    /// How connections are begun with it.
    ///
    /// # Errors
    /// When there is no version of TLS.
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

/// The pin of the certificate that a folder's server has made itself; `None` where it has made none.
///
/// # Errors
/// When it cannot be read.
pub fn own_pin(folder: &Path) -> Result<Option<Hash>, TlsError> {
    let [path, _] = own_files(folder);
    if !path.exists() {
        return Ok(None);
    }
    Ok(chain(&path)?.first().map(|leaf| Hash::of(&[leaf.as_ref()])))
}

/// The certificate that a server makes itself in its folder, and its key.
pub fn own_files(folder: &Path) -> [PathBuf; 2] {
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
    let none = || TlsError::Pem { path: path.to_owned(), what: "certificate" };
    let read = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&read).collect::<Result<Vec<_>, _>>().map_err(|_| none())?;
    if chain.is_empty() { Err(none()) } else { Ok(chain) }
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
        assert_eq!(own_pin(dir.path()).unwrap(), None);
        let names = || vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let pin = Certificate::own(dir.path(), names()).unwrap().pin();
        assert_eq!(Certificate::own(dir.path(), names()).unwrap().pin(), pin);
        assert_eq!(own_pin(dir.path()).unwrap(), Some(pin));
        let mode = fs::metadata(dir.path().join("account.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for dir in [&one, &other] {
            Certificate::own(dir.path(), vec!["localhost".to_owned()]).unwrap();
        }
        let mixed = Certificate::read(&one.path().join("account.crt"), &other.path().join("account.key"));
        assert!(matches!(mixed, Err(TlsError::Unfit { .. })));
        let swapped = Certificate::read(&one.path().join("account.key"), &one.path().join("account.crt"));
        assert!(matches!(swapped, Err(TlsError::Pem { .. })));
    }
}

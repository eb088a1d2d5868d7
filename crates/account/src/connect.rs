//! Connections to a server over TLS, and the check of its certificate. The client of the account server uses it, and the
//! command line where it downloads a plugin.
//!
//! Knows no request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::Uri;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use subtle::ConstantTimeEq;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use guillemet_wire::Hash;

/// The time limit for a connection, its TLS handshake included.
const CONNECT: Duration = Duration::from_secs(10);

/// The reasons why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is not one of a server.
    #[error("{0} is not the address of a server; use https://HOST:PORT")]
    Address(String),
    /// The machine trusts no certificate authority, and there is no pin.
    #[error("this machine has no certificate authorities; install ca-certificates")]
    NoRoots,
    /// Nothing answers.
    #[error("{0}")]
    Unreachable(String),
    /// The server shows another certificate than expected.
    #[error("its certificate is not trusted: {0}")]
    Untrusted(String),
}

/// The address of a server, and the TLS settings by which it is authenticated.
pub struct ServerAddress {
    authority: String,
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

impl ServerAddress {
    /// Parses an address of the form `https://HOST[:PORT]`. With a pin, only the certificate with that SHA-256 is
    /// accepted.
    ///
    /// # Errors
    /// [`ConnectError::Address`] for any other address, [`ConnectError::NoRoots`] if nothing could
    /// authenticate the server.
    pub fn new(url: &str, pin: Option<Hash>) -> Result<Self, ConnectError> {
        let invalid = || ConnectError::Address(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(invalid)?;
        if uri.scheme_str() != Some("https") || uri.path() != "/" || uri.query().is_some() {
            return Err(invalid());
        }
        // An IPv6 address is in brackets.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| invalid())?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| ConnectError::Untrusted(error.to_string()))?;
        let mut config = match pin {
            Some(pin) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(PinnedVerifier::new(pin, &provider)))
                .with_no_client_auth(),
            None => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(ConnectError::NoRoots);
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let port = authority.port_u16().unwrap_or(443);
        Ok(Self { authority: authority.to_string(), host, port, name, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Returns the host, and the port if the address has one.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Opens a new connection.
    ///
    /// # Errors
    /// [`ConnectError::Untrusted`] for a certificate that is not accepted, [`ConnectError::Unreachable`]
    /// otherwise.
    pub async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ConnectError> {
        let timed_out = || ConnectError::Unreachable(format!("no connection within {CONNECT:?}"));
        tokio::time::timeout(CONNECT, self.connect_now()).await.map_err(|_| timed_out())?
    }

    async fn connect_now(&self) -> Result<SendRequest<Full<Bytes>>, ConnectError> {
        let unreachable = |error: std::io::Error| ConnectError::Unreachable(error.to_string());
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let stream = self.tls.connect(self.name.clone(), stream).await.map_err(|error| {
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(error @ rustls::Error::InvalidCertificate(_)) => ConnectError::Untrusted(error.to_string()),
                _ => unreachable(error),
            }
        })?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| ConnectError::Unreachable(with_cause(&error)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a server ended");
            }
        });
        Ok(sender)
    }
}

/// Returns an error of hyper with its cause, which hyper reports separately.
pub fn with_cause(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

/// Trusts one certificate, whatever its names and dates are. The server's proof that it has the key is verified as
/// always.
#[derive(Debug)]
struct PinnedVerifier {
    pin: Hash,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedVerifier {
    fn new(pin: Hash, provider: &CryptoProvider) -> Self {
        Self { pin, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let presented = Hash::of(&[end_entity.as_ref()]);
        if bool::from(presented.0.ct_eq(&self.pin.0)) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_is_an_address() {
        let pin = Some(Hash([0; 32]));
        for url in ["https://a.example", "https://a.example:7443", "https://127.0.0.1:1/", "https://[::1]:7443"] {
            assert!(ServerAddress::new(url, pin).is_ok(), "{url}");
        }
        for url in ["http://a.example", "a.example", "https://a.example/path", "https://u@a.example", "https://", ""] {
            assert!(matches!(ServerAddress::new(url, pin), Err(ConnectError::Address(_))), "{url}");
        }
    }
}

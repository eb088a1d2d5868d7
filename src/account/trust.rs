//! The certificate authorities that this machine trusts.

use rustls::RootCertStore;

/// Returns all certificate authorities that this machine trusts; an empty store if it has none. Reads files, so it can
/// block for a moment.
pub fn roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

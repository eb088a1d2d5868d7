//! Which certificate authorities this machine trusts.

use rustls::RootCertStore;

/// All of them; an empty store where there are none. Reads files, and so may block for a moment.
pub fn roots() -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    store
}

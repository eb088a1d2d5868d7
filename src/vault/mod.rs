//! The vault: a SQLite file with one sealed box per secret, and the usage journal beside it.
//!
//! Knows nothing of templates, plugins or requests.

pub mod audit;
pub mod crypto;
pub mod event;
pub mod journal;
pub mod keys;
pub mod lock;
pub mod memory;
pub mod passphrase;
pub mod record;
pub mod store;
mod trail;
pub mod usage;

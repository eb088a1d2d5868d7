//! Helpers that several integration tests share.

pub mod account;
pub mod adopt;
pub mod authors;
pub mod browser;
pub mod chromium;
pub mod component;
pub mod consumers;
pub mod daemon;
pub mod dev;
pub mod disk;
pub mod listening;
pub mod passwords;
pub mod postgres;
pub mod recorder;
pub mod relay;
pub mod sip;
pub mod strace;
pub mod team;
pub mod terminal;
pub mod tier;
pub mod transcript;
pub mod users;
pub mod wasm;
pub mod web;

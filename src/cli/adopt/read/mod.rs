//! The readers. Each turns a file, in the form its consumers use, into the config of a feature (`config::Reading`), and
//! states the file's meaning for its consumer.
//!
//! A reader knows credentials only by the rules of its format, and changes nothing.

pub mod action;
mod asterisk;
pub mod cal_com;
mod curl;
mod document;
mod dotenv;
mod http;
pub mod livekit;
pub mod mcp;
mod openapi;
pub mod pjsip;
mod request;
mod shell;
pub mod url;

pub use self::http::header;

/// The reason a trunk's password counts as a credential, however it looks.
const PASSWORD: &str = "it is the password of a trunk";

#[cfg(test)]
mod tests;

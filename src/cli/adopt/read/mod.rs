//! The readers: each makes of a file, as its consumers have it, the config of a feature (`config::Reading`), and
//! says what the file means to its consumer.
//!
//! None of them knows what a credential is but by its format, and none changes anything.

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

/// Why a trunk's password counts as a credential, whatever it looks like.
const PASSWORD: &str = "it is the password of a trunk";

#[cfg(test)]
mod tests;

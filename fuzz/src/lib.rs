//! The invariants that hold for any bytes that reach the product, with one module for each kind of input.
//!
//! Shared by the fuzz targets, which look for bytes that break them, and by `tests/it/fuzz_corpus.rs`, which runs the
//! corpus with every test run. `holds` returns if the invariants hold and panics if one does not.

pub mod encoders;
pub mod http_body;
pub mod journal;
pub mod lexer;
pub mod planner_answer;
pub mod plugin_package;
pub mod vault_record;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// Returns the output of a future that never has to wait.
fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for something although everything is there"),
    }
}

/// Returns the line and the column (in characters) of a byte offset, both counted from 1, by simple counting.
fn position(text: &str, at: usize) -> (u32, u32) {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = 1 + before.matches('\n').count();
    (u32::try_from(line).unwrap(), 1 + u32::try_from(before[line_start..].chars().count()).unwrap())
}

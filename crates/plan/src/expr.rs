//! The expressions that slots stand for: a secret, or encoders over text that contains secrets.
//!
//! Data only, shared by planner and daemon; holds no value. `encode` defines the operations.

use serde::{Deserialize, Serialize};

use crate::encode::Placement;
pub use crate::encode::{DigestAlgorithm, Op};

/// The expression that a slot stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expr {
    /// The secret of the emission with this index.
    Secret(u32),
    /// An operation over texts that contain at least one secret.
    Apply {
        /// The operation that is applied.
        op: Op,
        /// Its arguments, in order.
        args: Vec<TextParts>,
    },
}

impl Expr {
    /// Returns where the result may be without further encoding; `None` for a secret that is not encoded.
    pub fn place(&self) -> Option<Placement> {
        match self {
            Self::Secret(_) => None,
            Self::Apply { op, .. } => Some(op.definition().place),
        }
    }

    /// Returns the indices of the emissions whose values it uses, each once.
    pub fn emissions(&self) -> Vec<u32> {
        fn collect(expr: &Expr, out: &mut Vec<u32>) {
            match expr {
                Expr::Secret(emission) if out.contains(emission) => {}
                Expr::Secret(emission) => out.push(*emission),
                Expr::Apply { args, .. } => {
                    for part in args.iter().flatten() {
                        if let Part::Expr(inner) = part {
                            collect(inner, out);
                        }
                    }
                }
            }
        }
        let mut out = Vec::new();
        collect(self, &mut out);
        out
    }
}

/// Text that may contain secrets, as parts in order.
pub type TextParts = Vec<Part>;

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Literal text of the template or the plugin.
    Literal(String),
    /// The expression that a slot stood for.
    Expr(Expr),
}

impl Part {
    /// Returns the expression; `None` for literal text.
    pub fn expr(&self) -> Option<&Expr> {
        match self {
            Self::Literal(_) => None,
            Self::Expr(expr) => Some(expr),
        }
    }
}

//! Implements the plugin's `encode` imports: plain text is encoded at once, and text that contains slots becomes a new
//! slot for the whole expression.
//!
//! Knows what each slot of one call stands for, but never a value, and nothing of WebAssembly.

use std::collections::HashMap;

use guillemet_base::display::sanitize;
use guillemet_base::problem::{PROBLEMS_MAX, Problem};
use guillemet_plan::encode::{
    BytesEncoding, DigestAlgorithm, EncoderDefinition, EncoderOptions, HmacAlgorithm, Placement, Refusal,
    check_literal, literal,
};
use guillemet_plan::expr::{Expr, Op, Part, TextParts};
use guillemet_plan::protocol::{Emission, PlanReference};
use guillemet_plan::slots::{self, SLOT_LEN};

/// The most slots of one plan.
const SLOTS_MAX: usize = 10_000;
/// The deepest nesting of operations.
const DEPTH_MAX: usize = 16;
/// The most bytes that all expressions may weigh: their literal text, and `NODE_WEIGHT` for each node.
const WEIGHT_MAX: usize = 4 << 20;
const NODE_WEIGHT: usize = 16;
/// The most characters of a plugin's reason for refusing text.
const REASON_MAX: usize = 300;

/// A rule of the contract that the plugin has broken, as a sentence. Ends the call.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct PluginError(pub String);

/// The expression that a slot stands for, with its size.
#[derive(Clone)]
struct SizedExpr {
    expr: Expr,
    depth: usize,
    weight: usize,
}

/// The shortest text that can tell by itself which field another one is made of, in bytes.
const NEAR_MIN: usize = 3;

/// Where the texts of a config are: the path of a field for each, the first one if several are equal.
#[derive(Default)]
pub struct TextPlaces {
    /// The paths of texts that are values.
    pub values: HashMap<String, String>,
    /// The paths of the fields with these names.
    pub names: HashMap<String, String>,
}

/// The state of `encode` during one call of a plugin.
#[derive(Default)]
pub struct Encoder {
    slots: HashMap<String, SizedExpr>,
    weight: usize,
    emissions: Vec<Emission>,
    /// Where the texts of the config are, to report where a refused literal is.
    places: TextPlaces,
    problems: Vec<Problem>,
}

impl Encoder {
    /// Creates an encoder with the slots of a config tree, by emission.
    pub fn new(
        slots: HashMap<String, u32>,
        emissions: &[Emission],
        references: &[PlanReference],
        places: TextPlaces,
    ) -> Self {
        let entry = |(slot, emission): (String, u32)| {
            let filters = emissions
                .get(emission as usize)
                .and_then(|emission| references.get(emission.reference as usize))
                .map_or(&[][..], |reference| &reference.filters);
            let expr = filters.iter().fold(Expr::Secret(emission), |expr, filter| Expr::Apply {
                op: Op::Filter(*filter),
                args: vec![vec![Part::Expr(expr)]],
            });
            (slot, SizedExpr { expr, depth: filters.len(), weight: NODE_WEIGHT * (filters.len() + 1) })
        };
        Self { slots: slots.into_iter().map(entry).collect(), emissions: emissions.to_vec(), places, ..Self::default() }
    }

    /// Returns the expression that a canonical slot stands for; `None` for a forged one.
    pub fn expr(&self, slot: &str) -> Option<&Expr> {
        self.slots.get(slot).map(|entry| &entry.expr)
    }

    /// Takes out the problems recorded so far.
    pub fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    /// Implements `encode.has-secret`: reports whether the text contains a slot.
    ///
    /// # Errors
    /// Fails with [`PluginError`] for a forged slot.
    pub fn has_secret(&self, text: &str) -> Result<bool, PluginError> {
        Ok(!self.slots_of(text)?.is_empty())
    }

    /// Implements `encode.whole-secret`: reports whether the text is exactly one slot.
    ///
    /// # Errors
    /// Fails with [`PluginError`] for a forged slot.
    pub fn whole_secret(&self, text: &str) -> Result<bool, PluginError> {
        Ok(self.slots_of(text)?.len() == 1 && text.len() == SLOT_LEN)
    }

    /// Calls an encoder of the contract.
    ///
    /// # Errors
    /// Fails with [`PluginError`] if the plugin breaks a rule of the contract.
    pub fn call(
        &mut self,
        definition: &EncoderDefinition,
        texts: &[&str],
        options: EncoderOptions,
    ) -> Result<String, PluginError> {
        let mut options = options;
        for reason in options.table.refused.iter_mut().map(|(_, reason)| reason).chain([&mut options.reason]) {
            *reason = sanitize(reason, REASON_MAX);
        }
        let op = definition.op(options);
        op.check().map_err(|clause| PluginError(format!("it called `{}` {clause}", definition.name)))?;
        self.apply(op, texts)
    }

    /// Applies an operation: encodes plain text, or returns a new slot for the operation.
    ///
    /// # Errors
    /// Fails with [`PluginError`] if the plugin breaks a rule of the contract.
    pub fn apply(&mut self, op: Op, args: &[&str]) -> Result<String, PluginError> {
        if !self.check_text(&op, args)? {
            return Ok(args.concat());
        }
        let mut texts = Vec::with_capacity(args.len());
        let (mut depth, mut weight) = (1, NODE_WEIGHT);
        let mut slots = 0;
        for arg in args {
            for slot in self.slots_of(arg)? {
                let entry = &self.slots[&slot];
                depth = depth.max(entry.depth + 1);
                weight += entry.weight;
                slots += 1;
            }
            weight += arg.len();
            // Checked before anything is copied: an expression contains everything that its slots stand for.
            self.within_limits(depth, weight)?;
            texts.push(self.parse(arg)?);
        }
        weight += op.weight();
        self.within_limits(depth, weight)?;
        self.weight += weight;
        if slots == 0 {
            return Ok(match literal(&op, args) {
                Ok(encoded) => encoded,
                Err(refusal) => {
                    self.refuse(args, &refusal);
                    args.join(":")
                }
            });
        }
        if self.slots.len() >= SLOTS_MAX {
            return Err(PluginError(format!("it made more than {SLOTS_MAX} slots")));
        }
        let slot = slots::random_slot();
        self.slots.insert(slot.clone(), SizedExpr { expr: Expr::Apply { op, args: texts }, depth, weight });
        Ok(slot)
    }

    /// Checks text that contains slots against the rules for its literal parts and for the slots in it. Notes a problem
    /// and returns `false` if it breaks one.
    fn check_text(&mut self, op: &Op, args: &[&str]) -> Result<bool, PluginError> {
        let definition = op.definition();
        for text in args.iter().filter(|_| definition.is_restriction() || definition.place == Placement::Url) {
            let slots = self.slots_of(text)?;
            if slots.is_empty() {
                continue;
            }
            // It would be refused at every fill.
            if let Some(refusal) = literal_parts(text).find_map(|literal| check_literal(op, literal).err()) {
                self.refuse(&[text], &refusal);
                return Ok(false);
            }
            if definition.place == Placement::Url && text.len() > SLOT_LEN && !self.is_percent_encoded(&slots) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Notes a problem for each slot that cannot be in the middle of a URL. Returns whether there is none.
    fn is_percent_encoded(&mut self, slots: &[String]) -> bool {
        let bare: Vec<u32> = slots
            .iter()
            .filter_map(|slot| self.expr(slot))
            .filter(|expr| expr.place() != Some(Placement::UrlComponent))
            .filter_map(first_emission)
            .collect();
        for emission in &bare {
            let field = self.emissions.get(*emission as usize).map_or("", |emission| &emission.field);
            let problem = Problem {
                path: field.to_owned(),
                message: "a secret inside a URL is not percent-encoded".into(),
                help: Some("add `| url` after it: `<< secret \"…\" | url >>`".into()),
                ..Problem::default()
            };
            self.add_problem(problem);
        }
        bare.is_empty()
    }

    fn within_limits(&self, depth: usize, weight: usize) -> Result<(), PluginError> {
        if depth > DEPTH_MAX {
            return Err(PluginError(format!("it nested more than {DEPTH_MAX} encoders")));
        }
        if self.weight + weight > WEIGHT_MAX {
            return Err(PluginError(format!("it encoded more than {} MiB of text", WEIGHT_MAX >> 20)));
        }
        Ok(())
    }

    fn refuse(&mut self, args: &[&str], refusal: &Refusal) {
        let path = args.iter().find_map(|arg| self.field(arg)).or_else(|| args.iter().find_map(|arg| self.near(arg)));
        let message = sanitize(&refusal.reason, 500);
        let (message, help) = match &path {
            Some(_) => (message, "change this text in the template"),
            None => (format!("a text that the plugin itself writes: {message}"), "report it to the plugin's author"),
        };
        let problem =
            Problem { path: path.unwrap_or_default(), message, help: Some(help.into()), ..Problem::default() };
        self.add_problem(problem);
    }

    /// Returns the field that a text is in, as far as it can be determined.
    fn field(&self, text: &str) -> Option<String> {
        let of_secret = || {
            let slot = slots::find(text).into_iter().next().map(|at| slots::canonical(text, at))?;
            let emission = first_emission(self.expr(&slot)?)?;
            self.emissions.get(emission as usize).map(|emission| emission.field.clone())
        };
        // A plugin can encode the names of a table with any names, too.
        self.places.values.get(text).or_else(|| self.places.names.get(text)).cloned().or_else(of_secret)
    }

    /// Returns the field whose text is a part of this one, or of whose text this one is a part: a plugin joins texts, and
    /// takes them apart. The field with the longest common text, if there are several. A short text says nothing: `2` is
    /// a part of many others.
    fn near(&self, text: &str) -> Option<String> {
        let is_near =
            |field: &str| field.len().min(text.len()) >= NEAR_MIN && (text.contains(field) || field.contains(text));
        let fields = self.places.values.iter().filter(|(field, _)| is_near(field));
        let common = |field: &str| (field.len().min(text.len()), std::cmp::Reverse(field.len()));
        fields.max_by_key(|(field, path)| (common(field), std::cmp::Reverse(path.len()))).map(|(_, path)| path.clone())
    }

    fn add_problem(&mut self, problem: Problem) {
        if self.problems.len() < PROBLEMS_MAX && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Returns the slots of a text in their canonical form, in order.
    fn slots_of(&self, text: &str) -> Result<Vec<String>, PluginError> {
        let canonical = slots::find(text).into_iter().map(|at| slots::canonical(text, at));
        canonical.map(|slot| if self.slots.contains_key(&slot) { Ok(slot) } else { Err(forged_slot()) }).collect()
    }

    fn parse(&self, text: &str) -> Result<TextParts, PluginError> {
        let mut parts = Vec::new();
        let mut end = 0;
        for at in slots::find(text) {
            let entry = self.slots.get(&slots::canonical(text, at)).ok_or_else(forged_slot)?;
            if end < at {
                parts.push(Part::Literal(text[end..at].to_owned()));
            }
            parts.push(Part::Expr(entry.expr.clone()));
            end = at + SLOT_LEN;
        }
        if end < text.len() {
            parts.push(Part::Literal(text[end..].to_owned()));
        }
        Ok(parts)
    }
}

/// Returns the rule about slots that were never issued.
pub fn forged_slot() -> PluginError {
    PluginError("it wrote text that looks like a slot but is not one (forged)".into())
}

/// Returns the parts of a text between its slots.
fn literal_parts(text: &str) -> impl Iterator<Item = &str> {
    let ends = slots::find(text).into_iter().map(|at| (at, at + SLOT_LEN)).chain([(text.len(), text.len())]);
    ends.scan(0, |from, (at, next)| Some(&text[std::mem::replace(from, next)..at]))
}

/// Returns the digest algorithm with this name.
///
/// # Errors
/// Fails with [`PluginError`] if the contract has none with this name.
pub fn digest_algorithm(name: &str) -> Result<DigestAlgorithm, PluginError> {
    named(&DigestAlgorithm::ALL, name, "digest algorithm")
}

/// Returns the algorithm of an HMAC with this name.
///
/// # Errors
/// Fails with [`PluginError`] if the contract has none with this name.
pub fn hmac_algorithm(name: &str) -> Result<HmacAlgorithm, PluginError> {
    named(&HmacAlgorithm::ALL, name, "algorithm of an HMAC")
}

/// Returns the encoding of bytes with this name.
///
/// # Errors
/// Fails with [`PluginError`] if the contract has none with this name.
pub fn bytes_encoding(name: &str) -> Result<BytesEncoding, PluginError> {
    named(&BytesEncoding::ALL, name, "encoding of bytes")
}

fn named<T: Copy>(all: &[(&str, T)], name: &str, kind: &str) -> Result<T, PluginError> {
    let found = all.iter().find(|(known, _)| *known == name).map(|(_, found)| *found);
    found.ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
        PluginError(format!("it used an unknown {kind}, \"{}\"; use {}", sanitize(name, 32), known.join(", ")))
    })
}

/// Returns the first emission in an expression.
fn first_emission(expr: &Expr) -> Option<u32> {
    expr.emissions().first().copied()
}

#[cfg(test)]
#[path = "encoder_tests.rs"]
mod tests;

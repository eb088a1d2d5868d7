//! Answers requests for values: checks that every secret is available, fills the values in, records the uses, in that
//! order.
//!
//! This is the hot path. It reads one snapshot and appends to the journal; it never waits, plans or parses. Knows
//! nothing of rules: the services in `app` check what the caller may ask for before they call this.
//!
//! - Invariant (promise Recorded): an answer exists only after its uses have been recorded.
//! - Invariant (promise Whole): a config is answered completely or not at all, and an error names everything that is
//!   wrong.

pub mod budget;
pub mod refusals;
pub mod snapshot;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use self::budget::{Budget, Exhausted, Reservation};
use self::snapshot::{CurrentSnapshot, Snapshot, SnapshotState};
use guillemet_base::names::SecretName;
use guillemet_base::sys::memory::Clear;
use guillemet_base::time::now;
use guillemet_plan::plan::{self, Plan};
use guillemet_plugin::fill::{self, Unrepresentable, Values};
use guillemet_secret::record::Secret;
use guillemet_vault::usage::{Caller, Outcome, RecordedUse, Recorder, RequestEvent, Subject, Unrecorded};

/// A rendered config, or the confirmation that the caller's copy is still current.
pub struct RenderedConfig {
    /// The media type of the config, from its target.
    pub media_type: String,
    /// The entity tag, quoted. Changes when the plan or the version of a secret in it changes; never derived from a
    /// value.
    pub etag: String,
    /// The config; `None` if the caller's own copy is still current.
    pub body: Option<Bytes>,
}

/// The bytes of an answer, with the snapshot they were made from.
struct PinnedBytes {
    bytes: Clear,
    /// Held until the answer has been written, because a change waits for older snapshots (`snapshot`).
    _snapshot: Arc<Snapshot>,
    /// Held until the last byte has been written (`budget`).
    _reservation: Reservation,
}

impl PinnedBytes {
    /// Gives back memory that was not needed, both of the buffer and of its reservation.
    fn new(mut bytes: Clear, snapshot: Arc<Snapshot>, mut reservation: Reservation) -> Result<Self, Exhausted> {
        // Most values do not need the room for encodings; a slow reader would keep it occupied for nothing.
        if bytes.capacity() > budget::SMALL && bytes.capacity() - bytes.len() > bytes.len() / 4 {
            bytes.shrink_to_fit();
        }
        reservation.resize(bytes.capacity())?;
        Ok(Self { bytes, _snapshot: snapshot, _reservation: reservation })
    }
}

impl AsRef<[u8]> for PinnedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The kind of problem with one secret of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// No secret has this name, now or formerly.
    Missing,
    /// The secret exists but is disabled.
    Disabled,
    /// The place in the config cannot hold its value.
    Unfit,
}

impl RefusalReason {
    /// Returns the reason's code in the API.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Disabled => "disabled",
            Self::Unfit => "unfit",
        }
    }
}

/// One problem with a secret of a request, and its place.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The field of the config or of the request: `headers.Authorization`, or `secrets.0` for a request by name.
    pub field: String,
    /// What is wrong and what to do about it; never a value.
    pub message: String,
    /// The name of the secret, as the template or the request spells it.
    pub name: String,
    /// The kind of problem, for programs.
    pub reason: RefusalReason,
    /// The id of the template; `None` for requests by name and for a template that came with the request.
    pub template: Option<String>,
    /// The line of the reference, counted from 1; `None` if no template is rendered.
    pub line: Option<u32>,
    /// The column of the reference in characters, counted from 1; `None` if no template is rendered.
    pub column: Option<u32>,
}

/// The reason why a request got no answer.
#[derive(Debug)]
pub enum ResolveError {
    /// Some secrets cannot be given; lists every problem.
    Secrets(Vec<Fault>),
    /// The journal accepts no more records, and nothing is resolved without one. Holds the message.
    Unrecorded(String),
    /// The bytes in transit of this user, or of all users, already take up the memory they may use.
    Exhausted,
}

impl From<Unrecorded> for ResolveError {
    fn from(error: Unrecorded) -> Self {
        Self::Unrecorded(error.to_string())
    }
}

impl From<Exhausted> for ResolveError {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

/// Answers requests for values from the current snapshot.
pub struct Resolver {
    /// The state that answers are made from.
    pub current: CurrentSnapshot,
    /// The recorder of all uses and refusals.
    pub recorder: Recorder,
    /// The memory that answers may take.
    pub budget: Arc<Budget>,
    /// The callers whose refusals have already been logged this minute.
    pub logged_callers: refusals::LoggedCallers,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

/// A secret that a request asks for, in its current state.
enum SecretLookup<'a> {
    Ready(&'a Arc<Secret>),
    Not(Option<&'a Arc<Secret>>, RefusalReason),
}

fn look_up<'a>(state: &'a SnapshotState, key: &str) -> SecretLookup<'a> {
    match state.secret(key) {
        None => SecretLookup::Not(None, RefusalReason::Missing),
        Some(secret) if !secret.enabled => SecretLookup::Not(Some(secret), RefusalReason::Disabled),
        Some(secret) => SecretLookup::Ready(secret),
    }
}

fn unavailable(name: &str, reason: RefusalReason) -> String {
    match reason {
        RefusalReason::Disabled => {
            format!("secret `{name}` is disabled; run `guillemet secret enable {name}` to enable it")
        }
        _ => format!("there is no secret `{name}`; run `guillemet secret add {name}` to create it"),
    }
}

/// What opening, encoding and recording one value costs, as the bytes of text that could be copied instead.
const VALUE_COST: usize = 1 << 10;

impl Resolver {
    /// Returns about how much work an answer with these secrets and this many bytes of text is, in bytes of text.
    fn work<'a>(state: &SnapshotState, text: usize, keys: impl Iterator<Item = Cow<'a, str>>) -> usize {
        let cost = |key: Cow<'_, str>| VALUE_COST + state.secret(&key).map_or(0, |secret| secret.current().value.len());
        text + keys.map(cost).sum::<usize>()
    }

    /// Returns about how much work rendering a plan is, in bytes of text.
    pub fn render_work(state: &SnapshotState, plan: &Plan) -> usize {
        Self::work(state, plan.literal_len, plan.uses.iter().map(|usage| Cow::Borrowed(&*usage.key)))
    }

    /// Returns about how much work resolving these names is, in bytes of text.
    pub fn resolve_work(state: &SnapshotState, names: &[SecretName]) -> usize {
        Self::work(state, 0, names.iter().map(|name| Cow::Owned(name.key())))
    }

    /// Renders a plan: fills the values in and records the uses. If `if_none_match` lists the current entity tag, only
    /// records that the caller's copy was confirmed.
    ///
    /// `template` is the id of the template that the plan was made from, in this same snapshot; `None` for a template
    /// that came with the request.
    ///
    /// # Errors
    /// Fails with [`ResolveError::Secrets`] and every problem if a secret is missing, disabled or does not fit its
    /// place; with [`ResolveError::Unrecorded`] if the journal accepts no record; with [`ResolveError::Exhausted`] if
    /// the answer would take too much memory.
    pub fn render(
        &self,
        snapshot: Arc<Snapshot>,
        template: Option<&str>,
        plan: &Plan,
        caller: &Caller,
        if_none_match: Option<&str>,
    ) -> Result<RenderedConfig, ResolveError> {
        let secrets: Vec<SecretLookup<'_>> = plan.uses.iter().map(|usage| look_up(&snapshot, &usage.key)).collect();
        let record = |outcome, uses: &[RecordedUse<'_>]| {
            let target = Some(plan.target.id.as_str());
            self.recorder.record(&RequestEvent { time: now(), outcome, caller, template, target, route: None, uses })
        };
        let all_ready = secrets.iter().all(|secret| matches!(secret, SecretLookup::Ready(_)));
        let etag = all_ready.then(|| etag(plan, &secrets));
        if let Some(etag) = etag.as_ref().filter(|etag| if_none_match.is_some_and(|header| matches_etag(header, etag)))
        {
            record(Outcome::Revalidated, &uses_of(plan, &secrets))?;
            return Ok(RenderedConfig { media_type: plan.target.media_type.clone(), etag: etag.clone(), body: None });
        }

        let values = secrets.iter().map(|secret| match secret {
            SecretLookup::Ready(secret) => Some(&secret.current().value),
            SecretLookup::Not(..) => None,
        });
        let values = Values(values.collect());
        let reservation = self.budget.reserve(caller.uid, plan.literal_len + fill::extra_capacity(&values))?;
        let unfit = match (etag, fill::fill(plan, &values)) {
            (Some(etag), Ok(bytes)) => {
                let leaving = PinnedBytes::new(bytes, Arc::clone(&snapshot), reservation)?;
                record(Outcome::Answered, &uses_of(plan, &secrets))?;
                let body = Some(Bytes::from_owner(leaving));
                return Ok(RenderedConfig { media_type: plan.target.media_type.clone(), etag, body });
            }
            (_, filled) => filled.err().unwrap_or_default(),
        };

        let mut faults = Vec::new();
        for (usage, secret) in plan.uses.iter().zip(&secrets) {
            if let SecretLookup::Not(secret, reason) = secret {
                let id = secret.map(|secret| secret.id);
                faults.push((usage, id, *reason, unavailable(usage.name.as_str(), *reason)));
            }
        }
        for Unrepresentable { uses, refusal } in unfit {
            for index in uses {
                let usage = &plan.uses[index as usize];
                let id = snapshot.secret(&usage.key).map(|secret| secret.id);
                let message = format!("the value of secret `{}` cannot be used here: {refusal}", usage.name);
                faults.push((usage, id, RefusalReason::Unfit, message));
            }
        }
        faults.sort_by_key(|(usage, ..)| (usage.line, usage.column));
        let refused = faults.iter().map(|(usage, secret, reason, _)| {
            let subject = self.subject(&snapshot, caller, *secret, &usage.name);
            (outcome(*reason), RecordedUse { subject, field: usage.field.as_str() })
        });
        self.refuse(caller, template, Some(&plan.target.id), &refused.collect::<Vec<_>>())?;
        let fault = |(usage, _, reason, message): (&plan::Use, _, _, _)| Fault {
            field: usage.field.clone(),
            message,
            name: usage.name.to_string(),
            reason,
            template: template.map(str::to_owned),
            line: Some(usage.line),
            column: Some(usage.column),
        };
        Err(ResolveError::Secrets(faults.into_iter().map(fault).collect()))
    }

    /// Returns values by name, as the body `{"secrets": {name: value}}`.
    ///
    /// # Errors
    /// Fails as [`render`](Self::render) does; [`ResolveError::Secrets`] lists every name that is missing or disabled.
    pub fn resolve(
        &self,
        snapshot: Arc<Snapshot>,
        names: &[SecretName],
        caller: &Caller,
    ) -> Result<Bytes, ResolveError> {
        let secrets: Vec<SecretLookup<'_>> = names.iter().map(|name| look_up(&snapshot, &name.key())).collect();
        let record = |outcome, uses: &[RecordedUse<'_>]| {
            let (template, target, route) = (None, None, None);
            self.recorder.record(&RequestEvent { time: now(), outcome, caller, template, target, route, uses })
        };
        let (mut faults, mut refused) = (Vec::new(), Vec::new());
        let mut uses = Vec::with_capacity(names.len());
        for (index, (name, secret)) in names.iter().zip(&secrets).enumerate() {
            match secret {
                SecretLookup::Ready(secret) => {
                    uses.push(RecordedUse { subject: Subject::Secret(secret.id), field: "" });
                }
                SecretLookup::Not(secret, reason) => {
                    let secret = secret.map(|secret| secret.id);
                    let subject = self.subject(&snapshot, caller, secret, name);
                    refused.push((outcome(*reason), RecordedUse { subject, field: "" }));
                    faults.push(Fault {
                        field: format!("secrets.{index}"),
                        message: unavailable(name.as_str(), *reason),
                        name: name.to_string(),
                        reason: *reason,
                        template: None,
                        line: None,
                        column: None,
                    });
                }
            }
        }
        if !faults.is_empty() {
            self.refuse(caller, None, None, &refused)?;
            return Err(ResolveError::Secrets(faults));
        }
        let ready = |secret: &SecretLookup<'_>| match secret {
            SecretLookup::Ready(secret) => secret.current().value.clone(),
            SecretLookup::Not(..) => unreachable!("every secret that is not ready is a fault"),
        };
        let values: Vec<_> = secrets.iter().map(ready).collect();
        let len: usize = values.iter().map(|value| value.len()).sum();
        let capacity = 2 * len + names.len() * 136 + 32;
        let reservation = self.budget.reserve(caller.uid, capacity)?;
        let mut bytes = Clear::with_capacity(capacity);
        let mut scratch = Clear::with_capacity(values.iter().map(|value| value.len()).max().unwrap_or(0));
        bytes.extend_from_slice(b"{\"secrets\":{");
        for (index, (name, value)) in names.iter().zip(&values).enumerate() {
            bytes.extend_from_slice(if index == 0 { b"\"" } else { b",\"" });
            // A name needs no escapes, because `SecretName` allows none of the characters that do.
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b"\":\"");
            scratch.clear();
            value.open_into(&mut scratch);
            fill::append_json(&scratch, &mut bytes);
            bytes.push(b'"');
        }
        bytes.extend_from_slice(b"}}\n");
        let leaving = PinnedBytes::new(bytes, Arc::clone(&snapshot), reservation)?;
        record(Outcome::Answered, &uses)?;
        Ok(Bytes::from_owner(leaving))
    }
}

fn outcome(reason: RefusalReason) -> Outcome {
    match reason {
        RefusalReason::Missing => Outcome::Missing,
        RefusalReason::Disabled => Outcome::Disabled,
        RefusalReason::Unfit => Outcome::Unfit,
    }
}

/// Returns the uses to record for an answer: one for each slot that a secret is part of.
fn uses_of<'a>(plan: &'a Plan, secrets: &[SecretLookup<'_>]) -> Vec<RecordedUse<'a>> {
    let mut uses = Vec::with_capacity(plan.uses.len());
    for (usage, secret) in plan.uses.iter().zip(secrets) {
        if let SecretLookup::Ready(secret) = secret {
            let recorded = || RecordedUse { subject: Subject::Secret(secret.id), field: &usage.field };
            uses.extend(std::iter::repeat_with(recorded).take(usage.count as usize));
        }
    }
    uses
}

/// Returns the entity tag of a plan with these versions of its secrets. The ids of versions are random, so a polynomial
/// over them with an odd factor is as good as a hash, and another version of a single secret always changes the tag.
fn etag(plan: &Plan, secrets: &[SecretLookup<'_>]) -> String {
    const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    let word = |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| u128::from_le_bytes(*bytes));
    let add = |tag: u128, word: u128| tag.wrapping_mul(FACTOR).wrapping_add(word);
    let versions = secrets.iter().map(|secret| match secret {
        SecretLookup::Ready(secret) => word(&secret.current().id),
        SecretLookup::Not(..) => 0,
    });
    let tag = versions.fold(word(&plan.digest), add);
    let mut text = String::with_capacity(34);
    text.push('"');
    data_encoding::HEXLOWER.encode_append(&tag.to_le_bytes(), &mut text);
    text.push('"');
    text
}

/// Reports whether an `If-None-Match` header lists this tag (RFC 9110, section 13.1.2: weak comparison). `*` does not
/// count: the caller has to know which version it holds.
fn matches_etag(header: &str, etag: &str) -> bool {
    header.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests;

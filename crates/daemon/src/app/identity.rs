//! Looks up the numbers of the users and groups that rules name, and so decides what the rules mean now.
//!
//! The kernel knows callers by number, and a free number goes to the next user that is created. So a rule with a name
//! applies to the number that the name has at the moment of the request, and to nobody if the name does not exist. A
//! look-up may ask a directory service, so it never runs on a thread that serves, and never for long.
//!
//! Invariant: a rule with a name grants something only by a look-up that is newer than the last change of the files
//! that name users, and at most `GOOD_FOR` old. A failed look-up grants nothing.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::App;
use crate::config::{CallerMatch, ClientRule, Config, NameOrNumber};
use guillemet_base::files::Fingerprint;
use guillemet_base::problem::Problem;

/// The files that name users and groups. Other sources of names do not report changes.
const DATABASES: [&str; 2] = ["/etc/passwd", "/etc/group"];
/// The age at which names are looked up again, because sources other than files do not report changes.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The age up to which a look-up may grant something.
const GOOD_FOR: Duration = Duration::from_secs(15);
/// The time that a look-up may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The result of looking up one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LookUpResult {
    /// The name has this number.
    Number(u32),
    /// No user or group has the name.
    Nobody,
    /// The system has not answered yet.
    Unanswered,
}

/// The names of rules whose look-up has not returned yet. Each name is looked up at most once at a time, so a directory
/// service that hangs blocks one thread for each name, however often the name is asked for.
#[derive(Default)]
pub struct LookUps {
    /// Held while names are looked up, and while other rules are put in force.
    exclusive: tokio::sync::Mutex<()>,
    pending: Arc<Mutex<HashSet<CallerMatch>>>,
}

/// The time of a look-up, and the state of the files just before it.
#[derive(Clone, Copy, Debug)]
struct LookUpTime {
    at: Instant,
    files: [Option<Fingerprint>; 2],
    is_settled: bool,
}

impl LookUpTime {
    fn now() -> Self {
        let files = DATABASES.map(|path| Fingerprint::of(Path::new(path)).ok());
        let is_settled = files.iter().flatten().all(Fingerprint::is_settled);
        Self { at: Instant::now(), files, is_settled }
    }
}

/// The rules in force, with the numbers that their users and groups have.
pub struct Rules {
    /// The configuration that the rules come from.
    pub config: Arc<Config>,
    /// The look-up results, in the order of the rules.
    results: Vec<LookUpResult>,
    /// Whether a rule names the daemon's own user. Stays true when the name disappears: the rule restricts that user,
    /// and a failed look-up must not lift the restriction.
    binds_owner: bool,
    lookup: Mutex<LookUpTime>,
}

impl Rules {
    /// Returns the rules of a configuration before any name was looked up: only rules with numbers apply.
    pub fn of_numbers(config: Arc<Config>, own_uid: u32) -> Self {
        Self::new(config, &HashMap::new(), None, own_uid, LookUpTime::now())
    }

    fn new(
        config: Arc<Config>,
        names: &HashMap<CallerMatch, LookUpResult>,
        before: Option<&Self>,
        own_uid: u32,
        lookup: LookUpTime,
    ) -> Self {
        let result = |rule: &ClientRule| match &rule.caller {
            CallerMatch::User(NameOrNumber::Number(number)) | CallerMatch::Group(NameOrNumber::Number(number)) => {
                LookUpResult::Number(*number)
            }
            caller => names.get(caller).copied().unwrap_or(LookUpResult::Unanswered),
        };
        let results: Vec<LookUpResult> = config.clients.iter().map(result).collect();
        let is_owner = |(rule, result): (&ClientRule, &LookUpResult)| {
            matches!(rule.caller, CallerMatch::User(_)) && *result == LookUpResult::Number(own_uid)
        };
        let binds_owner = config.clients.iter().zip(&results).any(is_owner)
            || before.is_some_and(|before| Arc::ptr_eq(&before.config, &config) && before.binds_owner);
        Self { config, results, binds_owner, lookup: Mutex::new(lookup) }
    }

    /// Returns whether a rule names the user that this daemon runs as. Without such a rule, that user may do
    /// everything.
    pub fn bind_owner(&self) -> bool {
        self.binds_owner
    }

    /// Returns every rule whose user or group has a number now, together with that number.
    pub fn all(&self) -> impl Iterator<Item = (&ClientRule, u32)> {
        self.config.clients.iter().zip(&self.results).filter_map(|(rule, result)| match result {
            LookUpResult::Number(number) => Some((rule, *number)),
            LookUpResult::Nobody | LookUpResult::Unanswered => None,
        })
    }

    /// Returns whether a name that had a number got no answer this time.
    fn has_lost_number(&self, before: &Self) -> bool {
        let is_lost = |(now, before): (&LookUpResult, &LookUpResult)| {
            *now == LookUpResult::Unanswered && matches!(before, LookUpResult::Number(_))
        };
        self.results.iter().zip(&before.results).any(is_lost)
    }

    /// Returns whether any rule names a user or group.
    fn have_names(&self) -> bool {
        self.config.clients.iter().any(is_named)
    }

    /// Returns whether the look-up is recent enough to grant something, as far as can be known without another look-up.
    pub fn are_current(&self) -> bool {
        !self.have_names() || self.is_current_for(GOOD_FOR)
    }

    /// Returns whether names should be looked up now, even though no request needs it yet.
    pub fn are_due(&self) -> bool {
        self.have_names() && !self.is_current_for(ASK_AGAIN)
    }

    fn is_current_for(&self, time: Duration) -> bool {
        let lookup = *self.lookup.lock().unwrap_or_else(PoisonError::into_inner);
        lookup.is_settled && lookup.at.elapsed() < time && lookup.files == LookUpTime::now().files
    }

    /// Returns the rules that apply to nobody now and why, each with its place in the file.
    pub fn warnings(&self) -> Vec<Problem> {
        let warning = |(index, (rule, result)): (usize, (&ClientRule, &LookUpResult))| {
            let message = match result {
                LookUpResult::Number(_) => return None,
                LookUpResult::Nobody => {
                    format!("there is no {} on this machine, so this rule has no effect", rule.caller)
                }
                LookUpResult::Unanswered => {
                    format!("{} could not be looked up, so this rule has no effect for now", rule.caller)
                }
            };
            let key = if matches!(rule.caller, CallerMatch::User(_)) { "uid" } else { "group" };
            let (line, column) = (Some(rule.place.line), Some(rule.place.column));
            Some(Problem { path: format!("client[{}].{key}", index + 1), line, column, message, help: None })
        };
        self.config.clients.iter().zip(&self.results).enumerate().filter_map(warning).collect()
    }
}

/// Returns whether a rule names its user or group, rather than giving a number.
pub fn is_named(rule: &ClientRule) -> bool {
    matches!(rule.caller, CallerMatch::User(NameOrNumber::Name(_)) | CallerMatch::Group(NameOrNumber::Name(_)))
}

/// Returns whether names are being looked up now.
pub fn is_busy(app: &App) -> bool {
    app.lookups.exclusive.try_lock().is_err()
}

/// Returns the rules in force after looking up their names again. Does nothing if that has just been done.
pub async fn refresh(app: &App) -> Arc<Rules> {
    let _guard = app.lookups.exclusive.lock().await;
    let rules = app.rules.load_full();
    if !rules.are_due() {
        return rules;
    }
    let updated = look_up(app, &rules.config, Some(&rules)).await;
    if rules.are_current() && updated.has_lost_number(&rules) {
        // While the former answer is still good, a directory service may be slow.
        return rules;
    }
    if updated.results == rules.results && updated.binds_owner == rules.binds_owner {
        // Keep the same `Arc`: code that compares the rules in force with those it knows then sees no change.
        let lookup = *updated.lookup.lock().unwrap_or_else(PoisonError::into_inner);
        *rules.lookup.lock().unwrap_or_else(PoisonError::into_inner) = lookup;
        return rules;
    }
    log_unmatched(app, &updated);
    let updated = Arc::new(updated);
    app.rules.store(Arc::clone(&updated));
    updated
}

/// Puts a configuration in force, with its rules and everything else that is read from `App::config`.
pub async fn put_in_force(app: &App, config: Arc<Config>) -> Arc<Rules> {
    let _guard = app.lookups.exclusive.lock().await;
    let rules = Arc::new(look_up(app, &config, None).await);
    log_unmatched(app, &rules);
    app.config.store(config);
    app.rules.store(Arc::clone(&rules));
    rules
}

/// Logs the rules that apply to nobody.
fn log_unmatched(app: &App, rules: &Rules) {
    for warning in rules.warnings() {
        tracing::warn!("{}", warning.located(&app.home.config_file()));
    }
}

/// Looks up every name of a configuration, each on its own thread.
async fn look_up(app: &App, config: &Arc<Config>, before: Option<&Rules>) -> Rules {
    // Taken before the look-ups, so that a change during them is noticed afterwards.
    let lookup = LookUpTime::now();
    let names: HashSet<&CallerMatch> =
        config.clients.iter().filter(|rule| is_named(rule)).map(|rule| &rule.caller).collect();
    let mut tasks = Vec::with_capacity(names.len());
    for caller in names {
        tasks.push((caller.clone(), start_look_up(&app.lookups.pending, caller)));
    }
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut results = HashMap::with_capacity(tasks.len());
    for (caller, task) in tasks {
        let result = match task {
            Some(answer) => tokio::time::timeout_at(until, answer).await.ok().and_then(Result::ok),
            None => None,
        };
        results.insert(caller, result.unwrap_or(LookUpResult::Unanswered));
    }
    Rules::new(Arc::clone(config), &results, before, app.own_uid, lookup)
}

/// Begins to look up a name. Returns `None` if an earlier look-up of it has not returned yet.
fn start_look_up(
    pending: &Arc<Mutex<HashSet<CallerMatch>>>,
    caller: &CallerMatch,
) -> Option<tokio::task::JoinHandle<LookUpResult>> {
    let is_new = pending.lock().unwrap_or_else(PoisonError::into_inner).insert(caller.clone());
    let (pending, caller) = (Arc::clone(pending), caller.clone());
    is_new.then(|| {
        tokio::task::spawn_blocking(move || {
            let number = match &caller {
                CallerMatch::User(NameOrNumber::Name(name)) => uzers::get_user_by_name(name).map(|user| user.uid()),
                CallerMatch::Group(NameOrNumber::Name(name)) => uzers::get_group_by_name(name).map(|group| group.gid()),
                CallerMatch::User(NameOrNumber::Number(number)) | CallerMatch::Group(NameOrNumber::Number(number)) => {
                    Some(*number)
                }
            };
            pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&caller);
            number.map_or(LookUpResult::Nobody, LookUpResult::Number)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Arc<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Arc::new(Config::load(file.path(), |_| None).unwrap())
    }

    fn user(name: &str) -> CallerMatch {
        CallerMatch::User(NameOrNumber::Name(name.into()))
    }

    #[test]
    fn a_name_without_a_number_stands_for_nobody_and_is_told_with_its_place() {
        let config = config(
            "[[client]]\nuid = 'here'\nadmin = true\n[[client]]\ngroup = 'gone'\nadmin = true\n[[client]]\nuid = 7\nadmin = true\n",
        );
        let found = HashMap::from([
            (user("here"), LookUpResult::Number(5)),
            (CallerMatch::Group(NameOrNumber::Name("gone".into())), LookUpResult::Nobody),
        ]);
        let rules = Rules::new(config, &found, None, 0, LookUpTime::now());
        assert_eq!(rules.all().map(|(_, number)| number).collect::<Vec<_>>(), [5, 7]);
        let warnings = rules.warnings();
        assert_eq!((warnings.len(), warnings[0].line, warnings[0].path.as_str()), (1, Some(5), "client[2].group"));
        assert!(warnings[0].message.starts_with("there is no group `gone`"), "{warnings:?}");
        // Nothing has been looked up yet.
        let rules = Rules::of_numbers(Arc::clone(&rules.config), 0);
        assert_eq!((rules.all().count(), rules.warnings().len()), (1, 2));
    }

    #[test]
    fn a_rule_that_named_the_daemons_user_goes_on_binding_it_when_the_name_is_gone() {
        let config = config("[[client]]\nuid = 'own'\nsecrets = ['a']\n");
        let found = HashMap::from([(user("own"), LookUpResult::Number(5))]);
        let rules = Rules::new(Arc::clone(&config), &found, None, 5, LookUpTime::now());
        assert!(rules.bind_owner());
        let gone = Rules::new(config, &HashMap::new(), Some(&rules), 5, LookUpTime::now());
        assert!(gone.bind_owner() && gone.all().next().is_none());
        // A different configuration has different rules.
        let other =
            Rules::new(Arc::new(Config::clone(&gone.config)), &HashMap::new(), Some(&gone), 5, LookUpTime::now());
        assert!(!other.bind_owner());
    }
}

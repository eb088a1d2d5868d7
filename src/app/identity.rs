//! Which numbers the users and groups of the rules have now, and so what the rules mean.
//!
//! The kernel knows callers by number, and a number that is free goes to the next user that is made. So a rule with a
//! name holds for the number that the name has at the moment of the request, and for nobody where there is no such name.
//! Looking a name up may ask a directory service: never on a thread that serves, and never for long.
//!
//! Invariant: before a rule with a name gives anybody anything, the look-up it rests on is known to be newer than the
//! last change of the files that name users, and at most `GOOD_FOR` old. A look-up that fails means no.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::App;
use crate::config::{Config, NameOrNumber, Rule, Who};
use guillemet_base::files::Fingerprint;
use guillemet_template::Problem;

/// The files that name users and groups. Other sources tell nobody of a change.
const DATABASES: [&str; 2] = ["/etc/passwd", "/etc/group"];
/// After how long names are looked up again, for sources other than files.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How old a look-up may be for a caller to get something by it.
const GOOD_FOR: Duration = Duration::from_secs(15);
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is known of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// It has this number.
    Number(u32),
    /// Nobody has it.
    Nobody,
    /// The system has not answered.
    Unanswered,
}

/// The names of the rules that are being looked up, or were and got no answer yet. Each at most once at a time, so that
/// a directory service that hangs holds up one thread for each name, however often they are asked for.
#[derive(Default)]
pub struct LookUps {
    /// Held by who looks names up and by who puts other rules in force.
    turn: tokio::sync::Mutex<()>,
    pending: Arc<Mutex<HashSet<Who>>>,
}

/// When names were looked up, and how the files looked before.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    files: [Option<Fingerprint>; 2],
    is_settled: bool,
}

impl Asked {
    fn now() -> Self {
        let files = DATABASES.map(|path| Fingerprint::of(Path::new(path)).ok());
        let is_settled = files.iter().flatten().all(Fingerprint::is_settled);
        Self { at: Instant::now(), files, is_settled }
    }
}

/// The rules in force, with the numbers that their users and groups have.
pub struct Rules {
    /// Where they are from.
    pub config: Arc<Config>,
    /// What is known of each rule, in their order.
    found: Vec<Found>,
    /// Whether a rule names the daemon's own user. Stays so when the name is gone: it binds, and a look-up that fails
    /// must not free it.
    binds_owner: bool,
    asked: Mutex<Asked>,
}

impl Rules {
    /// Returns the rules of a configuration before anything was looked up: only those with numbers hold.
    pub fn of_numbers(config: Arc<Config>, own_uid: u32) -> Self {
        Self::new(config, &HashMap::new(), None, own_uid, Asked::now())
    }

    fn new(
        config: Arc<Config>,
        names: &HashMap<Who, Found>,
        before: Option<&Self>,
        own_uid: u32,
        asked: Asked,
    ) -> Self {
        let found = |rule: &Rule| match &rule.who {
            Who::User(NameOrNumber::Number(number)) | Who::Group(NameOrNumber::Number(number)) => {
                Found::Number(*number)
            }
            who => names.get(who).copied().unwrap_or(Found::Unanswered),
        };
        let found: Vec<Found> = config.clients.iter().map(found).collect();
        let own = |(rule, found): (&Rule, &Found)| matches!(rule.who, Who::User(_)) && *found == Found::Number(own_uid);
        let binds_owner = config.clients.iter().zip(&found).any(own)
            || before.is_some_and(|before| Arc::ptr_eq(&before.config, &config) && before.binds_owner);
        Self { config, found, binds_owner, asked: Mutex::new(asked) }
    }

    /// Whether a rule names the user this daemon runs as, which may do everything otherwise.
    pub fn bind_owner(&self) -> bool {
        self.binds_owner
    }

    /// Returns every rule whose user or group has a number now, with that number.
    pub fn all(&self) -> impl Iterator<Item = (&Rule, u32)> {
        self.config.clients.iter().zip(&self.found).filter_map(|(rule, found)| match found {
            Found::Number(number) => Some((rule, *number)),
            Found::Nobody | Found::Unanswered => None,
        })
    }

    /// Whether a name that had a number got no answer this time.
    fn lost_an_answer(&self, before: &Self) -> bool {
        let lost = |(now, before): (&Found, &Found)| *now == Found::Unanswered && matches!(before, Found::Number(_));
        self.found.iter().zip(&before.found).any(lost)
    }

    /// Whether any rule has a name.
    fn have_names(&self) -> bool {
        self.config.clients.iter().any(is_named)
    }

    /// Whether names still have the numbers they were found with, as far as that can be told without asking again.
    pub fn are_current(&self) -> bool {
        !self.have_names() || self.is_current_for(GOOD_FOR)
    }

    /// Whether names should be looked up now, though nobody waits for it.
    pub fn are_due(&self) -> bool {
        self.have_names() && !self.is_current_for(ASK_AGAIN)
    }

    fn is_current_for(&self, time: Duration) -> bool {
        let asked = *self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.is_settled && asked.at.elapsed() < time && asked.files == Asked::now().files
    }

    /// Returns the rules that hold for nobody now, and why, each with its place in the file.
    pub fn warnings(&self) -> Vec<Problem> {
        let warning = |(index, (rule, found)): (usize, (&Rule, &Found))| {
            let message = match found {
                Found::Number(_) => return None,
                Found::Nobody => {
                    format!("there is no {} on this machine, so this rule has no effect", rule.who)
                }
                Found::Unanswered => {
                    format!("{} could not be looked up, so this rule has no effect for now", rule.who)
                }
            };
            let key = if matches!(rule.who, Who::User(_)) { "uid" } else { "group" };
            let (line, column) = (Some(rule.place.line), Some(rule.place.column));
            Some(Problem { path: format!("client[{}].{key}", index + 1), line, column, message, help: None })
        };
        self.config.clients.iter().zip(&self.found).enumerate().filter_map(warning).collect()
    }
}

/// Whether a rule has a name.
pub fn is_named(rule: &Rule) -> bool {
    matches!(rule.who, Who::User(NameOrNumber::Name(_)) | Who::Group(NameOrNumber::Name(_)))
}

/// Whether somebody is looking names up now.
pub fn is_busy(app: &App) -> bool {
    app.look_ups.turn.try_lock().is_err()
}

/// Returns the rules in force after their names were looked up again, unless that has just been done.
pub async fn refresh(app: &App) -> Arc<Rules> {
    let _turn = app.look_ups.turn.lock().await;
    let rules = app.rules.load_full();
    if !rules.are_due() {
        return rules;
    }
    let looked_up = look_up(app, &rules.config, Some(&rules)).await;
    if rules.are_current() && looked_up.lost_an_answer(&rules) {
        // For as long as the former answer is good, a directory service may be slow.
        return rules;
    }
    if looked_up.found == rules.found && looked_up.binds_owner == rules.binds_owner {
        // Whoever compares the rules in force with those it knows has nothing to do.
        let asked = *looked_up.asked.lock().unwrap_or_else(PoisonError::into_inner);
        *rules.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        return rules;
    }
    tell(app, &looked_up);
    let looked_up = Arc::new(looked_up);
    app.rules.store(Arc::clone(&looked_up));
    looked_up
}

/// Puts the rules of a configuration in force, and everything else that is asked of `App::config`.
pub async fn put_in_force(app: &App, config: Arc<Config>) -> Arc<Rules> {
    let _turn = app.look_ups.turn.lock().await;
    let rules = Arc::new(look_up(app, &config, None).await);
    tell(app, &rules);
    app.config.store(config);
    app.rules.store(Arc::clone(&rules));
    rules
}

/// Logs which rules hold for nobody.
fn tell(app: &App, rules: &Rules) {
    for warning in rules.warnings() {
        tracing::warn!("{}", crate::config::located(&app.home.config_file(), &warning));
    }
}

/// Looks every name of a configuration up, each on a thread of its own.
async fn look_up(app: &App, config: &Arc<Config>, before: Option<&Rules>) -> Rules {
    // Before the look-ups: what changes meanwhile is noticed afterwards.
    let asked = Asked::now();
    let names: HashSet<&Who> = config.clients.iter().filter(|rule| is_named(rule)).map(|rule| &rule.who).collect();
    let mut answers = Vec::with_capacity(names.len());
    for who in names {
        answers.push((who.clone(), begin(&app.look_ups.pending, who)));
    }
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut found = HashMap::with_capacity(answers.len());
    for (who, answer) in answers {
        let answer = match answer {
            Some(answer) => tokio::time::timeout_at(until, answer).await.ok().and_then(Result::ok),
            None => None,
        };
        found.insert(who, answer.unwrap_or(Found::Unanswered));
    }
    Rules::new(Arc::clone(config), &found, before, app.own_uid, asked)
}

/// Begins to look a name up, unless an earlier look-up of it has not come back yet.
fn begin(pending: &Arc<Mutex<HashSet<Who>>>, who: &Who) -> Option<tokio::task::JoinHandle<Found>> {
    let is_new = pending.lock().unwrap_or_else(PoisonError::into_inner).insert(who.clone());
    let (pending, who) = (Arc::clone(pending), who.clone());
    is_new.then(|| {
        tokio::task::spawn_blocking(move || {
            let number = match &who {
                Who::User(NameOrNumber::Name(name)) => uzers::get_user_by_name(name).map(|user| user.uid()),
                Who::Group(NameOrNumber::Name(name)) => uzers::get_group_by_name(name).map(|group| group.gid()),
                Who::User(NameOrNumber::Number(number)) | Who::Group(NameOrNumber::Number(number)) => Some(*number),
            };
            pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&who);
            number.map_or(Found::Nobody, Found::Number)
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

    fn user(name: &str) -> Who {
        Who::User(NameOrNumber::Name(name.into()))
    }

    #[test]
    fn a_name_without_a_number_stands_for_nobody_and_is_told_with_its_place() {
        let config = config(
            "[[client]]\nuid = 'here'\nadmin = true\n[[client]]\ngroup = 'gone'\nadmin = true\n[[client]]\nuid = 7\nadmin = true\n",
        );
        let found = HashMap::from([
            (user("here"), Found::Number(5)),
            (Who::Group(NameOrNumber::Name("gone".into())), Found::Nobody),
        ]);
        let rules = Rules::new(config, &found, None, 0, Asked::now());
        assert_eq!(rules.all().map(|(_, number)| number).collect::<Vec<_>>(), [5, 7]);
        let warnings = rules.warnings();
        assert_eq!((warnings.len(), warnings[0].line, warnings[0].path.as_str()), (1, Some(5), "client[2].group"));
        assert!(warnings[0].message.starts_with("there is no group `gone`"), "{warnings:?}");
        // Nothing was asked yet.
        let rules = Rules::of_numbers(Arc::clone(&rules.config), 0);
        assert_eq!((rules.all().count(), rules.warnings().len()), (1, 2));
    }

    #[test]
    fn a_rule_that_named_the_daemons_user_goes_on_binding_it_when_the_name_is_gone() {
        let config = config("[[client]]\nuid = 'own'\nsecrets = ['a']\n");
        let found = HashMap::from([(user("own"), Found::Number(5))]);
        let rules = Rules::new(Arc::clone(&config), &found, None, 5, Asked::now());
        assert!(rules.bind_owner());
        let gone = Rules::new(config, &HashMap::new(), Some(&rules), 5, Asked::now());
        assert!(gone.bind_owner() && gone.all().next().is_none());
        // Another file, other rules.
        let other = Rules::new(Arc::new(Config::clone(&gone.config)), &HashMap::new(), Some(&gone), 5, Asked::now());
        assert!(!other.bind_owner());
    }
}

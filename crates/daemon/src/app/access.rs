//! Who is on the other end of a connection, as reported by the kernel, and what that caller may do.
//!
//! The kernel fixes user and groups when the peer connects (`SO_PEERCRED`, `SO_PEERGROUPS`), so they are read once for
//! each connection. The rules that apply are those in force at each request.
//!
//! Invariant: a failed look-up grants nothing. Neither does a user or group that the kernel cannot name in this
//! namespace.

use std::sync::Arc;

use tokio::net::UnixStream;

use super::App;
use super::error::AppError;
use super::identity::{Rules, is_named};
use crate::config::{CallerMatch, ClientRule, Config};
use crate::user_namespace::OverflowIds;
use guillemet_base::names::SecretName;
use guillemet_vault::usage::Caller;

/// The peer of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The user, group and process, for the audit trail; `None` if the kernel did not report them.
    pub caller: Option<Caller>,
    /// Its supplementary groups; `None` if the kernel did not report them.
    groups: Option<Vec<u32>>,
    /// The numbers that may stand for more than one user or group.
    unnamed: OverflowIds,
}

/// The rights of a caller.
#[derive(Clone, Debug)]
pub enum Access<'a> {
    /// The right to everything.
    All,
    /// The rights that these `[[client]]` rules grant, all of which apply to the caller.
    Rules(Vec<&'a ClientRule>),
}

impl Peer {
    /// Asks the kernel who the peer is. Anyone can connect, so this does little work: it does not look at the
    /// executable.
    pub fn of(stream: &UnixStream) -> Self {
        let caller = stream.peer_cred().ok().map(|peer| {
            let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
            Caller { uid: peer.uid(), gid: peer.gid(), pid, exe: "".into() }
        });
        Self { caller, groups: guillemet_base::sys::peer::groups(stream).ok(), unnamed: OverflowIds::of_this_process() }
    }

    /// Looks up the executable too, for the audit trail.
    #[must_use]
    pub fn with_executable(mut self) -> Self {
        if let Some(caller) = &mut self.caller {
            caller.exe = executable(caller.pid);
        }
        self
    }

    /// Returns the caller and its rights, or `None` if it has none. The daemon's own user has every right, unless a
    /// rule names it.
    pub fn access<'a>(&self, own_uid: u32, rules: &'a Rules) -> Option<(&Caller, Access<'a>)> {
        let caller = self.caller.as_ref().filter(|caller| !self.unnamed.is_user(caller.uid))?;
        if caller.uid == own_uid && !rules.bind_owner() {
            return Some((caller, Access::All));
        }
        let rules: Vec<&ClientRule> = self.rules(caller, rules).collect();
        match rules.iter().any(|rule| rule.admin) {
            true => Some((caller, Access::All)),
            false if rules.is_empty() => None,
            false => Some((caller, Access::Rules(rules))),
        }
    }

    /// Returns whether any right of the caller comes from a rule with a name. Another user may have that name by now.
    pub fn is_known_by_name(&self, rules: &Rules) -> bool {
        self.caller.as_ref().is_some_and(|caller| self.rules(caller, rules).any(is_named))
    }

    /// Returns the rules that apply to this caller.
    fn rules<'a>(&self, caller: &Caller, rules: &'a Rules) -> impl Iterator<Item = &'a ClientRule> {
        rules.all().filter(|(rule, number)| self.matches(caller, &rule.caller, *number)).map(|(rule, _)| rule)
    }

    fn matches(&self, caller: &Caller, expected: &CallerMatch, number: u32) -> bool {
        match expected {
            CallerMatch::User(_) => caller.uid == number,
            CallerMatch::Group(_) if self.unnamed.is_group(number) => false,
            CallerMatch::Group(_) => {
                self.groups.as_ref().is_some_and(|groups| caller.gid == number || groups.contains(&number))
            }
        }
    }
}

impl Access<'_> {
    /// Returns whether the caller may do more than render and resolve.
    pub fn administers(&self) -> bool {
        matches!(self, Self::All)
    }

    /// Returns whether the caller may render a template for a target. `target` holds the names of the target, the
    /// present one and former ones; `None` means that the target is not known yet, and then the right to any target is
    /// enough.
    pub fn may_render(&self, id: &str, target: Option<&[&str]>) -> bool {
        let Self::Rules(rules) = self else { return true };
        rules.iter().flat_map(|rule| &rule.templates).any(|pattern| {
            pattern.id.matches(id)
                && match (&pattern.target, target) {
                    (Some(pattern), Some(names)) => names.iter().any(|name| pattern.matches(name)),
                    _ => true,
                }
        })
    }

    /// Returns whether the caller may render a template for every target.
    pub fn may_render_any(&self, id: &str) -> bool {
        let Self::Rules(rules) = self else { return true };
        let mut patterns = rules.iter().flat_map(|rule| &rule.templates);
        patterns.any(|pattern| pattern.target.is_none() && pattern.id.matches(id))
    }

    /// Returns whether the caller may resolve a secret by this name. `present` is the secret's present name, if it
    /// exists.
    pub fn may_resolve(&self, name: &SecretName, present: Option<&SecretName>) -> bool {
        let Self::Rules(rules) = self else { return true };
        let allowed = |name: &SecretName| {
            rules.iter().flat_map(|rule| &rule.secrets).any(|pattern| pattern.matches(name.as_str()))
        };
        allowed(name) && present.is_none_or(allowed)
    }
}

/// A caller and its rights under the rules that were in force when its request arrived.
#[derive(Clone, Copy)]
pub struct Principal<'a> {
    /// The user, group, process and executable, for the audit trail.
    pub caller: &'a Caller,
    /// The rights of the caller.
    pub access: &'a Access<'a>,
    /// The rules that grant these rights.
    pub rules: &'a Arc<Rules>,
    /// The peer as reported by the kernel.
    pub peer: &'a Peer,
    /// The request as the audit trail names it: method and path, with placeholders for the parameters in the path.
    pub route: &'static str,
}

impl<'a> Principal<'a> {
    /// Returns the configuration that was in force when the request arrived.
    pub fn config(&self) -> &'a Config {
        &self.rules.config
    }

    /// Decides by the caller's present rights, because the rules may have changed since the request arrived. Take the
    /// snapshot for an answer before you call this: then no answer that the new rules forbid leaves after the change of
    /// the rules was acknowledged.
    ///
    /// # Errors
    /// [`AppError::Forbidden`] if the caller has no rights any more.
    pub fn recheck<T>(&self, app: &App, decide: impl FnOnce(&Access<'_>) -> T) -> Result<T, AppError> {
        let rules = app.rules.load_full();
        if Arc::ptr_eq(&rules, self.rules) {
            return Ok(decide(self.access));
        }
        match self.peer.access(app.own_uid, &rules) {
            Some((_, access)) => Ok(decide(&access)),
            None => Err(AppError::forbidden()),
        }
    }

    /// Checks that the caller still has the right to administer.
    ///
    /// # Errors
    /// [`AppError::Forbidden`] if it does not. The refusal has not been recorded yet.
    pub fn recheck_administers(&self, app: &App) -> Result<(), AppError> {
        if self.recheck(app, |access| access.administers())? { Ok(()) } else { Err(AppError::forbidden()) }
    }
}

/// Returns the path of a process's executable, or nothing if it cannot be read. For the audit trail only: it proves
/// nothing.
fn executable(pid: u32) -> Arc<str> {
    let link = std::fs::read_link(format!("/proc/{pid}/exe"));
    link.map_or_else(|_| Arc::from(""), |path| path.to_string_lossy().replace(char::is_control, "\u{fffd}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(rules: &str) -> Rules {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), rules).unwrap();
        Rules::of_numbers(Arc::new(Config::load(file.path(), |_| None).unwrap()), 0)
    }

    /// The number that the kernel shows for users and groups it cannot name.
    const OVERFLOW: u32 = 65_534;

    fn peer(uid: u32, gid: u32, groups: Option<&[u32]>) -> Peer {
        let caller = Caller { uid, gid, pid: 1, exe: "".into() };
        let unnamed = OverflowIds::of(Some(OVERFLOW), Some(OVERFLOW));
        Peer { caller: Some(caller), groups: groups.map(<[u32]>::to_vec), unnamed }
    }

    #[tokio::test]
    async fn without_rules_only_the_daemons_own_user_may() {
        let (stream, _other) = UnixStream::pair().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let peer = Peer::of(&stream).with_executable();
        let rules = config("");
        let (caller, access) = peer.access(uid, &rules).unwrap();
        assert_eq!(caller.pid, std::process::id());
        assert!(!caller.exe.is_empty() && access.administers());
        let mut groups: Vec<u32> =
            rustix::process::getgroups().unwrap().into_iter().map(rustix::process::Gid::as_raw).collect();
        let mut seen = peer.groups.clone().unwrap();
        groups.sort_unstable();
        seen.sort_unstable();
        assert_eq!(seen, groups);
        assert!(peer.access(uid + 1, &rules).is_none());
        assert!(Peer { caller: None, ..peer }.access(uid, &rules).is_none());
    }

    #[test]
    fn a_rule_is_about_a_user_or_a_group_and_what_is_not_known_is_no() {
        let rules = config(
            "[[client]]\nuid = 7\nsecrets = ['a*']\n[[client]]\ngroup = 70\nsecrets = ['b']\n\
             [[client]]\ngroup = 71\nadmin = true\n[[client]]\nuid = 65534\nadmin = true\n[[client]]\ngroup = 65534\nadmin = true\n",
        );
        let name = |text: &str| text.parse::<SecretName>().unwrap();
        let may = |peer: &Peer, secret: &str| {
            peer.access(0, &rules).is_some_and(|(_, access)| access.may_resolve(&name(secret), None))
        };
        let by_user = peer(7, 7, Some(&[]));
        assert_eq!([may(&by_user, "abc"), may(&by_user, "b")], [true, false]);
        for by_group in [peer(8, 70, Some(&[])), peer(8, 8, Some(&[1, 70]))] {
            assert_eq!([may(&by_group, "abc"), may(&by_group, "b")], [false, true]);
        }
        assert!(may(&peer(7, 70, Some(&[])), "abc") && may(&peer(7, 70, Some(&[])), "b"));
        assert!(may(&peer(9, 9, Some(&[71])), "anything"));
        for nobody in [
            peer(8, 8, Some(&[])),
            peer(8, 70, None),
            peer(OVERFLOW, 0, Some(&[])),
            peer(8, OVERFLOW, Some(&[OVERFLOW])),
        ] {
            assert!(nobody.access(0, &rules).is_none(), "{nobody:?}");
        }
        // Where every user has a name, this number is like any other.
        let named = Peer { unnamed: OverflowIds::of(None, None), ..peer(OVERFLOW, 0, Some(&[])) };
        assert!(named.access(0, &rules).is_some_and(|(_, access)| access.administers()));
        let named = Peer { unnamed: OverflowIds::of(None, None), ..peer(8, OVERFLOW, Some(&[])) };
        assert!(named.access(0, &rules).is_some_and(|(_, access)| access.administers()));
        // A former name gives no access that the present name does not give.
        let (_, access) = by_user.access(0, &rules).unwrap();
        assert!(access.may_resolve(&name("a1"), Some(&name("a2"))));
        assert!(!access.may_resolve(&name("a1"), Some(&name("root-key"))));
        assert!(!access.administers());
    }

    #[test]
    fn the_daemons_own_user_is_bound_by_rules_that_name_it() {
        let others = config("[[client]]\nuid = 7\nsecrets = ['a']\n");
        let own = config("[[client]]\nuid = 0\ntemplates = ['f/a:t', 'f/b']\n");
        let peer = peer(0, 0, Some(&[]));
        assert!(peer.access(0, &others).is_some_and(|(_, access)| access.administers()));
        let (_, access) = peer.access(0, &own).unwrap();
        assert!(!access.administers());
        for (id, target, may) in [
            ("f/a", Some(&["t"][..]), true),
            ("f/a", None, true),
            ("f/a", Some(&["u"]), false),
            ("f/a", Some(&["u", "t"]), true),
            ("f/b", Some(&["u"]), true),
            ("f/c", None, false),
            ("f/a", Some(&["t:u"]), false),
        ] {
            assert_eq!(access.may_render(id, target), may, "{id} {target:?}");
        }
    }
}

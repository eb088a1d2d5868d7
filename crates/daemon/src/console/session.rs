//! Links that work once, and the sessions that they begin.
//!
//! Knows no request and no clock: the caller passes the time. Only the SHA-256 of a link's token and of a session's
//! cookie is kept, and it is compared in constant time.

use std::time::Duration;

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use guillemet_base::random::random;
use guillemet_secret::crypto;
use guillemet_vault::audit::Actor;
use guillemet_vault::usage::Caller;

/// The most unused links, and the most sessions. The oldest link or the session unused for longest gives way to a new
/// one.
const MOST: usize = 16;

/// The lifetimes of links and sessions.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The time after which an unused link expires.
    pub link: Duration,
    /// The time since the last link for which the console stays open, so that an expired link still leads to a page
    /// that says so.
    pub linger: Duration,
    /// The time without use after which a session ends.
    pub idle: Duration,
    /// The age at which a session ends in any case.
    pub longest: Duration,
}

impl Default for Times {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self { link: minutes(1), linger: minutes(10), idle: minutes(30), longest: minutes(12 * 60) }
    }
}

/// Returns a word that cannot be guessed: 256 random bits.
fn random_token() -> String {
    BASE64URL_NOPAD.encode(&random::<32>())
}

/// Returns a host name that cannot be guessed (128 random bits). Cookies ignore ports, so any other server under the
/// same name would get the session's cookie.
pub fn random_host() -> String {
    format!("{}.localhost", BASE32_NOPAD.encode(&random::<16>()).to_ascii_lowercase())
}

/// The hash that is kept of a word.
#[derive(Clone, Copy)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(word: &str) -> Self {
        Self(Sha256::digest(word.as_bytes()).into())
    }

    fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

struct Link {
    token: TokenHash,
    caller: Caller,
    until: Instant,
}

struct Session {
    cookie: TokenHash,
    /// The operator, for the audit trail.
    actor: Actor,
    csrf: String,
    started: Instant,
    used: Instant,
    flash: Option<String>,
}

/// A session as a request sees it.
pub struct SessionView {
    /// The hash that identifies the session.
    pub id: TokenHash,
    /// The operator, for the audit trail.
    pub actor: Actor,
    /// The token that its forms carry.
    pub csrf: String,
}

/// The links and sessions of the console while it is open.
pub struct Sessions {
    times: Times,
    links: Vec<Link>,
    sessions: Vec<Session>,
    /// The operators of ended sessions that [`Sessions::take_ended`] has not returned yet.
    ended: Vec<Actor>,
    last_link: Instant,
}

impl Sessions {
    /// Starts without links and sessions.
    pub fn new(times: Times, now: Instant) -> Self {
        Self { times, links: Vec::new(), sessions: Vec::new(), ended: Vec::new(), last_link: now }
    }

    /// Makes a link for this caller and returns its token.
    pub fn link(&mut self, caller: &Caller, now: Instant) -> String {
        self.expire(now);
        if self.links.len() == MOST {
            self.links.remove(0);
        }
        let token = random_token();
        self.links.push(Link { token: TokenHash::of(&token), caller: caller.clone(), until: now + self.times.link });
        self.last_link = now;
        token
    }

    /// Uses up the link with this token and begins a session. Returns the cookie of the session and its operator, or
    /// `None` if no unused link has the token.
    pub fn log_in(&mut self, token: &str, now: Instant) -> Option<(String, Actor)> {
        self.expire(now);
        let token = TokenHash::of(token);
        let index = self.links.iter().position(|link| link.token.matches(&token))?;
        let link = self.links.remove(index);
        if self.sessions.len() == MOST {
            let stalest = (0..MOST).min_by_key(|index| self.sessions[*index].used)?;
            self.ended.push(self.sessions.remove(stalest).actor);
        }
        let cookie = random_token();
        let actor = Actor::session(&link.caller, &data_encoding::HEXLOWER.encode(&crypto::random::<8>()));
        self.sessions.push(Session {
            cookie: TokenHash::of(&cookie),
            actor: actor.clone(),
            csrf: random_token(),
            started: now,
            used: now,
            flash: None,
        });
        Some((cookie, actor))
    }

    /// Returns the session of a cookie. Requests that a page makes by itself (`active` is false) do not keep it alive.
    pub fn find(&mut self, cookie: &str, active: bool, now: Instant) -> Option<SessionView> {
        self.expire(now);
        let id = TokenHash::of(cookie);
        let session = self.get(id)?;
        if active {
            session.used = now;
        }
        Some(SessionView { id, actor: session.actor.clone(), csrf: session.csrf.clone() })
    }

    /// Sets the message that the next page shows at its top.
    pub fn set_flash(&mut self, id: TokenHash, text: String) {
        if let Some(session) = self.get(id) {
            session.flash = Some(text);
        }
    }

    /// Removes and returns the message for this page, so that it is shown once.
    pub fn take_flash(&mut self, id: TokenHash) -> Option<String> {
        self.get(id)?.flash.take()
    }

    /// Ends the session with this id.
    pub fn log_out(&mut self, id: TokenHash) {
        self.end(|session| session.cookie.matches(&id));
    }

    /// Removes a session that must not begin. It is not reported as ended.
    pub fn forget(&mut self, cookie: &str) {
        let id = TokenHash::of(cookie);
        self.sessions.retain(|session| !session.cookie.matches(&id));
    }

    /// Removes all links and ends all sessions.
    pub fn close(&mut self) {
        self.links.clear();
        self.end(|_| true);
    }

    /// Returns the operators of the sessions that have ended since the last call.
    pub fn take_ended(&mut self, now: Instant) -> Vec<Actor> {
        self.expire(now);
        std::mem::take(&mut self.ended)
    }

    /// Returns whether the console can close: no link or session is left, and the last link expired long enough ago.
    pub fn are_over(&mut self, now: Instant) -> bool {
        self.expire(now);
        self.links.is_empty() && self.sessions.is_empty() && now >= self.last_link + self.times.linger
    }

    fn get(&mut self, id: TokenHash) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.cookie.matches(&id))
    }

    fn expire(&mut self, now: Instant) {
        let Times { idle, longest, .. } = self.times;
        self.links.retain(|link| now < link.until);
        self.end(|session| now >= session.used + idle || now >= session.started + longest);
    }

    fn end(&mut self, is_over: impl Fn(&Session) -> bool) {
        let ended = self.sessions.extract_if(.., |session| is_over(session));
        self.ended.extend(ended.map(|session| session.actor));
    }
}

/// Compares two words in constant time.
pub fn constant_time_eq(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn caller() -> Caller {
        Caller { uid: 7, gid: 7, pid: 7, exe: "/usr/bin/guillemet".into() }
    }

    fn sessions() -> (Sessions, Instant) {
        let now = Instant::now();
        (Sessions::new(Times::default(), now), now)
    }

    #[test]
    fn a_link_works_once_and_for_a_minute() {
        let (mut sessions, now) = sessions();
        let token = sessions.link(&caller(), now);
        assert!(sessions.log_in("x", now).is_none());
        assert!(sessions.log_in(&token, now + MINUTE - Duration::from_millis(1)).is_some());
        assert!(sessions.log_in(&token, now + MINUTE - Duration::from_millis(1)).is_none());
        let late = sessions.link(&caller(), now);
        assert!(sessions.log_in(&late, now + MINUTE).is_none());
    }

    #[test]
    fn a_session_ends_when_it_rests_and_after_twelve_hours() {
        let (mut sessions, now) = sessions();
        let token = sessions.link(&caller(), now);
        let cookie = sessions.log_in(&token, now).unwrap().0;
        assert!(sessions.find("x", true, now).is_none());
        // If it is used every 29 minutes, it lasts for twelve hours.
        let mut at = now;
        while at + 29 * MINUTE < now + 720 * MINUTE {
            at += 29 * MINUTE;
            assert!(sessions.find(&cookie, true, at).is_some(), "{:?}", at - now);
        }
        assert!(sessions.find(&cookie, true, now + 720 * MINUTE).is_none());

        let token = sessions.link(&caller(), now);
        let cookie = sessions.log_in(&token, now).unwrap().0;
        // Requests that a page makes by itself do not keep it alive.
        assert!(sessions.find(&cookie, false, now + 29 * MINUTE).is_some());
        assert!(sessions.find(&cookie, true, now + 30 * MINUTE).is_none());
    }

    #[test]
    fn it_is_over_when_nobody_is_left() {
        let (mut sessions, now) = sessions();
        let token = sessions.link(&caller(), now);
        let cookie = sessions.log_in(&token, now).unwrap().0;
        assert!(!sessions.are_over(now + 29 * MINUTE));
        assert!(sessions.are_over(now + 30 * MINUTE));
        let token = sessions.link(&caller(), now);
        let id = sessions.find(&cookie, true, now).map(|seen| seen.id);
        assert!(id.is_none());
        let cookie = sessions.log_in(&token, now).unwrap().0;
        let id = sessions.find(&cookie, true, now).unwrap().id;
        sessions.log_out(id);
        assert!(sessions.find(&cookie, true, now).is_none());
        assert!(!sessions.are_over(now + 9 * MINUTE));
        assert!(sessions.are_over(now + 10 * MINUTE));
    }

    /// However a session ends, it is reported once, with its operator.
    #[test]
    fn every_session_that_ended_is_told_once() {
        let (mut sessions, now) = sessions();
        let begin = |sessions: &mut Sessions| {
            let token = sessions.link(&caller(), now);
            sessions.log_in(&token, now).unwrap()
        };
        let (cookie, actor) = begin(&mut sessions);
        assert_eq!(actor.caller, Some(caller()));
        let id = sessions.find(&cookie, true, now).unwrap().id;
        assert_eq!(sessions.find(&cookie, true, now).unwrap().actor, actor);
        let word = actor.session.clone().unwrap();
        assert!(word.len() == 16 && !cookie.contains(&word));
        sessions.log_out(id);
        assert_eq!((sessions.take_ended(now), sessions.take_ended(now)), (vec![actor], vec![]));
        let (_, resting) = begin(&mut sessions);
        let ended = sessions.take_ended(now + 30 * MINUTE);
        assert_eq!(ended, [resting]);
        let all: Vec<Actor> = (0..=MOST).map(|_| begin(&mut sessions).1).collect();
        assert_eq!(sessions.take_ended(now), all[..1], "one more than there may be");
        let (cookie, _) = begin(&mut sessions);
        sessions.forget(&cookie);
        sessions.close();
        assert_eq!(sessions.take_ended(now), all[1..]);
    }

    #[test]
    fn there_are_never_more_than_so_many() {
        let (mut sessions, now) = sessions();
        let tokens: Vec<String> = (0..MOST + 1).map(|_| sessions.link(&caller(), now)).collect();
        assert!(sessions.log_in(&tokens[0], now).is_none());
        let first = sessions.log_in(&tokens[1], now).unwrap().0;
        for _ in 0..MOST {
            let token = sessions.link(&caller(), now);
            assert!(sessions.log_in(&token, now + MINUTE / 2).is_some());
        }
        assert!(sessions.find(&first, true, now + MINUTE / 2).is_none());
    }

    #[test]
    fn a_flash_is_said_once() {
        let (mut sessions, now) = sessions();
        let token = sessions.link(&caller(), now);
        let cookie = sessions.log_in(&token, now).unwrap().0;
        let id = sessions.find(&cookie, true, now).unwrap().id;
        sessions.set_flash(id, "done".into());
        assert_eq!(sessions.take_flash(id).as_deref(), Some("done"));
        assert_eq!(sessions.take_flash(id), None);
    }

    #[test]
    fn names_and_words_are_as_long_as_they_have_to_be() {
        assert_eq!(random_host().len(), 26 + ".localhost".len());
        assert_eq!(random_token().len(), 43);
        assert_ne!(random_token(), random_token());
        assert!(constant_time_eq("a", "a") && !constant_time_eq("a", "b") && !constant_time_eq("a", "ab"));
    }
}

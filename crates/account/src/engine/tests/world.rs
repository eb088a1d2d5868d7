//! Several devices, and a server between them.

use super::super::*;
use super::daemon::{Daemon, KEEP, shown};
use super::server::{Refused, Server};
use crate::seal::open_wrap;
use guillemet_base::names::Millis;
use guillemet_base::random::random;
use guillemet_wire::{AccountId, ChangesPage, PublicKey};

pub struct World {
    pub server: Server,
    pub devices: Vec<Daemon>,
    pub clock: Millis,
}

/// The reasons why a push did not get through.
#[derive(Debug)]
#[expect(dead_code, reason = "shown where a test fails")]
pub enum Failed {
    Unprepared(PushError),
    Refused(Refused),
}

/// Returns a device that is in no account yet.
pub fn me(account: AccountId) -> DeviceIdentity {
    DeviceIdentity { account, device: DeviceId(random()), secret: DeviceSecret::random() }
}

/// Returns the wish to admit a device.
pub fn admit(me: &DeviceIdentity, name: &str, is_recovery: bool) -> Proposal {
    Proposal::Admit { id: me.device, key: PublicKey(me.secret.public()), name: name.into(), is_recovery, api_key: None }
}

impl World {
    /// Returns an account with one device, which had these secrets before.
    pub fn founded(existing: &[(&str, &str)]) -> Self {
        let account = AccountId(random());
        let me = me(account);
        let server = Server::new(account, me.device);
        let mut world = Self { server, devices: vec![Daemon::new("A", Engine::create(me, KEEP))], clock: 1000 };
        for (name, value) in existing {
            let now = world.tick();
            world.devices[0].create(name, value, now).unwrap();
        }
        assert!(world.push(0, &Proposal::Found { name: "A".into() }).unwrap());
        world
    }

    /// Returns an account with this many devices, called A, B, C…, that agree.
    pub fn of(devices: usize, existing: &[(&str, &str)]) -> Self {
        let mut world = Self::founded(existing);
        for name in ["B", "C", "D", "E", "F"].into_iter().take(devices - 1) {
            world.join(0, name, false);
        }
        world.quiet();
        world
    }

    pub fn tick(&mut self) -> Millis {
        self.clock += 1000;
        self.clock
    }

    /// Lets a device join on the invitation of another one.
    pub fn join(&mut self, inviter: usize, name: &str, is_recovery: bool) -> usize {
        let me = me(self.server.account);
        self.wish(inviter, &admit(&me, name, is_recovery)).unwrap();
        self.devices.push(self.joined(inviter, me, name));
        let index = self.devices.len() - 1;
        self.pull(index).unwrap();
        index
    }

    /// Returns the device as it begins with the wrap that it was admitted with.
    pub fn joined(&self, inviter: usize, me: DeviceIdentity, name: &str) -> Daemon {
        let wrap = self.server.wrap(me.device).unwrap();
        let inviter = PublicKey(self.devices[inviter].engine.me().secret.public());
        let (key, anchor) = open_wrap(me.account, (me.device, &me.secret), &inviter, &wrap).unwrap();
        Daemon::new(name, Engine::join(me, key, anchor, KEEP))
    }

    /// Returns the answer to a pull.
    pub fn answer(&self, index: usize) -> Vec<ChangesPage> {
        let device = &self.devices[index];
        self.server.all_changes(device.id(), device.engine.cursor()).unwrap()
    }

    pub fn pull(&mut self, index: usize) -> Result<(), PullError> {
        let pages = self.answer(index);
        self.devices[index].pulled(&pages)
    }

    /// Tries to push once. Returns whether there was anything to push.
    pub fn push(&mut self, index: usize, proposal: &Proposal) -> Result<bool, Failed> {
        let now = self.tick();
        let Some(candidate) = self.devices[index].prepare(proposal, now).map_err(Failed::Unprepared)? else {
            return Ok(false);
        };
        self.send(index, &candidate).map_err(Failed::Refused)?;
        self.devices[index].accepted(candidate);
        Ok(true)
    }

    /// Sends a push without handling the answer.
    pub fn send(&mut self, index: usize, candidate: &PreparedPush) -> Result<HeadRef, Refused> {
        self.server.push(self.devices[index].id(), candidate.onto.hash, &candidate.push)
    }

    /// Pulls, pushes what is due, and then pushes the wish.
    pub fn wish(&mut self, index: usize, proposal: &Proposal) -> Result<bool, Failed> {
        self.sync(index);
        self.push(index, proposal)
    }

    /// Pulls, and pushes all that is due.
    pub fn sync(&mut self, index: usize) {
        self.pull(index).unwrap_or_else(|refusal| panic!("{}: {refusal}", self.devices[index].name));
        for _ in 0..100 {
            if !self.devices[index].is_due() {
                return;
            }
            self.push(index, &Proposal::Edits).unwrap();
        }
        panic!("{}: there is always something to push", self.devices[index].name);
    }

    /// Syncs all devices until none has anything to push, and then checks that they agree.
    pub fn quiet(&mut self) {
        for _ in 0..20 {
            let before = self.server.newest();
            for index in 0..self.devices.len() {
                self.sync(index);
            }
            if self.server.newest() == before {
                return self.agree();
            }
        }
        panic!("it never becomes quiet");
    }

    /// Checks that all devices show the same state, and that it is the account's.
    pub fn agree(&self) {
        let newest = self.server.newest().unwrap();
        let first = shown(self.devices[0].engine.view().secrets());
        for device in &self.devices {
            device.check();
            let (head, hash) = device.engine.head().unwrap();
            assert_eq!((head.seq, hash), (newest.seq, newest.hash), "{}: the head", device.name);
            assert_eq!(shown(device.engine.view().secrets()), first, "{}: the view", device.name);
            assert_eq!(shown(device.engine.base().secrets()), first, "{}: the account", device.name);
            assert_eq!(device.engine.pending().len(), 0, "{}: nothing is pending", device.name);
        }
    }

    /// Deletes a secret, as the daemon of this device does.
    pub fn delete(&mut self, index: usize, name: &str) -> Result<bool, Failed> {
        let id = self.devices[index].id_of(name);
        self.wish(index, &Proposal::Delete(id))
    }
}

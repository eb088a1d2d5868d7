//! Many devices on one server: idle ones, and ones that receive a change.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use guillemet_account::client::{AccountClient, HeadEvents};
use guillemet_base::random::random;
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{AccountId, DeviceId, Hash, PullCursor, Push, Sealed, SealedHead};

use super::super::RENDER;
use super::super::load::{Server, request};
use super::super::report::Report;
use super::place::{self, AccountServer, Member};
use super::{bare, sync};

/// A little more than the time after which the server ends a silent connection for requests.
const SILENT: Duration = Duration::from_secs(80);

/// Measures one change with real daemons, each with a vault on the same disk: until the last one renders it.
pub fn told(report: &mut Report, devices: usize) {
    let server = AccountServer::start();
    let office = Member::new(100);
    office.create(&server.create_account());
    let others: Vec<Member> = (0..devices)
        .map(|_| {
            let other = Member::new(0);
            other.join(&office.invite());
            other.wait_until_it_has(100);
            other
        })
        .collect();
    let rounds = 20;
    let (first, last) = tell(&office, &others, rounds);
    report.spread(&format!("one change, {devices} daemons on this machine: until the first renders it"), &first);
    report.spread("  until the last renders it", &last);
}

/// Returns how long after each acknowledged change the first and the last device rendered it.
fn tell(office: &Member, others: &[Member], rounds: usize) -> (Vec<Duration>, Vec<Duration>) {
    let (told, arrivals) = channel();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        for other in others {
            let (mut events, mut line) = (Listening::new(other), other.line());
            // The first render in a home compiles the plugins.
            line.ask("GET", RENDER, b"");
            let told = told.clone();
            scope.spawn(move || {
                for round in 0..rounds {
                    // Wait for the daemon's event instead of polling, because polling would slow down the others.
                    events.next();
                    assert!(sync::renders(&mut line, &sync::value(round)), "what was told is rendered");
                    told.send(Instant::now()).expect("somebody waits for it");
                }
            });
        }
        let mut line = office.line();
        for round in 0..rounds {
            std::thread::sleep(Duration::from_millis(500));
            sync::set(&mut line, sync::ROTATED, &sync::value(round));
            let acknowledged = Instant::now();
            let mut times: Vec<Duration> = arrivals
                .iter()
                .take(others.len())
                .map(|arrived: Instant| arrived.saturating_duration_since(acknowledged))
                .collect();
            times.sort();
            first.push(times[0]);
            last.push(times[times.len() - 1]);
        }
    });
    first.sort();
    last.sort();
    (first, last)
}

/// The event stream of a daemon.
struct Listening(UnixStream, Vec<u8>);

impl Listening {
    fn new(member: &Member) -> Self {
        let mut stream = UnixStream::connect(member.home.socket()).expect("the daemon listens");
        stream.write_all(&request("GET", "/v1/events", b"")).expect("the request leaves");
        let mut listening = Self(stream, Vec::new());
        listening.until(b": ready");
        listening
    }

    /// Waits until a secret has changed.
    fn next(&mut self) {
        self.until(b"event: secret");
    }

    fn until(&mut self, text: &[u8]) {
        let mut chunk = [0; 4096];
        loop {
            if let Some(at) = self.1.windows(text.len()).position(|window| window == text) {
                self.1.drain(..at + text.len());
                return;
            }
            let len = self.0.read(&mut chunk).expect("events");
            assert!(len > 0, "the stream ended");
            self.1.extend_from_slice(&chunk[..len]);
        }
    }
}

/// Measures devices that have pulled, that listen, and that have nothing to push. The server ends a daemon's connection
/// for requests after some silence; the event stream stays.
pub fn idle(report: &mut Report, devices: usize, quick: bool) {
    let server = AccountServer::start();
    let runtime = place::runtime();
    let (account, keys) = runtime.block_on(enrol(&server, devices));
    let before = server.memory().1;
    let clients: Vec<AccountClient> = keys.iter().map(|key| server.client(key)).collect();
    let listen = async |client: &AccountClient| {
        let mut events = client.events(account).await.expect("a stream");
        events.next().await.expect("the newest head");
        let known = PullCursor { heads_after: 1, records_after: 1, after_id: None };
        client.changes(account, &known, 1000).await.expect("nothing new");
        events
    };
    let mut streams: Vec<HeadEvents> = clients.iter().map(|client| runtime.block_on(listen(client))).collect();
    let for_each = |memory: u64| memory.saturating_sub(before) / devices as u64;
    let connected = for_each(server.memory().1);

    let (cpu, begin) = (server.cpu(), Instant::now());
    // The events that show that the server is alive have to be read.
    let read = |mut events: HeadEvents| runtime.spawn(async move { while events.next().await.is_ok() {} });
    let reading: Vec<_> = streams.drain(..).map(read).collect();
    std::thread::sleep(if quick { Duration::from_secs(1) } else { SILENT });
    let share = (server.cpu() - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
    let (all, own) = server.memory();
    assert!(reading.iter().all(|reading| !reading.is_finished()), "every device listens");
    report.size(&format!("server with {devices} idle devices: resident"), all);
    report.bytes("  for each device, when it has just connected: a stream and a connection for requests", connected);
    report.bytes(&format!("  for each device, {} s later", begin.elapsed().as_secs()), for_each(own));
    report.share("  processor time meanwhile", share);
    report.bytes("  a bare TLS server, for each connection", bare_memory(&runtime, devices));
}

/// Returns the memory that a bare server needs for each of this many connections.
fn bare_memory(runtime: &tokio::runtime::Runtime, connections: usize) -> u64 {
    let bare = bare::start();
    runtime.block_on(bare.client().current()).expect("an answer");
    let before = bare.process.memory().1;
    let clients: Vec<AccountClient> = (0..connections).map(|_| bare.client()).collect();
    for client in &clients {
        runtime.block_on(client.current()).expect("an answer");
    }
    bare.process.memory().1.saturating_sub(before) / connections as u64
}

/// Creates an account with this many devices. Its boxes contain random bytes, because nothing opens them.
async fn enrol(server: &AccountServer, devices: usize) -> (AccountId, Vec<ApiKey>) {
    let creation = server.creation();
    let account = creation.address.account();
    let keys: Vec<ApiKey> = (0..devices).map(|_| ApiKey::random()).collect();
    let push = Push {
        head: SealedHead { seq: 1, epoch: 1, prev: Hash::default(), sealed: Sealed(random::<1024>().to_vec()) },
        records: Vec::new(),
        wraps: Vec::new(),
        link: None,
        keys: keys.iter().map(|key| key.device_key(DeviceId(random()))).collect(),
        admitted: Vec::new(),
        revoked: Vec::new(),
    };
    server.client(&creation.api_key).push(account, &push, None).await.expect("a first head");
    (account, keys)
}

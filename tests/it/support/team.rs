//! The machines of one account: real daemons and a real server, and between each daemon and the server a cable that can
//! be cut.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use super::account::{Place, Server};
use super::daemon::{Answer, Guillemet, try_ask};
use super::relay::Relay;
use guillemet_testing::wait::{PATIENCE, until};

/// The connection between a machine and the server.
pub struct Cable {
    pub address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// The server's address; `None` while the server does not run.
    to: Option<SocketAddr>,
    is_cut: bool,
    is_gone: bool,
    open: Vec<TcpStream>,
}

impl Inner {
    fn hang_up(&mut self) {
        for stream in self.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Connects a caller to the server, unless the cable is cut or there is no server.
    fn connect(&mut self, caller: &TcpStream) -> Option<TcpStream> {
        let to = self.to.filter(|_| !self.is_cut)?;
        let called = TcpStream::connect(to).ok()?;
        for stream in [caller, &called] {
            let _ = stream.set_nodelay(true);
            self.open.push(stream.try_clone().ok()?);
        }
        Some(called)
    }
}

impl Cable {
    fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Inner { to: Some(to), is_cut: false, is_gone: false, open: Vec::new() };
        let inner = Arc::new(Mutex::new(inner));
        let known = Arc::clone(&inner);
        std::thread::spawn(move || {
            for caller in listener.incoming().map_while(Result::ok) {
                let mut inner = locked(&known);
                if inner.is_gone {
                    return;
                }
                if let Some(called) = inner.connect(&caller) {
                    pass(caller.try_clone().unwrap(), called.try_clone().unwrap());
                    pass(called, caller);
                }
            }
        });
        Self { address, inner }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        locked(&self.inner)
    }

    /// Ends every connection, and allows no new one.
    pub fn cut(&self) {
        let mut inner = self.inner();
        inner.is_cut = true;
        inner.hang_up();
    }

    pub fn mend(&self) {
        self.inner().is_cut = false;
    }

    /// Leads to another address from now on, and ends every connection.
    fn lead(&self, to: Option<SocketAddr>) {
        let mut inner = self.inner();
        inner.to = to;
        inner.hang_up();
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let mut inner = self.inner();
        inner.is_gone = true;
        inner.hang_up();
        drop(inner);
        let _ = TcpStream::connect(self.address);
    }
}

fn locked(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies bytes from one stream to the other, until either ends.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(len) = from.read(&mut buffer)
            && len > 0
            && to.write_all(&buffer[..len]).is_ok()
        {}
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
}

/// A server, or two on one database, and the cables to them.
pub struct Team {
    pub place: Place,
    /// Further arguments for servers that are started again.
    pub arguments: &'static [&'static str],
    servers: Vec<Server>,
    cables: Vec<Arc<Cable>>,
}

/// A daemon with its cable and its name in the account.
pub struct Machine {
    pub guillemet: Guillemet,
    pub cable: Arc<Cable>,
    pub name: &'static str,
}

impl Deref for Machine {
    type Target = Guillemet;

    fn deref(&self) -> &Guillemet {
        &self.guillemet
    }
}

impl DerefMut for Machine {
    fn deref_mut(&mut self) -> &mut Guillemet {
        &mut self.guillemet
    }
}

fn address(server: &Server) -> SocketAddr {
    server.url.strip_prefix("https://").unwrap().parse().unwrap()
}

impl Team {
    /// Starts a server without accounts. On PostgreSQL there are two, and every other machine uses the second.
    pub fn at(place: Place) -> Self {
        let servers = start(&place, &[]);
        Self { place, arguments: &[], servers, cables: Vec::new() }
    }

    /// Makes two machines in one account, in sync.
    pub fn pair(place: Place) -> (Self, Machine, Machine) {
        let mut team = Self::at(place);
        let (mut a, mut b) = (team.machine("alpha"), team.machine("beta"));
        a.run();
        b.run();
        team.found(&a);
        join(&a, &b);
        in_sync(&[&a, &b]);
        (team, a, b)
    }

    /// Makes a machine that is in no account and whose daemon does not run yet.
    pub fn machine(&mut self, name: &'static str) -> Machine {
        self.machine_of(name, Guillemet::init_anew())
    }

    pub fn machine_of(&mut self, name: &'static str, guillemet: Guillemet) -> Machine {
        let server = &self.servers[self.cables.len() % self.servers.len()];
        let cable = Arc::new(Cable::to(address(server)));
        self.cables.push(Arc::clone(&cable));
        Machine { guillemet, cable, name }
    }

    /// Returns the code that makes a new account.
    pub fn code(&self) -> String {
        let made = self.place.admin(&["create-account", "--url", &self.servers[0].url]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }

    /// Makes an account from a machine's vault.
    pub fn found(&self, machine: &Machine) {
        let begun = machine.begin(&self.code(), json!({}));
        assert_eq!(begun.status, 201, "{}", begun.text());
        assert_eq!(begun.json()["state"], "connected", "{}", begun.text());
    }

    /// Ends every server, with SIGKILL if `at_once` and with SIGTERM otherwise.
    pub fn end_server(&mut self, at_once: bool) {
        for server in self.servers.drain(..) {
            if at_once {
                server.kill();
            } else {
                assert!(server.stop(), "the server did not end well");
            }
        }
        self.cables.iter().for_each(|cable| cable.lead(None));
    }

    /// Puts a relay between a machine and its server, until servers are ended or started again.
    pub fn relay(&self, machine: &Machine) -> Relay {
        let to = machine.cable.inner().to.expect("a server");
        let relay = Relay::to(to, self.place.folder.path());
        machine.cable.lead(Some(relay.address));
        relay
    }

    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    pub fn signal_servers(&self, signal: Signal) {
        for server in &self.servers {
            kill_process(server.pid(), signal).unwrap();
        }
    }

    pub fn start_server(&mut self) {
        self.servers = start(&self.place, self.arguments);
        for (cable, server) in self.cables.iter().zip(self.servers.iter().cycle()) {
            cable.lead(Some(address(server)));
        }
    }
}

fn start(place: &Place, arguments: &[&str]) -> Vec<Server> {
    let mut servers = vec![Server::start_with(place, arguments)];
    if place.postgres.is_some() {
        // Both servers show the same certificate, as servers behind one name do.
        let folder = place.folder.path();
        std::fs::create_dir_all(folder.join("second")).unwrap();
        for file in ["account.crt", "account.key"] {
            std::fs::copy(folder.join(file), folder.join("second").join(file)).unwrap();
        }
        servers.push(Server::second(place));
    }
    servers
}

/// Lets a machine join another's account, with an invitation from the other.
pub fn join(inviter: &Machine, machine: &Machine) {
    let joined = machine.begin(&inviter.invite(), json!({}));
    assert_eq!(joined.status, 201, "{}", joined.text());
    assert_eq!(joined.json()["state"], "connected", "{}", joined.text());
}

/// Waits until all machines are connected, have nothing to send, and know the same head.
pub fn in_sync(machines: &[&Machine]) {
    let begun = Instant::now();
    loop {
        let all: Vec<Value> = machines.iter().map(|machine| machine.account()).collect();
        let words = &all[0]["words"];
        let is_in_sync =
            |status: &Value| status["state"] == "connected" && status["pending"] == 0 && status["words"] == *words;
        if all.iter().all(is_in_sync) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "they do not come together: {all:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A secret as one machine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub id: String,
    pub enabled: bool,
    /// The value; `None` if the secret is disabled.
    pub value: Option<String>,
    pub version: u64,
    pub former_names: Vec<String>,
}

impl Machine {
    /// Makes or joins an account, through the cable.
    pub fn begin(&self, code: &str, more: Value) -> Answer {
        let mut body = json!({"code": code, "name": self.name, "server": format!("https://{}", self.cable.address)});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("/v1/account", &body)
    }

    pub fn invite(&self) -> String {
        let made = self.post("/v1/account/invitations", &json!({}));
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()["code"].as_str().unwrap().to_owned()
    }

    /// Returns the machine's account status.
    pub fn account(&self) -> Value {
        self.get("/v1/account").json()
    }

    /// Waits until the account status has this state and code.
    pub fn stands(&self, state: &str, code: Option<&str>) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.account();
            if status["state"] == state && status["code"] == json!(code) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "not {state} {code:?} but {status:#}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the notices for the user.
    pub fn notices(&self) -> Vec<String> {
        let notices = self.account()["notices"].as_array().cloned().unwrap_or_default();
        notices.iter().map(|notice| notice["message"].as_str().unwrap().to_owned()).collect()
    }

    pub fn show(&self, name: &str) -> Value {
        self.get(&format!("/v1/secrets/{name}")).json()
    }

    /// Returns the value of a secret, or `None` if it cannot be resolved.
    pub fn value(&self, name: &str) -> Option<String> {
        let answer = self.post("/v1/resolve", &json!({"secrets": [name]}));
        assert!(matches!(answer.status, 200 | 409), "{}", answer.text());
        answer.json()["secrets"][name].as_str().map(str::to_owned)
    }

    pub fn change(&self, name: &str, change: Value) {
        let answer = self.ask("PATCH", &format!("/v1/secrets/{name}"), &[], change.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn rotate(&self, name: &str, value: &str) {
        self.change(name, json!({"value": value}));
    }

    pub fn roll_back(&self, name: &str, version: u64) {
        let answer = self.post(&format!("/v1/secrets/{name}/rollback"), &json!({"version": version}));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub fn delete(&self, name: &str) -> Answer {
        self.ask("DELETE", &format!("/v1/secrets/{name}"), &[], b"")
    }

    /// Deletes a secret that a template referenced until a moment ago. Repeats that until it succeeds, because a
    /// vanished file counts for two seconds and other devices have to learn of it.
    pub fn delete_in_time(&self, name: &str) {
        until("it can be deleted", || {
            let answer = self.delete(name);
            assert!(matches!(answer.status, 204 | 409), "{}", answer.text());
            (answer.status == 204).then_some(())
        });
    }

    /// Writes a template that references one secret.
    pub fn write_template(&self, template: &str, secret: &str) {
        self.write(&format!("cal-com/{template}.toml"), &format!("api_key = \"<< secret '{secret}' >>\"\n"));
    }

    pub fn remove_template(&self, template: &str) {
        std::fs::remove_file(self.path("templates/cal-com").join(format!("{template}.toml"))).unwrap();
    }

    pub fn render(&self, template: &str) -> Answer {
        self.get(&format!("/v1/render/cal-com/{template}?target=dotenv"))
    }

    /// Reports whether the rendered template contains this value.
    pub fn renders(&self, template: &str, value: &str) -> bool {
        let answer = self.render(template);
        answer.status == 200 && answer.text().contains(value)
    }

    /// Returns every secret of the machine, by name.
    pub fn holds(&self) -> BTreeMap<String, Held> {
        let listed = self.get("/v1/secrets?limit=1000").json();
        let items: Vec<&Value> =
            listed["items"].as_array().unwrap().iter().filter(|item| !item["id"].is_null()).collect();
        let active: Vec<&Value> =
            items.iter().filter(|item| item["enabled"] == true).map(|item| &item["name"]).collect();
        let resolved = self.post("/v1/resolve", &json!({"secrets": active}));
        assert!(active.is_empty() || resolved.status == 200, "{}", resolved.text());
        let values = resolved.json()["secrets"].clone();
        let held = |item: &&Value| {
            let name = item["name"].as_str().unwrap().to_owned();
            let held = Held {
                id: item["id"].as_str().unwrap().to_owned(),
                enabled: item["enabled"].as_bool().unwrap(),
                value: values[&name].as_str().map(str::to_owned),
                version: item["version"].as_u64().unwrap(),
                former_names: serde_json::from_value(item["former_names"].clone()).unwrap(),
            };
            (name, held)
        };
        items.iter().map(held).collect()
    }

    /// Sends a request while the daemon may be killed. Returns `None` if there is no answer.
    pub fn try_ask(&self, method: &str, path: &str, body: &Value) -> Option<Answer> {
        try_ask(&self.path("run/guillemet.sock"), method, path, &[], body.to_string().as_bytes()).ok()
    }

    /// Runs a command that has to succeed, with `input` on standard input. Returns its standard output.
    pub fn done(&self, arguments: &[&str], input: &str) -> String {
        let output = self.command_with(arguments, input.as_bytes());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

//! How an account begins, how a machine is invited and comes in, and how one comes back from a recovery code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::{Contact, Trouble, blocking, steps};
use crate::account::api_key::ApiKey;
use crate::account::client::{Client, ClientError};
use crate::account::code::{Code, Creation, Invitation, Place, Recovery};
use crate::account::engine::{Engine, Me, References, Wish, Written};
use crate::account::join as joins;
use crate::account::seal::{EpochKey, open_wrap};
use crate::account::wire::{
    AccountId, Changes, DeviceId, Hash, INVITE_SECONDS, Invite, Newest, PublicKey, SealedHead, Wrap,
};
use crate::account::words::words;
use crate::app::App;
use crate::inventory::{AccountError, Facts, Invited, SameName};
use crate::names::{Millis, SecretName};
use crate::resolve::now;
use crate::vault::audit::{Actor, Change};
use crate::vault::crypto::{self, DeviceSecret, Key};
use crate::vault::usage::ChangeKind;

/// How long a machine waits to be let in.
const WAIT: Duration = Duration::from_secs(60);
/// How often it looks, at first and later.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A machine that has been let in and knows everything, and is not part of the account yet.
pub struct Joining {
    engine: Option<Engine>,
    facts: Facts,
    records: Vec<Written>,
    /// The code it came with: whoever decides about names has it too.
    code: Hash,
}

/// What somebody wants who brings a machine into an account.
pub struct Wanted {
    /// What the machine is called.
    pub name: String,
    /// Where the server is, if not where the code says.
    pub url: Option<String>,
    /// What becomes of secrets that are on both sides, by name.
    pub same_names: BTreeMap<String, SameName>,
    /// The same of all others.
    pub otherwise: Option<SameName>,
}

impl Wanted {
    fn decide(&self, name: &SecretName) -> Option<SameName> {
        let named = self.same_names.iter().find(|(named, _)| name.as_str().eq_ignore_ascii_case(named));
        named.map(|(_, decided)| *decided).or(self.otherwise)
    }

    fn place(&self, place: &Place) -> Result<Place, Trouble> {
        let url = self.url.as_deref().unwrap_or(place.url()).trim_end_matches('/');
        Place::new(place.account(), url, place.pin().copied()).map_err(|error| Trouble::Other(error.to_string()))
    }
}

fn facts(place: &Place, api_key: &ApiKey, name: &str) -> Facts {
    Facts {
        url: place.url().to_owned(),
        pin: place.pin().copied().map(Hash),
        api_key: api_key.expose().to_owned(),
        name: name.to_owned(),
        stopped: None,
        invited: Vec::new(),
        usage_counter: 0,
    }
}

/// Opens the way to a server: it looks at the machine's certificates, which blocks.
async fn client(place: &Place, api_key: Option<&ApiKey>) -> Result<Client, Trouble> {
    let (url, pin) = (place.url().to_owned(), place.pin().copied().map(Hash));
    let api_key = api_key.map(|key| ApiKey::parse(key.expose())).transpose();
    let api_key = api_key.map_err(|error| Trouble::Other(error.to_string()))?;
    let opened = tokio::task::spawn_blocking(move || Client::new(&url, pin, api_key.as_ref())).await;
    Ok(opened.map_err(|_| Trouble::Other("the way to the server could not be worked out".into()))??)
}

fn former_versions(app: &App) -> usize {
    app.config.load().former_versions
}

/// Makes a new account of this vault.
///
/// # Errors
/// `Trouble`; this vault is as it was.
pub async fn create(app: &Arc<App>, actor: &Actor, code: Creation, wanted: &Wanted) -> Result<(), Trouble> {
    let _turn = app.account.turn.lock().await;
    if app.inventory.account().is_some() {
        return Err(AccountError::Already.into());
    }
    let place = wanted.place(&code.place)?;
    let (device, api_key) = (DeviceId(crypto::random()), ApiKey::random());
    let me = Me { account: place.account(), device, secret: DeviceSecret::random() };
    let mut engine = Engine::found(me, former_versions(app));
    let found = engine.prepare(&Wish::Found { name: wanted.name.clone() }, &References::default(), now());
    let mut candidate =
        found.map_err(AccountError::from)?.ok_or_else(|| Trouble::Other("an account needs a first head".into()))?;
    candidate.push.keys.push(api_key.device_key(device));
    let client = client(&place, Some(&code.api_key)).await?;
    let newest = client.push(place.account(), &candidate.push, None).await.map_err(|error| match error {
        ClientError::Conflict(_) | ClientError::Unauthorized => {
            Trouble::Other("this code was used before; `guillemet account admin create-account` makes another".into())
        }
        error => error.into(),
    })?;
    if newest != candidate.newest {
        return Err(Trouble::Other("the server took another head than was sent; do not trust it".into()));
    }
    let records = engine.accepted(candidate).records;
    let facts = facts(&place, &api_key, &wanted.name);
    let begun = Change::new(ChangeKind::AccountCreated, actor, now());
    begin(app, Joining { engine: Some(engine), facts, records, code: Hash::default() }, wanted, begun).await
}

/// Makes the vault part of the account. Where names are on both sides and nobody has decided, it waits.
async fn begin(app: &Arc<App>, mut joining: Joining, wanted: &Wanted, begun: Change) -> Result<(), Trouble> {
    let Joining { engine, facts, records, .. } = &mut joining;
    let begun = app.inventory.account_begin(engine, facts, records, begun, |name| wanted.decide(name));
    match begun {
        Ok(released) => released.wait().await,
        Err(error) => {
            if matches!(error, AccountError::SameNames(_)) {
                *app.account.joining() = Some(joining);
            }
            return Err(error.into());
        }
    }
    app.account.set(Contact::Offline(None));
    app.account.changed.notify_one();
    Ok(())
}

/// Takes up a machine that was let in with this code before, and waits for a word about names.
fn take_waiting(app: &App, code: &Hash) -> Option<Joining> {
    let mut waiting = app.account.joining();
    if waiting.as_ref().is_some_and(|waiting| waiting.code == *code) { waiting.take() } else { None }
}

fn code_hash(secret: &[u8]) -> Hash {
    Hash::of(&[b"guillemet joining\0", secret])
}

/// An invitation for one machine.
///
/// # Errors
/// `Trouble`: the server has to know of it.
pub async fn invite(app: &Arc<App>, actor: &Actor) -> Result<(Zeroizing<String>, u64), Trouble> {
    let client = app.account.client(&app.inventory).await?;
    let state = app.inventory.account().ok_or(AccountError::None)?;
    let (secret, token) = (Zeroizing::new(crypto::random::<16>()), Zeroizing::new(crypto::random::<32>()));
    let invite = Invite { token_hash: Hash::of(&[token.as_slice()]), expires_in: INVITE_SECONDS };
    client.invite(state.me.0, &invite).await?;
    let invited = Invited { secret: HEXLOWER.encode(&*secret), until: now() + INVITE_SECONDS * 1000 };
    let made = Change::new(ChangeKind::DeviceInvited, actor, now());
    blocking(app, move |inventory| {
        inventory.change_facts(&[made], |facts| {
            facts.invited.retain(|invited| invited.until > now());
            facts.invited.push(invited);
        })
    })
    .await?;
    let inviter_key = app.inventory.with_engine(|engine| PublicKey(engine.me().secret.public()))?;
    let place = Place::new(state.me.0, &state.facts.url, state.facts.pin.map(|pin| pin.0));
    let place = place.map_err(|error| Trouble::Other(error.to_string()))?;
    let code = Code::Invite(Invitation { place, inviter: state.me.1, inviter_key, secret, token });
    Ok((code.text(), INVITE_SECONDS))
}

/// Lets those in that were invited from here.
pub(super) async fn admit(app: &Arc<App>, client: &Arc<Client>) -> Result<(), Trouble> {
    let Some(state) = app.inventory.account() else { return Ok(()) };
    let mut invited: Vec<Invited> = state.facts.invited.into_iter().filter(|invited| invited.until > now()).collect();
    if invited.is_empty() {
        return Ok(());
    }
    let my_key = app.inventory.with_engine(|engine| PublicKey(engine.me().secret.public()))?;
    for enrolment in client.enrolments(state.me.0).await? {
        let known = invited.iter().find_map(|invited| {
            let secret: [u8; 16] = HEXLOWER.decode(invited.secret.as_bytes()).ok()?.try_into().ok()?;
            let name = joins::verify(&secret, state.me.0, &my_key, &enrolment).ok()?;
            Some((invited.secret.clone(), name))
        });
        let id = enrolment.key.device;
        let Some((used, name)) = known else {
            // Of another device's invitation, or of none: its token ends by itself.
            tracing::warn!(device = %id, "a device wants to join that was not invited from here");
            continue;
        };
        // For one machine, whatever the server says.
        invited.retain(|invited| invited.secret != used);
        let wish = Wish::Admit { id, key: enrolment.public_key, name: name.clone(), paper: false, api_key: None };
        let _turn = app.account.turn.lock().await;
        steps::push(app, client, &Arc::new(wish), &Actor::own()).await?;
        blocking(app, move |inventory| {
            inventory.change_facts(&[], |facts| facts.invited.retain(|invited| invited.secret != used))
        })
        .await?;
        tracing::info!(device = %id, name, "a device has joined");
    }
    Ok(())
}

/// Joins the account of an invitation.
///
/// # Errors
/// `Trouble`; `SameNames` where somebody has to decide first, and asks again with the same code.
pub async fn join(app: &Arc<App>, actor: &Actor, code: Invitation, wanted: &Wanted) -> Result<(), Trouble> {
    let _turn = app.account.turn.lock().await;
    let begun = Change::new(ChangeKind::AccountJoined, actor, now());
    if app.inventory.account().is_some() {
        return Err(AccountError::Already.into());
    }
    let hash = code_hash(&*code.secret);
    if let Some(waiting) = take_waiting(app, &hash) {
        return begin(app, waiting, wanted, begun).await;
    }
    let place = wanted.place(&code.place)?;
    let account = place.account();
    let (device, secret, api_key) = (DeviceId(crypto::random()), DeviceSecret::random(), ApiKey::random());
    let enrolment = joins::hello(&code, device, PublicKey(secret.public()), &wanted.name, &api_key);
    let client = client(&place, Some(&api_key)).await?;
    client.enrol(account, &code.token, &enrolment).await?;
    let wrap = admitted(&client, account).await?;
    if wrap.sender != code.inviter {
        return Err(Trouble::Other(
            "the key of the account comes from another device than the one that invited; do not trust this server"
                .into(),
        ));
    }
    let opened = open_wrap(account, (device, &secret), &code.inviter_key, &wrap);
    let (key, anchor) = opened.map_err(|error| Trouble::Other(error.to_string()))?;
    let engine = Engine::join(Me { account, device, secret }, key, anchor, former_versions(app));
    let (engine, records) = first_pull(&client, engine).await?;
    let facts = facts(&place, &api_key, &wanted.name);
    begin(app, Joining { engine: Some(engine), facts, records, code: hash }, wanted, begun).await
}

/// Waits until this machine is let in.
async fn admitted(client: &Client, account: AccountId) -> Result<Wrap, Trouble> {
    let (until, mut look) = (Instant::now() + WAIT, LOOK.0);
    loop {
        if let Some(wrap) = client.wrap(account).await? {
            return Ok(wrap);
        }
        if Instant::now() > until {
            return Err(Trouble::Other(
                "the machine that invited this one did not let it in: its daemon has to run and be connected (`guillemet account status` there). Invite again".into(),
            ));
        }
        // There is nothing that tells a device which is not let in.
        tokio::time::sleep(look).await;
        look = (look * 2).min(LOOK.1);
    }
}

/// Everything the account holds.
async fn first_pull(client: &Client, mut engine: Engine) -> Result<(Engine, Vec<Written>), Trouble> {
    let pages = steps::pages(client, engine.me().account, engine.cursor()).await?;
    let (engine, update) = worked_out(move || engine.pulled(&pages).map(|update| (engine, update))).await?;
    Ok((engine, update.records))
}

/// What takes a while in a large account.
async fn worked_out<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::account::engine::Refusal> + Send + 'static,
) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Trouble::Other("a part of the daemon failed; its log says where".into()))?;
    Ok(done.map_err(AccountError::from)?)
}

/// A recovery code, with which words and when it was made.
pub struct Printed {
    /// The code.
    pub code: Zeroizing<String>,
    /// The head it knows.
    pub seq: u64,
    /// The words of that head.
    pub words: String,
    /// When.
    pub made_at: Millis,
}

/// Makes a recovery code: a device on paper.
///
/// # Errors
/// `Trouble`: the account has to know of it.
pub async fn recovery(app: &Arc<App>, actor: &Actor) -> Result<Printed, Trouble> {
    let client = app.account.client(&app.inventory).await?;
    let state = app.inventory.account().ok_or(AccountError::None)?;
    let (device, device_secret, api_key) = (DeviceId(crypto::random()), DeviceSecret::random(), ApiKey::random());
    let wish = Wish::Admit {
        id: device,
        key: PublicKey(device_secret.public()),
        name: "recovery code".into(),
        paper: true,
        api_key: Some(api_key.device_key(device)),
    };
    let _turn = app.account.turn.lock().await;
    let pushed = steps::push(app, &client, &Arc::new(wish), actor).await?;
    let head = pushed.ok_or_else(|| Trouble::Other("the recovery code was not taken; try again".into()))?;
    let sender_key = app.inventory.with_engine(|engine| PublicKey(engine.me().secret.public()))?;
    let place = Place::new(state.me.0, &state.facts.url, state.facts.pin.map(|pin| pin.0));
    let place = place.map_err(|error| Trouble::Other(error.to_string()))?;
    let made_at = now();
    let code = Recovery { place, device, device_secret, api_key, sender: state.me.1, sender_key, head, made_at };
    Ok(Printed { code: Code::Recovery(code).text(), seq: head.seq, words: words(&head.hash), made_at })
}

/// Brings the account of a recovery code back, as a new device of it.
///
/// # Errors
/// `Trouble`; `SameNames` as `join`.
pub async fn recover(app: &Arc<App>, actor: &Actor, code: Recovery, wanted: &Wanted) -> Result<(), Trouble> {
    let _turn = app.account.turn.lock().await;
    let begun = Change::new(ChangeKind::AccountRecovered, actor, now());
    if app.inventory.account().is_some() {
        return Err(AccountError::Already.into());
    }
    let hash = code_hash(code.api_key.expose().as_bytes());
    if let Some(waiting) = take_waiting(app, &hash) {
        return begin(app, waiting, wanted, begun).await;
    }
    let place = wanted.place(&code.place)?;
    let account = place.account();
    let paper_client = client(&place, Some(&code.api_key)).await?;
    let paper = (code.device, code.device_secret);
    let (mut pages, first) = since_printed(&paper_client, account, code.head).await?;
    let key = wrapped_for(&pages, account, &paper, &code.sender_key, code.head)?;
    let first = behind_gaps(&mut pages, account, key.epoch(), first);
    let engine = Engine::join(Me { account, device: paper.0, secret: paper.1 }, key, first, former_versions(app));
    let mut engine = engine;
    let (mut engine, _) = worked_out(move || engine.pulled(&pages).map(|update| (engine, update))).await?;

    // The paper lets the new device in; from then on it is used as any other.
    let (device, secret, api_key) = (DeviceId(crypto::random()), DeviceSecret::random(), ApiKey::random());
    let wish = Wish::Admit {
        id: device,
        key: PublicKey(secret.public()),
        name: wanted.name.clone(),
        paper: false,
        api_key: Some(api_key.device_key(device)),
    };
    let candidate = engine.prepare(&wish, &References::default(), now()).map_err(AccountError::from)?;
    let candidate = candidate.ok_or_else(|| Trouble::Other("a device needs a head that lets it in".into()))?;
    engine.sending(&candidate);
    let (onto, anchor) = (candidate.onto, candidate.newest);
    paper_client.push(account, &candidate.push, Some(onto.hash)).await?;
    let key =
        engine.key().map(|key| EpochKey::new(key.epoch(), Key::from_bytes(&mut Zeroizing::new(*key.key().expose()))));
    let key = key.ok_or_else(|| Trouble::Other("the key of the account is missing".into()))?;
    let client = client(&place, Some(&api_key)).await?;
    let engine = Engine::join(Me { account, device, secret }, key, anchor, former_versions(app));
    let (engine, records) = first_pull(&client, engine).await?;
    let facts = facts(&place, &api_key, &wanted.name);
    begin(app, Joining { engine: Some(engine), facts, records, code: hash }, wanted, begun).await
}

/// Every head since a code was printed, which is the first; where the server does not keep them any more, the newest.
/// Whoever could make that one could have made all of them: it opens with the key the code was printed with, or not
/// at all.
async fn since_printed(
    client: &Client,
    account: AccountId,
    printed: Newest,
) -> Result<(Vec<Changes>, Newest), Trouble> {
    match steps::pages(client, account, Engine::cursor_of(printed)).await {
        Err(ClientError::ContinuityLost) => {}
        pages => return Ok((pages?, printed)),
    }
    let newest = steps::newest(client, account).await?;
    if newest.seq < printed.seq {
        return Err(ClientError::ContinuityLost.into());
    }
    Ok((steps::pages(client, account, Engine::cursor_of(newest)).await?, newest))
}

/// Where heads are missing because the account was repaired, the first behind that: for the same reason.
fn behind_gaps(pages: &mut [Changes], account: AccountId, epoch: u64, first: Newest) -> Newest {
    let heads = || pages.iter().flat_map(|page| &page.heads);
    let is_behind_gap = |(before, after): &(&SealedHead, &SealedHead)| {
        after.epoch == epoch && after.seq > first.seq && after.prev != before.hash(account)
    };
    let Some((_, begin)) = heads().zip(heads().skip(1)).filter(is_behind_gap).last() else { return first };
    let begin = Newest { seq: begin.seq, hash: begin.hash(account) };
    for page in pages {
        page.heads.retain(|head| head.seq >= begin.seq);
    }
    begin
}

/// The key that came with the head the paper knows.
fn wrapped_for(
    pages: &[Changes],
    account: AccountId,
    paper: &(DeviceId, DeviceSecret),
    sender_key: &PublicKey,
    head: Newest,
) -> Result<EpochKey, Trouble> {
    let wraps = pages.iter().flat_map(|page| &page.wraps);
    let opened = wraps.filter_map(|wrap| open_wrap(account, (paper.0, &paper.1), sender_key, wrap).ok());
    let found = opened.into_iter().find(|(_, pinned)| *pinned == head).map(|(key, _)| key);
    found.ok_or_else(|| {
        Trouble::Other(
            "the server does not have the key of this recovery code: it was set back, or a device was revoked since the code was printed, and that is longer ago than the server keeps the account's heads. Use a newer code, or an invitation"
                .into(),
        )
    })
}

//! Creates accounts, invites and admits devices, and brings a device back from a recovery code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::{Contact, SyncError, SyncState, connect, steps};
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
use crate::inventory::{AccountError, Facts, Inventory, Invited};
use crate::vault::audit::{Actor, Change};
use crate::vault::usage::ChangeKind;
use guillemet_api::account::SameName;
use guillemet_base::names::{Millis, SecretName};
use guillemet_base::random::random;
use guillemet_base::time::now;
use guillemet_secret::crypto::{DeviceSecret, Key};

/// How long a device waits to be admitted.
const WAIT: Duration = Duration::from_secs(60);
/// The first and the longest interval at which it asks for that.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A device that the account has admitted and that has pulled everything, but whose vault is not in the account yet.
pub struct Joining {
    engine: Option<Engine>,
    facts: Facts,
    records: Vec<Written>,
    /// The hash of the code it joined with: a request that decides about names carries the same code.
    code: Hash,
}

/// How a device is brought into an account.
#[derive(Clone)]
pub struct Wanted {
    /// The name of the device.
    pub name: String,
    /// The URL of the server, where it is not the one in the code.
    pub url: Option<String>,
    /// What to do with a secret whose name is on both sides, by name.
    pub same_names: BTreeMap<String, SameName>,
    /// What to do with all others.
    pub otherwise: Option<SameName>,
}

impl Wanted {
    fn decide(&self, name: &SecretName) -> Option<SameName> {
        let named = self.same_names.iter().find(|(named, _)| name.as_str().eq_ignore_ascii_case(named));
        named.map(|(_, decided)| *decided).or(self.otherwise)
    }

    fn place(&self, place: &Place) -> Result<Place, SyncError> {
        let url = self.url.as_deref().unwrap_or(place.url()).trim_end_matches('/');
        Place::new(place.account(), url, place.pin().copied()).map_err(|error| SyncError::Other(error.to_string()))
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

/// Makes a client of a place's server.
async fn client(place: &Place, api_key: Option<&ApiKey>) -> Result<Client, SyncError> {
    let (url, pin) = (place.url().to_owned(), place.pin().copied().map(Hash));
    connect(url, pin, api_key.map(|key| key.expose().to_owned())).await
}

/// Returns the public key of this device.
async fn own_key(sync: &SyncState) -> Result<PublicKey, SyncError> {
    sync.run(|inventory| inventory.with_engine(|engine| PublicKey(engine.me().secret.public()))).await
}

fn former_versions(sync: &SyncState) -> usize {
    sync.config.load().former_versions
}

/// Creates an account with the secrets of this vault.
///
/// # Errors
/// Any `SyncError`; the vault has not changed.
pub async fn create(sync: &Arc<SyncState>, actor: &Actor, code: Creation, wanted: &Wanted) -> Result<(), SyncError> {
    let _turn = sync.handle.turn.lock().await;
    if sync.account().await?.is_some() {
        return Err(AccountError::Already.into());
    }
    let place = wanted.place(&code.place)?;
    let (device, api_key) = (DeviceId(random()), ApiKey::random());
    let me = Me { account: place.account(), device, secret: DeviceSecret::random() };
    let mut engine = Engine::found(me, former_versions(sync));
    let found = engine.prepare(&Wish::Found { name: wanted.name.clone() }, &References::default(), now());
    let mut candidate =
        found.map_err(AccountError::from)?.ok_or_else(|| SyncError::Other("an account needs a first head".into()))?;
    candidate.push.keys.push(api_key.device_key(device));
    let client = client(&place, Some(&code.api_key)).await?;
    let newest = client.push(place.account(), &candidate.push, None).await.map_err(|error| match error {
        ClientError::Conflict(_) | ClientError::Unauthorized => {
            SyncError::Other("this code was used before; `guillemet account admin create-account` makes another".into())
        }
        error => error.into(),
    })?;
    if newest != candidate.newest {
        return Err(SyncError::Other("the server took another head than was sent; do not trust it".into()));
    }
    let records = engine.accepted(candidate).records;
    let facts = facts(&place, &api_key, &wanted.name);
    let begun = Change::new(ChangeKind::AccountCreated, actor, now());
    begin(sync, Joining { engine: Some(engine), facts, records, code: Hash::default() }, wanted, begun).await
}

/// Brings the vault into the account. Where a name is on both sides and undecided, `joining` is kept for the next
/// request with the same code.
async fn begin(sync: &Arc<SyncState>, mut joining: Joining, wanted: &Wanted, begun: Change) -> Result<(), SyncError> {
    let (state, wanted) = (Arc::clone(sync), wanted.clone());
    // With what follows it: whoever asked may be gone before it is done.
    let begin = move |inventory: &Inventory| {
        let Joining { engine, facts, records, .. } = &mut joining;
        let begun = inventory.account_begin(engine, facts, records, begun, |name| wanted.decide(name));
        match &begun {
            Ok(_) => {
                state.handle.set(Contact::Offline(None));
                state.handle.changed.notify_one();
            }
            Err(AccountError::SameNames(_)) => *state.handle.joining() = Some(joining),
            Err(_) => {}
        }
        begun
    };
    sync.run(begin).await?.wait().await;
    Ok(())
}

/// Takes the device that was admitted with this code before and waits for a decision about names.
fn take_waiting(sync: &SyncState, code: &Hash) -> Option<Joining> {
    let mut waiting = sync.handle.joining();
    if waiting.as_ref().is_some_and(|waiting| waiting.code == *code) { waiting.take() } else { None }
}

fn code_hash(secret: &[u8]) -> Hash {
    Hash::of(&[b"guillemet joining\0", secret])
}

/// Creates an invitation for one device. Returns its code, and for how many seconds it is valid.
///
/// # Errors
/// Any `SyncError`: the server must register it.
pub async fn invite(sync: &Arc<SyncState>, actor: &Actor) -> Result<(Zeroizing<String>, u64), SyncError> {
    let client = sync.client().await?;
    let state = sync.account().await?.ok_or(AccountError::None)?;
    let (secret, token) = (Zeroizing::new(random::<16>()), Zeroizing::new(random::<32>()));
    let invite = Invite { token_hash: Hash::of(&[token.as_slice()]), expires_in: INVITE_SECONDS };
    client.invite(state.me.0, &invite).await?;
    let invited = Invited { secret: HEXLOWER.encode(&*secret), until: now() + INVITE_SECONDS * 1000 };
    let made = Change::new(ChangeKind::DeviceInvited, actor, now());
    sync.run(move |inventory| {
        inventory.change_facts(&[made], |facts| {
            facts.invited.retain(|invited| invited.until > now());
            facts.invited.push(invited);
        })
    })
    .await?;
    let inviter_key = own_key(sync).await?;
    let place = Place::new(state.me.0, &state.facts.url, state.facts.pin.map(|pin| pin.0));
    let place = place.map_err(|error| SyncError::Other(error.to_string()))?;
    let code = Code::Invite(Invitation { place, inviter: state.me.1, inviter_key, secret, token });
    Ok((code.text(), INVITE_SECONDS))
}

/// Admits the devices that were invited from here and have enrolled.
pub(super) async fn admit(sync: &Arc<SyncState>, client: &Arc<Client>) -> Result<(), SyncError> {
    let Some(state) = sync.account().await? else { return Ok(()) };
    let mut invited: Vec<Invited> = state.facts.invited.into_iter().filter(|invited| invited.until > now()).collect();
    if invited.is_empty() {
        return Ok(());
    }
    let my_key = own_key(sync).await?;
    for enrolment in client.enrolments(state.me.0).await? {
        let known = invited.iter().find_map(|invited| {
            let secret: [u8; 16] = HEXLOWER.decode(invited.secret.as_bytes()).ok()?.try_into().ok()?;
            let name = joins::verify(&secret, state.me.0, &my_key, &enrolment).ok()?;
            Some((invited.secret.clone(), name))
        });
        let id = enrolment.key.device;
        let Some((used, name)) = known else {
            // The device was invited by another device, or by none. Its token expires by itself.
            tracing::warn!(device = %id, "a device wants to join that was not invited from here");
            continue;
        };
        // An invitation is for one machine, whatever the server says.
        invited.retain(|invited| invited.secret != used);
        let wish = Wish::Admit { id, key: enrolment.public_key, name: name.clone(), paper: false, api_key: None };
        let _turn = sync.handle.turn.lock().await;
        steps::push(sync, client, &Arc::new(wish), &Actor::own()).await?;
        sync.run(move |inventory| {
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
/// Any `SyncError`; `AccountError::SameNames` where names are undecided: repeat the request with the same code.
pub async fn join(sync: &Arc<SyncState>, actor: &Actor, code: Invitation, wanted: &Wanted) -> Result<(), SyncError> {
    let _turn = sync.handle.turn.lock().await;
    let begun = Change::new(ChangeKind::AccountJoined, actor, now());
    if sync.account().await?.is_some() {
        return Err(AccountError::Already.into());
    }
    let hash = code_hash(&*code.secret);
    if let Some(waiting) = take_waiting(sync, &hash) {
        return begin(sync, waiting, wanted, begun).await;
    }
    let place = wanted.place(&code.place)?;
    let account = place.account();
    let (device, secret, api_key) = (DeviceId(random()), DeviceSecret::random(), ApiKey::random());
    let enrolment = joins::hello(&code, device, PublicKey(secret.public()), &wanted.name, &api_key);
    let client = client(&place, Some(&api_key)).await?;
    client.enrol(account, &code.token, &enrolment).await?;
    let wrap = admitted(&client, account).await?;
    if wrap.sender != code.inviter {
        return Err(SyncError::Other(
            "the key of the account comes from another device than the one that invited; do not trust this server"
                .into(),
        ));
    }
    let opened = open_wrap(account, (device, &secret), &code.inviter_key, &wrap);
    let (key, anchor) = opened.map_err(|error| SyncError::Other(error.to_string()))?;
    let engine = Engine::join(Me { account, device, secret }, key, anchor, former_versions(sync));
    let (engine, records) = first_pull(&client, engine).await?;
    let facts = facts(&place, &api_key, &wanted.name);
    begin(sync, Joining { engine: Some(engine), facts, records, code: hash }, wanted, begun).await
}

/// Waits until this device is admitted, for a minute at most.
async fn admitted(client: &Client, account: AccountId) -> Result<Wrap, SyncError> {
    let (until, mut look) = (Instant::now() + WAIT, LOOK.0);
    loop {
        if let Some(wrap) = client.wrap(account).await? {
            return Ok(wrap);
        }
        if Instant::now() > until {
            return Err(SyncError::Other(
                "the machine that invited this one did not let it in: its daemon has to run and be connected (`guillemet account status` there). Invite again".into(),
            ));
        }
        // A device that is not admitted gets no events.
        tokio::time::sleep(look).await;
        look = (look * 2).min(LOOK.1);
    }
}

/// Pulls everything that the account holds.
async fn first_pull(client: &Client, mut engine: Engine) -> Result<(Engine, Vec<Written>), SyncError> {
    let pages = steps::pages(client, engine.me().account, engine.cursor()).await?;
    let (engine, update) = worked_out(move || engine.pulled(&pages).map(|update| (engine, update))).await?;
    Ok((engine, update.records))
}

/// Runs work of the engine, which takes a while in a large account, on a thread that may block.
async fn worked_out<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, crate::account::engine::Refusal> + Send + 'static,
) -> Result<T, SyncError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| SyncError::Other("a part of the daemon failed; its log says where".into()))?;
    Ok(done.map_err(AccountError::from)?)
}

/// A new recovery code.
pub struct Printed {
    /// The text of the code.
    pub code: Zeroizing<String>,
    /// The number of the head it was made at.
    pub seq: u64,
    /// The fingerprint words of that head.
    pub words: String,
    /// When it was made, in milliseconds since the epoch.
    pub made_at: Millis,
}

/// Creates a recovery code: a device of the account on paper.
///
/// # Errors
/// Any `SyncError`: the account must admit it.
pub async fn recovery(sync: &Arc<SyncState>, actor: &Actor) -> Result<Printed, SyncError> {
    let client = sync.client().await?;
    let state = sync.account().await?.ok_or(AccountError::None)?;
    let (device, device_secret, api_key) = (DeviceId(random()), DeviceSecret::random(), ApiKey::random());
    let wish = Wish::Admit {
        id: device,
        key: PublicKey(device_secret.public()),
        name: "recovery code".into(),
        paper: true,
        api_key: Some(api_key.device_key(device)),
    };
    let _turn = sync.handle.turn.lock().await;
    let pushed = steps::push(sync, &client, &Arc::new(wish), actor).await?;
    let head = pushed.ok_or_else(|| SyncError::Other("the recovery code was not taken; try again".into()))?;
    let sender_key = own_key(sync).await?;
    let place = Place::new(state.me.0, &state.facts.url, state.facts.pin.map(|pin| pin.0));
    let place = place.map_err(|error| SyncError::Other(error.to_string()))?;
    let made_at = now();
    let code = Recovery { place, device, device_secret, api_key, sender: state.me.1, sender_key, head, made_at };
    Ok(Printed { code: Code::Recovery(code).text(), seq: head.seq, words: words(&head.hash), made_at })
}

/// Restores an account from a recovery code, as a new device of it.
///
/// # Errors
/// As [`join`].
pub async fn recover(sync: &Arc<SyncState>, actor: &Actor, code: Recovery, wanted: &Wanted) -> Result<(), SyncError> {
    let _turn = sync.handle.turn.lock().await;
    let begun = Change::new(ChangeKind::AccountRecovered, actor, now());
    if sync.account().await?.is_some() {
        return Err(AccountError::Already.into());
    }
    let hash = code_hash(code.api_key.expose().as_bytes());
    if let Some(waiting) = take_waiting(sync, &hash) {
        return begin(sync, waiting, wanted, begun).await;
    }
    let place = wanted.place(&code.place)?;
    let account = place.account();
    let paper_client = client(&place, Some(&code.api_key)).await?;
    let paper = (code.device, code.device_secret);
    let (mut pages, first) = since_printed(&paper_client, account, code.head).await?;
    let key = wrapped_for(&pages, account, &paper, &code.sender_key, code.head)?;
    let first = behind_gaps(&mut pages, account, key.epoch(), first);
    let engine = Engine::join(Me { account, device: paper.0, secret: paper.1 }, key, first, former_versions(sync));
    let mut engine = engine;
    let (mut engine, _) = worked_out(move || engine.pulled(&pages).map(|update| (engine, update))).await?;

    // The paper device admits the new device, which is used like any other from then on.
    let (device, secret, api_key) = (DeviceId(random()), DeviceSecret::random(), ApiKey::random());
    let wish = Wish::Admit {
        id: device,
        key: PublicKey(secret.public()),
        name: wanted.name.clone(),
        paper: false,
        api_key: Some(api_key.device_key(device)),
    };
    let candidate = engine.prepare(&wish, &References::default(), now()).map_err(AccountError::from)?;
    let candidate = candidate.ok_or_else(|| SyncError::Other("a device needs a head that lets it in".into()))?;
    engine.sending(&candidate);
    let (onto, anchor) = (candidate.onto, candidate.newest);
    paper_client.push(account, &candidate.push, Some(onto.hash)).await?;
    let key =
        engine.key().map(|key| EpochKey::new(key.epoch(), Key::from_bytes(&mut Zeroizing::new(*key.key().expose()))));
    let key = key.ok_or_else(|| SyncError::Other("the key of the account is missing".into()))?;
    let client = client(&place, Some(&api_key)).await?;
    let engine = Engine::join(Me { account, device, secret }, key, anchor, former_versions(sync));
    let (engine, records) = first_pull(&client, engine).await?;
    let facts = facts(&place, &api_key, &wanted.name);
    begin(sync, Joining { engine: Some(engine), facts, records, code: hash }, wanted, begun).await
}

/// Returns every page since a code was printed, with the head it begins at: that of the code or, where the server no
/// longer keeps it, the newest. Whoever could make that one could have made all of them: it opens with the key the code
/// was printed with, or not at all.
async fn since_printed(
    client: &Client,
    account: AccountId,
    printed: Newest,
) -> Result<(Vec<Changes>, Newest), SyncError> {
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

/// Returns the head to begin at: where a repair has left a gap, the first behind it, for the same reason. Drops the
/// heads before.
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

/// Returns the key of the epoch that was wrapped for the recovery code at its head.
fn wrapped_for(
    pages: &[Changes],
    account: AccountId,
    paper: &(DeviceId, DeviceSecret),
    sender_key: &PublicKey,
    head: Newest,
) -> Result<EpochKey, SyncError> {
    let wraps = pages.iter().flat_map(|page| &page.wraps);
    let opened = wraps.filter_map(|wrap| open_wrap(account, (paper.0, &paper.1), sender_key, wrap).ok());
    let found = opened.into_iter().find(|(_, pinned)| *pinned == head).map(|(key, _)| key);
    found.ok_or_else(|| {
        SyncError::Other(
            "the server does not have the key of this recovery code: it was set back, or a device was revoked since the code was printed, and that is longer ago than the server keeps the account's heads. Use a newer code, or an invitation"
                .into(),
        )
    })
}

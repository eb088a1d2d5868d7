//! Creates accounts, invites and admits devices, and brings a device back from a recovery code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

use super::{Contact, SyncError, SyncState, connect, steps};
use crate::inventory::{AccountError, AccountFacts, Inventory, Invited, Panicked};
use guillemet_account::client::{AccountClient, AccountClientError};
use guillemet_account::code::{AccountAddress, AccountCode, Creation, InvitationCode, Recovery};
use guillemet_account::engine::{DeviceIdentity, Engine, Proposal, RecordWrite, References};
use guillemet_account::fingerprint_words::fingerprint_words;
use guillemet_account::join as joins;
use guillemet_account::seal::{EpochKey, open_wrap};
use guillemet_api::account::SameName;
use guillemet_base::names::{Millis, SecretName};
use guillemet_base::random::random;
use guillemet_base::time::now;
use guillemet_secret::crypto::{DeviceSecret, Key};
use guillemet_vault::audit::{Actor, AuditChange};
use guillemet_vault::usage::ChangeKind;
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{
    AccountId, ChangesPage, DeviceId, Hash, HeadRef, INVITE_SECONDS, InviteRegistration, PublicKey, SealedHead, Wrap,
};

/// The longest time that a device waits to be admitted.
const WAIT: Duration = Duration::from_secs(60);
/// The first and the longest interval at which it asks whether it was admitted.
const LOOK: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A device that the account has admitted and that has pulled everything, while its vault is not in the account yet.
pub struct Joining {
    engine: Option<Engine>,
    facts: AccountFacts,
    records: Vec<RecordWrite>,
    /// The hash of the code that it joined with. The request that decides about names carries the same code.
    code: Hash,
}

/// How to bring a device into an account.
#[derive(Clone)]
pub struct JoinRequest {
    /// The name of the device.
    pub name: String,
    /// The URL of the server, if it is not the one in the code.
    pub url: Option<String>,
    /// What to do with a secret whose name exists both here and in the account, by name.
    pub same_names: BTreeMap<String, SameName>,
    /// What to do with all other such secrets.
    pub default: Option<SameName>,
}

impl JoinRequest {
    fn same_name(&self, name: &SecretName) -> Option<SameName> {
        let entry = self.same_names.iter().find(|(key, _)| name.as_str().eq_ignore_ascii_case(key));
        entry.map(|(_, choice)| *choice).or(self.default)
    }

    fn address(&self, address: &AccountAddress) -> Result<AccountAddress, SyncError> {
        let url = self.url.as_deref().unwrap_or(address.url()).trim_end_matches('/');
        AccountAddress::new(address.account(), url, address.pin().copied())
            .map_err(|error| SyncError::Other(error.to_string()))
    }
}

fn facts(address: &AccountAddress, api_key: &ApiKey, name: &str) -> AccountFacts {
    AccountFacts {
        url: address.url().to_owned(),
        pin: address.pin().copied().map(Hash),
        api_key: api_key.expose().to_owned(),
        name: name.to_owned(),
        stopped: None,
        invited: Vec::new(),
        usage_counter: 0,
    }
}

/// Makes a client for the server in a place.
async fn client(address: &AccountAddress, api_key: Option<&ApiKey>) -> Result<AccountClient, SyncError> {
    let (url, pin) = (address.url().to_owned(), address.pin().copied().map(Hash));
    connect(url, pin, api_key.map(|key| Zeroizing::new(key.expose().to_owned()))).await
}

/// Returns the public key of this device.
async fn device_key(sync: &SyncState) -> Result<PublicKey, SyncError> {
    sync.run(|inventory| inventory.with_engine(|engine| PublicKey(engine.me().secret.public()))).await
}

fn former_versions(sync: &SyncState) -> usize {
    sync.config.load().former_versions
}

/// Creates an account with the secrets of this vault.
///
/// # Errors
/// Any [`SyncError`]; the vault has not changed.
pub async fn create(
    sync: &Arc<SyncState>,
    actor: &Actor,
    code: Creation,
    request: &JoinRequest,
) -> Result<(), SyncError> {
    let _guard = sync.handle.exclusive.lock().await;
    if sync.account().await?.is_some() {
        return Err(AccountError::Already.into());
    }
    let address = request.address(&code.address)?;
    let (device, api_key) = (DeviceId(random()), ApiKey::random());
    let me = DeviceIdentity { account: address.account(), device, secret: DeviceSecret::random() };
    let mut engine = Engine::create(me, former_versions(sync));
    let prepared = engine.prepare(&Proposal::Found { name: request.name.clone() }, &References::default(), now());
    let mut candidate = prepared
        .map_err(AccountError::from)?
        .ok_or_else(|| SyncError::Other("the account has no first head".into()))?;
    candidate.push.keys.push(api_key.device_key(device));
    let client = client(&address, Some(&code.api_key)).await?;
    let newest = client.push(address.account(), &candidate.push, None).await.map_err(|error| match error {
        AccountClientError::Conflict(_) | AccountClientError::Unauthorized => SyncError::Other(
            "this code was already used; run `guillemet account admin create-account` to get another one".into(),
        ),
        error => error.into(),
    })?;
    if newest != candidate.newest {
        return Err(SyncError::Other("the server stored a different head than was sent; do not trust it".into()));
    }
    let records = engine.commit_push(candidate).records;
    let facts = facts(&address, &api_key, &request.name);
    let change = AuditChange::new(ChangeKind::AccountCreated, actor, now());
    begin_sync(sync, Joining { engine: Some(engine), facts, records, code: Hash::default() }, request, change).await
}

/// Brings the vault into the account. If a name exists on both sides and is undecided, `joining` is kept for the next
/// request with the same code.
async fn begin_sync(
    sync: &Arc<SyncState>,
    mut joining: Joining,
    request: &JoinRequest,
    change: AuditChange,
) -> Result<(), SyncError> {
    let (state, request) = (Arc::clone(sync), request.clone());
    // The steps that follow run in the same call, because the caller may disconnect before they are done.
    let start = move |inventory: &Inventory| {
        let Joining { engine, facts, records, .. } = &mut joining;
        let result = inventory.account_begin(engine, facts, records, change, |name| request.same_name(name));
        match &result {
            Ok(_) => {
                state.handle.set_contact(Contact::Offline(None));
                state.handle.changed.notify_one();
            }
            Err(AccountError::SameNames(_)) => *state.handle.joining() = Some(joining),
            Err(_) => {}
        }
        result
    };
    sync.run(start).await?.wait().await;
    Ok(())
}

/// Removes and returns the device that was admitted with this code and waits for a decision about names.
fn take_undecided(sync: &SyncState, code: &Hash) -> Option<Joining> {
    let mut waiting = sync.handle.joining();
    if waiting.as_ref().is_some_and(|waiting| waiting.code == *code) { waiting.take() } else { None }
}

fn code_hash(secret: &[u8]) -> Hash {
    Hash::of(&[b"guillemet joining\0", secret])
}

/// Creates an invitation for one device. Returns its code, and for how many seconds the code is valid.
///
/// # Errors
/// Any [`SyncError`], because the server has to register the invitation.
pub async fn invite(sync: &Arc<SyncState>, actor: &Actor) -> Result<(Zeroizing<String>, u64), SyncError> {
    let client = sync.client().await?;
    let state = sync.account().await?.ok_or(AccountError::None)?;
    let (secret, token) = (Zeroizing::new(random::<16>()), Zeroizing::new(random::<32>()));
    let invite = InviteRegistration { token_hash: Hash::of(&[token.as_slice()]), expires_in: INVITE_SECONDS };
    client.invite(state.me.0, &invite).await?;
    let invited = Invited { secret: HEXLOWER.encode(&*secret), until: now() + INVITE_SECONDS * 1000 };
    let change = AuditChange::new(ChangeKind::DeviceInvited, actor, now());
    sync.run(move |inventory| {
        inventory.change_facts(&[change], |facts| {
            facts.invited.retain(|invited| invited.until > now());
            facts.invited.push(invited);
        })
    })
    .await?;
    let inviter_key = device_key(sync).await?;
    let address = AccountAddress::new(state.me.0, &state.facts.url, state.facts.pin.map(|pin| pin.0));
    let address = address.map_err(|error| SyncError::Other(error.to_string()))?;
    let code = AccountCode::Invite(InvitationCode { address, inviter: state.me.1, inviter_key, secret, token });
    Ok((code.to_text(), INVITE_SECONDS))
}

/// Admits the devices that were invited from here and have enrolled.
pub(super) async fn admit(sync: &Arc<SyncState>, client: &Arc<AccountClient>) -> Result<(), SyncError> {
    let Some(state) = sync.account().await? else { return Ok(()) };
    let mut invited: Vec<Invited> = state.facts.invited.into_iter().filter(|invited| invited.until > now()).collect();
    if invited.is_empty() {
        return Ok(());
    }
    let my_key = device_key(sync).await?;
    for enrolment in client.enrolments(state.me.0).await? {
        let admitted = invited.iter().find_map(|invited| {
            let secret: [u8; 16] = HEXLOWER.decode(invited.secret.as_bytes()).ok()?.try_into().ok()?;
            let name = joins::verify(&secret, state.me.0, &my_key, &enrolment).ok()?;
            Some((invited.secret.clone(), name))
        });
        let id = enrolment.key.device;
        let Some((used, name)) = admitted else {
            // Another device invited it, or none did. Its token expires by itself.
            tracing::warn!(device = %id, "a device that was not invited from here wants to join");
            continue;
        };
        // An invitation is for one machine, whatever the server sends.
        invited.retain(|invited| invited.secret != used);
        let proposal =
            Proposal::Admit { id, key: enrolment.public_key, name: name.clone(), is_recovery: false, api_key: None };
        let _guard = sync.handle.exclusive.lock().await;
        steps::push(sync, client, &Arc::new(proposal), &Actor::this_process()).await?;
        sync.run(move |inventory| {
            inventory.change_facts(&[], |facts| facts.invited.retain(|invited| invited.secret != used))
        })
        .await?;
        tracing::info!(device = %id, name, "a device joined");
    }
    Ok(())
}

/// Joins the account of an invitation.
///
/// # Errors
/// Any [`SyncError`]. After [`AccountError::SameNames`], repeat the request with decisions and the same code.
pub async fn join(
    sync: &Arc<SyncState>,
    actor: &Actor,
    code: InvitationCode,
    request: &JoinRequest,
) -> Result<(), SyncError> {
    let _guard = sync.handle.exclusive.lock().await;
    let change = AuditChange::new(ChangeKind::AccountJoined, actor, now());
    if sync.account().await?.is_some() {
        return Err(AccountError::Already.into());
    }
    let hash = code_hash(&*code.secret);
    if let Some(waiting) = take_undecided(sync, &hash) {
        return begin_sync(sync, waiting, request, change).await;
    }
    let address = request.address(&code.address)?;
    let account = address.account();
    let (device, secret, api_key) = (DeviceId(random()), DeviceSecret::random(), ApiKey::random());
    let enrolment = joins::enrolment_request(&code, device, PublicKey(secret.public()), &request.name, &api_key);
    let client = client(&address, Some(&api_key)).await?;
    client.enrol(account, &code.token, &enrolment).await?;
    let wrap = wait_until_admitted(&client, account).await?;
    if wrap.sender != code.inviter {
        return Err(SyncError::Other(
            "the key of the account comes from a different device than the one that invited this machine; do not trust \
             this server"
                .into(),
        ));
    }
    let unwrapped = open_wrap(account, (device, &secret), &code.inviter_key, &wrap);
    let (key, anchor) = unwrapped.map_err(|error| SyncError::Other(error.to_string()))?;
    let engine = Engine::join(DeviceIdentity { account, device, secret }, key, anchor, former_versions(sync));
    let (engine, records) = first_pull(&client, engine).await?;
    let facts = facts(&address, &api_key, &request.name);
    begin_sync(sync, Joining { engine: Some(engine), facts, records, code: hash }, request, change).await
}

/// Waits until this device is admitted, for `WAIT` at most.
async fn wait_until_admitted(client: &AccountClient, account: AccountId) -> Result<Wrap, SyncError> {
    let (until, mut delay) = (Instant::now() + WAIT, LOOK.0);
    loop {
        if let Some(wrap) = client.wrap(account).await? {
            return Ok(wrap);
        }
        if Instant::now() > until {
            return Err(SyncError::Other(
                "the machine that invited this one did not admit it: its daemon must be running and connected (check \
                 `guillemet account status` there). Create a new invitation"
                    .into(),
            ));
        }
        // Poll, because a device that is not admitted gets no events.
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LOOK.1);
    }
}

/// Pulls everything that the account contains.
async fn first_pull(client: &AccountClient, mut engine: Engine) -> Result<(Engine, Vec<RecordWrite>), SyncError> {
    let pages = steps::fetch_pages(client, engine.me().account, engine.cursor()).await?;
    let (engine, update) = run_engine(move || engine.apply_pull(&pages).map(|update| (engine, update))).await?;
    Ok((engine, update.records))
}

/// Runs work of the engine on a thread that may block, because it can take long in a large account.
async fn run_engine<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, guillemet_account::engine::PullError> + Send + 'static,
) -> Result<T, SyncError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Panicked)?;
    Ok(done.map_err(AccountError::from)?)
}

/// A new recovery code.
pub struct NewRecoveryCode {
    /// The text of the code.
    pub code: Zeroizing<String>,
    /// The number of the head that it was made for.
    pub seq: u64,
    /// The fingerprint words of that head.
    pub words: String,
    /// The time at which it was made, in milliseconds since the epoch.
    pub made_at: Millis,
}

/// Creates a recovery code, which is a device of the account on paper.
///
/// # Errors
/// Any [`SyncError`], because the account has to admit it.
pub async fn create_recovery_code(sync: &Arc<SyncState>, actor: &Actor) -> Result<NewRecoveryCode, SyncError> {
    let client = sync.client().await?;
    let state = sync.account().await?.ok_or(AccountError::None)?;
    let (device, device_secret, api_key) = (DeviceId(random()), DeviceSecret::random(), ApiKey::random());
    let proposal = Proposal::Admit {
        id: device,
        key: PublicKey(device_secret.public()),
        name: "recovery code".into(),
        is_recovery: true,
        api_key: Some(api_key.device_key(device)),
    };
    let _guard = sync.handle.exclusive.lock().await;
    let pushed = steps::push(sync, &client, &Arc::new(proposal), actor).await?;
    let head = pushed
        .ok_or_else(|| SyncError::Other("the recovery code could not be added to the account; try again".into()))?;
    let sender_key = device_key(sync).await?;
    let address = AccountAddress::new(state.me.0, &state.facts.url, state.facts.pin.map(|pin| pin.0));
    let address = address.map_err(|error| SyncError::Other(error.to_string()))?;
    let made_at = now();
    let code = Recovery { address, device, device_secret, api_key, sender: state.me.1, sender_key, head, made_at };
    Ok(NewRecoveryCode {
        code: AccountCode::Recovery(code).to_text(),
        seq: head.seq,
        words: fingerprint_words(&head.hash),
        made_at,
    })
}

/// Restores the vault from a recovery code, as a new device of the account.
///
/// # Errors
/// Those of [`join`].
pub async fn recover(
    sync: &Arc<SyncState>,
    actor: &Actor,
    code: Recovery,
    request: &JoinRequest,
) -> Result<(), SyncError> {
    let _guard = sync.handle.exclusive.lock().await;
    let change = AuditChange::new(ChangeKind::AccountRecovered, actor, now());
    if sync.account().await?.is_some() {
        return Err(AccountError::Already.into());
    }
    let hash = code_hash(code.api_key.expose().as_bytes());
    if let Some(waiting) = take_undecided(sync, &hash) {
        return begin_sync(sync, waiting, request, change).await;
    }
    let address = request.address(&code.address)?;
    let account = address.account();
    let recovery_client = client(&address, Some(&code.api_key)).await?;
    let recovery_device = (code.device, code.device_secret);
    let (mut pages, first) = pages_since_printed(&recovery_client, account, code.head).await?;
    let key = find_wrapped_key(&pages, account, &recovery_device, &code.sender_key, code.head)?;
    let first = skip_gaps(&mut pages, account, key.epoch(), first);
    let engine = Engine::join(
        DeviceIdentity { account, device: recovery_device.0, secret: recovery_device.1 },
        key,
        first,
        former_versions(sync),
    );
    let mut engine = engine;
    let (mut engine, _) = run_engine(move || engine.apply_pull(&pages).map(|update| (engine, update))).await?;

    // The paper device admits the new device, which is a device like any other from then on.
    let (device, secret, api_key) = (DeviceId(random()), DeviceSecret::random(), ApiKey::random());
    let proposal = Proposal::Admit {
        id: device,
        key: PublicKey(secret.public()),
        name: request.name.clone(),
        is_recovery: false,
        api_key: Some(api_key.device_key(device)),
    };
    let candidate = engine.prepare(&proposal, &References::default(), now()).map_err(AccountError::from)?;
    let candidate = candidate.ok_or_else(|| SyncError::Other("no head admits this device".into()))?;
    engine.record_sent(&candidate);
    let (onto, anchor) = (candidate.onto, candidate.newest);
    recovery_client.push(account, &candidate.push, Some(onto.hash)).await?;
    let key =
        engine.key().map(|key| EpochKey::new(key.epoch(), Key::from_bytes(&mut Zeroizing::new(*key.key().expose()))));
    let key = key.ok_or_else(|| SyncError::Other("the key of the account is missing".into()))?;
    let client = client(&address, Some(&api_key)).await?;
    let engine = Engine::join(DeviceIdentity { account, device, secret }, key, anchor, former_versions(sync));
    let (engine, records) = first_pull(&client, engine).await?;
    let facts = facts(&address, &api_key, &request.name);
    begin_sync(sync, Joining { engine: Some(engine), facts, records, code: hash }, request, change).await
}

/// Returns every page since a code was printed, and the head that they begin at: the code's head, or the newest head if
/// the server no longer keeps the code's. Beginning at the newest is no weaker: the pages open with the key that the
/// code was printed with or not at all, and a server that could forge the newest head could forge all of them.
async fn pages_since_printed(
    client: &AccountClient,
    account: AccountId,
    printed: HeadRef,
) -> Result<(Vec<ChangesPage>, HeadRef), SyncError> {
    match steps::fetch_pages(client, account, Engine::cursor_of(printed)).await {
        Err(AccountClientError::ContinuityLost) => {}
        pages => return Ok((pages?, printed)),
    }
    let newest = steps::fetch_newest_head(client, account).await?;
    if newest.seq < printed.seq {
        return Err(AccountClientError::ContinuityLost.into());
    }
    Ok((steps::fetch_pages(client, account, Engine::cursor_of(newest)).await?, newest))
}

/// Returns the head to begin at: if a repair has left a gap, the first head behind it, for the same reason as in
/// [`pages_since_printed`]. Drops the heads before it.
fn skip_gaps(pages: &mut [ChangesPage], account: AccountId, epoch: u64, first: HeadRef) -> HeadRef {
    let heads = || pages.iter().flat_map(|page| &page.heads);
    let is_behind_gap = |(before, after): &(&SealedHead, &SealedHead)| {
        after.epoch == epoch && after.seq > first.seq && after.prev != before.hash(account)
    };
    let Some((_, start)) = heads().zip(heads().skip(1)).filter(is_behind_gap).last() else { return first };
    let start = HeadRef { seq: start.seq, hash: start.hash(account) };
    for page in pages {
        page.heads.retain(|head| head.seq >= start.seq);
    }
    start
}

/// Returns the key of the epoch that was wrapped for the recovery code at its head.
fn find_wrapped_key(
    pages: &[ChangesPage],
    account: AccountId,
    recovery_device: &(DeviceId, DeviceSecret),
    sender_key: &PublicKey,
    head: HeadRef,
) -> Result<EpochKey, SyncError> {
    let wraps = pages.iter().flat_map(|page| &page.wraps);
    let unwrapped =
        wraps.filter_map(|wrap| open_wrap(account, (recovery_device.0, &recovery_device.1), sender_key, wrap).ok());
    let key = unwrapped.into_iter().find(|(_, pinned)| *pinned == head).map(|(key, _)| key);
    key.ok_or_else(|| {
        SyncError::Other(
            "the server does not have the key for this recovery code: the server was restored from an older backup, or \
             a device was revoked after the code was printed and the server no longer keeps the heads from that time. \
             Use a newer code, or an invitation"
                .into(),
        )
    })
}

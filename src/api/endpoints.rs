//! What each endpoint does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH, WARNING};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::error::{ApiError, Code};
use super::identity::Rules;
use super::peer::{Access, Peer};
use super::routes::Endpoint;
use super::{App, Link, LinkWanted, account, audit, configuration, inline, metrics, plugins, request, usage, view};
use crate::config::Config;
use crate::inventory::{Changed, Inventory, InventoryError, Panicked, SecretChange, SecretDetail};
use crate::resolve::Rendered;
use crate::resolve::snapshot::{Released, Snapshot, State};
use crate::sync;
use crate::vault::audit::{About, Actor, Change};
use crate::vault::usage::{Caller, ChangeKind};
use guillemet_base::names::{Millis, SecretName};
use guillemet_base::sys::stack::leaving_nothing;
use guillemet_base::time::now;
use guillemet_plan::plan::Plan;
use guillemet_plan::protocol::Target;
use guillemet_plugin::plans::{Prepared, Unplanned};
use guillemet_template::catalog::Stray;

/// How long a request waits for a plan.
pub(super) const PLAN_TIME: Duration = Duration::from_secs(10);

/// How many requests read their template again at the same time, of those on this machine and of others.
const RECHECKS: usize = 8;

/// What a caller is told that may not.
pub(super) const FORBIDDEN: &str = "this caller may not do that; a [[client]] rule of guillemet.toml can allow it";
/// The same of one secret.
pub(super) const FORBIDDEN_SECRET: &str = "no rule allows this caller to resolve this secret by its name";

pub(super) type Answer = Result<Response<Full<Bytes>>, ApiError>;

/// A request, and who asks.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Of the path, still percent-encoded.
    pub params: &'a matchit::Params<'a, 'a>,
    /// Its head.
    pub parts: &'a Parts,
    /// Who.
    pub caller: &'a Caller,
    /// What they may do.
    pub access: &'a Access<'a>,
    /// The configuration in force when it was asked.
    pub config: &'a Config,
    /// Its rules.
    pub rules: &'a Arc<Rules>,
    /// Who, by the kernel's word.
    pub peer: &'a Peer,
}

impl Asked<'_> {
    fn query(&self) -> Option<&str> {
        self.parts.uri.query()
    }

    /// Decides by what the caller may do now: the rules may have changed while the request was under way. Whoever
    /// decides over an answer takes its snapshot first. Then no answer leaves after a change of the rules was
    /// acknowledged, unless these allow it.
    ///
    /// # Errors
    /// The caller may do nothing any more.
    pub(super) fn now<T>(&self, app: &App, decide: impl FnOnce(&Access<'_>) -> T) -> Result<T, ApiError> {
        let rules = app.rules.load_full();
        if Arc::ptr_eq(&rules, self.rules) {
            return Ok(decide(self.access));
        }
        match self.peer.access(app.own_uid, &rules) {
            Some((_, access)) => Ok(decide(&access)),
            None => Err(ApiError::forbidden()),
        }
    }

    /// Reads the body of a request of an administrator, who has to be one still when it has arrived.
    ///
    /// # Errors
    /// As `request::object`; the caller may not do that any more.
    pub(super) async fn object(&self, app: &App, body: Incoming) -> Result<request::Fields, ApiError> {
        let fields = request::object(body, self.intake(app)).await?;
        if self.now(app, |access| access.administers())? { Ok(fields) } else { Err(ApiError::forbidden()) }
    }

    /// How the body may arrive.
    pub(super) fn intake<'a>(&self, app: &'a App) -> request::Intake<'a> {
        let (limit, budget) = (self.config.limits.transfer, &app.resolver.budget);
        request::Intake { limit, budget, uid: self.caller.uid }
    }

    /// The version of an answer that the caller has already.
    pub(super) fn known(&self) -> Option<&str> {
        self.parts.headers.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok())
    }
}

/// Answers one request of a caller that may ask for something.
///
/// # Errors
/// What the caller is told instead.
pub async fn answer(app: &Arc<App>, endpoint: Endpoint, asked: Asked<'_>, body: Incoming) -> Answer {
    let Asked { params, parts, caller, access, config, .. } = asked;
    let query = asked.query();
    let param = |name: &str| params.get(name).unwrap_or_default();
    let intake = asked.intake(app);
    if !endpoint.is_open() && !access.administers() {
        return Err(forbidden(app, endpoint, asked));
    }
    let actor = Actor::caller(caller);
    if matches!(endpoint, Endpoint::Render | Endpoint::RenderInline | Endpoint::Resolve) {
        in_time(app.sync.handle.head_age(), config.max_head_age)?;
    }
    match endpoint {
        Endpoint::Render => {
            let [target] = request::query(query, ["target"])?;
            let id = template_id(params)?;
            render(app, &id, target.as_deref(), asked).await
        }
        Endpoint::RenderInline => {
            request::query(query, [])?;
            let mut fields = request::object(body, intake).await?;
            let wanted = inline::Inline::read(&mut fields);
            // The template waits for its turn.
            let _reservation = fields.reservation();
            fields.finish()?;
            inline::render(app, wanted?, asked).await
        }
        Endpoint::Resolve => {
            request::query(query, [])?;
            let mut fields = request::object(body, intake).await?;
            let (names, reveal) = (fields.names("secrets"), fields.flag("reveal").unwrap_or(false));
            fields.finish()?;
            let snapshot = app.resolver.current.load();
            let refused = asked.now(app, |access| refused(&snapshot, names.iter(), access))?;
            if !refused.is_empty() {
                let secrets = refused.iter().map(|index| (&names[*index], ""));
                app.resolver.forbid(caller, &endpoint.route(), None, secrets);
                let entry = |index: &usize| json!({"field": format!("secrets.{index}"), "message": FORBIDDEN_SECRET});
                return Err(ApiError::with(Code::Forbidden, FORBIDDEN, refused.iter().map(entry)).recorded());
            }
            let resolve = || leaving_nothing(|| app.resolver.resolve(snapshot, &names, caller)).map_err(ApiError::from);
            let body =
                if reveal && access.administers() { revealed(app, &actor, &names, resolve).await? } else { resolve()? };
            Ok(with_body(body, "application/json"))
        }
        Endpoint::ListSecrets => {
            let (filter, since) = (request::inventory(query)?, Instant::now());
            let (count, items) = blocking(app, move |inventory| inventory.list(&filter, since)).await?;
            // The longest answer there is: it grows into one buffer, not through many.
            let bytes = Vec::with_capacity(64 + 384 * items.len());
            Ok(json_answer_in(bytes, StatusCode::OK, &request::Listing { count, items }))
        }
        Endpoint::CreateSecret => {
            request::query(query, [])?;
            let mut fields = asked.object(app, body).await?;
            let (name, value) = (fields.name("name"), fields.value("value"));
            let enabled = fields.flag("enabled").unwrap_or(true);
            fields.finish()?;
            let (Some(name), Some(value)) = (name, value) else {
                return Err(ApiError::new(Code::Internal, "a field was read twice"));
            };
            acknowledged(StatusCode::CREATED, create(app, &actor, name, value, enabled).await?)
        }
        Endpoint::ShowSecret => {
            request::query(query, [])?;
            let name = request::name(param("name"))?;
            let shown = show(app, name).await?;
            let answer = json_answer(StatusCode::OK, &shown);
            Ok(match &shown.etag {
                Some(etag) => tagged(answer, etag),
                None => answer,
            })
        }
        Endpoint::ChangeSecret => {
            request::query(query, [])?;
            let (name, expected) = (request::name(param("name"))?, request::if_match(&parts.headers)?);
            let mut fields = asked.object(app, body).await?;
            let change = SecretChange {
                name: fields.optional_name("name"),
                value: fields.optional_value("value"),
                enabled: fields.flag("enabled"),
                rewrite: fields.flag("rewrite").unwrap_or(false),
            };
            fields.finish()?;
            acknowledged(StatusCode::OK, update(app, &actor, name, change, expected).await?)
        }
        Endpoint::RollBackSecret => {
            request::query(query, [])?;
            let (name, expected) = (request::name(param("name"))?, request::if_match(&parts.headers)?);
            let mut fields = asked.object(app, body).await?;
            let version = fields.number("version");
            fields.finish()?;
            let version = version.unwrap_or_default();
            acknowledged(StatusCode::OK, roll_back(app, &actor, name, version, expected).await?)
        }
        Endpoint::DeleteSecret => {
            request::query(query, [])?;
            let (name, expected) = (request::name(param("name"))?, request::if_match(&parts.headers)?);
            delete(app, &actor, name, expected).await?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        Endpoint::ListTemplates => {
            let page = request::page(query)?;
            let strays = view::strays(&strays(app).await?);
            Ok(json_answer(StatusCode::OK, &view::Templates { page: page.of(view::templates(app).await), strays }))
        }
        Endpoint::ShowTemplate => {
            request::query(query, [])?;
            let (_, prepared) = current(app, &template_id(params)?, Instant::now() + PLAN_TIME).await?;
            Ok(json_answer(StatusCode::OK, &view::template(app, &prepared).await))
        }
        Endpoint::Explain => {
            let [target] = request::query(query, ["target"])?;
            let id = template_id(params)?;
            let (_, prepared, plan) = planned(app, &id, target.as_deref()).await?;
            Ok(json_answer(StatusCode::OK, &view::explain(&prepared, &plan, target.as_deref())))
        }
        Endpoint::ListPlugins => {
            let page = request::page(query)?;
            Ok(json_answer(StatusCode::OK, &page.of(plugins::list(app).await)))
        }
        Endpoint::AddPlugin => {
            request::query(query, [])?;
            plugins::add(app, &actor, asked.object(app, body).await?).await
        }
        Endpoint::RemovePlugin => {
            request::query(query, [])?;
            plugins::remove(app, &actor, &request::part(param("feature"))?).await
        }
        // Its answer has another kind of body; who may not is refused above.
        Endpoint::Events => Err(ApiError::new(Code::Internal, "events are a stream")),
        Endpoint::Usage => {
            let (page, wanted) = request::events(query)?;
            let resolver = Arc::clone(&app.resolver);
            let events = blocking(app, move |_| Ok(usage::events(&resolver, page, &wanted)?)).await?;
            Ok(json_answer(StatusCode::OK, &events))
        }
        Endpoint::Console => {
            request::query(query, [])?;
            Ok(json_answer(StatusCode::OK, &link(app, caller).await?))
        }
        Endpoint::Reload => {
            request::query(query, [])?;
            Ok(json_answer(StatusCode::OK, &configuration::answer(app, caller).await?))
        }
        Endpoint::Status => {
            request::query(query, [])?;
            Ok(json_answer(StatusCode::OK, &view::status(app).await?))
        }
        Endpoint::Metrics => {
            request::query(query, [])?;
            let told = Arc::clone(app);
            let text = blocking(app, move |inventory| Ok(metrics::text(&told, inventory)?)).await?;
            Ok(with_body(text.into(), metrics::MEDIA_TYPE))
        }
        Endpoint::Account
        | Endpoint::BeginAccount
        | Endpoint::Invite
        | Endpoint::ListDevices
        | Endpoint::RevokeDevice
        | Endpoint::Recovery
        | Endpoint::Repair
        | Endpoint::LeaveAccount => {
            request::query(query, [])?;
            account::answer(app, endpoint, asked, body).await
        }
        Endpoint::Health => {
            let health = json!({"status": "ok", "home": app.home_id.to_string()});
            Ok(json_answer(StatusCode::OK, &health))
        }
    }
}

/// Whether this device has heard of its account lately enough to serve: how old the newest head is, in milliseconds,
/// and how old it may be.
pub(super) fn in_time(age: Option<Millis>, most: Option<Duration>) -> Result<(), ApiError> {
    let Some((age, most)) = age.zip(most).filter(|(age, most)| u128::from(*age) > most.as_millis()) else {
        return Ok(());
    };
    let message = format!(
        "the newest state of the account is {} s old, and account.max_head_age_seconds is {}; nothing is resolved until this device hears of the account again. `guillemet account status` shows why",
        age / 1000,
        most.as_secs()
    );
    Err(ApiError::new(Code::Unavailable, message))
}

/// A secret, or the row of a missing one, with the fields its references stand in, and with what the account's other
/// devices have reported of its use until now: whoever rotates or deletes it decides by that.
///
/// # Errors
/// The inventory's.
pub async fn show(app: &Arc<App>, name: SecretName) -> Result<SecretDetail, ApiError> {
    sync::refresh_reports(&app.sync).await;
    let shown = show_all(app, vec![name.clone()], Instant::now()).await?.pop();
    shown.ok_or_else(|| InventoryError::NotFound(name.to_string()).into())
}

/// The same of each of these names that is there, true to the files as they were at `since` or later. Which fields
/// references stand in is known once their templates are planned; what takes too long for that is shown without.
///
/// # Errors
/// The inventory's, but for names that are not there.
pub async fn show_all(app: &Arc<App>, names: Vec<SecretName>, since: Instant) -> Result<Vec<SecretDetail>, ApiError> {
    let names: Arc<[SecretName]> = names.into();
    let look = |names: Arc<[SecretName]>| {
        blocking(app, move |inventory| {
            let shown = names.iter().map(|name| inventory.show(name, since));
            shown.filter(|shown| !matches!(shown, Err(InventoryError::NotFound(_)))).collect::<Result<Vec<_>, _>>()
        })
    };
    let mut shown = look(Arc::clone(&names)).await?;
    let snapshot = app.resolver.current.load();
    let references = shown.iter().flat_map(|shown| &shown.references);
    let unknown = references.filter(|reference| reference.device.is_none() && reference.field.is_none());
    let unplanned: BTreeSet<&str> = unknown.map(|reference| reference.template.as_str()).collect();
    let unplanned = unplanned.into_iter().filter_map(|id| snapshot.templates.get(id));
    let unplanned: Vec<_> = unplanned.filter(|prepared| prepared.is_good().is_none()).cloned().collect();
    drop(snapshot);
    if !unplanned.is_empty() {
        plan_for_fields(app, unplanned).await;
        shown = look(names).await?;
    }
    Ok(shown)
}

/// Works templates out, so that the fields of their references are known.
async fn plan_for_fields(app: &App, unplanned: Vec<Arc<Prepared>>) {
    let config = app.config.load_full();
    let plan = async {
        for prepared in unplanned {
            // A template without a plan is shown without fields.
            let _ = prepared.plans(&app.registry, &config.variables).await;
        }
    };
    let _ = tokio::time::timeout(PLAN_TIME, plan).await;
}

fn acknowledged(status: StatusCode, changed: Changed) -> Answer {
    Ok(tagged(json_answer(status, &changed), &changed.etag))
}

/// Calls the inventory for a change of a secret. Returns when no answer of the old state can still leave; that it was
/// not made is recorded.
async fn changed(
    app: &Arc<App>,
    actor: &Actor,
    wanted: &[(ChangeKind, About)],
    change: impl FnOnce(&Inventory, &Actor) -> Result<(Changed, Released), InventoryError> + Send + 'static,
) -> Result<Changed, ApiError> {
    let by = actor.clone();
    audit::attempt(app, actor, wanted, async {
        let (changed, released) = blocking(app, move |inventory| change(inventory, &by)).await?;
        released.wait().await;
        Ok(changed)
    })
    .await
}

/// Creates a secret.
///
/// # Errors
/// The inventory's.
pub async fn create(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    value: Zeroizing<String>,
    enabled: bool,
) -> Result<Changed, ApiError> {
    let wanted = [(ChangeKind::SecretCreated, audit::about(&app.resolver, actor, &name))];
    changed(app, actor, &wanted, move |inventory, actor| inventory.create(actor, name, &value, enabled)).await
}

/// Changes a secret, if it still is what `expected` says.
///
/// # Errors
/// The inventory's.
pub async fn update(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    change: SecretChange,
    expected: Option<String>,
) -> Result<Changed, ApiError> {
    let about = audit::about(&app.resolver, actor, &name);
    let kinds = [
        change.value.as_ref().map(|_| ChangeKind::SecretRotated),
        change.enabled.map(|on| if on { ChangeKind::SecretEnabled } else { ChangeKind::SecretDisabled }),
        change.name.as_ref().map(|_| ChangeKind::SecretRenamed),
        change.rewrite.then_some(ChangeKind::ReferencesRewritten),
    ];
    let wanted: Vec<_> = kinds.into_iter().flatten().map(|kind| (kind, about.clone())).collect();
    changed(app, actor, &wanted, move |inventory, actor| inventory.update(actor, &name, change, expected.as_deref()))
        .await
}

/// Gives a secret the value of a former version again, if it still is what `expected` says.
///
/// # Errors
/// The inventory's.
pub async fn roll_back(
    app: &Arc<App>,
    actor: &Actor,
    name: SecretName,
    version: u32,
    expected: Option<String>,
) -> Result<Changed, ApiError> {
    let wanted = [(ChangeKind::SecretRolledBack, audit::about(&app.resolver, actor, &name))];
    changed(app, actor, &wanted, move |inventory, actor| inventory.rollback(actor, &name, version, expected.as_deref()))
        .await
}

/// Deletes a secret that nothing references, and what was resolved of it.
///
/// # Errors
/// The inventory's.
pub async fn delete(app: &Arc<App>, actor: &Actor, name: SecretName, expected: Option<String>) -> Result<(), ApiError> {
    let wanted = [(ChangeKind::SecretDeleted, audit::about(&app.resolver, actor, &name))];
    let deleting = async { Ok(sync::delete(&app.sync, actor, name, expected).await?) };
    let (id, released) = audit::attempt(app, actor, &wanted, deleting).await?;
    released.wait().await;
    // After the last answer that could still have recorded one.
    blocking(app, move |inventory| inventory.forget_usage(id)).await
}

/// Resolves secrets for a person who looks at their values: that is recorded beside the use, and before the answer
/// leaves.
async fn revealed(
    app: &Arc<App>,
    actor: &Actor,
    names: &[SecretName],
    resolve: impl FnOnce() -> Result<Bytes, ApiError>,
) -> Result<Bytes, ApiError> {
    let kind = ChangeKind::SecretRevealed;
    let wanted: Vec<_> = names.iter().map(|name| (kind, audit::about(&app.resolver, actor, name))).collect();
    let body = audit::attempt(app, actor, &wanted, async { resolve() }).await?;
    let done = wanted.into_iter().map(|(kind, about)| Change::new(kind, actor, now()).about(about));
    audit::record(app, done.collect()).await?;
    Ok(body)
}

async fn link(app: &Arc<App>, caller: &Caller) -> Result<Link, ApiError> {
    let closed = || ApiError::new(Code::Unavailable, "the console is not to be had: the daemon is stopping");
    let (answer, link) = tokio::sync::oneshot::channel();
    let wanted = LinkWanted { caller: caller.clone(), answer };
    app.links.send(wanted).await.map_err(|_| closed())?;
    link.await.map_err(|_| closed())?.map_err(|why| ApiError::new(Code::Unavailable, why))
}

/// Calls a part that blocks.
///
/// # Errors
/// The part's.
pub async fn blocking<T: Send + 'static>(
    app: &Arc<App>,
    call: impl FnOnce(&Inventory) -> Result<T, InventoryError> + Send + 'static,
) -> Result<T, ApiError> {
    match app.inventory.run(call).await {
        Ok(result) => Ok(result?),
        Err(Panicked) => Err(ApiError::internal()),
    }
}

/// A template that may be served: the account's other devices know what it names, or cannot be told now.
async fn told(
    app: &App,
    snapshot: Arc<Snapshot>,
    prepared: Arc<Prepared>,
    until: Instant,
) -> Result<(Arc<Snapshot>, Arc<Prepared>), ApiError> {
    if app.sync.handle.is_settled(&prepared.template) {
        return Ok((snapshot, prepared));
    }
    // Nothing of the old state is held while waiting: the account may change it.
    drop(snapshot);
    if app.sync.handle.published(&prepared.template, until).await {
        return Ok((app.resolver.current.load(), prepared));
    }
    let message = "the account's other devices could not be told yet what this template names; try again";
    Err(ApiError::new(Code::Unavailable, message))
}

/// Brings what is known of templates up to the files, where those answer soon, and returns the files that are none.
///
/// # Errors
/// When the inventory fails inside.
pub async fn strays(app: &Arc<App>) -> Result<Vec<Arc<Stray>>, ApiError> {
    let since = Instant::now();
    blocking(app, move |inventory| {
        inventory.refresh(since);
        Ok(inventory.strays())
    })
    .await
}

/// How many read a template again for a request at the same time. One that waits for a file system that hangs keeps its
/// place, so those behind a network have places of their own.
pub struct Rechecks {
    local: Arc<Semaphore>,
    remote: Arc<Semaphore>,
}

impl Default for Rechecks {
    fn default() -> Self {
        let places = || Arc::new(Semaphore::new(RECHECKS));
        Self { local: places(), remote: places() }
    }
}

impl Rechecks {
    /// Reads what may be the template `id` again.
    async fn recheck(&self, app: &Arc<App>, id: &str, is_local: bool, until: Instant) -> Result<(), ApiError> {
        let late = || {
            let message = format!("the file of template `{id}` does not answer; try again when its file system does");
            ApiError::new(Code::Unavailable, message)
        };
        let places = Arc::clone(if is_local { &self.local } else { &self.remote });
        let owned_id = id.to_owned();
        let recheck = async {
            let Ok(place) = places.acquire_owned().await else { return Err(late()) };
            let read = move |inventory: &Inventory| {
                let _place = place;
                inventory.recheck(&owned_id);
                Ok(())
            };
            blocking(app, read).await
        };
        tokio::time::timeout_at(until.into(), recheck).await.map_err(|_| late())?
    }
}

/// The newest form of a template: what is served is what is in the file now.
///
/// # Errors
/// There is none, or it does not rest.
pub async fn current(app: &Arc<App>, id: &str, until: Instant) -> Result<(Arc<Snapshot>, Arc<Prepared>), ApiError> {
    let mut read: Option<Arc<Prepared>> = None;
    let mut rechecked = false;
    loop {
        let snapshot = app.resolver.current.load();
        let found = snapshot.templates.get(id).cloned();
        match found {
            Some(prepared) if prepared.template.is_local && prepared.template.is_current() => {
                return told(app, snapshot, prepared, until).await;
            }
            // Not sure by its metadata, but it has been read since then and was as it had been.
            Some(prepared) if read.as_ref().is_some_and(|read| Arc::ptr_eq(read, &prepared)) => {
                return told(app, snapshot, prepared, until).await;
            }
            None if rechecked => {
                let message = format!("there is no template `{id}`; `guillemet template list` shows which there are");
                return Err(ApiError::new(Code::NotFound, message));
            }
            _ if Instant::now() >= until => {
                let message = format!("template `{id}` keeps changing; try again when it rests");
                return Err(ApiError::new(Code::Unavailable, message));
            }
            // Changed, gone or new since it was read; or nobody can tell without a wait.
            found => {
                let is_local = found.as_ref().is_none_or(|prepared| prepared.template.is_local);
                read = found;
                drop(snapshot);
                app.rechecks.recheck(app, id, is_local, until).await?;
                rechecked = true;
            }
        }
    }
}

/// The newest form of a template with its plan for a target, and the snapshot both belong to.
///
/// # Errors
/// As `current`, or why there is no plan.
pub async fn planned(
    app: &Arc<App>,
    id: &str,
    target: Option<&str>,
) -> Result<(Arc<Snapshot>, Arc<Prepared>, Arc<Plan>), ApiError> {
    let until = Instant::now() + PLAN_TIME;
    let mut has_caught_up = false;
    loop {
        let (snapshot, prepared) = current(app, id, until).await?;
        match prepared.ready(target) {
            Some(Ok(plan)) => return Ok((snapshot, prepared, plan)),
            Some(Err(unplanned)) => {
                drop(snapshot);
                let may_be_of_variables = matches!(unplanned, Unplanned::Problems(_));
                if may_be_of_variables && !std::mem::replace(&mut has_caught_up, true) {
                    let catching_up = configuration::catch_up(app);
                    let _ = tokio::time::timeout_at(until.into(), catching_up).await;
                    continue;
                }
                let hint = if may_be_of_variables { app.configuration_hint() } else { None };
                return Err(ApiError::unplanned(Some(id), &unplanned).with_detail(hint));
            }
            None => {}
        }
        // Nothing of the old state is held while waiting, so that no change has to wait for this plan.
        drop(snapshot);
        let config = app.config.load_full();
        let making = prepared.plan(target, &app.registry, &config.variables);
        match tokio::time::timeout_at(until.into(), making).await {
            Err(_) => {
                let message = format!("template `{id}` is still being worked out; try again");
                return Err(ApiError::new(Code::Unavailable, message));
            }
            Ok(Err(unplanned @ (Unplanned::NoTarget(_) | Unplanned::Plugin(_)))) => {
                return Err(ApiError::unplanned(Some(id), &unplanned));
            }
            Ok(_) => {}
        }
    }
}

async fn render(app: &Arc<App>, id: &str, target: Option<&str>, asked: Asked<'_>) -> Answer {
    if !may_render(app, id, target, asked.access).await {
        return Err(forbidden_template(app, Endpoint::Render, id, asked.caller));
    }
    let (snapshot, prepared, plan) = planned(app, id, target)
        .await
        .map_err(|error| if asked.access.administers() { error } else { error.without_quotes(id) })?;
    // Another default, if the template was edited or the plugin replaced meanwhile; other rules, if the configuration was.
    let names: Vec<&str> = plan.target.names().collect();
    if !asked.now(app, |access| access.may_render(id, Some(&names)))? {
        return Err(forbidden_template(app, Endpoint::Render, id, asked.caller));
    }
    check_same_target(&plan.target, asked)?;
    let of = Some(prepared.template.id.as_str());
    let rendered = leaving_nothing(|| app.resolver.render(snapshot, of, &plan, asked.caller, asked.known()))?;
    Ok(document(rendered, &plan.target, target))
}

/// Whether a caller may render a template for a target. A problem of the template is nobody's business who may not, so
/// nothing but its targets is looked at, and those only where a rule for one of them is all the caller has.
async fn may_render(app: &Arc<App>, id: &str, target: Option<&str>, access: &Access<'_>) -> bool {
    if access.administers() {
        return true;
    }
    // Where it may not for any target, not even the plugin is asked.
    if !access.may_render(id, None) {
        return false;
    }
    if access.may_render_any(id) {
        return true;
    }
    let (feature, _) = id.split_once('/').unwrap_or_default();
    let of_feature = async || app.registry.targets(feature).await.unwrap_or_default();
    if let Some(name) = target {
        let known = of_feature().await.into_iter().find(|known| known.names().any(|known| known == name));
        return match known {
            Some(known) => access.may_render(id, Some(&known.names().collect::<Vec<_>>())),
            None => access.may_render(id, Some(&[name])),
        };
    }
    let config = app.config.load_full();
    let named = async {
        let (_, prepared) = current(app, id, Instant::now() + PLAN_TIME).await.ok()?;
        prepared.targets(&app.registry, &config.variables).await.ok()
    };
    let default = match tokio::time::timeout(PLAN_TIME, named).await.ok().flatten() {
        Some(targets) => targets.list.first().cloned(),
        // It is not there, or broken: it is told as one without targets of its own.
        None => of_feature().await.into_iter().next(),
    };
    default.is_some_and(|default| access.may_render(id, Some(&default.names().collect::<Vec<_>>())))
}

/// Notes that a caller was refused a template. It is told the same whether there is one or not, and what it
/// typed is kept only where there is.
fn forbidden_template(app: &Arc<App>, endpoint: Endpoint, id: &str, caller: &Caller) -> ApiError {
    let (snapshot, route) = (app.resolver.current.load(), endpoint.route());
    match snapshot.templates.get(id) {
        Some(prepared) => {
            let template = &prepared.template;
            let names = template.references().iter().map(|reference| (&reference.name, ""));
            app.resolver.forbid(caller, &route, Some(&template.id), names);
        }
        None => app.resolver.forbid_unknown(caller, &route, id),
    }
    ApiError::forbidden().recorded()
}

/// Notes that a caller was refused what takes the right to administer.
fn forbidden(app: &Arc<App>, endpoint: Endpoint, asked: Asked<'_>) -> ApiError {
    let (resolver, caller, route) = (&app.resolver, asked.caller, endpoint.route());
    let param = |name| asked.params.get(name).map(|raw| request::part(raw).unwrap_or(raw.into()));
    match (param("feature"), param("name")) {
        (Some(feature), Some(name)) => {
            return forbidden_template(app, endpoint, &[&*feature, "/", &*name].concat(), caller);
        }
        (None, Some(name)) => match name.parse() {
            Ok(name) => resolver.forbid(caller, &route, None, [(&name, "")].into_iter()),
            Err(_) => resolver.forbid_unknown(caller, &route, &name),
        },
        (_, None) => resolver.forbid(caller, &route, None, std::iter::empty()),
    }
    ApiError::forbidden().recorded()
}

/// Which of these secrets a caller may not resolve by name.
pub(super) fn refused<'a>(
    state: &State,
    names: impl Iterator<Item = &'a SecretName>,
    access: &Access<'_>,
) -> Vec<usize> {
    if access.administers() {
        return Vec::new();
    }
    let may = |name: &SecretName| access.may_resolve(name, state.secret(&name.key()).map(|secret| &secret.name));
    names.enumerate().filter(|(_, name)| !may(name)).map(|(index, _)| index).collect()
}

/// Names the target that a config was rendered for, by its present name.
pub const TARGET: HeaderName = HeaderName::from_static("guillemet-target");
/// A condition of a render: that this is a name of the target too, the present one or a former one. Nothing is rendered
/// otherwise.
pub const SAME_TARGET: HeaderName = HeaderName::from_static("guillemet-if-target");

/// A rendered config as an answer; `asked` is the target as the caller named it.
pub(super) fn document(rendered: Rendered, target: &Target, asked: Option<&str>) -> Response<Full<Bytes>> {
    let response = match rendered.body {
        Some(body) => with_body(body, &rendered.media_type),
        None => empty(StatusCode::NOT_MODIFIED),
    };
    let mut response = tagged(response, &rendered.etag);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Ids and a sentence made of them: ASCII without quotes.
    headers.extend(HeaderValue::from_str(&target.id).ok().map(|id| (TARGET, id)));
    // RFC 7234, section 5.5: a warning that lasts, by no agent in particular.
    let renamed = target.renamed(asked).and_then(|text| HeaderValue::from_str(&format!("299 - \"{text}\"")).ok());
    headers.extend(renamed.map(|warning| (WARNING, warning)));
    response
}

/// Refuses a render for another target than the one that its caller has a copy of.
fn check_same_target(target: &Target, asked: Asked<'_>) -> Result<(), ApiError> {
    let Some(copy) = asked.parts.headers.get(SAME_TARGET) else { return Ok(()) };
    if target.names().any(|name| name.as_bytes() == copy.as_bytes()) {
        return Ok(());
    }
    Err(ApiError::new(Code::Conflict, format!("the target `{}` is not the one of {SAME_TARGET}", target.id)))
}

fn template_id(params: &matchit::Params<'_, '_>) -> Result<String, ApiError> {
    let part = |name| request::part(params.get(name).unwrap_or_default());
    Ok([&*part("feature")?, "/", &*part("name")?].concat())
}

pub(super) fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn with_body(body: Bytes, media_type: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let media_type = HeaderValue::from_str(media_type).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

fn tagged(mut response: Response<Full<Bytes>>, etag: &str) -> Response<Full<Bytes>> {
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

pub(super) fn json_answer<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Response<Full<Bytes>> {
    json_answer_in(Vec::with_capacity(512), status, body)
}

/// The same in a buffer that has room for it.
fn json_answer_in<T: Serialize + ?Sized>(mut bytes: Vec<u8>, status: StatusCode, body: &T) -> Response<Full<Bytes>> {
    if serde_json::to_writer(&mut bytes, body).is_err() {
        bytes.clear();
    }
    bytes.push(b'\n');
    let mut response = with_body(bytes.into(), "application/json");
    *response.status_mut() = status;
    response
}

//! A request that cannot be recorded is not answered (promise Recorded).

use super::*;
use crate::app::error::AppError;
use crate::http::error::HttpError;
use guillemet_plan::expr::Expr;
use guillemet_plan::protocol::{DocumentKind, Emission, Planned, PlannedSlot, Target};
use guillemet_secret::crypto::Key;
use guillemet_template::lexer::Reference;
use guillemet_vault::usage::RecorderOptions;

const VALUE: &str = "canary-value";

/// Returns the plan of `{"a": VALUE}`, where the value is that of the secret `name`.
fn plan_of(name: &str) -> Plan {
    const SLOT: &str = "Z000000000000000000000000000000000000001";
    let planned = Planned {
        document: format!(r#"{{"a": "{SLOT}"}}"#),
        kind: DocumentKind::Json,
        slots: vec![PlannedSlot { slot: SLOT.into(), expr: Expr::Secret(0) }],
        emissions: vec![Emission { reference: 0, field: "a".into() }],
        warnings: Vec::new(),
        cost: Default::default(),
    };
    let target = Target {
        id: "t".into(),
        title: "T".into(),
        media_type: "application/json".into(),
        file_name: "t".into(),
        aliases: Vec::new(),
    };
    let reference = Reference { name: name.parse().unwrap(), line: 1, column: 1, filters: Vec::new() };
    plan::verify(planned, &[reference], target).unwrap()
}

#[test]
fn what_the_journal_does_not_take_does_not_leave() {
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("db");
    let other = rusqlite::Connection::open(&database).unwrap();
    other.pragma_update(None, "journal_mode", "WAL").unwrap();
    drop(other);
    let options = RecorderOptions { journal_len: 4096 + 2 * 1024, ..RecorderOptions::default() };
    let key = Key::from_bytes(&mut [5; 32]);
    let recorder = Recorder::open_with(&dir.path().join("journal"), &database, [1; 16], key, options).unwrap();
    let mut state = SnapshotState::default();
    let name: SecretName = "token".parse().unwrap();
    state.put(None, Arc::new(Secret::new(name.clone(), VALUE, true, 1).unwrap()));
    let resolver = Resolver {
        current: CurrentSnapshot::new(state),
        recorder,
        budget: Budget::new(1 << 20),
        logged_callers: Default::default(),
    };
    let (plan, caller) = (plan_of("token"), Caller { uid: 1, gid: 1, pid: 1, exe: "/usr/bin/agent".into() });
    let render = |plan: &Plan, if_none_match: Option<&str>| {
        resolver.render(resolver.current.load(), Some("mcp-server/a"), plan, &caller, if_none_match)
    };
    let resolve = |name: &SecretName| resolver.resolve(resolver.current.load(), std::slice::from_ref(name), &caller);
    let Ok(RenderedConfig { etag, body, .. }) = render(&plan, None) else { panic!("it is rendered") };
    assert!(body.unwrap().windows(VALUE.len()).any(|window| window == VALUE.as_bytes()));
    resolver.recorder.fold().unwrap();

    // From here on nothing can be folded.
    rusqlite::Connection::open(&database).unwrap().execute_batch("ALTER TABLE usage_places RENAME TO gone").unwrap();
    let answered = (0..1000).take_while(|_| resolve(&name).is_ok()).count();
    assert!((1..1000).contains(&answered), "{answered}");
    let missing: SecretName = "missing".parse().unwrap();
    let refused = [
        render(&plan, None).err(),
        // Answers only that the caller's copy is still current.
        render(&plan, Some(&etag)).err(),
        // A refusal is recorded too.
        render(&plan_of("missing"), None).err(),
        resolve(&name).err(),
        resolve(&missing).err(),
    ];
    for (index, refused) in refused.into_iter().enumerate() {
        let refused = refused.unwrap_or_else(|| panic!("{index} has left without a record"));
        assert!(matches!(refused, ResolveError::Unrecorded(_)), "{index}: {refused:?}");
        let error = HttpError::from(AppError::from(refused));
        let body = String::from_utf8(error.body()).unwrap();
        assert_eq!(error.status(), 503);
        assert!(body.contains(r#""code":"service_unavailable""#) && !body.contains(VALUE), "{body}");
    }

    rusqlite::Connection::open(&database).unwrap().execute_batch("ALTER TABLE gone RENAME TO usage_places").unwrap();
    assert!(resolve(&name).is_ok() && render(&plan, None).is_ok());
    #[expect(clippy::disallowed_methods, reason = "a test may block")]
    let sums = resolver.recorder.sums().unwrap();
    assert_eq!(sums.resolutions as usize, answered + 3);
}

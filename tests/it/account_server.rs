//! The account server over real TLS: one story for every storage, and how the server behaves when it is stopped, full,
//! overloaded, or asked by callers without rights.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Instant;

use crate::support::account::{Device, Place, Server, change, ends, head, object, record, sealed, status, told};
use crate::support::daemon::PROGRAM;
use crate::support::users::{AGENT, can};
use guillemet_account::client::{AccountClient, AccountClientError};
use guillemet_base::random::random;
use guillemet_testing::wait::{PATIENCE, until_async};
use guillemet_wire::api_key::ApiKey;
use guillemet_wire::{
    AccountId, EpochLink, Hash, HeadRef, InviteRegistration, PullCursor, Push, SealedHead, SealedRecord, ServerEvent,
    UsageUpload,
};

fn after(seq: u64) -> PullCursor {
    PullCursor { heads_after: seq, records_after: seq, after_id: None }
}

#[tokio::test]
async fn the_story_on_sqlite() {
    story(&Place::sqlite()).await;
}

#[tokio::test]
async fn the_story_on_postgresql() {
    if let Some(place) = Place::postgres() {
        story(&place).await;
    }
}

async fn story(place: &Place) {
    let server = Server::start(place);
    let (first, creation, at_1) = an_account_begins(&server, place).await;
    let at_3 = records_come_and_go(&first, at_1).await;
    let at_4 = one_of_many_wins(&first, at_3).await;
    who_may_not_is_told_nothing(&server, place, &first, &creation).await;
    let (second, at_5) = a_device_joins(&server, place, &first, at_4).await;
    let at_6 = a_device_is_revoked(&first, &second, at_5).await;
    keys_are_not_kept(place, &[&creation, &first.key, &second.key]);
    let at_3_again = a_head_is_restored(place, &first, &second, at_3, at_6).await;
    let at_4_again = first.push(at_3_again, &change(at_3_again, vec![record(object(), 1)])).await.unwrap();
    assert_eq!(at_4_again.seq, 4);
    assert!(server.stop());

    // Another server on the same storage has the same state.
    let server = Server::start(place);
    let first = first.at(&server);
    assert_eq!(first.pull(PullCursor::default(), 1000).await.unwrap().newest, Some(at_4_again));
    an_account_is_removed(place, &first).await;
    assert!(server.stop());
}

async fn an_account_begins(server: &Server, place: &Place) -> (Device, ApiKey, HeadRef) {
    let (account, creation) = server.create_account(place);
    let client = server.client(Some(&creation));
    let current = client.current().await.unwrap();
    assert_eq!((current.id, current.device, current.admitted), (account, None, false));
    // The key that an account is made with allows only one push.
    assert_eq!(status(client.changes(account, &PullCursor::default(), 10).await), 403);
    assert_eq!(status(client.events(account).await), 403);
    assert_eq!(status(client.push(account, &head(1, Hash::default()), Some(Hash([1; 32]))).await), 403);
    let device = Device::new(server, account);
    let push = Push { keys: vec![device.device_key()], wraps: vec![device.wrap(1)], ..head(1, Hash::default()) };
    let newest = client.push(account, &push, None).await.unwrap();
    assert_eq!(newest, HeadRef { seq: 1, hash: push.head.hash(account) });
    // If the answer was lost, the same push again returns the present head.
    let again = client.push(account, &push, None).await;
    assert!(matches!(again, Err(AccountClientError::Conflict(Some(told))) if told == newest), "{again:?}");

    let current = device.client.current().await.unwrap();
    assert_eq!((current.id, current.device, current.admitted), (account, Some(device.id), true));
    let pulled = device.pull(PullCursor::default(), 1000).await.unwrap();
    assert_eq!((pulled.newest, pulled.heads, pulled.wraps), (Some(newest), vec![push.head], push.wraps));
    (device, creation, newest)
}

async fn records_come_and_go(device: &Device, at_1: HeadRef) -> HeadRef {
    let (kept, changed, removed) = (record(object(), 1), record(object(), 1), record(object(), 1));
    let at_2 = device.push(at_1, &change(at_1, vec![kept.clone(), changed.clone(), removed.clone()])).await.unwrap();
    let (newer, gone) = (record(changed.id, 2), SealedRecord { revision: 2, sealed: None, ..removed.clone() });
    let push = change(at_2, vec![newer.clone(), gone.clone()]);
    let at_3 = device.push(at_2, &push).await.unwrap();

    // After head 2, a pull returns the changes of head 3, with a mark for a removed record.
    let since = device.pull(after(2), 1000).await.unwrap();
    let mut found: Vec<_> = since.records.into_iter().map(|changed| (changed.seq, changed.record)).collect();
    found.sort_by_key(|(_, record)| record.id);
    let mut wanted = vec![(3, newer), (3, gone)];
    wanted.sort_by_key(|(_, record)| record.id);
    assert_eq!(found, wanted);
    assert_eq!(since.heads, [push.head]);
    // From the beginning, in the smallest pages, a pull returns the newest form of each record.
    let all = device.pull(PullCursor::default(), 1).await.unwrap();
    assert_eq!((all.heads.len(), all.records.len(), all.newest), (3, 3, Some(at_3)));
    assert!(all.records.iter().any(|found| found.seq == 2 && found.record == kept));
    assert_eq!(device.pull(after(3), 1000).await.unwrap().records, []);

    for wrong in
        [head(3, at_3.hash), Push { head: SealedHead { epoch: 0, ..head(4, at_3.hash).head }, ..head(4, at_3.hash) }]
    {
        assert_eq!(status(device.push(at_3, &wrong).await), 422);
    }
    // A refused push leaves nothing behind.
    let twice = change(at_3, vec![record(object(), 1), record(kept.id, 2), record(kept.id, 2)]);
    assert_eq!(status(device.push(at_3, &twice).await), 422);
    let strange = Push { admitted: vec![device.id], ..change(at_3, vec![record(kept.id, 2)]) };
    assert_eq!(status(device.push(at_3, &strange).await), 422);
    assert_eq!(device.pull(after(3), 1000).await.unwrap().records, []);
    at_3
}

async fn one_of_many_wins(device: &Device, on: HeadRef) -> HeadRef {
    let shared = object();
    let pushes: Vec<Push> = (0..8).map(|_| change(on, vec![record(shared, 1)])).collect();
    let results = futures_of(pushes.iter().map(|push| device.push(on, push))).await;
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().zip(&pushes).partition(|(result, _)| result.is_ok());
    let [(Ok(newest), push)] = &won[..] else { panic!("{} of them have won", won.len()) };
    for (result, _) in lost {
        assert!(matches!(result, Err(AccountClientError::Conflict(Some(told))) if told == *newest), "{result:?}");
    }
    let pulled = device.pull(after(on.seq), 1000).await.unwrap();
    assert_eq!(pulled.heads, std::slice::from_ref(&push.head));
    assert_eq!(pulled.records.into_iter().map(|changed| changed.record).collect::<Vec<_>>(), push.records);
    *newest
}

fn with_another_secret(key: &ApiKey) -> ApiKey {
    let other = ApiKey::random();
    let secret = other.expose().split_once('.').unwrap().1;
    ApiKey::parse(&format!("sk-{}.{secret}", key.id())).unwrap()
}

/// Runs all futures at the same time.
async fn futures_of<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(|future| (Some(Box::pin(future)), None)).collect();
    std::future::poll_fn(move |cx| {
        for (future, result) in &mut futures {
            if let Some(running) = future
                && let std::task::Poll::Ready(ready) = running.as_mut().poll(cx)
            {
                (*future, *result) = (None, Some(ready));
            }
        }
        match futures.iter().all(|(future, _)| future.is_none()) {
            true => std::task::Poll::Ready(futures.iter_mut().filter_map(|(_, result)| result.take()).collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

async fn who_may_not_is_told_nothing(server: &Server, place: &Place, device: &Device, creation: &ApiKey) {
    let (other, _) = Device::first(server, place).await;
    let nowhere = AccountId(random());
    let text = |result: Result<_, AccountClientError>| result.err().map(|error| error.to_string());
    let of_another = text(device.client.changes(other.account, &PullCursor::default(), 1).await);
    assert!(of_another.as_ref().is_some_and(|text| text.contains("403 forbidden")), "{of_another:?}");
    assert_eq!(of_another, text(device.client.changes(nowhere, &PullCursor::default(), 1).await));
    assert_eq!(status(device.client.push(other.account, &head(2, Hash::default()), Some(Hash([0; 32]))).await), 403);

    for key in [None, Some(ApiKey::random()), Some(with_another_secret(&device.key))] {
        let client = server.client(key.as_ref());
        assert!(matches!(client.current().await, Err(AccountClientError::Unauthorized)), "{key:?}");
    }
    // A server with another certificate than the code's is refused.
    let pinned = AccountClient::new(&server.url, Some(Hash([1; 32])), Some(creation)).unwrap();
    assert!(matches!(pinned.current().await, Err(AccountClientError::Untrusted(_))));
    let trusted = AccountClient::new(&server.url, None, Some(creation));
    assert!(
        matches!(trusted, Err(AccountClientError::NoRoots))
            || matches!(trusted.unwrap().current().await, Err(AccountClientError::Untrusted(_)))
    );
}

async fn a_device_joins(server: &Server, place: &Place, first: &Device, on: HeadRef) -> (Device, HeadRef) {
    let mut events = first.events().await;
    assert_eq!(told(&mut events).await, ServerEvent::Head { seq: on.seq });
    let account = first.account;
    let (second, stranger) = (Device::new(server, account), Device::new(server, account));
    let token: &[u8; 32] = &random();
    let enrolment = second.enrolment();
    assert_eq!(status(second.client.enrol(account, token, &enrolment).await), 403);
    assert_eq!(
        status(first.client.invite(account, &InviteRegistration { token_hash: Hash([0; 32]), expires_in: 601 }).await),
        422
    );
    first
        .client
        .invite(account, &InviteRegistration { token_hash: Hash::of(&[token]), expires_in: 600 })
        .await
        .unwrap();
    assert_eq!(status(second.client.enrol(account, &random(), &enrolment).await), 403);
    assert_eq!(status(second.client.enrol(AccountId(random()), token, &enrolment).await), 403);
    second.client.enrol(account, token, &enrolment).await.unwrap();
    second.client.enrol(account, token, &enrolment).await.unwrap();
    assert_eq!(status(stranger.client.enrol(account, token, &stranger.enrolment()).await), 403);
    let storage = place.storage().await;
    storage.invite(account, Hash::of(&[&[7; 32]]), 1_000).await.unwrap();
    assert_eq!(status(stranger.client.enrol(account, &[7; 32], &stranger.enrolment()).await), 403);
    assert_eq!(told(&mut events).await, ServerEvent::Enrolment);
    assert_eq!(first.client.enrolments(account).await.unwrap(), std::slice::from_ref(&enrolment));

    // Until it is admitted it may ask for its wrap, and there is none yet.
    assert!(!second.client.current().await.unwrap().admitted);
    assert_eq!(second.client.wrap(account).await.unwrap(), None);
    assert_eq!(status(second.client.changes(account, &PullCursor::default(), 1).await), 403);
    assert_eq!(status(second.client.enrolments(account).await), 403);
    let wrap = second.wrap(1);
    let push = Push { wraps: vec![wrap.clone()], admitted: vec![second.id], ..change(on, vec![]) };
    let newest = first.push(on, &push).await.unwrap();
    assert_eq!(second.client.wrap(account).await.unwrap(), Some(wrap.clone()));
    assert!(second.client.current().await.unwrap().admitted);
    assert_eq!(first.client.enrolments(account).await.unwrap(), []);
    // The same enrolment again has no effect. A device of the account does not wait a second time.
    second.client.enrol(account, token, &enrolment).await.unwrap();
    assert_eq!(first.client.enrolments(account).await.unwrap(), []);
    let pulled = second.pull(PullCursor { heads_after: on.seq, ..PullCursor::default() }, 2).await.unwrap();
    assert_eq!((pulled.heads, pulled.wraps), (vec![push.head], vec![wrap]));
    assert!(pulled.records.len() >= 3, "every record since the beginning");
    while told(&mut events).await != (ServerEvent::Head { seq: newest.seq }) {}

    // Another device waits and is refused.
    first
        .client
        .invite(account, &InviteRegistration { token_hash: Hash::of(&[&[8; 32]]), expires_in: 1 })
        .await
        .unwrap();
    stranger.client.enrol(account, &[8; 32], &stranger.enrolment()).await.unwrap();
    assert_eq!(told(&mut events).await, ServerEvent::Enrolment);
    assert!(first.client.reject_enrolment(account, stranger.id).await.unwrap());
    assert!(!first.client.reject_enrolment(account, stranger.id).await.unwrap());
    assert!(matches!(stranger.client.current().await, Err(AccountClientError::Unauthorized)));

    // Reports of use: one document per device, the one with the highest counter.
    let usage = |device: &Device, counter| UsageUpload { device: device.id, counter, epoch: 1, sealed: sealed(512) };
    second.client.put_usage(account, &usage(&second, 2)).await.unwrap();
    while told(&mut events).await != ServerEvent::Usage {}
    assert_eq!(status(second.client.put_usage(account, &usage(&second, 2)).await), 409);
    assert_eq!(status(second.client.put_usage(account, &usage(first, 9)).await), 422);
    let newer = usage(&second, 3);
    second.client.put_usage(account, &newer).await.unwrap();
    assert_eq!(first.client.usage(account).await.unwrap(), [newer]);
    (second, newest)
}

async fn a_device_is_revoked(first: &Device, second: &Device, on: HeadRef) -> HeadRef {
    let mut events = second.events().await;
    assert_eq!(told(&mut events).await, ServerEvent::Head { seq: on.seq });
    let head = SealedHead { epoch: 2, ..change(on, vec![]).head };
    let link = EpochLink { epoch: 2, sealed: sealed(300) };
    let push =
        Push { head, link: Some(link), wraps: vec![first.wrap(2)], revoked: vec![second.id], ..change(on, vec![]) };
    let newest = first.push(on, &push).await.unwrap();
    ends(&mut events).await;
    assert!(matches!(second.client.current().await, Err(AccountClientError::Unauthorized)));
    assert!(matches!(second.client.events(second.account).await, Err(AccountClientError::Unauthorized)));
    assert_eq!(first.client.usage(first.account).await.unwrap(), []);
    let pulled = first.pull(after(on.seq), 1000).await.unwrap();
    assert_eq!((pulled.wraps, pulled.links), (push.wraps, 1));
    assert_eq!(status(first.push(newest, &change(newest, vec![])).await), 422, "an epoch does not go back");
    newest
}

fn keys_are_not_kept(place: &Place, keys: &[&ApiKey]) {
    for key in keys {
        assert!(!place.files_with(key.id()).is_empty(), "the id was looked for in the wrong place");
        let secret = key.expose().split_once('.').unwrap().1;
        assert_eq!(place.files_with(secret), "", "a key is kept");
    }
}

async fn a_head_is_restored(place: &Place, first: &Device, second: &Device, at_3: HeadRef, at_6: HeadRef) -> HeadRef {
    let mut events = first.events().await;
    assert_eq!(told(&mut events).await, ServerEvent::Head { seq: at_6.seq });
    let account = first.account.to_string();
    let refused = place.admin(&["restore-head", &account, "3"]);
    assert_eq!(refused.status.code(), Some(1), "nobody has confirmed it");
    assert_eq!(place.admin(&["restore-head", &account, "77", "--yes"]).status.code(), Some(1));
    let done = place.admin(&["restore-head", &account, "5", "--yes"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    while told(&mut events).await != (ServerEvent::Head { seq: 5 }) {}
    // The device that head 6 revoked is a device again, and the changes of head 6 are gone.
    assert!(second.client.current().await.unwrap().admitted);
    assert!(second.client.wrap(second.account).await.unwrap().is_some());
    let pulled = first.pull(PullCursor::default(), 1000).await.unwrap();
    assert_eq!((pulled.newest.unwrap().seq, pulled.links), (5, 0));
    // At head 3 there was no second device; the records are those of that head.
    let done = place.admin(&["restore-head", &account, "3", "--yes"]);
    assert!(done.status.success());
    while told(&mut events).await != (ServerEvent::Head { seq: 3 }) {}
    assert!(matches!(second.client.current().await, Err(AccountClientError::Unauthorized)));
    let pulled = first.pull(PullCursor::default(), 1000).await.unwrap();
    assert_eq!((pulled.newest, pulled.heads.len(), pulled.records.len()), (Some(at_3), 3, 3));
    at_3
}

async fn an_account_is_removed(place: &Place, device: &Device) {
    let mut events = device.events().await;
    told(&mut events).await;
    let account = device.account.to_string();
    let listed = || -> serde_json::Value { serde_json::from_slice(&place.admin(&["list", "--json"]).stdout).unwrap() };
    let before = listed();
    let row = before["items"].as_array().unwrap().iter().find(|row| row["id"] == *account).unwrap().clone();
    assert_eq!(
        (row["newest"]["seq"].as_u64(), row["devices"].as_u64(), row["objects"].as_u64()),
        (Some(4), Some(1), Some(3))
    );
    let refused = place.admin(&["delete-account", &account]);
    assert_eq!(refused.status.code(), Some(1), "nobody has confirmed it");
    assert_eq!(listed(), before);
    assert!(place.admin(&["delete-account", &account, "--yes"]).status.success());
    ends(&mut events).await;
    assert!(matches!(device.client.current().await, Err(AccountClientError::Unauthorized)));
    assert_eq!(listed()["count"], 1);
    assert_eq!(place.admin(&["delete-account", &account, "--yes"]).status.code(), Some(1));
}

#[tokio::test]
async fn two_servers_on_one_database_are_one() {
    let Some(mut place) = Place::postgres() else { return };
    let (one, other) = (Server::start(&place), Server::second(&place));
    let (first, at_1) = Device::first(&one, &place).await;
    let there = first.at(&other);
    let mut events = there.events().await;
    assert_eq!(told(&mut events).await, ServerEvent::Head { seq: 1 });
    let at_2 = first.push(at_1, &change(at_1, vec![record(object(), 1)])).await.unwrap();
    assert_eq!(told(&mut events).await, ServerEvent::Head { seq: 2 });
    assert_eq!(there.pull(after(1), 10).await.unwrap().records.len(), 1);

    // Of two pushes onto one head, one through each server, one is accepted.
    let mut newest = at_2;
    for _ in 0..5 {
        let pushes: Vec<Push> = (0..6).map(|_| change(newest, vec![record(object(), 1)])).collect();
        let ways = pushes.iter().enumerate().map(|(index, push)| [&first, &there][index % 2].push(newest, push));
        let won: Vec<HeadRef> = futures_of(ways).await.into_iter().filter_map(Result::ok).collect();
        assert_eq!(won.len(), 1);
        newest = won[0];
        while told(&mut events).await != (ServerEvent::Head { seq: newest.seq }) {}
    }

    // The database is gone for a moment. Missed events arrive later, and requests in that time are answered late.
    place.postgres.as_mut().unwrap().restart();
    let seq = newest.seq + 1;
    newest =
        until_async("a push after the restart", async || first.push(newest, &change(newest, vec![])).await.ok()).await;
    assert_eq!(newest.seq, seq);
    while told(&mut events).await != (ServerEvent::Head { seq }) {}

    // A device that is revoked through one server is disconnected by the other.
    let revoked = Device::new(&other, first.account);
    let push = Push { keys: vec![revoked.device_key()], ..change(newest, vec![]) };
    let newest = first.push(newest, &push).await.unwrap();
    let mut events = revoked.events().await;
    first.push(newest, &Push { revoked: vec![revoked.id], ..change(newest, vec![]) }).await.unwrap();
    ends(&mut events).await;
    assert!(one.stop() && other.stop());
}

#[tokio::test]
async fn what_is_acknowledged_survives_a_killed_server() {
    killed(&Place::sqlite()).await;
    if let Some(place) = Place::postgres() {
        killed(&place).await;
    }
}

async fn killed(place: &Place) {
    let mut server = Server::start(place);
    let (mut device, mut newest) = Device::first(&server, place).await;
    let mut acknowledged: Vec<(u64, SealedRecord)> = Vec::new();
    for round in 0..5 {
        // The server is killed in the middle of pushes.
        let killer = {
            let (pid, pushes) = (server.pid(), random::<1>()[0] % 8);
            (pid, usize::from(pushes))
        };
        let mut pushed = 0;
        loop {
            let record = record(object(), 1);
            let push = change(newest, vec![record.clone(), SealedRecord { revision: 2, ..record.clone() }]);
            let push = Push { records: push.records[..1].to_vec(), ..push };
            if pushed == killer.1 {
                let (answer, ()) = tokio::join!(device.push(newest, &push), async {
                    tokio::task::yield_now().await;
                    let _ = rustix::process::kill_process(killer.0, rustix::process::Signal::KILL);
                });
                if let Ok(taken) = answer {
                    acknowledged.push((taken.seq, record));
                }
                break;
            }
            newest = device.push(newest, &push).await.unwrap();
            acknowledged.push((newest.seq, record));
            pushed += 1;
        }
        server.kill();
        server = Server::start(place);
        device = device.at(&server);
        let pulled = device.pull(PullCursor::default(), 7).await.unwrap();
        for (seq, record) in &acknowledged {
            let kept = pulled.records.iter().any(|found| found.seq == *seq && found.record == *record);
            assert!(kept, "round {round}: the push with head {seq} is lost");
        }
        let seqs: Vec<u64> = pulled.heads.iter().map(|head| head.seq).collect();
        newest = pulled.newest.unwrap();
        assert_eq!(seqs, (1..=newest.seq).collect::<Vec<_>>(), "round {round}");
        assert_eq!(pulled.heads.last().unwrap().hash(device.account), newest.hash);
    }
}

#[tokio::test]
async fn pages_fit_together_while_others_push() {
    paged(&Place::sqlite()).await;
    if let Some(place) = Place::postgres() {
        paged(&place).await;
    }
}

async fn paged(place: &Place) {
    let server = Server::start_with(place, &["--requests", "100000"]);
    let (device, mut newest) = Device::first(&server, place).await;
    let ids: Vec<_> = (0..60).map(|_| object()).collect();
    for some in ids.chunks(7) {
        newest = device.push(newest, &change(newest, some.iter().map(|id| record(*id, 1)).collect())).await.unwrap();
    }
    // Small pages, with another change before each of them.
    let (mut next, mut records, mut heads) = (Some(PullCursor::default()), Vec::new(), Vec::new());
    let mut pages = 0;
    let told = loop {
        let Some(from) = next else { break newest };
        if pages < 40 {
            let (one, other) = (ids[pages % ids.len()], ids[(pages * 17) % ids.len()]);
            let removed = SealedRecord { sealed: None, ..record(one, 2) };
            let changed = if one == other { vec![removed] } else { vec![removed, record(other, 2)] };
            newest = device.push(newest, &change(newest, changed)).await.unwrap();
        }
        let page = device.client.changes(device.account, &from, 5).await.unwrap();
        let reached = page.heads.last().map_or(from.heads_after, |head| head.seq);
        assert!(page.records.iter().all(|found| found.seq <= reached));
        heads.extend(page.heads.iter().map(|head| head.seq));
        for found in page.records {
            records.retain(|known: &guillemet_wire::ChangedRecord| known.record.id != found.record.id);
            records.push(found);
        }
        pages += 1;
        next = page.next;
        assert!(pages < 200, "it comes to no end");
    };
    assert!(pages > 10);
    assert_eq!(heads, (1..=told.seq).collect::<Vec<_>>());
    let mut whole = device.pull(PullCursor::default(), 1000).await.unwrap().records;
    for list in [&mut whole, &mut records] {
        list.sort_by_key(|found| found.record.id);
    }
    assert_eq!(records, whole);

    // The size in bytes limits a page too: each of these boxes fills most of one.
    let large = |_| SealedRecord { sealed: Some(sealed(4 << 20)), ..record(object(), 1) };
    let before = newest;
    for _ in 0..2 {
        newest = device.push(newest, &change(newest, (0..2).map(large).collect())).await.unwrap();
    }
    let pulled = device.pull(after(before.seq), 1000).await.unwrap();
    assert_eq!((pulled.pages, pulled.records.len(), pulled.newest), (4, 4, Some(newest)));
}

#[tokio::test]
async fn a_certificate_is_read_again_when_it_changes() {
    let place = Place::sqlite();
    let (certificate, key) = (place.folder.path().join("cert.pem"), place.folder.path().join("key.pem"));
    let write = || {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        Hash::of(&[made.cert.der()])
    };
    let pin = write();
    let arguments =
        [&"--cert".into(), &certificate, &"--key".into(), &key].map(|word| word.to_str().unwrap().to_owned());
    let server = Server::start_with(&place, &arguments.each_ref().map(String::as_str));
    assert_eq!(server.pin, pin);
    let kept = server.client(None);
    assert!(matches!(kept.current().await, Err(AccountClientError::Unauthorized)));
    // An invalid file in between changes nothing.
    std::fs::write(&key, "no key").unwrap();
    let newer = write();
    let client = AccountClient::new(&server.url, Some(newer), None).unwrap();
    until_async("the key has ended", async || {
        matches!(client.current().await, Err(AccountClientError::Unauthorized)).then_some(())
    })
    .await;
    // An existing connection goes on, but a new one is refused.
    assert!(matches!(kept.current().await, Err(AccountClientError::Unauthorized)));
    assert!(matches!(server.client(None).current().await, Err(AccountClientError::Untrusted(_))));
    assert!(server.stop());
}

/// Returns a renewed certificate and its hash.
fn renewed() -> (rcgen::CertifiedKey<rcgen::KeyPair>, Hash) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let pin = Hash::of(&[made.cert.der()]);
    (made, pin)
}

/// Waits until a server shows the certificate with this hash.
async fn shows(url: &str, pin: Hash) {
    let client = AccountClient::new(url, Some(pin), None).unwrap();
    until_async("the key has ended", async || {
        matches!(client.current().await, Err(AccountClientError::Unauthorized)).then_some(())
    })
    .await;
}

/// `certbot` and `install` leave a certificate that belongs to root at first, and to the server's user a moment later.
/// If the reason is not the file itself, such as too few descriptors, nothing about the file changes once the reason
/// has gone.
#[tokio::test]
async fn a_renewed_certificate_that_cannot_be_read_at_first_is_tried_again() {
    if !can() {
        return;
    }
    let place = Place::sqlite();
    let folder = place.folder.path();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let put = |made: &rcgen::CertifiedKey<rcgen::KeyPair>, owner: u32| {
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        chown(&key, Some(owner), None).unwrap();
        std::fs::write(&certificate, made.cert.pem()).unwrap();
    };
    let (first, _) = renewed();
    put(&first, AGENT);
    chown(folder, Some(AGENT), Some(AGENT)).unwrap();
    let log = folder.join("log");
    let server = Server::start_as(AGENT, &place, &[("--cert", &certificate), ("--key", &key)], &log);
    let logged = |text: &str| std::fs::read_to_string(&log).unwrap().matches(text).count();

    let (second, pin) = renewed();
    put(&second, 0);
    until_async("the log tells of it", async || (logged("stays in use") > 0).then_some(())).await;
    // The former certificate is served in the meantime.
    assert!(matches!(server.client(None).current().await, Err(AccountClientError::Unauthorized)));
    chown(&key, Some(AGENT), None).unwrap();
    shows(&server.url, pin).await;

    // The server's user may set the limits of its own processes.
    let prlimit = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={AGENT}"), format!("--regid={AGENT}"), "--clear-groups".into()]);
        command.args(["prlimit", "--pid", &server.pid().as_raw_nonzero().to_string()]).args(arguments);
        let set = command.output().unwrap();
        assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
        String::from_utf8(set.stdout).unwrap()
    };
    let files = prlimit(&["--nofile", "--output=SOFT", "--noheadings"]);
    let (third, pin) = renewed();
    let told = logged("stays in use");
    prlimit(&["--nofile=0:"]);
    put(&third, AGENT);
    until_async("the log tells of it again", async || (logged("stays in use") > told).then_some(())).await;
    prlimit(&[&format!("--nofile={}:", files.trim())]);
    shows(&server.url, pin).await;
    assert_eq!(logged("Too many open files"), 1 + logged("could not be accepted"), "it is told once");
    assert!(server.stop());
}

#[tokio::test]
async fn nobody_gets_more_than_its_share() {
    let place = Place::sqlite();
    let server =
        Server::start_with(&place, &["--objects", "3", "--bytes", "20000", "--requests", "5", "--connections", "12"]);
    let (device, at_1) = Device::first(&server, &place).await;
    let many = |count: usize| (0..count).map(|_| record(object(), 1)).collect::<Vec<_>>();
    assert_eq!(status(device.push(at_1, &change(at_1, many(4))).await), 422);
    let kept = many(3);
    let at_2 = device.push(at_1, &change(at_1, kept.clone())).await.unwrap();
    // One record is removed and another is added, so there are three. The number before does not matter.
    let gone = SealedRecord { revision: 2, sealed: None, ..kept[0].clone() };
    let at_3 = device.push(at_2, &change(at_2, [many(1), vec![gone]].concat())).await.unwrap();
    assert_eq!(status(device.push(at_3, &change(at_3, many(1))).await), 422);
    let large = SealedRecord { revision: 2, sealed: Some(sealed(19_000)), ..kept[1].clone() };
    assert_eq!(status(device.push(at_3, &change(at_3, vec![large])).await), 422);

    // More records than any limit allows in one push.
    assert_eq!(status(device.push(at_3, &change(at_3, many(1001))).await), 422);
    let box_of = |len| SealedRecord { sealed: Some(sealed(len)), ..record(object(), 1) };
    assert_eq!(status(device.push(at_3, &change(at_3, vec![box_of((4 << 20) + 1)])).await), 422);
    let body = change(at_3, (0..4).map(|_| box_of(4 << 20)).collect());
    assert_eq!(status(device.push(at_3, &body).await), 413);

    // Twenty requests at once, with a limit of five a second.
    let busy = until_async("the limit is reached", async || device.client.current().await.err()).await;
    assert!(matches!(busy, AccountClientError::Busy { after } if after.as_secs() == 1), "{busy:?}");
    until_async("the limit is over", async || device.client.current().await.ok()).await;

    // As many streams as one key may open, and as many connections as there are.
    let mut streams = Vec::new();
    until_async("as many streams as a key may open are open", async || {
        match device.client.events(device.account).await {
            Ok(stream) => streams.push(stream),
            Err(AccountClientError::Busy { .. }) if streams.len() == 8 => return Some(()),
            Err(AccountClientError::Busy { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        None
    })
    .await;
    // A stream that was refused may have left a connection that the server still has to close, so places can become free
    // after others were refused.
    let mut connections = Vec::new();
    until_async("a stranger is not connected", async || {
        connections.extend(futures_of((0..20).map(|_| tokio::net::TcpStream::connect(server.address()))).await);
        matches!(server.client(None).current().await, Err(AccountClientError::Unreachable(_))).then_some(())
    })
    .await;
    drop(connections);
    until_async("a stranger is heard again", async || {
        matches!(server.client(None).current().await, Err(AccountClientError::Unauthorized)).then_some(())
    })
    .await;

    // Requests of a caller without a key are limited.
    let stranger = server.client(None);
    until_async("the stranger is limited", async || {
        matches!(stranger.current().await, Err(AccountClientError::Busy { .. })).then_some(())
    })
    .await;
    assert!(server.stop());
}

/// Asks until the server refuses. Returns how often it answered, and how often it may have answered at most.
async fn exhausts(begun: Instant, at_once: f64, a_second: f64, mut ask: impl AsyncFnMut() -> u16) -> (u32, u32) {
    let mut heard = 0;
    loop {
        match ask().await {
            429 => break,
            401 | 403 => heard += 1,
            other => panic!("{other}"),
        }
        assert!(begun.elapsed() < PATIENCE, "a stranger is listened to for ever");
    }
    (heard, (at_once + begun.elapsed().as_secs_f64() * a_second) as u32)
}

/// With a limit of five requests a second per key, a caller without one gets two a second and eight at once, whatever
/// credentials and path it uses. Devices behind the same address are still served.
#[tokio::test]
async fn a_stranger_is_heard_for_a_while_and_holds_nobody_up() {
    let place = Place::sqlite();
    let server = Server::start_with(&place, &["--requests", "5"]);
    let (device, _) = Device::first(&server, &place).await;
    device.client.current().await.unwrap();
    let (nobody, unknown) = (server.client(None), server.client(Some(&ApiKey::random())));
    let forged = server.client(Some(&with_another_secret(&device.key)));
    let begun = Instant::now();
    let (heard, most) = exhausts(begun, 8.0, 2.0, async || status(nobody.current().await)).await;
    assert!((8..=most).contains(&heard), "{heard} of at most {most}");
    // All of these share one limit, whatever key they send, including a known key with a wrong secret.
    for client in [&unknown, &forged] {
        exhausts(Instant::now(), 0.0, 2.0, async || status(client.current().await)).await;
    }
    let enrolment = device.enrolment();
    let enrol = async || status(nobody.enrol(device.account, &random(), &enrolment).await);
    exhausts(Instant::now(), 0.0, 2.0, enrol).await;
    for _ in 0..3 {
        exhausts(Instant::now(), 0.0, 2.0, async || status(nobody.current().await)).await;
        device.client.current().await.unwrap();
    }

    // A caller that only tries to enrol has the same limit.
    let other = Place::sqlite();
    let server = Server::start_with(&other, &["--requests", "5"]);
    let nobody = server.client(None);
    let enrol = async || status(nobody.enrol(AccountId(random()), &random(), &enrolment).await);
    let (heard, most) = exhausts(Instant::now(), 8.0, 2.0, enrol).await;
    assert!((8..=most).contains(&heard), "{heard} of at most {most}");
}

#[tokio::test]
async fn former_heads_are_kept_for_a_while() {
    kept_for_a_while(&Place::sqlite()).await;
    if let Some(place) = Place::postgres() {
        kept_for_a_while(&place).await;
    }
}

async fn kept_for_a_while(place: &Place) {
    let server = Server::start(place);
    let (device, mut newest) = Device::first(&server, place).await;
    let (changed, removed) = (object(), object());
    newest = device.push(newest, &change(newest, vec![record(changed, 1), record(removed, 1)])).await.unwrap();
    let gone = SealedRecord { sealed: None, ..record(removed, 2) };
    newest = device.push(newest, &change(newest, vec![record(changed, 2), gone])).await.unwrap();
    for revision in 3..=10 {
        newest = device.push(newest, &change(newest, vec![record(changed, revision)])).await.unwrap();
    }
    let before = device.pull(PullCursor::default(), 1000).await.unwrap();
    assert_eq!((newest.seq, before.heads.len(), before.records.len()), (11, 11, 2));
    assert!(server.stop());

    // A head that is old enough but among the newest ones is kept, and so is one that is older but too recent.
    for (days, heads) in [("0", "11"), ("1", "2")] {
        let server = Server::start_with(place, &["--retention", days, "--keep-heads", heads]);
        let device = device.at(&server);
        assert_eq!(device.pull(PullCursor::default(), 1000).await.unwrap().heads.len(), 11);
        assert!(server.stop());
    }
    let server = Server::start_with(place, &["--retention", "0", "--keep-heads", "4"]);
    let device = device.at(&server);
    let lost = until_async("the former heads are removed", async || device.pull(after(6), 1000).await.err()).await;
    assert!(matches!(lost, AccountClientError::ContinuityLost), "{lost}");
    assert_eq!(device.pull(after(7), 1000).await.unwrap().heads.len(), 4);
    // A device that joins begins at a kept head and gets every record, with marks for removed ones.
    let joined = device.pull(PullCursor { heads_after: 10, ..PullCursor::default() }, 1000).await.unwrap();
    assert_eq!((joined.heads.len(), joined.records), (1, before.records));
    // A restore can go back only as far as heads are kept.
    let account = device.account.to_string();
    assert_eq!(place.admin(&["restore-head", &account, "7", "--yes"]).status.code(), Some(1));
    assert!(place.admin(&["restore-head", &account, "8", "--yes"]).status.success());
    let pulled = device.pull(after(7), 1000).await.unwrap();
    let form = pulled.records.iter().find(|found| found.record.id == changed).unwrap();
    assert_eq!((pulled.newest.unwrap().seq, form.record.revision), (8, 7));
    assert!(server.stop());
}

#[tokio::test]
async fn a_server_tells_how_it_is_and_ends_what_is_under_way() {
    let place = Place::sqlite();
    let notify = place.folder.path().join("notify");
    let ready = UnixDatagram::bind(&notify).unwrap();
    ready.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = Server::start_notifying(&place, &notify);
    let mut message = [0; 64];
    let len = ready.recv(&mut message).unwrap();
    assert!(message[..len].starts_with(b"READY=1"));
    let second = place.try_serve();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("another account server is using"), "{second:?}");

    // A caller that trusts the certificate in the usual way.
    let (device, at_1) = Device::first(&server, &place).await;
    let health = server.plain(&place).await.ask("GET", "/healthz", &[], b"").await;
    assert_eq!((health.status, health.text()), (200, "{\"status\":\"ok\"}".to_owned()));
    let nothing = server.plain(&place).await.ask("GET", "/v1/nothing", &[], b"").await;
    let other = server.plain(&place).await.ask("PATCH", "/healthz", &[], b"").await;
    assert_eq!((nothing.status, other.status, &*other.headers["allow"]), (404, 405, "GET"));
    let mut events = device.events().await;
    assert_eq!(told(&mut events).await, ServerEvent::Head { seq: 1 });
    let metrics = server.plain(&place).await.ask("GET", "/metrics", &[], b"").await.text();
    for line in [
        "guillemet_account_heads_total 1",
        "guillemet_account_accounts 1.0",
        "guillemet_account_streams 1.0",
        "guillemet_account_requests_total{endpoint=\"/v1/accounts/{id}/heads\",method=\"POST\",status=\"201\"} 1",
        "guillemet_account_requests_total{endpoint=\"none\",method=\"none\",status=\"404\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is missing:\n{metrics}");
    }
    for id in [device.account.to_string(), device.id.to_string(), device.key.id().to_owned()] {
        assert!(!metrics.contains(&id), "{metrics}");
    }

    // The server is stopped in the middle of a push: streams end, the push is answered, and then the server ends.
    let push = serde_json::to_vec(&change(at_1, vec![record(object(), 1)])).unwrap();
    let mut plain = server.plain(&place).await;
    let on = format!("\"{}\"", at_1.hash);
    let headers = [("x-api-key", device.key.expose()), ("if-match", &*on)];
    plain.send("POST", &format!("/v1/accounts/{}/heads", device.account), &headers, &push, push.len() / 2).await;
    // The server has read the first part by the time a later request is answered.
    device.client.current().await.unwrap();
    server.terminate();
    ends(&mut events).await;
    let answer = plain.finish(&push[push.len() / 2..]).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(server.stop());
    let server = Server::start(&place);
    assert_eq!(device.at(&server).pull(after(1), 10).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn accounts_move_to_postgresql() {
    let Some(place) = Place::postgres() else { return };
    let database = place.postgres.as_ref().unwrap().url();
    let small = Place::sqlite();
    let server = Server::start(&small);
    let (device, at_1) = Device::first(&server, &small).await;
    let removed = SealedRecord { sealed: None, ..record(object(), 1) };
    device.push(at_1, &change(at_1, vec![record(object(), 1), removed])).await.unwrap();
    let usage = UsageUpload { device: device.id, counter: 1, epoch: 1, sealed: sealed(300) };
    device.client.put_usage(device.account, &usage).await.unwrap();
    let before = device.pull(PullCursor::default(), 1000).await.unwrap();
    let refused = small.admin(&["copy", "--database", &database]);
    assert_eq!(refused.status.code(), Some(1), "the server runs");
    assert!(server.stop());
    let copied = small.admin(&["copy", "--database", &database]);
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    assert_eq!(small.admin(&["copy", "--database", &database]).status.code(), Some(1), "there are accounts");

    let server = Server::start(&place);
    let device = device.at(&server);
    let pulled = device.pull(PullCursor::default(), 1000).await.unwrap();
    assert_eq!((pulled.heads, pulled.records, pulled.wraps), (before.heads, before.records, before.wraps));
    assert_eq!(device.client.usage(device.account).await.unwrap(), [usage]);
    let newest = pulled.newest.unwrap();
    device.push(newest, &change(newest, vec![record(object(), 1)])).await.unwrap();
    assert!(server.stop());
}

#[test]
fn a_database_elsewhere_has_to_show_a_certificate_that_is_trusted() {
    let Some(mut place) = Place::postgres() else { return };
    let (url, certificate) = place.postgres.as_mut().unwrap().with_tls();
    let list = |trusted: &str| {
        let mut command = std::process::Command::new(PROGRAM);
        command.args(["account", "admin", "list", "--json", "--data"]).arg(place.folder.path());
        // The address is in a variable, which other users cannot see among the processes.
        command
            .env("GUILLEMET_DATABASE", &url)
            .env("GUILLEMET_HOME", place.folder.path().join("home"))
            .env_remove("GUILLEMET_SOCKET")
            .env("SSL_CERT_FILE", trusted)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap()
    };
    let listed = list(certificate.to_str().unwrap());
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let refused = list("/dev/null");
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && text.contains("certificate"), "{text}");
}

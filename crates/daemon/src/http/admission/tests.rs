use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const OWNER: u32 = 1000;

fn holder(uid: u32, pid: u32) -> SlotHolder {
    SlotHolder { uid, pid }
}

fn reason(slot: &ConnectionSlot<()>) -> Option<EndReason> {
    slot.state.end_reason.get().copied()
}

fn is_taken(slot: &ConnectionSlot<()>) -> bool {
    reason(slot) == Some(EndReason::Taken)
}

/// The outcome for a new connection.
#[derive(Debug, PartialEq, Eq)]
enum Got {
    /// It gets a slot that was free.
    Free,
    /// It gets the slot of the connection with this index.
    Of(usize),
    /// It gets no slot.
    Nothing,
}

/// A name; the limit; the connections (uid, pid, busy), the longest idle first; the new connection (uid, pid); its
/// outcome.
type Case = (&'static str, usize, &'static [(u32, u32, bool)], (u32, u32), Got);

const CASES: &[Case] = &[
    ("there is room", 4, &[(1, 10, false)], (1, 10), Got::Free),
    ("a quarter is the owner's", 4, &[(1, 10, false), (2, 20, false), (3, 30, false)], (OWNER, 1), Got::Free),
    ("of the process that has as much", 4, &[(1, 10, false), (1, 10, false)], (1, 10), Got::Nothing),
    (
        "of the user that has most",
        8,
        &[(2, 20, false), (1, 10, false), (1, 10, false), (1, 10, false), (2, 20, false), (3, 30, false)],
        (4, 40),
        Got::Of(1),
    ),
    (
        "of that user's process that has most",
        8,
        &[(1, 11, false), (1, 10, false), (1, 10, false), (2, 20, false), (2, 21, false), (3, 30, false)],
        (4, 40),
        Got::Of(1),
    ),
    ("the longest idle", 8, &[(1, 10, false), (1, 11, false), (1, 12, false)], (1, 13), Got::Of(0)),
    ("not a busy one", 8, &[(1, 10, true), (1, 11, false), (1, 12, false)], (1, 13), Got::Of(1)),
    ("only busy ones", 8, &[(1, 10, true), (1, 11, true), (1, 12, true)], (1, 13), Got::Nothing),
    (
        "a user with less, where the one with most is busy",
        8,
        &[(1, 10, true), (1, 10, true), (1, 10, true), (2, 20, false), (2, 20, false), (3, 30, true)],
        (4, 40),
        Got::Of(3),
    ),
    (
        "not of users that have as much",
        8,
        &[(1, 10, true), (1, 10, true), (1, 10, true), (2, 20, false), (3, 30, false), (4, 40, false)],
        (3, 30),
        Got::Nothing,
    ),
    (
        "the owner shares what is beyond its quarter",
        4,
        &[(OWNER, 1, false), (OWNER, 1, false), (OWNER, 1, false), (OWNER, 1, false)],
        (1, 10),
        Got::Of(0),
    ),
    (
        "the owner keeps its quarter",
        4,
        &[(OWNER, 1, false), (1, 10, true), (1, 10, true), (2, 20, true)],
        (3, 30),
        Got::Nothing,
    ),
];

#[test]
fn who_gets_a_slot_and_whose() {
    for (what, limit, connections, (uid, pid), expected) in CASES {
        let admission = Admission::new(*limit, OWNER);
        let slots: Vec<ConnectionSlot<()>> = connections
            .iter()
            .map(|(uid, pid, busy)| {
                let slot = admission.admit(holder(*uid, *pid), ()).unwrap_or_else(|| panic!("{what}"));
                if *busy {
                    slot.state.request_arrived();
                }
                slot
            })
            .collect();
        let slot = admission.admit(holder(*uid, *pid), ());
        let taken: Vec<usize> = (0..slots.len()).filter(|index| is_taken(&slots[*index])).collect();
        let got = match (&slot, taken.as_slice()) {
            (Some(_), []) => Got::Free,
            (Some(_), [one]) => Got::Of(*one),
            (None, []) => Got::Nothing,
            _ => panic!("{what}: {taken:?}"),
        };
        assert_eq!(got, *expected, "{what}");
    }
}

#[test]
fn one_user_alone_leaves_slots_for_the_next_even_with_requests_on_all_of_its_own() {
    let admission = Admission::new(256, OWNER);
    let busy = |uid| {
        let slots: Vec<ConnectionSlot<()>> = std::iter::from_fn(|| admission.admit(holder(uid, uid), ())).collect();
        slots.iter().for_each(|slot| slot.state.request_arrived());
        slots
    };
    let (first, second, third) = (busy(1), busy(2), busy(3));
    assert_eq!([first.len(), second.len(), third.len()], [96, 48, 24]);
    // The owner still gets its whole quarter, and what the others left.
    assert_eq!(busy(OWNER).len(), 256 - 96 - 48 - 24);
}

#[tokio::test]
async fn a_slot_is_free_when_the_connection_that_had_it_is_gone() {
    let admission = Admission::new(1, OWNER);
    let former = admission.admit(holder(1, 1), ()).unwrap();
    let mut slot = admission.admit(holder(1, 2), ()).unwrap();
    assert!(is_taken(&former));
    let waiting = tokio::spawn(async move { (slot.is_free(Duration::from_secs(60)).await, slot) });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(former);
    let (free, mut slot) = waiting.await.unwrap();
    assert!(free && slot.is_free(Duration::ZERO).await);
    // A connection that does not end in time is not waited for.
    let mut next = admission.admit(holder(2, 2), ()).unwrap();
    assert!(is_taken(&slot) && !next.is_free(Duration::from_millis(1)).await);
    drop(slot);
}

#[test]
fn only_an_idle_connection_is_ended_for_its_silence() {
    let admission = Admission::new(8, OWNER);
    let take = || admission.admit(holder(OWNER, 1), ()).unwrap();
    let (busy, idle, reading, spared) = (take(), take(), take(), take());
    busy.state.request_arrived();
    assert_eq!(reading.state.begin_read(), ReadAllowance::FromIdle);
    assert_eq!(spared.state.begin_read(), ReadAllowance::FromIdle);
    spared.state.nothing_read();
    admission.end_silent(Duration::ZERO);
    // A part of a head does not count as a request.
    assert_eq!(
        [&busy, &idle, &reading, &spared].map(reason),
        [None, Some(EndReason::Silent), Some(EndReason::Silent), Some(EndReason::Silent)]
    );
    assert_eq!([&busy, &idle, &reading].map(|slot| slot.state.has_rest()), [true, true, false]);
    busy.state.response_ready();
    assert!(busy.state.is_busy());
    busy.state.all_written();
    assert!(!busy.state.is_busy());
    admission.end_silent(Duration::from_secs(60));
    assert_eq!(reason(&busy), None);
    // What had arrived before the end is read and answered.
    assert_eq!(spared.state.begin_read(), ReadAllowance::Rest);
    spared.state.rest_arrived();
    assert_eq!(spared.state.begin_read(), ReadAllowance::More);
    assert!(spared.state.is_last());
}

#[test]
fn streams_leave_slots_for_requests() {
    let admission = Admission::new(16, OWNER);
    let slots = |uid, count| (0..count).map(|_| admission.admit(holder(uid, uid), ()).unwrap()).collect::<Vec<_>>();
    let (own, first, second) = (slots(OWNER, 4), slots(1, 6), slots(2, 3));
    let streams = |slots: &[ConnectionSlot<()>]| slots.iter().filter(|slot| slot.begin_stream()).count();
    assert_eq!([&own, &first, &second].map(|slots| streams(slots)), [2, 2, 2]);
    drop(first);
    assert_eq!(streams(&second), 0, "two for each, and these go on");
    // A peer that lost its rights loses its streams at once, and its idle connections.
    second[0].state.request_arrived();
    admission.end_forbidden(|(), streams| streams);
    assert_eq!(own.iter().filter(|slot| reason(slot) == Some(EndReason::Forbidden)).count(), 2);
    second[2].state.request_arrived();
    admission.end_forbidden(|(), _| true);
    assert_eq!(reason(&second[2]), None);
}

#[tokio::test]
async fn a_stop_waits_for_the_last_connection_also_for_one_that_lost_its_slot() {
    let admission = Admission::new(1, OWNER);
    let former = admission.admit(holder(1, 1), ()).unwrap();
    let slot = admission.admit(holder(1, 2), ()).unwrap();
    let stopping = tokio::spawn({
        let admission = Arc::clone(&admission);
        async move { admission.stop().await }
    });
    assert_eq!(slot.state.wait_for_end().await, EndReason::Stop);
    drop(slot);
    tokio::task::yield_now().await;
    assert!(!stopping.is_finished());
    drop(former);
    stopping.await.unwrap();
}

#[derive(Clone, Debug)]
enum Step {
    Connect(u32, u32),
    Ask(usize),
    Answer(usize),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u32..4, 0_u32..3).prop_map(|(uid, pid)| Step::Connect(if uid == 0 { OWNER } else { uid }, pid)),
        2 => any::<usize>().prop_map(Step::Ask),
        1 => any::<usize>().prop_map(Step::Answer),
        1 => any::<usize>().prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn whatever_happens_the_limit_holds_and_no_request_is_cut(limit in 1_usize..20, steps in steps()) {
        let admission = Admission::new(limit, OWNER);
        let reserved = Shares::new(limit, OWNER).reserved();
        let mut slots: Vec<(SlotHolder, bool, ConnectionSlot<()>)> = Vec::new();
        for step in steps {
            type Slots = [(SlotHolder, bool, ConnectionSlot<()>)];
            let held = |slots: &Slots, uid| slots.iter().filter(|(holder, ..)| holder.uid == uid).count();
            let pick = |index: usize, slots: &Slots| (!slots.is_empty()).then(|| index % slots.len());
            match step {
                Step::Connect(uid, pid) => {
                    let (own, comes) = (held(&slots, uid), holder(uid, pid));
                    let slot = admission.admit(comes, ());
                    let taken: HashSet<u64> = slots.iter().filter(|(.., slot)| is_taken(slot)).map(|(.., slot)| slot.number).collect();
                    if uid == OWNER && own < reserved {
                        prop_assert!(slot.is_some() && taken.is_empty(), "the owner's quarter");
                    }
                    prop_assert!(taken.len() <= 1);
                    for (holder, busy, slot) in slots.iter().filter(|(.., slot)| is_taken(slot)) {
                        prop_assert!(!busy, "a request is cut");
                        prop_assert!(!slot.state.is_busy());
                        let least = if uid == OWNER { 0 } else { own };
                        prop_assert!(holder.uid == uid || held(&slots, holder.uid) > least);
                    }
                    slots.retain(|(.., slot)| !taken.contains(&slot.number));
                    slots.extend(slot.map(|slot| (comes, false, slot)));
                }
                Step::Ask(index) => {
                    if let Some(index) = pick(index, &slots) {
                        slots[index].1 = true;
                        slots[index].2.state.request_arrived();
                    }
                }
                Step::Answer(index) => {
                    if let Some(index) = pick(index, &slots).filter(|index| slots[*index].1) {
                        slots[index].1 = false;
                        slots[index].2.state.response_ready();
                        slots[index].2.state.all_written();
                    }
                }
                Step::Leave(index) => {
                    if let Some(index) = pick(index, &slots) {
                        drop(slots.swap_remove(index));
                    }
                }
            }
            prop_assert!(slots.len() <= limit);
            prop_assert!(slots.len() - held(&slots, OWNER) <= limit - reserved);
            prop_assert_eq!(admission.table().entries.len(), slots.len());
            prop_assert_eq!(admission.table().by_process.values().sum::<usize>(), slots.len());
        }
    }
}

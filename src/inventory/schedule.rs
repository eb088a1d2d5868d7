//! When the templates' folders are scanned next. Reads no clock and no file.

use std::time::{Duration, Instant};

/// How long after a change another one is likely.
const BUSY: Duration = Duration::from_secs(60);
/// How long after a scan the next one is due while changes are likely.
const SOON: Duration = Duration::from_secs(2);
/// How long after a scan the next one is due otherwise.
const LATER: Duration = Duration::from_secs(10);
/// How many times as long as it worked the scanner rests, so that it takes at most 1 % of a core however many
/// templates there are.
const REST: u32 = 99;

/// What has happened so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    scanned_at: Instant,
    /// How long the last scan kept a processor busy.
    cost: Duration,
    changed_at: Option<Instant>,
}

impl Schedule {
    /// Begins without a scan.
    pub(super) fn new(now: Instant) -> Self {
        Self { scanned_at: now, cost: Duration::ZERO, changed_at: None }
    }

    /// Notes that a scan has ended.
    pub(super) fn scanned(&mut self, now: Instant, cost: Duration) {
        (self.scanned_at, self.cost) = (now, cost);
    }

    /// Notes that a file was not what it had been.
    pub(super) fn changed(&mut self, now: Instant) {
        self.changed_at = Some(now);
    }

    /// Returns when the next scan is due.
    pub(super) fn due(&self) -> Instant {
        let is_busy = self.changed_at.is_some_and(|changed| self.scanned_at.saturating_duration_since(changed) < BUSY);
        let interval = if is_busy { SOON } else { LATER };
        self.scanned_at + interval.max(self.cost.saturating_mul(REST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_every_two_seconds_for_a_minute_after_a_change_and_every_ten_else() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(begin);
        assert_eq!(schedule.due(), begin + 10 * SECOND);
        let mut now = schedule.due();
        schedule.changed(now);
        schedule.scanned(now, Duration::from_millis(1));
        let mut scans = 0;
        while schedule.due() == now + 2 * SECOND {
            now = schedule.due();
            schedule.scanned(now, Duration::from_millis(1));
            scans += 1;
        }
        assert_eq!(scans, 30);
        assert_eq!(schedule.due(), now + 10 * SECOND);
    }

    #[test]
    fn it_takes_a_hundredth_of_a_core_at_most() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        for cost in [20, 21, 100, 101, 5_000].map(Duration::from_millis) {
            for is_busy in [true, false] {
                if is_busy {
                    schedule.changed(now);
                } else {
                    now += 2 * BUSY;
                }
                schedule.scanned(now, cost);
                let whole = schedule.due() - now + cost;
                assert!(cost * 100 <= whole, "{cost:?} of {whole:?}");
                assert!(schedule.due() >= now + if is_busy { SOON } else { LATER });
            }
        }
    }
}

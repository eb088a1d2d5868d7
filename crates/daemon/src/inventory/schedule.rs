//! The times at which the templates' folders are scanned. Reads no clock and no file.

use std::time::{Duration, Instant};

/// The time after a change during which another one is likely.
const BUSY: Duration = Duration::from_secs(60);
/// The time from one scan to the next while changes are likely.
const SOON: Duration = Duration::from_secs(2);
/// The time from one scan to the next otherwise.
const LATER: Duration = Duration::from_secs(10);
/// The rest after a scan, as a multiple of its CPU time. With this, scanning takes at most 1 % of a core, however many
/// templates there are.
const REST: u32 = 99;

/// The facts that decide when the next scan is due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    scanned_at: Instant,
    /// The CPU time of the last scan.
    cost: Duration,
    changed_at: Option<Instant>,
}

impl Schedule {
    /// Starts as if a scan had just ended.
    pub(super) fn new(now: Instant) -> Self {
        Self { scanned_at: now, cost: Duration::ZERO, changed_at: None }
    }

    /// Notes that a scan has ended, and its CPU time.
    pub(super) fn scanned(&mut self, now: Instant, cost: Duration) {
        (self.scanned_at, self.cost) = (now, cost);
    }

    /// Notes that a file has changed.
    pub(super) fn changed(&mut self, now: Instant) {
        self.changed_at = Some(now);
    }

    /// Returns the time at which the next scan is due.
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
                let period = schedule.due() - now + cost;
                assert!(cost * 100 <= period, "{cost:?} of {period:?}");
                assert!(schedule.due() >= now + if is_busy { SOON } else { LATER });
            }
        }
    }
}

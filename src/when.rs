//! Formats times for people: how long ago something was.
//!
//! Reads no clock: the caller passes the present time.

/// Parses an RFC 3339 time in UTC and returns it in seconds since the Unix epoch; `None` if it is not one, or before
/// 1970.
pub fn seconds(text: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u32>().ok();
    let month = time::Month::try_from(u8::try_from(number(5..7)?).ok()?).ok()?;
    let date =
        time::Date::from_calendar_date(i32::try_from(number(0..4)?).ok()?, month, u8::try_from(number(8..10)?).ok()?)
            .ok()?;
    let part = |range| u8::try_from(number(range)?).ok();
    let at = date.with_hms(part(11..13)?, part(14..16)?, part(17..19)?).ok()?.assume_utc();
    u64::try_from(at.unix_timestamp()).ok()
}

/// Returns a phrase that says how long before `now` the time `at` was. Both are in seconds since the Unix epoch.
pub fn ago(at: u64, now: u64) -> String {
    match now.saturating_sub(at) {
        0..=59 => "just now".into(),
        past @ 60..=3599 => format!("{} min ago", past / 60),
        past @ 3600..=86_399 => format!("{} h ago", past / 3600),
        past @ 86_400..=172_799 => format!("{} day ago", past / 86_400),
        past => format!("{} days ago", past / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(seconds("2026-11-23T10:00:00.123Z"), Some(1_795_428_000));
        assert_eq!(seconds("soon"), None);
    }

    #[test]
    fn times_are_told() {
        let told = [0, 59, 60, 7_200, 86_400, 200_000].map(|past| ago(1_000_000, 1_000_000 + past));
        assert_eq!(told, ["just now", "just now", "1 min ago", "2 h ago", "1 day ago", "2 days ago"]);
    }
}

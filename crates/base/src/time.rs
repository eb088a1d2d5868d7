//! The clock, and times as text: RFC 3339 for programs, "2 h ago" for people.
//!
//! Knows nothing of what the times belong to.

use std::time::{SystemTime, UNIX_EPOCH};

pub use time::OffsetDateTime;

use crate::names::Millis;

/// Returns the current time in milliseconds since the Unix epoch; 0 if the clock is set before it.
pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as Millis)
}

/// Formats a time as the API writes it: RFC 3339 in UTC with milliseconds. A time after the year 9999 is written as the
/// epoch.
pub fn rfc3339(at: Millis) -> String {
    let nanos = i128::from(at) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // By hand: a long listing has three for each row, and a format is worked through at each of them.
    let mut text = String::with_capacity(24);
    let digits = |number: u16, count: u32, after: char, text: &mut String| {
        text.extend((0..count).rev().map(|place| char::from(b'0' + (number / 10u16.pow(place) % 10) as u8)));
        text.push(after);
    };
    // From 1970 to 9999: more is no `OffsetDateTime`.
    digits(time.year() as u16, 4, '-', &mut text);
    digits(u8::from(time.month()).into(), 2, '-', &mut text);
    digits(time.day().into(), 2, 'T', &mut text);
    digits(time.hour().into(), 2, ':', &mut text);
    digits(time.minute().into(), 2, ':', &mut text);
    digits(time.second().into(), 2, '.', &mut text);
    digits(time.millisecond(), 3, 'Z', &mut text);
    text
}

/// Parses an RFC 3339 time in UTC into seconds since the epoch; fractions are dropped. `None` if it is not one.
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

/// Describes how long before `now` something happened, as in "2 h ago"; both in seconds since the epoch.
pub fn ago(at: u64, now: u64) -> String {
    match now.saturating_sub(at) {
        0..=59 => "just now".into(),
        seconds @ 60..=3599 => format!("{} min ago", seconds / 60),
        seconds @ 3600..=86_399 => format!("{} h ago", seconds / 3600),
        seconds @ 86_400..=172_799 => format!("{} day ago", seconds / 86_400),
        seconds => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_with_milliseconds() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_428_000_123, "2026-11-23T10:00:00.123Z"),
            (1_709_251_199_009, "2024-02-29T23:59:59.009Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (Millis::MAX, "1970-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(at), text);
        }
    }

    #[test]
    fn times_are_read() {
        assert_eq!(seconds("2026-11-23T10:00:00.123Z"), Some(1_795_428_000));
        assert_eq!(seconds("soon"), None);
    }

    #[test]
    fn times_are_told() {
        let texts = [0, 59, 60, 7_200, 86_400, 200_000].map(|past| ago(1_000_000, 1_000_000 + past));
        assert_eq!(texts, ["just now", "just now", "1 min ago", "2 h ago", "1 day ago", "2 days ago"]);
    }
}

//! Times as the data sets write them, in milliseconds since the epoch.
//!
//! Both forms are fixed in width and always UTC (or say how far they are from it), so a calendar crate would
//! be more than the few lines of arithmetic below.

use millstream::prelude::EventTime;

const DAY_MS: i64 = 86_400_000;
/// From 1 March of the year 0 to 1 January 1970.
const DAYS_TO_EPOCH: i64 = 719_468;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The time of `2013-01-01T06:00:00Z` or `2015-09-12T00:46:58.771Z`.
///
/// ```
/// use millstream_examples::clock::parse_iso;
///
/// assert_eq!(parse_iso("2013-01-01T06:00:00Z"), Ok(1_357_020_000_000));
/// assert_eq!(parse_iso("2015-09-12T00:46:58.771Z"), Ok(1_442_018_818_771));
/// assert_eq!(parse_iso("1969-12-31T23:59:59.999Z"), Ok(-1));
/// assert!(parse_iso("2013-02-29T06:00:00Z").is_err());
/// ```
///
/// # Errors
/// If the text has another form or is no such time.
pub fn parse_iso(text: &str) -> Result<EventTime, String> {
    let parse = || {
        let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
        let mut date = date.splitn(3, '-');
        let (year, month, day) = (date.next()?, date.next()?, date.next()?);
        let days = days(digits(year, 4)?, digits(month, 2)?, digits(day, 2)?)?;
        let (time, millis) = match time.split_once('.') {
            Some((time, millis)) => (time, digits(millis, 3)?),
            None => (time, 0),
        };
        Some(days * DAY_MS + time_of_day_ms(time)? + millis)
    };
    parse().ok_or_else(|| format!("`{text}` is no time like 2013-01-01T06:00:00Z"))
}

/// The time of `17/May/2015:10:05:03 +0000`, as web servers log it.
///
/// ```
/// use millstream_examples::clock::parse_log;
///
/// assert_eq!(parse_log("17/May/2015:10:05:03 +0000"), Ok(1_431_857_103_000));
/// assert_eq!(parse_log("17/May/2015:12:05:03 +0200"), Ok(1_431_857_103_000));
/// assert!(parse_log("17/Mai/2015:10:05:03 +0000").is_err());
/// ```
///
/// # Errors
/// If the text has another form or is no such time.
pub fn parse_log(text: &str) -> Result<EventTime, String> {
    let parse = || {
        let (local, zone) = text.split_once(' ')?;
        let (date, time) = local.split_once(':')?;
        let mut date = date.splitn(3, '/');
        let (day, month, year) = (date.next()?, date.next()?, date.next()?);
        let month = MONTHS.iter().position(|m| *m == month)? as i64 + 1;
        let days = days(digits(year, 4)?, month, digits(day, 2)?)?;
        let ahead = match zone.split_at_checked(1)? {
            ("+", zone) => zone_ms(zone)?,
            ("-", zone) => -zone_ms(zone)?,
            _ => return None,
        };
        Some(days * DAY_MS + time_of_day_ms(time)? - ahead)
    };
    parse().ok_or_else(|| format!("`{text}` is no time like 17/May/2015:10:05:03 +0000"))
}

/// A time in words, to the minute: `2013-01-01 06:00`.
///
/// ```
/// use millstream_examples::clock::{format_minute, parse_iso};
///
/// assert_eq!(format_minute(1_357_020_059_999), "2013-01-01 06:00");
/// assert_eq!(format_minute(-1), "1969-12-31 23:59");
/// for time in ["1600-02-29T00:00:00Z", "1999-12-31T23:59:00Z", "2000-03-01T12:34:00Z"] {
///     let formatted = format_minute(parse_iso(time).unwrap());
///     assert_eq!(formatted.replace(' ', "T") + ":00Z", time);
/// }
/// ```
pub fn format_minute(time: EventTime) -> String {
    let minute = time.rem_euclid(DAY_MS) / 60_000;
    let days = time.div_euclid(DAY_MS) + DAYS_TO_EPOCH;
    // Eras of 400 years are all alike; within one, years begin in March.
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    format!("{:04}-{month:02}-{day:02} {:02}:{:02}", 400 * era + year, minute / 60, minute % 60)
}

/// Exactly `n` digits.
fn digits(text: &str, n: usize) -> Option<i64> {
    (text.len() == n && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// A number below `end`.
fn below(end: i64, number: i64) -> Option<i64> {
    (number < end).then_some(number)
}

fn time_of_day_ms(text: &str) -> Option<i64> {
    let mut parts = text.splitn(3, ':');
    let (hour, minute, second) = (parts.next()?, parts.next()?, parts.next()?);
    let minutes = below(24, digits(hour, 2)?)? * 60 + below(60, digits(minute, 2)?)?;
    Some((minutes * 60 + below(60, digits(second, 2)?)?) * 1000)
}

fn zone_ms(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_at_checked(2)?;
    Some((digits(hours, 2)? * 60 + digits(minutes, 2)?) * 60_000)
}

/// Days from the epoch to a date; `None` if there is no such date.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *LENGTHS.get(usize::try_from(month - 1).ok()?)?;
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if day < 1 || day > length + i64::from(is_leap && month == 2) {
        return None;
    }
    // Years begin in March, so that the leap day is the last of one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(365 * year + leap_days + day_of_year - DAYS_TO_EPOCH)
}

//! Text for people: columns that line up, times and sizes that can be read.

/// Rows under headings; a column is as wide as its widest cell. The last one is not filled up.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(widths) {
            let padding = width - cell.chars().count().min(width);
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', padding + 2));
        }
        format!("{}\n", text.trim_end())
    };
    let mut text = line(&mut headings.into_iter());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// What may be absent.
pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_string(), |value| value.to_string())
}

/// `2026-05-02 14:03:11`, in UTC.
pub(crate) fn time(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of the proleptic Gregorian calendar, from the days since 1970. Counts from the first of March
/// of a year that 400 divides, so that the day that is not always there is the last of its year.
pub(crate) fn date(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month as u8, day as u8)
}

/// `350 ms`, `12.3 s`, `4 min 05 s`, `3 h 12 min`, `2 d 4 h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// `812 B`, `1.5 KiB`, `20.0 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = n as f64;
    let mut unit = "B";
    for larger in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{n} B") } else { format!("{size:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |a: &str, b: &str| [a.to_string(), b.to_string()];
        let text = table(["NAME", "N"], &[row("übung", "1"), row("x", "-")]);
        assert_eq!(text, "NAME   N\nübung  1\nx      -\n");
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        // date -u -d @…
        for (ms, expected) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399_999, "2000-02-28 23:59:59"),
            (951_782_400_000, "2000-02-29 00:00:00"),
            (1_709_251_200_000, "2024-03-01 00:00:00"),
            (4_102_444_799_000, "2099-12-31 23:59:59"),
            (-1, "1969-12-31 23:59:59"),
        ] {
            assert_eq!(time(ms), expected);
        }
    }

    #[test]
    fn durations_and_sizes_have_a_unit_that_suits_them() {
        let durations = [350, 12_345, 245_000, 11_520_000, 187_200_000].map(duration);
        assert_eq!(durations, ["350 ms", "12.3 s", "4 min 05 s", "3 h 12 min", "2 d 4 h"]);
        assert_eq!([812, 1536, 20 << 20].map(bytes), ["812 B", "1.5 KiB", "20.0 MiB"]);
    }
}

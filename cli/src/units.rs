//! Sizes, rates, durations and times, as people type and read them.
//!
//! Parsing is exact integer arithmetic: `1.5GiB` is 1,610,612,736 bytes and nothing is rounded
//! unless the text names a part of a byte or of a second, which is cut off.

/// Parses a size in bytes: `4096`, `10MB` (powers of 1000), `1.5GiB` or `1.5G` (powers of 1024).
///
/// # Errors
/// A sentence that says what was expected.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000_u64.pow(2),
        "gb" => 1000_u64.pow(3),
        "tb" => 1000_u64.pow(4),
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        _ => {
            return Err(format!(
                "unknown unit `{unit}`; use B, KB, MB, GB, TB, KiB, MiB, GiB or TiB"
            ));
        }
    };
    scaled(number, factor).ok_or_else(|| "expected a size such as 500MB or 1.5GiB".to_owned())
}

/// Parses a rate in bytes a second: a size, with or without `/s`; never 0.
///
/// # Errors
/// A sentence that says what was expected.
pub(crate) fn parse_rate(text: &str) -> Result<u64, String> {
    let size = text.strip_suffix("/s").unwrap_or(text);
    match parse_size(size)? {
        0 => Err("a rate must be more than nothing".to_owned()),
        rate => Ok(rate),
    }
}

/// Parses a duration in whole seconds: `90s`, `30m`, `12h`, `7d`, `2w`, or a sum such as `1h30m`.
///
/// # Errors
/// A sentence that says what was expected.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || "expected a duration such as 90s, 30m, 12h, 7d, 2w or 1h30m".to_owned();
    let mut rest = text.trim();
    let mut seconds: u64 = 0;
    loop {
        let (number, tail) = split_unit(rest);
        let letters = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, after) = tail.split_at(letters);
        let factor = match unit {
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            _ => return Err(wrong()),
        };
        let part = scaled(number, factor).ok_or_else(wrong)?;
        seconds = seconds.checked_add(part).ok_or_else(wrong)?;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    if seconds == 0 {
        Err("a duration must be at least a second".to_owned())
    } else {
        Ok(seconds)
    }
}

/// Splits text after its leading digits and points; blanks between number and unit are dropped.
fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// Multiplies a decimal number of at most 9 places by `factor`; nothing when it is no number or too large.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let places = u32::try_from(part.len()).ok()?;
    let part: u64 = part.parse().ok()?;
    let fraction = u128::from(part) * u128::from(factor) / u128::from(10_u64.pow(places));
    whole
        .checked_mul(factor)?
        .checked_add(u64::try_from(fraction).ok()?)
}

/// Writes a size with one decimal and a binary unit: `48.0 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded half up, in integers: no size prints as `1024.0 KiB`.
    let mut divisor: u128 = 1024;
    for unit in UNITS {
        let tenths = (u128::from(bytes) * 10 + divisor / 2) / divisor;
        if tenths < 10_240 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        divisor *= 1024;
    }
    unreachable!("a u64 is less than 1024 EiB")
}

/// Writes a rate: `12.5 MiB/s`.
pub(crate) fn rate(bytes_a_second: u64) -> String {
    format!("{}/s", size(bytes_a_second))
}

/// Writes a large count with three digits or so: `134.5 M`.
pub(crate) fn count(n: u64) -> String {
    const UNITS: [&str; 4] = ["K", "M", "B", "T"];
    if n < 1000 {
        return n.to_string();
    }
    let mut divisor: u128 = 1000;
    for (i, unit) in UNITS.iter().enumerate() {
        let tenths = (u128::from(n) * 10 + divisor / 2) / divisor;
        if tenths < 10_000 || i == UNITS.len() - 1 {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        divisor *= 1000;
    }
    unreachable!("the last unit always returns")
}

/// Writes a number with its noun: `1 file`, `3 files`.
pub(crate) fn plural(n: u64, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{n} {noun}s")
    }
}

/// Writes how long something takes or took: `1m 04s`, `3h 12m`, `5d 2h`.
pub(crate) fn span(seconds: u64) -> String {
    let (m, h, d) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{m}m {:02}s", seconds % 60),
        3600..86_400 => format!("{h}h {:02}m", m % 60),
        _ => format!("{d}d {}h", h % 24),
    }
}

/// Writes a time relative to `now`, both in seconds since 1970: `3 minutes ago`.
pub(crate) fn ago(time: u64, now: u64) -> String {
    let Some(age) = now.checked_sub(time) else {
        return format!("in the future ({})", utc(time));
    };
    let (n, noun) = match age {
        0..10 => return "just now".to_owned(),
        10..60 => (age, "second"),
        60..3600 => (age / 60, "minute"),
        3600..86_400 => (age / 3600, "hour"),
        86_400..1_209_600 => (age / 86_400, "day"),
        1_209_600..5_184_000 => (age / 604_800, "week"),
        5_184_000..63_072_000 => (age / 2_592_000, "month"),
        _ => (age / 31_536_000, "year"),
    };
    format!("{} ago", plural(n, noun))
}

/// Writes a time as `2026-11-23 22:41 UTC`. Days to date by Howard Hinnant's `civil_from_days`.
pub(crate) fn utc(time: u64) -> String {
    let days = time / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (time % 86_400 / 3600, time % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests;

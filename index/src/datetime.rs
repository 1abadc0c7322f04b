//! Points in time, in the spellings of RFC 3339 that Qdrant takes: `2024-02-29T12:30:00.5+02:00`, without
//! offset (then UTC), with a space for the `T`, without seconds, or the date alone.

/// Microseconds since 1970-01-01T00:00:00Z of a text, if it is a point in time of the years 0 to 9999.
pub fn parse_datetime(text: &str) -> Option<i64> {
    let mut bytes = text.as_bytes();
    let year = digits(&mut bytes, 4)?;
    take(&mut bytes, b"-")?;
    let month = digits(&mut bytes, 2)?;
    take(&mut bytes, b"-")?;
    let day = digits(&mut bytes, 2)?;
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return None;
    }
    let mut micros = days_since_epoch(year, month, day) * 86_400_000_000;
    if bytes.is_empty() {
        return Some(micros);
    }
    take(&mut bytes, b"Tt ")?;
    let hour = digits(&mut bytes, 2)?;
    take(&mut bytes, b":")?;
    let minute = digits(&mut bytes, 2)?;
    let mut second = 0;
    if take(&mut bytes, b":").is_some() {
        second = digits(&mut bytes, 2)?;
        if take(&mut bytes, b".").is_some() {
            micros += fraction(&mut bytes)?;
        }
    }
    // a leap second is the one after it
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    micros += (hour * 3600 + minute * 60 + second) * 1_000_000;
    match bytes.split_first() {
        None | Some((b'Z' | b'z', [])) => Some(micros),
        Some((sign @ (b'+' | b'-'), rest)) => {
            bytes = rest;
            let hours = digits(&mut bytes, 2)?;
            let minutes = match bytes {
                [] => 0,
                _ => {
                    let _ = take(&mut bytes, b":");
                    digits(&mut bytes, 2)?
                }
            };
            if hours > 23 || minutes > 59 || !bytes.is_empty() {
                return None;
            }
            let offset = (hours * 3600 + minutes * 60) * 1_000_000;
            Some(if *sign == b'+' {
                micros - offset
            } else {
                micros + offset
            })
        }
        Some(_) => None,
    }
}

/// The point in time as RFC 3339 has it, in UTC.
pub fn format_datetime(micros: i64) -> String {
    let (days, of_day) = (
        micros.div_euclid(86_400_000_000),
        micros.rem_euclid(86_400_000_000),
    );
    let (year, month, day) = date_of(days);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction != 0 {
        text += &format!(".{fraction:06}");
    }
    text + "Z"
}

fn take(bytes: &mut &[u8], any: &[u8]) -> Option<()> {
    let (first, rest) = bytes.split_first()?;
    any.contains(first).then(|| *bytes = rest)
}

fn digits(bytes: &mut &[u8], count: usize) -> Option<i64> {
    let (number, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    number.iter().try_fold(0, |sum, byte| {
        byte.is_ascii_digit()
            .then(|| sum * 10 + i64::from(byte - b'0'))
    })
}

/// Microseconds of the digits behind the point; what is finer is dropped.
fn fraction(bytes: &mut &[u8]) -> Option<i64> {
    let count = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if count == 0 || count > 9 {
        return None;
    }
    let kept = count.min(6);
    let mut micros = digits(bytes, kept)?;
    for _ in kept..6 {
        micros *= 10;
    }
    *bytes = &bytes[count - kept..];
    Some(micros)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 by the proleptic Gregorian calendar, in eras of 400 years that begin in March.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The reverse of [`days_since_epoch`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_the_same_time() {
        assert_eq!(parse_datetime("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse_datetime("2000-03-01"), Some(951_868_800_000_000));
        let time = parse_datetime("2024-02-29T12:30:00.25Z");
        for other in [
            "2024-02-29 12:30:00.250",
            "2024-02-29T14:30:00.25+02:00",
            "2024-02-29T07:00:00.250000-05:30",
            "2024-02-29t12:30:00.250000999z",
        ] {
            assert_eq!(parse_datetime(other), time, "{other}");
        }
        assert_eq!(
            parse_datetime("2024-02-29T12:30"),
            parse_datetime("2024-02-29T12:30:00Z")
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2024",
            "2024-13-01",
            "2024-02-30",
            "2023-02-29",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+24:00",
            "2024-01-01x",
            "x024-01-01",
            "2024-01-01T00:00:00ZZ",
            "١٩٧٠-01-01",
        ] {
            assert_eq!(parse_datetime(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_reads_back() {
        for days in -146_097..146_097 {
            let micros = days * 86_400_000_000 + 1_000_001;
            assert_eq!(parse_datetime(&format_datetime(micros)), Some(micros));
        }
    }
}

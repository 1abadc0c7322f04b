//! Text to number and back: exact where it must be, never a panic, never a wrap.

use super::*;
use proptest::prelude::*;

#[test]
fn sizes_are_read_as_people_type_them() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("12B", 12),
        ("10MB", 10_000_000),
        ("10 mb", 10_000_000),
        ("1.5GiB", 1_610_612_736),
        ("1.5G", 1_610_612_736),
        ("2k", 2048),
        ("0.5KiB", 512),
        ("3T", 3 << 40),
        ("1.23456789GB", 1_234_567_890),
    ] {
        assert_eq!(parse_size(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "GB",
        "-1",
        "1.GB",
        ".5G",
        "1..5G",
        "1.2.3",
        "5x",
        "1e9",
        "99999999999TiB",
        "1.0000000000G",
    ] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn rates_take_a_per_second_and_refuse_nothing() {
    assert_eq!(parse_rate("10MB"), Ok(10_000_000));
    assert_eq!(parse_rate("1.5GiB/s"), Ok(1_610_612_736));
    assert!(parse_rate("0").is_err());
    assert!(parse_rate("0.1B").is_err());
}

#[test]
fn durations_are_read_as_people_type_them() {
    for (text, seconds) in [
        ("90s", 90),
        ("30m", 1800),
        ("12h", 43_200),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1h30m", 5400),
        ("1d 12h", 129_600),
        ("1.5h", 5400),
    ] {
        assert_eq!(parse_duration(text), Ok(seconds), "{text}");
    }
    for text in [
        "",
        "7",
        "d",
        "0s",
        "7y",
        "-1d",
        "1h30",
        "99999999999999999999d",
        "30000000000000000w",
    ] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_and_counts_are_written_short() {
    assert_eq!(size(0), "0 B");
    assert_eq!(size(1023), "1023 B");
    assert_eq!(size(1024), "1.0 KiB");
    assert_eq!(size((1 << 20) - 1), "1.0 MiB");
    assert_eq!(size(283_115_520), "270.0 MiB");
    assert_eq!(size(u64::MAX), "16.0 EiB");
    assert_eq!(rate(1 << 20), "1.0 MiB/s");
    assert_eq!(count(999), "999");
    assert_eq!(count(999_950), "1.0 M");
    assert_eq!(count(134_515_008), "134.5 M");
    assert_eq!(count(u64::MAX), "18446744.1 T");
    assert_eq!(plural(1, "file"), "1 file");
    assert_eq!(plural(0, "file"), "0 files");
}

#[test]
fn times_are_written_for_people() {
    let now = 1_795_473_660;
    assert_eq!(utc(now), "2026-11-23 22:41 UTC");
    assert_eq!(utc(0), "1970-01-01 00:00 UTC");
    assert_eq!(utc(951_782_400), "2000-02-29 00:00 UTC");
    for (age, text) in [
        (0, "just now"),
        (59, "59 seconds ago"),
        (60, "1 minute ago"),
        (7200, "2 hours ago"),
        (86_400, "1 day ago"),
        (15 * 86_400, "2 weeks ago"),
        (90 * 86_400, "3 months ago"),
        (800 * 86_400, "2 years ago"),
    ] {
        assert_eq!(ago(now - age, now), text);
    }
    assert!(ago(now + 1, now).starts_with("in the future"));
    assert_eq!(span(5), "5s");
    assert_eq!(span(64), "1m 04s");
    assert_eq!(span(11_520), "3h 12m");
    assert_eq!(span(5 * 86_400 + 7200), "5d 2h");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,24}", digits in "[0-9.]{0,30}[a-zA-Z/ ]{0,5}") {
        for text in [&text, &digits] {
            let _ = parse_size(text);
            let _ = parse_rate(text);
            let _ = parse_duration(text);
        }
    }

    #[test]
    fn a_whole_number_of_a_unit_is_exact(n in 0_u64..1 << 20, unit in 0_usize..9) {
        let (name, factor) = [
            ("B", 1_u64), ("KB", 1000), ("MB", 1_000_000), ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40),
        ][unit];
        prop_assert_eq!(parse_size(&format!("{n}{name}")), Ok(n * factor));
    }

    #[test]
    fn a_written_size_reads_back_within_its_last_digit(bytes in any::<u64>()) {
        let text = size(bytes);
        if bytes < 1024 {
            prop_assert_eq!(parse_size(&text), Ok(bytes));
        } else if bytes < 1 << 50 {
            let back = parse_size(&text).map_err(TestCaseError::fail)?;
            // Half of a tenth of the unit; the unit is at most the number itself.
            prop_assert!(back.abs_diff(bytes) <= bytes / 20 + 1, "{} -> {} -> {}", bytes, text, back);
        }
    }

    #[test]
    fn durations_add_up(w in 0_u64..99, d in 0_u64..99, h in 0_u64..99, m in 0_u64..99, s in 1_u64..99) {
        let total = w * 604_800 + d * 86_400 + h * 3600 + m * 60 + s;
        prop_assert_eq!(parse_duration(&format!("{w}w{d}d{h}h{m}m{s}s")), Ok(total));
    }

    #[test]
    fn dates_follow_one_another(day in 0_u64..400_000) {
        let (a, b) = (utc(day * 86_400), utc((day + 1) * 86_400));
        prop_assert!(a < b || a.len() < b.len(), "{} {}", a, b);
    }
}

//! Sizes as people write them: `4G`, `250M`, `1.5GiB`.

/// Reads a size in bytes. `K`, `M`, `G` and `T` are powers of 1000, `KiB` and so on of 1024.
///
/// # Errors
/// When it is no size.
pub fn parse(text: &str) -> Result<u64, String> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit.trim().to_ascii_lowercase().trim_end_matches('b') {
        "" => 1,
        "k" => 1000,
        "m" => 1000_u64.pow(2),
        "g" => 1000_u64.pow(3),
        "t" => 1000_u64.pow(4),
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        "ti" => 1 << 40,
        _ => return Err(format!("{text:?}: unknown unit")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{text:?} is no size"))?;
    Ok((number * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_read() {
        assert_eq!(super::parse("4G"), Ok(4_000_000_000));
        assert_eq!(super::parse("1.5GiB"), Ok(3 << 29));
        assert_eq!(super::parse("123"), Ok(123));
        assert_eq!(super::parse("20 mb"), Ok(20_000_000));
        assert!(super::parse("4X").is_err() && super::parse("").is_err());
    }
}

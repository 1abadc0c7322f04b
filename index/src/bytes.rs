//! Lengths and little-endian integers, as the log, payloads and segments write them.
//!
//! A length is a LEB128 varint in its shortest form: seven bits a byte, the lowest first, and another byte
//! follows while the highest bit is set. Readers never panic: what is cut short is `None`.

/// Appends a number.
pub(crate) fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "below 0x80")]
    out.push(number as u8);
}

/// The number at the start, and what follows; none if cut short, too large, or longer than it must be.
pub(crate) fn read_varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (at, &byte) in bytes.iter().enumerate().take(10) {
        let bits = u64::from(byte & 0x7f);
        if at == 9 && bits > 1 {
            return None;
        }
        number |= bits << (7 * at);
        if byte & 0x80 == 0 {
            let shortest = at == 0 || byte != 0;
            return shortest.then(|| (number, &bytes[at + 1..]));
        }
    }
    None
}

/// Reads one thing after another from bytes of outside.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all was read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let (number, rest) = read_varint(self.0)?;
        self.0 = rest;
        Some(number)
    }

    /// A number of things that take at least `each_min` bytes; none if that many cannot follow.
    pub(crate) fn count(&mut self, each_min: usize) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count.checked_mul(each_min)? <= self.0.len()).then_some(count)
    }

    /// A length and as many bytes.
    pub(crate) fn sized(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }

    /// A length and as many bytes of UTF-8.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.sized()?).ok()
    }
}

/// Appends a length and the bytes.
pub(crate) fn write_sized(bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_spelling() {
        for number in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            write_varint(number, &mut bytes);
            assert_eq!(read_varint(&bytes), Some((number, &[][..])));
            assert_eq!(read_varint(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(read_varint(&[0x80, 0x00]), None, "longer than needed");
        assert_eq!(read_varint(&[0xff; 11]), None, "past 64 bits");
    }

    #[test]
    fn a_count_that_cannot_follow_is_refused() {
        let mut bytes = Vec::new();
        write_varint(3, &mut bytes);
        bytes.extend_from_slice(&[0; 12]);
        assert_eq!(Reader::new(&bytes).count(4), Some(3));
        assert_eq!(Reader::new(&bytes).count(5), None);
    }
}

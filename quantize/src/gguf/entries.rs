//! The key-values of a GGUF header: written anew, or copied from another header as `llama-quantize` copies them.
//!
//! A copy is byte for byte but for text, which ends at its first NUL, since llama.cpp hands it on as a C string.

use lode_tensors::ValueKind;

/// Type ids of the format.
const U32: u32 = 4;
const I32: u32 = 5;
const F32: u32 = 6;
const BOOL: u32 = 7;
const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Key-values in the order in which they are added.
#[derive(Debug, Default, Clone)]
pub(crate) struct Entries {
    bytes: Vec<u8>,
    count: u64,
}

impl Entries {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    fn key(&mut self, key: &str, kind: u32) {
        put_text(&mut self.bytes, key.as_bytes());
        self.bytes.extend(kind.to_le_bytes());
        self.count += 1;
    }

    pub(crate) fn u32(&mut self, key: &str, value: u32) {
        self.key(key, U32);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, key: &str, value: f32) {
        self.key(key, F32);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(crate) fn bool(&mut self, key: &str, value: bool) {
        self.key(key, BOOL);
        self.bytes.push(value.into());
    }

    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key, TEXT);
        put_text(&mut self.bytes, value.as_bytes());
    }

    pub(crate) fn texts<'t>(&mut self, key: &str, values: impl ExactSizeIterator<Item = &'t str>) {
        self.array(key, TEXT, values.len());
        for value in values {
            put_text(&mut self.bytes, value.as_bytes());
        }
    }

    pub(crate) fn i32s(&mut self, key: &str, values: &[i32]) {
        self.array(key, I32, values.len());
        self.bytes
            .extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    pub(crate) fn f32s(&mut self, key: &str, values: &[f32]) {
        self.array(key, F32, values.len());
        self.bytes
            .extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    fn array(&mut self, key: &str, kind: u32, len: usize) {
        self.key(key, ARRAY);
        self.bytes.extend(kind.to_le_bytes());
        self.bytes.extend((len as u64).to_le_bytes());
    }

    /// Copies an entry from the bytes of it in another header. False, with nothing added, when it holds arrays of
    /// arrays, which llama.cpp does not copy, or is no entry.
    #[must_use]
    pub(crate) fn copy(&mut self, entry: &[u8]) -> bool {
        let kept = self.bytes.len();
        let copied = copy_entry(&mut Cursor(entry), &mut self.bytes).is_some();
        if copied {
            self.count += 1;
        } else {
            self.bytes.truncate(kept);
        }
        copied
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text);
}

fn copy_entry(from: &mut Cursor<'_>, out: &mut Vec<u8>) -> Option<()> {
    put_text(out, from.text()?);
    let id = from.u32()?;
    out.extend(id.to_le_bytes());
    match ValueKind::from_id(id)? {
        ValueKind::Text => put_text(out, until_nul(from.text()?)),
        ValueKind::Array => {
            let (of, len) = (from.u32()?, from.u64()?);
            out.extend(of.to_le_bytes());
            out.extend(len.to_le_bytes());
            match ValueKind::from_id(of)? {
                ValueKind::Array => return None,
                ValueKind::Text => {
                    for _ in 0..len {
                        put_text(out, until_nul(from.text()?));
                    }
                }
                fixed => out.extend(from.bytes(len.checked_mul(fixed.fixed_bytes()?)?)?),
            }
        }
        fixed => out.extend(from.bytes(fixed.fixed_bytes()?)?),
    }
    from.0.is_empty().then_some(())
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The numbers of the first element of an array of an entry, or of the entry itself.
pub(crate) fn first_number(entry: &[u8]) -> Option<u64> {
    let mut from = Cursor(entry);
    from.text()?;
    let mut kind = ValueKind::from_id(from.u32()?)?;
    if kind == ValueKind::Array {
        kind = ValueKind::from_id(from.u32()?)?;
        if from.u64()? == 0 {
            return None;
        }
    }
    match kind {
        ValueKind::U32 => Some(from.u32()?.into()),
        ValueKind::I32 => i32::from_le_bytes(from.u32()?.to_le_bytes())
            .try_into()
            .ok(),
        ValueKind::U64 => from.u64(),
        _ => None,
    }
}

/// Reads little-endian values; nothing at the end.
struct Cursor<'b>(&'b [u8]);

impl<'b> Cursor<'b> {
    fn bytes(&mut self, len: u64) -> Option<&'b [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.bytes(4)?.first_chunk()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.bytes(8)?.first_chunk()?))
    }

    fn text(&mut self) -> Option<&'b [u8]> {
        let len = self.u64()?;
        self.bytes(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_byte_for_byte_but_end_text_at_nul() {
        let mut source = Entries::default();
        source.texts("words", ["a", "b\0c"].into_iter());
        let mut copy = Entries::default();
        assert!(copy.copy(source.bytes()));
        let mut expected = Entries::default();
        expected.texts("words", ["a", "b"].into_iter());
        assert_eq!(copy.bytes(), expected.bytes());

        for add in [
            |e: &mut Entries| e.u32("n", 7),
            |e: &mut Entries| e.f32("x", 0.5),
            |e: &mut Entries| e.bool("yes", true),
            |e: &mut Entries| e.i32s("types", &[1, -2]),
        ] {
            let (mut source, mut copy) = (Entries::default(), Entries::default());
            add(&mut source);
            assert!(copy.copy(source.bytes()));
            assert_eq!(copy.bytes(), source.bytes());
            assert_eq!(copy.count(), 1);
        }
    }

    #[test]
    fn a_broken_entry_adds_nothing() {
        let mut source = Entries::default();
        source.texts("words", ["a", "b"].into_iter());
        for end in 0..source.bytes().len() {
            let mut copy = Entries::default();
            assert!(!copy.copy(&source.bytes()[..end]), "{end} bytes");
            assert!(copy.bytes().is_empty() && copy.count() == 0);
        }
    }
}

//! Writes canonical DAG-CBOR.

/// Appends the head of a value: major type and argument, as short as it can be.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | bytes[7]),
        24..=0xff => out.extend([major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend(bytes);
        }
    }
}

/// Appends an unsigned integer.
pub fn encode_u64(out: &mut Vec<u8>, value: u64) {
    head(out, 0, value);
}

/// Appends a byte string.
pub fn encode_bytes(out: &mut Vec<u8>, value: &[u8]) {
    head(out, 2, value.len() as u64);
    out.extend(value);
}

/// Appends a text.
pub fn encode_text(out: &mut Vec<u8>, value: &str) {
    head(out, 3, value.len() as u64);
    out.extend(value.as_bytes());
}

/// Appends null.
pub fn encode_null(out: &mut Vec<u8>) {
    out.push(0xf6);
}

/// Appends an array, each item of it by `write`.
pub fn encode_array<T>(
    out: &mut Vec<u8>,
    items: impl ExactSizeIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    head(out, 4, items.len() as u64);
    for item in items {
        write(out, item);
    }
}

/// A map that is being put together: keys in any order, each once.
#[derive(Debug, Default)]
pub struct MapWriter<'a> {
    values: Vec<u8>,
    /// Key, and where its value is in `values`.
    entries: Vec<(&'a str, std::ops::Range<usize>)>,
}

impl<'a> MapWriter<'a> {
    /// Starts an empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `key` with what `write` appends: exactly one value.
    #[must_use]
    pub fn with(mut self, key: &'a str, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let start = self.values.len();
        write(&mut self.values);
        self.entries.push((key, start..self.values.len()));
        self
    }

    /// Adds an unsigned integer.
    #[must_use]
    pub fn u64(self, key: &'a str, value: u64) -> Self {
        self.with(key, |out| encode_u64(out, value))
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, key: &'a str, value: &str) -> Self {
        self.with(key, |out| encode_text(out, value))
    }

    /// Adds a byte string.
    #[must_use]
    pub fn bytes(self, key: &'a str, value: &[u8]) -> Self {
        self.with(key, |out| encode_bytes(out, value))
    }

    /// Adds a text, or null.
    #[must_use]
    pub fn text_or_null(self, key: &'a str, value: Option<&str>) -> Self {
        self.with(key, |out| match value {
            Some(value) => encode_text(out, value),
            None => encode_null(out),
        })
    }

    /// Adds a byte string, or null.
    #[must_use]
    pub fn bytes_or_null(self, key: &'a str, value: Option<&[u8]>) -> Self {
        self.with(key, |out| match value {
            Some(value) => encode_bytes(out, value),
            None => encode_null(out),
        })
    }

    /// Adds an unsigned integer, or null.
    #[must_use]
    pub fn u64_or_null(self, key: &'a str, value: Option<u64>) -> Self {
        self.with(key, |out| match value {
            Some(value) => encode_u64(out, value),
            None => encode_null(out),
        })
    }

    /// Appends the map to `out`.
    pub fn finish_into(mut self, out: &mut Vec<u8>) {
        self.entries
            .sort_unstable_by_key(|(key, _)| (key.len(), *key));
        debug_assert!(
            self.entries.windows(2).all(|w| w[0].0 != w[1].0),
            "a key is there twice"
        );
        head(out, 5, self.entries.len() as u64);
        for (key, value) in self.entries {
            encode_text(out, key);
            out.extend(&self.values[value]);
        }
    }

    /// Ends the map and answers its bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.values.len() + 16 * self.entries.len());
        self.finish_into(&mut out);
        out
    }
}

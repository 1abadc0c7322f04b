//! Reads canonical DAG-CBOR from a slice, without copying and without a tree of values.

use super::DocumentError;
use crate::limits::{DOCUMENT_DEPTH_MAX, DOCUMENT_KEY_BYTES_MAX};

const UINT: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const NULL: u8 = 0xf6;

/// A position in a document. After an error it must not be used again.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    key: &'a str,
}

impl<'a> Reader<'a> {
    /// Starts to read `bytes`, which is a `what` of at most `max` bytes.
    ///
    /// # Errors
    /// [`DocumentError::TooLarge`].
    pub fn new(bytes: &'a [u8], what: &'static str, max: usize) -> Result<Self, DocumentError> {
        if bytes.len() > max {
            return Err(DocumentError::TooLarge {
                what,
                found: bytes.len(),
                max,
            });
        }
        Ok(Self {
            bytes,
            at: 0,
            depth: 0,
            key: what,
        })
    }

    /// Ends: nothing may follow.
    ///
    /// # Errors
    /// [`DocumentError::Trailing`].
    pub fn end(self) -> Result<(), DocumentError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            extra => Err(DocumentError::Trailing { at: self.at, extra }),
        }
    }

    /// Reads an unsigned integer.
    ///
    /// # Errors
    /// When another value is there, or none.
    pub fn u64(&mut self) -> Result<u64, DocumentError> {
        self.head(UINT, "an unsigned integer")
    }

    /// Reads a text of at most `max` bytes.
    ///
    /// # Errors
    /// When another value is there, or none, or it is too long or not UTF-8.
    pub fn text(&mut self, max: usize) -> Result<&'a str, DocumentError> {
        let at = self.at;
        let len = self.head(TEXT, "text")?;
        self.str_body(at, len, max)
    }

    /// Reads a byte string of at most `max` bytes.
    ///
    /// # Errors
    /// When another value is there, or none, or it is too long.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], DocumentError> {
        let at = self.at;
        let len = self.head(BYTES, "a byte string")?;
        self.body(at, len, max)
    }

    /// Reads a byte string of exactly `N` bytes.
    ///
    /// # Errors
    /// When another value is there, or none, or it has another length.
    pub fn array_of<const N: usize>(&mut self) -> Result<[u8; N], DocumentError> {
        let at = self.at;
        let found = self.bytes(self.bytes.len())?;
        found.try_into().map_err(|_| DocumentError::WrongLength {
            key: self.key.to_owned(),
            at,
            found: found.len(),
            expected: N,
        })
    }

    /// Reads null, or else what `read` reads.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn optional<T, E: From<DocumentError>>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        if self.bytes.get(self.at) == Some(&NULL) {
            self.at += 1;
            return Ok(None);
        }
        read(self).map(Some)
    }

    /// Reads an array of at most `max` items, each by `read`.
    ///
    /// # Errors
    /// When another value is there, or none, or it is too long; and those of `read`.
    pub fn array<E: From<DocumentError>>(
        &mut self,
        max: usize,
        mut read: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let at = self.at;
        let len = self.head(ARRAY, "an array")?;
        if len > max as u64 {
            return Err(self.too_long(at, len, max).into());
        }
        self.enter(at)?;
        for _ in 0..len {
            read(self)?;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads a map. `read` is called after each key, reads the value, and answers true; or it answers
    /// false for a key that it does not know, which is then skipped, or refused if it starts with `!`.
    ///
    /// # Errors
    /// When another value is there, or none, or keys are unsorted, repeated or critical; and those of
    /// `read`.
    pub fn map<E: From<DocumentError>>(
        &mut self,
        mut read: impl FnMut(&'a str, &mut Self) -> Result<bool, E>,
    ) -> Result<(), E> {
        let at = self.at;
        let len = self.head(MAP, "a map")?;
        self.enter(at)?;
        let mut last: Option<&'a str> = None;
        for _ in 0..len {
            let key = self.map_key(last)?;
            last = Some(key);
            let before = self.at;
            if !read(key, self)? {
                assert_eq!(self.at, before, "a refused key's value must not be read");
                if key.starts_with('!') {
                    return Err(DocumentError::CriticalKey {
                        key: key.to_owned(),
                    }
                    .into());
                }
                self.raw()?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Skips one value of any type and answers its bytes, checked to be canonical.
    ///
    /// # Errors
    /// When the value is not canonical, too deep, or cut short.
    pub fn raw(&mut self) -> Result<&'a [u8], DocumentError> {
        let start = self.at;
        let first = *self
            .bytes
            .get(self.at)
            .ok_or(DocumentError::CutShort { at: self.at })?;
        match first >> 5 {
            UINT | NEGATIVE => {
                self.argument()?;
            }
            BYTES => {
                let len = self.argument()?;
                self.body(start, len, self.bytes.len())?;
            }
            TEXT => {
                let len = self.argument()?;
                self.str_body(start, len, self.bytes.len())?;
            }
            ARRAY => self.array::<DocumentError>(usize::MAX, |r| r.raw().map(drop))?,
            MAP => self.map::<DocumentError>(|_, r| r.raw().map(|_| true))?,
            6 => return Err(self.not_canonical(start, "tags are not used")),
            _ => match first {
                0xf4..=0xf6 => self.at += 1,
                0xfb => {
                    self.at += 1;
                    let bits = self.body(start, 8, 8)?;
                    let bits = bits
                        .try_into()
                        .expect("body answers the length it was asked for");
                    if !f64::from_be_bytes(bits).is_finite() {
                        return Err(self.not_canonical(start, "a float must be finite"));
                    }
                }
                0xf9 | 0xfa => {
                    return Err(self.not_canonical(start, "a float must have 64 bits"));
                }
                _ => return Err(self.not_canonical(start, "this simple value is not used")),
            },
        }
        Ok(&self.bytes[start..self.at])
    }

    /// The key read last, for messages.
    pub fn key(&self) -> &'a str {
        self.key
    }

    fn enter(&mut self, at: usize) -> Result<(), DocumentError> {
        self.depth += 1;
        if self.depth > DOCUMENT_DEPTH_MAX {
            return Err(DocumentError::TooDeep {
                at,
                max: DOCUMENT_DEPTH_MAX,
            });
        }
        Ok(())
    }

    fn map_key(&mut self, last: Option<&str>) -> Result<&'a str, DocumentError> {
        let at = self.at;
        let len = self.head(TEXT, "a key (text)")?;
        let key = self.str_body(at, len, DOCUMENT_KEY_BYTES_MAX)?;
        if let Some(last) = last {
            match (last.len(), last.as_bytes()).cmp(&(key.len(), key.as_bytes())) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    return Err(DocumentError::DuplicateKey {
                        at,
                        key: key.to_owned(),
                    });
                }
                std::cmp::Ordering::Greater => {
                    return Err(self.not_canonical(at, "keys must be sorted, shorter ones first"));
                }
            }
        }
        self.key = key;
        Ok(key)
    }

    /// Reads a head of major type `major` and answers its argument.
    fn head(&mut self, major: u8, expected: &'static str) -> Result<u64, DocumentError> {
        let at = self.at;
        let first = *self.bytes.get(at).ok_or(DocumentError::CutShort { at })?;
        if first >> 5 != major {
            let found = match first >> 5 {
                UINT => "an unsigned integer",
                NEGATIVE => "a negative integer",
                BYTES => "a byte string",
                TEXT => "text",
                ARRAY => "an array",
                MAP => "a map",
                6 => "a tag",
                _ if first == NULL => "null",
                _ => "a simple value",
            };
            return Err(DocumentError::WrongType {
                key: self.key.to_owned(),
                at,
                expected,
                found,
            });
        }
        self.argument()
    }

    /// Reads the argument of a head, which must be spelled as shortly as it can be.
    fn argument(&mut self) -> Result<u64, DocumentError> {
        let at = self.at;
        let info = self.bytes.get(at).ok_or(DocumentError::CutShort { at })? & 0x1f;
        self.at += 1;
        let (width, least) = match info {
            0..=23 => return Ok(u64::from(info)),
            24 => (1, 24),
            25 => (2, 1 << 8),
            26 => (4, 1 << 16),
            27 => (8, 1 << 32),
            28..=30 => return Err(self.not_canonical(at, "reserved length")),
            _ => return Err(self.not_canonical(at, "lengths must be definite")),
        };
        let value = self
            .body(at, width, 8)?
            .iter()
            .fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        if value < least {
            return Err(
                self.not_canonical(at, "an integer must be spelled as shortly as it can be")
            );
        }
        Ok(value)
    }

    fn body(&mut self, at: usize, len: u64, max: usize) -> Result<&'a [u8], DocumentError> {
        let rest = &self.bytes[self.at..];
        if len > rest.len() as u64 {
            return Err(DocumentError::CutShort {
                at: self.bytes.len(),
            });
        }
        let len = usize::try_from(len).expect("not longer than a slice");
        if len > max {
            return Err(self.too_long(at, len as u64, max));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn str_body(&mut self, at: usize, len: u64, max: usize) -> Result<&'a str, DocumentError> {
        let bytes = self.body(at, len, max)?;
        std::str::from_utf8(bytes).map_err(|_| self.not_canonical(at, "text must be UTF-8"))
    }

    fn too_long(&self, at: usize, found: u64, max: usize) -> DocumentError {
        DocumentError::TooLong {
            key: self.key.to_owned(),
            at,
            found,
            max: max as u64,
        }
    }

    fn not_canonical(&self, at: usize, why: &'static str) -> DocumentError {
        DocumentError::NotCanonical { at, why }
    }
}

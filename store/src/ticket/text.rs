//! From bytes to one word and back: prefix, base32, checksum.

use std::str::FromStr;

use data_encoding::{Encoding, Specification};

use super::{TICKET_PREFIX, Ticket, TicketError};
use crate::document::{DocumentError, Reader};
use crate::limits::TICKET_BYTES_MAX;

/// The format byte of today.
const FORMAT: u8 = 1;

/// Bytes of BLAKE3 at the end.
const CHECKSUM_BYTES: usize = 4;

/// RFC 4648 base32, lower case, without padding. Bits that are left over are not looked at: the
/// checksum finds what they could hide.
fn base32() -> Encoding {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.check_trailing_bits = false;
    spec.encoding().expect("the alphabet of RFC 4648 is valid")
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let [a, b, c, d, ..] = *blake3::hash(bytes).as_bytes();
    [a, b, c, d]
}

impl Ticket {
    /// The ticket as one word.
    ///
    /// # Errors
    /// When it is over 4 KiB, or names something that is not possible: a reader would refuse it.
    pub fn to_text(&self) -> Result<String, TicketError> {
        let mut bytes = vec![FORMAT];
        bytes.extend(self.encode());
        bytes.extend(checksum(&bytes));
        let text = format!("{TICKET_PREFIX}{}", base32().encode(&bytes));
        text.parse::<Self>()?;
        Ok(text)
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let found = text.chars().count();
        let max = TICKET_PREFIX.len() + (TICKET_BYTES_MAX * 8).div_ceil(5);
        let starts = text.get(..TICKET_PREFIX.len()).map(str::to_ascii_lowercase);
        if starts.as_deref() != Some(TICKET_PREFIX) {
            if !text.is_empty() && TICKET_PREFIX.starts_with(&text.to_ascii_lowercase()) {
                return Err(TicketError::CutShort { found });
            }
            return Err(TicketError::NotATicket {
                found: text.chars().take(20).collect(),
            });
        }
        if found > max {
            return Err(TicketError::TooLong { found, max });
        }
        let word = text[TICKET_PREFIX.len()..].to_ascii_lowercase();
        let wrong = word
            .chars()
            .enumerate()
            .find(|(_, c)| !matches!(c, 'a'..='z' | '2'..='7'));
        if let Some((at, found)) = wrong {
            return Err(TicketError::Character {
                found,
                at: at + TICKET_PREFIX.len(),
            });
        }
        // lengths that leave less than a byte over do not exist: the end of such a text is missing
        let whole = matches!(word.len() % 8, 0 | 2 | 4 | 5 | 7);
        let bytes = if whole {
            decode(&word)
        } else {
            decode(&word[..word.len() - 1])
        };
        let (body, sum) = match bytes.split_last_chunk::<CHECKSUM_BYTES>() {
            Some((body, sum)) if whole && body.len() > 1 => (body, sum),
            _ => return Err(TicketError::CutShort { found }),
        };
        if *sum != checksum(body) {
            return Err(broken(&bytes, found));
        }
        match body[0] {
            FORMAT => Self::decode(&body[1..]),
            found => Err(TicketError::NewerFormat { found }),
        }
    }
}

fn decode(word: &str) -> Vec<u8> {
    base32()
        .decode(word.as_bytes())
        .expect("characters and length were checked")
}

/// Why the checksum of these bytes is wrong: is there less than the document and a checksum?
fn broken(bytes: &[u8], found: usize) -> TicketError {
    let cut = |bytes: &[u8]| -> Result<bool, DocumentError> {
        let mut reader = Reader::new(bytes, "ticket", TICKET_BYTES_MAX)?;
        let document = match reader.raw() {
            Err(DocumentError::CutShort { .. }) => return Ok(true),
            other => other?.len(),
        };
        Ok(bytes.len() - document < CHECKSUM_BYTES)
    };
    match cut(&bytes[1..]) {
        Ok(true) if bytes[0] == FORMAT => TicketError::CutShort { found },
        _ => TicketError::Damaged,
    }
}

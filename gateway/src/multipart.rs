//! `multipart/byteranges` (RFC 9110, section 14.6): several ranges of one body in one answer.

use std::hash::{BuildHasher, Hasher, RandomState};

use bytes::Bytes;
use lode_tensors::ByteRange;

use crate::body::Part;

/// The parts of an answer with several ranges, and what its headers must say.
#[derive(Debug)]
pub struct Multipart {
    /// The value of `Content-Type`, which names the boundary.
    pub content_type: String,
    /// The value of `Content-Length`.
    pub length: u64,
    /// The body.
    pub parts: Vec<Part>,
}

/// Lays out `ranges` of a body of `len` bytes of type `content_type`.
pub fn lay_out(ranges: &[ByteRange], len: u64, content_type: &str) -> Multipart {
    let boundary = boundary();
    let mut parts = Vec::with_capacity(ranges.len() * 2 + 1);
    let mut length = 0;
    for (at, range) in ranges.iter().enumerate() {
        let head = format!(
            "{}--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {}\r\n\r\n",
            if at == 0 { "" } else { "\r\n" },
            content_range(*range, len),
        );
        length += head.len() as u64 + range.len();
        parts.push(Part::Text(Bytes::from(head)));
        parts.push(Part::Range(*range));
    }
    let tail = format!("\r\n--{boundary}--\r\n");
    length += tail.len() as u64;
    parts.push(Part::Text(Bytes::from(tail)));
    Multipart {
        content_type: format!("multipart/byteranges; boundary={boundary}"),
        length,
        parts,
    }
}

/// The value of `Content-Range` for a range that is not empty.
pub fn content_range(range: ByteRange, len: u64) -> String {
    format!(
        "bytes {}-{}/{len}",
        range.start,
        range.end.saturating_sub(1)
    )
}

/// 128 random bits: a boundary that nobody can have put into the bytes of a model.
fn boundary() -> String {
    // Each state is keyed from the operating system's random numbers.
    let random = || RandomState::new().build_hasher().finish();
    format!("lode-{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_heads_are_those_of_the_standard() {
        let ranges = [(0, 5), (95, 100)].map(|(start, end)| ByteRange { start, end });
        let laid_out = lay_out(&ranges, 100, "text/plain");
        let boundary = laid_out
            .content_type
            .strip_prefix("multipart/byteranges; boundary=")
            .expect("a boundary");
        let mut text = String::new();
        for part in &laid_out.parts {
            match part {
                Part::Text(bytes) => text.push_str(&String::from_utf8_lossy(bytes)),
                Part::Range(range) => {
                    text.push_str(&"x".repeat(usize::try_from(range.len()).expect("small")))
                }
            }
        }
        assert_eq!(text.len() as u64, laid_out.length);
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-4/100\r\n\r\nxxxxx\r\n\
             --{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 95-99/100\r\n\r\nxxxxx\r\n\
             --{boundary}--\r\n"
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn no_two_answers_share_a_boundary() {
        assert_ne!(boundary(), boundary());
    }
}

//! `sections/1`: cuts between the sections of an index segment (docs/format/segment.md, 1).
//!
//! A section is found again in another segment where its bytes are equal: an index over payloads that changed
//! leaves vectors and graph as they were. Nothing of what sections mean is known here, and their hashes are not
//! looked at; the first 16 KiB say where they lie.

use super::{CHUNK_BYTES_MAX, Cuts, SECTIONS_1};

/// Bytes of header and table, which are one chunk; sections begin at multiples of this.
pub const SECTION_ALIGN_BYTES: u64 = 16 * 1024;

/// From this size on, in bytes, a section starts a chunk.
const LARGE_BYTES: u64 = 1 << 20;

/// Longest chunk of several sections, in bytes.
const RUN_BYTES_MAX: u64 = 4 << 20;

/// Most sections of a segment.
const SECTIONS_MAX: usize = 255;

const MAGIC: &[u8; 8] = b"lode seg";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 64;
const KIND_BYTES: usize = 16;

/// Whether a file that begins with these bytes may be a segment.
pub fn is_segment(start: &[u8]) -> bool {
    start.starts_with(MAGIC)
}

/// The cuts of a segment of `file_len` bytes whose first [`SECTION_ALIGN_BYTES`] are `head`; none for what is no
/// segment.
pub fn section_cuts(head: &[u8], file_len: u64) -> Option<Cuts> {
    let ends = section_ends(head, file_len)?;
    let mut lengths = vec![length(SECTION_ALIGN_BYTES)];
    let mut run: u64 = 0;
    let mut start = SECTION_ALIGN_BYTES;
    for (at, end) in ends.iter().enumerate() {
        let size = end - start;
        // what is between a section and the next one goes with it
        let next = match at + 1 == ends.len() {
            true => file_len,
            false => end.next_multiple_of(SECTION_ALIGN_BYTES),
        };
        let with_padding = next - start;
        start = next;
        if with_padding == 0 {
            continue;
        }
        if size >= LARGE_BYTES {
            run = 0;
            let whole = with_padding / u64::from(CHUNK_BYTES_MAX);
            lengths.extend((0..whole).map(|_| CHUNK_BYTES_MAX));
            let rest = with_padding % u64::from(CHUNK_BYTES_MAX);
            lengths.extend((rest > 0).then(|| length(rest)));
        } else if run > 0 && run + with_padding <= RUN_BYTES_MAX {
            run += with_padding;
            *lengths.last_mut()? = length(run);
        } else {
            run = with_padding;
            lengths.push(length(run));
        }
    }
    Some(Cuts {
        rule: SECTIONS_1,
        lengths,
    })
}

/// Where each section ends, in the order of the table.
fn section_ends(head: &[u8], file_len: u64) -> Option<Vec<u64>> {
    let head = head.get(..usize::try_from(SECTION_ALIGN_BYTES).ok()?)?;
    let count = u32_at(head, 12) as usize;
    let fits = is_segment(head)
        && u32_at(head, 8) == FORMAT
        && count <= SECTIONS_MAX
        && u64_at(head, 16) == file_len
        && u64_at(head, 24) == 0;
    if !fits {
        return None;
    }
    let (table, rest) = head[HEADER_BYTES..].split_at(count * ENTRY_BYTES);
    if rest.iter().any(|byte| *byte != 0) {
        return None;
    }
    let mut names: Vec<&[u8]> = Vec::with_capacity(count);
    let mut ends = Vec::with_capacity(count);
    let mut end = SECTION_ALIGN_BYTES;
    for entry in table.chunks_exact(ENTRY_BYTES) {
        let name = &entry[..KIND_BYTES + 4];
        if !is_kind(&name[..KIND_BYTES]) || u32_at(entry, 20) != 0 || names.contains(&name) {
            return None;
        }
        names.push(name);
        end = end
            .checked_next_multiple_of(SECTION_ALIGN_BYTES)?
            .checked_add(u64_at(entry, 24))
            .filter(|end| *end <= file_len)?;
        ends.push(end);
    }
    (end == file_len).then_some(ends)
}

/// Whether bytes are 1 to 16 of `a-z`, `0-9` and `-`, then zeros.
fn is_kind(kind: &[u8]) -> bool {
    let len = kind
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(kind.len());
    let (name, padding) = kind.split_at(len);
    let named = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    !name.is_empty() && name.iter().all(named) && padding.iter().all(|byte| *byte == 0)
}

fn length(bytes: u64) -> u32 {
    u32::try_from(bytes).expect("a chunk is at most 16 MiB")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The first 16 KiB of a segment of such sections, and its length.
    fn segment(lens: &[u64]) -> (Vec<u8>, u64) {
        let mut head = vec![0; usize::try_from(SECTION_ALIGN_BYTES).unwrap()];
        let mut end = SECTION_ALIGN_BYTES;
        for (at, len) in lens.iter().enumerate() {
            end = end.next_multiple_of(SECTION_ALIGN_BYTES) + len;
            let entry = HEADER_BYTES + at * ENTRY_BYTES;
            head[entry..entry + 3].copy_from_slice(b"ids");
            head[entry + 16..entry + 20].copy_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
            head[entry + 24..entry + 32].copy_from_slice(&len.to_le_bytes());
        }
        head[..8].copy_from_slice(MAGIC);
        head[8] = 1;
        head[12..16].copy_from_slice(&u32::try_from(lens.len()).unwrap().to_le_bytes());
        head[16..24].copy_from_slice(&end.to_le_bytes());
        (head, end)
    }

    #[test]
    fn chunks_are_the_whole_file_and_begin_where_large_sections_do() {
        let lens = [5, 0, 1 << 20, 40 << 20, 7, 3 << 20, 9, 900_000, 900_000];
        let (head, len) = segment(&lens);
        let cuts = section_cuts(&head, len).unwrap();
        assert_eq!(
            cuts.lengths.iter().map(|len| u64::from(*len)).sum::<u64>(),
            len
        );
        let mut starts = vec![0];
        for length in &cuts.lengths {
            starts.push(starts.last().unwrap() + u64::from(*length));
        }
        let mut at = SECTION_ALIGN_BYTES;
        for size in lens {
            at = at.next_multiple_of(SECTION_ALIGN_BYTES);
            assert!(size < LARGE_BYTES || starts.contains(&at), "{size} at {at}");
            at += size;
        }
        assert!(
            cuts.lengths
                .iter()
                .all(|len| (1..=CHUNK_BYTES_MAX).contains(len))
        );
    }

    #[test]
    fn what_is_no_segment_is_not_cut_like_one() {
        let (head, len) = segment(&[5, 7]);
        assert!(section_cuts(&head, len).is_some());
        assert!(section_cuts(&head, len + 1).is_none());
        assert!(section_cuts(&head[1..], len).is_none());
        // magic, format, number of sections, zeros, a kind, a length, behind the table
        for at in [0, 8, 12, 24, 64, 84, 90, 64 + 2 * 64] {
            let mut other = head.clone();
            other[at] ^= 0x81;
            assert!(section_cuts(&other, len).is_none(), "byte {at}");
        }
    }

    #[test]
    fn one_more_section_than_there_may_be_is_refused() {
        let (head, len) = segment(&[1; SECTIONS_MAX]);
        assert!(section_cuts(&head, len).is_some());
        let mut more = head;
        more[12..16].copy_from_slice(&256_u32.to_le_bytes());
        assert!(section_cuts(&more, len).is_none());
    }

    #[test]
    fn small_sections_share_a_chunk_of_at_most_4_mib() {
        let (head, len) = segment(&[1_000_000; 9]);
        let lengths = section_cuts(&head, len).unwrap().lengths;
        assert_eq!(lengths.len(), 1 + 3, "{lengths:?}");
        assert!(lengths.iter().all(|len| u64::from(*len) <= RUN_BYTES_MAX));
    }
}

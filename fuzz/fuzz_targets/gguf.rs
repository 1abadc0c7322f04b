//! GGUF headers: never a panic, tensors inside the file, prefixes that grow until they suffice.
//!
//! Input: four bytes of how many more bytes the file has, then its first bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_tensors::{ParseError, parse, subset};

fuzz_target!(|input: &[u8]| {
    let Some((more, prefix)) = input.split_first_chunk::<4>() else {
        return;
    };
    let file_len = prefix.len() as u64 + u64::from(u32::from_le_bytes(*more));
    let header = match parse(prefix, file_len) {
        Ok(header) => header,
        Err(ParseError::NeedMore { bytes }) => {
            assert!(bytes > prefix.len() as u64 && bytes <= file_len);
            return;
        }
        Err(_) => return,
    };
    let mut end = header.len;
    for tensor in &header.tensors {
        assert!(tensor.range.start >= end && tensor.range.end <= file_len);
        assert_eq!(
            tensor.dtype.bytes_of(tensor.elements()),
            Some(tensor.range.len())
        );
        end = tensor.range.end;
    }
    let all: Vec<_> = (0..header.tensors.len()).collect();
    let Ok(made) = subset(&header, prefix, &all) else {
        return;
    };
    let again = parse(&made.header, made.len).expect("what is written is valid");
    assert_eq!(again.tensors.len(), header.tensors.len());
    // A new header: other places, same keys.
    assert!(
        again
            .metadata
            .iter()
            .map(|(key, _)| key)
            .eq(header.metadata.iter().map(|(key, _)| key))
    );
});

//! Outlines of files: whatever is one names bytes of the file alone, and its xorbs are as long as they say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_gateway::xet::outline::Outline;
use lode_tensors::ByteRange;

fuzz_target!(|data: &[u8]| {
    // Whoever writes to the home can seal what they write.
    let sealed = [data, blake3::hash(data).as_bytes()].concat();
    let Some(outline) = Outline::decode(&sealed) else {
        return;
    };
    assert_eq!(outline.encode(), sealed);
    let len = outline.len();
    for (start, end) in [(0, len), (len / 3, len / 2 + 1), (len - 1, len)] {
        let range = ByteRange { start, end };
        if range.is_empty() {
            continue;
        }
        let (skipped, terms) = outline.terms(range);
        let covered: u64 = terms.iter().map(|term| term.len).sum();
        assert!(covered >= skipped + range.len());
        for term in terms {
            let (hash, layout) = outline.xorb(term.xorb).expect("a term names a xorb");
            assert_eq!(hash, term.hash);
            assert!(term.packed.end <= layout.len());
            let needed = layout.file_range(term.packed);
            assert_eq!(needed.len(), term.len);
            assert!(needed.end <= len);
            let data = vec![0; 4096.min(needed.len()) as usize];
            assert!(!layout.join(term.packed, &data).is_empty());
        }
    }
});

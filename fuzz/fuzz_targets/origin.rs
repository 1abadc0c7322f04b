//! What another hub says: whatever the bytes, an answer is refused or keeps to what a version may have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use lode_node::origin::listing::{CommitId, Digest, Listing, info, page, time};
use lode_store::tree::check_path;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fuzz_target!(|data: &[u8]| {
    let commit = CommitId::parse(COMMIT).expect("40 hex digits");
    if let Ok(info) = info(data) {
        assert_eq!(CommitId::parse(&info.commit.to_string()), Some(info.commit));
        assert!(!info.organisation.contains('/') && !info.name.contains('/'));
    }
    time(data, commit).ok();
    let Ok(files) = page(data) else { return };
    let Ok(listing) = Listing::new(commit, 0, files) else {
        return;
    };
    for (at, file) in listing.files.iter().enumerate() {
        assert!(check_path(&file.path).is_ok());
        assert_eq!(listing.find(&file.path), Some(at));
        assert!(file.size <= 10 << 20 || matches!(file.digest, Digest::Sha256(_)));
        assert_eq!(Digest::from_bytes(file.digest.as_bytes()), Some(file.digest));
    }
    listing.size();
});

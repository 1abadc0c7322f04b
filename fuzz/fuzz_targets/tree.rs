//! Trees: what is accepted is written back as the same value, and no path leaves its root.
#![no_main]

use std::path::{Component, Path};

use libfuzzer_sys::fuzz_target;
use lode_store::tree::{Tree, check_link, check_path, fold_path};

fuzz_target!(|data: &[u8]| {
    if let Ok(tree) = Tree::decode(data) {
        assert_eq!(
            Tree::decode(&tree.encode()).expect("what was accepted can be read"),
            tree
        );
        for file in tree.files() {
            let mut parts = Path::new(&file.path).components();
            assert!(parts.all(|part| matches!(part, Component::Normal(_))));
        }
        let mut folded: Vec<_> = tree
            .files()
            .iter()
            .map(|file| fold_path(&file.path))
            .collect();
        folded.sort();
        folded.dedup();
        assert_eq!(folded.len(), tree.files().len());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        let (path, target) = text.split_once('\n').unwrap_or((text, ""));
        if check_path(path).is_ok() && check_link(path, target.as_bytes()).is_ok() {
            // as a file system resolves it when no part of it is another link
            let mut depth = path.matches('/').count();
            for part in target.split('/') {
                match part {
                    "." => {}
                    ".." => depth = depth.checked_sub(1).expect("the link stays inside"),
                    _ => depth += 1,
                }
            }
        }
    }
});

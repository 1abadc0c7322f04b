//! Which files the Hub keeps in git and which beside it (LFS), and what it calls their bytes.
//!
//! The class follows from path and size alone, so that every node says the same of a file and nothing of it is
//! stored. A file of the git class is at most 10 MiB long, and so always has its git SHA-1 in the tree.

use lode_store::limits::GIT_HASH_FILE_BYTES_MAX;
use sha1::{Digest, Sha1};

/// Ends of names whose files are of the LFS class whatever their size: weights, arrays, archives.
const LFS_EXTENSIONS: [&str; 39] = [
    "7z",
    "arrow",
    "bin",
    "bz2",
    "ckpt",
    "ftz",
    "ggml",
    "gguf",
    "gz",
    "h5",
    "joblib",
    "keras",
    "llamafile",
    "mlmodel",
    "model",
    "msgpack",
    "npy",
    "npz",
    "onnx",
    "ot",
    "parquet",
    "pb",
    "pickle",
    "pkl",
    "pt",
    "pte",
    "pth",
    "rar",
    "rkllm",
    "safetensors",
    "tar",
    "task",
    "tflite",
    "tgz",
    "wasm",
    "xz",
    "zip",
    "zst",
    "zstd",
];

/// Whether a file is of the LFS class.
pub(crate) fn is_lfs(path: &str, size: u64) -> bool {
    let named = || {
        let extension = path.rsplit('/').next()?.rsplit_once('.')?.1;
        let mut known = LFS_EXTENSIONS.iter();
        known.find(|known| known.eq_ignore_ascii_case(extension))
    };
    size > GIT_HASH_FILE_BYTES_MAX || named().is_some()
}

/// The text that git holds in place of a file of the LFS class.
fn pointer(oid: &str, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n")
}

/// The git SHA-1 of that text, in hex digits, and its length in bytes.
pub(crate) fn pointer_oid(oid: &str, size: u64) -> (String, usize) {
    let text = pointer(oid, size);
    (git_oid(text.as_bytes()), text.len())
}

/// The git SHA-1 of a file with these bytes, in hex digits.
fn git_oid(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    crate::file::hex(&hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_and_long_files_are_of_the_lfs_class() {
        let most = GIT_HASH_FILE_BYTES_MAX;
        for (path, size, lfs) in [
            ("model.safetensors", 1, true),
            ("a/b/MODEL.GGUF", 0, true),
            ("pytorch_model.bin", 1, true),
            ("tokenizer.model", 1, true),
            ("config.json", most, false),
            ("config.json", most + 1, true),
            ("safetensors", 1, false),
            ("a.bin/README", 1, false),
            ("model.safetensors.index.json", 1, false),
        ] {
            assert_eq!(is_lfs(path, size), lfs, "{path} of {size} bytes");
        }
    }

    #[test]
    fn oids_are_those_of_git() {
        // `printf hello | git hash-object --stdin`
        assert_eq!(
            git_oid(b"hello"),
            "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0"
        );
        let sha256 = "a".repeat(64);
        let (oid, length) = pointer_oid(&sha256, 1_048_690);
        let text = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 1048690\n"
        );
        assert_eq!((oid, length), (git_oid(text.as_bytes()), text.len()));
        assert_eq!(length, 132);
    }
}

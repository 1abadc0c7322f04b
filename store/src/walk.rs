//! What a push takes from a folder: every regular file and every symlink that stays inside, sorted.
//!
//! Folders are taken as they are: sub-folders, empty files and names in any script. Left out are what
//! `.lodeignore` names (the syntax of `.gitignore`, in any sub-folder), `.git`, and Lode's own hidden
//! part files. Anything that a tree cannot hold is refused by
//! name instead of being dropped in silence. Names are brought to NFC, as macOS hands them out decomposed.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ignore::WalkBuilder;
use unicode_normalization::UnicodeNormalization;

use crate::{
    ErrorKind,
    limits::TREE_FILES_MAX,
    tree::{IGNORE_FILE, LinkError, PathError, PathSet, check_link, check_path},
};

/// How the name of a file that is still being received ends; it starts with a dot.
pub const PART_SUFFIX: &str = ".lode-part";

/// One file or symlink of a folder that is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path in the tree: NFC, relative, `/` between its parts.
    pub path: String,
    /// Where it is on this machine.
    pub source: PathBuf,
    /// What it is.
    pub kind: EntryKind,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Whether its owner may execute it.
        executable: bool,
        /// Length in bytes when it was found.
        size: u64,
    },
    /// A symlink, with its relative target, which stays inside the folder.
    Link {
        /// The target as written in the link.
        target: String,
    },
}

/// Why a folder cannot be pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalkError {
    /// The folder or something in it cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// What was read.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The path is neither a folder nor a regular file.
    #[error("{path} is neither a folder nor a regular file")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// A pattern of a `.lodeignore` is malformed.
    #[error("{IGNORE_FILE}: {reason}")]
    Pattern {
        /// What the parser says, with file and line.
        reason: String,
    },
    /// A name is not valid UTF-8.
    #[error("{path:?} is not valid UTF-8: rename it, or list it in {IGNORE_FILE}")]
    NotUtf8 {
        /// The path.
        path: PathBuf,
    },
    /// A name breaks the path rules of a tree, or two are one where case is ignored.
    #[error("{0}; or list it in {IGNORE_FILE}")]
    Path(#[from] PathError),
    /// A symlink that leaves the folder, or could.
    #[error("{0}: replace it by a copy, or list it in {IGNORE_FILE}")]
    Link(#[from] LinkError),
    /// More files than a tree may have.
    #[error(
        "{path} holds more than {TREE_FILES_MAX} files: push a part of it, or list some in {IGNORE_FILE}"
    )]
    TooMany {
        /// The folder.
        path: PathBuf,
    },
    /// A socket, pipe or device.
    #[error("{path:?} is a {kind}, not a file: remove it, or list it in {IGNORE_FILE}")]
    Special {
        /// The path in the tree.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// The folder holds nothing to push.
    #[error("{path} holds no file to push")]
    Empty {
        /// The folder.
        path: PathBuf,
    },
}

impl WalkError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Self::Io { .. } => ErrorKind::Io,
            Self::NotAFolder { .. } | Self::Pattern { .. } => ErrorKind::Usage,
            _ => ErrorKind::Refused,
        }
    }
}

/// Lists what a push of `dir` takes, sorted by the bytes of the path.
///
/// `dir` may also be one regular file, which becomes a tree of one file. Paths below one of `exclude`
/// (the home of the store, when it is inside) are left out.
///
/// # Errors
/// The first thing that cannot be read or cannot be part of a tree, by name.
pub fn walk(dir: &Path, exclude: &[PathBuf]) -> Result<Vec<Entry>, WalkError> {
    let io_error = |source| WalkError::Io {
        path: dir.to_owned(),
        source,
    };
    let root = fs::canonicalize(dir).map_err(io_error)?;
    let metadata = fs::metadata(&root).map_err(io_error)?;
    let mut entries = if metadata.is_file() {
        single(dir, &root, &metadata)?
    } else if metadata.is_dir() {
        folder(&root, exclude)?
    } else {
        return Err(WalkError::NotAFolder {
            path: dir.to_owned(),
        });
    };
    if entries.is_empty() {
        return Err(WalkError::Empty {
            path: dir.to_owned(),
        });
    }
    entries.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    PathSet::check(entries.iter().map(|entry| entry.path.as_str()))?;
    Ok(entries)
}

/// Whether `name` is the name of a part file that Lode writes beside a final path.
pub fn is_part_name(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(PART_SUFFIX)
}

fn single(dir: &Path, root: &Path, metadata: &fs::Metadata) -> Result<Vec<Entry>, WalkError> {
    let name = dir
        .file_name()
        .or_else(|| root.file_name())
        .unwrap_or_default();
    let path = tree_path(Path::new(name))?;
    Ok(vec![Entry {
        path,
        source: root.to_owned(),
        kind: file_kind(metadata),
    }])
}

fn folder(root: &Path, exclude: &[PathBuf]) -> Result<Vec<Entry>, WalkError> {
    let excluded: Vec<PathBuf> = exclude
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    let walker = WalkBuilder::new(root)
        .standard_filters(false)
        .follow_links(false)
        .add_custom_ignore_filename(IGNORE_FILE)
        .filter_entry(move |entry| {
            let name = entry.file_name();
            let own = name == ".git"
                || name.to_str().is_some_and(is_part_name)
                || excluded.iter().any(|path| path == entry.path());
            entry.depth() == 0 || !own
        })
        .build();
    let mut entries = Vec::new();
    for found in walker {
        let found = found.map_err(|error| walk_error(root, error))?;
        if let Some(error) = found.error() {
            return Err(WalkError::Pattern {
                reason: error.to_string(),
            });
        }
        if let Some(entry) = entry(root, found.path())? {
            if entries.len() == TREE_FILES_MAX {
                return Err(WalkError::TooMany {
                    path: root.to_owned(),
                });
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

fn entry(root: &Path, source: &Path) -> Result<Option<Entry>, WalkError> {
    let io_error = |error| WalkError::Io {
        path: source.to_owned(),
        source: error,
    };
    let metadata = fs::symlink_metadata(source).map_err(io_error)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Ok(None);
    }
    let relative = source
        .strip_prefix(root)
        .expect("the walker stays below its root");
    let path = tree_path(relative)?;
    let kind = if kind.is_file() {
        file_kind(&metadata)
    } else if kind.is_symlink() {
        let target = fs::read_link(source).map_err(io_error)?;
        let target = target
            .into_os_string()
            .into_string()
            .map_err(|_| WalkError::NotUtf8 {
                path: source.to_owned(),
            })?;
        check_link(&path, target.as_bytes())?;
        EntryKind::Link { target }
    } else {
        let kind = if kind.is_fifo() {
            "pipe"
        } else if kind.is_socket() {
            "socket"
        } else {
            "device"
        };
        return Err(WalkError::Special { path, kind });
    };
    Ok(Some(Entry {
        path,
        source: source.to_owned(),
        kind,
    }))
}

fn file_kind(metadata: &fs::Metadata) -> EntryKind {
    EntryKind::File {
        executable: metadata.permissions().mode() & 0o100 != 0,
        size: metadata.len(),
    }
}

/// The path in the tree of `relative`: its parts in NFC, with `/` between them.
fn tree_path(relative: &Path) -> Result<String, WalkError> {
    let mut path = String::new();
    for component in relative.components() {
        let part = component
            .as_os_str()
            .to_str()
            .ok_or_else(|| WalkError::NotUtf8 {
                path: relative.to_owned(),
            })?;
        if !path.is_empty() {
            path.push('/');
        }
        path.extend(part.nfc());
    }
    check_path(&path)?;
    Ok(path)
}

fn walk_error(root: &Path, error: ignore::Error) -> WalkError {
    let mut path = root.to_owned();
    let mut inner = &error;
    loop {
        match inner {
            ignore::Error::WithPath { path: at, err } => {
                path.clone_from(at);
                inner = err;
            }
            ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
                inner = err;
            }
            _ => break,
        }
    }
    match error.io_error() {
        Some(source) => {
            let source = source.raw_os_error().map_or_else(
                || io::Error::new(source.kind(), source.to_string()),
                io::Error::from_raw_os_error,
            );
            WalkError::Io { path, source }
        }
        None => WalkError::Pattern {
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::{ffi::OsStrExt, fs::symlink};

    fn write(root: &Path, path: &str, bytes: &[u8]) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn paths(root: &Path) -> Vec<String> {
        walk(root, &[])
            .unwrap()
            .into_iter()
            .map(|entry| entry.path)
            .collect()
    }

    #[test]
    fn takes_a_folder_as_it_is_sorted_by_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            "b",
            "a/z",
            "a.txt",
            "a/empty",
            "模型/权重.bin",
            ".hidden",
            "emoji 🦙",
            "ä",
        ] {
            write(root, name, if name.ends_with("empty") { b"" } else { b"x" });
        }
        fs::create_dir(root.join("empty-folder")).unwrap();
        let found = paths(root);
        let mut sorted = found.clone();
        sorted.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        assert_eq!(found, sorted);
        assert_eq!(found.len(), 8);
        assert!(found.contains(&"模型/权重.bin".to_owned()));
    }

    #[test]
    fn leaves_out_git_part_files_and_what_lodeignore_names() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in [
            ".git/config",
            "sub/.git",
            ".model.lode-part",
            "keep.bin",
            "drop.tmp",
            "sub/drop.tmp",
            "sub/other",
            "sub/deep/other",
            "home/index",
        ] {
            write(root, name, b"x");
        }
        write(root, ".lodeignore", b"*.tmp\n!sub/drop.tmp\n");
        write(root, "sub/.lodeignore", b"/other\n");
        write(root, ".gitignore", b"keep.bin\n");
        let found: Vec<String> = walk(root, &[root.join("home")])
            .unwrap()
            .into_iter()
            .map(|e| e.path)
            .collect();
        assert_eq!(
            found,
            [
                ".gitignore",
                ".lodeignore",
                "keep.bin",
                "sub/.lodeignore",
                "sub/deep/other",
                "sub/drop.tmp"
            ]
        );
    }

    #[test]
    fn a_malformed_ignore_pattern_is_said() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a", b"x");
        write(dir.path(), ".lodeignore", b"[z-a\n");
        assert!(matches!(
            walk(dir.path(), &[]),
            Err(WalkError::Pattern { .. })
        ));
    }

    #[test]
    fn symlinks_inside_stay_and_others_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, "a/b/file", b"x");
        symlink("b/file", root.join("a/link")).unwrap();
        symlink("../a", root.join("a/up")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        assert_eq!(paths(root), ["a/b/file", "a/link", "a/up", "dangling"]);
        for target in ["../outside", "/etc/passwd", "a/../../x", "a/b/../c"] {
            let bad = root.join("bad");
            symlink(target, &bad).unwrap();
            let error = walk(root, &[]).unwrap_err();
            assert!(
                matches!(&error, WalkError::Link(e) if e.path == "bad"),
                "{error}"
            );
            fs::remove_file(bad).unwrap();
        }
    }

    #[test]
    fn names_that_differ_in_case_or_normalisation_alone_are_refused() {
        for (one, two) in [
            ("Model.bin", "model.bin"),
            ("Sub/a", "sub/a"),
            ("\u{e9}", "e\u{301}"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            write(dir.path(), one, b"x");
            write(dir.path(), two, b"x");
            assert!(
                matches!(walk(dir.path(), &[]), Err(WalkError::Path(_))),
                "{one} {two}"
            );
        }
    }

    #[test]
    fn decomposed_names_become_nfc_and_keep_their_source() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "e\u{301}", b"x");
        let entries = walk(dir.path(), &[]).unwrap();
        assert_eq!(entries[0].path, "\u{e9}");
        assert!(entries[0].source.ends_with("e\u{301}"));
    }

    #[test]
    fn special_files_bad_names_and_empty_folders_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            walk(dir.path(), &[]),
            Err(WalkError::Empty { .. })
        ));
        assert!(matches!(
            walk(&dir.path().join("no"), &[]),
            Err(WalkError::Io { .. })
        ));
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        assert!(matches!(
            walk(dir.path(), &[]),
            Err(WalkError::Special { kind: "socket", .. })
        ));
        fs::remove_file(dir.path().join("s")).unwrap();
        fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"\xff")), b"x").unwrap();
        assert!(matches!(
            walk(dir.path(), &[]),
            Err(WalkError::NotUtf8 { .. })
        ));
    }

    #[test]
    fn one_file_is_a_tree_of_one_file() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "model.gguf", b"GGUF");
        let entries = walk(&dir.path().join("model.gguf"), &[]).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].path, "model.gguf");
        assert_eq!(
            entries[0].kind,
            EntryKind::File {
                executable: false,
                size: 4
            }
        );
    }
}

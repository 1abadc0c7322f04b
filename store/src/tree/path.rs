//! Paths that are safe to write on every system, and one spelling each.
//!
//! Invariant: a path that passed [`check_path`] stays under the folder that it is joined to, and is
//! the same file's name on Linux, macOS and Windows; paths that passed [`PathSet`] together never
//! overwrite one another, on systems that ignore case either.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::ErrorKind;
use crate::limits::{LINK_BYTES_MAX, PATH_BYTES_MAX, PATH_PART_BYTES_MAX};

/// Why a path is not one that a tree may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Nothing is there.
    #[error("a path is empty: give the file a name")]
    Empty,
    /// It starts at the root.
    #[error("the path {path:?} is absolute: only paths inside the folder are permitted")]
    Absolute {
        /// The path.
        path: String,
    },
    /// It has a `..` part.
    #[error("the path {path:?} has a `..` part and could leave the folder: it is refused")]
    Parent {
        /// The path.
        path: String,
    },
    /// It has an empty part, or a `.` part.
    #[error("the path {path:?} has an empty or `.` part: write it without")]
    Part {
        /// The path.
        path: String,
    },
    /// It has a character that no path may have.
    #[error(
        "the path {path:?} has the character {found:?}, which is not permitted: rename the file"
    )]
    Character {
        /// The path.
        path: String,
        /// The character.
        found: char,
    },
    /// A part ends with a dot or a space, which Windows drops.
    #[error("the path {path:?} has a part that ends with a dot or a space: rename the file")]
    TrailingDotOrSpace {
        /// The path.
        path: String,
    },
    /// A part is a name that Windows or Lode keeps for itself.
    #[error("the path {path:?} has the part {part:?}, which is reserved: rename the file")]
    Reserved {
        /// The path.
        path: String,
        /// The part.
        part: String,
    },
    /// It is too long.
    #[error(
        "the path {path:?} is too long: at most {PATH_BYTES_MAX} bytes, {PATH_PART_BYTES_MAX} a part"
    )]
    TooLong {
        /// The start of the path.
        path: String,
    },
    /// It is not in Unicode normalisation form C.
    #[error("the path {path:?} is not in Unicode form NFC: rename the file to its composed form")]
    NotNfc {
        /// The path.
        path: String,
    },
    /// The same path is there twice.
    #[error("the path {path:?} is there twice")]
    Duplicate {
        /// The path.
        path: String,
    },
    /// Two paths differ in case alone.
    #[error("the paths {first:?} and {second:?} differ in case alone: rename one of them")]
    CaseFolding {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// One path is a file and another path's folder.
    #[error("the path {file:?} is a file, and the folder of {inside:?}: rename one of them")]
    FileAndFolder {
        /// The file.
        file: String,
        /// A path inside of it.
        inside: String,
    },
}

impl PathError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Refused
    }
}

/// Device names of Windows, of any extension.
const WINDOWS_RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Names that start so are Lode's own; only `.lodeignore` may be in a tree.
pub const RESERVED_PREFIX: &str = ".lode";

/// Names that end so are part files, beside the file that is being written.
pub const RESERVED_SUFFIX: &str = ".lode-part";

/// The one name with [`RESERVED_PREFIX`] that a tree may have.
pub const IGNORE_FILE: &str = ".lodeignore";

/// Checks one path by itself: relative, `/` between parts, NFC, nothing reserved on any system.
///
/// # Errors
/// [`PathError`], a variant for each rule.
pub fn check_path(path: &str) -> Result<(), PathError> {
    let shown = || path.chars().take(200).collect::<String>();
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute { path: shown() });
    }
    if names_a_drive(path) {
        return Err(PathError::Absolute { path: shown() });
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong { path: shown() });
    }
    if let Some(found) = path.chars().find(|c| c.is_control() || *c == '\\') {
        return Err(PathError::Character {
            path: shown(),
            found,
        });
    }
    for part in path.split('/') {
        if part == ".." {
            return Err(PathError::Parent { path: shown() });
        }
        if part.is_empty() || part == "." {
            return Err(PathError::Part { path: shown() });
        }
        if part.len() > PATH_PART_BYTES_MAX {
            return Err(PathError::TooLong { path: shown() });
        }
        if part.ends_with(['.', ' ']) {
            return Err(PathError::TrailingDotOrSpace { path: shown() });
        }
        if is_reserved(part) {
            return Err(PathError::Reserved {
                path: shown(),
                part: part.to_owned(),
            });
        }
    }
    if !is_nfc(path) {
        return Err(PathError::NotNfc { path: shown() });
    }
    Ok(())
}

/// Whether a path starts with a drive of Windows: a letter and a colon.
fn names_a_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic())
}

fn is_nfc(path: &str) -> bool {
    path.is_ascii()
        || match is_nfc_quick(path.chars()) {
            IsNormalized::Yes => true,
            IsNormalized::No => false,
            IsNormalized::Maybe => path.nfc().eq(path.chars()),
        }
}

fn is_reserved(part: &str) -> bool {
    let starts_with = |prefix: &str| {
        part.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if starts_with(RESERVED_PREFIX) {
        return part != IGNORE_FILE;
    }
    if part.to_ascii_lowercase().ends_with(RESERVED_SUFFIX) {
        return true;
    }
    let stem = part.split('.').next().unwrap_or(part).trim_end_matches(' ');
    if WINDOWS_RESERVED
        .iter()
        .any(|name| stem.eq_ignore_ascii_case(name))
    {
        return true;
    }
    let numbered = stem.get(..3).is_some_and(|start| {
        start.eq_ignore_ascii_case("com") || start.eq_ignore_ascii_case("lpt")
    });
    let mut digits = stem.chars().skip(3);
    numbered
        && matches!(digits.next(), Some('1'..='9' | '¹' | '²' | '³'))
        && digits.next().is_none()
}

/// What two paths have in common when a system that ignores case takes them for one: each character's
/// simple lower case (without regard to its neighbours), then NFC.
pub fn fold_path(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase();
    }
    path.chars().flat_map(char::to_lowercase).nfc().collect()
}

/// Finds paths that would overwrite one another. Holds some 80 bytes a path beside the paths.
#[derive(Debug)]
pub struct PathSet<'a> {
    paths: Vec<&'a str>,
    /// Hash of the folded path -> the paths that have it.
    by_fold: HashMap<u64, Vec<u32>>,
    hasher: RandomState,
}

impl<'a> PathSet<'a> {
    /// Checks that no two of `paths` are equal, differ in case alone, or are file and folder at once.
    ///
    /// # Errors
    /// [`PathError::Duplicate`], [`PathError::CaseFolding`] or [`PathError::FileAndFolder`].
    pub fn check(paths: impl IntoIterator<Item = &'a str>) -> Result<(), PathError> {
        let mut set = Self {
            paths: Vec::new(),
            by_fold: HashMap::new(),
            hasher: RandomState::new(),
        };
        for path in paths {
            set.insert(path)?;
        }
        for inside in &set.paths {
            let folded = fold_path(inside);
            for (at, _) in folded.match_indices('/') {
                if let Some(file) = set.find(&folded[..at]) {
                    let (file, inside) = (file.to_owned(), (*inside).to_owned());
                    return Err(PathError::FileAndFolder { file, inside });
                }
            }
        }
        Ok(())
    }

    fn find(&self, folded: &str) -> Option<&'a str> {
        let candidates = self.by_fold.get(&self.hasher.hash_one(folded))?;
        candidates
            .iter()
            .map(|at| self.paths[*at as usize])
            .find(|path| fold_path(path) == folded)
    }

    fn insert(&mut self, path: &'a str) -> Result<(), PathError> {
        let folded = fold_path(path);
        if let Some(first) = self.find(&folded) {
            return Err(if first == path {
                PathError::Duplicate {
                    path: path.to_owned(),
                }
            } else {
                PathError::CaseFolding {
                    first: first.to_owned(),
                    second: path.to_owned(),
                }
            });
        }
        let at = u32::try_from(self.paths.len()).expect("fewer paths than files of a tree");
        self.paths.push(path);
        self.by_fold
            .entry(self.hasher.hash_one(&folded))
            .or_default()
            .push(at);
        Ok(())
    }
}

/// Why a symbolic link's target is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the link {path:?} points to {target:?}: {why}; only links to inside the folder are permitted"
)]
pub struct LinkError {
    /// The link.
    pub path: String,
    /// Where it points.
    pub target: String,
    /// Which rule it breaks.
    pub why: &'static str,
}

impl LinkError {
    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Refused
    }
}

/// Checks where the link at `path` points: relative, and inside the tree, whatever other links of the
/// tree it passes. `..` may be at its start alone, at most as often as the link is deep.
///
/// The folder of a link is a real one (no path of a tree goes through a link), so that leading `..`
/// parts mean what they say; after a name, a `..` could follow another link to elsewhere.
///
/// # Errors
/// [`LinkError`].
pub fn check_link(path: &str, target: &[u8]) -> Result<(), LinkError> {
    let refuse = |why| LinkError {
        path: path.to_owned(),
        target: String::from_utf8_lossy(target).chars().take(200).collect(),
        why,
    };
    if target.len() as u64 > LINK_BYTES_MAX {
        return Err(refuse("it is too long"));
    }
    let text = std::str::from_utf8(target).map_err(|_| refuse("it is not UTF-8"))?;
    if text.starts_with('/') || names_a_drive(text) {
        return Err(refuse("it is absolute"));
    }
    if text.chars().any(|c| c.is_control() || c == '\\') {
        return Err(refuse("it has a character that is not permitted"));
    }
    let mut depth = path.matches('/').count();
    let mut named = false;
    for part in text.split('/') {
        match part {
            "" => return Err(refuse("it has an empty part")),
            "." => {}
            ".." if named => return Err(refuse("it has `..` after a name")),
            ".." if depth == 0 => return Err(refuse("it leaves the folder")),
            ".." => depth -= 1,
            _ => named = true,
        }
    }
    if !named {
        return Err(refuse("it names a folder above itself"));
    }
    Ok(())
}

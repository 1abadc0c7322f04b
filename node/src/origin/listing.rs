//! What another hub says of a repository, from its JSON: everything is checked here once and trusted after.
//!
//! Shapes: `reference/hub-api.md` of the recorded clients; of each only what is needed is read. An answer that
//! does not keep to what is possible is refused whole: a list of files is what a version is made of.

use std::fmt;

use lode_store::{
    limits::{GIT_HASH_FILE_BYTES_MAX, TREE_FILES_MAX},
    name::check_model,
    tree::{PathSet, check_path},
};
use serde::Deserialize;

/// A commit id: 20 bytes, which are written as 40 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommitId([u8; 20]);

/// What a file's bytes must hash to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// The SHA-256 of a file of the LFS class.
    Sha256([u8; 32]),
    /// The git blob SHA-1 of any other.
    Git([u8; 20]),
}

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAt {
    /// Where.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// What its bytes hash to.
    pub digest: Digest,
}

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// Its organisation, as the hub writes it.
    pub organisation: String,
    /// Its name, as the hub writes it.
    pub name: String,
    /// The commit that the revision is at.
    pub commit: CommitId,
    /// Whether everyone may read it there.
    pub public: bool,
}

/// A commit with its files, sorted by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The commit.
    pub commit: CommitId,
    /// When it was made, in seconds since 1970; 0 where the hub does not say.
    pub time: u64,
    /// Its files.
    pub files: Vec<FileAt>,
}

impl CommitId {
    /// Reads 40 lower-case hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        hex(text).map(Self)
    }
}

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Digest {
    /// Its bytes: 32 or 20.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Git(bytes) => bytes,
        }
    }

    /// Reads 32 or 20 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if let Ok(sha256) = bytes.try_into() {
            return Some(Self::Sha256(sha256));
        }
        bytes.try_into().ok().map(Self::Git)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(self.as_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads what is said of a repository at a revision: `GET /api/models/ORG/NAME/revision/REV`.
///
/// # Errors
/// Why it cannot be.
pub fn info(bytes: &[u8]) -> Result<Info, String> {
    #[derive(Deserialize)]
    struct Wire {
        id: String,
        sha: String,
        #[serde(default)]
        private: bool,
        #[serde(default)]
        gated: Gated,
        #[serde(default)]
        disabled: bool,
    }
    let wire: Wire = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let (organisation, name) =
        split_id(&wire.id).ok_or_else(|| format!("{:?} is no name ORG/MODEL", cut(&wire.id)))?;
    let commit = CommitId::parse(&wire.sha)
        .ok_or_else(|| format!("{:?} is no commit id of 40 hex digits", cut(&wire.sha)))?;
    Ok(Info {
        organisation: organisation.to_owned(),
        name: name.to_owned(),
        commit,
        public: !wire.private && !wire.disabled && !wire.gated.is_gated(),
    })
}

/// The organisation and name of `ORG/MODEL`.
pub fn split_id(id: &str) -> Option<(&str, &str)> {
    let (organisation, name) = id.split_once('/')?;
    (check_model(organisation).is_ok() && check_model(name).is_ok()).then_some((organisation, name))
}

/// `false`, or how access is asked for.
#[derive(Deserialize)]
#[serde(untagged)]
enum Gated {
    Is(bool),
    How(String),
}

impl Default for Gated {
    fn default() -> Self {
        Self::Is(false)
    }
}

impl Gated {
    fn is_gated(&self) -> bool {
        match self {
            Self::Is(gated) => *gated,
            Self::How(how) => !how.is_empty(),
        }
    }
}

/// Reads one page of a list of files: `GET /api/models/ORG/NAME/tree/COMMIT?recursive=true`. Folders are left out.
///
/// # Errors
/// Why it cannot be.
pub fn page(bytes: &[u8]) -> Result<Vec<FileAt>, String> {
    #[derive(Deserialize)]
    struct Row {
        r#type: String,
        path: String,
        #[serde(default)]
        size: u64,
        #[serde(default)]
        oid: String,
        #[serde(default)]
        lfs: Option<Lfs>,
    }
    #[derive(Deserialize)]
    struct Lfs {
        oid: String,
        size: u64,
    }
    let rows: Vec<Row> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut files = Vec::new();
    for row in rows.into_iter().filter(|row| row.r#type != "directory") {
        let path = cut(&row.path).to_owned();
        if row.r#type != "file" {
            return Err(format!("{path:?} is a {:?}", cut(&row.r#type)));
        }
        let digest = match &row.lfs {
            Some(lfs) if lfs.size != row.size => {
                return Err(format!(
                    "{path:?} has two sizes, {} and {}",
                    row.size, lfs.size
                ));
            }
            Some(lfs) => hex(&lfs.oid).map(Digest::Sha256),
            None if row.size > GIT_HASH_FILE_BYTES_MAX => {
                return Err(format!(
                    "{path:?} has {} bytes and no SHA-256, only files up to {GIT_HASH_FILE_BYTES_MAX} may",
                    row.size
                ));
            }
            None => hex(&row.oid).map(Digest::Git),
        };
        let digest = digest.ok_or_else(|| format!("{path:?} has no hash of the right length"))?;
        files.push(FileAt {
            path: row.path,
            size: row.size,
            digest,
        });
    }
    Ok(files)
}

/// Reads when a commit was made from the list of commits that ends with it: `GET /api/models/ORG/NAME/commits/COMMIT`.
///
/// # Errors
/// Why it cannot be.
pub fn time(bytes: &[u8], commit: CommitId) -> Result<u64, String> {
    #[derive(Deserialize)]
    struct Row {
        id: String,
        date: String,
    }
    let rows: Vec<Row> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let first = rows.first().ok_or("there is no commit")?;
    if CommitId::parse(&first.id) != Some(commit) {
        return Err(format!(
            "it begins with another commit, {:?}",
            cut(&first.id)
        ));
    }
    seconds(&first.date).ok_or_else(|| format!("{:?} is no date", cut(&first.date)))
}

impl Listing {
    /// A commit with these files.
    ///
    /// # Errors
    /// Too many of them, or paths that no version may have.
    pub fn new(commit: CommitId, time: u64, mut files: Vec<FileAt>) -> Result<Self, String> {
        if files.len() > TREE_FILES_MAX {
            return Err(format!(
                "{} files, at most {TREE_FILES_MAX} are taken",
                files.len()
            ));
        }
        files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        for file in &files {
            check_path(&file.path).map_err(|error| error.to_string())?;
        }
        PathSet::check(files.iter().map(|file| file.path.as_str()))
            .map_err(|error| error.to_string())?;
        let sizes = files
            .iter()
            .try_fold(0_u64, |sum, file| sum.checked_add(file.size));
        sizes.ok_or("the sizes add up to more than 2^64 bytes")?;
        Ok(Self {
            commit,
            time,
            files,
        })
    }

    /// The sum of the sizes in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The position of the file with this path.
    pub fn find(&self, path: &str) -> Option<usize> {
        let at = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(path));
        at.ok()
    }
}

/// Reads lower-case hex digits of exactly `N` bytes.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .ok()?
        .try_into()
        .ok()
}

/// The start of a text, for messages.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(120);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Seconds since 1970 of a time as the Hub writes it: `2026-11-22T23:47:04.000Z`.
fn seconds(text: &str) -> Option<u64> {
    let text = text
        .strip_suffix('Z')
        .or_else(|| text.strip_suffix("+00:00"))?;
    let (date, clock) = text.split_once('T')?;
    let clock = clock.split_once('.').map_or(clock, |(whole, _)| whole);
    let numbers = |text: &str, mark: char| -> Option<[u64; 3]> {
        let parts: Option<Vec<u64>> = text
            .split(mark)
            .map(|part| {
                part.bytes()
                    .all(|b| b.is_ascii_digit())
                    .then(|| part.parse().ok())?
            })
            .collect();
        parts?.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(clock, ':')?);
    let possible = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !possible {
        return None;
    }
    // Days from 1 March of year 0 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let year = year - u64::from(month <= 2);
    let era_year = year % 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year / 400 * 146_097 + era_year * 365 + era_year / 4 - era_year / 100 + day_of_year;
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHA1: &str = "0123456789abcdef0123456789abcdef01234567";
    const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn row(path: &str, size: u64, lfs: bool) -> String {
        let lfs = if lfs {
            format!(r#","lfs":{{"oid":"{SHA256}","size":{size},"pointerSize":134}}"#)
        } else {
            String::new()
        };
        format!(r#"{{"type":"file","path":"{path}","size":{size},"oid":"{SHA1}"{lfs}}}"#)
    }

    fn listed(rows: &[String]) -> Result<Listing, String> {
        let files = page(format!("[{}]", rows.join(",")).as_bytes())?;
        Listing::new(CommitId::parse(SHA1).unwrap(), 0, files)
    }

    #[test]
    fn a_list_of_files_is_read_with_both_kinds_of_hashes() {
        let folder = r#"{"type":"directory","path":"a","size":0,"oid":"x"}"#.to_owned();
        let listing = listed(&[
            row("b.safetensors", 1 << 40, true),
            folder,
            row("a/c", 7, false),
        ]);
        let listing = listing.unwrap();
        assert_eq!(listing.files[0].path, "a/c");
        assert_eq!(listing.files[0].digest.to_string(), SHA1);
        assert_eq!(listing.files[1].digest.to_string(), SHA256);
        assert_eq!(listing.find("b.safetensors"), Some(1));
        assert_eq!(listing.find("b"), None);
        assert_eq!(listing.size(), (1 << 40) + 7);
    }

    #[test]
    fn a_lying_list_of_files_is_refused_whole() {
        let two_sizes = row("a", 5, true).replacen("\"size\":5", "\"size\":6", 1);
        for (rows, why) in [
            (vec![row("../a", 1, false)], ".."),
            (vec![row("a/../../b", 1, false)], ".."),
            (vec![row("/etc/passwd", 1, false)], "/etc/passwd"),
            (vec![row("a\\\\b", 1, false)], "a"),
            (vec![row("a\\u0000b", 1, false)], "a"),
            (vec![row("a", 1, false), row("a", 1, false)], "a"),
            (vec![row("a", 1, false), row("A", 1, false)], "A"),
            (vec![row("a", 1, false), row("a/b", 1, false)], "a"),
            (vec![row("a", u64::MAX, true), row("b", 1, true)], "2^64"),
            (
                vec![row("a", GIT_HASH_FILE_BYTES_MAX + 1, false)],
                "no SHA-256",
            ),
            (vec![two_sizes], "two sizes"),
            (vec![row("a", 1, false).replace(SHA1, "0123")], "no hash"),
            (vec![row("a", 1, true).replace(SHA256, SHA1)], "no hash"),
            (
                vec![row("a", 1, false).replace("file", "submodule")],
                "submodule",
            ),
            (
                vec![row("a", 1, false).replace("\"size\":1", "\"size\":-1")],
                "invalid value",
            ),
        ] {
            let error = listed(&rows).unwrap_err();
            assert!(error.contains(why), "{rows:?}: {error}");
        }
        assert!(listed(&[row("a", GIT_HASH_FILE_BYTES_MAX, false)]).is_ok());
        assert!(page(b"{}").is_err() && page(b"[").is_err());
        assert!(page("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn what_is_said_of_a_repository_is_checked() {
        let read = |text: &str| info(text.as_bytes());
        let plain =
            format!(r#"{{"id":"acme/tiny","sha":"{SHA1}","siblings":[{{}}],"gated":false}}"#);
        let found = read(&plain).unwrap();
        assert_eq!(
            (found.organisation.as_str(), found.name.as_str()),
            ("acme", "tiny")
        );
        assert!(found.public);
        for closed in [
            r#""private":true"#,
            r#""gated":"auto""#,
            r#""gated":true"#,
            r#""disabled":true"#,
        ] {
            let text = format!(r#"{{"id":"acme/tiny","sha":"{SHA1}",{closed}}}"#);
            assert!(!read(&text).unwrap().public, "{closed}");
        }
        for id in ["tiny", "a/b/c", "../b", "a/..", "a/", "/b", "a b/c"] {
            assert!(read(&plain.replace("acme/tiny", id)).is_err(), "{id}");
        }
        for sha in ["", "main", &SHA1[1..], &SHA1.to_uppercase(), SHA256] {
            assert!(read(&plain.replace(SHA1, sha)).is_err(), "{sha}");
        }
    }

    #[test]
    fn the_time_of_a_commit_is_that_of_the_first_in_the_list() {
        let commit = CommitId::parse(SHA1).unwrap();
        let at = |date: &str| {
            let text = format!(r#"[{{"id":"{SHA1}","title":"t","date":"{date}"}}]"#);
            time(text.as_bytes(), commit)
        };
        // `date -u -d DATE +%s`
        for (date, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-28T23:59:59.000Z", 951_782_399),
            ("2000-02-29T00:00:00.000Z", 951_782_400),
            ("2026-11-22T23:47:04.123Z", 1_795_391_224),
            ("2100-03-01T00:00:00+00:00", 4_107_542_400),
        ] {
            assert_eq!(at(date), Ok(seconds), "{date}");
        }
        for date in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "1969-12-31T23:59:59Z",
            "2026-01-01T00:00:00+01:00",
            "99999-01-01T00:00:00Z",
            "2026-+1-01T00:00:00Z",
            "18446744073709551616-01-01T00:00:00Z",
        ] {
            assert!(at(date).is_err(), "{date}");
        }
        assert!(time(b"[]", commit).is_err());
        let other = SHA1.replace('0', "f");
        let text = format!(r#"[{{"id":"{other}","date":"2026-11-22T23:47:04Z"}}]"#);
        assert!(time(text.as_bytes(), commit).is_err());
    }
}

//! Files of versions as addresses name them: links followed, media types, names in headers.

use hyper::header::HeaderValue;
use lode_store::tree::Mode;

use crate::{
    answer::Problem, dialect::ENTRY_NOT_FOUND, reader::OpenVersion, stored::OpenFile,
    target::encode_segment,
};

/// That a version has no such file.
pub(crate) fn absent(path: &str) -> Problem {
    Problem::not_found(format!("there is no file {path:?} in this version"))
        .advise("its files are listed at ../files")
        .code(ENTRY_NOT_FOUND)
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// The most links that lead from one to the next.
const LINKS_MAX: usize = 16;

impl OpenVersion {
    /// Opens the file at `path`, and says where links led if they did.
    ///
    /// # Errors
    /// 404 for what is not there, 503 when a link or a chunk list is nowhere to be had.
    pub async fn find(&self, path: &str) -> Result<(OpenFile, Option<String>), Problem> {
        let (at, link) = self.locate(path).await?;
        let open = self.reader(self.tree().files()[at].clone()).await?;
        Ok((open, link))
    }

    /// The position in the tree of the file at `path`, and where links led if they did. Only links are read.
    ///
    /// # Errors
    /// As [`Self::find`].
    pub async fn locate(&self, path: &str) -> Result<(usize, Option<String>), Problem> {
        let mut path = path.to_owned();
        let mut links = 0;
        loop {
            let files = self.tree().files();
            let found = files.binary_search_by(|file| file.path.as_str().cmp(&path));
            let at = found.map_err(|_| absent(&path))?;
            if files[at].mode != Mode::Link {
                return Ok((at, (links > 0).then_some(path)));
            }
            links += 1;
            if links > LINKS_MAX {
                return Err(Problem::not_found("links lead in a circle").code(ENTRY_NOT_FOUND));
            }
            let target = self.reader(files[at].clone()).await?.read_all().await?;
            path = follow(&path, &target).ok_or_else(|| {
                let message = format!("the link {path:?} leads nowhere");
                Problem::not_found(message).code(ENTRY_NOT_FOUND)
            })?;
        }
    }
}

/// Where a link at `path` with this target leads, from the root of the version.
fn follow(path: &str, target: &[u8]) -> Option<String> {
    let target = std::str::from_utf8(target).ok()?;
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The media type for a name, and whether a browser may show it.
///
/// Only types that cannot run in a browser: a model's files are not ours.
pub(crate) fn media_type(path: &str) -> (&'static str, bool) {
    let extension = path
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase());
    match extension.as_deref() {
        Some("json") => ("application/json", true),
        Some("txt" | "md" | "jinja" | "py" | "yaml" | "yml" | "toml") => {
            ("text/plain; charset=utf-8", true)
        }
        _ => ("application/octet-stream", false),
    }
}

/// `Content-Disposition` (RFC 6266) with the file's own name.
pub(crate) fn disposition(path: &str, shown: bool) -> HeaderValue {
    let name = path.rsplit('/').next().unwrap_or(path);
    let plain: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-+ ".contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    let kind = if shown { "inline" } else { "attachment" };
    ascii(format!(
        "{kind}; filename=\"{plain}\"; filename*=UTF-8''{}",
        encode_segment(name)
    ))
}

/// A path's parts, each encoded for an address.
pub(crate) fn encode_path(path: &str) -> String {
    path.split('/')
        .map(encode_segment)
        .collect::<Vec<_>>()
        .join("/")
}

/// A header's value that is made of visible ASCII characters and spaces.
pub(crate) fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("made of visible ASCII characters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_the_version_alone() {
        let follow = |path: &str, target: &str| follow(path, target.as_bytes());
        assert_eq!(
            follow("link", "config.json").as_deref(),
            Some("config.json")
        );
        assert_eq!(follow("a/b/link", "../c/./d").as_deref(), Some("a/c/d"));
        assert_eq!(follow("a/link", "../../etc/passwd"), None);
        assert_eq!(super::follow("a", b"\xff"), None);
    }

    #[test]
    fn names_of_any_script_are_kept() {
        let value = disposition("a/naïve \"模\".txt", true);
        let expected = "inline; filename=\"na_ve ___.txt\"; \
                        filename*=UTF-8''na%C3%AFve%20%22%E6%A8%A1%22.txt";
        assert_eq!(value.to_str().expect("ascii"), expected);
        let (kind, shown) = media_type("page.HTML");
        assert_eq!((kind, shown), ("application/octet-stream", false));
    }
}

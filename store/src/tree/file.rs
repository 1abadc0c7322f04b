//! One file of a tree.

use super::{ChunkListRef, TreeError, check_path};
use crate::ChunkHash;
use crate::document::{DocumentError, MapWriter, Reader, require};
use crate::limits::{CUT_RULE_BYTES_MAX, GIT_HASH_FILE_BYTES_MAX, LINK_BYTES_MAX, PATH_BYTES_MAX};

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A file.
    File,
    /// A file that may be executed.
    Exec,
    /// A symbolic link: its bytes are its target.
    Link,
}

impl Mode {
    /// How documents spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Exec => "exec",
            Self::Link => "link",
        }
    }
}

/// One file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where it is in the tree.
    pub path: String,
    /// What it is.
    pub mode: Mode,
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Its git blob SHA-1: there if and only if it has at most 10 MiB.
    pub git: Option<[u8; 20]>,
    /// Its chunks.
    pub chunks: ChunkListRef,
    /// The BLAKE3 of the whole file, if it was pushed with `--file-roots`.
    pub root: Option<ChunkHash>,
}

impl File {
    pub(super) fn encode_into(&self, out: &mut Vec<u8>) {
        let mut map = MapWriter::new()
            .text("path", &self.path)
            .text("mode", self.mode.as_str())
            .u64("size", self.size)
            .bytes("sha256", &self.sha256)
            .with("chunks", |out| {
                MapWriter::new()
                    .text("rule", &self.chunks.rule)
                    .u64("count", self.chunks.count)
                    .bytes("seq", self.chunks.seq.as_bytes())
                    .bytes("lengths", self.chunks.lengths.as_bytes())
                    .finish_into(out);
            })
            .u64("sealing", 0);
        if let Some(git) = &self.git {
            map = map.bytes("git", git);
        }
        if let Some(root) = &self.root {
            map = map.bytes("root", root.as_bytes());
        }
        map.finish_into(out);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, TreeError> {
        let (mut path, mut mode, mut size, mut sha256) = (None, None, None, None);
        let (mut git, mut chunks, mut root, mut sealing) = (None, None, None, None);
        reader.map::<TreeError>(|key, r| {
            match key {
                "path" => path = Some(r.text(PATH_BYTES_MAX)?),
                "mode" => mode = Some(r.text(32)?),
                "size" => size = Some(r.u64()?),
                "sha256" => sha256 = Some(r.array_of()?),
                "git" => git = Some(r.array_of()?),
                "chunks" => chunks = Some(decode_chunks(r)?),
                "root" => root = Some(ChunkHash::from_bytes(r.array_of()?)),
                "sealing" => sealing = Some(r.u64()?),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let path = require(path, "path")?.to_owned();
        let mode = match require(mode, "mode")? {
            "file" => Mode::File,
            "exec" => Mode::Exec,
            "link" => Mode::Link,
            found => {
                return Err(TreeError::UnknownMode {
                    path,
                    found: found.to_owned(),
                });
            }
        };
        let sealing = require(sealing, "sealing")?;
        if sealing != 0 {
            return Err(TreeError::Sealed { path, sealing });
        }
        let file = Self {
            path,
            mode,
            size: require(size, "size")?,
            sha256: require(sha256, "sha256")?,
            git,
            chunks: require(chunks, "chunks")?,
            root,
        };
        file.check()?;
        Ok(file)
    }

    /// Checks what can be checked of one file alone.
    pub(super) fn check(&self) -> Result<(), TreeError> {
        check_path(&self.path)?;
        self.chunks.check(&self.path, self.size)?;
        let rule = &self.chunks.rule;
        if rule.is_empty()
            || rule.len() > CUT_RULE_BYTES_MAX
            || !rule.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(TreeError::Chunks {
                path: self.path.clone(),
                why: "the name of its cut rule is not one",
            });
        }
        if self.git.is_some() != (self.size <= GIT_HASH_FILE_BYTES_MAX) {
            return Err(TreeError::GitHash {
                path: self.path.clone(),
                size: self.size,
            });
        }
        let one_chunk = self.chunks.count == 1 && self.chunks.rule == "cdc/1";
        if self.mode == Mode::Link && (self.size > LINK_BYTES_MAX || !one_chunk) {
            return Err(TreeError::Link {
                path: self.path.clone(),
            });
        }
        Ok(())
    }
}

fn decode_chunks(reader: &mut Reader<'_>) -> Result<ChunkListRef, DocumentError> {
    let (mut rule, mut count, mut seq, mut lengths) = (None, None, None, None);
    reader.map::<DocumentError>(|key, r| {
        match key {
            "rule" => rule = Some(r.text(CUT_RULE_BYTES_MAX)?.to_owned()),
            "count" => count = Some(r.u64()?),
            "seq" => seq = Some(ChunkHash::from_bytes(r.array_of()?)),
            "lengths" => lengths = Some(ChunkHash::from_bytes(r.array_of()?)),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(ChunkListRef {
        rule: require(rule, "rule")?,
        count: require(count, "count")?,
        seq: require(seq, "seq")?,
        lengths: require(lengths, "lengths")?,
    })
}

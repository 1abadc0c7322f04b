//! The home's keys: device key and next key sign as the publisher, the node key names the machine.
//!
//! Each is a file of 64 hex digits under `keys/`, mode 0600, made with the operating system's
//! randomness on first use, and written whole (temporary file, sync, rename) or not at all.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// Why a key could not be read or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file system refused.
    #[error("key file {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file holds something else than 64 hex digits.
    #[error("key file {0} is damaged: it must hold 64 hex digits; restore it from a backup")]
    Damaged(PathBuf),
    /// Others than the owner can read the file.
    #[error("key file {0} is readable by others; run `chmod 600` on it")]
    Exposed(PathBuf),
    /// The operating system gave no randomness.
    #[error("the operating system gave no randomness: {0}")]
    Randomness(String),
}

impl KeyError {
    /// What kind of thing went wrong.
    pub fn kind(&self) -> lode_store::ErrorKind {
        match self {
            Self::Io { .. } | Self::Randomness(_) => lode_store::ErrorKind::Io,
            Self::Damaged(_) => lode_store::ErrorKind::Corrupt,
            Self::Exposed(_) => lode_store::ErrorKind::Refused,
        }
    }
}

/// The kinds of key a home has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Signs versions and refs.
    Device,
    /// Committed to by the first identity record; takes over on rotation.
    Next,
    /// Names the node on the network.
    Node,
}

impl KeyKind {
    fn file_name(self) -> &'static str {
        match self {
            Self::Device => "device.key",
            Self::Next => "next.key",
            Self::Node => "node.key",
        }
    }
}

/// Reads the 32 secret bytes of a key, if it was made.
///
/// # Errors
/// When the file cannot be read, is damaged, or is readable by others.
pub fn load(home: &Path, kind: KeyKind) -> Result<Option<[u8; 32]>, KeyError> {
    let path = home.join("keys").join(kind.file_name());
    let io_error = |source| KeyError::Io {
        path: path.clone(),
        source,
    };
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    if metadata.mode() & 0o077 != 0 {
        return Err(KeyError::Exposed(path));
    }
    if metadata.len() > 128 {
        return Err(KeyError::Damaged(path));
    }
    let text = fs::read_to_string(&path).map_err(io_error)?;
    let bytes = data_encoding::HEXLOWER_PERMISSIVE
        .decode(text.trim().as_bytes())
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(KeyError::Damaged(path))?;
    Ok(Some(bytes))
}

/// Reads a key, making it on first use.
///
/// # Errors
/// As [`load`], and when the file cannot be written.
pub fn load_or_create(home: &Path, kind: KeyKind) -> Result<[u8; 32], KeyError> {
    if let Some(key) = load(home, kind)? {
        return Ok(key);
    }
    let mut key = [0u8; 32];
    getrandom::fill(&mut key).map_err(|error| KeyError::Randomness(error.to_string()))?;
    let folder = home.join("keys");
    let path = folder.join(kind.file_name());
    let temporary = folder.join(format!("{}.tmp", kind.file_name()));
    let write = || -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        writeln!(file, "{}", data_encoding::HEXLOWER.encode(&key))?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(&folder)?.sync_all()
    };
    write().map_err(|source| KeyError::Io {
        path: path.clone(),
        source,
    })?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let home = tempfile::tempdir().unwrap();
        assert!(load(home.path(), KeyKind::Device).unwrap().is_none());
        let key = load_or_create(home.path(), KeyKind::Device).unwrap();
        assert_eq!(load(home.path(), KeyKind::Device).unwrap(), Some(key));
        assert_eq!(load_or_create(home.path(), KeyKind::Device).unwrap(), key);
        assert_ne!(load_or_create(home.path(), KeyKind::Next).unwrap(), key);
    }

    #[test]
    fn a_damaged_or_exposed_key_is_refused_and_never_replaced() {
        let home = tempfile::tempdir().unwrap();
        load_or_create(home.path(), KeyKind::Node).unwrap();
        let path = home.path().join("keys/node.key");
        fs::write(&path, "not a key").unwrap();
        assert!(matches!(
            load_or_create(home.path(), KeyKind::Node),
            Err(KeyError::Damaged(_))
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            load_or_create(home.path(), KeyKind::Node),
            Err(KeyError::Exposed(_))
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "not a key");
    }
}

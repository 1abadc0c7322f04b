//! TLS for HTTP: certificates and a key from files, which may be read again while the node runs.
//!
//! Connections that are open keep what they began with. Files that cannot be used when they are read
//! again change nothing: the node goes on with what it has.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    },
};

use crate::limits::PEM_BYTES_MAX;

/// Certificates and key of a node.
pub struct Tls {
    certificates: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

/// Why files make no TLS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is far too long for what it should hold.
    #[error("{} has more than {PEM_BYTES_MAX} bytes", path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
    },
    /// A file does not hold what it should.
    #[error("there is no {what} as PEM in {}: {source}", path.display())]
    Pem {
        /// What was sought.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What was found.
        source: pem::Error,
    },
    /// Certificates and key do not go together, or are of no use.
    #[error("certificate and key are of no use: {0}")]
    Unusable(#[from] rustls::Error),
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads the certificates, the node's own first, and the key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(certificates: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let config = RwLock::new(read(&certificates, &key)?);
        Ok(Self {
            certificates,
            key,
            config,
        })
    }

    /// Reads both files again, for connections from now on.
    ///
    /// # Errors
    /// [`TlsError`]; what was read before stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.certificates, &self.key)?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&config))
    }
}

fn read(certificates: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let not = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { what, path, source }
    };
    let bytes = contents(certificates)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(not("certificate", certificates))?;
    if chain.is_empty() {
        return Err(not("certificate", certificates)(pem::Error::NoItemsFound));
    }
    let private = PrivateKeyDer::from_pem_slice(&contents(key)?).map_err(not("key", key))?;
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn contents(path: &Path) -> Result<Vec<u8>, TlsError> {
    use io::Read as _;
    let failed = |source| TlsError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    let mut file = file.take(PEM_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 > PEM_BYTES_MAX {
        true => Err(TlsError::TooLong {
            path: path.to_owned(),
        }),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn data(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/tls")
            .join(name)
    }

    #[test]
    fn files_that_are_of_no_use_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        fs::copy(data("certificate.pem"), &certificate).unwrap();
        fs::copy(data("key.pem"), &key).unwrap();
        let tls = Tls::load(certificate.clone(), key.clone()).unwrap();
        let before = Arc::as_ptr(tls.acceptor().config());
        fs::write(&certificate, "junk").unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Pem { .. })));
        fs::copy(data("key.pem"), &certificate).unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Pem { .. })));
        fs::remove_file(&certificate).unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Io { .. })));
        fs::write(&certificate, vec![b'a'; 1024 * 1024 + 1]).unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::TooLong { .. })));
        fs::copy(data("certificate.pem"), &certificate).unwrap();
        fs::copy(data("other-key.pem"), &key).unwrap();
        assert!(matches!(tls.reload(), Err(TlsError::Unusable(_))));
        assert_eq!(Arc::as_ptr(tls.acceptor().config()), before);
        fs::copy(data("key.pem"), &key).unwrap();
        tls.reload().unwrap();
        assert_ne!(Arc::as_ptr(tls.acceptor().config()), before);
    }
}

//! Certificates, replaced while connections go on.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use tokio_rustls::rustls::{
    self, ServerConfig,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    server::ResolvesServerCert,
    sign::{CertifiedKey, SingleCertAndKey},
};

/// Why a certificate cannot be used. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: is not valid PEM: {what}", path.display())]
    Malformed { path: PathBuf, what: &'static str },
    #[error("{}: holds no certificate", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{}: holds no private key (an encrypted one cannot be used)", path.display())]
    NoKey { path: PathBuf },
    #[error("{}: the key is of a kind that is not supported", path.display())]
    KeyNotSupported { path: PathBuf },
    #[error("{}: the certificate cannot be used: {error}", path.display())]
    BadCertificate { path: PathBuf, error: rustls::Error },
    #[error("{}: does not belong to the certificate in {}", key.display(), certificate.display())]
    Mismatch { certificate: PathBuf, key: PathBuf },
}

/// The TLS configuration that new connections get: HTTP/2 or HTTP/1.1, as the peer prefers by ALPN.
pub struct Reloadable {
    current: ArcSwap<ServerConfig>,
}

impl fmt::Debug for Reloadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloadable").finish_non_exhaustive()
    }
}

impl Reloadable {
    /// Reads a certificate chain and its private key, PEM files both.
    ///
    /// # Errors
    /// When a file cannot be read or holds nothing usable, or the two do not belong together.
    pub fn load(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self { current: ArcSwap::from_pointee(read(certificate.as_ref(), key.as_ref())?) })
    }

    /// From now on new connections get what `other` has; open ones go on as they are.
    pub fn adopt(&self, other: &Self) {
        self.current.store(other.current());
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, Error> {
    let chain = CertificateDer::pem_slice_iter(&read_file(certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(certificate, &error))?;
    if chain.is_empty() {
        return Err(Error::NoCertificate { path: certificate.to_owned() });
    }
    let private = PrivateKeyDer::from_pem_slice(&read_file(key)?).map_err(|error| match error {
        pem::Error::NoItemsFound => Error::NoKey { path: key.to_owned() },
        error => malformed(key, &error),
    })?;

    let provider = Arc::new(ring::default_provider());
    let signer = provider
        .key_provider
        .load_private_key(private)
        .map_err(|_| Error::KeyNotSupported { path: key.to_owned() })?;
    let certified = CertifiedKey::new(chain, signer);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(Error::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() });
        }
        Err(error) => return Err(Error::BadCertificate { path: certificate.to_owned(), error }),
    }

    let resolver: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(certified));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::BadCertificate { path: certificate.to_owned(), error })?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::Unreadable { path: path.to_owned(), error })
}

/// Says what is wrong in our own words: the library's quote the file, which may hold a key.
fn malformed(path: &Path, error: &pem::Error) -> Error {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section has no proper beginning",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be parsed",
    };
    Error::Malformed { path: path.to_owned(), what }
}

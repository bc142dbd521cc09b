//! TLS towards an upstream: whom it is trusted by, and how we show who we are.

use std::{fs, path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::config::Upstream;

/// The files that a configuration names, as they are now.
#[derive(PartialEq)]
pub(super) struct Files {
    roots: Option<File>,
    certificate: Option<File>,
    key: Option<File>,
}

#[derive(PartialEq)]
struct File {
    path: PathBuf,
    text: Vec<u8>,
}

impl Files {
    /// # Errors
    /// Which one cannot be read, and why.
    pub(super) fn read(settings: &Upstream) -> Result<Self, String> {
        let read = |path: &Option<PathBuf>| match path {
            None => Ok(None),
            Some(path) => match fs::read(path) {
                Ok(text) => Ok(Some(File { path: path.clone(), text })),
                Err(error) => Err(format!("{}: cannot be read: {error}", path.display())),
            },
        };
        Ok(Self {
            roots: read(&settings.tls_roots)?,
            certificate: read(&settings.tls_certificate)?,
            key: read(&settings.tls_key)?,
        })
    }
}

/// # Errors
/// A file that holds nothing usable, in words that quote nothing of it.
pub(super) fn client_config(files: &Files, http2: bool) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match &files.roots {
        Some(file) => {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| format!("{}: {error}", file.path.display()))?;
            }
        }
        None => {
            // What the system has and rustls cannot use is no reason to fail: there are always some.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("the system has no root certificates; set `tls_roots`".to_owned());
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_slice(&key.text)
                .map_err(|_| format!("{}: holds no private key that can be used", key.path.display()))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| format!("{}: {error}", certificate.path.display()))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { Vec::new() };
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Arc::new(config))
}

fn certificates(file: &File) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(&file.text)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| format!("{}: is not valid PEM", file.path.display()))?;
    if certificates.is_empty() {
        return Err(format!("{}: holds no certificate", file.path.display()));
    }
    Ok(certificates)
}

//! TLS from the files of a certificate and its key.

use crate::options::TlsFiles;
use crate::server::ServeError;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What makes TLS connections of plain ones.
///
/// # Errors
/// A file that cannot be read, holds something else, or a key that is not the certificate's.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServeError> {
    sampan_hub::check_https().map_err(|error| wrong(&files.certificate, &error))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unread(&files.certificate, &error, "certificate"))?;
    if chain.is_empty() {
        return Err(wrong(&files.certificate, &"it holds no certificate in PEM form"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| unread(&files.key, &error, "key"))?;
    let provider = Arc::new(rustls_graviola::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&files.certificate, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| wrong(&files.key, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn wrong(file: &Path, why: &dyn std::fmt::Display) -> ServeError {
    ServeError::Tls { file: file.to_path_buf(), why: why.to_string() }
}

fn unread(file: &Path, error: &pem::Error, what: &str) -> ServeError {
    match error {
        pem::Error::Io(error) => wrong(file, error),
        pem::Error::NoItemsFound => wrong(file, &format!("it holds no {what} in PEM form")),
        other => wrong(file, other),
    }
}

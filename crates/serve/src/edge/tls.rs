//! TLS from the files of a certificate and its key, which are read again when they change: certificates are renewed every
//! few weeks, and servers run longer.

use crate::options::TlsFiles;
use crate::server::ServeError;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// The certificate that is spoken with now.
#[derive(Debug)]
pub(crate) struct Certificate {
    files: TlsFiles,
    now: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// How the files were when they were read last, whether they could be used or not.
    stamps: [Option<Stamp>; 2],
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("stamps", &self.stamps).finish_non_exhaustive()
    }
}

/// By what a file that was changed or put in the place of another is told.
type Stamp = (Option<SystemTime>, u64);

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// As [`acceptor`].
    pub(crate) fn read(files: &TlsFiles) -> Result<Arc<Certificate>, ServeError> {
        let stamps = stamps(files);
        let now = Mutex::new(Current { acceptor: acceptor(files)?, stamps });
        Ok(Arc::new(Certificate { files: files.clone(), now }))
    }

    /// For the next connection; those under way keep theirs.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).acceptor.clone()
    }

    /// Reads the files again if they are others than before, or in any case if `asked`. Where they cannot be used, as when
    /// only one of them has been replaced yet, the old certificate stays.
    pub(crate) fn refresh(&self, asked: bool) {
        let stamps = stamps(&self.files);
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if stamps == now.stamps && !asked {
            return;
        }
        now.stamps = stamps;
        let file = self.files.certificate.display();
        match acceptor(&self.files) {
            Ok(acceptor) => {
                now.acceptor = acceptor;
                tracing::info!(%file, "read the certificate again");
            }
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used, and the old one stays")
            }
        }
    }

    /// Looks at the files every few seconds, and when the process is told to (SIGHUP).
    pub(crate) async fn watch(self: Arc<Self>) -> std::io::Result<()> {
        let mut told = hangups()?;
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(LOOK) => false,
                () = told.next() => true,
            };
            self.refresh(asked);
        }
    }
}

fn stamps(files: &TlsFiles) -> [Option<Stamp>; 2] {
    [&files.certificate, &files.key]
        .map(|file| file.metadata().ok().map(|found| (found.modified().ok(), found.len())))
}

/// Resolves each time the process is told to read its files again.
struct Hangups(#[cfg(unix)] tokio::signal::unix::Signal);

impl Hangups {
    async fn next(&mut self) {
        #[cfg(unix)]
        let _ = self.0.recv().await;
        #[cfg(not(unix))]
        std::future::pending::<()>().await;
    }
}

fn hangups() -> std::io::Result<Hangups> {
    #[cfg(unix)]
    return tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map(Hangups);
    #[cfg(not(unix))]
    Ok(Hangups())
}

/// What makes TLS connections of plain ones.
///
/// # Errors
/// A file that cannot be read, holds something else, or a key that is not the certificate's.
fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ServeError> {
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

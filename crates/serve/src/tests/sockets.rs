//! Over real sockets: with and without TLS, and with clients that do not go on.

use super::{Server, sum};
use crate::app::router;
use crate::edge::{self, Door};
use crate::options::{Limits, TlsFiles};
use crate::server::ServeError;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A server that listens; dropping it tells it to end.
struct Listening {
    address: SocketAddr,
    _end: oneshot::Sender<()>,
}

async fn listening(tls: Option<Arc<edge::Certificate>>, change: impl FnOnce(&mut Limits)) -> Listening {
    let mut limits = Limits { read_time: Duration::from_millis(300), ..Limits::default() };
    change(&mut limits);
    let Server { app, stop, .. } = Server::with(|options| options.limits = limits.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel();
    let door = Door { listener, tls, router: router(app), limits };
    tokio::spawn(door.listen(async { drop(ended.await) }, stop));
    Listening { address, _end: end }
}

/// A certificate for localhost, its key, and both as files.
struct Certificate {
    der: Vec<u8>,
    folder: tempfile::TempDir,
}

impl Certificate {
    fn new() -> Certificate {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(folder.path().join("empty.pem"), "").unwrap();
        Certificate { der: made.cert.der().to_vec(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self, certificate: &str, key: &str) -> TlsFiles {
        TlsFiles { certificate: self.path(certificate), key: self.path(key) }
    }

    /// A client that trusts this certificate and no other.
    fn client(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone().into()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }
}

/// Asks the sum, and gives the whole answer.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    let body = sum().to_string();
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: ";
    stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

/// Whether the server ends a connection on which nothing useful comes, within some seconds.
async fn is_given_up(address: SocketAddr, first: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(first).await.unwrap();
    let mut rest = Vec::new();
    // An answer such as 408 may come first.
    let end = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest));
    end.await.is_ok()
}

#[tokio::test]
async fn a_certificate_that_is_renewed_is_spoken_with_and_a_broken_one_is_not() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let read = edge::Certificate::read(&old.files("cert.pem", "key.pem")).unwrap();
    let server = listening(Some(read.clone()), |_| {}).await;
    let trusts = async |certificate: &Certificate| {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        certificate.client().connect(name, stream).await.is_ok()
    };
    let renew = |name: &str| {
        std::fs::copy(new.path(name), old.path(name)).unwrap();
        read.refresh(false);
    };
    assert!(trusts(&old).await);
    // Half of a pair is none.
    renew("cert.pem");
    assert!(trusts(&old).await && !trusts(&new).await);
    renew("key.pem");
    assert!(trusts(&new).await && !trusts(&old).await);
    std::fs::remove_file(old.path("key.pem")).unwrap();
    read.refresh(true);
    assert!(trusts(&new).await);
}

#[tokio::test]
async fn answers_come_over_tls_and_only_to_who_speaks_it() {
    let certificate = Certificate::new();
    let read = edge::Certificate::read(&certificate.files("cert.pem", "key.pem")).unwrap();
    let server = listening(Some(read), |_| {}).await;
    let connect = || TcpStream::connect(server.address);
    let name = || ServerName::try_from("localhost").unwrap();
    let stream = certificate.client().connect(name(), connect().await.unwrap()).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    let answer = ask(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("3 + 4 = 7"), "{answer}");
    // Who expects another certificate gets no connection, and who speaks no TLS no answer.
    assert!(Certificate::new().client().connect(name(), connect().await.unwrap()).await.is_err());
    let mut plain = connect().await.unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut text = Vec::new();
    let _ = plain.read_to_end(&mut text).await;
    assert!(!text.starts_with(b"HTTP"), "{text:?}");
    // Half-open ones do not keep their places.
    for first in [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00"] {
        assert!(is_given_up(server.address, first).await, "{first:?}");
    }
    let stream = certificate.client().connect(name(), connect().await.unwrap()).await.unwrap();
    assert!(ask(stream).await.contains("3 + 4 = 7"));
}

#[test]
fn files_that_are_no_certificate_and_its_key_are_named() {
    let (one, other) = (Certificate::new(), Certificate::new());
    let files = |certificate, key| TlsFiles { certificate, key };
    for (files, file, why) in [
        (one.files("absent.pem", "key.pem"), "absent.pem", "No such file"),
        (one.files("empty.pem", "key.pem"), "empty.pem", "no certificate"),
        (one.files("key.pem", "key.pem"), "key.pem", "no certificate"),
        (one.files("cert.pem", "cert.pem"), "cert.pem", "no key"),
        (files(one.path("cert.pem"), other.path("key.pem")), "key.pem", "no TLS with"),
    ] {
        let error = edge::Certificate::read(&files).err().unwrap();
        let text = error.to_string();
        assert!(matches!(error, ServeError::Tls { .. }) && !error.hint().is_empty());
        assert!(text.contains(file) && text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn connections_on_which_nothing_comes_are_given_up_and_their_places_free() {
    let server = listening(None, |limits| limits.connections = 2).await;
    let heads = [
        &b""[..],
        b"POST /v1/completions HTTP/1.1\r\nhost: loc",
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{",
    ];
    let held = heads.map(|head| is_given_up(server.address, head));
    for (given_up, head) in futures_util::future::join_all(held).await.into_iter().zip(heads) {
        assert!(given_up, "{:?}", String::from_utf8_lossy(head));
    }
    assert!(ask(TcpStream::connect(server.address).await.unwrap()).await.contains("3 + 4 = 7"));
}

//! Ways to the hub: through a proxy, and over HTTPS with certificates of one's own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/world.rs"]
mod world;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use world::{World, noise, read};

/// Files that a hub sends without a redirect to another address.
const SMALL: usize = 3000;

fn small() -> World {
    let world = World::new();
    world.hub.publish("a/q", &[("x-Q8_0.gguf", &noise(1, SMALL))]);
    world
}

/// Serves every connection on a loopback port.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, serve) = (listener.local_addr().unwrap(), Arc::new(serve));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// The lines of a request up to the empty one.
fn head(stream: &mut impl BufRead) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            return lines;
        }
        lines.push(line.trim_end().to_owned());
    }
}

/// Sends one request without a body to a plain server, and gives its whole answer.
fn ask(address: &str, request: &str, headers: &[String]) -> Vec<u8> {
    let mut server = TcpStream::connect(address).unwrap();
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    server.write_all(format!("{request}\r\n{headers}\r\n").as_bytes()).unwrap();
    // It answers this one and hangs up.
    server.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    let _ = server.read_to_end(&mut answer);
    answer
}

/// A proxy that passes requests and tunnels on, and notes their first lines.
fn proxy() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    proxy_to(None)
}

/// The same; `instead` of the host that it is asked for, it may ask another.
fn proxy_to(instead: Option<String>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let noted = log.clone();
    let address = listen(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let lines = head(&mut reader);
        let Some(first) = lines.first().cloned() else { return };
        noted.lock().unwrap().push(first.clone());
        let to = first.split(' ').nth(1).unwrap_or_default().to_owned();
        if first.starts_with("CONNECT ") {
            let server = TcpStream::connect(instead.as_deref().unwrap_or(&to)).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (mut up, mut down) = (server.try_clone().unwrap(), server);
            thread::spawn(move || drop(std::io::copy(&mut reader, &mut up)));
            drop(std::io::copy(&mut down, &mut stream));
            return;
        }
        let rest = to.strip_prefix("http://").unwrap_or(&to);
        let (host, path) = rest.split_once('/').unwrap();
        let host = instead.as_deref().unwrap_or(host);
        drop(stream.write_all(&ask(host, &format!("GET /{path} HTTP/1.1"), &lines[1..])));
    });
    (address, log)
}

/// HTTPS in front of a plain hub, with the certificate of the tests.
fn tls(hub: &str) -> SocketAddr {
    let pem = |name: &str| certificates().join(name);
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(pem("server.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(pem("server.key")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let (config, hub) = (Arc::new(config), hub.trim_start_matches("http://").to_owned());
    listen(move |stream| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        let mut stream = BufReader::new(StreamOwned::new(connection, stream));
        let lines = head(&mut stream);
        // Who does not trust the certificate sends no request.
        let Some(first) = lines.first() else { return };
        let answer = ask(&hub, first, &lines[1..]);
        let stream = stream.get_mut();
        drop(stream.write_all(&answer));
        stream.conn.send_close_notify();
        drop(stream.flush());
    })
}

fn certificates() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates"))
}

#[test]
fn a_proxy_is_used_except_for_hosts_that_are_exempt() {
    for (exempt, used) in [("", true), ("example.org", true), ("127.0.0.1", false), ("*", false)] {
        let mut world = small();
        let (address, log) = proxy();
        world.options.http_proxy = Some(format!("http://{address}").into());
        world.options.no_proxy = exempt.into();
        let local = world.pull("a/q").unwrap();
        assert_eq!(read(&local.path), noise(1, SMALL));
        let log = log.lock().unwrap();
        assert_eq!(!log.is_empty(), used, "{exempt:?}: {log:?}");
        assert!(log.iter().all(|line| line.contains("127.0.0.1")), "{log:?}");
    }
}

/// The hub is out in the world and the proxy on this machine, or in its network.
#[test]
fn a_proxy_may_be_in_a_private_network() {
    let mut world = small();
    let (address, log) = proxy_to(Some(world.hub.url().trim_start_matches("http://").to_owned()));
    world.options.http_proxy = Some(format!("http://me:swordfish@{address}").into());
    world.options.endpoint = "http://hub.example".into();
    world.options.modelscope = "http://scope.example".into();
    let local = world.pull("a/q").unwrap();
    assert_eq!(read(&local.path), noise(1, SMALL));
    let log = log.lock().unwrap();
    assert!(!log.is_empty() && log.iter().all(|line| line.contains("hub.example")), "{log:?}");
}

#[test]
fn a_proxy_that_is_not_there_is_named_and_its_password_is_not() {
    let mut world = small();
    world.options.attempts = 1;
    world.options.http_proxy = Some("http://me:swordfish@127.0.0.1:1".into());
    world.options.token = Some("hunter2".into());
    let error = world.pull("a/q").unwrap_err();
    assert!(error.hint().contains("proxy"), "{error}; {}", error.hint());
    let shown = format!("{error} {error:?} {} {:?}", error.hint(), world.options);
    assert!(!shown.contains("swordfish") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn https_goes_through_a_tunnel_and_wants_a_certificate_that_is_trusted() {
    let mut world = small();
    let hub = tls(&world.hub.url());
    world.options.endpoint = format!("https://{hub}");
    world.options.attempts = 1;
    let error = world.pull("a/q").unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    let (address, log) = proxy();
    for proxied in [false, true] {
        world.options.certificates = Some(certificates().join("root.pem"));
        world.options.https_proxy = proxied.then(|| format!("http://{address}").into());
        std::fs::remove_dir_all(world.path("hub")).unwrap_or_default();
        let local = world.pull("a/q").unwrap_or_else(|e| panic!("proxied: {proxied}: {e}"));
        assert_eq!(read(&local.path), noise(1, SMALL));
    }
    let log = log.lock().unwrap();
    let tunnel = format!("CONNECT {hub} ");
    assert!(!log.is_empty() && log.iter().all(|line| line.starts_with(&tunnel)), "{log:?}");
    world.options.certificates = Some(certificates().join("server.key"));
    let error = world.pull("a/q").unwrap_err();
    assert!(error.to_string().contains("holds no certificate") && error.hint().contains("SSL_CERT_FILE"));
}

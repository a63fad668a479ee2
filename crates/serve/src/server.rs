//! A server from start to end.

use crate::app::{App, router};
use crate::edge::{Certificate, Door};
use crate::options::ServeOptions;
use sampan_facade::machine;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Why a server does not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServeError {
    /// Others could reach it, and there is no key.
    NoKey {
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The address cannot be had.
    Bind {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// TLS cannot be spoken with this file.
    Tls {
        /// The certificate, or its key.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Traces cannot be sent there.
    Collector {
        /// Where they were to go.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// The models cannot be served on this machine as asked.
    Model(sampan_facade::Error),
    /// The system gives no threads or no signals.
    System(std::io::Error),
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServeError::NoKey { address } => {
                write!(f, "{address} can be reached from other machines, and there is no API key")
            }
            ServeError::Bind { address, source } => write!(f, "cannot listen on {address}: {source}"),
            ServeError::Tls { file, why } => write!(f, "no TLS with {}: {why}", file.display()),
            ServeError::Collector { endpoint, why } => write!(f, "no traces to {endpoint}: {why}"),
            ServeError::Model(error) => error.fmt(f),
            ServeError::System(error) => write!(f, "the system does not let the server run: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

impl ServeError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            ServeError::NoKey { .. } => {
                "give --api-key-file FILE or set SAMPAN_API_KEY, or listen on 127.0.0.1".into()
            }
            ServeError::Bind { .. } => "is another server running there? choose another --port".into(),
            ServeError::Tls { .. } => {
                "--tls-cert takes the certificate and its chain, --tls-key its private key, both as PEM"
                    .into()
            }
            ServeError::Collector { .. } => {
                "give the URL of a collector's OTLP over HTTP, such as http://localhost:4318".into()
            }
            ServeError::Model(error) => error.hint(),
            ServeError::System(_) => "look at the limits of this user (ulimit -a)".into(),
        }
    }
}

/// Runs a server until it is told to end (Ctrl-C or SIGTERM). `listening` is called with the address once requests are
/// taken, which is before any model is loaded.
///
/// # Errors
/// Why it does not start.
pub fn run(options: ServeOptions, listening: &mut dyn FnMut(SocketAddr)) -> Result<(), ServeError> {
    if !options.address.ip().is_loopback() && options.keys.is_empty() {
        return Err(ServeError::NoKey { address: options.address });
    }
    // The engines have threads of their own, one for each core; these only wait, and pass texts on.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("http")
        .enable_all()
        .build()
        .map_err(ServeError::System)?;
    let outcome = runtime.block_on(serve(options, listening));
    // A model that is being loaded is not waited for.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// The routes of a server, behind all their checks, without its sockets: for a program that listens itself. Models are
/// loaded when they are first asked for.
///
/// # Errors
/// When the models cannot be served on this machine as asked.
pub fn routes(options: &ServeOptions) -> Result<axum::Router, ServeError> {
    let (stop, stopping) = watch::channel(false);
    let app = App::new(options, stopping).map_err(ServeError::Model)?;
    // Answers end when the sender is dropped, so it lives as long as the routes.
    Ok(router(Arc::new(app)).layer(axum::Extension(Arc::new(stop))))
}

async fn serve(options: ServeOptions, listening: &mut dyn FnMut(SocketAddr)) -> Result<(), ServeError> {
    let (stop, stopping) = watch::channel(false);
    let app = Arc::new(App::new(&options, stopping).map_err(ServeError::Model)?);
    let address = options.address;
    let bind = |source| ServeError::Bind { address, source };
    let tls = options.tls.as_ref().map(Certificate::read).transpose()?;
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let end = signals().map_err(ServeError::System)?;
    // While nothing else runs here: beside an engine it would take long, and find too little.
    measure(&app).await;
    listening(listener.local_addr().map_err(bind)?);
    let background = tokio::spawn(background(app.clone()));
    if let Some(certificate) = &tls {
        tokio::spawn(certificate.clone().watch());
    }
    let door = Door { listener, tls, router: router(app), limits: options.limits };
    door.listen(end, stop).await;
    background.abort();
    Ok(())
}

/// Loads the models, and lets go of those whose time has come.
async fn background(app: Arc<App>) {
    if !app.lazy {
        let models = app.registry.list().into_iter().map(|l| l.name);
        let adapters = app.registry.adapters().into_iter().map(|(name, _)| name);
        for name in models.chain(adapters) {
            // Why it failed is logged, and told by /health and to whoever asks for the model.
            let _ = app.registry.get(Some(&name)).await;
        }
    }
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        app.registry.sweep();
        app.registry.revive().await;
        app.metrics.sample(&app.registry);
    }
}

/// Measures the machine, if there is memory to spare for that.
async fn measure(app: &Arc<App>) {
    let spare = app.registry.options.available().is_none_or(|memory| memory.bytes > 2 << 30);
    if spare {
        let app = app.clone();
        // Without the measurement there are no shares of it, and everything else works.
        let measured = tokio::task::spawn_blocking(move || app.metrics.measure(app.registry.kernels())).await;
        // What it took is none of what models take.
        let _ = measured.map(|()| machine::reset_peak_resident());
    }
}

/// Resolves when the process is told to end.
#[cfg(unix)]
fn signals() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Resolves when the process is told to end.
#[cfg(not(unix))]
fn signals() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

//! Connections: accepted up to a limit, given up when the other side neither takes nor sends, and ended with grace.

use super::tls::Certificate;
use crate::options::Limits;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Where connections come in, and how they are spoken to.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<Arc<Certificate>>,
    pub(crate) router: Router,
    pub(crate) limits: Limits,
}

impl Door {
    /// Serves connections until `shutdown` is done; then those under way have `limits.grace` to end, after which `stop`
    /// tells answers to end and say so.
    pub(crate) async fn listen(self, shutdown: impl Future<Output = ()>, stop: watch::Sender<bool>) {
        let Door { listener, tls, router, limits } = self;
        let room = Arc::new(Semaphore::new(limits.connections));
        let graceful = GracefulShutdown::new();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(limits.read_time).max_buf_size(64 << 10);
        tokio::pin!(shutdown);
        loop {
            let accept = async {
                let place = room.clone().acquire_owned().await;
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                accepted = accept => accepted,
                () = &mut shutdown => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, or a connection that is gone already: others may do better in a moment.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            patient(&stream, limits.write_time);
            let (http, router, watcher) = (http.clone(), router.clone(), graceful.watcher());
            let (tls, time) = (tls.as_ref().map(|tls| tls.acceptor()), limits.read_time);
            tokio::spawn(async move {
                match tls {
                    None => converse(stream, &http, router, watcher).await,
                    // Who does not get on with the handshake takes nobody's place for ever.
                    Some(tls) => match tokio::time::timeout(time, tls.accept(stream)).await {
                        Ok(Ok(stream)) => converse(stream, &http, router, watcher).await,
                        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                        Err(_) => tracing::debug!("a handshake took too long"),
                    },
                }
                drop(place);
            });
        }
        drop(listener);
        tracing::info!("shutting down: requests under way may end");
        let ended = graceful.shutdown();
        tokio::pin!(ended);
        if tokio::time::timeout(limits.grace, &mut ended).await.is_err() {
            tracing::warn!("telling the requests that are left that the server ends");
            let _ = stop.send(true);
            let _ = tokio::time::timeout(Duration::from_secs(5), ended).await;
        }
    }
}

/// Answers the requests of one connection until it ends.
async fn converse<S>(stream: S, http: &http1::Builder, router: Router, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Makes the system give a connection up when the other side acknowledges nothing, or takes nothing, for so long.
fn patient(stream: &TcpStream, time: Duration) {
    let socket = socket2::SockRef::from(stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(time).with_interval(time / 4);
    // A system that cannot do one of these serves all the same.
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(time));
    let _ = stream.set_nodelay(true);
}

//! Accepts connections and hands their requests to a router, until it is told to end: then requests in progress are
//! answered, and no others.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::http::connections::{Busy, Connections, Slot};
use crate::http::peer::{ClientName, Peer};
use crate::http::tls::Tls;
use crate::http::unread::Unread;

/// How long a client may take for the handshake of TLS, and for the head of a request; and how long a connection may
/// wait for its next request.
const HANDSHAKE: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(30);

/// Bytes that are read ahead of what was handed on. Heads have to fit.
const READ_AHEAD: usize = 32 << 10;

/// Header fields of a request.
const MOST_HEADERS: usize = 64;

/// Connections that wait to be accepted: an API server opens some hundred at a time.
const BACKLOG: u32 = 1_024;

/// How long requests in progress are waited for at the end.
const GRACE: Duration = Duration::from_secs(15);

/// The wait after a connection could not be accepted, for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// A place where clients connect.
pub(crate) enum Listener {
    /// TCP, with TLS or without.
    Tcp(TcpListener, Option<Arc<Tls>>),
    /// A Unix socket, which is removed when it is dropped.
    Unix(UnixListener, SocketFile),
}

/// The file of a socket, removed when it is dropped.
pub(crate) struct SocketFile(PathBuf);

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Listens at a TCP address.
    pub(crate) fn tcp(address: SocketAddr, tls: Option<Arc<Tls>>) -> io::Result<Listener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart need not wait for connections of the process before.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Listener::Tcp(socket.listen(BACKLOG)?, tls))
    }

    /// Listens at a Unix socket that only this user can open. A socket that nobody listens at is replaced.
    pub(crate) fn unix(path: &Path) -> io::Result<Listener> {
        use std::os::unix::fs::FileTypeExt;
        if let Ok(found) = std::fs::symlink_metadata(path)
            && !found.file_type().is_socket()
        {
            let why = "it exists and is not a socket; remove it, or name another path";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
            Err(_) => {}
        }
        // Nobody connects before the permissions are set: a socket is bound before it listens.
        let socket = tokio::net::UnixSocket::new_stream()?;
        socket.bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Listener::Unix(socket.listen(BACKLOG)?, SocketFile(path.into())))
    }

    /// The address of a TCP listener.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener, _) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }

    /// Serves `router` until `ending` turns true.
    pub(crate) async fn serve(self, router: Router, connections: Arc<Connections>, mut ending: watch::Receiver<bool>) {
        let mut served = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = ended(&mut ending) => break,
                // Those that have ended are forgotten.
                Some(_) = served.join_next() => continue,
                accepted = self.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // Where all others are answering requests, this one is closed.
            let Some(slot) = connections.open() else { continue };
            let (router, ending) = (router.clone(), ending.clone());
            let tls = match &self {
                Listener::Tcp(_, tls) => tls.as_ref().map(|tls| tls.config()),
                Listener::Unix(..) => None,
            };
            served.spawn(async move {
                let slot = Arc::new(slot);
                tokio::select! {
                    () = slot.gave_way() => {}
                    () = connection(stream, peer, tls, router, &slot, ending) => {}
                }
            });
        }
        let wait = async { while served.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, wait).await.is_err() {
            tracing::warn!("requests in progress were not answered in time");
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        Ok(match self {
            Listener::Tcp(listener, _) => {
                let (stream, address) = listener.accept().await?;
                // Answers are small, and somebody waits for each.
                let _ = stream.set_nodelay(true);
                (Box::new(stream), Peer { address: Some(address.ip()), certificate: None })
            }
            Listener::Unix(listener, _) => {
                (Box::new(listener.accept().await?.0), Peer { address: None, certificate: None })
            }
        })
    }
}

/// Returns when the service ends.
async fn ended(ending: &mut watch::Receiver<bool>) {
    // Also where nobody is left to say so.
    drop(ending.wait_for(|ending| *ending).await);
}

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connection(
    stream: Box<dyn Stream>,
    peer: Peer,
    tls: Option<Arc<rustls::ServerConfig>>,
    router: Router,
    slot: &Arc<Slot>,
    ending: watch::Receiver<bool>,
) {
    let Some(tls) = tls else { return requests(stream, peer, router, slot, ending).await };
    match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let certificate = certificates.and_then(<[_]>::first).map(|found| Arc::new(ClientName::of(found)));
            requests(Box::new(stream), Peer { certificate, ..peer }, router, slot, ending).await;
        }
        Ok(Err(error)) => tracing::debug!(peer = peer.origin(), %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(peer = peer.origin(), "TLS handshake took too long"),
    }
}

/// The body of an answer, during which a connection is busy.
struct BusyBody {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for BusyBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn requests(
    stream: Box<dyn Stream>,
    peer: Peer,
    router: Router,
    slot: &Arc<Slot>,
    mut ending: watch::Receiver<bool>,
) {
    let origin = peer.origin();
    let busy = Arc::clone(slot);
    let service = tower::service_fn(move |mut request: axum::http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (router, busy) = (router.clone(), Arc::clone(&busy));
        async move {
            let busy = busy.begin();
            let answer = router.oneshot(request).await;
            answer.map(|response| response.map(|body| BusyBody { body, _busy: busy }))
        }
    });
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(READ_AHEAD)
            .max_headers(MOST_HEADERS)
            .serve_connection(TokioIo::new(Unread::new(stream)), TowerToHyperService::new(service))
    );
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = ended(&mut ending) => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(peer = origin, %error, "connection ended");
    }
}

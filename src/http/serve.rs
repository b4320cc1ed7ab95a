//! The server below every router: TLS, time limits, graceful end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::Accept;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::connection::Guarded;
use crate::access::{Connections, Refused};
use crate::base::Shutdown;

/// For a TLS handshake, a request's header, and the silence between two requests of one connection. Slower
/// clients only hold sockets.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Requests in flight at a shutdown get this long. Those that must be told more are told before.
const GRACE: Duration = Duration::from_secs(1);
/// Request line and header in bytes; more is refused with 431.
const HEADER_LIMIT: usize = 32 * 1024;

/// What a port speaks.
#[derive(Debug, Clone)]
pub enum Transport {
    /// HTTP.
    Plain,
    /// HTTPS and nothing else.
    Tls(Arc<ServerConfig>),
    /// Both: scripts that know the port as HTTP go on while pages that came by HTTPS may call it too.
    Either(Arc<ServerConfig>),
}

/// Serves `router` on `listener` until `shutdown` is requested, then for a second at most. HTTP/1.1 only: it has all
/// that is needed here, and every limit below.
///
/// # Errors
///
/// The listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    transport: Transport,
    connections: Connections,
    shutdown: Shutdown,
) -> io::Result<()> {
    let handle = Handle::new();
    let (tls, plain) = match transport {
        Transport::Plain => (None, true),
        Transport::Tls(config) => (Some(config.into()), false),
        Transport::Either(config) => (Some(config.into()), true),
    };
    let mut server = axum_server::from_tcp(listener)?
        .handle(handle.clone())
        .first_request_timeout(TIME_LIMIT)
        .acceptor(Acceptor { tls, plain, connections });
    *server.http_builder() = Builder::new(TokioExecutor::new()).http1_only();
    let mut http = server.http_builder().http1();
    http.timer(TokioTimer::new()).header_read_timeout(TIME_LIMIT).max_buf_size(HEADER_LIMIT);
    let watch = tokio::spawn(async move {
        shutdown.requested().await;
        handle.graceful_shutdown(Some(GRACE));
    });
    let served = server.serve(router.into_make_service_with_connect_info::<SocketAddr>()).await;
    watch.abort();
    served
}

/// Takes connections as long as there may be more: TLS, and plain HTTP where that is allowed. If both are, the
/// first byte tells them apart: a handshake record begins with 22 (RFC 8446 §5.1), a request with a letter.
#[derive(Clone)]
struct Acceptor {
    tls: Option<TlsAcceptor>,
    plain: bool,
    connections: Connections,
}

const TLS_HANDSHAKE: u8 = 22;

type Stream = Guarded<Either<TlsStream<TcpStream>, TcpStream>>;

impl Acceptor {
    async fn take(self, mut stream: TcpStream) -> io::Result<Stream> {
        let place = match self.connections.admit(stream.peer_addr()?.ip()) {
            Ok(place) => place,
            Err(refused) => {
                if self.tls.is_none() {
                    refuse(&mut stream, refused).await;
                }
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, refused));
            }
        };
        let Some(tls) = self.tls else { return Ok(Guarded::new(Either::Right(stream), place)) };
        let mut first = [TLS_HANDSHAKE];
        if self.plain {
            stream.peek(&mut first).await?;
        }
        let stream = match first {
            [TLS_HANDSHAKE] => Either::Left(tls.accept(stream).await?),
            _ => Either::Right(stream),
        };
        Ok(Guarded::new(stream, place))
    }
}

/// Says why, as far as it fits into the socket's buffer: nothing is waited for.
async fn refuse(stream: &mut TcpStream, refused: Refused) {
    let body = format!(r#"{{"error":"{refused}","code":"too_many_connections"}}"#);
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         retry-after: 5\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.try_write(answer.as_bytes());
    let _ = stream.shutdown().await;
}

impl<S: Send + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = Stream;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let accepted = tokio::time::timeout(TIME_LIMIT, self.clone().take(stream));
        Box::pin(async { Ok((accepted.await??, service)) })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::access::ConnectionLimits;
    use crate::http::error::ApiError;
    use crate::http::{Certificates, TlsFiles};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    fn start(transport: Transport) -> (SocketAddr, Shutdown, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let router = Router::new().route("/", get(async || "hello"));
        let served = serve(listener, router, transport, Connections::default(), shutdown.clone());
        (address, shutdown, tokio::spawn(served))
    }

    /// A certificate for `localhost`, its files, and a client that trusts it.
    fn certificate(folder: &std::path::Path) -> (Arc<ServerConfig>, Arc<rustls::ClientConfig>) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let files = TlsFiles { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Certificates::load(files).unwrap().server_config().unwrap(), Arc::new(client))
    }

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    /// The answers to a request over TLS and to one without.
    fn both_ways(address: SocketAddr, client: Arc<rustls::ClientConfig>) -> (Vec<u8>, Vec<u8>) {
        let mut tls = rustls::ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        let mut stream = rustls::Stream::new(&mut tls, &mut socket);
        stream.write_all(REQUEST).unwrap();
        let mut secure = Vec::new();
        // The end of a TLS connection may be abrupt; what counts came before.
        let _ = stream.read_to_end(&mut secure);

        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(REQUEST).unwrap();
        let mut plain = Vec::new();
        let _ = socket.read_to_end(&mut plain);
        (secure, plain)
    }

    #[tokio::test]
    async fn a_port_for_both_answers_both() {
        let folder = tempfile::tempdir().unwrap();
        let (config, client) = certificate(folder.path());
        let (address, _shutdown, _server) = start(Transport::Either(config));
        let (secure, plain) = blocking(move || both_ways(address, client)).await;
        for answer in [secure, plain] {
            assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
        }
    }

    #[tokio::test]
    async fn a_plain_port_answers_and_ends_at_shutdown() {
        let (address, shutdown, server) = start(Transport::Plain);
        let answer = blocking(move || {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(REQUEST).unwrap();
            let mut answer = String::new();
            socket.read_to_string(&mut answer).unwrap();
            answer
        });
        let answer = answer.await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("hello"), "{answer}");
        shutdown.request();
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).is_err(), "the port is free again");
    }

    #[tokio::test]
    async fn a_tls_port_speaks_tls_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (config, client) = certificate(folder.path());
        let (address, _shutdown, _server) = start(Transport::Tls(config));
        let (secure, plain) = blocking(move || both_ways(address, client)).await;
        assert!(secure.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&secure));
        assert!(!plain.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&plain));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_ends_is_cut_off() {
        let (address, _shutdown, _server) = start(Transport::Plain);
        for beginning in ["", "G", "GET / HTTP/1.1\r\nhost: local"] {
            let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
            socket.write_all(beginning.as_bytes()).await.unwrap();
            // Virtual time runs while nothing else does; without the limit this would wait for ever.
            let mut rest = Vec::new();
            let closed = socket.read_to_end(&mut rest).await;
            assert!(closed.is_ok() || closed.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset), "{beginning}");
            assert!(!rest.starts_with(b"HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn one_client_too_many_connections_are_refused_with_a_reason_and_places_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let connections = Connections::new(ConnectionLimits { per_client: 2, ..ConnectionLimits::default() });
        let router = Router::new().route("/", get(async || "hello"));
        tokio::spawn(serve(listener, router, Transport::Plain, connections.clone(), shutdown.clone()));
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(tokio::net::TcpStream::connect(address).await.unwrap());
        }
        while connections.counts().0 < 2 {
            tokio::task::yield_now().await;
        }
        let mut third = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut answer = String::new();
        third.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("too_many_connections"), "{answer}");
        drop(held);
        while connections.counts().0 > 0 {
            tokio::task::yield_now().await;
        }
        let mut again = tokio::net::TcpStream::connect(address).await.unwrap();
        again.write_all(REQUEST).await.unwrap();
        let mut answer = String::new();
        again.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(connections.counts().1, 1);
    }

    #[tokio::test]
    async fn what_is_no_request_that_can_be_read_is_refused_in_json_too_and_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, shutdown) = (Connections::default(), Shutdown::new());
        let router =
            Router::new().route("/", get(async || "hello")).fallback(async || ApiError::not_found("Not found"));
        tokio::spawn(serve(listener, router, Transport::Plain, connections.clone(), shutdown.clone()));
        let ask = async |request: &str| {
            let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
            let _ = socket.write_all(request.as_bytes()).await;
            let mut answer = String::new();
            let _ = socket.read_to_string(&mut answer).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
            (head.to_owned(), serde_json::from_str::<serde_json::Value>(body).unwrap_or_default())
        };
        let get = "GET / HTTP/1.1\r\nhost: x\r\n";
        let mut refused = 0;
        for (request, status, code) in [
            (format!("{get}x: {}", "y".repeat(HEADER_LIMIT)), 431, "header_too_large"),
            (format!("{get}{}\r\n", "a: b\r\n".repeat(101)), 431, "header_too_large"),
            (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(HEADER_LIMIT)), 431, "header_too_large"),
            ("G E T / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
            (format!("{get}no colon\r\n\r\n"), 400, "bad_request"),
            ("\x16\x03\x01\x02 no TLS here\r\n\r\n".to_owned(), 400, "bad_request"),
        ] {
            let (head, body) = ask(&request).await;
            let shown: String = request.chars().take(40).collect();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {head}");
            assert!(head.contains("content-type: application/json") && head.contains("connection: close"), "{head}");
            assert!(body["code"] == code && body["error"].is_string(), "{shown}: {head} {body}");
            refused += 1;
            assert_eq!(connections.unreadable(), refused, "{shown}");
        }
        // What a handler refuses stays as it is, also without its body.
        for request in ["GET /nothing HTTP/1.1\r\n", "HEAD /nothing HTTP/1.1\r\n"] {
            let (head, body) = ask(&format!("{request}host: x\r\nconnection: close\r\n\r\n")).await;
            assert!(head.starts_with("HTTP/1.1 404 ") && body["code"] != "bad_request", "{head} {body}");
        }
        assert_eq!(connections.unreadable(), refused);
    }
}

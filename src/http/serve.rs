//! The server below every router: TLS, time limits, graceful end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::Accept;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::base::Shutdown;

/// For a TLS handshake, a request's header, and the silence between two requests of one connection. Slower
/// clients only hold sockets.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Requests in flight at a shutdown get this long. Those that must be told more are told before.
const GRACE: Duration = Duration::from_secs(1);

/// Certificate chain and private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// `TLS_CERT_PATH`.
    pub certificate: PathBuf,
    /// `TLS_KEY_PATH`.
    pub key: PathBuf,
}

impl TlsFiles {
    /// Reads both files. An unreadable certificate is an error and never falls back to plain HTTP.
    ///
    /// # Errors
    ///
    /// A file is unreadable, holds no certificate or key, or they do not belong together; the text names the file.
    pub fn load(&self) -> io::Result<Arc<ServerConfig>> {
        let named = |path: &PathBuf, error: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
        };
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect)
            .map_err(|error| named(&self.certificate, &error))?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| named(&self.key, &error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .map_err(|error| named(&self.certificate, &error))?;
        // HTTP/1.1 only: a WebSocket handshake needs it.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

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

/// Serves `router` on `listener` until `shutdown` is requested, then for a second at most.
///
/// # Errors
///
/// The listener cannot be used.
pub async fn serve(listener: TcpListener, router: Router, transport: Transport, shutdown: Shutdown) -> io::Result<()> {
    let handle = Handle::new();
    let mut server = axum_server::from_tcp(listener)?.handle(handle.clone()).first_request_timeout(TIME_LIMIT);
    server.http_builder().http1().header_read_timeout(TIME_LIMIT);
    let watch = tokio::spawn(async move {
        shutdown.requested().await;
        handle.graceful_shutdown(Some(GRACE));
    });
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let served = match transport {
        Transport::Plain => server.serve(service).await,
        Transport::Tls(config) => server.acceptor(Acceptor { tls: config.into(), plain: false }).serve(service).await,
        Transport::Either(config) => server.acceptor(Acceptor { tls: config.into(), plain: true }).serve(service).await,
    };
    watch.abort();
    served
}

/// Takes TLS, and plain HTTP too where that is allowed. The first byte tells them apart: a handshake record
/// begins with 22 (RFC 8446 §5.1), a request with a letter.
#[derive(Clone)]
struct Acceptor {
    tls: TlsAcceptor,
    plain: bool,
}

const TLS_HANDSHAKE: u8 = 22;

impl<S: Send + 'static> Accept<TcpStream, S> for Acceptor {
    type Stream = Either<TlsStream<TcpStream>, TcpStream>;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(Self::Stream, S)>> + Send>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        let Self { tls, plain } = self.clone();
        let accepted = async move {
            let mut first = [TLS_HANDSHAKE];
            if plain {
                stream.peek(&mut first).await?;
            }
            match first {
                [TLS_HANDSHAKE] => Ok((Either::Left(tls.accept(stream).await?), service)),
                _ => Ok((Either::Right(stream), service)),
            }
        };
        Box::pin(async { tokio::time::timeout(TIME_LIMIT, accepted).await? })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

    fn start(transport: Transport) -> (SocketAddr, Shutdown, tokio::task::JoinHandle<io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let router = Router::new().route("/", get(async || "hello"));
        (address, shutdown.clone(), tokio::spawn(serve(listener, router, transport, shutdown)))
    }

    /// A certificate for `localhost`, its files, and a client that trusts it.
    fn certificate(folder: &std::path::Path) -> (TlsFiles, Arc<rustls::ClientConfig>) {
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
        (files, Arc::new(client))
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
        let (files, client) = certificate(folder.path());
        let (address, _shutdown, _server) = start(Transport::Either(files.load().unwrap()));
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
        let (files, client) = certificate(folder.path());
        let (address, _shutdown, _server) = start(Transport::Tls(files.load().unwrap()));
        let (secure, plain) = blocking(move || both_ways(address, client)).await;
        assert!(secure.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&secure));
        assert!(!plain.starts_with(b"HTTP/"), "{}", String::from_utf8_lossy(&plain));
    }

    #[test]
    fn an_unusable_certificate_or_key_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (good, _) = certificate(folder.path());
        let other_folder = tempfile::tempdir().unwrap();
        let (other, _) = certificate(other_folder.path());
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let missing = folder.path().join("missing.pem");
        for (certificate, key, named) in [
            (&missing, &good.key, &missing),
            (&empty, &good.key, &empty),
            (&good.certificate, &missing, &missing),
            (&good.certificate, &empty, &empty),
            (&good.certificate, &other.key, &good.certificate),
        ] {
            let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
            let error = files.load().unwrap_err().to_string();
            assert!(error.contains(&named.display().to_string()), "{error}");
        }
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
}

//! A server of ours, whose JavaScript is a thread that answers every request with
//! 200 and the end of its body; and a client that writes each byte by hand.

// Each test file uses a part of it.
#![allow(dead_code)]

pub mod wire;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use sluice_native::end::End;
use sluice_native::engine::{Engine, Event, lock};
use sluice_native::secret::Secret;
use sluice_native::server::{Server, ServerOptions};
use sluice_native::tls::Identity;
use sluice_native::transport::Limits;
use tokio::time::{sleep, timeout};
use wire::{get, status};

/// Longer than anything takes here, however slow the machine is.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => panic!("{what} did not happen in time"),
    }
}

pub async fn until(what: &str, check: impl Fn() -> bool) {
    within(what, polled(check)).await;
}

/// As `until`, for the end of connections that their client closes. A
/// CONNECTION_CLOSE that gets lost is not sent again, and then the idle timeout
/// ends the connection (RFC 9000, section 10.1).
pub async fn until_closed(what: &str, check: impl Fn() -> bool) {
    let patience = limits().idle_timeout + PATIENCE;
    if timeout(patience, polled(check)).await.is_err() {
        panic!("{what} did not happen in time");
    }
}

async fn polled(check: impl Fn() -> bool) {
    while !check() {
        sleep(Duration::from_millis(5)).await;
    }
}

pub fn limits() -> Limits {
    Limits {
        streams: 100,
        stream_window: 1 << 20,
        connection_window: 4 << 20,
        send_window: 4 << 20,
        idle_timeout: Duration::from_secs(60),
        keepalive: Duration::from_secs(20),
        header_bytes: 4096,
        header_timeout: Duration::from_secs(20),
        answer_timeout: Duration::from_secs(20),
        webtransport: true,
    }
}

pub struct TestServer {
    pub server: Arc<Server>,
    pub engine: Arc<Engine>,
    /// How streams have broken off.
    pub broken: Arc<Mutex<Vec<End>>>,
    /// What has panicked.
    pub panicked: Arc<Mutex<Vec<String>>>,
    pub cert: CertificateDer<'static>,
}

pub struct Setup {
    pub host: IpAddr,
    pub max_connections: usize,
    pub limits: Limits,
    pub script: Script,
    pub secret: Option<Vec<u8>>,
}

/// What JavaScript does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Script {
    Answer,
    /// Reads no body and answers nothing, but lets go of what has broken off.
    Listen,
    /// Does not even look at what has happened.
    Hang,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            max_connections: 1000,
            limits: limits(),
            script: Script::Answer,
            secret: None,
        }
    }
}

impl TestServer {
    pub fn start(setup: Setup) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).unwrap();
        let identity = Identity {
            cert: made.cert.pem().into_bytes(),
            key: made.signing_key.serialize_pem().into_bytes(),
        };
        let (wake, woken) = mpsc::channel();
        let wake = Mutex::new(wake);
        let engine = Engine::new(Box::new(move || {
            let _ = lock(&wake).send(());
        }));
        let options = ServerOptions {
            addresses: vec![SocketAddr::new(setup.host, 0)],
            max_connections: setup.max_connections,
            limits: setup.limits,
            secret: Secret::new(setup.secret.as_deref()).unwrap(),
        };
        let server = Server::listen(engine.clone(), &identity, None, options).unwrap();
        // A test says why it fails.
        drop(std::panic::take_hook());
        let broken = Arc::new(Mutex::new(Vec::new()));
        let panicked = Arc::new(Mutex::new(Vec::new()));
        let answering = (engine.clone(), broken.clone(), panicked.clone());
        std::thread::spawn(move || {
            while woken.recv().is_ok() && setup.script != Script::Hang {
                for event in answering.0.take() {
                    if let Event::Broken { end, .. } = &event {
                        lock(&answering.1).push(end.clone());
                    }
                    if let Event::Panicked { message } = &event {
                        lock(&answering.2).push(message.clone());
                    }
                    let broken = matches!(event, Event::Broken { .. });
                    if setup.script == Script::Answer || broken {
                        answer(&answering.0, event);
                    }
                }
            }
        });
        Self {
            server,
            engine,
            broken,
            panicked,
            cert: made.cert.der().clone(),
        }
    }

    pub fn connections(&self) -> u64 {
        self.engine.counters.connections.load(Ordering::Relaxed)
    }

    pub fn retries(&self) -> u64 {
        self.engine.counters.retries.load(Ordering::Relaxed)
    }

    pub fn refused(&self) -> u64 {
        let refused = &self.engine.counters.connections_refused;
        refused.load(Ordering::Relaxed)
    }

    pub fn address(&self, host: IpAddr) -> SocketAddr {
        SocketAddr::new(host, self.server.port())
    }

    pub fn client(&self) -> ClientConfig {
        ClientConfig::new(Arc::new(QuicClientConfig::try_from(self.tls()).unwrap()))
    }

    pub fn tls(&self) -> rustls::ClientConfig {
        self.tls_for(self.cert.clone())
    }

    pub fn tls_for(&self, cert: CertificateDer<'static>) -> rustls::ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(cert).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h3".to_vec()];
        tls
    }

    /// With a socket of its own, and no HTTP/3 yet.
    pub async fn connect(&self) -> quinn::Connection {
        let connecting = socket().connect_with(self.client(), self.near(), "localhost");
        within("the handshake", connecting.unwrap()).await.unwrap()
    }

    pub fn near(&self) -> SocketAddr {
        self.address(Ipv4Addr::LOCALHOST.into())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // Its connections are told, and the thread that answers ends with its channel.
        self.server.goaway(None);
    }
}

fn answer(engine: &Engine, event: Event) {
    let (Event::Request { stream: id, .. }
    | Event::Readable { stream: id }
    | Event::Finished { stream: id }
    | Event::Broken { stream: id, .. }) = event
    else {
        return;
    };
    let Some(stream) = engine.stream(id) else {
        return;
    };
    match event {
        Event::Request { .. } => {
            stream.send_head(200, Vec::new());
            stream.resume();
        }
        Event::Readable { .. } => {
            let mut room = [0; 8 * 1024];
            if stream
                .take(&mut room)
                .is_some_and(|taken| taken.end.is_some())
            {
                stream.finish(Vec::new());
            }
        }
        Event::Broken { .. } => {
            stream.reset(0x10c);
            engine.release(id);
        }
        _ => engine.release(id),
    }
}

pub fn socket() -> Endpoint {
    Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap()
}

/// An address of this machine that is not on loopback.
pub fn far_address() -> IpAddr {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // Nothing is sent: it only chooses a way.
    socket
        .connect((Ipv4Addr::new(198, 51, 100, 1), 9))
        .and_then(|()| socket.local_addr())
        .map(|address| address.ip())
        .expect("this test needs a network besides loopback")
}

/// A request on the connection is answered.
pub async fn is_served(conn: &quinn::Connection) -> Result<(), String> {
    let serve = async {
        let (mut send, mut recv) = conn.open_bi().await.map_err(|error| error.to_string())?;
        let sent = send.write_all(&get(&[])).await;
        sent.map_err(|error| error.to_string())?;
        let _ = send.finish();
        let answer = recv.read_to_end(1000).await;
        match status(&answer.map_err(|error| error.to_string())?) {
            Some(200) => Ok(()),
            other => Err(format!("answered {other:?}")),
        }
    };
    within("an answer", serve).await
}

pub fn code(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap()
}

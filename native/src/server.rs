//! Listening: connections, and the requests on them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use h3::error::{Code, ConnectionError};
use h3::ext::Protocol;
use h3::server::RequestResolver;
use quinn::{AsyncUdpSocket, Endpoint, Incoming, Runtime, ServerConfig};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::end::End;
use crate::engine::{Engine, Event, lock, runtime};
use crate::headers::fields_of;
use crate::incoming::Opened;
use crate::quic::Connection;
use crate::quic::shared::{Shared, WebTransport};
use crate::resolve::{Resolved, resolve};
use crate::rules::Side;
use crate::secret::Secret;
use crate::stream::reader::read;
use crate::stream::writer::write;
use crate::tls::{self, Identity};
use crate::transport::{Limits, bind, endpoint_config, transport};
use crate::webtransport::{self, Sessions};

#[derive(Clone)]
pub struct ServerOptions {
    pub addresses: Vec<SocketAddr>,
    pub max_connections: usize,
    pub limits: Limits,
    /// Kept over restarts.
    pub secret: Secret,
}

/// How long what has been answered may take to reach the peers once the server closes.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long whoever has asked may take to read the answer once it has arrived: some clients lose with the connection
/// what they have not read yet, and most close it themselves when they have been told to go.
const LINGER: Duration = Duration::from_secs(1);

pub struct Server {
    engine: Arc<Engine>,
    endpoints: Mutex<Vec<Endpoint>>,
    sockets: Vec<Weak<dyn AsyncUdpSocket>>,
    port: u16,
    draining: AtomicBool,
    options: ServerOptions,
    configs: Mutex<Configs>,
    open: Mutex<HashMap<u32, Arc<Peer>>>,
}

#[derive(Clone)]
struct Configs {
    near: Arc<ServerConfig>,
    far: Arc<ServerConfig>,
}

/// One open connection.
struct Peer {
    shared: Shared,
    /// Tells the peer to make no more requests.
    goaway: watch::Sender<bool>,
    streams: AtomicUsize,
    idle: Notify,
    /// When the last stream was done.
    done: Mutex<Option<Instant>>,
    /// A peer may open streams as fast as it resets them: JavaScript must have let go of the ones before.
    slots: Arc<Semaphore>,
    sessions: Arc<Sessions>,
}

/// Counts a stream of a connection until both its directions are done.
pub struct Counted(Arc<Peer>);

impl Counted {
    fn new(peer: &Arc<Peer>) -> Self {
        peer.streams.fetch_add(1, Ordering::AcqRel);
        Self(peer.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *lock(&self.0.done) = Some(Instant::now());
        if self.0.streams.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Peer {
    async fn idle(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.streams.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Resolves once there has been no stream for so long that the last answer has been read.
    async fn quiet(&self) {
        loop {
            self.idle().await;
            let left = lock(&self.done)
                .map_or(Duration::ZERO, |done| LINGER.saturating_sub(done.elapsed()));
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }
}

impl Configs {
    fn new(
        identity: &Identity,
        client_ca: Option<&[u8]>,
        options: &ServerOptions,
    ) -> Result<Self, String> {
        let tls = Arc::new(tls::server(identity, client_ca)?);
        let config = |loopback: bool| -> Result<Arc<ServerConfig>, String> {
            let mut config = ServerConfig::with_crypto(tls.clone());
            config.transport_config(transport(&options.limits, loopback)?);
            options.secret.configure_server(&mut config);
            Ok(Arc::new(config))
        };
        Ok(Self {
            near: config(true)?,
            far: config(false)?,
        })
    }
}

impl Server {
    /// Fails with what is wrong with the certificate (no code), or with the system's error code.
    pub fn listen(
        engine: Arc<Engine>,
        identity: &Identity,
        client_ca: Option<&[u8]>,
        options: ServerOptions,
    ) -> Result<Arc<Self>, (Option<i32>, String)> {
        let plain = |reason: String| (None, reason);
        let configs = Configs::new(identity, client_ca, &options).map_err(plain)?;
        let runtime = runtime().map_err(plain)?;
        let _entered = runtime.enter();
        let mut endpoints = Vec::new();
        let mut sockets = Vec::new();
        let mut port = 0;
        for address in &options.addresses {
            let mut address = *address;
            if address.port() == 0 {
                // One port for all families.
                address.set_port(port);
            }
            let system = |error: std::io::Error| (error.raw_os_error(), error.to_string());
            let socket = bind(address).map_err(system)?;
            port = socket.local_addr().map_err(system)?.port();
            let socket = quinn::TokioRuntime
                .wrap_udp_socket(socket)
                .map_err(system)?;
            sockets.push(Arc::downgrade(&socket));
            endpoints.push(
                Endpoint::new_with_abstract_socket(
                    endpoint_config(&options.secret).map_err(plain)?,
                    Some((*configs.far).clone()),
                    socket,
                    Arc::new(quinn::TokioRuntime),
                )
                .map_err(system)?,
            );
        }
        let server = Arc::new(Self {
            engine,
            endpoints: Mutex::new(endpoints.clone()),
            sockets,
            port,
            draining: AtomicBool::new(false),
            options,
            configs: Mutex::new(configs),
            open: Mutex::default(),
        });
        for endpoint in endpoints {
            runtime.spawn(server.clone().accept(endpoint));
        }
        Ok(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set_tls(&self, identity: &Identity, client_ca: Option<&[u8]>) -> Result<(), String> {
        *lock(&self.configs) = Configs::new(identity, client_ca, &self.options)?;
        Ok(())
    }

    /// Tells the peer of one connection, or of all, to make no more requests; each closes with its last one.
    pub fn goaway(&self, connection: Option<u32>) {
        if connection.is_none() {
            self.draining.store(true, Ordering::Release);
        }
        for (id, peer) in lock(&self.open).iter() {
            if connection.is_none_or(|one| one == *id) {
                peer.goaway.send_replace(true);
            }
        }
    }

    pub fn close_connection(&self, connection: u32) {
        if let Some(peer) = lock(&self.open).get(&connection) {
            peer.shared.close(Code::H3_NO_ERROR, "");
        }
    }

    /// Closes everything, once what has been answered is with the peers.
    pub async fn close(&self) {
        self.goaway(None);
        let peers: Vec<Arc<Peer>> = lock(&self.open).values().cloned().collect();
        let _ = timeout(FAREWELL, async {
            for peer in &peers {
                peer.idle().await;
            }
        })
        .await;
        let _ = timeout(LINGER, async {
            for peer in &peers {
                tokio::select! {
                    () = peer.quiet() => {}
                    _ = peer.shared.conn.closed() => {}
                }
            }
        })
        .await;
        let code = crate::quic::shared::varint(Code::H3_NO_ERROR.value());
        let endpoints = std::mem::take(&mut *lock(&self.endpoints));
        for endpoint in &endpoints {
            endpoint.close(code, b"");
        }
        for endpoint in &endpoints {
            let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
        }
        drop(endpoints);
        // The port is free when nobody has the socket any more.
        let _ = timeout(FAREWELL, async {
            while self.sockets.iter().any(|socket| socket.strong_count() > 0) {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    async fn accept(self: Arc<Self>, endpoint: Endpoint) {
        while let Some(incoming) = endpoint.accept().await {
            let near = incoming.remote_address().ip().to_canonical().is_loopback();
            // What comes from elsewhere may have a forged sender: it is asked to prove its address.
            if !near && !incoming.remote_address_validated() && incoming.may_retry() {
                self.engine.counters.retries.fetch_add(1, Ordering::Relaxed);
                let _ = incoming.retry();
                continue;
            }
            if self.draining.load(Ordering::Acquire) {
                incoming.refuse();
                continue;
            }
            let counters = &self.engine.counters;
            let open = counters.connections.load(Ordering::Relaxed);
            if open >= self.options.max_connections as u64 {
                counters.connections_refused.fetch_add(1, Ordering::Relaxed);
                incoming.refuse();
                continue;
            }
            tokio::spawn(self.clone().connection(incoming, near));
        }
    }

    async fn connection(self: Arc<Self>, incoming: Incoming, near: bool) {
        let _counted = Open::new(&self.engine);
        let configs = lock(&self.configs).clone();
        let config = if near { configs.near } else { configs.far };
        let Ok(connecting) = incoming.accept_with(config) else {
            return;
        };
        let Ok(Ok(conn)) = timeout(self.options.limits.header_timeout, connecting).await else {
            return;
        };
        let id = self.engine.number();
        let max_held = u64::from(self.options.limits.header_bytes) * 2;
        let patience = self.options.limits.header_timeout;
        let sessions = Sessions::new(self.engine.clone(), conn.clone(), patience);
        let mut shared = Shared::new(conn, Side::Server, max_held);
        let mut session_streams = None;
        if self.options.limits.webtransport {
            let (streams, receiver) = mpsc::unbounded_channel();
            shared = shared.with_webtransport(WebTransport { streams, patience });
            session_streams = Some(receiver);
        }
        let peer = Arc::new(Peer {
            shared,
            goaway: watch::Sender::new(false),
            streams: AtomicUsize::new(0),
            idle: Notify::new(),
            done: Mutex::default(),
            slots: Arc::new(Semaphore::new(self.options.limits.streams as usize)),
            sessions,
        });
        if let Some(streams) = session_streams {
            tokio::spawn(sessions_of(peer.clone(), streams));
        }
        lock(&self.open).insert(id, peer.clone());
        let address = peer.shared.conn.remote_address();
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        self.engine.push(Event::ConnectionOpened {
            connection: id,
            peer: address.to_string(),
        });
        // A panic in it must not leave the connection in the table.
        let serving = tokio::spawn(self.clone().requests(id, peer.clone()));
        let end = match serving.await {
            Ok(end) => end,
            Err(_) => End::Local(
                Code::H3_INTERNAL_ERROR.value(),
                "internal error".to_string(),
            ),
        };
        peer.shared.close(Code::H3_NO_ERROR, "");
        lock(&self.open).remove(&id);
        self.engine.push(Event::ConnectionClosed {
            connection: id,
            end,
        });
    }

    async fn requests(self: Arc<Self>, id: u32, peer: Arc<Peer>) -> End {
        let limits = &self.options.limits;
        let mut h3 = match h3::server::builder()
            .max_field_section_size(limits.header_bytes.into())
            .send_grease(false)
            .enable_extended_connect(limits.webtransport)
            .enable_webtransport(limits.webtransport)
            .enable_datagram(limits.webtransport)
            .max_webtransport_sessions(limits.webtransport.into())
            .build(Connection::new(peer.shared.clone()))
            .await
        {
            Ok(h3) => h3,
            Err(error) => return End::of_connection(&error),
        };
        let mut goaway = peer.goaway.subscribe();
        let mut draining = false;
        loop {
            tokio::select! {
                accepted = next(&mut h3, &peer.slots) => match accepted {
                    Ok(Some((resolver, slot))) => {
                        let counted = Counted::new(&peer);
                        let serving = self.clone().request(id, peer.clone(), resolver, counted, slot);
                        tokio::spawn(serving);
                    }
                    Ok(None) => {
                        // The client has said that it will ask no more, and nothing is open.
                        peer.idle().await;
                        return End::Peer(Code::H3_NO_ERROR.value());
                    }
                    Err(error) => return End::of_connection(&error),
                },
                Ok(()) = goaway.changed(), if !draining => {
                    draining = true;
                    peer.shared.drain();
                    // The first number that is not served any more.
                    if let Err(error) = h3.shutdown(peer.shared.beyond_last()).await {
                        return End::of_connection(&error);
                    }
                }
                () = peer.quiet(), if draining => {
                    return End::Local(Code::H3_NO_ERROR.value(), "drained".to_string());
                }
            }
        }
    }

    async fn request(
        self: Arc<Self>,
        connection: u32,
        peer: Arc<Peer>,
        resolver: RequestResolver<Connection, Bytes>,
        counted: Counted,
        slot: OwnedSemaphorePermit,
    ) {
        let within = self.options.limits.header_timeout;
        let Some(resolved) = resolve(resolver, &peer.shared, within).await else {
            return;
        };
        let Resolved {
            request,
            stream,
            stopped,
            intake,
            length,
        } = resolved;
        let number = stream.id().into_inner();
        let (send, recv) = stream.split();
        let stream = self.engine.add(true, Some(slot));
        let protocol = request.extensions().get::<Protocol>();
        let session = (protocol == Some(&Protocol::WEB_TRANSPORT)
            && self.options.limits.webtransport)
            .then(|| peer.sessions.open(number, stream.id));
        let uri = request.uri();
        let authority = uri
            .authority()
            .map(|authority| authority.as_str().to_string())
            .or_else(|| {
                let host = request.headers().get(http::header::HOST)?;
                host.to_str().ok().map(str::to_string)
            });
        self.engine.push(Event::Request {
            connection,
            stream: stream.id,
            target: [
                request.method().as_str().to_string(),
                uri.scheme_str().unwrap_or("https").to_string(),
                authority.unwrap_or_default(),
                uri.path_and_query()
                    .map_or("/", |path| path.as_str())
                    .to_string(),
                protocol.map_or("", Protocol::as_str).to_string(),
            ],
            fields: fields_of(request.headers()),
        });
        let reading = tokio::spawn(read(stream.clone(), recv, intake, length));
        write(stream, send, stopped, false).await;
        drop(session);
        // A request may go on after its response.
        let _ = reading.await;
        drop(counted);
    }
}

/// Hands a connection's streams and datagrams to its sessions of WebTransport.
async fn sessions_of(peer: Arc<Peer>, mut streams: mpsc::UnboundedReceiver<Opened>) {
    let datagrams = tokio::spawn(peer.sessions.clone().datagrams());
    let conn = peer.shared.conn.clone();
    loop {
        let opened = tokio::select! {
            opened = streams.recv() => opened,
            _ = conn.closed() => None,
        };
        let Some(opened) = opened else { break };
        match opened.session {
            Some(session) if !webtransport::is_session(session) => {
                peer.shared
                    .close(Code::H3_ID_ERROR, "the session is no request");
            }
            Some(_) if peer.shared.draining() => {
                webtransport::refuse(opened, Code::H3_REQUEST_REJECTED);
            }
            Some(session) => {
                let Ok(slot) = peer.slots.clone().acquire_owned().await else {
                    break;
                };
                let counted = Counted::new(&peer);
                peer.sessions.stream(session, opened, counted, slot);
            }
            None => {}
        }
    }
    datagrams.abort();
    peer.sessions.close();
}

/// The next request, once there is a slot for it.
async fn next(
    h3: &mut h3::server::Connection<Connection, Bytes>,
    slots: &Arc<Semaphore>,
) -> Result<Option<(RequestResolver<Connection, Bytes>, OwnedSemaphorePermit)>, ConnectionError> {
    let Ok(slot) = slots.clone().acquire_owned().await else {
        return Ok(None);
    };
    Ok(h3.accept().await?.map(|resolver| (resolver, slot)))
}

struct Open(Arc<Engine>);

impl Open {
    fn new(engine: &Arc<Engine>) -> Self {
        let counters = &engine.counters;
        counters.connections.fetch_add(1, Ordering::Relaxed);
        counters.connections_opened.fetch_add(1, Ordering::Relaxed);
        Self(engine.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

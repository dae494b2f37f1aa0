//! The crossing to JavaScript.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use napi::bindgen_prelude::{AsyncTask, Buffer, BufferSlice, Function, Task, Uint8ArraySlice};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Error, Result, Status};
use napi_derive::napi;

use crate::client::{Client, State, Target};
use crate::end::End;
use crate::engine::{Engine, Event, runtime};
use crate::panic_log::PANICS;
use crate::secret::Secret;
use crate::server::{Server, ServerOptions};
use crate::tls::Identity;
use crate::transport::Limits;

#[napi(object)]
pub struct NativeLimits {
    pub streams: u32,
    pub stream_window: u32,
    pub connection_window: u32,
    pub send_window: u32,
    pub idle_timeout_ms: u32,
    pub keepalive_ms: u32,
    pub header_bytes: u32,
    pub header_timeout_ms: u32,
    pub answer_timeout_ms: u32,
    pub webtransport: Option<bool>,
}

impl From<NativeLimits> for Limits {
    fn from(limits: NativeLimits) -> Self {
        Self {
            streams: limits.streams,
            stream_window: limits.stream_window,
            connection_window: limits.connection_window,
            send_window: limits.send_window,
            idle_timeout: Duration::from_millis(limits.idle_timeout_ms.into()),
            keepalive: Duration::from_millis(limits.keepalive_ms.into()),
            header_bytes: limits.header_bytes,
            header_timeout: Duration::from_millis(limits.header_timeout_ms.into()),
            answer_timeout: Duration::from_millis(limits.answer_timeout_ms.into()),
            webtransport: limits.webtransport.unwrap_or(false),
        }
    }
}

#[napi(object)]
pub struct NativeIdentity {
    pub cert: Buffer,
    pub key: Buffer,
}

impl From<&NativeIdentity> for Identity {
    fn from(identity: &NativeIdentity) -> Self {
        Self {
            cert: identity.cert.to_vec(),
            key: identity.key.to_vec(),
        }
    }
}

/// One thing that has happened. What the fields mean depends on the kind: see src/http3/engine.ts.
#[napi(object)]
#[derive(Default)]
pub struct NativeEvent {
    pub kind: u32,
    pub id: u32,
    pub connection: Option<u32>,
    pub code: Option<f64>,
    /// Bytes of the body that have been copied.
    pub length: Option<u32>,
    pub text: Option<Vec<String>>,
    pub datagrams: Option<Vec<Buffer>>,
}

#[napi(object)]
pub struct NativeTaken {
    pub events: Vec<NativeEvent>,
    /// There may be others, for which there is no wake.
    pub more: bool,
}

mod kind {
    pub const OPENED: u32 = 0;
    pub const CLOSED: u32 = 1;
    pub const REQUEST: u32 = 2;
    pub const HEAD: u32 = 3;
    pub const DATA: u32 = 4;
    pub const END: u32 = 5;
    pub const DRAINED: u32 = 6;
    pub const FINISHED: u32 = 7;
    pub const BROKEN: u32 = 8;
    pub const SESSION_STREAM: u32 = 9;
    pub const DATAGRAMS: u32 = 10;
    pub const CHECKED: u32 = 11;
    pub const SILENT: u32 = 12;
    pub const PANICKED: u32 = 13;
}

#[napi(object)]
pub struct NativeCounters {
    pub connections: f64,
    pub connections_opened: f64,
    pub connections_refused: f64,
    pub retries: f64,
    pub streams: f64,
    pub streams_opened: f64,
    pub bytes_held: f64,
    pub panics: f64,
}

/// Bytes of bodies after which everything else in the process has its turn. Whatever handlers have not seen waits as
/// plain bytes; in JavaScript, cut into messages, it would be several times as much.
const MAX_TAKEN: usize = 64 * 1024;

fn failure(reason: String) -> Error {
    Error::new(Status::GenericFailure, reason)
}

fn addresses(given: &[String], port: u16) -> Result<Vec<SocketAddr>> {
    given
        .iter()
        .map(|address| {
            address
                .parse::<IpAddr>()
                .map(|ip| SocketAddr::new(ip, port))
                .map_err(|_| failure(format!("{address} is no IP address")))
        })
        .collect()
}

/// SHA-256 of the sources that this was built from; empty if the build did not say.
#[napi]
pub fn native_sources() -> &'static str {
    option_env!("SLUICE_NATIVE_SOURCES").unwrap_or_default()
}

/// The streams and connections of one server or one client.
#[napi]
pub struct NativeEngine {
    engine: Arc<Engine>,
    server: Option<Arc<Server>>,
    client: Option<Arc<Client>>,
}

/// Does not keep the process alive.
type Wake = ThreadsafeFunction<(), (), (), Status, false, true>;

#[napi]
impl NativeEngine {
    /// `wake` is called when there are events to take.
    #[napi(constructor)]
    pub fn new(wake: Function<'_, (), ()>) -> Result<Self> {
        let wake: Wake = wake
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .build()?;
        Ok(Self {
            engine: Engine::new(Box::new(move || {
                wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
            })),
            server: None,
            client: None,
        })
    }

    /// Returns the port. An error's message begins with the system's error number, if there is one, and a blank.
    #[napi]
    #[allow(clippy::too_many_arguments)]
    pub fn listen(
        &mut self,
        hosts: Vec<String>,
        port: u16,
        identity: NativeIdentity,
        client_ca: Option<Buffer>,
        max_connections: u32,
        limits: NativeLimits,
        secret: Option<Buffer>,
    ) -> Result<u16> {
        let options = ServerOptions {
            addresses: addresses(&hosts, port)?,
            max_connections: max_connections as usize,
            limits: limits.into(),
            secret: Secret::new(secret.as_deref()).map_err(failure)?,
        };
        let server = Server::listen(
            self.engine.clone(),
            &(&identity).into(),
            client_ca.as_deref(),
            options,
        )
        .map_err(|(code, reason)| failure(format!("{} {reason}", code.unwrap_or(0))))?;
        let port = server.port();
        self.server = Some(server);
        Ok(port)
    }

    #[napi]
    pub fn set_tls(&self, identity: NativeIdentity, client_ca: Option<Buffer>) -> Result<()> {
        match &self.server {
            Some(server) => server
                .set_tls(&(&identity).into(), client_ca.as_deref())
                .map_err(failure),
            None => Ok(()),
        }
    }

    /// Of one connection, or of all: then no new ones are taken either.
    #[napi]
    pub fn goaway(&self, connection: Option<u32>) {
        if let Some(server) = &self.server {
            server.goaway(connection);
        }
    }

    /// Becomes a client, which trusts these CAs.
    #[napi]
    pub fn trust(
        &mut self,
        ca: Buffer,
        identity: Option<NativeIdentity>,
        limits: NativeLimits,
    ) -> Result<()> {
        let identity = identity.as_ref().map(Identity::from);
        let client = Client::new(self.engine.clone(), &ca, identity.as_ref(), limits.into())
            .map_err(failure)?;
        self.client = Some(client);
        Ok(())
    }

    #[napi]
    pub fn connect(&self, hosts: Vec<String>, port: u16, name: String) -> Result<u32> {
        let addresses = addresses(&hosts, port)?;
        let client = self
            .client
            .as_ref()
            .ok_or_else(|| failure("not a client".to_string()))?;
        client.connect(addresses, name).map_err(failure)
    }

    /// 0: takes no requests. 1: takes them. 2: takes them, but has been quiet, and is to be checked first.
    #[napi]
    pub fn state(&self, connection: u32) -> u32 {
        let client = self.client.as_ref();
        match client.map_or(State::Unusable, |client| client.state(connection)) {
            State::Unusable => 0,
            State::Ready => 1,
            State::Quiet => 2,
        }
    }

    /// Asks the server for a sign of life. An event tells of it, or of the end of the connection.
    #[napi]
    pub fn check(&self, connection: u32) -> Result<()> {
        match &self.client {
            Some(client) => client.check(connection).map_err(failure),
            None => Ok(()),
        }
    }

    /// Another connection to the same server has opened.
    #[napi]
    pub fn replaced(&self, connection: u32) {
        if let Some(client) = &self.client {
            client.replaced(connection);
        }
    }

    #[napi]
    pub fn request(
        &self,
        connection: u32,
        method: String,
        url: String,
        fields: Vec<String>,
    ) -> Result<u32> {
        let client = self
            .client
            .as_ref()
            .ok_or_else(|| failure("not a client".to_string()))?;
        let target = Target {
            method,
            url,
            fields,
        };
        client.request(connection, target).map_err(failure)
    }

    #[napi]
    pub fn close_connection(&self, connection: u32) {
        if let Some(server) = &self.server {
            server.close_connection(connection);
        }
        if let Some(client) = &self.client {
            client.close_connection(connection);
        }
    }

    /// What has happened since the last time, as much as handlers should get at once. The bytes of bodies are copied into
    /// the memory that is given, in the order of the events: handed out as memory of its own, each chunk would keep V8's
    /// collector busy.
    #[napi]
    pub fn take(&self, mut into: BufferSlice<'_>) -> NativeTaken {
        let mut events = Vec::new();
        let mut at = 0;
        let enough = MAX_TAKEN.min(into.len());
        let mut queue = self.engine.take();
        while at < enough {
            let Some(event) = queue.next() else {
                return NativeTaken {
                    events,
                    more: false,
                };
            };
            at += self.cross(event, &mut into[at..], &mut events);
        }
        NativeTaken { events, more: true }
    }

    #[napi]
    pub fn send_head(&self, stream: u32, status: u16, fields: Vec<String>) {
        if let Some(stream) = self.engine.stream(stream) {
            stream.send_head(status, fields);
        }
    }

    /// Copies the bytes. With `more` they wait for the next write. False if the peer does not keep up.
    #[napi]
    pub fn write(&self, stream: u32, bytes: Uint8ArraySlice<'_>, more: bool) -> bool {
        self.engine
            .stream(stream)
            .is_none_or(|stream| stream.write(&bytes, more))
    }

    #[napi]
    pub fn finish(&self, stream: u32, trailers: Vec<String>) {
        if let Some(stream) = self.engine.stream(stream) {
            stream.finish(trailers);
        }
    }

    #[napi]
    pub fn reset(&self, stream: u32, code: u32) {
        if let Some(stream) = self.engine.stream(stream) {
            stream.reset(code.into());
        }
    }

    #[napi]
    pub fn stop_reading(&self, stream: u32, code: u32) {
        if let Some(stream) = self.engine.stream(stream) {
            stream.stop_reading(code.into());
        }
    }

    #[napi]
    pub fn pause(&self, stream: u32) {
        if let Some(stream) = self.engine.stream(stream) {
            stream.pause();
        }
    }

    #[napi]
    pub fn resume(&self, stream: u32) {
        if let Some(stream) = self.engine.stream(stream) {
            stream.resume();
        }
    }

    /// On the WebTransport session of that request. False if it cannot be sent.
    #[napi]
    pub fn send_datagram(&self, session: u32, bytes: Uint8ArraySlice<'_>) -> bool {
        self.engine
            .session(session)
            .is_some_and(|session| session.send(&bytes))
    }

    /// The largest datagram that fits now; 0 if the peer takes none.
    #[napi]
    pub fn max_datagram(&self, session: u32) -> u32 {
        self.engine
            .session(session)
            .map_or(0, |session| session.max_datagram() as u32)
    }

    /// Nothing more is wanted of the stream.
    #[napi]
    pub fn release(&self, stream: u32) {
        self.engine.release(stream);
    }

    #[napi]
    pub fn counters(&self) -> NativeCounters {
        let counters = &self.engine.counters;
        NativeCounters {
            connections: counters.connections.load(Ordering::Relaxed) as f64,
            connections_opened: counters.connections_opened.load(Ordering::Relaxed) as f64,
            connections_refused: counters.connections_refused.load(Ordering::Relaxed) as f64,
            retries: counters.retries.load(Ordering::Relaxed) as f64,
            streams: self.engine.streams() as f64,
            streams_opened: counters.streams_opened.load(Ordering::Relaxed) as f64,
            bytes_held: self.engine.bytes_held() as f64,
            panics: PANICS.load(Ordering::Relaxed) as f64,
        }
    }

    /// Ends the server's connections, once what has been answered has arrived.
    #[napi]
    pub fn close(&self) -> AsyncTask<Closing> {
        AsyncTask::new(Closing(self.server.clone()))
    }

    /// Returns how many bytes it has copied.
    fn cross(&self, event: Event, into: &mut [u8], taken: &mut Vec<NativeEvent>) -> usize {
        match event {
            Event::ConnectionOpened { connection, peer } => taken.push(NativeEvent {
                kind: kind::OPENED,
                id: connection,
                text: Some(vec![peer]),
                ..NativeEvent::default()
            }),
            Event::ConnectionClosed { connection, end } => {
                taken.push(ended(kind::CLOSED, connection, end))
            }
            Event::Request {
                connection,
                stream,
                target,
                fields,
            } => {
                let mut text = Vec::from(target);
                text.extend(fields);
                taken.push(NativeEvent {
                    kind: kind::REQUEST,
                    id: stream,
                    connection: Some(connection),
                    text: Some(text),
                    ..NativeEvent::default()
                });
            }
            Event::Head {
                stream,
                status,
                fields,
            } => taken.push(NativeEvent {
                kind: kind::HEAD,
                id: stream,
                code: Some(status.into()),
                text: Some(fields),
                ..NativeEvent::default()
            }),
            Event::Readable { stream: id } => {
                let Some(stream) = self.engine.stream(id) else {
                    return 0;
                };
                let Some(got) = stream.take(into) else {
                    return 0;
                };
                if got.length > 0 {
                    taken.push(NativeEvent {
                        kind: kind::DATA,
                        id,
                        length: u32::try_from(got.length).ok(),
                        ..NativeEvent::default()
                    });
                }
                if let Some(trailers) = got.end {
                    taken.push(NativeEvent {
                        kind: kind::END,
                        id,
                        text: Some(trailers),
                        ..NativeEvent::default()
                    });
                }
                return got.length;
            }
            Event::Drained { stream } => taken.push(NativeEvent {
                kind: kind::DRAINED,
                id: stream,
                ..NativeEvent::default()
            }),
            Event::Finished { stream } => taken.push(NativeEvent {
                kind: kind::FINISHED,
                id: stream,
                ..NativeEvent::default()
            }),
            Event::SessionStream { session, stream } => taken.push(NativeEvent {
                kind: kind::SESSION_STREAM,
                id: stream,
                connection: Some(session),
                ..NativeEvent::default()
            }),
            Event::Datagrams { session: id } => {
                let Some(session) = self.engine.session(id) else {
                    return 0;
                };
                let datagrams = session.take();
                taken.push(NativeEvent {
                    kind: kind::DATAGRAMS,
                    id,
                    datagrams: Some(
                        datagrams
                            .iter()
                            .map(|bytes| bytes.to_vec().into())
                            .collect(),
                    ),
                    ..NativeEvent::default()
                });
            }
            Event::Broken { stream, end } => taken.push(ended(kind::BROKEN, stream, end)),
            Event::Checked {
                connection,
                answered,
            } => taken.push(NativeEvent {
                kind: kind::CHECKED,
                id: connection,
                code: Some(f64::from(answered)),
                ..NativeEvent::default()
            }),
            Event::Silent { connection } => taken.push(NativeEvent {
                kind: kind::SILENT,
                id: connection,
                ..NativeEvent::default()
            }),
            Event::Panicked { message } => taken.push(NativeEvent {
                kind: kind::PANICKED,
                text: Some(vec![message]),
                ..NativeEvent::default()
            }),
        }
        0
    }
}

fn ended(kind: u32, id: u32, end: End) -> NativeEvent {
    let (how, code, reason) = match end {
        End::Peer(code) => ("peer", Some(code), String::new()),
        End::Local(code, reason) => ("local", Some(code), reason),
        End::Lost(reason) => ("lost", None, reason),
        End::Timeout => ("timeout", None, String::new()),
        End::Handshake(reason) => ("handshake", None, reason),
    };
    NativeEvent {
        kind,
        id,
        code: code.map(|code| code as f64),
        text: Some(vec![how.to_string(), reason]),
        ..NativeEvent::default()
    }
}

pub struct Closing(Option<Arc<Server>>);

impl Task for Closing {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> Result<()> {
        if let Some(server) = self.0.take() {
            runtime().map_err(failure)?.block_on(server.close());
        }
        Ok(())
    }

    fn resolve(&mut self, _env: Env, _output: ()) -> Result<()> {
        Ok(())
    }
}

//! Connections to servers, and requests on them.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h3::ConnectionState;
use h3::client::SendRequest;
use h3::error::Code;
use http::{Method, Request, Response, StatusCode, Uri, Version};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::end::{End, malformed};
use crate::engine::{Engine, Event, Fields, lock, runtime};
use crate::headers::{fields_of, header_map};
use crate::intake::Intake;
use crate::liveness::Liveness;
use crate::message;
use crate::quic::shared::{Aside, Shared};
use crate::quic::{Connection, OpenStreams};
use crate::rules::Side;
use crate::running::Running;
use crate::secret::Secret;
use crate::stream::reader::read;
use crate::stream::writer::write;
use crate::stream::{Guard, Stream};
use crate::tls::{self, Identity};
use crate::transport::{Limits, bind, endpoint_config, transport};

pub struct Client {
    engine: Arc<Engine>,
    limits: Limits,
    tls: Arc<QuicClientConfig>,
    secret: Secret,
    open: Mutex<HashMap<u32, Server>>,
}

/// A connection that is ready for requests.
#[derive(Clone)]
struct Server {
    shared: Shared,
    requests: SendRequest<OpenStreams, Bytes>,
    running: Running,
    liveness: Arc<Liveness>,
}

/// What is to be known of a connection before it gets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is closed, or its server has asked to make no more requests.
    Unusable,
    Ready,
    /// Nothing has been heard of it for a while: ask for a sign of life first.
    Quiet,
}

pub struct Target {
    pub method: String,
    pub url: String,
    pub fields: Fields,
}

impl Client {
    pub fn new(
        engine: Arc<Engine>,
        ca: &[u8],
        identity: Option<&Identity>,
        limits: Limits,
    ) -> Result<Arc<Self>, String> {
        Ok(Arc::new(Self {
            engine,
            limits,
            tls: Arc::new(tls::client(ca, identity)?),
            secret: Secret::new(None)?,
            open: Mutex::default(),
        }))
    }

    /// Tries the addresses one after the other. The events tell what comes of it.
    pub fn connect(
        self: &Arc<Self>,
        addresses: Vec<SocketAddr>,
        name: String,
    ) -> Result<u32, String> {
        let id = self.engine.number();
        let client = self.clone();
        runtime()?.spawn(async move {
            let connecting = tokio::spawn(client.clone().connection(id, addresses, name));
            let end = connecting.await.unwrap_or_else(|_| {
                End::Local(
                    Code::H3_INTERNAL_ERROR.value(),
                    "internal error".to_string(),
                )
            });
            lock(&client.open).remove(&id);
            client.engine.push(Event::ConnectionClosed {
                connection: id,
                end,
            });
        });
        Ok(id)
    }

    pub fn state(&self, connection: u32) -> State {
        match lock(&self.open).get(&connection) {
            Some(server)
                if !server.requests.is_closing() && server.shared.conn.close_reason().is_none() =>
            {
                if server.liveness.is_quiet() {
                    State::Quiet
                } else {
                    State::Ready
                }
            }
            _ => State::Unusable,
        }
    }

    /// Asks the server for a sign of life; an event tells whether there was one.
    pub fn check(&self, connection: u32) -> Result<(), String> {
        let liveness = self.liveness(connection);
        let engine = self.engine.clone();
        runtime()?.spawn(async move {
            let answered = match liveness {
                Some(liveness) => liveness.check().await,
                None => false,
            };
            engine.push(Event::Checked {
                connection,
                answered,
            });
        });
        Ok(())
    }

    /// Another connection to the same server has opened: this one is given up if its server still owes an answer.
    pub fn replaced(&self, connection: u32) {
        if let Some(liveness) = self.liveness(connection) {
            liveness.replace();
        }
    }

    fn liveness(&self, connection: u32) -> Option<Arc<Liveness>> {
        let open = lock(&self.open);
        open.get(&connection).map(|server| server.liveness.clone())
    }

    pub fn request(self: &Arc<Self>, connection: u32, target: Target) -> Result<u32, String> {
        let stream = self.engine.add(false, None);
        let id = stream.id;
        let server = lock(&self.open).get(&connection).cloned();
        let opening = self.limits.header_timeout;
        let counted = server.as_ref().map(|server| {
            server.liveness.begin();
            server.running.begin()
        });
        runtime()?.spawn(async move {
            let guard = Guard::new(&stream);
            match server {
                None => stream.broken(End::Lost("the connection is closed".to_string())),
                Some(server) => exchange(stream, server, target, opening).await,
            }
            guard.disarm();
            drop(counted);
        });
        Ok(id)
    }

    pub fn close_connection(&self, connection: u32) {
        if let Some(server) = lock(&self.open).remove(&connection) {
            server.shared.close(Code::H3_NO_ERROR, "");
        }
    }

    async fn connection(self: Arc<Self>, id: u32, addresses: Vec<SocketAddr>, name: String) -> End {
        let mut end = End::Lost("the name has no address".to_string());
        for address in addresses {
            let attempt = self.attempt(address, &name);
            match timeout(self.limits.header_timeout, attempt).await {
                Ok(Ok((endpoint, conn))) => {
                    let closed = self.serve(id, conn).await;
                    // What was said last, the close itself, is still to be sent.
                    let _ = timeout(Duration::from_secs(3), endpoint.wait_idle()).await;
                    return closed;
                }
                Ok(Err(failure)) => end = failure,
                Err(_) => end = End::Timeout,
            }
            if matches!(end, End::Handshake(_)) {
                break;
            }
        }
        end
    }

    async fn attempt(
        &self,
        address: SocketAddr,
        name: &str,
    ) -> Result<(Endpoint, quinn::Connection), End> {
        let lost = |error: String| End::Lost(error);
        let from: SocketAddr = if address.is_ipv4() {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let socket = bind(from).map_err(|error| lost(error.to_string()))?;
        let config = endpoint_config(&self.secret).map_err(lost)?;
        let endpoint = Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime))
            .map_err(|error| lost(error.to_string()))?;
        let mut config = ClientConfig::new(self.tls.clone());
        let loopback = address.ip().to_canonical().is_loopback();
        config.transport_config(transport(&self.limits, loopback).map_err(lost)?);
        let connecting = endpoint
            .connect_with(config, address, name)
            .map_err(|error| lost(error.to_string()))?;
        match connecting.await {
            Ok(conn) => Ok((endpoint, conn)),
            Err(ConnectionError::TimedOut) => Err(End::Timeout),
            // CRYPTO_ERROR: RFC 9001, section 4.8.
            Err(ConnectionError::TransportError(error))
                if (0x100..0x200).contains(&u64::from(error.code)) =>
            {
                Err(End::Handshake(error.reason))
            }
            Err(ConnectionError::ConnectionClosed(close))
                if (0x100..0x200).contains(&u64::from(close.error_code)) =>
            {
                Err(End::Handshake(format!("the server refuses: {close}")))
            }
            Err(error) => Err(End::Lost(error.to_string())),
        }
    }

    async fn serve(&self, id: u32, conn: quinn::Connection) -> End {
        let peer = conn.remote_address().to_string();
        let shared = Shared::new(conn, Side::Client, u64::from(self.limits.header_bytes) * 2);
        let built = h3::client::builder()
            .max_field_section_size(self.limits.header_bytes.into())
            .send_grease(false)
            .build(Connection::new(shared.clone()))
            .await;
        let (mut driver, requests) = match built {
            Ok(built) => built,
            Err(error) => return End::of_connection(&error),
        };
        let running = Running::default();
        let window = self.limits.connection_window;
        let liveness = Arc::new(Liveness::new(shared.conn.clone(), window));
        let server = Server {
            shared: shared.clone(),
            requests: requests.clone(),
            running: running.clone(),
            liveness: liveness.clone(),
        };
        lock(&self.open).insert(id, server);
        self.engine.push(Event::ConnectionOpened {
            connection: id,
            peer,
        });
        let closing = Notify::new();
        let driven = poll_fn(|cx| {
            let ended = driver.poll_close(cx);
            if requests.is_closing() {
                closing.notify_one();
            }
            ended
        });
        let lost = liveness.lost(&running, self.limits.answer_timeout, || {
            self.engine.push(Event::Silent { connection: id });
        });
        tokio::select! {
            error = driven => End::of_connection(&error),
            () = lost => {
                shared.close(Code::H3_NO_ERROR, "");
                End::Timeout
            }
            () = liveness.retired(&running) => {
                shared.close(Code::H3_NO_ERROR, "");
                End::Local(Code::H3_NO_ERROR.value(), "replaced".to_string())
            }
            // A server that wants no more requests waits for us to go: RFC 9114, section 5.2.
            () = async { closing.notified().await; running.none().await } => {
                shared.close(Code::H3_NO_ERROR, "");
                End::Peer(Code::H3_NO_ERROR.value())
            }
        }
    }
}

async fn exchange(stream: Arc<Stream>, server: Server, target: Target, opening: Duration) {
    let Server {
        shared,
        mut requests,
        ..
    } = server;
    let (Ok(method), Ok(uri)) = (
        Method::from_bytes(target.method.as_bytes()),
        target.url.parse::<Uri>(),
    ) else {
        let reason = "the method or the URL cannot be sent".to_string();
        stream.broken(End::Local(Code::H3_MESSAGE_ERROR.value(), reason));
        return;
    };
    let bodiless = method == Method::HEAD;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_3;
    *request.headers_mut() = header_map(&target.fields);
    let sent = tokio::select! {
        sent = timeout(opening, requests.send_request(request)) => sent,
        _ = stream.was_reset() => return,
    };
    let exchange = match sent {
        Ok(Ok(exchange)) => exchange,
        Ok(Err(error)) => {
            stream.broken(End::of_stream(&error));
            return;
        }
        Err(_) => {
            stream.broken(End::Timeout);
            return;
        }
    };
    let Some(Aside { stopped, intake }) = shared.take_aside(exchange.id()) else {
        stream.broken(End::Lost("the stream is unknown".to_string()));
        return;
    };
    let (send, recv) = exchange.split();
    let responding = tokio::spawn(respond(stream.clone(), recv, intake, bodiless));
    write(stream, send, stopped, true).await;
    // It has told JavaScript of its own panic.
    let _ = responding.await;
}

async fn respond(
    stream: Arc<Stream>,
    mut recv: h3::client::RequestStream<crate::quic::streams::RecvStream, Bytes>,
    intake: Intake,
    bodiless: bool,
) {
    let guard = Guard::new(&stream);
    loop {
        let response = tokio::select! {
            response = recv.recv_response() => response,
            code = stream.stopped() => {
                recv.stop_sending(code.into());
                break;
            }
        };
        match response {
            Ok(response) if response.status().is_informational() => {}
            Ok(response) => {
                let length = match length_of(&response, &intake, bodiless) {
                    Ok(length) => length,
                    Err(end) => {
                        stream.reset(Code::H3_MESSAGE_ERROR.value());
                        recv.stop_sending(Code::H3_MESSAGE_ERROR);
                        stream.broken(end);
                        break;
                    }
                };
                stream.head(response.status().as_u16(), fields_of(response.headers()));
                read(stream, recv, intake, length).await;
                break;
            }
            Err(error) => {
                recv.stop_sending(Code::H3_REQUEST_CANCELLED);
                stream.broken(End::of_stream(&error));
                break;
            }
        }
    }
    guard.disarm();
}

/// How long the body of a response is to be, if the response is in order.
fn length_of(response: &Response<()>, intake: &Intake, bodiless: bool) -> Result<Option<u64>, End> {
    if intake.is_malformed() {
        return Err(malformed("a response has one pseudo-header field"));
    }
    message::check_fields(response.headers()).map_err(malformed)?;
    let without = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED];
    if bodiless || without.contains(&response.status()) {
        return Ok(None);
    }
    message::content_length(response.headers()).map_err(malformed)
}

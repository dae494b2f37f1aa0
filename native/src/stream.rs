//! One request and its response, between JavaScript's thread and the tasks that
//! read and write it.

use std::future::Future;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, Bytes, BytesMut};
use h3::error::{Code, ConnectionError, LocalError, StreamError};
use h3::quic::ConnectionErrorIncoming;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use tokio::sync::Notify;

use crate::engine::{Engine, Event, Fields, lock};
use crate::intake::Intake;
use crate::message;
use crate::quic::{RecvStream, SendStream, Stopped};

/// Bytes that wait for JavaScript, or for the transport, before whoever makes them is asked to pause.
pub const HIGH_WATER: usize = 256 * 1024;

/// Bytes of all streams that wait in one direction, before none may have more than its share. They serve to make each
/// crossing worth its while, for which a few streams need much and many streams little.
pub const MAX_WAITING: usize = 4 * 1024 * 1024;
pub const SHARE: usize = 64 * 1024;

/// Whether a stream with so much may have more.
fn has_room(held: usize, all: &AtomicUsize) -> bool {
    held < SHARE || (held < HIGH_WATER && all.load(Ordering::Relaxed) < MAX_WAITING)
}

/// How a stream or a connection came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The peer has reset the stream, or closed the connection, with this code.
    Peer(u64),
    /// Ours: what is wrong.
    Local(u64, String),
    /// The connection is lost.
    Lost(String),
    /// The peer has not answered in time.
    Timeout,
    /// The certificate, or another part of the handshake, is not accepted.
    Handshake(String),
}

impl End {
    pub fn of_connection(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::Local {
                error: LocalError::Application { code, reason, .. },
                ..
            } => Self::Local(code.value(), reason.clone()),
            ConnectionError::Remote(ConnectionErrorIncoming::ApplicationClose {
                error_code,
                ..
            }) => Self::Peer(*error_code),
            ConnectionError::Timeout
            | ConnectionError::Remote(ConnectionErrorIncoming::Timeout) => Self::Timeout,
            other => Self::Lost(other.to_string()),
        }
    }

    pub fn of_stream(error: &StreamError) -> Self {
        match error {
            StreamError::StreamError { code, reason, .. } => {
                Self::Local(code.value(), reason.clone())
            }
            StreamError::RemoteTerminate { code, .. } => Self::Peer(code.value()),
            StreamError::ConnectionError(error) => Self::of_connection(error),
            StreamError::HeaderTooBig {
                actual_size,
                max_size,
                ..
            } => Self::Local(
                Code::H3_EXCESSIVE_LOAD.value(),
                format!(
                    "the headers take {actual_size} bytes, and the peer or this side takes {max_size}"
                ),
            ),
            // The peer may be asked again: nothing of it was processed.
            StreamError::RemoteClosing => Self::Peer(Code::H3_REQUEST_REJECTED.value()),
            other => Self::Lost(other.to_string()),
        }
    }

    fn of_cut(cut: Result<quinn::VarInt, quinn::ConnectionError>) -> Self {
        match cut {
            Ok(code) => Self::Peer(code.into_inner()),
            Err(error) => Self::of_quinn(error),
        }
    }

    pub fn of_quinn(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => {
                Self::Peer(close.error_code.into_inner())
            }
            quinn::ConnectionError::TimedOut => Self::Timeout,
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::of_stream(&error)
    }
}

#[derive(Default)]
struct Outbox {
    head: Option<(u16, Fields)>,
    data: Vec<u8>,
    /// JavaScript waits for `Drained`.
    full: bool,
    /// With the trailers.
    end: Option<Fields>,
    reset: Option<u64>,
}

#[derive(Default)]
struct Inbox {
    data: BytesMut,
    end: Option<Fields>,
    /// An event for it is in the queue.
    told: bool,
    paused: bool,
    /// The reader waits until something has been taken.
    full: bool,
    /// No more is wanted; with the code to say so.
    stop: Option<u64>,
}

/// What JavaScript gets when it takes what has come.
pub struct Taken {
    /// Bytes of the body.
    pub length: usize,
    pub end: Option<Fields>,
}

pub struct Stream {
    pub id: u32,
    engine: Arc<Engine>,
    outbox: Mutex<Outbox>,
    to_write: Notify,
    inbox: Mutex<Inbox>,
    to_read: Notify,
}

impl Stream {
    pub fn new(id: u32, engine: Arc<Engine>) -> Arc<Self> {
        Arc::new(Self {
            id,
            engine,
            outbox: Mutex::default(),
            to_write: Notify::new(),
            inbox: Mutex::default(),
            to_read: Notify::new(),
        })
    }

    pub fn send_head(&self, status: u16, fields: Fields) {
        lock(&self.outbox).head = Some((status, fields));
        self.to_write.notify_one();
    }

    /// Copies the bytes. False if the peer does not keep up: then `Drained` follows.
    pub fn write(&self, bytes: &[u8], more: bool) -> bool {
        let mut outbox = lock(&self.outbox);
        let unsent = &self.engine.unsent;
        // With this write it may have more than its share: writes are of 64 KiB, and one at a time would not do.
        if !has_room(outbox.data.len(), unsent) {
            outbox.full = true;
        }
        outbox.data.extend_from_slice(bytes);
        unsent.fetch_add(bytes.len(), Ordering::Relaxed);
        let full = outbox.full;
        drop(outbox);
        if !more {
            self.to_write.notify_one();
        }
        !full
    }

    pub fn finish(&self, trailers: Fields) {
        lock(&self.outbox).end = Some(trailers);
        self.to_write.notify_one();
    }

    /// Cuts both directions.
    pub fn reset(&self, code: u64) {
        lock(&self.outbox).reset.get_or_insert(code);
        self.to_write.notify_one();
        self.stop_reading(code);
    }

    pub fn stop_reading(&self, code: u64) {
        lock(&self.inbox).stop.get_or_insert(code);
        self.to_read.notify_one();
    }

    pub fn pause(&self) {
        lock(&self.inbox).paused = true;
    }

    pub fn resume(&self) {
        let mut inbox = lock(&self.inbox);
        inbox.paused = false;
        self.tell(&mut inbox);
    }

    fn tell(&self, inbox: &mut Inbox) {
        if inbox.told || inbox.paused || (inbox.data.is_empty() && inbox.end.is_none()) {
            return;
        }
        inbox.told = true;
        self.engine.push(Event::Readable { stream: self.id });
    }

    /// Copies what has come, as much of it as there is room for: `Readable` follows for the rest. Nothing while
    /// JavaScript has paused.
    pub fn take(&self, into: &mut [u8]) -> Option<Taken> {
        let mut inbox = lock(&self.inbox);
        inbox.told = false;
        if inbox.paused {
            return None;
        }
        if inbox.full {
            inbox.full = false;
            self.to_read.notify_one();
        }
        let length = inbox.data.len().min(into.len());
        into[..length].copy_from_slice(&inbox.data[..length]);
        self.engine.unread.fetch_sub(length, Ordering::Relaxed);
        if length < inbox.data.len() {
            inbox.data.advance(length);
            self.tell(&mut inbox);
            return Some(Taken { length, end: None });
        }
        // A stream that is idle holds no memory.
        inbox.data = BytesMut::new();
        Some(Taken {
            length,
            end: inbox.end.take(),
        })
    }

    /// The head of a response has come.
    pub fn head(&self, status: u16, fields: Fields) {
        self.engine.push(Event::Head {
            stream: self.id,
            status,
            fields,
        });
    }

    pub fn broken(&self, end: End) {
        self.engine.push(Event::Broken {
            stream: self.id,
            end,
        });
    }

    /// Ends with the code that the reader is to stop with.
    pub async fn stopped(&self) -> u64 {
        loop {
            if let Some(code) = lock(&self.inbox).stop {
                return code;
            }
            self.to_read.notified().await;
        }
    }

    /// Waits while JavaScript has enough to read.
    async fn room(&self) -> Result<(), u64> {
        loop {
            {
                let mut inbox = lock(&self.inbox);
                if let Some(code) = inbox.stop {
                    return Err(code);
                }
                if has_room(inbox.data.len(), &self.engine.unread) {
                    return Ok(());
                }
                // Until some of this stream is taken: then it is below its share.
                inbox.full = true;
            }
            self.to_read.notified().await;
        }
    }

    /// Ends with the code that JavaScript resets with. Takes the wakes of the writer, which is to look again.
    pub async fn was_reset(&self) -> u64 {
        loop {
            if let Some(code) = lock(&self.outbox).reset {
                return code;
            }
            self.to_write.notified().await;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let inbox = self.inbox.get_mut();
        let left = inbox.unwrap_or_else(PoisonError::into_inner).data.len();
        self.engine.unread.fetch_sub(left, Ordering::Relaxed);
        let outbox = self.outbox.get_mut();
        let left = outbox.unwrap_or_else(PoisonError::into_inner).data.len();
        self.engine.unsent.fetch_sub(left, Ordering::Relaxed);
    }
}

/// Bytes that have been taken from the outbox, and count until the transport has got them.
struct Sending {
    engine: Arc<Engine>,
    length: usize,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.engine.unsent.fetch_sub(self.length, Ordering::Relaxed);
    }
}

/// Tells JavaScript of a task that has panicked.
pub struct Guard {
    stream: Arc<Stream>,
    armed: bool,
}

impl Guard {
    pub fn new(stream: &Arc<Stream>) -> Self {
        Self {
            stream: stream.clone(),
            armed: true,
        }
    }

    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            let code = Code::H3_INTERNAL_ERROR.value();
            self.stream.reset(code);
            self.stream
                .broken(End::Local(code, "internal error".to_string()));
        }
    }
}

/// The two directions, the same for server and client but in h3's types.
pub trait SendHalf: Send {
    fn head(&mut self, status: u16, fields: Fields)
    -> impl Future<Output = Result<(), End>> + Send;
    fn data(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), End>> + Send;
    fn trailers(&mut self, fields: Fields) -> impl Future<Output = Result<(), End>> + Send;
    fn finish(&mut self) -> impl Future<Output = Result<(), End>> + Send;
    fn reset(&mut self, code: u64);
}

pub trait RecvHalf: Send {
    fn data(&mut self, into: &Mutex<Sink<'_>>) -> impl Future<Output = Result<bool, End>> + Send;
    fn trailers(&mut self) -> impl Future<Output = Result<Option<HeaderMap>, End>> + Send;
    fn stop(&mut self, code: u64);
    /// The code of HTTP/3 that the peer means.
    fn meaning(&self, code: u64) -> u64 {
        code
    }
}

/// Where a reader puts what has come.
pub struct Sink<'a> {
    stream: &'a Stream,
    delivered: &'a AtomicU64,
}

impl Sink<'_> {
    pub fn put(&self, mut data: impl Buf) {
        self.delivered
            .fetch_add(data.remaining() as u64, Ordering::Relaxed);
        let mut inbox = lock(&self.stream.inbox);
        let unread = &self.stream.engine.unread;
        unread.fetch_add(data.remaining(), Ordering::Relaxed);
        while data.has_remaining() {
            let chunk = data.chunk();
            inbox.data.extend_from_slice(chunk);
            let read = chunk.len();
            data.advance(read);
        }
        self.stream.tell(&mut inbox);
    }
}

macro_rules! halves {
    ($side:ident, |$send:ident, $status:ident, $fields:ident| $head:expr) => {
        impl SendHalf for h3::$side::RequestStream<SendStream, Bytes> {
            async fn head(&mut self, $status: u16, $fields: Fields) -> Result<(), End> {
                let $send = self;
                $head
            }
            async fn data(&mut self, bytes: Bytes) -> Result<(), End> {
                self.send_data(bytes).await.map_err(End::from)
            }
            async fn trailers(&mut self, fields: Fields) -> Result<(), End> {
                self.send_trailers(header_map(&fields))
                    .await
                    .map_err(End::from)
            }
            async fn finish(&mut self) -> Result<(), End> {
                h3::$side::RequestStream::finish(self)
                    .await
                    .map_err(End::from)
            }
            fn reset(&mut self, code: u64) {
                self.stop_stream(code.into());
            }
        }

        impl RecvHalf for h3::$side::RequestStream<RecvStream, Bytes> {
            async fn data(&mut self, into: &Mutex<Sink<'_>>) -> Result<bool, End> {
                let Some(data) = self.recv_data().await? else {
                    return Ok(false);
                };
                lock(into).put(data);
                Ok(true)
            }
            async fn trailers(&mut self) -> Result<Option<HeaderMap>, End> {
                self.recv_trailers().await.map_err(End::from)
            }
            fn stop(&mut self, code: u64) {
                self.stop_sending(code.into());
            }
        }
    };
}

halves!(server, |send, status, fields| {
    let mut response = Response::new(());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = header_map(&fields);
    send.send_response(response).await.map_err(End::from)
});
// A request's head is sent when its stream is opened.
halves!(client, |_send, _status, _fields| Ok(()));

/// Reads the body to its end, and its trailers. With `length` it has to be as long as that.
pub async fn read(
    stream: Arc<Stream>,
    mut recv: impl RecvHalf,
    intake: Intake,
    length: Option<u64>,
) {
    let guard = Guard::new(&stream);
    let sink = Mutex::new(Sink {
        stream: &stream,
        delivered: &intake.delivered,
    });
    let result = async {
        loop {
            tokio::select! {
                biased;
                room = stream.room() => if let Err(code) = room {
                    return Ok(Err(code));
                },
                // Whatever is still unread: nobody is going to want it.
                end = intake.cut() => return Err(match End::of_cut(end) {
                    End::Peer(code) => End::Peer(recv.meaning(code)),
                    other => other,
                }),
            }
            let more = tokio::select! {
                more = recv.data(&sink) => more?,
                code = stream.stopped() => return Ok(Err(code)),
            };
            let delivered = intake.delivered.load(Ordering::Relaxed);
            if length.is_some_and(|length| delivered > length || (!more && delivered < length)) {
                return Err(malformed("the body is not as long as its content length"));
            }
            if !more {
                break;
            }
        }
        let trailers = tokio::select! {
            trailers = recv.trailers() => trailers?,
            code = stream.stopped() => return Ok(Err(code)),
        };
        if intake.is_malformed() {
            return Err(malformed("trailers have no pseudo-header fields"));
        }
        if let Some(trailers) = &trailers {
            message::check_fields(trailers).map_err(malformed)?;
        }
        Ok(Ok(trailers))
    }
    .await;
    match result {
        Ok(Ok(trailers)) => {
            let mut inbox = lock(&stream.inbox);
            inbox.end = Some(trailers.as_ref().map(fields_of).unwrap_or_default());
            stream.tell(&mut inbox);
        }
        Ok(Err(code)) => recv.stop(code),
        Err(end) => {
            let mut code = Code::H3_REQUEST_CANCELLED.value();
            if let End::Local(wrong, _) = &end {
                // The sender is to know what is wrong, in both directions.
                code = *wrong;
                stream.reset(code);
            }
            recv.stop(code);
            stream.broken(end);
        }
    }
    guard.disarm();
}

/// RFC 9114, section 4.1.2.
pub fn malformed(reason: &str) -> End {
    End::Local(Code::H3_MESSAGE_ERROR.value(), reason.to_string())
}

/// What the writer has to do next.
enum Work {
    Reset(u64),
    Send {
        head: Option<(u16, Fields)>,
        data: Vec<u8>,
        end: Option<Fields>,
        sending: Sending,
    },
}

impl Stream {
    async fn work(&self) -> Work {
        loop {
            {
                let mut outbox = lock(&self.outbox);
                if let Some(code) = outbox.reset {
                    return Work::Reset(code);
                }
                if outbox.head.is_some() || !outbox.data.is_empty() || outbox.end.is_some() {
                    if std::mem::take(&mut outbox.full) {
                        self.engine.push(Event::Drained { stream: self.id });
                    }
                    let data = std::mem::take(&mut outbox.data);
                    return Work::Send {
                        head: outbox.head.take(),
                        end: outbox.end.take(),
                        sending: Sending {
                            engine: self.engine.clone(),
                            length: data.len(),
                        },
                        data,
                    };
                }
            }
            self.to_write.notified().await;
        }
    }
}

/// Writes what JavaScript has to send, until its end or the peer's. Returns once everything has been acknowledged.
/// A peer that wants no more with NO_ERROR has finished it too, and may go on sending. With `client`, so may one that has
/// another code: its answer is not to be discarded (RFC 9114, section 4.1), and if there is none, the reader is told.
pub async fn write(
    stream: Arc<Stream>,
    mut send: impl SendHalf,
    mut stopped: Stopped,
    client: bool,
) {
    let guard = Guard::new(&stream);
    let finished = loop {
        let work = tokio::select! {
            biased;
            work = stream.work() => work,
            end = &mut stopped => break Some(stop_of(end)),
        };
        let result = match work {
            Work::Reset(code) => Err(code),
            Work::Send {
                head,
                data,
                end,
                sending: _sending,
            } => tokio::select! {
                biased;
                result = put(&mut send, head, data, end) => match result {
                    Ok(ended) => Ok(ended),
                    Err(End::Peer(code)) => break Some(Stop::by_peer(code)),
                    Err(end) => break Some(Stop::Broken(end)),
                },
                code = stream.was_reset() => Err(code),
            },
        };
        match result {
            Ok(false) => {}
            Ok(true) => {
                stream.engine.push(Event::Finished { stream: stream.id });
                break None;
            }
            Err(code) => {
                send.reset(code);
                guard.disarm();
                return;
            }
        }
    };
    match finished {
        Some(stop) => {
            send.reset(Code::H3_REQUEST_CANCELLED.value());
            match stop {
                Stop::Broken(end) if !(client && matches!(end, End::Peer(_))) => stream.broken(end),
                _ => stream.engine.push(Event::Finished { stream: stream.id }),
            }
        }
        None => {
            // What was lost is sent again as long as `send` is there; and JavaScript may still want to cut it.
            tokio::select! {
                _ = &mut stopped => {}
                code = stream.was_reset() => send.reset(code),
            }
        }
    }
    guard.disarm();
}

/// Why no more can be written.
enum Stop {
    /// The peer has all that it wants.
    Enough,
    Broken(End),
}

impl Stop {
    fn by_peer(code: u64) -> Self {
        if code == Code::H3_NO_ERROR.value() {
            Self::Enough
        } else {
            Self::Broken(End::Peer(code))
        }
    }
}

fn stop_of(end: Result<Option<quinn::VarInt>, quinn::StoppedError>) -> Stop {
    match end {
        Ok(code) => {
            Stop::by_peer(code.map_or(Code::H3_NO_ERROR.value(), quinn::VarInt::into_inner))
        }
        Err(quinn::StoppedError::ConnectionLost(error)) => Stop::Broken(End::of_quinn(error)),
        Err(error) => Stop::Broken(End::Lost(error.to_string())),
    }
}

/// True if that was the end.
async fn put(
    send: &mut impl SendHalf,
    head: Option<(u16, Fields)>,
    data: Vec<u8>,
    end: Option<Fields>,
) -> Result<bool, End> {
    if let Some((status, fields)) = head {
        send.head(status, fields).await?;
    }
    if !data.is_empty() {
        send.data(Bytes::from(data)).await?;
    }
    let Some(trailers) = end else {
        return Ok(false);
    };
    if !trailers.is_empty() {
        send.trailers(trailers).await?;
    }
    send.finish().await?;
    Ok(true)
}

pub fn header_map(fields: &[String]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len() / 2);
    for pair in fields.chunks_exact(2) {
        // JavaScript's Headers has checked names and values before.
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(pair[0].as_bytes()),
            HeaderValue::from_bytes(&bytes_of(&pair[1])),
        ) else {
            continue;
        };
        map.append(name, value);
    }
    map
}

pub fn fields_of(map: &HeaderMap) -> Fields {
    let mut fields = Vec::with_capacity(map.len() * 2);
    for (name, value) in map {
        fields.push(name.as_str().to_string());
        fields.push(
            value
                .as_bytes()
                .iter()
                .map(|&byte| char::from(byte))
                .collect(),
        );
    }
    fields
}

/// Each character stands for one byte, as in JavaScript's Headers.
fn bytes_of(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(character).unwrap_or(b'?'))
        .collect()
}

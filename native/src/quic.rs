//! quinn as h3's transport. h3-quinn would do the same, but keeps to itself
//! when a peer has asked to stop sending, which has to end a handler that is
//! not just writing; and h3 needs the guard of `frames.rs` under it.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::Stream as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, unfold};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};

use tokio::sync::mpsc;

use crate::frames::FrameFilter;
use crate::incoming::{Opened, sort};
use crate::intake::Intake;
use crate::rules::{Fault, Side};
use crate::session_stream::BUFFERED_STREAM_REJECTED;
use crate::settings;

/// Ends once the peer has asked to stop sending, has acknowledged everything, or is lost.
pub type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// What h3 does not show of a request's stream.
pub struct Aside {
    pub stopped: Stopped,
    pub intake: Intake,
}

/// Bytes of DATA that h3 may hold: it takes from the transport whenever it is asked for a frame, however small.
const MAX_BUFFERED: u64 = 64 * 1024;

/// What all parts of one connection know.
#[derive(Clone)]
pub struct Shared {
    pub conn: quinn::Connection,
    /// No more requests are accepted.
    draining: Arc<AtomicBool>,
    asides: Arc<Mutex<HashMap<u64, Aside>>>,
    side: Side,
    max_held: u64,
    handed: Arc<Mutex<Handed>>,
    webtransport: Option<WebTransport>,
}

/// What to do with the streams of WebTransport's sessions.
#[derive(Clone)]
pub struct WebTransport {
    pub streams: mpsc::UnboundedSender<Opened>,
    /// How long a stream may take to say what it is.
    pub patience: Duration,
}

/// Numbers of the requests that h3 has got.
#[derive(Default)]
struct Handed {
    last: u64,
    highest: u64,
}

impl Shared {
    /// `max_held`: bytes that a frame may have, if it is not DATA.
    pub fn new(conn: quinn::Connection, side: Side, max_held: u64) -> Self {
        Self {
            conn,
            draining: Arc::default(),
            asides: Arc::default(),
            side,
            max_held,
            handed: Arc::default(),
            webtransport: None,
        }
    }

    /// The same, with streams of WebTransport taken out of what h3 gets.
    pub fn with_webtransport(self, webtransport: WebTransport) -> Self {
        Self {
            webtransport: Some(webtransport),
            ..self
        }
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// How many requests after the last one that h3 has got the first lies that is not served any more: it may have
    /// got them in another order than their numbers'.
    pub fn beyond_last(&self) -> usize {
        let handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let beyond = (handed.highest - handed.last) / 4 + 1;
        usize::try_from(beyond).unwrap_or(1)
    }

    /// Of a stream that h3 has just handed out.
    pub fn take_aside(&self, id: StreamId) -> Option<Aside> {
        self.map().remove(&id.into_inner())
    }

    pub fn close(&self, code: Code, reason: &str) {
        self.close_with(varint(code.value()), reason.as_bytes());
    }

    /// What has ended the connection stays its end: a close would take its place for streams that have not looked yet.
    fn close_with(&self, code: quinn::VarInt, reason: &[u8]) {
        if self.conn.close_reason().is_none() {
            self.conn.close(code, reason);
        }
    }

    fn fail(&self, Fault { code, reason }: &Fault) {
        self.close(*code, reason);
    }

    fn handed(&self, stream: &quinn::SendStream) {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        handed.last = stream.id().into();
        handed.highest = handed.highest.max(handed.last);
    }

    fn map(&self) -> MutexGuard<'_, HashMap<u64, Aside>> {
        self.asides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bidi(&self, send: quinn::SendStream, recv: quinn::RecvStream, first: Bytes) -> BidiStream {
        let filter = FrameFilter::bidi(self.side, self.max_held);
        let recv = RecvStream::new(recv, self.clone(), filter, first);
        let aside = Aside {
            stopped: Box::pin(send.stopped()),
            intake: recv.intake.clone(),
        };
        self.map().insert(send.id().into(), aside);
        BidiStream {
            send: SendStream::new(send, Some(self.clone()), &[]),
            recv,
        }
    }

    /// Of a stream that the peer must not close: RFC 9114, section 6.2.1, and RFC 9204, section 4.2.
    fn critical_ended(&self) {
        self.close(
            Code::H3_CLOSED_CRITICAL_STREAM,
            "a stream was closed that has to stay open",
        );
    }

    /// Reads a stream of QPACK's, which h3 only accepts.
    async fn watch_qpack(self, intake: Intake, mut filter: FrameFilter) {
        loop {
            match poll_fn(|cx| intake.poll_chunk(cx)).await {
                Ok(Some(chunk)) => {
                    if let Err(fault) = filter.bytes(&chunk) {
                        return self.fail(&fault);
                    }
                    while filter.pop().is_some() {}
                }
                Ok(None) | Err(ReadError::Reset(_)) => return self.critical_ended(),
                Err(_) => return,
            }
        }
    }
}

pub fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

type Accepting<T> = BoxStream<'static, Result<T, ConnectionError>>;
type Bidi = (quinn::SendStream, quinn::RecvStream);

type Sorting = FuturesUnordered<BoxFuture<'static, Option<Opened>>>;

pub struct Connection {
    shared: Shared,
    bidi: Mutex<Accepting<Bidi>>,
    sorting: Mutex<Sorting>,
    uni: Mutex<Accepting<quinn::RecvStream>>,
    opener: OpenStreams,
}

impl Connection {
    pub fn new(shared: Shared) -> Self {
        let conn = shared.conn.clone();
        let bidi = unfold(conn.clone(), |conn| async {
            Some((conn.accept_bi().await, conn))
        });
        let uni = unfold(conn, |conn| async { Some((conn.accept_uni().await, conn)) });
        Self {
            opener: OpenStreams::new(shared.clone()),
            shared,
            bidi: Mutex::new(Box::pin(bidi)),
            sorting: Mutex::default(),
            uni: Mutex::new(Box::pin(uni)),
        }
    }
}

impl Connection {
    /// The next stream for h3. Those of WebTransport go another way.
    fn poll_opened(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Opened, ConnectionErrorIncoming>> {
        let Some(WebTransport { streams, patience }) = &self.shared.webtransport else {
            let (send, recv) = ready!(accept(&mut self.bidi, cx))?;
            return Poll::Ready(Ok(Opened {
                send,
                recv,
                first: Bytes::new(),
                session: None,
            }));
        };
        let sorting = self
            .sorting
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Poll::Ready(Some(sorted)) = Pin::new(&mut *sorting).poll_next(cx) {
                match sorted {
                    None => {}
                    Some(opened) if opened.session.is_none() => return Poll::Ready(Ok(opened)),
                    // Nobody takes it when the connection is ending.
                    Some(opened) => drop(streams.send(opened)),
                }
            }
            let (send, recv) = ready!(accept(&mut self.bidi, cx))?;
            sorting.push(Box::pin(sort(send, recv, *patience)));
        }
    }
}

fn accept<T>(
    stream: &mut Mutex<Accepting<T>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, ConnectionErrorIncoming>> {
    let stream = stream.get_mut().unwrap_or_else(PoisonError::into_inner);
    match ready!(stream.as_mut().poll_next(cx)) {
        Some(result) => Poll::Ready(result.map_err(connection_error)),
        None => Poll::Pending,
    }
}

impl quic::Connection<Bytes> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = OpenStreams;

    fn poll_accept_recv(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        let stream = ready!(accept(&mut self.uni, cx))?;
        let filter = FrameFilter::uni(self.shared.side, self.shared.max_held);
        let first = Bytes::new();
        Poll::Ready(Ok(RecvStream::new(
            stream,
            self.shared.clone(),
            filter,
            first,
        )))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        loop {
            let Opened {
                mut send,
                mut recv,
                first,
                ..
            } = ready!(self.poll_opened(cx))?;
            if self.shared.draining() {
                // The peer may send these again elsewhere: RFC 9114, section 5.2.
                let code = varint(Code::H3_REQUEST_REJECTED.value());
                let _ = send.reset(code);
                let _ = recv.stop(code);
                continue;
            }
            self.shared.handed(&send);
            return Poll::Ready(Ok(self.shared.bidi(send, recv, first)));
        }
    }

    fn opener(&self) -> OpenStreams {
        self.opener.clone()
    }
}

impl quic::OpenStreams<Bytes> for Connection {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        // The control stream and QPACK's.
        let opened = ready!(self.opener.poll_open_send(cx))?;
        let stopped = opened.stream.stopped();
        let shared = self.shared.clone();
        tokio::spawn(async move {
            if let Ok(Some(_)) = stopped.await {
                shared.critical_ended();
            }
        });
        Poll::Ready(Ok(opened))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<Bytes>::close(&mut self.opener, code, reason);
    }
}

type Opening<T> = Option<Mutex<Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send>>>>;

pub struct OpenStreams {
    shared: Shared,
    bidi: Opening<Bidi>,
    uni: Opening<quinn::SendStream>,
}

impl OpenStreams {
    fn new(shared: Shared) -> Self {
        Self {
            shared,
            bidi: None,
            uni: None,
        }
    }
}

impl Clone for OpenStreams {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

/// Polls the opening that is under way, or a new one.
fn open<T, F>(
    opening: &mut Opening<T>,
    cx: &mut Context<'_>,
    start: impl FnOnce() -> F,
) -> Poll<Result<T, StreamErrorIncoming>>
where
    F: Future<Output = Result<T, ConnectionError>> + Send + 'static,
{
    let future = opening.get_or_insert_with(|| Mutex::new(Box::pin(start())));
    let future = future.get_mut().unwrap_or_else(PoisonError::into_inner);
    let result = ready!(future.as_mut().poll(cx));
    *opening = None;
    Poll::Ready(result.map_err(lost))
}

impl quic::OpenStreams<Bytes> for OpenStreams {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        let conn = self.shared.conn.clone();
        let (send, recv) = ready!(open(
            &mut self.bidi,
            cx,
            || async move { conn.open_bi().await }
        ))?;
        Poll::Ready(Ok(self.shared.bidi(send, recv, Bytes::new())))
    }

    fn poll_open_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        let conn = self.shared.conn.clone();
        let send = ready!(open(
            &mut self.uni,
            cx,
            || async move { conn.open_uni().await }
        ))?;
        let settings = match self.shared.webtransport {
            Some(_) => settings::WEBTRANSPORT,
            None => &[],
        };
        Poll::Ready(Ok(SendStream::new(send, None, settings)))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        // h3 closes what is dropped as if all were well.
        let code = if std::thread::panicking() {
            Code::H3_INTERNAL_ERROR
        } else {
            code
        };
        self.shared.close_with(varint(code.value()), reason);
    }
}

pub struct BidiStream {
    send: SendStream,
    recv: RecvStream,
}

impl quic::BidiStream<Bytes> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl quic::SendStream<Bytes> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_ready(cx)
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_finish(cx)
    }

    fn reset(&mut self, code: u64) {
        self.send.reset(code);
    }

    fn send_id(&self) -> StreamId {
        self.send.send_id()
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, code: u64) {
        self.recv.stop_sending(code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

pub struct SendStream {
    stream: quinn::SendStream,
    writing: Option<WriteBuf<Bytes>>,
    /// Goes out instead of what h3 writes first.
    instead: Bytes,
    settings: &'static [(u64, u64)],
    /// Of a stream whose `Aside` may still be waiting to be taken.
    shared: Option<Shared>,
    ended: bool,
    written: bool,
}

impl SendStream {
    fn new(
        stream: quinn::SendStream,
        shared: Option<Shared>,
        settings: &'static [(u64, u64)],
    ) -> Self {
        Self {
            stream,
            writing: None,
            instead: Bytes::new(),
            settings,
            shared,
            ended: false,
            written: false,
        }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        while !self.instead.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.instead))
                .map_err(write_error)?;
            self.instead.advance(written);
            self.written = true;
        }
        while let Some(data) = self.writing.as_mut().filter(|data| data.has_remaining()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data.chunk()))
                .map_err(write_error)?;
            data.advance(written);
            self.written = true;
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if self.writing.is_some() {
            return Err(StreamErrorIncoming::Unknown("still writing".into()));
        }
        let mut data: WriteBuf<Bytes> = data.into();
        let settings = std::mem::take(&mut self.settings);
        if !settings.is_empty()
            && let Some(extended) = settings::extended(data.chunk(), settings)
        {
            data.advance(data.remaining());
            self.instead = extended;
        }
        self.writing = Some(data);
        Ok(())
    }

    fn poll_finish(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.ended = true;
        Poll::Ready(
            self.stream
                .finish()
                .map_err(|error| StreamErrorIncoming::Unknown(Box::new(error))),
        )
    }

    fn reset(&mut self, code: u64) {
        self.ended = true;
        let _ = self.stream.reset(varint(code));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.map().remove(&u64::from(self.stream.id()));
        }
        // quinn would finish it, as if it were whole. h3 leaves a stream so only after the head that it
        // answers too large a request with.
        if !self.ended && (!self.written || std::thread::panicking()) {
            let code = if std::thread::panicking() {
                Code::H3_INTERNAL_ERROR
            } else {
                Code::H3_REQUEST_CANCELLED
            };
            let _ = self.stream.reset(varint(code.value()));
        }
    }
}

pub struct RecvStream {
    id: StreamId,
    intake: Intake,
    shared: Shared,
    filter: FrameFilter,
    /// What was read before h3 got it.
    first: Bytes,
    /// Another task reads it.
    watched: bool,
    ended: bool,
}

impl RecvStream {
    fn new(stream: quinn::RecvStream, shared: Shared, filter: FrameFilter, first: Bytes) -> Self {
        Self {
            id: stream_id(stream.id()),
            intake: Intake::new(stream),
            shared,
            filter,
            first,
            watched: false,
            ended: false,
        }
    }

    fn check(&self, result: Result<(), Fault>) -> Result<(), StreamErrorIncoming> {
        let Err(fault) = result else { return Ok(()) };
        self.shared.fail(&fault);
        Err(StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: ConnectionErrorIncoming::InternalError(fault.reason.to_string()),
        })
    }

    fn take(&mut self, chunk: &Bytes) -> Result<(), StreamErrorIncoming> {
        let result = self.filter.bytes(chunk);
        self.check(result)?;
        if self.filter.malformed {
            self.intake.set_malformed();
        }
        if let Some(rest) = self.filter.split_qpack() {
            // h3 reads no further than its type.
            self.watched = true;
            tokio::spawn(self.shared.clone().watch_qpack(self.intake.clone(), rest));
        }
        Ok(())
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        loop {
            if let Some(piece) = self.filter.pop()
                && !self.filter.of_webtransport
            {
                return Poll::Ready(Ok(Some(piece)));
            }
            if !self.first.is_empty() {
                let first = std::mem::take(&mut self.first);
                self.take(&first)?;
                continue;
            }
            if self.filter.of_webtransport {
                // Calls are bidirectional streams; no others are served.
                self.stop_sending(BUFFERED_STREAM_REJECTED);
                return Poll::Ready(Ok(None));
            }
            let held = self.filter.data - self.intake.delivered.load(Ordering::Relaxed);
            if held > MAX_BUFFERED || self.watched {
                // h3 goes on with what it holds, and asks again after each piece of that.
                return Poll::Pending;
            }
            match ready!(self.intake.poll_chunk(cx)) {
                Ok(Some(chunk)) => self.take(&chunk)?,
                Ok(None) => {
                    self.ended = true;
                    self.check(self.filter.end())?;
                    return Poll::Ready(Ok(None));
                }
                Err(error) => {
                    self.ended = true;
                    return Poll::Ready(Err(read_error(error)));
                }
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        self.ended = true;
        self.intake.stop(varint(code));
    }

    fn recv_id(&self) -> StreamId {
        self.id
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.ended {
            self.intake.stop(varint(Code::H3_NO_ERROR.value()));
        }
    }
}

fn stream_id(id: quinn::StreamId) -> StreamId {
    // Both are integers of 62 bits.
    StreamId::try_from(u64::from(id)).expect("an integer of 62 bits")
}

fn connection_error(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => ConnectionErrorIncoming::ApplicationClose {
            error_code: close.error_code.into(),
        },
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn lost(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming {
        connection_error: connection_error(error),
    }
}

fn read_error(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        ReadError::ConnectionLost(error) => lost(error),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

fn write_error(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        WriteError::ConnectionLost(error) => lost(error),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

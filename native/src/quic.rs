//! quinn as h3's transport. h3-quinn would do the same, but keeps to itself
//! when a peer has asked to stop sending, which has to end a handler that is
//! not just writing; and h3 needs the guard of `frames.rs` under it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::stream::{BoxStream, unfold};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, StoppedError, VarInt, WriteError};

use crate::frames::{Fault, FrameWatch};

/// Ends once the peer has asked to stop sending, has acknowledged everything, or is lost.
pub type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// What h3 does not show of a request's stream.
pub struct Aside {
    pub stopped: Stopped,
    /// Bytes of DATA that h3 has handed out.
    pub delivered: Arc<AtomicU64>,
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
    max_held: u64,
}

impl Shared {
    pub fn new(conn: quinn::Connection, max_held: u64) -> Self {
        Self {
            conn,
            draining: Arc::default(),
            asides: Arc::default(),
            max_held,
        }
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Of a stream that h3 has just handed out.
    pub fn take_aside(&self, id: StreamId) -> Option<Aside> {
        self.map().remove(&id.into_inner())
    }

    pub fn close(&self, code: Code, reason: &str) {
        self.conn.close(varint(code.value()), reason.as_bytes());
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Aside>> {
        self.asides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bidi(&self, send: quinn::SendStream, recv: quinn::RecvStream) -> BidiStream {
        let delivered = Arc::new(AtomicU64::new(0));
        let aside = Aside {
            stopped: Box::pin(send.stopped()),
            delivered: delivered.clone(),
        };
        self.map().insert(send.id().into(), aside);
        BidiStream {
            send: SendStream::new(send, Some(self.clone())),
            recv: RecvStream::new(
                recv,
                self.clone(),
                FrameWatch::bidi(self.max_held),
                delivered,
            ),
        }
    }
}

pub fn varint(value: u64) -> VarInt {
    VarInt::from_u64(value).unwrap_or(VarInt::MAX)
}

type Accepting<T> = BoxStream<'static, Result<T, ConnectionError>>;
type Bidi = (quinn::SendStream, quinn::RecvStream);

pub struct Connection {
    shared: Shared,
    bidi: Mutex<Accepting<Bidi>>,
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
            uni: Mutex::new(Box::pin(uni)),
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
        let watch = FrameWatch::uni(self.shared.max_held);
        Poll::Ready(Ok(RecvStream::new(
            stream,
            self.shared.clone(),
            watch,
            Arc::default(),
        )))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        loop {
            let (mut send, mut recv) = ready!(accept(&mut self.bidi, cx))?;
            if self.shared.draining.load(Ordering::Acquire) {
                // The peer may send these again elsewhere: RFC 9114, section 5.2.
                let code = varint(Code::H3_REQUEST_REJECTED.value());
                let _ = send.reset(code);
                let _ = recv.stop(code);
                continue;
            }
            return Poll::Ready(Ok(self.shared.bidi(send, recv)));
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
        self.opener.poll_open_send(cx)
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
        Poll::Ready(Ok(self.shared.bidi(send, recv)))
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
        Poll::Ready(Ok(SendStream::new(send, None)))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.shared.conn.close(varint(code.value()), reason);
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
    /// Of a stream whose `Aside` may still be waiting to be taken.
    shared: Option<Shared>,
    ended: bool,
    written: bool,
}

impl SendStream {
    fn new(stream: quinn::SendStream, shared: Option<Shared>) -> Self {
        Self {
            stream,
            writing: None,
            shared,
            ended: false,
            written: false,
        }
    }
}

impl quic::SendStream<Bytes> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
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
        self.writing = Some(data.into());
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
            let _ = self.stream.reset(varint(Code::H3_INTERNAL_ERROR.value()));
        }
    }
}

pub struct RecvStream {
    stream: quinn::RecvStream,
    shared: Shared,
    watch: FrameWatch,
    delivered: Arc<AtomicU64>,
    ended: bool,
}

impl RecvStream {
    fn new(
        stream: quinn::RecvStream,
        shared: Shared,
        watch: FrameWatch,
        delivered: Arc<AtomicU64>,
    ) -> Self {
        Self {
            stream,
            shared,
            watch,
            delivered,
            ended: false,
        }
    }

    fn check(&self, result: Result<(), Fault>) -> Result<(), StreamErrorIncoming> {
        let Err(fault) = result else { return Ok(()) };
        let (code, reason) = match fault {
            Fault::TooLarge => (Code::H3_EXCESSIVE_LOAD, "the frame is too large"),
            Fault::Truncated => (Code::H3_FRAME_ERROR, "the stream ended within a frame"),
        };
        self.shared.close(code, reason);
        Err(StreamErrorIncoming::ConnectionErrorIncoming {
            connection_error: ConnectionErrorIncoming::InternalError(reason.to_string()),
        })
    }
}

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        if self.watch.data - self.delivered.load(Ordering::Relaxed) > MAX_BUFFERED {
            // h3 goes on with what it holds, and asks again after each piece of that.
            return Poll::Pending;
        }
        // quinn keeps the waker, so that the future itself need not be kept.
        let chunk = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx));
        match chunk {
            Ok(Some(chunk)) => {
                let result = self.watch.bytes(&chunk.bytes);
                self.check(result)?;
                Poll::Ready(Ok(Some(chunk.bytes)))
            }
            Ok(None) => {
                self.ended = true;
                self.check(self.watch.end())?;
                Poll::Ready(Ok(None))
            }
            Err(error) => {
                self.ended = true;
                Poll::Ready(Err(read_error(error)))
            }
        }
    }

    fn stop_sending(&mut self, code: u64) {
        self.ended = true;
        let _ = self.stream.stop(varint(code));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

impl Drop for RecvStream {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.stream.stop(varint(Code::H3_NO_ERROR.value()));
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

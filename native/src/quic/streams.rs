//! quinn's streams, as h3 takes them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};
use quinn::{ConnectionError, ReadError, WriteError};

use super::shared::{Shared, varint};
use crate::frames::FrameFilter;
use crate::intake::Intake;
use crate::rules::Fault;
use crate::session_stream::BUFFERED_STREAM_REJECTED;
use crate::settings;

/// Bytes of DATA that h3 may hold: it takes from the transport whenever it is asked for a frame, however small.
const MAX_BUFFERED: u64 = 64 * 1024;

pub struct BidiStream {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
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
    pub(super) stream: quinn::SendStream,
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
    pub(super) fn new(
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
    pub(super) intake: Intake,
    shared: Shared,
    filter: FrameFilter,
    /// What was read before h3 got it.
    first: Bytes,
    /// Another task reads it.
    watched: bool,
    ended: bool,
}

impl RecvStream {
    pub(super) fn new(
        stream: quinn::RecvStream,
        shared: Shared,
        filter: FrameFilter,
        first: Bytes,
    ) -> Self {
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

pub(super) fn stream_id(id: quinn::StreamId) -> StreamId {
    // Both are integers of 62 bits.
    StreamId::try_from(u64::from(id)).expect("an integer of 62 bits")
}

pub(super) fn connection_error(error: ConnectionError) -> ConnectionErrorIncoming {
    match error {
        ConnectionError::ApplicationClosed(close) => ConnectionErrorIncoming::ApplicationClose {
            error_code: close.error_code.into(),
        },
        ConnectionError::TimedOut => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

pub(super) fn lost(error: ConnectionError) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming {
        connection_error: connection_error(error),
    }
}

pub(super) fn read_error(error: ReadError) -> StreamErrorIncoming {
    match error {
        ReadError::Reset(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        ReadError::ConnectionLost(error) => lost(error),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

pub(super) fn write_error(error: WriteError) -> StreamErrorIncoming {
    match error {
        WriteError::Stopped(code) => StreamErrorIncoming::StreamTerminated {
            error_code: code.into_inner(),
        },
        WriteError::ConnectionLost(error) => lost(error),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}

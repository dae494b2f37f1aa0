//! What all parts of one connection know of it, and what h3 does not show of its streams.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use h3::quic::StreamId;
use quinn::{ReadError, StoppedError, VarInt};
use tokio::sync::mpsc;

use super::streams::{BidiStream, RecvStream, SendStream};
use crate::frames::FrameFilter;
use crate::incoming::Opened;
use crate::intake::Intake;
use crate::rules::{Fault, Side};

/// Ends once the peer has asked to stop sending, has acknowledged everything, or is lost.
pub type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send>>;

/// What h3 does not show of a request's stream.
pub struct Aside {
    pub stopped: Stopped,
    pub intake: Intake,
}

/// What all parts of one connection know.
#[derive(Clone)]
pub struct Shared {
    pub conn: quinn::Connection,
    /// No more requests are accepted.
    draining: Arc<AtomicBool>,
    asides: Arc<Mutex<HashMap<u64, Aside>>>,
    pub(super) side: Side,
    pub(super) max_held: u64,
    handed: Arc<Mutex<Handed>>,
    pub(super) webtransport: Option<WebTransport>,
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
    pub(super) fn close_with(&self, code: quinn::VarInt, reason: &[u8]) {
        if self.conn.close_reason().is_none() {
            self.conn.close(code, reason);
        }
    }

    pub(super) fn fail(&self, Fault { code, reason }: &Fault) {
        self.close(*code, reason);
    }

    pub(super) fn handed(&self, stream: &quinn::SendStream) {
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        handed.last = stream.id().into();
        handed.highest = handed.highest.max(handed.last);
    }

    pub(super) fn map(&self) -> MutexGuard<'_, HashMap<u64, Aside>> {
        self.asides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bidi(
        &self,
        send: quinn::SendStream,
        recv: quinn::RecvStream,
        first: Bytes,
    ) -> BidiStream {
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
    pub(super) fn critical_ended(&self) {
        self.close(
            Code::H3_CLOSED_CRITICAL_STREAM,
            "a stream was closed that has to stay open",
        );
    }

    /// Reads a stream of QPACK's, which h3 only accepts.
    pub(super) async fn watch_qpack(self, intake: Intake, mut filter: FrameFilter) {
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

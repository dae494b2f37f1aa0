//! The receiving part of a QUIC stream, for h3 and for what has to know more of it.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::Bytes;
use quinn::{ConnectionError, ReadError, ResetError, VarInt};

/// Of what comes in on a stream.
#[derive(Clone)]
pub struct Intake {
    stream: Arc<Mutex<quinn::RecvStream>>,
    /// Bytes of DATA that h3 has handed out.
    pub delivered: Arc<AtomicU64>,
    malformed: Arc<AtomicBool>,
}

impl Intake {
    pub fn new(stream: quinn::RecvStream) -> Self {
        Self {
            stream: Arc::new(Mutex::new(stream)),
            delivered: Arc::default(),
            malformed: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, quinn::RecvStream> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether fields that have come break the rules for messages.
    pub fn is_malformed(&self) -> bool {
        self.malformed.load(Ordering::Acquire)
    }

    pub fn set_malformed(&self) {
        self.malformed.store(true, Ordering::Release);
    }

    pub fn stop(&self, code: VarInt) {
        // It has ended already if that fails.
        let _ = self.lock().stop(code);
    }

    /// Ends once the peer has reset the stream, or is lost: also while nothing is read. To be awaited by the task
    /// that reads, because quinn wakes one.
    pub async fn cut(&self) -> Result<VarInt, ConnectionError> {
        let waiting = Waiting::default();
        let waker = Waker::from(waiting.0.clone());
        let reset = poll_fn(|cx| {
            waiting.0.set(Some(cx.waker().clone()));
            pin!(self.lock().received_reset()).poll(&mut Context::from_waker(&waker))
        })
        .await;
        match reset {
            Ok(Some(code)) => Ok(code),
            Err(ResetError::ConnectionLost(error)) => Err(error),
            // The end has come, or nobody wants it any more.
            Ok(None) | Err(ResetError::ZeroRttRejected) => pending().await,
        }
    }

    pub fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        // quinn keeps the waker, so that the future itself need not be kept.
        let mut stream = self.lock();
        let chunk = ready!(pin!(stream.read_chunk(usize::MAX, true)).poll(cx))?;
        Poll::Ready(Ok(chunk.map(|chunk| chunk.bytes)))
    }
}

/// Wakes the task that waits for a cut, for as long as it does. quinn keeps the waker of a body that has come to its
/// end meanwhile until the connection is over: it must not keep the task.
#[derive(Default)]
struct Waiting(Arc<Relay>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set(None);
    }
}

#[derive(Default)]
struct Relay(Mutex<Option<Waker>>);

impl Relay {
    fn set(&self, waker: Option<Waker>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }
}

impl Wake for Relay {
    fn wake(self: Arc<Self>) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

//! The task that reads a stream, for JavaScript to take.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Buf;
use h3::error::Code;

use super::{Guard, Stream};
use crate::end::{End, malformed};
use crate::engine::lock;
use crate::halves::RecvHalf;
use crate::headers::fields_of;
use crate::intake::Intake;
use crate::message;

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

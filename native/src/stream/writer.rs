//! The task that writes what JavaScript has given to a stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use h3::error::Code;

use super::{Guard, Stream};
use crate::end::End;
use crate::engine::{Engine, Event, Fields, lock};
use crate::halves::SendHalf;
use crate::quic::shared::Stopped;

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

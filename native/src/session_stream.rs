//! The two directions of a WebTransport session's stream: bytes as they are, without frames, and error codes in the
//! numbers that draft-ietf-webtrans-http3 gives them.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderMap;
use quinn::StoppedError;

use crate::end::End;
use crate::engine::{Fields, lock};
use crate::halves::{RecvHalf, SendHalf};
use crate::incoming::Opened;
use crate::intake::Intake;
use crate::quic::shared::varint as code_of;
use crate::stream::Stream;
use crate::stream::reader::{Sink, read};
use crate::stream::writer::write;

/// WEBTRANSPORT_BUFFERED_STREAM_REJECTED and WEBTRANSPORT_SESSION_GONE: section 9.5 of the draft.
pub const BUFFERED_STREAM_REJECTED: u64 = 0x3994_bd84;
pub const SESSION_GONE: u64 = 0x170d_7b68;

/// The codes of HTTP/3 begin here (RFC 9114, section 8.1); those of a page are a byte.
const H3_CODES: u64 = 0x100;

/// Where the codes of applications begin (section 4.3). Of every 31 numbers one is left out.
const APPLICATION_CODES: u64 = 0x52e4_a40f_a8db;

/// The low byte of HTTP/3's code is the page's code. Others go as they are.
pub fn to_wire(code: u64) -> u64 {
    match code.checked_sub(H3_CODES) {
        Some(code) if code <= 0xff => APPLICATION_CODES + code + code / 0x1e,
        _ => code,
    }
}

fn from_wire(wire: u64) -> u64 {
    match wire.checked_sub(APPLICATION_CODES) {
        Some(shifted) if shifted <= 0xff + 0xff / 0x1e => H3_CODES + shifted - shifted / 0x1f,
        _ => wire,
    }
}

/// Carries a stream to its end, in both directions.
pub async fn exchange(stream: Arc<Stream>, opened: Opened) {
    let Opened {
        send, recv, first, ..
    } = opened;
    let stopped = send.stopped();
    let stopped = Box::pin(async move {
        let code = stopped.await?;
        Ok::<_, StoppedError>(code.map(|code| code_of(from_wire(code.into_inner()))))
    });
    let intake = Intake::new(recv);
    let recv = Receiving {
        intake: intake.clone(),
        first: Some(first),
        ended: false,
    };
    let reading = tokio::spawn(read(stream.clone(), recv, intake, None));
    let send = Sending { send, ended: false };
    write(stream, send, stopped, false).await;
    // The peer may still be sending when all is answered.
    let _ = reading.await;
}

/// A direction of a stream, without frames.
struct Sending {
    send: quinn::SendStream,
    ended: bool,
}

impl SendHalf for Sending {
    async fn head(&mut self, _status: u16, _fields: Fields) -> Result<(), End> {
        Ok(())
    }

    async fn data(&mut self, bytes: Bytes) -> Result<(), End> {
        self.send
            .write_chunk(bytes)
            .await
            .map_err(|error| match error {
                quinn::WriteError::Stopped(code) => End::Peer(from_wire(code.into_inner())),
                quinn::WriteError::ConnectionLost(error) => End::of_quinn(error),
                other => End::Lost(other.to_string()),
            })
    }

    async fn trailers(&mut self, _fields: Fields) -> Result<(), End> {
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), End> {
        self.ended = true;
        self.send
            .finish()
            .map_err(|error| End::Lost(error.to_string()))
    }

    fn reset(&mut self, code: u64) {
        self.ended = true;
        let _ = self.send.reset(code_of(to_wire(code)));
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // quinn would finish it, as if it were whole.
        if !self.ended {
            let _ = self.send.reset(code_of(SESSION_GONE));
        }
    }
}

struct Receiving {
    intake: Intake,
    /// What came together with the stream's kind.
    first: Option<Bytes>,
    ended: bool,
}

impl RecvHalf for Receiving {
    async fn data(&mut self, into: &Mutex<Sink<'_>>) -> Result<bool, End> {
        if let Some(first) = self.first.take() {
            lock(into).put(first);
            return Ok(true);
        }
        let chunk = poll_fn(|cx| self.intake.poll_chunk(cx))
            .await
            .map_err(|error| {
                self.ended = true;
                match error {
                    quinn::ReadError::Reset(code) => End::Peer(from_wire(code.into_inner())),
                    quinn::ReadError::ConnectionLost(error) => End::of_quinn(error),
                    other => End::Lost(other.to_string()),
                }
            })?;
        match chunk {
            Some(chunk) => {
                lock(into).put(chunk);
                Ok(true)
            }
            None => {
                self.ended = true;
                Ok(false)
            }
        }
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, End> {
        Ok(None)
    }

    fn stop(&mut self, code: u64) {
        self.ended = true;
        self.intake.stop(code_of(to_wire(code)));
    }

    fn meaning(&self, code: u64) -> u64 {
        from_wire(code)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if !self.ended {
            self.intake.stop(code_of(SESSION_GONE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_back_as_they_were_sent() {
        for code in 0..=0xff {
            let wire = to_wire(H3_CODES + code);
            // What RFC 9114 reserves is left out: section 8.1.
            assert!(wire < 0x21 || !(wire - 0x21).is_multiple_of(0x1f), "{code}");
            assert_eq!(from_wire(wire), H3_CODES + code);
        }
        assert_eq!(to_wire(H3_CODES), 0x52e4_a40f_a8db);
        assert_eq!(to_wire(H3_CODES + 0xff), 0x52e4_a40f_a9e2);
        assert_eq!(to_wire(SESSION_GONE), SESSION_GONE);
        assert_eq!(from_wire(SESSION_GONE), SESSION_GONE);
    }
}

//! Tells the streams of WebTransport from requests before h3 sees them: h3 would take both for requests that never
//! end, and a stream of WebTransport needs nothing of it.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h3::error::Code;
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use crate::integer;
use crate::quic::shared::varint as code_of;

/// draft-ietf-webtrans-http3, section 4.2.
const WEBTRANSPORT_STREAM: u64 = 0x41;

/// A bidirectional stream that the peer has opened, with what has been read of it.
pub struct Opened {
    pub send: SendStream,
    pub recv: RecvStream,
    pub first: Bytes,
    /// The stream of its session, if it is one of WebTransport's.
    pub session: Option<u64>,
}

enum Kind {
    Request,
    /// The session's stream, and how many bytes said so.
    WebTransport(u64, usize),
}

fn kind(bytes: &[u8]) -> Option<Kind> {
    let (value, length) = integer::read(bytes)?;
    if value != WEBTRANSPORT_STREAM {
        return Some(Kind::Request);
    }
    let (session, more) = integer::read(&bytes[length..])?;
    Some(Kind::WebTransport(session, length + more))
}

/// Reads as much as tells which it is; none if it breaks off or takes too long.
pub async fn sort(mut send: SendStream, mut recv: RecvStream, limit: Duration) -> Option<Opened> {
    let mut first = Bytes::new();
    let reading = async {
        loop {
            match recv.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) if first.is_empty() => first = chunk.bytes,
                Ok(Some(chunk)) => {
                    let mut joined = BytesMut::from(&first[..]);
                    joined.extend_from_slice(&chunk.bytes);
                    first = joined.freeze();
                }
                // h3 says what is wrong with a request that ends so soon.
                Ok(None) => return Some(Kind::Request),
                Err(_) => return None,
            }
            if let Some(kind) = kind(&first) {
                return Some(kind);
            }
        }
    };
    match timeout(limit, reading).await.ok().flatten() {
        Some(Kind::Request) => Some(Opened {
            send,
            recv,
            first,
            session: None,
        }),
        Some(Kind::WebTransport(session, length)) => Some(Opened {
            send,
            recv,
            first: first.split_off(length),
            session: Some(session),
        }),
        None => {
            let code = code_of(Code::H3_REQUEST_CANCELLED.value());
            let _ = send.reset(code);
            let _ = recv.stop(code);
            None
        }
    }
}

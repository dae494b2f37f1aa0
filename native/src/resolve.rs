//! From a stream that a client has opened to a request that can be served.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use h3::quic::{RecvStream, SendStream};
use h3::server::{RequestResolver, RequestStream};
use http::Request;
use tokio::time::timeout;

use crate::intake::Intake;
use crate::message;
use crate::quic::Connection;
use crate::quic::shared::{Aside, Shared, Stopped};
use crate::quic::streams::BidiStream;

pub struct Resolved {
    pub request: Request<()>,
    pub stream: RequestStream<BidiStream, Bytes>,
    pub stopped: Stopped,
    pub intake: Intake,
    /// Of the body, if the client has said it.
    pub length: Option<u64>,
}

/// None if there is nothing to serve: then the client has been told.
pub async fn resolve(
    mut resolver: RequestResolver<Connection, Bytes>,
    shared: &Shared,
    within: Duration,
) -> Option<Resolved> {
    let frames = &mut resolver.frame_stream;
    let Ok(first) = timeout(within, poll_fn(|cx| frames.poll_next(cx))).await else {
        // Nothing has been done for it.
        let code = Code::H3_REQUEST_REJECTED.value();
        frames.reset(code);
        frames.stream.stop_sending(code);
        return None;
    };
    let Aside { stopped, intake } = shared.take_aside(frames.id())?;
    let head = resolver.accept_with_frame(first).ok()?;
    // To headers that are too large it writes an answer.
    let (request, mut stream) = timeout(within, head.resolve()).await.ok()?.ok()?;
    match message::check_request(&request) {
        Ok(length) if !intake.is_malformed() => Some(Resolved {
            request,
            stream,
            stopped,
            intake,
            length,
        }),
        _ => {
            stream.stop_stream(Code::H3_MESSAGE_ERROR);
            stream.stop_sending(Code::H3_MESSAGE_ERROR);
            None
        }
    }
}

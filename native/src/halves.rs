//! The two directions of an h3 stream, the same for server and client.

use std::future::Future;
use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use crate::end::End;
use crate::engine::{Fields, lock};
use crate::headers::header_map;
use crate::quic::streams::{RecvStream, SendStream};
use crate::stream::reader::Sink;

pub trait SendHalf: Send {
    fn head(&mut self, status: u16, fields: Fields)
    -> impl Future<Output = Result<(), End>> + Send;
    fn data(&mut self, bytes: Bytes) -> impl Future<Output = Result<(), End>> + Send;
    fn trailers(&mut self, fields: Fields) -> impl Future<Output = Result<(), End>> + Send;
    fn finish(&mut self) -> impl Future<Output = Result<(), End>> + Send;
    fn reset(&mut self, code: u64);
}

pub trait RecvHalf: Send {
    fn data(&mut self, into: &Mutex<Sink<'_>>) -> impl Future<Output = Result<bool, End>> + Send;
    fn trailers(&mut self) -> impl Future<Output = Result<Option<HeaderMap>, End>> + Send;
    fn stop(&mut self, code: u64);
    /// The code of HTTP/3 that the peer means.
    fn meaning(&self, code: u64) -> u64 {
        code
    }
}

macro_rules! halves {
    ($side:ident, |$send:ident, $status:ident, $fields:ident| $head:expr) => {
        impl SendHalf for h3::$side::RequestStream<SendStream, Bytes> {
            async fn head(&mut self, $status: u16, $fields: Fields) -> Result<(), End> {
                let $send = self;
                $head
            }
            async fn data(&mut self, bytes: Bytes) -> Result<(), End> {
                self.send_data(bytes).await.map_err(End::from)
            }
            async fn trailers(&mut self, fields: Fields) -> Result<(), End> {
                self.send_trailers(header_map(&fields))
                    .await
                    .map_err(End::from)
            }
            async fn finish(&mut self) -> Result<(), End> {
                h3::$side::RequestStream::finish(self)
                    .await
                    .map_err(End::from)
            }
            fn reset(&mut self, code: u64) {
                self.stop_stream(code.into());
            }
        }

        impl RecvHalf for h3::$side::RequestStream<RecvStream, Bytes> {
            async fn data(&mut self, into: &Mutex<Sink<'_>>) -> Result<bool, End> {
                let Some(data) = self.recv_data().await? else {
                    return Ok(false);
                };
                lock(into).put(data);
                Ok(true)
            }
            async fn trailers(&mut self) -> Result<Option<HeaderMap>, End> {
                self.recv_trailers().await.map_err(End::from)
            }
            fn stop(&mut self, code: u64) {
                self.stop_sending(code.into());
            }
        }
    };
}

halves!(server, |send, status, fields| {
    let mut response = Response::new(());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = header_map(&fields);
    send.send_response(response).await.map_err(End::from)
});
// A request's head is sent when its stream is opened.
halves!(client, |_send, _status, _fields| Ok(()));

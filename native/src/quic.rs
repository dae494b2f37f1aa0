//! quinn as h3's transport. h3-quinn would do the same, but keeps to itself
//! when a peer has asked to stop sending, which has to end a handler that is
//! not just writing; and h3 needs the guard of `frames.rs` under it.

pub mod shared;
pub mod streams;

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, unfold};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming};
use quinn::ConnectionError;

use crate::frames::FrameFilter;
use crate::incoming::{Opened, sort};
use crate::settings;
use shared::{Shared, WebTransport, varint};
use streams::{BidiStream, RecvStream, SendStream, connection_error, lost};

type Accepting<T> = BoxStream<'static, Result<T, ConnectionError>>;
type Bidi = (quinn::SendStream, quinn::RecvStream);

type Sorting = FuturesUnordered<BoxFuture<'static, Option<Opened>>>;

pub struct Connection {
    shared: Shared,
    bidi: Mutex<Accepting<Bidi>>,
    sorting: Mutex<Sorting>,
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
            sorting: Mutex::default(),
            uni: Mutex::new(Box::pin(uni)),
        }
    }
}

impl Connection {
    /// The next stream for h3. Those of WebTransport go another way.
    fn poll_opened(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Opened, ConnectionErrorIncoming>> {
        let Some(WebTransport { streams, patience }) = &self.shared.webtransport else {
            let (send, recv) = ready!(accept(&mut self.bidi, cx))?;
            return Poll::Ready(Ok(Opened {
                send,
                recv,
                first: Bytes::new(),
                session: None,
            }));
        };
        let sorting = self
            .sorting
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        loop {
            while let Poll::Ready(Some(sorted)) = Pin::new(&mut *sorting).poll_next(cx) {
                match sorted {
                    None => {}
                    Some(opened) if opened.session.is_none() => return Poll::Ready(Ok(opened)),
                    // Nobody takes it when the connection is ending.
                    Some(opened) => drop(streams.send(opened)),
                }
            }
            let (send, recv) = ready!(accept(&mut self.bidi, cx))?;
            sorting.push(Box::pin(sort(send, recv, *patience)));
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
        let filter = FrameFilter::uni(self.shared.side, self.shared.max_held);
        let first = Bytes::new();
        Poll::Ready(Ok(RecvStream::new(
            stream,
            self.shared.clone(),
            filter,
            first,
        )))
    }

    fn poll_accept_bidi(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        loop {
            let Opened {
                mut send,
                mut recv,
                first,
                ..
            } = ready!(self.poll_opened(cx))?;
            if self.shared.draining() {
                // The peer may send these again elsewhere: RFC 9114, section 5.2.
                let code = varint(Code::H3_REQUEST_REJECTED.value());
                let _ = send.reset(code);
                let _ = recv.stop(code);
                continue;
            }
            self.shared.handed(&send);
            return Poll::Ready(Ok(self.shared.bidi(send, recv, first)));
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
        // The control stream and QPACK's.
        let opened = ready!(self.opener.poll_open_send(cx))?;
        let stopped = opened.stream.stopped();
        let shared = self.shared.clone();
        tokio::spawn(async move {
            if let Ok(Some(_)) = stopped.await {
                shared.critical_ended();
            }
        });
        Poll::Ready(Ok(opened))
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
        Poll::Ready(Ok(self.shared.bidi(send, recv, Bytes::new())))
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
        let settings = match self.shared.webtransport {
            Some(_) => settings::WEBTRANSPORT,
            None => &[],
        };
        Poll::Ready(Ok(SendStream::new(send, None, settings)))
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        // h3 closes what is dropped as if all were well.
        let code = if std::thread::panicking() {
            Code::H3_INTERNAL_ERROR
        } else {
            code
        };
        self.shared.close_with(varint(code.value()), reason);
    }
}

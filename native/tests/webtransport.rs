//! WebTransport with a client that writes each byte by hand: which stream belongs
//! to which session, however they overtake each other; codes, datagrams, settings.

mod support;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use quinn::{Connection, ConnectionError, ReadError, ReadToEndError, RecvStream, SendStream};
use sluice_native::end::End;
use sluice_native::engine::Event;
use sluice_native::integer;
use sluice_native::session_stream::{BUFFERED_STREAM_REJECTED, SESSION_GONE, to_wire};
use sluice_native::transport::Limits;
use support::wire::{headers, integer as written};
use support::{Script, Setup, TestServer, code, is_served, limits, until, within};

const STREAM: u64 = 0x41;
const UNI_STREAM: u64 = 0x54;

/// A server whose JavaScript is the test.
fn server(limits: Limits) -> TestServer {
    TestServer::start(Setup {
        limits,
        script: Script::Hang,
        ..Setup::default()
    })
}

fn connect() -> Vec<u8> {
    headers(&[
        (":method", "CONNECT"),
        (":protocol", "webtransport"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/webtransport"),
    ])
}

async fn control(conn: &Connection) -> SendStream {
    let mut control = conn.open_uni().await.expect("a stream");
    control.write_all(&[0, 4, 0]).await.expect("open");
    control
}

/// The events of the server that the test has not looked at.
#[derive(Default)]
struct Events(Vec<Event>);

impl Events {
    async fn next<T>(
        &mut self,
        server: &TestServer,
        what: &str,
        find: impl Fn(&Event) -> Option<T>,
    ) -> T {
        within(what, async {
            loop {
                self.0.extend(server.engine.take());
                if let Some(at) = self.0.iter().position(|event| find(event).is_some())
                    && let Some(found) = find(&self.0.remove(at))
                {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    async fn request(&mut self, server: &TestServer) -> u32 {
        self.next(server, "the request", |event| match event {
            Event::Request { stream, target, .. } if target[4] == "webtransport" => Some(*stream),
            _ => None,
        })
        .await
    }

    async fn stream(&mut self, server: &TestServer, of: u32) -> u32 {
        self.next(server, "the session's stream", |event| match event {
            Event::SessionStream { session, stream } if *session == of => Some(*stream),
            _ => None,
        })
        .await
    }

    async fn broken(&mut self, server: &TestServer, id: u32) -> End {
        self.next(server, "the break", |event| match event {
            Event::Broken { stream, end } if *stream == id => Some(end.clone()),
            _ => None,
        })
        .await
    }
}

/// What has come on a stream, once it is as long as that.
async fn read(server: &TestServer, stream: u32, length: usize) -> Vec<u8> {
    let stream = server.engine.stream(stream).expect("a stream");
    stream.resume();
    let mut got = Vec::new();
    let mut room = vec![0; 64 * 1024];
    within("the bytes", async {
        while got.len() < length {
            let taken = stream.take(&mut room).expect("not paused");
            got.extend(&room[..taken.length]);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    got
}

struct Session {
    conn: Connection,
    /// Kept open.
    _control: SendStream,
    _connect: (SendStream, RecvStream),
    id: u32,
}

async fn session(server: &TestServer, events: &mut Events) -> Session {
    let conn = server.connect().await;
    let _control = control(&conn).await;
    let mut streams = conn.open_bi().await.expect("a stream");
    streams.0.write_all(&connect()).await.expect("sent");
    let id = events.request(server).await;
    let stream = server.engine.stream(id).expect("a stream");
    stream.send_head(200, Vec::new());
    Session {
        conn,
        _control,
        _connect: streams,
        id,
    }
}

/// A stream of the first session, which begins with these bytes.
async fn open(conn: &Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut send, recv) = conn.open_bi().await.expect("a stream");
    let head = [written(STREAM), written(0), bytes.to_vec()].concat();
    send.write_all(&head).await.expect("sent");
    (send, recv)
}

async fn reset_of(recv: &mut RecvStream) -> u64 {
    match within("the reset", recv.read_to_end(1000)).await {
        Err(ReadToEndError::Read(ReadError::Reset(code))) => code.into_inner(),
        other => panic!("the stream came to {other:?}"),
    }
}

#[tokio::test]
async fn says_to_each_draft_that_it_is_there() {
    let server = server(limits());
    let conn = server.connect().await;
    let mut control = within("a control stream", conn.accept_uni()).await.unwrap();
    let mut bytes = Vec::new();
    let mut settings = HashMap::new();
    within("the settings", async {
        loop {
            let chunk = control.read_chunk(1000, true).await.unwrap().unwrap();
            bytes.extend_from_slice(&chunk.bytes);
            let [0, 4, length, rest @ ..] = &bytes[..] else {
                continue;
            };
            if rest.len() < usize::from(*length) {
                continue;
            }
            let mut at = 3;
            while at < 3 + usize::from(*length) {
                let (id, first) = integer::read(&bytes[at..]).unwrap();
                let (value, second) = integer::read(&bytes[at + first..]).unwrap();
                assert_eq!(settings.insert(id, value), None, "{id:x} is there twice");
                at += first + second;
            }
            return;
        }
    })
    .await;
    for id in [0x8, 0x33, 0xff_d277, 0x2b60_3742, 0xc671_706a, 0x14e9_cd29] {
        assert_eq!(settings.get(&id), Some(&1), "{id:x}");
    }
}

#[tokio::test]
async fn gives_streams_to_their_session_however_they_are_cut() {
    let server = server(limits());
    let mut events = Events::default();
    let session = session(&server, &mut events).await;
    let (mut send, _recv) = session.conn.open_bi().await.unwrap();
    // Type and session in their longest forms.
    let head = [0xc0, 0, 0, 0, 0, 0, 0, 0x41, 0xc0, 0, 0, 0, 0, 0, 0, 0];
    for byte in head {
        send.write_all(&[byte]).await.unwrap();
        is_heard(&session.conn).await;
    }
    send.write_all(b"hello").await.unwrap();
    let stream = events.stream(&server, session.id).await;
    assert_eq!(read(&server, stream, 5).await, b"hello");
    let answer = server.engine.stream(stream).unwrap();
    answer.write(b"goodbye", false);
    answer.finish(Vec::new());
    let mut recv = _recv;
    let got = within("the answer", recv.read_to_end(100)).await.unwrap();
    assert_eq!(got, b"goodbye");
}

/// What has been sent before has left.
async fn is_heard(conn: &Connection) {
    let sent = conn.stats().udp_tx.datagrams;
    until("a packet", || conn.stats().udp_tx.datagrams > sent).await;
}

#[tokio::test]
async fn keeps_streams_that_overtake_their_session() {
    let server = server(limits());
    let mut events = Events::default();
    let conn = server.connect().await;
    let _control = control(&conn).await;
    let (mut request, _answer) = conn.open_bi().await.unwrap();
    let _stream = open(&conn, b"early").await;
    is_heard(&conn).await;
    request.write_all(&connect()).await.unwrap();
    let id = events.request(&server).await;
    let stream = events.stream(&server, id).await;
    assert_eq!(read(&server, stream, 5).await, b"early");
}

#[tokio::test]
async fn keeps_few_streams_without_a_session_and_not_for_long() {
    let server = server(Limits {
        header_timeout: Duration::from_millis(500),
        ..limits()
    });
    let conn = server.connect().await;
    let _control = control(&conn).await;
    let mut streams = Vec::new();
    for _ in 0..17 {
        streams.push(open(&conn, b"x").await);
    }
    let mut codes = HashMap::new();
    for (_, recv) in &mut streams {
        *codes.entry(reset_of(recv).await).or_insert(0) += 1;
    }
    let expected = HashMap::from([(BUFFERED_STREAM_REJECTED, 1), (SESSION_GONE, 16)]);
    assert_eq!(codes, expected);
    assert_eq!(server.engine.streams(), 0);
}

#[tokio::test]
async fn closes_connections_for_sessions_that_cannot_be() {
    let server = server(limits());
    let conn = server.connect().await;
    let _control = control(&conn).await;
    let (mut send, _recv) = conn.open_bi().await.unwrap();
    // A unidirectional stream.
    let head = [written(STREAM), written(2)].concat();
    send.write_all(&head).await.unwrap();
    match within("the close", conn.closed()).await {
        ConnectionError::ApplicationClosed(close) => {
            assert_eq!(Code::from(close.error_code.into_inner()), Code::H3_ID_ERROR);
        }
        other => panic!("closed by {other}"),
    }
}

#[tokio::test]
async fn wants_no_unidirectional_streams() {
    let server = TestServer::start(Setup::default());
    let conn = server.connect().await;
    let _control = control(&conn).await;
    // More than are allowed at once: each is let go.
    for _ in 0..40 {
        let mut uni = within("a stream", conn.open_uni()).await.unwrap();
        let head = [written(UNI_STREAM), written(0), b"x".to_vec()].concat();
        uni.write_all(&head).await.unwrap();
        let stopped = within("the stop", uni.stopped()).await.unwrap();
        assert_eq!(stopped, Some(code(BUFFERED_STREAM_REJECTED)));
        let _ = uni.reset(code(0));
    }
    is_served(&conn).await.unwrap();
}

#[tokio::test]
async fn maps_codes_both_ways_and_hears_resets_at_once() {
    let server = server(limits());
    let mut events = Events::default();
    let session = session(&server, &mut events).await;
    for cut in ["reset", "stop"] {
        let (mut send, mut recv) = open(&session.conn, &vec![7; 600_000]).await;
        // JavaScript reads nothing: more waits than it holds.
        let stream = events.stream(&server, session.id).await;
        let wire = code(to_wire(Code::H3_REQUEST_CANCELLED.value()));
        if cut == "reset" {
            send.reset(wire).unwrap();
        } else {
            recv.stop(wire).unwrap();
        }
        let end = events.broken(&server, stream).await;
        assert_eq!(end, End::Peer(Code::H3_REQUEST_CANCELLED.value()), "{cut}");
        let held = server.engine.stream(stream).unwrap();
        held.reset(Code::H3_INTERNAL_ERROR.value());
        server.engine.release(stream);
    }
    let (send, mut recv) = open(&session.conn, b"x").await;
    let stream = events.stream(&server, session.id).await;
    let held = server.engine.stream(stream).unwrap();
    held.reset(Code::H3_EXCESSIVE_LOAD.value());
    server.engine.release(stream);
    let wire = to_wire(Code::H3_EXCESSIVE_LOAD.value());
    assert_eq!(reset_of(&mut recv).await, wire);
    let stopped = within("the stop", send.stopped()).await.unwrap();
    assert_eq!(stopped, Some(code(wire)));
}

#[tokio::test]
async fn refuses_streams_while_it_drains() {
    let server = server(limits());
    let mut events = Events::default();
    let session = session(&server, &mut events).await;
    server.server.goaway(None);
    let rejected = to_wire(Code::H3_REQUEST_REJECTED.value());
    within("the refusal", async {
        loop {
            // The server hears of the end a moment later.
            let (_send, mut recv) = open(&session.conn, b"x").await;
            let read = tokio::time::timeout(Duration::from_millis(50), recv.read_to_end(10));
            if let Ok(Err(ReadToEndError::Read(ReadError::Reset(got)))) = read.await {
                assert_eq!(got.into_inner(), rejected);
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn forgets_the_oldest_datagrams() {
    let server = server(limits());
    let mut events = Events::default();
    let session = session(&server, &mut events).await;
    let of_nobody = [written(9), b"nobody".to_vec()].concat();
    session.conn.send_datagram(Bytes::from(of_nobody)).unwrap();
    session
        .conn
        .send_datagram(Bytes::from_static(&[0x40]))
        .unwrap();
    for number in 0_u16..1000 {
        let datagram = [written(0), number.to_be_bytes().to_vec()].concat();
        session
            .conn
            .send_datagram_wait(datagram.into())
            .await
            .unwrap();
    }
    let open = server.engine.session(session.id).unwrap();
    // On loopback none is lost, and the last one comes at last.
    let last = 999_u16.to_be_bytes();
    let mut taken = Vec::new();
    until("the last one", || {
        open.newest().is_some_and(|newest| newest[..] == last)
    })
    .await;
    taken.extend(open.take());
    assert_eq!(taken.len(), 256);
    assert_eq!(
        taken.last().map(|bytes| bytes.to_vec()),
        Some(last.to_vec())
    );
    assert!(taken.is_sorted());

    assert!(open.send(b"back"));
    let got = within("a datagram", session.conn.read_datagram())
        .await
        .unwrap();
    assert_eq!(&got[..], b"\0back");
    assert!(!open.send(&vec![0; open.max_datagram() + 1]));
}

#[tokio::test]
async fn forgets_a_session_with_its_request() {
    let server = server(limits());
    let mut events = Events::default();
    let session = session(&server, &mut events).await;
    let request = server.engine.stream(session.id).unwrap();
    request.finish(Vec::new());
    until("the end of the session", || {
        server.engine.session(session.id).is_none()
    })
    .await;
    server.engine.release(session.id);
    assert_eq!(server.engine.streams(), 0);
}

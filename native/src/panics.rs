//! What a panic does: it ends the stream, or the connection, in whose task it
//! happens, and nothing else.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::atomic::Ordering;

use crate::panic_log::{PANICS, install};

use h3::error::Code;
use quinn::{ConnectionError, ReadError, ReadToEndError};

use crate::end::End;
use crate::engine::lock;
use crate::frames::tests::PANIC;
use support::wire::{data, frame, get};
use support::{Setup, TestServer, is_served, until, within};

const SETTINGS: [u8; 3] = [0, 4, 0];

async fn control(conn: &quinn::Connection, more: &[u8]) -> quinn::SendStream {
    let mut control = conn.open_uni().await.expect("a stream");
    let sent = control.write_all(&[&SETTINGS, more].concat()).await;
    sent.expect("an open stream");
    control
}

#[tokio::test]
async fn end_what_they_happen_in() {
    let server = TestServer::start(Setup::default());
    // As in production: what panics is counted, and its text goes to JavaScript.
    install();
    let bystander = server.connect().await;
    let _control = control(&bystander, &[]).await;
    let conn = server.connect().await;
    let _other = control(&conn, &[]).await;
    let poison = frame(PANIC, b"");

    // While the headers are awaited, and while the body is read.
    for (count, begun) in [(1, vec![]), (2, [get(&[]), data(b"abc")].concat())] {
        let (mut send, mut recv) = conn.open_bi().await.expect("a stream");
        send.write_all(&begun).await.expect("an open stream");
        if !begun.is_empty() {
            let mut head = [0; 5];
            let read = recv.read_exact(&mut head);
            within("the head", read).await.expect("a head");
        }
        send.write_all(&poison).await.expect("an open stream");
        let ended = within("the stream's end", recv.read_to_end(1000)).await;
        let Err(ReadToEndError::Read(ReadError::Reset(code))) = ended else {
            panic!("the stream came to {ended:?}");
        };
        assert_eq!(code.into_inner(), Code::H3_INTERNAL_ERROR.value());
        assert_eq!(PANICS.load(Ordering::Relaxed), count);
        is_served(&conn).await.expect("an answer");
    }
    let internal = End::Local(
        Code::H3_INTERNAL_ERROR.value(),
        "internal error".to_string(),
    );
    until("its report", || lock(&server.broken).contains(&internal)).await;

    // In the connection's own task.
    let last = server.connect().await;
    let _poisoned = control(&last, &poison).await;
    let closed = within("the connection's end", last.closed()).await;
    let ConnectionError::ApplicationClosed(close) = closed else {
        panic!("closed by {closed}");
    };
    assert_eq!(
        close.error_code.into_inner(),
        Code::H3_INTERNAL_ERROR.value()
    );
    is_served(&bystander).await.expect("an answer");
    is_served(&conn).await.expect("an answer");
    until("its end", || server.connections() == 2).await;
    until("what each has said", || lock(&server.panicked).len() == 3).await;
    for message in lock(&server.panicked).iter() {
        assert!(
            message.starts_with("assertion `left != right` failed")
                && message.contains("src/frames.rs:"),
            "{message}"
        );
    }
    until("the end of every stream", || server.engine.streams() == 0).await;
}

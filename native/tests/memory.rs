//! What waits for a JavaScript that does not keep up, and for a peer that does not.

mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use quinn::{TransportConfig, VarInt};
use sluice_native::engine::Event;
use sluice_native::stream::{HIGH_WATER, MAX_WAITING, SHARE};
use sluice_native::transport::Limits;
use support::wire::{data, get};
use support::{Script, Setup, TestServer, limits, socket, until, within};

const STREAMS: usize = 100;
/// What the peer sends on each.
const EACH: usize = HIGH_WATER;
/// The pieces that may be added while there is room for one.
const PIECE: usize = 16 * 1024;
/// What JavaScript writes at a time.
const WRITE: usize = 4 * 1024;
/// What the peer takes of a stream before it has read any of it.
const WINDOW: u32 = 64 * 1024;

#[tokio::test]
async fn holds_its_share_of_each_of_many_streams_that_are_not_read() {
    let server = TestServer::start(Setup {
        script: Script::Hang,
        limits: Limits {
            // So that nothing else stops the peer.
            connection_window: 64 << 20,
            ..limits()
        },
        ..Setup::default()
    });
    let conn = server.connect().await;
    let body = [get(&[]), data(&vec![7; EACH])].concat();
    let mut streams = Vec::new();
    let mut highest = 0;
    for count in 1..=STREAMS {
        let (mut send, recv) = conn.open_bi().await.expect("a stream");
        within("sending", send.write_all(&body))
            .await
            .expect("an open stream");
        send.finish().expect("open");
        streams.push((send, recv));
        until("its share", || server.engine.bytes_held() >= count * SHARE).await;
        highest = highest.max(server.engine.bytes_held());
    }
    let most = MAX_WAITING + STREAMS * (SHARE + PIECE);
    assert!(highest <= most, "{highest} are held, and {most} may be");

    // All of it comes when it is asked for, however small the steps.
    let mut room = vec![0; 5000];
    let mut got = HashMap::new();
    let mut ended = 0;
    within("the bodies", async {
        while ended < STREAMS {
            for event in server.engine.take() {
                let (Event::Request { stream: id, .. } | Event::Readable { stream: id }) = event
                else {
                    continue;
                };
                let stream = server.engine.stream(id).expect("a stream");
                if matches!(event, Event::Request { .. }) {
                    stream.resume();
                    continue;
                }
                let taken = stream.take(&mut room).expect("not paused");
                *got.entry(id).or_insert(0) += taken.length;
                assert!(room[..taken.length].iter().all(|&byte| byte == 7));
                if taken.end.is_some() {
                    assert_eq!(got[&id], EACH);
                    ended += 1;
                }
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(server.engine.bytes_held(), 0);
}

#[tokio::test]
async fn holds_its_share_of_each_of_many_streams_that_the_peer_does_not_read() {
    let server = TestServer::start(Setup {
        script: Script::Hang,
        ..Setup::default()
    });
    let mut transport = TransportConfig::default();
    transport.stream_receive_window(VarInt::from_u32(WINDOW));
    let mut config = server.client();
    config.transport_config(Arc::new(transport));
    let endpoint = socket();
    let connecting = endpoint
        .connect_with(config, server.near(), "localhost")
        .expect("a client");
    let conn = within("the handshake", connecting)
        .await
        .expect("a connection");
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let (mut send, recv) = conn.open_bi().await.expect("a stream");
        send.write_all(&get(&[])).await.expect("an open stream");
        streams.push((send, recv));
    }

    // As JavaScript does: until it is told to wait, and again when it is told to go on.
    let fill = |id| {
        let stream = server.engine.stream(id).expect("a stream");
        while stream.write(&[7; WRITE], false) {}
    };
    let mut begun = HashSet::new();
    let mut highest = 0;
    within("full windows", async {
        while conn.stats().udp_rx.bytes < STREAMS as u64 * u64::from(WINDOW) {
            for event in server.engine.take() {
                match event {
                    Event::Request { stream: id, .. } => {
                        let stream = server.engine.stream(id).expect("a stream");
                        stream.send_head(200, Vec::new());
                        fill(id);
                        begun.insert(id);
                    }
                    Event::Drained { stream: id } => fill(id),
                    _ => {}
                }
                highest = highest.max(server.engine.bytes_held());
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    // One share waits for the transport, and another one with JavaScript's last writes.
    let most = MAX_WAITING + STREAMS * 2 * (SHARE + WRITE);
    assert!(highest <= most, "{highest} are held, and {most} may be");

    for (mut send, mut recv) in streams {
        send.reset(VarInt::from_u32(0)).expect("open");
        recv.stop(VarInt::from_u32(0)).expect("open");
    }
    drop(conn);
    for id in begun {
        server.engine.release(id);
    }
    until("nothing to be held", || server.engine.bytes_held() == 0).await;
}

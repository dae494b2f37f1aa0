//! What waits for a JavaScript that does not keep up.

mod support;

use std::collections::HashMap;

use sluice_native::engine::Event;
use sluice_native::stream::{HIGH_WATER, MAX_UNREAD, SHARE};
use sluice_native::transport::Limits;
use support::wire::{data, get};
use support::{Script, Setup, TestServer, limits, until, within};

const STREAMS: usize = 100;
/// What the peer sends on each.
const EACH: usize = HIGH_WATER;
/// The pieces that may be added while there is room for one.
const PIECE: usize = 16 * 1024;

#[tokio::test]
async fn holds_its_share_of_each_of_many_streams() {
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
    let most = MAX_UNREAD + STREAMS * (SHARE + PIECE);
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

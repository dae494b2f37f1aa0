//! Whether the server at the other end of a connection is still there. QUIC's own
//! answer, the idle timeout, is as long as a connection may be quiet; a server that
//! owes an answer is known to be gone much sooner.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quinn::{Connection, VarInt};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::engine::lock;
use crate::running::Running;

/// How often a connection with requests on it is looked at.
const SAMPLE: Duration = Duration::from_millis(250);

/// A connection that has been quiet for so long is asked for a sign of life before it gets a request. Less than any
/// server takes to start, so that no request is sent to one that does not know the connection.
const QUIET: Duration = Duration::from_millis(500);

/// A connection with requests on it that has been quiet for so long is asked too: a call that only waits for its answer
/// sends nothing that a server which is gone would leave unanswered.
const MAX_QUIET: Duration = Duration::from_secs(5);

/// After so long without an answer another connection is tried.
const SUSPICIOUS: Duration = Duration::from_secs(3);

/// In so many samples something must have been sent that asks for an answer: the first time, and QUIC's probes after it
/// (RFC 9002, section 6.2).
const MIN_PROBES: u32 = 3;

pub struct Liveness {
    conn: Connection,
    started: Instant,
    /// When something was last heard, in milliseconds after the start.
    heard: AtomicU64,
    /// A request begins.
    begun: Notify,
    /// Another connection to the server has opened: this one gets no more requests.
    replaced: AtomicBool,
    retired: Notify,
    /// As it was set last.
    window: Mutex<u32>,
}

/// What has come and gone so far.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Traffic {
    received: u64,
    /// Frames that ask for an acknowledgement.
    asking: u64,
}

impl Liveness {
    /// `window`: bytes that the server may send ahead on the connection.
    pub fn new(conn: Connection, window: u32) -> Self {
        Self {
            conn,
            started: Instant::now(),
            heard: AtomicU64::new(0),
            begun: Notify::new(),
            replaced: AtomicBool::new(false),
            retired: Notify::new(),
            window: Mutex::new(window),
        }
    }

    pub fn begin(&self) {
        self.begun.notify_one();
    }

    pub fn replace(&self) {
        self.replaced.store(true, Ordering::Relaxed);
        self.retired.notify_one();
    }

    /// Ends once it gets no more requests, and the last one is over.
    pub async fn retired(&self, running: &Running) {
        self.retired.notified().await;
        running.none().await;
    }

    /// Nothing has been heard for a while.
    pub fn is_quiet(&self) -> bool {
        self.quiet() >= QUIET
    }

    fn quiet(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(heard)
    }

    fn hear(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(now, Ordering::Relaxed);
    }

    fn traffic(&self) -> Traffic {
        let stats = self.conn.stats();
        let sent = &stats.frame_tx;
        Traffic {
            received: stats.udp_rx.datagrams,
            asking: sent.ping
                + sent.stream
                + sent.reset_stream
                + sent.stop_sending
                + sent.max_data
                + sent.max_stream_data
                + sent.datagram,
        }
    }

    /// quinn sends no PING on request. One more byte that the server may send is a frame to acknowledge too.
    fn ask(&self) {
        let mut window = lock(&self.window);
        *window = window.saturating_add(1);
        self.conn.set_receive_window(VarInt::from_u32(*window));
    }

    /// Asks for a sign of life. False if the connection ends first.
    pub async fn check(&self) -> bool {
        let before = self.traffic().received;
        self.ask();
        // It is looked at while no request runs, too.
        self.begin();
        let mut pause = Duration::from_millis(1);
        while self.traffic().received == before {
            tokio::select! {
                () = sleep(pause) => pause = (pause * 2).min(Duration::from_millis(50)),
                _ = self.conn.closed() => return false,
            }
        }
        self.hear();
        true
    }

    /// Ends once the server is taken for dead: it has owed an answer for `patience`, or for a few seconds while another
    /// connection to it has opened. `suspect` is called when it is time to try that.
    pub async fn lost(&self, running: &Running, patience: Duration, suspect: impl Fn()) {
        let mut last = self.traffic();
        let mut unanswered: Option<Instant> = None;
        let mut probes = 0;
        let mut suspected = false;
        self.hear();
        loop {
            sleep(SAMPLE).await;
            let now = self.traffic();
            if now.received != last.received {
                self.hear();
                unanswered = None;
                probes = 0;
                suspected = false;
            } else if now.asking != last.asking {
                unanswered.get_or_insert_with(Instant::now);
                probes += 1;
            }
            last = now;
            let silent = unanswered.map_or(Duration::ZERO, |since| since.elapsed());
            if probes >= MIN_PROBES && silent >= SUSPICIOUS {
                if self.replaced.load(Ordering::Relaxed) || silent >= patience {
                    return;
                }
                if !suspected {
                    suspected = true;
                    suspect();
                }
            }
            if unanswered.is_some() {
                continue;
            }
            if !running.is_none() {
                if self.quiet() >= MAX_QUIET {
                    self.ask();
                }
            } else if self.is_quiet() {
                self.begun.notified().await;
                last = self.traffic();
            }
        }
    }
}

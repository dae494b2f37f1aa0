//! What JavaScript and the network's threads share: streams by number, and the
//! events that wait for JavaScript to take them, all at once.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::runtime::Runtime;
use tokio::sync::OwnedSemaphorePermit;

use crate::end::End;
use crate::panic_log;
use crate::stream::Stream;
use crate::webtransport::Session;

/// Names and values, by turns. Values are bytes, each a character of its own.
pub type Fields = Vec<String>;

pub enum Event {
    ConnectionOpened {
        connection: u32,
        peer: String,
    },
    ConnectionClosed {
        connection: u32,
        end: End,
    },
    Request {
        connection: u32,
        stream: u32,
        /// Method, scheme, authority, path, and the protocol of an extended CONNECT.
        target: [String; 5],
        fields: Fields,
    },
    Head {
        stream: u32,
        status: u16,
        fields: Fields,
    },
    /// There is something to read.
    Readable {
        stream: u32,
    },
    Drained {
        stream: u32,
    },
    /// Everything was handed to the transport, the end included.
    Finished {
        stream: u32,
    },
    Broken {
        stream: u32,
        end: End,
    },
    /// The peer has opened a stream of the WebTransport session that `session` is the request of.
    SessionStream {
        session: u32,
        stream: u32,
    },
    /// There are datagrams of that session to take.
    Datagrams {
        session: u32,
    },
    /// Whether the server of a connection has given the sign of life that it was asked for.
    Checked {
        connection: u32,
        answered: bool,
    },
    /// The server of a connection owes an answer: it is time to try another connection.
    Silent {
        connection: u32,
    },
    /// Something in the process has panicked: what it said, and where.
    Panicked {
        message: String,
    },
}

#[derive(Default)]
pub struct Counters {
    pub connections_opened: AtomicU64,
    pub connections_refused: AtomicU64,
    /// Clients that were asked to prove their address.
    pub retries: AtomicU64,
    pub connections: AtomicU64,
    pub streams_opened: AtomicU64,
}

pub struct Engine {
    wake: Box<dyn Fn() + Send + Sync>,
    queue: Mutex<Queue>,
    next: AtomicU32,
    sessions: Mutex<HashMap<u32, Arc<Session>>>,
    streams: Mutex<HashMap<u32, Held>>,
    /// Bytes of bodies that wait for JavaScript, and for the transport.
    pub unread: AtomicUsize,
    pub unsent: AtomicUsize,
    pub counters: Counters,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<Event>,
    /// JavaScript is going to look, or is looking.
    woken: bool,
}

/// A stream that JavaScript has not let go of.
struct Held {
    stream: Arc<Stream>,
    _slot: Option<OwnedSemaphorePermit>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic within a lock leaves at worst one stream in a state that its guard ends.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Engine {
    /// `wake` is called when there are events to take; once until they have all been taken.
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        let engine = Arc::new(Self {
            wake,
            queue: Mutex::default(),
            next: AtomicU32::new(1),
            streams: Mutex::default(),
            unread: AtomicUsize::new(0),
            unsent: AtomicUsize::new(0),
            sessions: Mutex::default(),
            counters: Counters::default(),
        });
        panic_log::add(&engine);
        engine
    }

    pub fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub fn push(&self, event: Event) {
        let mut queue = lock(&self.queue);
        queue.events.push_back(event);
        let woken = std::mem::replace(&mut queue.woken, true);
        drop(queue);
        if !woken {
            (self.wake)();
        }
    }

    /// One event after the other. Who stops before there are none has to come again without a wake.
    pub fn take(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| {
            let mut queue = lock(&self.queue);
            let event = queue.events.pop_front();
            queue.woken = event.is_some();
            event
        })
    }

    /// `paused` until JavaScript says that it reads. The slot is free again once JavaScript lets go of the stream.
    pub fn add(self: &Arc<Self>, paused: bool, slot: Option<OwnedSemaphorePermit>) -> Arc<Stream> {
        self.counters.streams_opened.fetch_add(1, Ordering::Relaxed);
        let stream = Stream::new(self.number(), self.clone());
        if paused {
            stream.pause();
        }
        let held = Held {
            stream: stream.clone(),
            _slot: slot,
        };
        lock(&self.streams).insert(stream.id, held);
        stream
    }

    pub fn stream(&self, id: u32) -> Option<Arc<Stream>> {
        lock(&self.streams).get(&id).map(|held| held.stream.clone())
    }

    /// JavaScript is done with it.
    pub fn release(&self, id: u32) {
        lock(&self.streams).remove(&id);
    }

    pub fn add_session(&self, id: u32, session: Arc<Session>) {
        lock(&self.sessions).insert(id, session);
    }

    pub fn remove_session(&self, id: u32) {
        lock(&self.sessions).remove(&id);
    }

    pub fn session(&self, id: u32) -> Option<Arc<Session>> {
        lock(&self.sessions).get(&id).cloned()
    }

    pub fn streams(&self) -> usize {
        lock(&self.streams).len()
    }

    /// Bytes that wait for JavaScript, or for the transport.
    pub fn bytes_held(&self) -> usize {
        self.unread.load(Ordering::Relaxed) + self.unsent.load(Ordering::Relaxed)
    }
}

/// Threads for QUIC and HTTP/3, shared by all engines of the process.
pub fn runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    RUNTIME
        .get_or_init(|| {
            let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(4));
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(threads)
                .thread_name("sluice-http3")
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?;
            {
                let _entered = runtime.enter();
                panic_log::install();
            }
            Ok(runtime)
        })
        .as_ref()
        .map_err(Clone::clone)
}

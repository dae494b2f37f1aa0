//! One request and its response, between JavaScript's thread and the tasks that
//! read and write it.

pub mod reader;
pub mod writer;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Buf, BytesMut};
use h3::error::Code;
use tokio::sync::Notify;

use crate::end::End;
use crate::engine::{Engine, Event, Fields, lock};

/// Bytes that wait for JavaScript, or for the transport, before whoever makes them is asked to pause.
pub const HIGH_WATER: usize = 256 * 1024;

/// Bytes of all streams that wait in one direction, before none may have more than its share. They serve to make each
/// crossing worth its while, for which a few streams need much and many streams little.
pub const MAX_WAITING: usize = 4 * 1024 * 1024;
pub const SHARE: usize = 64 * 1024;

/// Whether a stream with so much may have more.
fn has_room(held: usize, all: &AtomicUsize) -> bool {
    held < SHARE || (held < HIGH_WATER && all.load(Ordering::Relaxed) < MAX_WAITING)
}

#[derive(Default)]
struct Outbox {
    head: Option<(u16, Fields)>,
    data: Vec<u8>,
    /// JavaScript waits for `Drained`.
    full: bool,
    /// With the trailers.
    end: Option<Fields>,
    reset: Option<u64>,
}

#[derive(Default)]
struct Inbox {
    data: BytesMut,
    end: Option<Fields>,
    /// An event for it is in the queue.
    told: bool,
    paused: bool,
    /// The reader waits until something has been taken.
    full: bool,
    /// No more is wanted; with the code to say so.
    stop: Option<u64>,
}

/// What JavaScript gets when it takes what has come.
pub struct Taken {
    /// Bytes of the body.
    pub length: usize,
    pub end: Option<Fields>,
}

pub struct Stream {
    pub id: u32,
    engine: Arc<Engine>,
    outbox: Mutex<Outbox>,
    to_write: Notify,
    inbox: Mutex<Inbox>,
    to_read: Notify,
}

impl Stream {
    pub fn new(id: u32, engine: Arc<Engine>) -> Arc<Self> {
        Arc::new(Self {
            id,
            engine,
            outbox: Mutex::default(),
            to_write: Notify::new(),
            inbox: Mutex::default(),
            to_read: Notify::new(),
        })
    }

    pub fn send_head(&self, status: u16, fields: Fields) {
        lock(&self.outbox).head = Some((status, fields));
        self.to_write.notify_one();
    }

    /// Copies the bytes. False if the peer does not keep up: then `Drained` follows.
    pub fn write(&self, bytes: &[u8], more: bool) -> bool {
        let mut outbox = lock(&self.outbox);
        let unsent = &self.engine.unsent;
        // With this write it may have more than its share: writes are of 64 KiB, and one at a time would not do.
        if !has_room(outbox.data.len(), unsent) {
            outbox.full = true;
        }
        outbox.data.extend_from_slice(bytes);
        unsent.fetch_add(bytes.len(), Ordering::Relaxed);
        let full = outbox.full;
        drop(outbox);
        if !more {
            self.to_write.notify_one();
        }
        !full
    }

    pub fn finish(&self, trailers: Fields) {
        lock(&self.outbox).end = Some(trailers);
        self.to_write.notify_one();
    }

    /// Cuts both directions.
    pub fn reset(&self, code: u64) {
        lock(&self.outbox).reset.get_or_insert(code);
        self.to_write.notify_one();
        self.stop_reading(code);
    }

    pub fn stop_reading(&self, code: u64) {
        lock(&self.inbox).stop.get_or_insert(code);
        self.to_read.notify_one();
    }

    pub fn pause(&self) {
        lock(&self.inbox).paused = true;
    }

    pub fn resume(&self) {
        let mut inbox = lock(&self.inbox);
        inbox.paused = false;
        self.tell(&mut inbox);
    }

    fn tell(&self, inbox: &mut Inbox) {
        if inbox.told || inbox.paused || (inbox.data.is_empty() && inbox.end.is_none()) {
            return;
        }
        inbox.told = true;
        self.engine.push(Event::Readable { stream: self.id });
    }

    /// Copies what has come, as much of it as there is room for: `Readable` follows for the rest. Nothing while
    /// JavaScript has paused.
    pub fn take(&self, into: &mut [u8]) -> Option<Taken> {
        let mut inbox = lock(&self.inbox);
        inbox.told = false;
        if inbox.paused {
            return None;
        }
        if inbox.full {
            inbox.full = false;
            self.to_read.notify_one();
        }
        let length = inbox.data.len().min(into.len());
        into[..length].copy_from_slice(&inbox.data[..length]);
        self.engine.unread.fetch_sub(length, Ordering::Relaxed);
        if length < inbox.data.len() {
            inbox.data.advance(length);
            self.tell(&mut inbox);
            return Some(Taken { length, end: None });
        }
        // A stream that is idle holds no memory.
        inbox.data = BytesMut::new();
        Some(Taken {
            length,
            end: inbox.end.take(),
        })
    }

    /// The head of a response has come.
    pub fn head(&self, status: u16, fields: Fields) {
        self.engine.push(Event::Head {
            stream: self.id,
            status,
            fields,
        });
    }

    pub fn broken(&self, end: End) {
        self.engine.push(Event::Broken {
            stream: self.id,
            end,
        });
    }

    /// Ends with the code that the reader is to stop with.
    pub async fn stopped(&self) -> u64 {
        loop {
            if let Some(code) = lock(&self.inbox).stop {
                return code;
            }
            self.to_read.notified().await;
        }
    }

    /// Waits while JavaScript has enough to read.
    async fn room(&self) -> Result<(), u64> {
        loop {
            {
                let mut inbox = lock(&self.inbox);
                if let Some(code) = inbox.stop {
                    return Err(code);
                }
                if has_room(inbox.data.len(), &self.engine.unread) {
                    return Ok(());
                }
                // Until some of this stream is taken: then it is below its share.
                inbox.full = true;
            }
            self.to_read.notified().await;
        }
    }

    /// Ends with the code that JavaScript resets with. Takes the wakes of the writer, which is to look again.
    pub async fn was_reset(&self) -> u64 {
        loop {
            if let Some(code) = lock(&self.outbox).reset {
                return code;
            }
            self.to_write.notified().await;
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let inbox = self.inbox.get_mut();
        let left = inbox.unwrap_or_else(PoisonError::into_inner).data.len();
        self.engine.unread.fetch_sub(left, Ordering::Relaxed);
        let outbox = self.outbox.get_mut();
        let left = outbox.unwrap_or_else(PoisonError::into_inner).data.len();
        self.engine.unsent.fetch_sub(left, Ordering::Relaxed);
    }
}

/// Tells JavaScript of a task that has panicked.
pub struct Guard {
    stream: Arc<Stream>,
    armed: bool,
}

impl Guard {
    pub fn new(stream: &Arc<Stream>) -> Self {
        Self {
            stream: stream.clone(),
            armed: true,
        }
    }

    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.armed {
            let code = Code::H3_INTERNAL_ERROR.value();
            self.stream.reset(code);
            self.stream
                .broken(End::Local(code, "internal error".to_string()));
        }
    }
}

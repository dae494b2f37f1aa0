//! WebTransport over HTTP/3 (draft-ietf-webtrans-http3): which stream belongs to which session, and datagrams. A
//! session is the request that opened it; its end, and the capsules on it, are JavaScript's to tell.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;

use crate::engine::{Engine, Event, lock};
use crate::incoming::Opened;
use crate::integer;
use crate::quic::shared::varint as code_of;
use crate::server::Counted;
use crate::session_stream::{BUFFERED_STREAM_REJECTED, SESSION_GONE, exchange, to_wire};

/// Streams of one connection that wait for their session: they may overtake its request.
const MAX_EARLY: usize = 16;

/// Datagrams of one session that wait for JavaScript. When there are more, the oldest is forgotten.
const MAX_DATAGRAMS: usize = 256;

/// The sessions of one connection.
pub struct Sessions {
    engine: Arc<Engine>,
    conn: quinn::Connection,
    table: Mutex<Table>,
    patience: Duration,
}

#[derive(Default)]
struct Table {
    open: HashMap<u64, Arc<Session>>,
    early: Vec<Early>,
    next: u64,
}

struct Early {
    number: u64,
    session: u64,
    opened: Opened,
    counted: Counted,
    slot: OwnedSemaphorePermit,
}

/// One session, by the number that JavaScript knows its request by.
pub struct Session {
    id: u32,
    conn: quinn::Connection,
    engine: Arc<Engine>,
    prefix: Vec<u8>,
    inbox: Mutex<Datagrams>,
}

#[derive(Default)]
struct Datagrams {
    waiting: VecDeque<Bytes>,
    told: bool,
}

impl Sessions {
    pub fn new(engine: Arc<Engine>, conn: quinn::Connection, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            engine,
            conn,
            table: Mutex::default(),
            patience,
        })
    }

    /// The request on `stream`, which JavaScript knows by `id`, asks for a session.
    pub fn open(self: &Arc<Self>, stream: u64, id: u32) -> OpenSession {
        let mut prefix = Vec::new();
        integer::write(stream / 4, &mut prefix);
        let session = Arc::new(Session {
            id,
            conn: self.conn.clone(),
            engine: self.engine.clone(),
            prefix,
            inbox: Mutex::default(),
        });
        self.engine.add_session(id, session.clone());
        let early = {
            let mut table = lock(&self.table);
            table.open.insert(stream, session.clone());
            let waiting = std::mem::take(&mut table.early);
            let (early, others) = waiting
                .into_iter()
                .partition(|early| early.session == stream);
            table.early = others;
            early
        };
        for Early {
            opened,
            counted,
            slot,
            ..
        } in early
        {
            self.begin(&session, opened, counted, slot);
        }
        OpenSession {
            sessions: self.clone(),
            stream,
            id,
        }
    }

    /// A stream of a session has come.
    pub fn stream(
        self: &Arc<Self>,
        session: u64,
        opened: Opened,
        counted: Counted,
        slot: OwnedSemaphorePermit,
    ) {
        let mut table = lock(&self.table);
        if let Some(open) = table.open.get(&session).cloned() {
            drop(table);
            self.begin(&open, opened, counted, slot);
            return;
        }
        if table.early.len() >= MAX_EARLY {
            drop(table);
            reject(opened, BUFFERED_STREAM_REJECTED);
            return;
        }
        let number = table.next;
        table.next += 1;
        table.early.push(Early {
            number,
            session,
            opened,
            counted,
            slot,
        });
        drop(table);
        let sessions = self.clone();
        tokio::spawn(async move {
            sleep(sessions.patience).await;
            let mut table = lock(&sessions.table);
            let at = table.early.iter().position(|early| early.number == number);
            let late = at.map(|at| table.early.swap_remove(at));
            drop(table);
            if let Some(late) = late {
                reject(late.opened, SESSION_GONE);
            }
        });
    }

    fn begin(
        &self,
        session: &Session,
        opened: Opened,
        counted: Counted,
        slot: OwnedSemaphorePermit,
    ) {
        let stream = self.engine.add(true, Some(slot));
        self.engine.push(Event::SessionStream {
            session: session.id,
            stream: stream.id,
        });
        tokio::spawn(async move {
            exchange(stream, opened).await;
            drop(counted);
        });
    }

    /// The connection is over: nothing waits any more.
    pub fn close(&self) {
        let early = std::mem::take(&mut lock(&self.table).early);
        drop(early);
    }

    /// Hands datagrams to their sessions until the connection ends.
    pub async fn datagrams(self: Arc<Self>) {
        while let Ok(mut datagram) = self.conn.read_datagram().await {
            let Some((quarter, length)) = integer::read(&datagram) else {
                continue;
            };
            let session = quarter
                .checked_mul(4)
                .and_then(|stream| lock(&self.table).open.get(&stream).cloned());
            if let Some(session) = session {
                datagram.advance(length);
                session.arrived(datagram);
            }
        }
    }
}

/// Ends the session when its request is over.
pub struct OpenSession {
    sessions: Arc<Sessions>,
    stream: u64,
    id: u32,
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        lock(&self.sessions.table).open.remove(&self.stream);
        self.sessions.engine.remove_session(self.id);
    }
}

impl Session {
    fn arrived(&self, datagram: Bytes) {
        let mut inbox = lock(&self.inbox);
        if inbox.waiting.len() == MAX_DATAGRAMS {
            inbox.waiting.pop_front();
        }
        inbox.waiting.push_back(datagram);
        if !std::mem::replace(&mut inbox.told, true) {
            self.engine.push(Event::Datagrams { session: self.id });
        }
    }

    pub fn take(&self) -> Vec<Bytes> {
        let mut inbox = lock(&self.inbox);
        inbox.told = false;
        inbox.waiting.drain(..).collect()
    }

    /// The last that has come, if it has not been taken.
    pub fn newest(&self) -> Option<Bytes> {
        lock(&self.inbox).waiting.back().cloned()
    }

    /// False if it cannot be sent: it is too large, or the connection is over.
    pub fn send(&self, payload: &[u8]) -> bool {
        let mut datagram = self.prefix.clone();
        datagram.extend_from_slice(payload);
        self.conn.send_datagram(datagram.into()).is_ok()
    }

    /// The largest payload that fits now; 0 if the peer takes none.
    pub fn max_datagram(&self) -> usize {
        let max = self.conn.max_datagram_size().unwrap_or(0);
        max.saturating_sub(self.prefix.len())
    }
}

fn reject(mut opened: Opened, code: u64) {
    let _ = opened.send.reset(code_of(code));
    let _ = opened.recv.stop(code_of(code));
}

/// Of a stream that comes when its connection takes no more.
pub fn refuse(opened: Opened, code: h3::error::Code) {
    reject(opened, to_wire(code.value()));
}

/// Whether a stream's number can be a session's.
pub fn is_session(stream: u64) -> bool {
    // Opened by the client, and bidirectional: RFC 9000, section 2.1.
    stream.is_multiple_of(4)
}

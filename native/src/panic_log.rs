//! Panics of the whole process: how many there were, and what they said, for the
//! log. A panic ends the stream, or the connection, in whose task it happens.

use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::engine::{Engine, Event, lock};

pub static PANICS: AtomicU64 = AtomicU64::new(0);

/// Panics that have not been handed out yet; more are counted only.
const WAITING: usize = 64;

/// Bytes of a panic's message.
const LONGEST: usize = 1000;

static SENDER: OnceLock<Sender<String>> = OnceLock::new();

/// Whose JavaScript is to be handed what has happened.
static ENGINES: Mutex<Vec<Weak<Engine>>> = Mutex::new(Vec::new());

pub fn add(engine: &Arc<Engine>) {
    let mut engines = lock(&ENGINES);
    engines.retain(|engine| engine.strong_count() > 0);
    engines.push(Arc::downgrade(engine));
}

/// Takes the place of Rust's hook, which writes to standard error. Hands panics out on the runtime that it is called
/// in.
pub fn install() {
    let (sender, receiver) = mpsc::channel(WAITING);
    if SENDER.set(sender).is_ok() {
        tokio::spawn(hand_out(receiver));
    }
    // It takes no lock: what panics may hold it.
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        if let Some(sender) = SENDER.get() {
            let _ = sender.try_send(describe(info));
        }
    }));
}

async fn hand_out(mut panics: Receiver<String>) {
    while let Some(message) = panics.recv().await {
        let engines: Vec<Arc<Engine>> = lock(&ENGINES).iter().filter_map(Weak::upgrade).collect();
        for engine in engines {
            engine.push(Event::Panicked {
                message: message.clone(),
            });
        }
    }
}

/// Such as `index out of bounds: the len is 0 but the index is 1 (sluice/native/src/frames.rs:12:5)`.
fn describe(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    let place = info
        .location()
        .map_or("nowhere".to_string(), ToString::to_string);
    format!("{} ({place})", cut(message, LONGEST))
}

/// The text, cut between two characters.
fn cut(text: &str, longest: usize) -> &str {
    let mut end = longest.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

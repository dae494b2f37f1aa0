//! HTTP/3 for Node: listen, connect, exchange. QUIC and HTTP/3 run on threads of
//! their own (`engine.rs`); JavaScript is woken when there are events, and takes
//! all of them at once.

// What tests share names the crate from without.
#[cfg(test)]
extern crate self as sluice_native;

pub mod binding;
pub mod client;
pub mod control;
pub mod end;
pub mod engine;
pub mod fields;
pub mod frames;
pub mod halves;
pub mod headers;
pub mod incoming;
pub mod intake;
pub mod integer;
pub mod liveness;
pub mod message;
pub mod panic_log;
#[cfg(test)]
mod panics;
pub mod qpack;
pub mod quic;
pub mod resolve;
pub mod rules;
pub mod running;
pub mod secret;
pub mod server;
pub mod session_stream;
pub mod settings;
pub mod stream;
pub mod tls;
pub mod transport;
pub mod webtransport;

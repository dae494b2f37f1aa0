//! Reads the frames of a peer's stream beneath h3. What RFC 9114 forbids, and h3
//! lets pass, ends the connection here; what means nothing is taken out, because
//! h3 holds a frame until it is whole, and takes an empty DATA frame for the end
//! of the body. A frame that is cut off by the end of its stream is found here too.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use h3::error::Code;

use crate::integer::Integer;
use crate::qpack::Instructions;
use crate::rules::{Fault, Rules, Side, fault, frame, is_ignored, stream};

#[derive(Debug)]
enum At {
    StreamType,
    FrameType,
    Length {
        kind: u64,
    },
    Payload {
        kind: u64,
        left: u64,
    },
    /// QPACK's.
    Instructions(Instructions),
    /// A stream without frames, or without any that end.
    Unframed,
}

#[derive(Debug)]
pub struct FrameFilter {
    side: Side,
    rules: Rules,
    at: At,
    integer: Integer,
    /// Of a frame's type and length, what has come in earlier chunks: until it is known whether h3 is to see them.
    head: Vec<u8>,
    /// Of the payload of a frame that is looked into, what has come in earlier chunks.
    payload: BytesMut,
    max_held: u64,
    passed: VecDeque<Bytes>,
    /// Bytes of DATA that have been passed on.
    pub data: u64,
    /// A field section breaks the rules of RFC 9114, section 4.3: an error of the stream alone.
    pub malformed: bool,
    /// A unidirectional stream of WebTransport, which h3 would keep for somebody to take.
    pub of_webtransport: bool,
}

impl FrameFilter {
    /// Of a request's stream. `max_held`: how large frames may be that have to be held.
    pub fn bidi(side: Side, max_held: u64) -> Self {
        Self::new(side, At::FrameType, max_held)
    }

    pub fn uni(side: Side, max_held: u64) -> Self {
        Self::new(side, At::StreamType, max_held)
    }

    fn new(side: Side, at: At, max_held: u64) -> Self {
        Self {
            side,
            rules: Rules::of_message(side),
            at,
            integer: Integer::default(),
            head: Vec::new(),
            payload: BytesMut::new(),
            max_held,
            passed: VecDeque::new(),
            data: 0,
            malformed: false,
            of_webtransport: false,
        }
    }

    /// What h3 is to see next.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.passed.pop_front()
    }

    /// What goes on reading a stream of QPACK's, once it is known to be one. The rest passes nothing but its type.
    pub fn split_qpack(&mut self) -> Option<Self> {
        if !matches!(self.at, At::Instructions(_)) {
            return None;
        }
        let at = std::mem::replace(&mut self.at, At::Unframed);
        Some(Self::new(self.side, at, self.max_held))
    }

    pub fn bytes(&mut self, chunk: &Bytes) -> Result<(), Fault> {
        let mut at = 0;
        // Bytes from here on have neither been passed on nor dropped.
        let mut from = 0;
        // Where the frame's type began, or the chunk if that was earlier.
        let mut head = 0;
        while at < chunk.len() {
            match &mut self.at {
                At::Unframed => at = chunk.len(),
                At::Instructions(instructions) => {
                    instructions.bytes(&chunk[at..])?;
                    at = chunk.len();
                }
                At::Payload { kind, left } => {
                    let taken = usize::try_from(*left)
                        .map_or(chunk.len() - at, |left| left.min(chunk.len() - at));
                    let (kind, left) = (*kind, *left - taken as u64);
                    self.payload(kind, left, &chunk[at..at + taken])?;
                    at += taken;
                    if is_ignored(kind) {
                        from = at;
                    }
                    self.at = after(kind, left);
                }
                state => {
                    if matches!(state, At::FrameType) && self.integer.is_new() {
                        head = at;
                    }
                    let Some(value) = self.integer.read(chunk, &mut at) else {
                        break;
                    };
                    if self.integer_is(value)? {
                        self.pass_head();
                    } else if !matches!(self.at, At::Length { .. }) {
                        self.head.clear();
                        self.pass(chunk.slice(from..head));
                        from = at;
                    }
                }
            }
        }
        let undecided = matches!(self.at, At::Length { .. })
            || (matches!(self.at, At::FrameType) && !self.integer.is_new());
        if undecided {
            self.pass(chunk.slice(from..head.max(from)));
            self.head.extend_from_slice(&chunk[head.max(from)..]);
        } else {
            self.pass(chunk.slice(from..));
        }
        Ok(())
    }

    pub fn end(&self) -> Result<(), Fault> {
        match self.at {
            At::FrameType if self.integer.is_new() => Ok(()),
            At::FrameType | At::Length { .. } | At::Payload { .. } => {
                fault(Code::H3_FRAME_ERROR, "the stream ended within a frame")
            }
            At::Instructions(_) => fault(
                Code::H3_CLOSED_CRITICAL_STREAM,
                "a stream of QPACK was closed",
            ),
            At::StreamType | At::Unframed => Ok(()),
        }
    }

    fn pass(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.passed.push_back(bytes);
        }
    }

    fn pass_head(&mut self) {
        if !self.head.is_empty() {
            let head = std::mem::take(&mut self.head);
            self.pass(head.into());
        }
    }

    /// True if what it is the head of is for h3; false if not, or not known yet.
    fn integer_is(&mut self, value: u64) -> Result<bool, Fault> {
        match self.at {
            At::StreamType => {
                self.stream_is(value)?;
                Ok(true)
            }
            At::FrameType => {
                self.rules.frame_is(value)?;
                #[cfg(test)]
                assert_ne!(value, tests::PANIC);
                if value == frame::WEBTRANSPORT_BIDI {
                    self.at = At::Unframed;
                    return Ok(true);
                }
                self.at = At::Length { kind: value };
                Ok(false)
            }
            At::Length { kind } => {
                if kind != frame::DATA && !is_ignored(kind) && value > self.max_held {
                    return fault(Code::H3_EXCESSIVE_LOAD, "the frame is too large");
                }
                self.at = after(kind, value);
                if value == 0 && kind != frame::DATA {
                    self.payload(kind, 0, &[])?;
                }
                let empty = kind == frame::DATA && value == 0;
                Ok(!empty && !is_ignored(kind))
            }
            At::Payload { .. } | At::Instructions(_) | At::Unframed => Ok(true),
        }
    }

    /// A part of a payload, after which `left` bytes of it are still to come.
    fn payload(&mut self, kind: u64, left: u64, part: &[u8]) -> Result<(), Fault> {
        if kind == frame::DATA {
            self.data += part.len() as u64;
            return Ok(());
        }
        if is_ignored(kind) {
            return Ok(());
        }
        if left > 0 || !self.payload.is_empty() {
            self.payload.extend_from_slice(part);
        }
        if left > 0 {
            return Ok(());
        }
        let held = self.payload.split();
        let whole = if held.is_empty() { part } else { &held };
        if !self.rules.payload(kind, whole)? {
            self.malformed = true;
        }
        Ok(())
    }

    fn stream_is(&mut self, kind: u64) -> Result<(), Fault> {
        self.of_webtransport = kind == stream::WEBTRANSPORT_UNI;
        self.at = match (kind, self.side) {
            (stream::CONTROL, side) => {
                self.rules = Rules::of_control(side);
                At::FrameType
            }
            (stream::PUSH, Side::Server) => {
                return fault(Code::H3_STREAM_CREATION_ERROR, "clients do not push");
            }
            (stream::PUSH, Side::Client) => {
                return fault(Code::H3_ID_ERROR, "no push was allowed");
            }
            (stream::QPACK_ENCODER, _) => At::Instructions(Instructions::of_encoder()),
            (stream::QPACK_DECODER, _) => At::Instructions(Instructions::of_decoder()),
            _ => At::Unframed,
        };
        Ok(())
    }
}

fn after(kind: u64, left: u64) -> At {
    if left == 0 {
        At::FrameType
    } else {
        At::Payload { kind, left }
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
pub mod tests;

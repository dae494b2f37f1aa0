//! Which streams and frames a peer may send, and with what in them.

use h3::error::Code;

use crate::control::Control;
use crate::fields::{self, Section, SectionFault};

/// Who reads the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Server,
    Client,
}

/// An error of the connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: Code,
    pub reason: &'static str,
}

pub fn fault<T>(code: Code, reason: &'static str) -> Result<T, Fault> {
    Err(Fault { code, reason })
}

/// RFC 9114, sections 7.2 and 11.2.1.
pub mod frame {
    pub const DATA: u64 = 0x0;
    pub const HEADERS: u64 = 0x1;
    pub const CANCEL_PUSH: u64 = 0x3;
    pub const SETTINGS: u64 = 0x4;
    pub const PUSH_PROMISE: u64 = 0x5;
    pub const GOAWAY: u64 = 0x7;
    pub const MAX_PUSH_ID: u64 = 0xd;
    /// Has no length: the rest of the stream belongs to a session.
    pub const WEBTRANSPORT_BIDI: u64 = 0x41;

    /// Those that HTTP/2 has and HTTP/3 must not.
    pub fn is_reserved(kind: u64) -> bool {
        matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
    }
}

/// RFC 9114, section 6.2; RFC 9204, section 4.2.
pub mod stream {
    pub const CONTROL: u64 = 0x0;
    pub const PUSH: u64 = 0x1;
    pub const QPACK_ENCODER: u64 = 0x2;
    pub const QPACK_DECODER: u64 = 0x3;
    pub const WEBTRANSPORT_UNI: u64 = 0x54;
}

/// What is not known is ignored: RFC 9114, section 9.
pub fn is_ignored(kind: u64) -> bool {
    !matches!(
        kind,
        frame::DATA
            | frame::HEADERS
            | frame::CANCEL_PUSH
            | frame::SETTINGS
            | frame::PUSH_PROMISE
            | frame::GOAWAY
            | frame::MAX_PUSH_ID
    )
}

/// Of one stream that has frames.
#[derive(Debug)]
pub enum Rules {
    /// A request on its way in, or a response.
    Message {
        side: Side,
        /// Field sections that have come.
        sections: u32,
    },
    Control(Control),
}

impl Rules {
    pub fn of_message(side: Side) -> Self {
        Self::Message { side, sections: 0 }
    }

    pub fn of_control(side: Side) -> Self {
        Self::Control(Control::new(side))
    }

    /// Whether a frame of this type may be the next one.
    pub fn frame_is(&mut self, kind: u64) -> Result<(), Fault> {
        if frame::is_reserved(kind) {
            return fault(Code::H3_FRAME_UNEXPECTED, "a frame of HTTP/2");
        }
        let (side, sections) = match self {
            Self::Control(control) => return control.frame_is(kind),
            Self::Message { side, sections } => (*side, sections),
        };
        // An interim response is a section too: only of requests is it known that they have two at most.
        let over = side == Side::Server && *sections == 2;
        match kind {
            frame::HEADERS if !over => *sections += 1,
            frame::DATA if *sections > 0 && !over => {}
            frame::WEBTRANSPORT_BIDI if *sections == 0 => {}
            frame::PUSH_PROMISE if side == Side::Client => {
                return fault(Code::H3_ID_ERROR, "no push was allowed");
            }
            frame::WEBTRANSPORT_BIDI => return unexpected(),
            _ if is_ignored(kind) => {}
            _ => return unexpected(),
        }
        Ok(())
    }

    /// The whole payload of a frame that is neither DATA nor ignored. False if its fields break the rules for
    /// messages, which is an error of the stream alone.
    pub fn payload(&mut self, kind: u64, payload: &[u8]) -> Result<bool, Fault> {
        let section = match self {
            Self::Control(control) => return control.payload(kind, payload).map(|()| true),
            Self::Message {
                side: Side::Client, ..
            } => Section::Response,
            Self::Message { sections: 1, .. } => Section::Request,
            Self::Message { .. } => Section::Trailers,
        };
        match fields::check(payload, section) {
            Ok(()) => Ok(true),
            Err(SectionFault::Malformed) => Ok(false),
            Err(SectionFault::Undecodable) => fault(
                Code::QPACK_DECOMPRESSION_FAILED,
                "the fields refer to a dynamic table",
            ),
        }
    }
}

fn unexpected() -> Result<(), Fault> {
    fault(
        Code::H3_FRAME_UNEXPECTED,
        "the frame is not allowed here on the stream of a request",
    )
}

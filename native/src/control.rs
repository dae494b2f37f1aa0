//! The frames of a control stream: RFC 9114, sections 6.2.1 and 7.2.

use std::collections::HashSet;

use h3::error::Code;

use crate::integer::{self, Integer};
use crate::rules::{Fault, Side, fault, frame, is_ignored};

/// RFC 9114, section 7.2.4.1: of HTTP/2, without a meaning here.
const RESERVED_SETTINGS: [u64; 5] = [0x0, 0x2, 0x3, 0x4, 0x5];

/// Extended CONNECT (RFC 9220, section 3) and datagrams (RFC 9297, section 2.1.1): on or off.
const SWITCHES: [u64; 2] = [0x8, 0x33];

#[derive(Debug)]
pub struct Control {
    side: Side,
    settings: bool,
    max_push_id: Option<u64>,
}

impl Control {
    pub fn new(side: Side) -> Self {
        Self {
            side,
            settings: false,
            max_push_id: None,
        }
    }

    /// Whether a frame of this type may be the next one.
    pub fn frame_is(&mut self, kind: u64) -> Result<(), Fault> {
        if !self.settings {
            if kind != frame::SETTINGS {
                return fault(Code::H3_MISSING_SETTINGS, "SETTINGS come first");
            }
            self.settings = true;
            return Ok(());
        }
        match kind {
            frame::GOAWAY | frame::CANCEL_PUSH => Ok(()),
            frame::MAX_PUSH_ID if self.side == Side::Server => Ok(()),
            frame::WEBTRANSPORT_BIDI => unexpected(),
            _ if is_ignored(kind) => Ok(()),
            _ => unexpected(),
        }
    }

    pub fn payload(&mut self, kind: u64, payload: &[u8]) -> Result<(), Fault> {
        if kind == frame::SETTINGS {
            return settings(payload);
        }
        let Some(id) = integer::only(payload) else {
            return fault(Code::H3_FRAME_ERROR, "the frame has one number");
        };
        match kind {
            // Neither side of ours ever promises a push, nor allows one.
            frame::CANCEL_PUSH => fault(Code::H3_ID_ERROR, "there is no such push"),
            frame::MAX_PUSH_ID => {
                if self.max_push_id.is_some_and(|before| id < before) {
                    return fault(Code::H3_ID_ERROR, "the maximum push ID was larger before");
                }
                self.max_push_id = Some(id);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn settings(payload: &[u8]) -> Result<(), Fault> {
    let mut seen = HashSet::new();
    let mut at = 0;
    while at < payload.len() {
        let id = Integer::default().read(payload, &mut at);
        let value = Integer::default().read(payload, &mut at);
        let (Some(id), Some(value)) = (id, value) else {
            return fault(Code::H3_FRAME_ERROR, "SETTINGS end within a setting");
        };
        if RESERVED_SETTINGS.contains(&id) {
            return fault(Code::H3_SETTINGS_ERROR, "a setting of HTTP/2");
        }
        if SWITCHES.contains(&id) && value > 1 {
            return fault(Code::H3_SETTINGS_ERROR, "the setting is 0 or 1");
        }
        if !seen.insert(id) {
            return fault(Code::H3_SETTINGS_ERROR, "the setting is there twice");
        }
    }
    Ok(())
}

fn unexpected() -> Result<(), Fault> {
    fault(
        Code::H3_FRAME_UNEXPECTED,
        "the frame is not allowed on the control stream",
    )
}

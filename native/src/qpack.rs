//! What a peer may send on QPACK's streams to a side that allows no dynamic table
//! and uses none: RFC 9204, sections 3.2.3, 4.3 and 4.4.

use h3::error::Code;

use crate::rules::{Fault, fault};

#[derive(Debug)]
pub enum Instructions {
    Encoder,
    /// With what a number still needs, if one is under way.
    Decoder {
        /// Bytes of it that have come after its first.
        continued: Option<u8>,
    },
}

/// Set Dynamic Table Capacity to zero: all that fits into a table of size zero.
const CAPACITY_ZERO: u8 = 0x20;

/// A number of 62 bits in continuations of 7 bits each.
const MAX_CONTINUED: u8 = 9;

impl Instructions {
    pub fn of_encoder() -> Self {
        Self::Encoder
    }

    pub fn of_decoder() -> Self {
        Self::Decoder { continued: None }
    }

    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match self {
            Self::Encoder if bytes.iter().all(|&byte| byte == CAPACITY_ZERO) => Ok(()),
            Self::Encoder => fault(
                Code::QPACK_ENCODER_STREAM_ERROR,
                "the dynamic table has no room",
            ),
            Self::Decoder { continued } => bytes.iter().try_for_each(|&byte| {
                *continued = after(*continued, byte)?;
                Ok(())
            }),
        }
    }
}

fn after(continued: Option<u8>, byte: u8) -> Result<Option<u8>, Fault> {
    match continued {
        // A stream is cancelled, whose number has 6 bits in the first byte.
        None if byte >> 6 == 0b01 => Ok((byte & 0x3f == 0x3f).then_some(0)),
        None => fault(
            Code::QPACK_DECODER_STREAM_ERROR,
            "there is nothing to acknowledge",
        ),
        Some(MAX_CONTINUED) => fault(
            Code::QPACK_DECODER_STREAM_ERROR,
            "the stream's number is too large",
        ),
        Some(count) => Ok((byte & 0x80 != 0).then_some(count + 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_needs_no_table() {
        let mut encoder = Instructions::of_encoder();
        assert_eq!(encoder.bytes(&[0x20, 0x20]), Ok(()));
        assert!(encoder.bytes(&[0x3f, 0x01]).is_err());
        let mut decoder = Instructions::of_decoder();
        for byte in [0x40, 0x7e, 0x7f, 0xff, 0x01, 0x44] {
            assert_eq!(decoder.bytes(&[byte]), Ok(()), "{byte:#x}");
        }
        assert!(decoder.bytes(&[0x80]).is_err());
        assert!(Instructions::of_decoder().bytes(&[0x01]).is_err());
        let mut endless = Instructions::of_decoder();
        assert!(endless.bytes(&[0x7f]).is_ok());
        assert!(endless.bytes(&[0xff; 20]).is_err());
    }
}

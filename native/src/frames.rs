//! Watches the frame boundaries of a stream beside h3, which buffers a frame
//! that is not DATA until it is whole, however large it says it is, and takes a
//! DATA frame that is cut off by the end of the stream for a whole one.

/// What is wrong with a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// A frame that has to be held in memory is larger than allowed.
    TooLarge,
    /// The stream has ended within a frame.
    Truncated,
}

#[derive(Debug)]
enum At {
    /// The type of a unidirectional stream.
    StreamType,
    FrameType,
    Length {
        data: bool,
    },
    Payload {
        left: u64,
    },
    /// A stream without frames, or without any that end.
    Unframed,
}

const DATA: u64 = 0x0;
const CONTROL_STREAM: u64 = 0x0;
const WEBTRANSPORT_BIDI: u64 = 0x41;

#[derive(Debug)]
pub struct FrameWatch {
    at: At,
    value: u64,
    /// Bytes of the variable-length integer that are still to come; none has come if it is zero.
    more: u8,
    max_held: u64,
    /// Bytes of DATA that have come.
    pub data: u64,
    in_data: bool,
}

impl FrameWatch {
    /// Of a request stream.
    pub fn bidi(max_held: u64) -> Self {
        Self::new(At::FrameType, max_held)
    }

    pub fn uni(max_held: u64) -> Self {
        Self::new(At::StreamType, max_held)
    }

    fn new(at: At, max_held: u64) -> Self {
        Self {
            at,
            value: 0,
            more: 0,
            max_held,
            data: 0,
            in_data: false,
        }
    }

    pub fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            match self.at {
                At::Unframed => return Ok(()),
                At::Payload { left } => {
                    let taken = left.min(bytes.len() as u64);
                    bytes = &bytes[taken as usize..];
                    if self.in_data {
                        self.data += taken;
                    }
                    self.payload(left - taken);
                }
                _ => {
                    let Some(value) = self.integer(&mut bytes) else {
                        return Ok(());
                    };
                    self.integer_is(value)?;
                }
            }
        }
        Ok(())
    }

    pub fn end(&self) -> Result<(), Fault> {
        match self.at {
            At::FrameType if self.more > 0 => Err(Fault::Truncated),
            At::Length { .. } | At::Payload { .. } => Err(Fault::Truncated),
            _ => Ok(()),
        }
    }

    fn integer_is(&mut self, value: u64) -> Result<(), Fault> {
        match self.at {
            At::StreamType => {
                self.at = if value == CONTROL_STREAM {
                    At::FrameType
                } else {
                    At::Unframed
                };
            }
            At::FrameType => {
                self.at = if value == WEBTRANSPORT_BIDI {
                    At::Unframed
                } else {
                    At::Length {
                        data: value == DATA,
                    }
                };
            }
            At::Length { data } => {
                if !data && value > self.max_held {
                    return Err(Fault::TooLarge);
                }
                self.in_data = data;
                self.payload(value);
            }
            At::Payload { .. } | At::Unframed => {}
        }
        Ok(())
    }

    fn payload(&mut self, left: u64) {
        self.at = if left == 0 {
            At::FrameType
        } else {
            At::Payload { left }
        };
    }

    /// RFC 9000, section 16.
    fn integer(&mut self, bytes: &mut &[u8]) -> Option<u64> {
        while let [first, rest @ ..] = *bytes {
            *bytes = rest;
            if self.more == 0 {
                self.more = 1 << (first >> 6);
                self.value = u64::from(first & 0x3f);
            } else {
                self.value = (self.value << 8) | u64::from(*first);
            }
            self.more -= 1;
            if self.more == 0 {
                return Some(self.value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HEADERS of 3 bytes, DATA of 5, in every possible cut.
    const WHOLE: [u8; 12] = [1, 3, 9, 9, 9, 0, 5, 1, 2, 3, 4, 5];

    #[test]
    fn follows_frames_however_they_are_cut() {
        for cut in 0..=WHOLE.len() {
            let mut watch = FrameWatch::bidi(16);
            assert_eq!(watch.bytes(&WHOLE[..cut]), Ok(()));
            let whole = matches!(cut, 0 | 5 | 12);
            assert_eq!(watch.end().is_ok(), whole, "cut at {cut}");
            assert_eq!(watch.bytes(&WHOLE[cut..]), Ok(()));
            assert_eq!(watch.end(), Ok(()));
            assert_eq!(watch.data, 5);
        }
    }

    #[test]
    fn refuses_what_would_be_held() {
        let mut watch = FrameWatch::bidi(16);
        // HEADERS of 0x4011 & 0x3fff = 17 bytes.
        assert_eq!(watch.bytes(&[1, 0x40, 17]), Err(Fault::TooLarge));
        let mut data = FrameWatch::bidi(16);
        assert_eq!(data.bytes(&[0, 0xc0, 0, 0, 0, 0, 0, 0, 99]), Ok(()));
        assert_eq!(data.end(), Err(Fault::Truncated));
    }

    #[test]
    fn reads_frames_of_control_streams_alone() {
        let mut control = FrameWatch::uni(16);
        assert_eq!(control.bytes(&[0, 4, 17]), Err(Fault::TooLarge));
        let mut encoder = FrameWatch::uni(16);
        assert_eq!(encoder.bytes(&[2, 4, 0xff, 0xff, 0xff]), Ok(()));
        assert_eq!(encoder.end(), Ok(()));
    }
}

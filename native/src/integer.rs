//! Integers of variable length, as QUIC and HTTP/3 write them.

/// RFC 9000, section 16.
#[derive(Debug, Default)]
pub struct Integer {
    value: u64,
    /// Bytes that are still to come; none has come if it is zero.
    more: u8,
}

impl Integer {
    pub fn is_new(&self) -> bool {
        self.more == 0
    }

    pub fn read(&mut self, bytes: &[u8], at: &mut usize) -> Option<u64> {
        while let Some(&byte) = bytes.get(*at) {
            *at += 1;
            if self.more == 0 {
                self.more = 1 << (byte >> 6);
                self.value = u64::from(byte & 0x3f);
            } else {
                self.value = (self.value << 8) | u64::from(byte);
            }
            self.more -= 1;
            if self.more == 0 {
                return Some(self.value);
            }
        }
        None
    }
}

/// The integer that `bytes` begins with, and how many bytes it takes; none if it is not whole.
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut at = 0;
    let value = Integer::default().read(bytes, &mut at)?;
    Some((value, at))
}

/// The integer that these bytes are, if they are one and nothing else.
pub fn only(bytes: &[u8]) -> Option<u64> {
    let mut at = 0;
    let value = Integer::default().read(bytes, &mut at);
    value.filter(|_| at == bytes.len())
}

/// Appends the shortest form.
pub fn write(value: u64, into: &mut Vec<u8>) {
    let bytes = value.to_be_bytes();
    let (length, mark) = match value {
        0..0x40 => (1, 0x00),
        0x40..0x4000 => (2, 0x40),
        0x4000..0x4000_0000 => (4, 0x80),
        _ => (8, 0xc0),
    };
    let at = into.len();
    into.extend_from_slice(&bytes[bytes.len() - length..]);
    into[at] |= mark;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for value in [
            0,
            63,
            64,
            16_383,
            16_384,
            0x3fff_ffff,
            0x4000_0000,
            (1 << 62) - 1,
        ] {
            let mut bytes = Vec::new();
            write(value, &mut bytes);
            for cut in 0..bytes.len() {
                assert_eq!(read(&bytes[..cut]), None);
            }
            assert_eq!(read(&bytes), Some((value, bytes.len())));
        }
    }
}

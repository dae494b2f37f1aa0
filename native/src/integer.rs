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

/// The integer that these bytes are, if they are one and nothing else.
pub fn only(bytes: &[u8]) -> Option<u64> {
    let mut at = 0;
    let value = Integer::default().read(bytes, &mut at);
    value.filter(|_| at == bytes.len())
}

//! Settings that h3 does not know, put into the SETTINGS that it sends.

use bytes::Bytes;

use crate::integer;

const CONTROL_STREAM: u64 = 0x0;
const SETTINGS: u64 = 0x4;

/// What tells each draft of WebTransport that there is WebTransport, besides what h3 says for draft 02. One session
/// on a connection: with more, the later drafts want flow control for each.
pub const WEBTRANSPORT: &[(u64, u64)] = &[
    // SETTINGS_H3_DATAGRAM of draft 04, which is older than RFC 9297: Chromium's first.
    (0x00ff_d277, 1),
    // SETTINGS_WEBTRANSPORT_MAX_SESSIONS of drafts 07 to 12, and of 13 and later.
    (0xc671_706a, 1),
    (0x14e9_cd29, 1),
];

/// The first bytes of a control stream, with settings added; none if they are something else.
pub fn extended(written: &[u8], added: &[(u64, u64)]) -> Option<Bytes> {
    let mut at = 0;
    let mut next = || {
        let (value, length) = integer::read(&written[at..])?;
        at += length;
        Some(value)
    };
    if next()? != CONTROL_STREAM || next()? != SETTINGS {
        return None;
    }
    let length = usize::try_from(next()?).ok()?;
    let (settings, after) = written[at..].split_at_checked(length)?;
    let mut payload = settings.to_vec();
    for (id, value) in added {
        integer::write(*id, &mut payload);
        integer::write(*value, &mut payload);
    }
    let mut bytes = Vec::new();
    integer::write(CONTROL_STREAM, &mut bytes);
    integer::write(SETTINGS, &mut bytes);
    integer::write(payload.len() as u64, &mut bytes);
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(after);
    Some(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_to_settings() {
        // MAX_FIELD_SECTION_SIZE = 63, and a byte that follows.
        let written = [0, 4, 2, 6, 63, 9];
        let bytes = extended(&written, &[(0x33, 1), (0x4000, 2)]).unwrap();
        assert_eq!(
            &bytes[..],
            &[0, 4, 9, 6, 63, 0x33, 1, 0x80, 0, 0x40, 0, 2, 9]
        );
    }

    #[test]
    fn leaves_other_streams_alone() {
        assert_eq!(extended(&[2], WEBTRANSPORT), None);
        assert_eq!(extended(&[0, 7, 1, 0], WEBTRANSPORT), None);
        assert_eq!(extended(&[0, 4, 9, 6], WEBTRANSPORT), None);
    }
}

use bytes::Bytes;
use h3::error::Code;

use super::*;

/// A frame of this type makes who reads it panic (src/panics.rs).
pub const PANIC: u64 = 0x1f * 7 + 0x21;

/// An empty frame that means nothing, HEADERS of 3 bytes, DATA of none, of 5, one that means nothing, DATA of 1.
const STREAM: [u8; 24] = [
    0x21, 0, 1, 3, 0, 0, 0xd1, 0, 0, 0, 5, 1, 2, 3, 4, 5, 0x40, 0x40, 2, 7, 7, 0, 1, 6,
];
const PASSED: [u8; 15] = [1, 3, 0, 0, 0xd1, 0, 5, 1, 2, 3, 4, 5, 0, 1, 6];

fn passed(filter: &mut FrameFilter) -> Vec<u8> {
    std::iter::from_fn(|| filter.pop()).flatten().collect()
}

fn server(bytes: &'static [u8]) -> Result<(), Code> {
    let mut filter = FrameFilter::bidi(Side::Server, 16);
    filter
        .bytes(&Bytes::from_static(bytes))
        .and_then(|()| filter.end())
        .map_err(|fault| fault.code)
}

fn uni(bytes: &'static [u8]) -> Result<(), Code> {
    let mut filter = FrameFilter::uni(Side::Server, 16);
    filter
        .bytes(&Bytes::from_static(bytes))
        .map_err(|fault| fault.code)
}

#[test]
fn passes_on_what_means_something_however_it_is_cut() {
    for first in 0..=STREAM.len() {
        for second in first..=STREAM.len() {
            let mut filter = FrameFilter::bidi(Side::Server, 16);
            let mut seen = Vec::new();
            for piece in [&STREAM[..first], &STREAM[first..second], &STREAM[second..]] {
                assert_eq!(filter.bytes(&Bytes::from_static(piece)), Ok(()));
                seen.extend(passed(&mut filter));
            }
            assert_eq!(seen, PASSED, "cut at {first} and {second}");
            assert_eq!(filter.end(), Ok(()));
            assert_eq!(filter.data, 6);
            assert!(!filter.malformed);
        }
    }
}

#[test]
fn finds_frames_that_are_cut_off() {
    let ends = [0, 2, 7, 9, 16, 21, 24];
    for end in 0..=STREAM.len() {
        let mut filter = FrameFilter::bidi(Side::Server, 16);
        assert_eq!(filter.bytes(&Bytes::from_static(&STREAM[..end])), Ok(()));
        assert_eq!(filter.end().is_ok(), ends.contains(&end), "cut at {end}");
    }
}

#[test]
fn refuses_what_would_be_held() {
    // HEADERS of 17 bytes.
    assert_eq!(server(&[1, 0x40, 17]), Err(Code::H3_EXCESSIVE_LOAD));
    assert_eq!(uni(&[0, 4, 17]), Err(Code::H3_EXCESSIVE_LOAD));
    // What means nothing is not held.
    let mut filter = FrameFilter::bidi(Side::Server, 16);
    let large = Bytes::from_static(&[0x21, 0xc0, 0, 0, 0, 0xff, 0, 0, 99, 1, 1]);
    assert_eq!(filter.bytes(&large), Ok(()));
    assert_eq!(passed(&mut filter), b"");
}

#[test]
fn lets_no_other_frames_pass() {
    for kind in [2, 3, 4, 5, 6, 7, 8, 9, 13] {
        let frame: &'static [u8] = Box::leak(Box::new([1, 3, 0, 0, 0xd1, kind]));
        assert_eq!(server(frame), Err(Code::H3_FRAME_UNEXPECTED), "{kind}");
    }
    assert_eq!(server(&[0]), Err(Code::H3_FRAME_UNEXPECTED));
    let after_trailers = &[1, 3, 0, 0, 0xd1, 1, 3, 0, 0, 0xc2, 0];
    assert_eq!(server(after_trailers), Err(Code::H3_FRAME_UNEXPECTED));
}

#[test]
fn knows_streams() {
    assert_eq!(uni(&[1]), Err(Code::H3_STREAM_CREATION_ERROR));
    assert_eq!(uni(&[0x40, 0x77, 1, 2, 3]), Ok(()));
    assert_eq!(uni(&[0, 0x21]), Err(Code::H3_MISSING_SETTINGS));
    let mut filter = FrameFilter::uni(Side::Server, 16);
    assert_eq!(filter.bytes(&Bytes::from_static(&[2, 0x20])), Ok(()));
    let mut rest = filter.split_qpack().expect("QPACK's");
    assert!(rest.end().is_err());
    assert!(rest.bytes(&Bytes::from_static(&[0x3f])).is_err());
}

//! Frames and fields, written and read by hand.

/// RFC 9000, section 16.
pub fn integer(value: u64) -> Vec<u8> {
    match value {
        0..0x40 => vec![value as u8],
        0x40..0x4000 => (value as u16 | 0x4000).to_be_bytes().to_vec(),
        0x4000..0x4000_0000 => (value as u32 | 0x8000_0000).to_be_bytes().to_vec(),
        _ => (value | 0xc000_0000_0000_0000).to_be_bytes().to_vec(),
    }
}

pub fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    [
        &integer(kind)[..],
        &integer(payload.len() as u64)[..],
        payload,
    ]
    .concat()
}

/// RFC 9204, section 4.1.1.
fn prefixed(flags: u8, bits: u32, value: usize, into: &mut Vec<u8>) {
    let most = (1 << bits) - 1;
    if value < most {
        into.push(flags | value as u8);
        return;
    }
    into.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        into.push((rest % 0x80) as u8 | 0x80);
        rest /= 0x80;
    }
    into.push(rest as u8);
}

/// A field section, all of whose lines are literal.
pub fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = vec![0, 0];
    for (name, value) in fields {
        prefixed(0x20, 3, name.len(), &mut section);
        section.extend_from_slice(name.as_bytes());
        prefixed(0, 7, value.len(), &mut section);
        section.extend_from_slice(value.as_bytes());
    }
    section
}

pub fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(1, &section(fields))
}

pub const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/"),
];

/// With more fields.
pub fn get(more: &[(&str, &str)]) -> Vec<u8> {
    headers(&[&GET, more].concat())
}

/// With one field of `GET` as it should not be, or without it.
pub fn get_but(name: &str, value: Option<&str>) -> Vec<u8> {
    let fields: Vec<_> = GET
        .iter()
        .filter_map(|field| match value {
            _ if field.0 != name => Some(*field),
            Some(value) => Some((field.0, value)),
            None => None,
        })
        .collect();
    headers(&fields)
}

pub fn data(bytes: &[u8]) -> Vec<u8> {
    frame(0, bytes)
}

/// The status of a response, as our server encodes it.
pub fn status(response: &[u8]) -> Option<u16> {
    let [1, length, 0, 0, section @ ..] = response else {
        return None;
    };
    assert!(*length < 0x40, "a short head");
    match section {
        // :status 200 has a place in the static table.
        [0xd9, ..] => Some(200),
        // 431 in Huffman code.
        _ if section
            .windows(3)
            .any(|window| window == [0x69, 0x90, 0xff]) =>
        {
            Some(431)
        }
        _ => None,
    }
}

//! Header fields, between JavaScript's lists and the `http` crate's maps.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::engine::Fields;

pub fn header_map(fields: &[String]) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len() / 2);
    for pair in fields.chunks_exact(2) {
        // JavaScript's Headers has checked names and values before.
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(pair[0].as_bytes()),
            HeaderValue::from_bytes(&bytes_of(&pair[1])),
        ) else {
            continue;
        };
        map.append(name, value);
    }
    map
}

pub fn fields_of(map: &HeaderMap) -> Fields {
    let mut fields = Vec::with_capacity(map.len() * 2);
    for (name, value) in map {
        fields.push(name.as_str().to_string());
        fields.push(
            value
                .as_bytes()
                .iter()
                .map(|&byte| char::from(byte))
                .collect(),
        );
    }
    fields
}

/// Each character stands for one byte, as in JavaScript's Headers.
fn bytes_of(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(character).unwrap_or(b'?'))
        .collect()
}

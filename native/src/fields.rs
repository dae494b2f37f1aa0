//! Walks the lines of an encoded field section, for what h3 does not say of it
//! once it has decoded it: the order of pseudo-header fields, and how often each
//! is there (RFC 9114, section 4.3). What cannot be decoded at all is left to h3.

/// What a field section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Request,
    /// Or the trailers of one: from without they cannot be told apart.
    Response,
    Trailers,
}

#[derive(Debug, PartialEq, Eq)]
pub enum SectionFault {
    /// It counts on a dynamic table, and there is none.
    Undecodable,
    Malformed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pseudo {
    Authority,
    Method,
    Path,
    Protocol,
    Scheme,
    Status,
}

impl Pseudo {
    fn of(name: &[u8]) -> Option<Self> {
        Some(match name {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            _ => return None,
        })
    }

    /// By its place in the static table: RFC 9204, appendix A.
    fn at(index: usize) -> Option<Self> {
        Some(match index {
            0 => Self::Authority,
            1 => Self::Path,
            15..=21 => Self::Method,
            22 | 23 => Self::Scheme,
            24..=28 | 63..=71 => Self::Status,
            _ => return None,
        })
    }

    fn is_of(self, section: Section) -> bool {
        match section {
            Section::Request => self != Self::Status,
            Section::Response => self == Self::Status,
            Section::Trailers => false,
        }
    }
}

enum Name {
    Pseudo(Pseudo),
    /// Begins with a colon, and is none that there is.
    Unknown,
    Regular,
}

pub fn check(section: &[u8], kind: Section) -> Result<(), SectionFault> {
    let mut reader = Reader { rest: section };
    match reader.integer(8) {
        // Required Insert Count.
        Some((_, 0)) => {}
        Some(_) => return Err(SectionFault::Undecodable),
        None => return Ok(()),
    }
    if reader.integer(7).is_none() {
        return Ok(());
    }
    let mut regular = false;
    let mut seen = 0_u8;
    while let Some((name, empty)) = reader.line() {
        let pseudo = match name {
            Name::Regular => {
                regular = true;
                continue;
            }
            Name::Unknown => return Err(SectionFault::Malformed),
            Name::Pseudo(pseudo) => pseudo,
        };
        let bit = 1 << pseudo as u8;
        if regular || seen & bit != 0 || !pseudo.is_of(kind) || (pseudo == Pseudo::Path && empty) {
            return Err(SectionFault::Malformed);
        }
        seen |= bit;
    }
    Ok(())
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A line's name, and whether its value is empty; none at the end, or if what follows cannot be decoded.
    fn line(&mut self) -> Option<(Name, bool)> {
        let first = *self.rest.first()?;
        // RFC 9204, section 4.5; bit T says that the index is of the static table.
        if first & 0x80 != 0 {
            let (flags, index) = self.integer(6)?;
            return (flags & 1 != 0).then(|| (named(index), false));
        }
        let name = if first & 0x40 != 0 {
            let (flags, index) = self.integer(4)?;
            if flags & 1 == 0 {
                return None;
            }
            named(index)
        } else if first & 0x20 != 0 {
            let (huffman, name) = self.string(3)?;
            spelled(huffman, name)
        } else {
            return None;
        };
        let (_, value) = self.string(7)?;
        Some((name, value.is_empty()))
    }

    /// RFC 9204, section 4.1.1. Returns the bits before it too.
    fn integer(&mut self, bits: u32) -> Option<(u8, usize)> {
        let first = self.byte()?;
        let mask = (1_u16 << bits) - 1;
        let flags = (u16::from(first) >> bits) as u8;
        let mut value = usize::from(u16::from(first) & mask);
        if value < usize::from(mask) {
            return Some((flags, value));
        }
        for shift in (0..28).step_by(7) {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((flags, value));
            }
        }
        // Larger than any section that is read.
        None
    }

    fn string(&mut self, bits: u32) -> Option<(bool, &'a [u8])> {
        let (flags, length) = self.integer(bits)?;
        let (string, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some((flags & 1 != 0, string))
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }
}

fn named(index: usize) -> Name {
    Pseudo::at(index).map_or(Name::Regular, Name::Pseudo)
}

fn spelled(huffman: bool, name: &[u8]) -> Name {
    let decoded;
    let name = if huffman {
        decoded = letters(name);
        &decoded
    } else {
        name
    };
    match Pseudo::of(name) {
        Some(pseudo) => Name::Pseudo(pseudo),
        None if name.first() == Some(&b':') => Name::Unknown,
        None => Name::Regular,
    }
}

/// Letter, code and its bits, of those that pseudo-header fields are spelled with: RFC 7541, appendix B.
const CODES: [(u8, u16, u32); 17] = [
    (b'a', 0x03, 5),
    (b'c', 0x04, 5),
    (b'e', 0x05, 5),
    (b'i', 0x06, 5),
    (b'o', 0x07, 5),
    (b's', 0x08, 5),
    (b't', 0x09, 5),
    (b'd', 0x24, 6),
    (b'h', 0x27, 6),
    (b'l', 0x28, 6),
    (b'm', 0x29, 6),
    (b'n', 0x2a, 6),
    (b'p', 0x2b, 6),
    (b'r', 0x2c, 6),
    (b'u', 0x2d, 6),
    (b':', 0x5c, 7),
    (b'y', 0x7a, 7),
];

/// Decodes up to the first letter that no pseudo-header field has, with a mark for that one.
fn letters(huffman: &[u8]) -> Vec<u8> {
    const LONGEST: u32 = 7;
    const OTHER: u8 = b'?';
    let mut name = Vec::new();
    let (mut window, mut bits) = (0_u16, 0);
    for byte in huffman {
        window = (window << 8) | u16::from(*byte);
        bits += 8;
        while bits >= LONGEST {
            let found = CODES.iter().find(|(_, code, length)| {
                (window >> (bits - length)) & ((1 << length) - 1) == *code
            });
            let Some((letter, _, length)) = found else {
                name.push(OTHER);
                return name;
            };
            name.push(*letter);
            bits -= length;
        }
    }
    // Less than the longest code is left: one that is shorter, and padding.
    while let Some((letter, _, length)) = CODES.iter().find(|(_, code, length)| {
        *length <= bits && (window >> (bits - length)) & ((1 << length) - 1) == *code
    }) {
        name.push(*letter);
        bits -= length;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_in_huffman_code() {
        // ":path", ":protocol", and "cache" whose letters are all known.
        assert_eq!(letters(&[0xb9, 0x58, 0xd3, 0x3f]), b":path");
        assert_eq!(
            letters(&[0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f]),
            b":protocol"
        );
        assert_eq!(letters(&[0x20, 0xc9, 0x39, 0x7f]), b"cache");
        // "x" has no code here.
        assert_eq!(letters(&[0xf3]), b"?");
    }

    #[test]
    fn knows_what_belongs_where() {
        let get = 0xc0 | 17;
        let root = 0xc0 | 1;
        let https = 0xc0 | 23;
        let ok = 0xc0 | 25;
        let age = 0xc0 | 2;
        for (lines, kind, result) in [
            (&[get, https, root, age][..], Section::Request, Ok(())),
            (
                &[get, age, https],
                Section::Request,
                Err(SectionFault::Malformed),
            ),
            (&[get, get], Section::Request, Err(SectionFault::Malformed)),
            (&[ok], Section::Request, Err(SectionFault::Malformed)),
            (&[ok, age], Section::Response, Ok(())),
            (&[get], Section::Response, Err(SectionFault::Malformed)),
            (&[age], Section::Trailers, Ok(())),
            (&[ok], Section::Trailers, Err(SectionFault::Malformed)),
            // :path with an empty value.
            (&[0x51, 0], Section::Request, Err(SectionFault::Malformed)),
        ] {
            let section = [&[0, 0], lines].concat();
            assert_eq!(check(&section, kind), result, "{lines:?}");
        }
        assert_eq!(
            check(&[1, 0], Section::Request),
            Err(SectionFault::Undecodable)
        );
    }
}

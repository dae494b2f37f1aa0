//! What makes a message malformed, besides what h3 finds: RFC 9114, sections 4.1.2, 4.2 and 4.3.

use h3::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Method, Request};

/// Says what is wrong, or how long the body is to be.
pub fn check_request(request: &Request<()>) -> Result<Option<u64>, &'static str> {
    let uri = request.uri();
    let extended = request.extensions().get::<Protocol>().is_some();
    if *request.method() == Method::CONNECT && !extended {
        if uri.scheme().is_some() || uri.path_and_query().is_some() {
            return Err("CONNECT has neither scheme nor path");
        }
    } else if extended && *request.method() != Method::CONNECT {
        return Err("only CONNECT has a protocol");
    } else {
        if uri.scheme().is_none() || uri.path_and_query().is_none() {
            return Err("a request has a scheme and a path");
        }
        let asterisk = *request.method() == Method::OPTIONS && uri.path() == "*";
        if !uri.path().starts_with('/') && !asterisk {
            return Err("a path begins with a slash");
        }
    }
    check_authority(request)?;
    check_fields(request.headers())?;
    content_length(request.headers())
}

/// RFC 9114, section 4.3.1. What is compared is the value as it was sent.
fn check_authority(request: &Request<()>) -> Result<(), &'static str> {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match hosts.next().map(http::HeaderValue::to_str) {
        Some(Err(_)) => return Err("the host is no host"),
        Some(Ok(host)) => Some(host),
        None => None,
    };
    if hosts.next().is_some() {
        return Err("a request has one host");
    }
    match (authority, host) {
        (None, None) => return Err("a request has an authority or a host"),
        (Some(authority), Some(host)) if authority != host => {
            return Err("the authority and the host differ");
        }
        _ => {}
    }
    let named = authority.or(host).unwrap_or_default();
    if named.contains('@') {
        return Err("the authority has no user information");
    }
    if !is_host(named) {
        return Err("the authority is no host");
    }
    Ok(())
}

/// A host and perhaps a port: RFC 3986, sections 3.2.2 and 3.2.3. As src/listen/host-header.ts has it.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((literal, "")) => (literal, None),
            Some((literal, port)) => match port.strip_prefix(':') {
                Some(port) => (literal, Some(port)),
                None => return false,
            },
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let bracketed = text.starts_with('[');
    !host.is_empty()
        && host.bytes().all(|byte| {
            byte.is_ascii_alphanumeric()
                || b"-._~!$&'()*+,;=%".contains(&byte)
                || (bracketed && byte == b':')
        })
        && port.is_none_or(|port| {
            port.bytes().all(|byte| byte.is_ascii_digit())
                && (port.is_empty() || port.parse::<u16>().is_ok())
        })
}

/// Of trailers too.
pub fn check_fields(fields: &HeaderMap) -> Result<(), &'static str> {
    let of_connections = [CONNECTION, TRANSFER_ENCODING, UPGRADE]
        .iter()
        .any(|name| fields.contains_key(name));
    if of_connections
        || fields.contains_key("keep-alive")
        || fields.contains_key("proxy-connection")
    {
        return Err("a field of connections");
    }
    if fields.get_all(TE).iter().any(|te| te != "trailers") {
        return Err("TE other than trailers");
    }
    Ok(())
}

pub fn content_length(fields: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else {
        return Ok(None);
    };
    let length = first
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok());
    if length.is_none() || lengths.next().is_some() {
        return Err("the content length is no number");
    }
    Ok(length)
}

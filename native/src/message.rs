//! What makes a message malformed, besides what h3 finds: RFC 9114, sections 4.1.2, 4.2 and 4.3.

use h3::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
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
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("the authority has no user information");
    }
    check_fields(request.headers())?;
    content_length(request.headers())
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

//! What a server may not do to our client: the same rules, from the other side.

mod support;

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use h3::error::Code;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{ConnectionError, Endpoint};
use rustls::pki_types::PrivateKeyDer;
use sluice_native::client::{Client, Target};
use sluice_native::end::End;
use sluice_native::engine::{Engine, Event};
use support::wire::{data, frame, headers, integer};
use support::{code, limits, within};

const SETTINGS: [u8; 3] = [0, 4, 0];

fn ok(more: &[(&str, &str)]) -> Vec<u8> {
    headers(&[&[(":status", "200")], more].concat())
}

enum Outcome {
    /// The response's body, when it is complete.
    Whole(&'static [u8]),
    /// The response alone is refused.
    Malformed,
    Closed(Code),
}
use Outcome::{Closed, Malformed, Whole};

struct Case {
    name: &'static str,
    method: &'static str,
    /// Of the server's control stream, after SETTINGS.
    control: Vec<u8>,
    /// Another stream of the server's.
    uni: Vec<u8>,
    response: Vec<u8>,
    outcome: Outcome,
}

fn response(name: &'static str, response: Vec<u8>, outcome: Outcome) -> Case {
    Case {
        name,
        method: "GET",
        control: vec![],
        uni: vec![],
        response,
        outcome,
    }
}

fn cases() -> Vec<Case> {
    let whole = || [ok(&[]), data(b"abc")].concat();
    let unexpected = || Closed(Code::H3_FRAME_UNEXPECTED);
    let of_head = Case {
        method: "HEAD",
        ..response(
            "a length of what HEAD leaves out",
            ok(&[("content-length", "9")]),
            Whole(b""),
        )
    };
    let control = |name, control: Vec<u8>, outcome| Case {
        control,
        ..response(name, whole(), outcome)
    };
    let uni = |name, uni: &[u8], outcome| Case {
        uni: uni.to_vec(),
        ..response(name, whole(), outcome)
    };
    vec![
        response("a response", whole(), Whole(b"abc")),
        response(
            "empty DATA",
            [ok(&[]), data(b""), data(b"a"), data(b""), data(b"b")].concat(),
            Whole(b"ab"),
        ),
        response(
            "interim responses",
            [headers(&[(":status", "103")]), frame(0x21, b"x"), whole()].concat(),
            Whole(b"abc"),
        ),
        response(
            "trailers",
            [whole(), headers(&[("x-end", "1")])].concat(),
            Whole(b"abc"),
        ),
        response(
            "not modified, of a length",
            headers(&[(":status", "304"), ("content-length", "9")]),
            Whole(b""),
        ),
        of_head,
        response(
            "a body shorter than announced",
            [ok(&[("content-length", "4")]), data(b"abc")].concat(),
            Malformed,
        ),
        response(
            "a body longer than announced",
            [ok(&[("content-length", "2")]), data(b"abc")].concat(),
            Malformed,
        ),
        response(
            "a field of connections",
            [ok(&[("connection", "close")]), data(b"abc")].concat(),
            Malformed,
        ),
        response(
            "two statuses",
            [ok(&[(":status", "200")]), data(b"abc")].concat(),
            Malformed,
        ),
        response(
            "a request's pseudo-header field",
            [ok(&[(":path", "/")]), data(b"abc")].concat(),
            Malformed,
        ),
        response(
            "a status after other fields",
            headers(&[("a", "1"), (":status", "200")]),
            Malformed,
        ),
        response("no status", headers(&[("a", "1")]), Malformed),
        response("a name in upper case", ok(&[("A", "1")]), Malformed),
        response("DATA first", data(b"abc"), unexpected()),
        response(
            "SETTINGS in a response",
            [ok(&[]), frame(4, &[])].concat(),
            unexpected(),
        ),
        response(
            "a push that was not allowed",
            [ok(&[]), frame(5, &[0])].concat(),
            Closed(Code::H3_ID_ERROR),
        ),
        response(
            "DATA cut by the end",
            [ok(&[]), data(b"abc")[..3].to_vec()].concat(),
            Closed(Code::H3_FRAME_ERROR),
        ),
        control("MAX_PUSH_ID of a server", frame(13, &[1]), unexpected()),
        control(
            "GOAWAY of no request",
            frame(7, &[1]),
            Closed(Code::H3_ID_ERROR),
        ),
        control("two SETTINGS", frame(4, &[]), unexpected()),
        uni("a push stream", &[1, 0], Closed(Code::H3_ID_ERROR)),
        uni(
            "a closed encoder stream",
            &[2],
            Closed(Code::H3_CLOSED_CRITICAL_STREAM),
        ),
        uni(
            "a stream of an unknown type",
            &integer(0x4242),
            Whole(b"abc"),
        ),
    ]
}

/// How a request has come out for the client.
#[derive(Default)]
struct Seen {
    body: Vec<u8>,
    end: Option<Option<End>>,
}

/// Serves one request as the case says; returns how the connection was closed.
async fn serve(endpoint: Endpoint, case: &Case) -> ConnectionError {
    let incoming = endpoint.accept().await.expect("a client");
    let conn = incoming.await.expect("a connection");
    let mut control = conn.open_uni().await.expect("a stream");
    let first = [&SETTINGS[..], &case.control].concat();
    control.write_all(&first).await.expect("open");
    let mut kept = Vec::new();
    if !case.uni.is_empty() {
        let mut other = conn.open_uni().await.expect("a stream");
        other.write_all(&case.uni).await.expect("open");
        let _ = other.finish();
        kept.push(other);
    }
    if let Ok((mut send, mut recv)) = conn.accept_bi().await {
        let _ = recv.read_to_end(10_000).await;
        let _ = send.write_all(&case.response).await;
        let _ = send.finish();
        kept.push(send);
    }
    conn.closed().await
}

async fn judge(case: &Case) -> Result<(), String> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).expect("made");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate");
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = QuicServerConfig::try_from(tls).expect("TLS");
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let endpoint = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let address = endpoint.local_addr().expect("an address");

    let (wake, woken) = mpsc::channel();
    let wake = Mutex::new(wake);
    let engine = Engine::new(Box::new(move || {
        let _ = wake.lock().expect("whole").send(());
    }));
    let ca = made.cert.pem();
    let client = Client::new(engine.clone(), ca.as_bytes(), None, limits()).expect("a client");
    let connection = client
        .connect(vec![address], "localhost".to_string())
        .expect("a runtime");
    let method = case.method.to_string();
    let asking = std::thread::spawn(move || {
        let mut seen = Seen::default();
        while seen.end.is_none() {
            woken
                .recv_timeout(Duration::from_secs(20))
                .map_err(|_| "nothing happened")?;
            for event in engine.take() {
                match event {
                    Event::ConnectionOpened { .. } => {
                        let target = Target {
                            method: method.clone(),
                            url: "https://localhost/".to_string(),
                            fields: vec![],
                        };
                        let id = client.request(connection, target).expect("a runtime");
                        engine.stream(id).expect("new").finish(vec![]);
                    }
                    Event::Readable { stream } => {
                        let mut room = [0; 8 * 1024];
                        let one = engine.stream(stream);
                        let Some(taken) = one.and_then(|one| one.take(&mut room)) else {
                            continue;
                        };
                        seen.body.extend(&room[..taken.length]);
                        if taken.end.is_some() {
                            seen.end = Some(None);
                        }
                    }
                    Event::Broken { end, .. } => seen.end = Some(Some(end)),
                    Event::ConnectionClosed { end, .. } => {
                        seen.end.get_or_insert(Some(end));
                    }
                    _ => {}
                }
            }
        }
        Ok::<_, &str>((seen, client))
    });
    let serving = serve(endpoint, case);
    tokio::pin!(serving);
    let asked = tokio::task::spawn_blocking(move || asking.join().expect("no panic"));
    let (closed, asked) = tokio::select! {
        closed = &mut serving => (Some(closed), None),
        asked = asked => (None, Some(asked.expect("no panic")?)),
    };
    if let Closed(expected) = case.outcome {
        let closed = match closed {
            Some(closed) => closed,
            None => within("the end of the connection", serving).await,
        };
        return match closed {
            ConnectionError::ApplicationClosed(close)
                if close.error_code == code(expected.value()) =>
            {
                Ok(())
            }
            other => Err(format!("closed by {other:?}")),
        };
    }
    let Some((seen, client)) = asked else {
        return Err(format!("closed by {closed:?}"));
    };
    client.close_connection(connection);
    match (&case.outcome, seen.end.flatten()) {
        (Whole(body), None) if seen.body == *body => Ok(()),
        (Malformed, Some(End::Local(code, _))) if code == Code::H3_MESSAGE_ERROR.value() => Ok(()),
        (_, end) => Err(format!("{:?} and {end:?}", seen.body)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn are_held_to_the_rules() {
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(problem) = judge(case).await {
            wrong.push(format!("{}: {problem}", case.name));
        }
    }
    // A test says why it fails.
    drop(std::panic::take_hook());
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

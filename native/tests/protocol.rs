//! What breaks the rules of RFC 9114 and RFC 9204, and what that does: the error
//! that they name, to the connection or to the stream alone; and everybody else
//! is served on.

mod support;

use h3::error::Code;
use quinn::{ConnectionError, ReadToEndError, WriteError};
use support::wire::{data, frame, get, get_but, headers, integer, section, status};
use support::{PATIENCE, Setup, TestServer, code, is_served, within};
use tokio::time::timeout;

#[derive(Clone)]
enum Then {
    Open,
    Fin,
    Reset(Code),
}
use Then::{Fin, Open, Reset};

#[derive(Clone)]
enum Step {
    /// A unidirectional stream.
    Uni(Vec<u8>, Then),
    Bidi(Vec<u8>, Then),
    /// Asks the server to stop sending on the stream that it has opened first: its control stream.
    StopControl,
}
use Step::{Bidi, StopControl, Uni};

enum Outcome {
    /// An error of the connection.
    Closed(Code),
    /// An error of the last stream.
    Cut(Code),
    Answered(u16),
    /// Nothing at all.
    Ignored,
}
use Outcome::{Answered, Closed, Cut, Ignored};

struct Case {
    name: &'static str,
    steps: Vec<Step>,
    outcome: Outcome,
}

const SETTINGS: [u8; 3] = [0, 4, 0];

fn control(more: &[u8]) -> Step {
    Uni([&SETTINGS, more].concat(), Open)
}

fn case(name: &'static str, steps: Vec<Step>, outcome: Outcome) -> Case {
    Case {
        name,
        steps,
        outcome,
    }
}

/// On the control stream, after SETTINGS.
fn after_settings(name: &'static str, frame: Vec<u8>, outcome: Outcome) -> Case {
    case(name, vec![control(&frame)], outcome)
}

fn settings(name: &'static str, settings: &[(u64, u64)], outcome: Outcome) -> Case {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [integer(*id), integer(*value)].concat())
        .collect();
    let stream = [&[0][..], &frame(4, &payload)].concat();
    case(name, vec![Uni(stream, Open)], outcome)
}

/// A request that has its end.
fn request(name: &'static str, bytes: Vec<u8>, outcome: Outcome) -> Case {
    case(name, vec![control(&[]), Bidi(bytes, Fin)], outcome)
}

fn open_request(name: &'static str, bytes: Vec<u8>, outcome: Outcome) -> Case {
    case(name, vec![control(&[]), Bidi(bytes, Open)], outcome)
}

fn malformed(name: &'static str, bytes: Vec<u8>) -> Case {
    request(name, bytes, Cut(Code::H3_MESSAGE_ERROR))
}

fn uni(name: &'static str, bytes: &[u8], then: Then, outcome: Outcome) -> Case {
    case(name, vec![control(&[]), Uni(bytes.to_vec(), then)], outcome)
}

/// A HEADERS frame with these bytes as its field section.
fn encoded(bytes: &[u8]) -> Vec<u8> {
    frame(1, bytes)
}

fn of_streams() -> Vec<Case> {
    let closed = || Closed(Code::H3_CLOSED_CRITICAL_STREAM);
    let cancelled = || Reset(Code::H3_REQUEST_CANCELLED);
    vec![
        case(
            "no SETTINGS first: GOAWAY",
            vec![Uni([&[0][..], &frame(7, &[0])].concat(), Open)],
            Closed(Code::H3_MISSING_SETTINGS),
        ),
        case(
            "no SETTINGS first: DATA",
            vec![Uni([&[0][..], &data(b"x")].concat(), Open)],
            Closed(Code::H3_MISSING_SETTINGS),
        ),
        case(
            "no SETTINGS first: an unknown frame",
            vec![Uni([&[0][..], &frame(0x21, b"x")].concat(), Open)],
            Closed(Code::H3_MISSING_SETTINGS),
        ),
        case(
            "two control streams",
            vec![control(&[]), control(&[])],
            Closed(Code::H3_STREAM_CREATION_ERROR),
        ),
        case(
            "a control stream that ends",
            vec![Uni(SETTINGS.to_vec(), Fin)],
            closed(),
        ),
        case(
            "a control stream that ends at once",
            vec![Uni(vec![0], Fin)],
            closed(),
        ),
        case(
            "a control stream that is reset",
            vec![Uni(SETTINGS.to_vec(), cancelled())],
            closed(),
        ),
        case(
            "our control stream that is to stop",
            vec![control(&[]), StopControl],
            closed(),
        ),
        case(
            "a control stream cut within a frame",
            vec![Uni(vec![0, 4, 5, 1], Fin)],
            Closed(Code::H3_FRAME_ERROR),
        ),
        uni(
            "a push stream of a client",
            &[1, 0],
            Open,
            Closed(Code::H3_STREAM_CREATION_ERROR),
        ),
        uni("an encoder stream that ends", &[2], Fin, closed()),
        uni(
            "an encoder stream that is reset",
            &[2],
            cancelled(),
            closed(),
        ),
        uni("a decoder stream that ends", &[3], Fin, closed()),
        case(
            "two encoder streams",
            vec![control(&[]), Uni(vec![2], Open), Uni(vec![2], Open)],
            Closed(Code::H3_STREAM_CREATION_ERROR),
        ),
        case(
            "two decoder streams",
            vec![control(&[]), Uni(vec![3], Open), Uni(vec![3], Open)],
            Closed(Code::H3_STREAM_CREATION_ERROR),
        ),
        uni(
            "a table beyond its capacity",
            &[2, 0x3f, 0x01],
            Open,
            Closed(Code::QPACK_ENCODER_STREAM_ERROR),
        ),
        uni(
            "an entry in a table of size zero",
            &[2, 0xc1, 0x01, b'x'],
            Open,
            Closed(Code::QPACK_ENCODER_STREAM_ERROR),
        ),
        uni(
            "a duplicate of no entry",
            &[2, 0x00],
            Open,
            Closed(Code::QPACK_ENCODER_STREAM_ERROR),
        ),
        uni("a capacity of zero", &[2, 0x20], Open, Ignored),
        uni(
            "an acknowledgement of nothing",
            &[3, 0x80],
            Open,
            Closed(Code::QPACK_DECODER_STREAM_ERROR),
        ),
        uni(
            "an increment of zero",
            &[3, 0x00],
            Open,
            Closed(Code::QPACK_DECODER_STREAM_ERROR),
        ),
        uni(
            "an increment beyond what was inserted",
            &[3, 0x01],
            Open,
            Closed(Code::QPACK_DECODER_STREAM_ERROR),
        ),
        uni(
            "a stream's cancellation",
            &[3, 0x40, 0x7f, 0x80, 0x01],
            Open,
            Ignored,
        ),
        uni(
            "a stream of an unknown type",
            &[0x40, 0x77, 1, 2, 3],
            Fin,
            Ignored,
        ),
        uni("a reserved stream type", &[0x21, 1, 2, 3], Open, Ignored),
        uni("a stream that ends before its type", &[], Fin, Ignored),
        uni(
            "a stream that is cut within its type",
            &[0x40],
            cancelled(),
            Ignored,
        ),
    ]
}

fn of_control() -> Vec<Case> {
    let unexpected = || Closed(Code::H3_FRAME_UNEXPECTED);
    let wrong = || Closed(Code::H3_FRAME_ERROR);
    let mut cases = vec![
        after_settings("two SETTINGS", frame(4, &[]), unexpected()),
        after_settings("DATA on the control stream", data(b"x"), unexpected()),
        after_settings("HEADERS on the control stream", get(&[]), unexpected()),
        after_settings(
            "PUSH_PROMISE on the control stream",
            frame(5, &[0]),
            unexpected(),
        ),
        after_settings(
            "CANCEL_PUSH of no push",
            frame(3, &[0]),
            Closed(Code::H3_ID_ERROR),
        ),
        after_settings("MAX_PUSH_ID", frame(13, &[9]), Ignored),
        after_settings(
            "a smaller MAX_PUSH_ID",
            [frame(13, &[9]), frame(13, &[8])].concat(),
            Closed(Code::H3_ID_ERROR),
        ),
        after_settings(
            "a larger GOAWAY",
            [frame(7, &[4]), frame(7, &[8])].concat(),
            Closed(Code::H3_ID_ERROR),
        ),
        after_settings("GOAWAY without a number", frame(7, &[]), wrong()),
        after_settings("GOAWAY with more than a number", frame(7, &[0, 0]), wrong()),
        after_settings("MAX_PUSH_ID that is cut short", frame(13, &[0x40]), wrong()),
        after_settings(
            "CANCEL_PUSH with more than a number",
            frame(3, &[0, 0]),
            wrong(),
        ),
        after_settings("an unknown frame", frame(0x21, b"anything"), Ignored),
        after_settings(
            "an unknown frame of 100,000 bytes",
            frame(0x40 * 0x1f + 0x21, &[7; 100_000]),
            Ignored,
        ),
        settings(
            "a setting that is there twice",
            &[(6, 4096), (6, 4096)],
            Closed(Code::H3_SETTINGS_ERROR),
        ),
        settings(
            "an unknown setting that is there twice",
            &[(0x21, 0), (0x21, 0)],
            Closed(Code::H3_SETTINGS_ERROR),
        ),
        settings("an unknown setting", &[(0x21, 9), (0x4242, 9)], Ignored),
        settings(
            "datagrams neither on nor off",
            &[(0x33, 2)],
            Closed(Code::H3_SETTINGS_ERROR),
        ),
        settings(
            "extended CONNECT neither on nor off",
            &[(0x8, 2)],
            Closed(Code::H3_SETTINGS_ERROR),
        ),
        case(
            "a setting that is cut short",
            vec![Uni(vec![0, 4, 1, 6], Open)],
            wrong(),
        ),
        case(
            "SETTINGS of a million bytes",
            vec![Uni([&[0, 4][..], &integer(1_000_000)].concat(), Open)],
            Closed(Code::H3_EXCESSIVE_LOAD),
        ),
    ];
    for reserved in [0x0, 0x2, 0x3, 0x4, 0x5] {
        cases.push(settings(
            "a setting of HTTP/2",
            &[(reserved, 1)],
            Closed(Code::H3_SETTINGS_ERROR),
        ));
    }
    for reserved in [0x2, 0x6, 0x8, 0x9] {
        let with_payload = frame(reserved, &[0; 4]);
        cases.push(after_settings(
            "a frame of HTTP/2 on the control stream",
            with_payload,
            unexpected(),
        ));
        cases.push(request(
            "a frame of HTTP/2 in a request",
            [get(&[]), frame(reserved, &[0; 4])].concat(),
            unexpected(),
        ));
        cases.push(request(
            "a frame of HTTP/2 instead of HEADERS",
            frame(reserved, &[0; 4]),
            unexpected(),
        ));
    }
    for kind in [3, 4, 5, 7, 13] {
        cases.push(request(
            "a frame of control streams in a request",
            [get(&[]), frame(kind, &[0])].concat(),
            unexpected(),
        ));
        cases.push(open_request(
            "a frame of control streams instead of HEADERS",
            frame(kind, &[0]),
            unexpected(),
        ));
    }
    cases
}

fn of_requests() -> Vec<Case> {
    let unexpected = || Closed(Code::H3_FRAME_UNEXPECTED);
    let trailers = || headers(&[("x-end", "1")]);
    let declared = |length: &str| get(&[("content-length", length)]);
    vec![
        request("a request", get(&[]), Answered(200)),
        request(
            "a request with body and trailers",
            [get(&[]), data(b"abc"), trailers()].concat(),
            Answered(200),
        ),
        request(
            "empty DATA",
            [
                get(&[]),
                data(b""),
                data(b"abc"),
                data(b""),
                data(b"d"),
                trailers(),
            ]
            .concat(),
            Answered(200),
        ),
        request(
            "empty DATA alone",
            [get(&[]), data(b"")].concat(),
            Answered(200),
        ),
        request(
            "unknown frames everywhere",
            [
                frame(0x21, b"x"),
                get(&[]),
                frame(0x40, b""),
                data(b"abc"),
                frame(0x4242, &[1; 70_000]),
                trailers(),
                frame(0x21, b"y"),
            ]
            .concat(),
            Answered(200),
        ),
        request(
            "DATA before HEADERS",
            [data(b"x"), get(&[])].concat(),
            unexpected(),
        ),
        request(
            "empty DATA before HEADERS",
            [data(b""), get(&[])].concat(),
            unexpected(),
        ),
        request(
            "DATA after trailers",
            [get(&[]), data(b"x"), trailers(), data(b"y")].concat(),
            unexpected(),
        ),
        request(
            "HEADERS after trailers",
            [get(&[]), trailers(), trailers()].concat(),
            unexpected(),
        ),
        request(
            // It waits for its session, and tests/webtransport.rs for what becomes of it.
            "a session's stream without a session",
            [integer(0x41), integer(0)].concat(),
            Ignored,
        ),
        request(
            "a session's stream after HEADERS",
            [get(&[]), integer(0x41), integer(0)].concat(),
            unexpected(),
        ),
        request(
            "a stream that ends at once",
            vec![],
            Cut(Code::H3_REQUEST_INCOMPLETE),
        ),
        request(
            "nothing but an unknown frame",
            frame(0x21, b"x"),
            Cut(Code::H3_REQUEST_INCOMPLETE),
        ),
        request(
            "HEADERS cut by the end",
            get(&[])[..9].to_vec(),
            Closed(Code::H3_FRAME_ERROR),
        ),
        request(
            "DATA cut by the end",
            [get(&[]), data(b"abcdef")[..4].to_vec()].concat(),
            Closed(Code::H3_FRAME_ERROR),
        ),
        request(
            "a length cut by the end",
            [get(&[]), vec![0, 0x40]].concat(),
            Closed(Code::H3_FRAME_ERROR),
        ),
        request(
            "a type cut by the end",
            [get(&[]), vec![0x40]].concat(),
            Closed(Code::H3_FRAME_ERROR),
        ),
        request(
            "an unknown frame cut by the end",
            [get(&[]), vec![0x21, 9, 1]].concat(),
            Closed(Code::H3_FRAME_ERROR),
        ),
        case(
            "a request that is reset",
            vec![
                control(&[]),
                Bidi(get(&[]), Reset(Code::H3_REQUEST_CANCELLED)),
            ],
            Ignored,
        ),
        case(
            "a request that is reset within HEADERS",
            vec![
                control(&[]),
                Bidi(get(&[])[..9].to_vec(), Reset(Code::H3_REQUEST_CANCELLED)),
            ],
            Ignored,
        ),
        request(
            "headers larger than allowed",
            get(&[("x", &"x".repeat(5000))]),
            Answered(431),
        ),
        open_request(
            "headers of a million bytes",
            [&[1][..], &integer(1_000_000)].concat(),
            Closed(Code::H3_EXCESSIVE_LOAD),
        ),
        request(
            "the body that was announced",
            [declared("3"), data(b"ab"), data(b"c")].concat(),
            Answered(200),
        ),
        malformed(
            "a body longer than announced",
            [declared("3"), data(b"abcd")].concat(),
        ),
        malformed(
            "a body shorter than announced",
            [declared("3"), data(b"ab")].concat(),
        ),
        malformed("no body, though announced", declared("3")),
        open_request(
            "a body longer than announced, without its end",
            [declared("3"), data(b"abcd")].concat(),
            Cut(Code::H3_MESSAGE_ERROR),
        ),
        malformed("a content length that is none", declared("-1")),
        malformed(
            "two content lengths",
            get(&[("content-length", "0"), ("content-length", "0")]),
        ),
    ]
}

fn of_fields() -> Vec<Case> {
    let failed = || Closed(Code::QPACK_DECOMPRESSION_FAILED);
    let ordered = |fields: &[(&str, &str)]| headers(fields);
    let mut cases = vec![
        request("HEADERS without a section", encoded(&[]), failed()),
        request(
            "an index that the static table does not have",
            encoded(&[0, 0, 0xff, 0x7f]),
            failed(),
        ),
        request(
            "an entry of the dynamic table",
            encoded(&[0, 0, 0x80]),
            failed(),
        ),
        request(
            "a count of entries, though none is used",
            encoded(&[&[2, 0], &section(&[])[2..], &[0xd1, 0xd7, 0xc1]].concat()),
            failed(),
        ),
        request("an entry after the base", encoded(&[0, 0, 0x10]), failed()),
        request(
            "a name after the base",
            encoded(&[0, 0, 0x00, 0x00]),
            failed(),
        ),
        request(
            "a name of the dynamic table",
            encoded(&[0, 0, 0x40, 0x00]),
            failed(),
        ),
        request(
            "a string that is cut short",
            encoded(&[0, 0, 0x51, 0x09, b'/']),
            failed(),
        ),
        request(
            "a number without an end",
            encoded(&[
                0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ]),
            failed(),
        ),
        request(
            "trailers that cannot be decoded",
            [get(&[]), encoded(&[0, 0, 0x80])].concat(),
            failed(),
        ),
        malformed("a name in upper case", get(&[("X-Upper", "1")])),
        malformed("an empty name", get(&[("", "1")])),
        malformed("a name with a blank", get(&[("a b", "1")])),
        malformed("a value with a line feed", get(&[("a", "1\n2")])),
        malformed("a value with a zero", get(&[("a", "1\x002")])),
        malformed("an unknown pseudo-header field", get(&[(":other", "1")])),
        malformed(
            "a response's pseudo-header field",
            get(&[(":status", "200")]),
        ),
        malformed(
            "a pseudo-header field after a regular one",
            ordered(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":authority", "localhost"),
                ("a", "1"),
                (":path", "/"),
            ]),
        ),
        malformed(
            "a pseudo-header field in trailers",
            [get(&[]), headers(&[(":path", "/")])].concat(),
        ),
        malformed(
            "a field of connections in trailers",
            [get(&[]), headers(&[("connection", "close")])].concat(),
        ),
        malformed("an empty path", get_but(":path", Some(""))),
        malformed("a path without a slash", get_but(":path", Some("x"))),
        malformed(
            "user information in the authority",
            get_but(":authority", Some("a@localhost")),
        ),
        malformed(
            "an authority and another host",
            get(&[("host", "elsewhere")]),
        ),
        malformed("CONNECT with a path", get_but(":method", Some("CONNECT"))),
        malformed(
            "a protocol without CONNECT",
            get(&[(":protocol", "webtransport")]),
        ),
        malformed("TE other than trailers", get(&[("te", "gzip")])),
        request("TE: trailers", get(&[("te", "trailers")]), Answered(200)),
        request(
            "OPTIONS *",
            ordered(&[
                (":method", "OPTIONS"),
                (":scheme", "https"),
                (":authority", "localhost"),
                (":path", "*"),
            ]),
            Answered(200),
        ),
    ];
    for name in [":method", ":scheme", ":authority", ":path"] {
        cases.push(malformed(
            "a pseudo-header field is missing",
            get_but(name, None),
        ));
    }
    // RFC 9114, section 4.3.1, and RFC 3986, section 3.2.2.
    let instead = |hosts: &[(&'static str, &'static str)]| {
        let plain = [(":method", "GET"), (":scheme", "https"), (":path", "/")];
        headers(&[&plain, hosts].concat())
    };
    for named in [
        "localhost",
        "localhost:443",
        "[::1]:443",
        "127.0.0.1",
        "localhost:",
    ] {
        cases.push(request(
            "a host",
            get_but(":authority", Some(named)),
            Answered(200),
        ));
    }
    let localhost = ("host", "localhost");
    cases.push(request(
        "a host alone",
        instead(&[localhost]),
        Answered(200),
    ));
    cases.push(request(
        "the same host twice over",
        get(&[localhost]),
        Answered(200),
    ));
    cases.push(malformed(
        "two hosts alone",
        instead(&[localhost, localhost]),
    ));
    cases.push(malformed("two hosts", get(&[localhost, localhost])));
    cases.push(malformed("an empty host", instead(&[("host", "")])));
    cases.push(malformed("an empty host too", get(&[("host", "")])));
    for garbage in [
        "",
        ":443",
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "<a>",
        "a,b c",
        "localhost:port",
        "localhost:65536",
        "localhost:1:2",
        "a@localhost",
        "[::1",
        "[::1]x",
        "::1",
        "\u{e4}",
    ] {
        cases.push(malformed(
            "a garbage authority",
            get_but(":authority", Some(garbage)),
        ));
        cases.push(malformed("a garbage host", instead(&[("host", garbage)])));
    }
    for again in support::wire::GET {
        cases.push(malformed("a pseudo-header field twice", get(&[again])));
    }
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
    ] {
        cases.push(malformed("a field of connections", get(&[(name, value)])));
    }
    cases
}

async fn perform(
    conn: &quinn::Connection,
    steps: &[Step],
) -> (Vec<quinn::SendStream>, Option<quinn::RecvStream>) {
    let mut kept = Vec::new();
    let mut answer = None;
    for step in steps {
        let (bytes, then, mut send) = match step {
            StopControl => {
                let mut control = within("our control stream", conn.accept_uni())
                    .await
                    .expect("a stream");
                control
                    .stop(code(Code::H3_NO_ERROR.value()))
                    .expect("an open stream");
                continue;
            }
            Uni(bytes, then) => (bytes, then, conn.open_uni().await.expect("a stream")),
            Bidi(bytes, then) => {
                let (send, recv) = conn.open_bi().await.expect("a stream");
                answer = Some(recv);
                (bytes, then, send)
            }
        };
        match within("the write", send.write_all(bytes)).await {
            // It may be refused before its end.
            Ok(()) | Err(WriteError::Stopped(_) | WriteError::ConnectionLost(_)) => {}
            Err(error) => panic!("{error}"),
        }
        match then {
            Open => {}
            Fin => {
                let _ = send.finish();
            }
            Reset(with) => {
                // What was written is lost with a reset that overtakes it.
                is_served(conn).await.expect("an answer");
                let _ = send.reset(code(with.value()));
            }
        }
        kept.push(send);
    }
    (kept, answer)
}

async fn judge(conn: &quinn::Connection, case: &Case) -> Result<(), String> {
    let (kept, answer) = perform(conn, &case.steps).await;
    let ended = async {
        match answer {
            Some(mut recv) => Some(recv.read_to_end(1000).await),
            None => None,
        }
    };
    match case.outcome {
        Closed(expected) => {
            let closed = conn.closed().await;
            let ConnectionError::ApplicationClosed(close) = closed else {
                return Err(format!("closed by {closed}"));
            };
            let got = Code::from(close.error_code.into_inner());
            return if got == expected {
                Ok(())
            } else {
                Err(format!("closed with {got:?}"))
            };
        }
        Cut(expected) => match ended.await {
            Some(Err(ReadToEndError::Read(quinn::ReadError::Reset(got))))
                if got.into_inner() == expected.value() => {}
            other => return Err(format!("the stream came to {other:?}")),
        },
        Answered(expected) => match ended.await {
            Some(Ok(answer)) if status(&answer) == Some(expected) => {}
            other => return Err(format!("answered {other:?}")),
        },
        Ignored => {}
    }
    // What breaks a stream alone leaves the connection as it was.
    is_served(conn).await?;
    drop(kept);
    Ok(())
}

async fn hold(cases: Vec<Case>) {
    let server = TestServer::start(Setup::default());
    let bystander = server.connect().await;
    let (_control, _) = perform(&bystander, &[control(&[])]).await;
    let mut wrong = Vec::new();
    for case in &cases {
        let conn = server.connect().await;
        let judged = timeout(PATIENCE, judge(&conn, case)).await;
        if let Err(problem) = judged.unwrap_or_else(|_| Err("nothing happened".to_string())) {
            wrong.push(format!("{}: {problem}", case.name));
        }
        if let Err(problem) = is_served(&bystander).await {
            wrong.push(format!("{}: then a bystander: {problem}", case.name));
        }
        conn.close(code(Code::H3_NO_ERROR.value()), b"");
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    support::until_closed("the end of what was asked", || {
        server.connections() == 1 && server.engine.streams() == 0
    })
    .await;
}

#[tokio::test]
async fn streams() {
    hold(of_streams()).await;
}

#[tokio::test]
async fn frames_of_the_control_stream() {
    hold(of_control()).await;
}

#[tokio::test]
async fn frames_of_requests() {
    hold(of_requests()).await;
}

#[tokio::test]
async fn fields_of_requests() {
    hold(of_fields()).await;
}

//! What a peer may take: connections, streams, time; and what it gets in return
//! for letting go.

mod support;

use std::future::Future;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use h3::error::Code;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, ConnectionError, Endpoint};
use sluice_native::end::End;
use sluice_native::engine::lock;
use sluice_native::secret::Secret;
use sluice_native::transport::{Limits, bind, endpoint_config, transport};
use support::wire::{data, get, status};
use support::{
    Script, Setup, TestServer, code, far_address, is_served, limits, socket, until, within,
};

const SETTINGS: [u8; 3] = [0, 4, 0];

async fn settings(conn: &quinn::Connection) -> quinn::SendStream {
    let mut control = conn.open_uni().await.expect("a stream");
    control.write_all(&SETTINGS).await.expect("open");
    control
}

fn with(limits: Limits) -> Setup {
    Setup {
        limits,
        ..Setup::default()
    }
}

#[tokio::test]
async fn asks_who_comes_from_beyond_loopback_to_prove_its_address() {
    let far = far_address();
    let server = TestServer::start(Setup {
        host: Ipv4Addr::UNSPECIFIED.into(),
        ..Setup::default()
    });
    let near = server.connect().await;
    assert_eq!(server.retries(), 0);
    let endpoint = Endpoint::client((far, 0).into()).expect("a socket");
    let connecting = endpoint.connect_with(server.client(), server.address(far), "localhost");
    let conn = within("the handshake", connecting.expect("a client"))
        .await
        .expect("a connection");
    assert_eq!(server.retries(), 1);
    assert!(conn.remote_address().ip() == far && near.close_reason().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_forged_addresses_with_less_than_they_sent() {
    let far = far_address();
    let server = TestServer::start(Setup {
        host: Ipv4Addr::UNSPECIFIED.into(),
        ..Setup::default()
    });
    // The first datagram of a client, sent again and again by somebody who cannot read the answers.
    let tap = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let to = tap.local_addr().expect("an address");
    let connecting = endpoint
        .connect_with(server.client(), to, "localhost")
        .expect("a client");
    let mut initial = [0; 65_536];
    let length = tap.recv(&mut initial).expect("a datagram");
    drop(connecting);
    let forger = UdpSocket::bind((far, 0)).expect("a socket");
    forger
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a timeout");
    for i in 1..=20 {
        forger
            .send_to(&initial[..length], server.address(far))
            .expect("sent");
        let answered = forger.recv(&mut [0; 65_536]).expect("a Retry");
        assert!(answered < length, "{answered} bytes for {length}");
        assert_eq!(server.retries(), i);
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn refuses_more_connections_than_allowed() {
    let server = TestServer::start(Setup {
        max_connections: 1,
        ..Setup::default()
    });
    let first = server.connect().await;
    let endpoint = socket();
    let to = server.near();
    let again = || {
        endpoint
            .connect_with(server.client(), to, "localhost")
            .expect("a client")
    };
    // CONNECTION_REFUSED: RFC 9000, section 20.1.
    match within("the refusal", again()).await {
        Err(ConnectionError::ConnectionClosed(close)) => assert_eq!(u64::from(close.error_code), 2),
        other => panic!("{other:?}"),
    }
    assert_eq!(server.refused(), 1);
    first.close(code(0x100), b"");
    until("the end of the first", || server.connections() == 0).await;
    within("the handshake", again())
        .await
        .expect("a connection");
}

#[tokio::test]
async fn allows_as_many_streams_as_it_says() {
    let server = TestServer::start(with(Limits {
        streams: 3,
        ..limits()
    }));
    let conn = server.connect().await;
    let _control = settings(&conn).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(within("a stream", conn.open_bi()).await.expect("a stream"));
    }
    let mut fourth = Box::pin(conn.open_bi());
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(fourth.as_mut().poll(cx))).await;
    assert!(polled.is_pending(), "a fourth stream");
    let (mut send, mut recv) = open.pop().expect("one");
    send.write_all(&get(&[])).await.expect("sent");
    send.finish().expect("open");
    let answer = within("the answer", recv.read_to_end(1000))
        .await
        .expect("an answer");
    assert_eq!(status(&answer), Some(200));
    within("the fourth stream", fourth).await.expect("a stream");
}

#[tokio::test]
async fn takes_streams_no_faster_than_javascript_lets_go_of_them() {
    let server = TestServer::start(Setup {
        script: Script::Hang,
        limits: Limits {
            streams: 10,
            ..limits()
        },
        ..Setup::default()
    });
    let conn = server.connect().await;
    let _control = settings(&conn).await;
    let mut opened = 0;
    let flood = async {
        loop {
            let (mut send, mut recv) = conn.open_bi().await.expect("a stream");
            send.write_all(&get(&[])).await.expect("sent");
            send.finish().expect("open");
            recv.stop(code(Code::H3_REQUEST_CANCELLED.value()))
                .expect("open");
            opened += 1;
        }
    };
    let full = async {
        until("full slots", || server.engine.streams() == 10).await;
        // More than enough for what would come otherwise.
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    tokio::select! {
        () = flood => {}
        () = full => {}
    }
    assert_eq!(server.engine.streams(), 10);
    assert!((10..50).contains(&opened), "{opened} were taken");
}

#[tokio::test]
async fn ends_requests_whose_headers_do_not_come() {
    let server = TestServer::start(with(Limits {
        header_timeout: Duration::from_millis(300),
        ..limits()
    }));
    let conn = server.connect().await;
    let _control = settings(&conn).await;
    let (mut send, mut recv) = conn.open_bi().await.expect("a stream");
    let request = get(&[]);
    // A byte now and then does not buy more time.
    let slow = async {
        for byte in &request {
            if send.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("all was taken");
    };
    within("the end of patience", slow).await;
    let ended = within("the stream's end", recv.read_to_end(1000)).await;
    let rejected = quinn::ReadError::Reset(code(Code::H3_REQUEST_REJECTED.value()));
    assert_eq!(ended, Err(quinn::ReadToEndError::Read(rejected)));
    assert!(conn.close_reason().is_none());
}

/// Passes only the client's first datagrams on to the server, and none back.
fn one_way(server: &TestServer, datagrams: usize) -> std::net::SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let address = socket.local_addr().expect("an address");
    let to = server.near();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        for _ in 0..datagrams {
            let Ok(length) = socket.recv(&mut buffer) else {
                return;
            };
            let _ = socket.send_to(&buffer[..length], to);
        }
        // Bound until the end, so that nobody is told that it is not.
        std::thread::sleep(Duration::from_secs(60));
    });
    address
}

#[tokio::test]
async fn ends_handshakes_that_do_not_end() {
    let server = TestServer::start(with(Limits {
        header_timeout: Duration::from_millis(300),
        ..limits()
    }));
    let via = one_way(&server, 1);
    let endpoint = socket();
    let connecting = endpoint
        .connect_with(server.client(), via, "localhost")
        .expect("a client");
    until("its arrival", || server.connections() == 1).await;
    until("its end", || server.connections() == 0).await;
    drop(connecting);
}

#[tokio::test]
async fn forgets_who_is_silent() {
    let server = TestServer::start(with(Limits {
        idle_timeout: Duration::from_millis(500),
        keepalive: Duration::from_millis(200),
        ..limits()
    }));
    // A runtime of its own, whose end is that of a process: nothing is said any more.
    let client = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let config = server.client();
    let to = server.near();
    let connected = client.spawn(async move {
        let endpoint = socket();
        let conn = endpoint
            .connect_with(config, to, "localhost")
            .expect("a client")
            .await
            .expect("a connection");
        let control = settings(&conn).await;
        let (mut send, recv) = conn.open_bi().await.expect("a stream");
        send.write_all(&get(&[])).await.expect("sent");
        (endpoint, conn, control, send, recv)
    });
    let kept = within("the connection", connected).await.expect("no panic");
    until("the request", || server.engine.streams() == 1).await;
    client.shutdown_background();
    until("the end of the connection", || server.connections() == 0).await;
    until("the end of the stream", || server.engine.streams() == 0).await;
    let broken = lock(&server.broken).clone();
    assert!(broken.iter().all(|end| *end == End::Timeout), "{broken:?}");
    drop(kept);
}

#[tokio::test]
async fn takes_no_early_data() {
    // A server that takes early data shows that the client would send some.
    let server = TestServer::start(Setup::default());
    let eager =
        rcgen::generate_simple_self_signed(vec!["localhost".to_string()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(eager.signing_key.serialize_der())
        .expect("a key");
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13])
    .expect("TLS 1.3")
    .with_no_client_auth()
    .with_single_cert(vec![eager.cert.der().clone()], key)
    .expect("a certificate");
    tls.alpn_protocols = vec![b"h3".to_vec()];
    tls.max_early_data_size = u32::MAX;
    let config =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).expect("TLS")));
    let control = Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into()).expect("a socket");
    let listening = control.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Some(incoming) = control.accept().await {
            let conn = incoming.await.expect("a connection");
            tokio::spawn(async move { conn.closed().await });
        }
    });

    for (to, cert, taken) in [
        (listening, eager.cert.der().clone(), true),
        (server.near(), server.cert.clone(), false),
    ] {
        let mut tls = server.tls_for(cert);
        tls.enable_early_data = true;
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).expect("TLS")));
        let endpoint = socket();
        let connect = || {
            endpoint
                .connect_with(config.clone(), to, "localhost")
                .expect("a client")
        };
        let first = within("the handshake", connect())
            .await
            .expect("a connection");
        if taken {
            // Its ticket comes some time after the handshake.
            within("a ticket", async {
                while let Err(connecting) = connect().into_0rtt() {
                    connecting.await.expect("a connection");
                }
            })
            .await;
        } else {
            // Its ticket comes before the first answer.
            let _control = settings(&first).await;
            is_served(&first).await.expect("an answer");
            assert!(connect().into_0rtt().is_err());
        }
    }
}

#[tokio::test]
async fn hears_of_a_reset_though_nothing_is_read() {
    for (stop, end) in [
        (false, Code::H3_REQUEST_CANCELLED),
        // With NO_ERROR it would have all that it wants, and might go on sending.
        (true, Code::H3_INTERNAL_ERROR),
    ] {
        let server = TestServer::start(Setup {
            script: Script::Listen,
            ..Setup::default()
        });
        let conn = server.connect().await;
        let _control = settings(&conn).await;
        let (mut send, mut recv) = conn.open_bi().await.expect("a stream");
        send.write_all(&get(&[])).await.expect("sent");
        // As much as is taken: what waits for JavaScript, and the window.
        let sent = AtomicU64::new(0);
        let block = data(&[7; 16_384]);
        let flood = async {
            loop {
                send.write_all(&block).await.expect("open");
                sent.fetch_add(block.len() as u64, Ordering::Relaxed);
            }
        };
        let full = async {
            let mut before = u64::MAX;
            while before != sent.load(Ordering::Relaxed) {
                before = sent.load(Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::select! {
            () = flood => {}
            () = within("the full window", full) => {}
        }
        let taken = sent.load(Ordering::Relaxed);
        let most = u64::from(limits().stream_window) + 1024 * 1024;
        assert!(taken > 256 * 1024 && taken < most, "{taken} bytes");
        assert!(server.engine.bytes_held() < 512 * 1024);
        if stop {
            recv.stop(code(end.value())).expect("open");
        } else {
            send.reset(code(end.value())).expect("open");
        }
        until("the end of the stream", || !lock(&server.broken).is_empty()).await;
        assert!(
            lock(&server.broken)
                .iter()
                .all(|how| *how == End::Peer(end.value()))
        );
        until("its release", || server.engine.streams() == 0).await;
        until("its memory's", || server.engine.bytes_held() == 0).await;
    }
}

/// With datagrams of 16 KiB the batches that quinn sends were larger than the system takes. It refused each full one:
/// to QUIC all of it was lost, and now and then a body did not move for half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn sends_batches_that_the_system_takes() {
    let server = TestServer::start(Setup::default());
    let mut config = server.client();
    config.transport_config(transport(&limits(), true).expect("limits"));
    let endpoint = Endpoint::new(
        endpoint_config(&Secret::new(None).expect("random bytes")).expect("a size"),
        None,
        bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a socket"),
        Arc::new(quinn::TokioRuntime),
    );
    let endpoint = endpoint.expect("a client");
    let connecting = endpoint.connect_with(config, server.near(), "localhost");
    let conn = within("the handshake", connecting.expect("a client")).await;
    let conn = conn.expect("a connection");
    let _control = settings(&conn).await;
    let block = [data(&[7; 1 << 20])].concat();
    let upload = async || {
        let (mut send, mut recv) = conn.open_bi().await.expect("a stream");
        send.write_all(&get(&[])).await.expect("sent");
        for _ in 0..16 {
            send.write_all(&block).await.expect("sent");
        }
        send.finish().expect("open");
        let answer = recv.read_to_end(1000).await.expect("an answer");
        assert_eq!(status(&answer), Some(200));
    };
    within("48 MiB", async {
        tokio::join!(upload(), upload(), upload())
    })
    .await;
    // A small buffer of the system's may lose a few, but not all of one size.
    let path = conn.stats().path;
    assert_eq!(path.black_holes_detected, 0, "{path:?}");
}

#[tokio::test]
async fn leaves_an_answer_to_be_read_before_it_closes() {
    // A machine may be so busy that the time for it is over before it is looked at, but not always.
    for _ in 0..5 {
        let server = TestServer::start(Setup::default());
        let conn = server.connect().await;
        let _control = settings(&conn).await;
        let (mut send, mut recv) = conn.open_bi().await.expect("a stream");
        send.write_all(&get(&[])).await.expect("sent");
        until("the request", || server.engine.streams() == 1).await;
        server.server.goaway(None);
        send.finish().expect("open");
        until("the arrival of the answer", || server.engine.streams() == 0).await;
        // Whatever the server has to say has its turn.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let open = conn.close_reason().is_none();
        let answer = within("the answer", recv.read_to_end(1000)).await;
        assert_eq!(status(&answer.expect("an answer")), Some(200));
        let end = within("the close", conn.closed()).await;
        assert!(
            matches!(end, ConnectionError::ApplicationClosed(close) if close.error_code == code(0x100))
        );
        if open {
            return;
        }
    }
    panic!("it closes at once");
}

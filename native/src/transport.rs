//! QUIC's limits, and the sockets.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::secret::Secret;

/// RFC 9114 needs three: control, and QPACK's two. Others that a peer opens are refused one by one.
const MAX_UNI_STREAMS: u32 = 16;

/// What the system is asked to hold of datagrams that have not been read or sent.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;

/// Beyond loopback, what an Ethernet carries; loopback carries more. quinn hands ten datagrams at a time to the
/// system, which together may have 65,507 bytes: more are lost, and quinn takes that for a black hole.
const MAX_MTU: u16 = 1452;
const MAX_LOOPBACK_MTU: u16 = 6_500;

/// quinn's batch, and what the system takes at once.
const BATCH: usize = 10;
const LARGEST_DATAGRAM: usize = 65_507;
const _: () = assert!(BATCH * MAX_LOOPBACK_MTU as usize <= LARGEST_DATAGRAM);

/// Bytes of datagrams that wait on a connection, in each direction.
const DATAGRAM_BUFFER: usize = 256 * 1024;

#[derive(Clone)]
pub struct Limits {
    pub streams: u32,
    pub stream_window: u32,
    pub connection_window: u32,
    /// Unacknowledged bytes that a connection holds.
    pub send_window: u32,
    pub idle_timeout: Duration,
    pub keepalive: Duration,
    pub header_bytes: u32,
    pub header_timeout: Duration,
    /// How long the answer to a sign of life may take.
    pub answer_timeout: Duration,
    /// Sessions of WebTransport are served.
    pub webtransport: bool,
}

pub fn transport(limits: &Limits, loopback: bool) -> Result<Arc<TransportConfig>, String> {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(limits.idle_timeout).map_err(|error| error.to_string())?;
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_UNI_STREAMS))
        .stream_receive_window(VarInt::from_u32(limits.stream_window))
        .receive_window(VarInt::from_u32(limits.connection_window))
        .send_window(limits.send_window.into())
        .max_idle_timeout(Some(idle))
        .keep_alive_interval(Some(limits.keepalive))
        // The oldest are dropped when there are more.
        .datagram_receive_buffer_size(limits.webtransport.then_some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER);
    if loopback {
        // There is nothing to discover; and a close amid probes of such sizes did not arrive, one in ten.
        config
            .initial_mtu(MAX_LOOPBACK_MTU)
            .mtu_discovery_config(None);
    } else {
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(MAX_MTU);
        config.mtu_discovery_config(Some(mtu));
    }
    Ok(Arc::new(config))
}

pub fn endpoint_config(secret: &Secret) -> Result<EndpointConfig, String> {
    let mut config = EndpointConfig::default();
    secret.configure_endpoint(&mut config);
    config
        .max_udp_payload_size(MAX_LOOPBACK_MTU)
        .map_err(|error| error.to_string())?;
    Ok(config)
}

pub fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        // The address of every interface stands for both families, as it does with TCP.
        socket.set_only_v6(address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    // As much as the system allows.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

//! How streams and connections come to their ends.

use h3::error::{Code, ConnectionError, LocalError, StreamError};
use h3::quic::ConnectionErrorIncoming;

/// How a stream or a connection came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The peer has reset the stream, or closed the connection, with this code.
    Peer(u64),
    /// Ours: what is wrong.
    Local(u64, String),
    /// The connection is lost.
    Lost(String),
    /// The peer has not answered in time.
    Timeout,
    /// The certificate, or another part of the handshake, is not accepted.
    Handshake(String),
}

impl End {
    pub fn of_connection(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::Local {
                error: LocalError::Application { code, reason, .. },
                ..
            } => Self::Local(code.value(), reason.clone()),
            ConnectionError::Remote(ConnectionErrorIncoming::ApplicationClose {
                error_code,
                ..
            }) => Self::Peer(*error_code),
            ConnectionError::Timeout
            | ConnectionError::Remote(ConnectionErrorIncoming::Timeout) => Self::Timeout,
            other => Self::Lost(other.to_string()),
        }
    }

    pub fn of_stream(error: &StreamError) -> Self {
        match error {
            StreamError::StreamError { code, reason, .. } => {
                Self::Local(code.value(), reason.clone())
            }
            StreamError::RemoteTerminate { code, .. } => Self::Peer(code.value()),
            StreamError::ConnectionError(error) => Self::of_connection(error),
            StreamError::HeaderTooBig {
                actual_size,
                max_size,
                ..
            } => Self::Local(
                Code::H3_EXCESSIVE_LOAD.value(),
                format!(
                    "the headers take {actual_size} bytes, and the peer or this side takes {max_size}"
                ),
            ),
            // The peer may be asked again: nothing of it was processed.
            StreamError::RemoteClosing => Self::Peer(Code::H3_REQUEST_REJECTED.value()),
            other => Self::Lost(other.to_string()),
        }
    }

    pub fn of_cut(cut: Result<quinn::VarInt, quinn::ConnectionError>) -> Self {
        match cut {
            Ok(code) => Self::Peer(code.into_inner()),
            Err(error) => Self::of_quinn(error),
        }
    }

    pub fn of_quinn(error: quinn::ConnectionError) -> Self {
        match error {
            quinn::ConnectionError::ApplicationClosed(close) => {
                Self::Peer(close.error_code.into_inner())
            }
            quinn::ConnectionError::TimedOut => Self::Timeout,
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::of_stream(&error)
    }
}

/// RFC 9114, section 4.1.2.
pub fn malformed(reason: &str) -> End {
    End::Local(Code::H3_MESSAGE_ERROR.value(), reason.to_string())
}

//! What a server must still know after a restart, so that the peers of its
//! connections from before learn that those are gone: RFC 9000, section 10.3.

use std::sync::Arc;
use std::time::Duration;

use quinn::{EndpointConfig, ServerConfig};
use quinn_proto::HashedConnectionIdGenerator;
use ring::{hkdf, hmac};

/// Between stateless resets. Each is smaller than what it answers, and only connection IDs of our own get one, so that
/// nobody gains by it; with quinn's 20 ms the peers of a thousand connections would wait for their turn.
const MIN_RESET_INTERVAL: Duration = Duration::from_millis(1);

/// A key from which those of one server are derived.
#[derive(Clone)]
pub struct Secret(hmac::Key);

impl Secret {
    /// Of a key that is kept; at random without one.
    pub fn new(kept: Option<&[u8]>) -> Result<Self, String> {
        let mut random = [0; 32];
        let key = match kept {
            Some(key) if key.len() < random.len() => {
                return Err(format!("the secret has {} bytes, not 32", key.len()));
            }
            Some(key) => key,
            None => {
                let source = ring::rand::SystemRandom::new();
                ring::rand::SecureRandom::fill(&source, &mut random)
                    .map_err(|_| "the system has no random bytes".to_string())?;
                &random
            }
        };
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        let mut derived = [0; 32];
        derived.copy_from_slice(hmac::sign(&self.0, purpose).as_ref());
        derived
    }

    /// Stateless resets are signed with a kept key, and connection IDs are still known as our own: quinn drops what
    /// comes with others without an answer.
    pub fn configure_endpoint(&self, config: &mut EndpointConfig) {
        let reset = hmac::Key::new(hmac::HMAC_SHA256, &self.derive(b"stateless reset"));
        let mut id = [0; 8];
        id.copy_from_slice(&self.derive(b"connection id")[..8]);
        let id = u64::from_le_bytes(id);
        config
            .reset_key(Arc::new(reset))
            .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id)))
            .min_reset_interval(MIN_RESET_INTERVAL);
    }

    /// A client that was asked to prove its address before the restart may do so after it.
    pub fn configure_server(&self, config: &mut ServerConfig) {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"sluice");
        config.token_key(Arc::new(salt.extract(&self.derive(b"address validation"))));
    }
}

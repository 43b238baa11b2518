//! The cookie by which a DTLS server learns that a client is where it says, before it keeps anything.
//!
//! The DTLS library makes a cookie per session, so that the session would have to exist before the
//! cookie comes back: memory for whoever sends a packet with a forged source. Here the cookie is a keyed
//! function of the client's address and its hello, checked without a session. The session that is then
//! made for it is brought to where it would be had it made the cookie itself (`Admission::greet`), for
//! which the library's HMAC is asked to give exactly that cookie.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use dimpl::crypto::{CryptoProvider, HashAlgorithm, HmacProvider, aws_lc_rs};
use dimpl::{CryptoError, Dtls};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A cookie serves for one to two of these: a client sends its second hello at once.
const EPOCH: Duration = Duration::from_secs(30);
const COOKIE_BYTES: usize = 32;

const RECORD_HEADER_BYTES: usize = 13;
const MESSAGE_HEADER_BYTES: usize = 12;
const CONTENT_ALERT: u8 = 21;
const CONTENT_HANDSHAKE: u8 = 22;
const ALERT_FATAL: u8 = 2;
const ALERT_PROTOCOL_VERSION: u8 = 70;
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
const DTLS_1_0: [u8; 2] = [0xfe, 0xff];
const DTLS_1_2: [u8; 2] = [0xfe, 0xfd];

/// The parts of a ClientHello that the cookie is about.
pub(super) struct ClientHello<'a> {
    /// The highest version that the client speaks.
    version: [u8; 2],
    record_sequence: [u8; 6],
    pub(super) random: [u8; 32],
    cookie: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// Reads the first fragment of a ClientHello, in which all of this lies.
    pub(super) fn parse(datagram: &'a [u8]) -> Option<Self> {
        // A handshake message in the clear (epoch 0), as only a handshake's first ones are.
        if !matches!(datagram, [CONTENT_HANDSHAKE, 0xfe, _, 0, 0, ..]) {
            return None;
        }
        let record_sequence = *datagram.get(5..)?.first_chunk()?;
        let message = datagram.get(RECORD_HEADER_BYTES..)?;
        let fragment_offset = message.get(6..9)?;
        if message.first() != Some(&CLIENT_HELLO) || fragment_offset != [0, 0, 0] {
            return None;
        }
        let body = message.get(MESSAGE_HEADER_BYTES..)?;
        let version = *body.first_chunk()?;
        let random = *body.get(2..)?.first_chunk()?;
        let (_session_id, rest) = take_vector(body.get(34..)?)?;
        let (cookie, _) = take_vector(rest)?;
        Some(Self {
            version,
            record_sequence,
            random,
            cookie,
        })
    }
}

impl ClientHello<'_> {
    /// What a client is told that speaks nothing newer than DTLS 1.0, which is long given up: the alert
    /// `protocol_version`. Without it, it would ask again and again.
    pub(super) fn too_old(&self) -> Option<[u8; RECORD_HEADER_BYTES + 2]> {
        if self.version != DTLS_1_0 {
            return None;
        }
        let mut alert = [0; RECORD_HEADER_BYTES + 2];
        alert[0] = CONTENT_ALERT;
        alert[1..3].copy_from_slice(&DTLS_1_0);
        alert[5..11].copy_from_slice(&self.record_sequence);
        alert[11..].copy_from_slice(&[0, 2, ALERT_FATAL, ALERT_PROTOCOL_VERSION]);
        Some(alert)
    }
}

/// A vector with its length in one byte, and what follows.
fn take_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(length))
}

/// Makes and checks cookies.
pub(super) struct Admission {
    key: Hmac<Sha256>,
    started: Instant,
}

/// A cookie that came back.
pub(super) struct Admitted {
    cookie: [u8; COOKIE_BYTES],
    random: [u8; 32],
}

impl Admission {
    pub(super) fn new(secret: &[u8; 32], now: Instant) -> Self {
        // RFC 2104 takes keys of any length.
        let key = Hmac::new_from_slice(secret).expect("HMAC takes a key of any length");
        Self { key, started: now }
    }

    /// Whether the hello brings the cookie that this client was given lately.
    pub(super) fn check(
        &self,
        now: Instant,
        client: SocketAddr,
        hello: &ClientHello<'_>,
    ) -> Option<Admitted> {
        let epoch = self.epoch(now);
        [Some(epoch), epoch.checked_sub(1)]
            .into_iter()
            .flatten()
            .find(|epoch| {
                self.mac(*epoch, client, &hello.random)
                    .verify_slice(hello.cookie)
                    .is_ok()
            })?;
        Some(Admitted {
            cookie: *hello.cookie.first_chunk()?,
            random: hello.random,
        })
    }

    /// The HelloVerifyRequest that gives a client its cookie. It is shorter than any ClientHello that
    /// could be answered with it, so that nobody is flooded with answers to questions in his name.
    pub(super) fn request(
        &self,
        now: Instant,
        client: SocketAddr,
        hello: &ClientHello<'_>,
    ) -> Vec<u8> {
        let cookie = self
            .mac(self.epoch(now), client, &hello.random)
            .finalize()
            .into_bytes();
        let mut body = Vec::from(DTLS_1_0);
        // 32 bytes of SHA-256.
        body.push(COOKIE_BYTES as u8);
        body.extend_from_slice(&cookie);
        // The record repeats the number of the hello's, so that nothing is kept to count with; its version
        // is the lowest, since none is agreed yet (both RFC 6347).
        record(
            DTLS_1_0,
            &hello.record_sequence,
            &message(HELLO_VERIFY_REQUEST, &body),
        )
    }

    fn epoch(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs() / EPOCH.as_secs()
    }

    fn mac(&self, epoch: u64, client: SocketAddr, random: &[u8; 32]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        mac.update(&epoch.to_be_bytes());
        match client.ip() {
            IpAddr::V4(ip) => mac.update(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => mac.update(&ip.octets()),
        }
        mac.update(&client.port().to_be_bytes());
        mac.update(random);
        mac
    }
}

impl Admitted {
    /// Brings a new session, in the server's role, to where it waits for the hello with this cookie;
    /// then it takes that hello, `datagram`.
    pub(super) fn greet(&self, dtls: &mut Dtls, datagram: &[u8]) -> Result<(), dimpl::Error> {
        let _given = GivenCookie::set(self.cookie);
        dtls.handle_packet(&self.first_hello())?;
        // The answer to it has been sent long ago, without a session.
        let mut output = [0; 512];
        while let dimpl::Output::Packet(_) = dtls.poll_output(&mut output) {}
        dtls.handle_packet(datagram)
    }

    /// A hello with the client's random and without a cookie: all that the first one has to be.
    fn first_hello(&self) -> Vec<u8> {
        let mut body = Vec::from(DTLS_1_2);
        body.extend_from_slice(&self.random);
        // No session id, no cookie; one suite (ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), no compression.
        body.extend_from_slice(&[0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        record(DTLS_1_2, &[0; 6], &message(CLIENT_HELLO, &body))
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    // Both messages that are made here have fewer than 256 bytes.
    let length = [0, 0, body.len() as u8];
    let mut message = vec![kind];
    message.extend_from_slice(&length);
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&[0, 0, 0]);
    message.extend_from_slice(&length);
    message.extend_from_slice(body);
    message
}

fn record(version: [u8; 2], sequence: &[u8; 6], message: &[u8]) -> Vec<u8> {
    let mut record = vec![CONTENT_HANDSHAKE];
    record.extend_from_slice(&version);
    record.extend_from_slice(&[0, 0]);
    record.extend_from_slice(sequence);
    record.extend_from_slice(&(message.len() as u16).to_be_bytes());
    record.extend_from_slice(message);
    record
}

/// The library's cryptography, but for cookies while one is given.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        hmac_provider: &CookieHmac,
        ..aws_lc_rs::default_provider()
    }
}

thread_local! {
    /// The cookie of the client that is being greeted on this thread.
    static GIVEN: Cell<Option<[u8; COOKIE_BYTES]>> = const { Cell::new(None) };
}

/// Gives a cookie until it is dropped.
struct GivenCookie;

impl GivenCookie {
    fn set(cookie: [u8; COOKIE_BYTES]) -> Self {
        GIVEN.set(Some(cookie));
        Self
    }
}

impl Drop for GivenCookie {
    fn drop(&mut self) {
        GIVEN.set(None);
    }
}

#[derive(Debug)]
struct CookieHmac;

impl HmacProvider for CookieHmac {
    fn hmac(
        &self,
        hash: HashAlgorithm,
        key: &[u8],
        data: &[u8],
        out: &mut [u8],
    ) -> Result<usize, CryptoError> {
        match GIVEN.get() {
            // In DTLS 1.2 the library computes an HMAC by itself for cookies only.
            Some(cookie) if out.len() >= COOKIE_BYTES => {
                out[..COOKIE_BYTES].copy_from_slice(&cookie);
                Ok(COOKIE_BYTES)
            }
            _ => aws_lc_rs::default_provider()
                .hmac_provider
                .hmac(hash, key, data, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(cookie: &[u8]) -> Vec<u8> {
        let mut body = Vec::from(DTLS_1_2);
        body.extend_from_slice(&[7; 32]);
        body.push(0);
        body.push(cookie.len() as u8);
        body.extend_from_slice(cookie);
        body.extend_from_slice(&[0, 2, 0xc0, 0x2b, 1, 0]);
        record(DTLS_1_2, &[0, 0, 0, 0, 0, 9], &message(CLIENT_HELLO, &body))
    }

    #[test]
    fn a_cookie_is_good_for_its_address_its_hello_and_a_while() {
        let now = Instant::now();
        let admission = Admission::new(&[1; 32], now);
        let client = "192.0.2.1:1000".parse().unwrap();
        let first = hello(&[]);
        let first = ClientHello::parse(&first).unwrap();
        assert!(admission.check(now, client, &first).is_none());
        let request = admission.request(now, client, &first);
        assert_eq!(request.len(), 60);
        assert_eq!(&request[5..11], &[0, 0, 0, 0, 0, 9]);
        let cookie = &request[28..];

        let second = hello(cookie);
        let second = ClientHello::parse(&second).unwrap();
        assert!(admission.check(now, client, &second).is_some());
        assert!(admission.check(now + EPOCH, client, &second).is_some());
        assert!(admission.check(now + 2 * EPOCH, client, &second).is_none());
        for other in ["192.0.2.1:1001", "192.0.2.2:1000", "[2001:db8::1]:1000"] {
            let other = other.parse().unwrap();
            assert!(admission.check(now, other, &second).is_none(), "{other}");
        }
        let other_secret = Admission::new(&[2; 32], now);
        assert!(other_secret.check(now, client, &second).is_none());
        let mut other_random = hello(cookie);
        other_random[RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES + 5] ^= 1;
        let other_random = ClientHello::parse(&other_random).unwrap();
        assert!(admission.check(now, client, &other_random).is_none());
    }

    #[test]
    fn what_is_no_hello_is_none_at_any_length() {
        let whole = hello(&[5; 32]);
        for length in 0..RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES + 2 + 32 + 1 + 1 + 32 {
            assert!(ClientHello::parse(&whole[..length]).is_none(), "{length}");
        }
        let changed = |at: usize, to: u8| {
            let mut bytes = whole.clone();
            bytes[at] = to;
            ClientHello::parse(&bytes).is_none()
        };
        assert!(changed(0, 23), "application data");
        assert!(changed(4, 1), "encrypted");
        assert!(changed(13, 2), "another message");
        assert!(changed(21, 1), "a later fragment");
    }
}

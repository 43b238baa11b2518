//! The DNS of a network with a translator to IPv4 (RFC 6147): it makes up addresses for the name that tells the
//! translator's prefix (RFC 7050), and knows no other.

use std::net::{Ipv6Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nilas_lab::{Lab, NAT64_PREFIX, Node, SERVER_V6};

/// `ipv4only.arpa` as the DNS writes it, each label behind its length.
const NAME: &[u8] = b"\x08ipv4only\x04arpa\x00";
/// RFC 7050 section 2.2: the addresses of that name, 192.0.0.170 and 192.0.0.171.
const WELL_KNOWN: [u32; 2] = [0xC000_00AA, 0xC000_00AB];
const AAAA: u16 = 28;
/// An answer: of this question, without an error, from a server that recurses.
const ANSWER: u16 = 0x8180;
const NO_SUCH_NAME: u16 = 3;

/// A server under way on the server's machine, at its first IPv6 address. Dropped, it ends.
#[derive(Debug)]
pub struct Dns64 {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns64 {
    /// Where it is.
    pub const ADDRESS: Ipv6Addr = SERVER_V6[0];

    /// Starts it.
    ///
    /// # Errors
    /// A sentence that says why it cannot.
    pub fn start(lab: &Lab) -> Result<Self, String> {
        let bound = lab.run_in(Node::Server, || UdpSocket::bind((Self::ADDRESS, 53)));
        let socket = bound
            .map_err(|error| error.to_string())?
            .map_err(|error| format!("no socket for the DNS: {error}"))?;
        // So that it looks whether it is to end.
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .map_err(|error| error.to_string())?;
        let ended = Arc::new(AtomicBool::new(false));
        let is_ended = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 512];
            while !is_ended.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer)
                    && let Some(answer) = answer(&buffer[..length])
                {
                    // Whoever does not get it asks again.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(Self {
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Dns64 {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported already.
            let _ = thread.join();
        }
    }
}

/// The answer to a query with one question; none to what is no such query.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let (id, questions) = (query.get(..2)?, query.get(4..6)?);
    if questions != [0, 1] {
        return None;
    }
    let length = query.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let question = query.get(12..12 + length + 4)?;
    let (name, kind) = question.split_at(length);
    let is_known = name.eq_ignore_ascii_case(NAME);
    let found = match is_known && kind[..2] == AAAA.to_be_bytes() {
        true => &WELL_KNOWN[..],
        false => &[],
    };
    let flags = ANSWER | if is_known { 0 } else { NO_SUCH_NAME };
    let mut answer = id.to_vec();
    for number in [flags, 1, found.len() as u16, 0, 0] {
        answer.extend(number.to_be_bytes());
    }
    answer.extend(question);
    for address in found {
        // The name of the question, type, class, a minute, the length, the address.
        for number in [0xC00C, AAAA, 1, 0, 60, 16] {
            answer.extend(number.to_be_bytes());
        }
        let made_up = NAT64_PREFIX.to_bits() | u128::from(*address);
        answer.extend(made_up.to_be_bytes());
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &[u8], kind: u16) -> Vec<u8> {
        let mut query = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(name);
        query.extend(kind.to_be_bytes());
        query.extend([0, 1]);
        query
    }

    #[test]
    fn the_name_that_tells_the_prefix_has_two_addresses() {
        let told = answer(&query(b"\x08IPv4only\x04arpa\x00", AAAA)).expect("an answer");
        assert_eq!(told[..12], [7, 7, 0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
        let made_up: Ipv6Addr = "2001:db8:64:64::c000:aa".parse().expect("an address");
        let first = told.len() - 2 * 28 + 12;
        assert_eq!(told[first..first + 16], made_up.octets());
    }

    #[test]
    fn another_type_has_none_and_another_name_is_not_there() {
        for (name, kind, flags) in [
            (NAME, 1, [0x81, 0x80]),
            (b"\x03www\x00".as_slice(), AAAA, [0x81, 0x83]),
        ] {
            let told = answer(&query(name, kind)).expect("an answer");
            assert_eq!((&told[2..4], &told[6..8]), (&flags[..], &[0, 0][..]));
        }
        assert_eq!(answer(&query(NAME, AAAA)[..20]), None);
    }
}

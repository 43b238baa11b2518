//! How the datagrams of a socket are marked, to be passed on with them (RFC 8656 sections 13 and 14).
//!
//! quinn-udp, which takes many datagrams with one system call, tells their ECN and not their DSCP. nix tells the whole
//! octet, but of one datagram at a time: what its `recvmmsg` needs would have to be allocated for each call. So a
//! socket is read one by one as long as a DSCP is to be expected, and otherwise many at a time, where it is taken for
//! best effort.

use core::cell::Cell;

use nilas_net::TrafficClass;

/// After so many datagrams without a DSCP none is expected any more.
const PATIENCE: u16 = 1_024;
/// Then a close look follows all the same after so many others that found something.
const SELDOM: u16 = 32;

/// What a socket's datagrams were marked with lately.
#[derive(Default)]
pub(super) struct Marks {
    /// Datagrams since the last one with a DSCP, or since the beginning.
    without: Cell<u16>,
    /// Looks since the last close one.
    looks: Cell<u16>,
}

impl Marks {
    /// Whether the next look at the socket is to tell the whole octet.
    pub(super) fn look_closely(&self) -> bool {
        // Nobody tells it elsewhere.
        cfg!(target_os = "linux") && (self.without.get() < PATIENCE || self.looks.get() >= SELDOM)
    }

    /// Notes that a look found something, and was not a close one.
    pub(super) fn looked(&self) {
        self.looks.set(self.looks.get().saturating_add(1));
    }

    /// Notes how a datagram was marked that was looked at closely.
    pub(super) fn note(&self, class: TrafficClass) {
        self.looks.set(0);
        let without = match class.has_dscp() {
            true => 0,
            false => self.without.get().saturating_add(1),
        };
        self.without.set(without);
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use nilas_net::Ecn;

    use super::*;

    #[test]
    fn a_socket_is_looked_at_closely_while_a_dscp_is_to_be_expected_and_seldom_afterwards() {
        let marks = Marks::default();
        let ect = TrafficClass::NONE.with_ecn(Ecn::Ect0);
        for _ in 0..PATIENCE {
            assert!(marks.look_closely());
            marks.note(ect);
        }
        for _ in 0..10 {
            for _ in 0..SELDOM {
                assert!(!marks.look_closely());
                marks.looked();
            }
            // Whether or not there is something to be found.
            assert!(marks.look_closely() && marks.look_closely());
            marks.note(ect);
        }
        marks.note(TrafficClass::from_octet(46 << 2));
        assert!(marks.look_closely() && marks.look_closely());
    }
}

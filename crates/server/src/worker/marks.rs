//! How the datagrams of a socket are marked, to be passed on with them (RFC 8656 sections 13 and 14).
//!
//! On Linux, telling marks costs a twentieth of what a datagram costs as a whole. quinn-udp, which takes many datagrams
//! with one system call, tells their ECN and not their DSCP; nix tells the whole octet, but of one datagram at a time:
//! what its `recvmmsg` needs would have to be allocated for each call. So a socket tells marks, and is read one by one, as
//! long as marks are to be expected. Otherwise it is read many at a time, and what comes is taken for unmarked.
//!
//! So a mark may be lost, and none is ever made up: what was missed goes out as best effort and Not-ECT, which is section 14's
//! alternate behavior. A flow that has a socket for itself, as each has from peers, is noticed within 64 looks. On one
//! that others keep busy without marks, a flow of less than a datagram in a thousand is missed more often than not; its
//! receiver then sees Not-ECT, as where a router on the way clears the field, which users of ECN have to check for anyway.

use core::cell::Cell;

use nilas_net::TrafficClass;

/// After so many unmarked datagrams no mark is expected any more.
const PATIENCE: u16 = 1_024;
/// Then a close look follows all the same after so many others that found something.
const SELDOM: u16 = 64;

/// What a socket's datagrams were marked with lately.
pub(super) struct Marks {
    /// Datagrams since the last marked one, or since the beginning.
    unmarked: Cell<u16>,
    /// Looks since the last close one.
    looks: Cell<u16>,
    /// Whether the socket tells marks, as it does at first.
    told: Cell<bool>,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            unmarked: Cell::new(0),
            looks: Cell::new(0),
            told: Cell::new(true),
        }
    }
}

impl Marks {
    /// Whether the next look at the socket is to be a close one. If that needs the socket to tell marks, or not to any more,
    /// `tell` is called.
    pub(super) fn look_closely(&self, tell: impl FnOnce(bool)) -> bool {
        let closely = self.unmarked.get() < PATIENCE || self.looks.get() >= SELDOM;
        if self.told.replace(closely) != closely {
            tell(closely);
        }
        closely
    }

    /// Notes that a look found something, and was not a close one.
    pub(super) fn looked(&self) {
        self.looks.set(self.looks.get().saturating_add(1));
    }

    /// Notes how a datagram was marked that was looked at closely.
    pub(super) fn note(&self, class: TrafficClass) {
        self.looks.set(0);
        let unmarked = match class {
            TrafficClass::NONE => self.unmarked.get().saturating_add(1),
            _ => 0,
        };
        self.unmarked.set(unmarked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(_: bool) {
        panic!("nothing changes");
    }

    #[test]
    fn a_socket_is_looked_at_closely_while_marks_are_to_be_expected_and_seldom_afterwards() {
        let marks = Marks::default();
        for _ in 0..PATIENCE {
            assert!(marks.look_closely(quiet));
            marks.note(TrafficClass::NONE);
        }
        for _ in 0..10 {
            let told = Cell::new(None);
            assert!(!marks.look_closely(|tell| told.set(Some(tell))));
            assert_eq!(told.get(), Some(false));
            for _ in 0..SELDOM {
                assert!(!marks.look_closely(quiet));
                marks.looked();
            }
            assert!(marks.look_closely(|tell| told.set(Some(tell))));
            assert_eq!(told.get(), Some(true));
            // Until there was something to be found.
            assert!(marks.look_closely(quiet));
            marks.note(TrafficClass::NONE);
        }
        for _ in 0..SELDOM {
            marks.looked();
        }
        assert!(marks.look_closely(|_| ()));
        marks.note(TrafficClass::from_octet(2));
        assert!(marks.look_closely(quiet));
    }
}

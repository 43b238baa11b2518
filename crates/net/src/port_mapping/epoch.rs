//! The clock of a gateway, which goes on from zero when the gateway has forgotten its mappings.

use tokio::time::Instant;

/// The protocols whose answers tell the gateway's time: they judge it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    NatPmp,
    Pcp,
}

/// What a gateway's clock said, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Epoch {
    pub(super) seconds: u32,
    pub(super) at: Instant,
}

impl Epoch {
    /// Whether the gateway's clock has gone on from `before` to this, and not begun anew.
    pub(super) fn follows(self, before: Self, protocol: Protocol) -> bool {
        let own = self.at.saturating_duration_since(before.at).as_secs();
        let [was, is] = [before.seconds, self.seconds].map(u64::from);
        match protocol {
            // RFC 6886 section 3.6: no more than two seconds less than 7/8 of the time that has passed here.
            Protocol::NatPmp => is + 2 >= was + own * 7 / 8,
            // RFC 6887 section 8.5. A second back may be two answers that overtook each other.
            Protocol::Pcp => {
                let theirs = is.saturating_sub(was);
                is + 1 >= was && own + 2 >= theirs - theirs / 16 && theirs + 2 >= own - own / 16
            }
        }
    }
}

/// The time in what a gateway announces to all when it has begun anew.
pub(super) fn announced(packet: &[u8]) -> Option<(Protocol, u32)> {
    let (protocol, seconds) = match *packet {
        // RFC 6886 section 3.2.1: the answer to a question for the external address, which nobody has asked.
        [0, 128, 0, 0, a, b, c, d, _, _, _, _] => (Protocol::NatPmp, [a, b, c, d]),
        // RFC 6887 sections 7.2 and 14.1.1: the answer of ANNOUNCE.
        [2, 128, _, 0, _, _, _, _, a, b, c, d, ..] if is_answer_of_pcp(packet.len()) => {
            (Protocol::Pcp, [a, b, c, d])
        }
        _ => return None,
    };
    Some((protocol, u32::from_be_bytes(seconds)))
}

/// RFC 6887 section 8.3.
const fn is_answer_of_pcp(length: usize) -> bool {
    matches!(length, 24..=1_100) && length.is_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whether the clock that said `was` may say `is` so many seconds later.
    fn follows(protocol: Protocol, was: u32, is: u32, after: u64) -> bool {
        let at = Instant::now();
        let before = Epoch { seconds: was, at };
        let now = Epoch {
            seconds: is,
            at: at + Duration::from_secs(after),
        };
        now.follows(before, protocol)
    }

    #[test]
    fn a_clock_of_pcp_may_be_wrong_by_a_sixteenth_and_two_seconds() {
        let pcp = |was, is, after| follows(Protocol::Pcp, was, is, after);
        assert!(pcp(1_000, 1_100, 100));
        // Back by a second, and by two.
        assert!(pcp(1_000, 999, 0) && !pcp(1_000, 998, 0));
        // 1,600 seconds, of which a sixteenth are a hundred.
        assert!(pcp(0, 1_498, 1_600) && !pcp(0, 1_497, 1_600));
        assert!(pcp(0, 1_600, 1_498) && !pcp(0, 1_600, 1_497));
        assert!(!pcp(1_000, 0, 100) && !pcp(1_000, u32::MAX, 100));
        assert!(!pcp(u32::MAX, 0, 1));
    }

    #[test]
    fn a_clock_of_nat_pmp_may_be_slow_by_an_eighth_and_fast_as_it_likes() {
        let natpmp = |was, is, after| follows(Protocol::NatPmp, was, is, after);
        assert!(natpmp(1_000, 1_698, 800) && !natpmp(1_000, 1_697, 800));
        assert!(natpmp(1_000, u32::MAX, 1));
        assert!(natpmp(1_000, 998, 0) && !natpmp(1_000, 997, 0));
    }

    #[test]
    fn announcements_are_told_from_everything_else() {
        let natpmp = [0, 128, 0, 0, 0, 0, 1, 2, 192, 0, 2, 1];
        assert_eq!(announced(&natpmp), Some((Protocol::NatPmp, 258)));
        let mut pcp = [0; 28];
        pcp[..2].copy_from_slice(&[2, 128]);
        pcp[11] = 7;
        for length in [24, 28] {
            assert_eq!(announced(&pcp[..length]), Some((Protocol::Pcp, 7)));
        }
        for length in [0, 11, 12, 23, 25] {
            assert_eq!(announced(&pcp[..length]), None, "{length}");
        }
        // An error, a request, and an answer of MAP.
        for (place, other) in [(3, 2), (1, 0), (1, 129)] {
            let mut changed = pcp;
            changed[place] = other;
            assert_eq!(announced(&changed), None);
        }
        assert_eq!(announced(&natpmp[..11]), None);
    }
}

//! Why a pair won, in a sentence.

use nilas_ice::{CandidateType, PairState};

use super::pairs::PairView;

/// Says why data takes this pair and not another of `pairs`.
pub(crate) fn why(winner: &PairView, pairs: &[PairView]) -> String {
    let others: Vec<_> = pairs
        .iter()
        .filter(|pair| !pair.same_ends(winner))
        .collect();
    let unanswered = |kind| {
        others.iter().any(|pair| {
            pair.local.kind == kind
                && pair.remote.kind == kind
                && pair.state != PairState::Succeeded
        })
    };
    let (local, remote) = (winner.local.kind, winner.remote.kind);
    let relayed = |pair: &PairView| {
        CandidateType::Relay == pair.local.kind || CandidateType::Relay == pair.remote.kind
    };
    let mut sentence = match (local, remote) {
        _ if relayed(winner) && others.iter().all(|pair| relayed(pair)) => {
            "no direct pair was tried, so a relay carries the data".to_owned()
        }
        _ if relayed(winner) && others.iter().any(|pair| !relayed(pair) && pair.state == PairState::Succeeded) => {
            "what is direct was answered and is no better at this moment, so a relay carries the data".to_owned()
        }
        (CandidateType::Relay, _) | (_, CandidateType::Relay) => "nothing direct was answered, so a relay carries the data".to_owned(),
        (CandidateType::Host, CandidateType::Host) if winner.local.host() == winner.remote.host() => {
            "both peers are on this machine, and nothing is nearer".to_owned()
        }
        (CandidateType::Host, CandidateType::Host) => {
            let beaten = others.iter().map(|pair| pair.local.kind.max(pair.remote.kind)).filter(|kind| *kind != CandidateType::Host).min();
            match beaten {
                Some(kind) => format!("host beats {kind}: no NAT in between"),
                None => "both peers reach each other's own address: no NAT in between".to_owned(),
            }
        }
        (CandidateType::Prflx, _) => {
            "the peer sees an address that no server had told: the NAT of this side gave the check one of its own".to_owned()
        }
        (_, CandidateType::Prflx) => {
            "the peer's check came from an address that no server had told, and the way back to it works".to_owned()
        }
        (CandidateType::Srflx, CandidateType::Srflx) => {
            "both NATs let in answers to what went out, and both sides sent at once".to_owned()
        }
        (CandidateType::Srflx, CandidateType::Host) => {
            "the peer's own address can be reached from behind the NAT of this side".to_owned()
        }
        (CandidateType::Host, CandidateType::Srflx) => {
            "the peer is behind a NAT that lets in answers, and this side can be reached directly".to_owned()
        }
    };
    if (local, remote) != (CandidateType::Host, CandidateType::Host)
        && unanswered(CandidateType::Host)
    {
        sentence.push_str("; the pairs of their own addresses were not answered");
    }
    if winner.local.is_ipv6()
        && others
            .iter()
            .any(|pair| !pair.local.is_ipv6() && pair.state == PairState::Succeeded)
    {
        sentence.push_str("; IPv6 goes before IPv4");
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::super::pairs::Endpoint;
    use super::*;

    fn pair(
        local: (CandidateType, &str),
        remote: (CandidateType, &str),
        state: PairState,
    ) -> PairView {
        let endpoint = |(kind, address): (CandidateType, &str)| Endpoint {
            kind,
            address: address.to_owned(),
        };
        PairView {
            id: String::new(),
            local: endpoint(local),
            remote: endpoint(remote),
            state,
            nominated: false,
            rtt_ms: None,
        }
    }

    #[test]
    fn a_host_pair_names_what_it_beat() {
        use CandidateType::{Host, Srflx};
        let winner = pair(
            (Host, "192.0.2.1:1"),
            (Host, "192.0.2.2:2"),
            PairState::Succeeded,
        );
        let beaten = pair(
            (Host, "192.0.2.1:1"),
            (Srflx, "203.0.113.5:2"),
            PairState::Waiting,
        );
        assert_eq!(
            why(&winner, &[winner.clone(), beaten]),
            "host beats srflx: no NAT in between"
        );
        assert!(why(&winner, std::slice::from_ref(&winner)).starts_with("both peers reach"));
        let local = pair(
            (Host, "127.0.0.1:1"),
            (Host, "127.0.0.1:2"),
            PairState::Succeeded,
        );
        assert!(why(&local, &[]).contains("this machine"));
    }

    #[test]
    fn a_reflexive_pair_names_what_was_not_answered() {
        use CandidateType::{Host, Prflx, Srflx};
        let winner = pair(
            (Srflx, "203.0.113.5:1"),
            (Srflx, "203.0.113.9:2"),
            PairState::Succeeded,
        );
        let dead = pair(
            (Host, "10.0.0.1:1"),
            (Host, "10.0.0.2:2"),
            PairState::Failed,
        );
        let sentence = why(&winner, &[dead]);
        assert!(
            sentence.starts_with("both NATs") && sentence.ends_with("were not answered"),
            "{sentence}"
        );
        let learned = pair(
            (Prflx, "203.0.113.5:1"),
            (Srflx, "203.0.113.9:2"),
            PairState::Succeeded,
        );
        assert!(why(&learned, &[]).contains("no server had told"));
    }

    #[test]
    fn a_relay_says_what_became_of_the_direct_pairs() {
        use CandidateType::{Host, Relay};
        let relay = (Relay, "203.0.113.9:1");
        let winner = pair(relay, (Host, "192.0.2.2:2"), PairState::Succeeded);
        let direct = |state| pair((Host, "192.0.2.1:1"), (Host, "192.0.2.2:2"), state);
        for (others, words) in [
            (vec![], "no direct pair was tried"),
            (
                vec![direct(PairState::Failed)],
                "nothing direct was answered",
            ),
            (
                vec![direct(PairState::Succeeded)],
                "what is direct was answered",
            ),
        ] {
            let sentence = why(&winner, &others);
            assert!(sentence.starts_with(words), "{sentence}");
        }
    }

    #[test]
    fn ipv6_before_ipv4_is_said_only_where_both_work() {
        use CandidateType::Host;
        let winner = pair(
            (Host, "[2001:db8::1]:1"),
            (Host, "[2001:db8::2]:2"),
            PairState::Succeeded,
        );
        let v4 = |state| pair((Host, "192.0.2.1:1"), (Host, "192.0.2.2:2"), state);
        assert!(why(&winner, &[v4(PairState::Succeeded)]).ends_with("IPv6 goes before IPv4"));
        assert!(!why(&winner, &[v4(PairState::Failed)]).contains("IPv4"));
    }
}

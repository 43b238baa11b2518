//! What a server has done, as Prometheus reads it (text format 0.0.4). No label holds anything that a client
//! chose, so the number of series is fixed, and nobody is named.

use core::fmt::Write;

use crate::counters::ServerStats;

/// How a number behaves.
#[derive(Clone, Copy)]
enum Kind {
    /// It only grows.
    Counter,
    /// It is how many there are now.
    Gauge,
}

/// The page.
pub(crate) fn page(stats: &ServerStats, draining: bool) -> String {
    let ServerStats {
        turn, rendezvous, ..
    } = stats;
    let mut page = Page::default();
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    page.labelled(
        "nilas_build_info",
        Kind::Gauge,
        "The version that runs.",
        &[(version, 1)],
    );
    page.gauge(
        "nilas_draining",
        "1 while the server makes no new allocations.",
        u64::from(draining),
    );

    page.gauge(
        "nilas_turn_allocations",
        "Allocations now.",
        turn.allocations,
    );
    page.gauge(
        "nilas_turn_users",
        "Users that have allocations now.",
        stats.users as u64,
    );
    page.gauge(
        "nilas_turn_relays",
        "Relayed transport addresses now.",
        turn.relays,
    );
    page.gauge(
        "nilas_turn_ports",
        "Ports of relayed addresses in use now, with those reserved.",
        stats.ports_in_use as u64,
    );
    page.gauge(
        "nilas_turn_reservations",
        "Ports reserved now.",
        turn.reservations,
    );
    page.gauge(
        "nilas_turn_streams",
        "Client streams open now.",
        turn.streams,
    );
    page.gauge(
        "nilas_turn_connections",
        "TCP connections to peers now.",
        turn.connections,
    );
    page.gauge("nilas_turn_timers", "Deadlines kept now.", turn.timers);
    page.counter(
        "nilas_turn_allocations_made_total",
        "Allocations made.",
        turn.allocations_made,
    );
    page.labelled(
        "nilas_turn_relayed_packets_total",
        Kind::Counter,
        "Datagrams relayed.",
        &[
            ("direction=\"to_peers\"", turn.packets_to_peers),
            ("direction=\"to_clients\"", turn.packets_to_clients),
        ],
    );
    page.labelled(
        "nilas_turn_relayed_bytes_total",
        Kind::Counter,
        "Bytes of application data relayed.",
        &[
            ("direction=\"to_peers\"", turn.bytes_to_peers),
            ("direction=\"to_clients\"", turn.bytes_to_clients),
        ],
    );
    page.labelled(
        "nilas_turn_requests_refused_total",
        Kind::Counter,
        "Requests answered with an error.",
        &[
            ("reason=\"challenged\"", turn.challenged),
            ("reason=\"wrong_credentials\"", turn.wrong_credentials),
            ("reason=\"stale_nonce\"", turn.stale_nonces),
            ("reason=\"wrong_user\"", turn.wrong_user),
            ("reason=\"peer_forbidden\"", turn.peers_forbidden),
            ("reason=\"over_quota\"", turn.over_quota),
            ("reason=\"no_capacity\"", turn.no_capacity),
            ("reason=\"redirected\"", turn.redirected),
            ("reason=\"other\"", turn.refused),
        ],
    );
    page.labelled(
        "nilas_turn_dropped_total",
        Kind::Counter,
        "Messages and data dropped without an answer.",
        &[
            ("reason=\"not_stun\"", turn.not_stun),
            ("reason=\"malformed\"", turn.malformed),
            ("reason=\"unexpected\"", turn.unexpected),
            ("reason=\"unknown_method\"", turn.unknown_method),
            ("reason=\"no_allocation\"", turn.no_allocation),
            ("reason=\"no_channel\"", turn.no_channel),
            ("reason=\"no_permission\"", turn.no_permission),
            ("reason=\"over_bandwidth\"", turn.over_bandwidth),
            ("reason=\"not_sent\"", stats.relay_not_sent),
            ("reason=\"handover\"", stats.handovers_lost),
            ("reason=\"stream_full\"", stats.stream_data_lost),
        ],
    );
    page.labelled(
        "nilas_turn_answers_held_back_total",
        Kind::Counter,
        "Answers that were not sent.",
        &[
            ("reason=\"source_limit\"", turn.answers_limited),
            ("reason=\"too_long\"", turn.answers_too_long),
            ("reason=\"queue_full\"", turn.answers_dropped),
        ],
    );
    page.labelled(
        "nilas_turn_streams_closed_total",
        Kind::Counter,
        "Client streams closed by the server.",
        &[
            ("reason=\"misframed\"", turn.streams_misframed),
            ("reason=\"idle\"", turn.streams_idle),
            ("reason=\"slow\"", stats.streams_slow),
        ],
    );
    page.counter(
        "nilas_stun_bindings_total",
        "Binding requests answered.",
        turn.bindings,
    );
    page.labelled(
        "nilas_udp_datagrams_total",
        Kind::Counter,
        "Datagrams over UDP from clients, and what became of their answers.",
        &[
            ("what=\"received\"", stats.udp_received),
            ("what=\"answered\"", stats.udp_answered),
            ("what=\"ignored\"", stats.udp_ignored),
            ("what=\"not_sent\"", stats.udp_not_sent),
        ],
    );
    page.counter(
        "nilas_tcp_answers_total",
        "Answers over streams.",
        stats.tcp_answered,
    );
    page.labelled(
        "nilas_accepted_total",
        Kind::Counter,
        "Connections accepted.",
        &[
            ("listener=\"stun\"", stats.tcp_accepted),
            ("listener=\"http\"", stats.http_accepted),
        ],
    );
    page.labelled(
        "nilas_accept_refused_total",
        Kind::Counter,
        "Connections closed at once, as there were too many.",
        &[
            ("listener=\"stun\"", stats.tcp_refused),
            ("listener=\"http\"", stats.http_refused),
        ],
    );
    page.gauge(
        "nilas_rendezvous_connections",
        "Clients of the rendezvous now.",
        rendezvous.connections as u64,
    );
    page.gauge(
        "nilas_rendezvous_codes",
        "Codes in use now.",
        rendezvous.codes as u64,
    );
    page.counter(
        "nilas_rendezvous_met_total",
        "Pairs of peers that met.",
        rendezvous.met,
    );
    page.counter(
        "nilas_rendezvous_refused_total",
        "Clients of the rendezvous refused.",
        rendezvous.refused,
    );
    page.0
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.labelled(name, Kind::Counter, help, &[("", value)]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.labelled(name, Kind::Gauge, help, &[("", value)]);
    }

    fn labelled(&mut self, name: &str, kind: Kind, help: &str, values: &[(&str, u64)]) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for (labels, value) in values {
            let _ = if labels.is_empty() {
                writeln!(self.0, "{name} {value}")
            } else {
                writeln!(self.0, "{name}{{{labels}}} {value}")
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nilas_turn::server::Counters as TurnCounters;

    use super::*;
    use crate::rendezvous::RendezvousCounts;

    /// Every number another one.
    fn distinct() -> ServerStats {
        let mut next = 1_000;
        let mut turn = TurnCounters::default();
        for field in [
            &mut turn.not_stun,
            &mut turn.malformed,
            &mut turn.unexpected,
            &mut turn.unknown_method,
            &mut turn.bindings,
            &mut turn.challenged,
            &mut turn.wrong_credentials,
            &mut turn.stale_nonces,
            &mut turn.wrong_user,
            &mut turn.refused,
            &mut turn.peers_forbidden,
            &mut turn.over_quota,
            &mut turn.no_capacity,
            &mut turn.redirected,
            &mut turn.answers_limited,
            &mut turn.answers_too_long,
            &mut turn.answers_dropped,
            &mut turn.no_allocation,
            &mut turn.no_channel,
            &mut turn.no_permission,
            &mut turn.over_bandwidth,
            &mut turn.streams_misframed,
            &mut turn.streams_idle,
            &mut turn.packets_to_peers,
            &mut turn.bytes_to_peers,
            &mut turn.packets_to_clients,
            &mut turn.bytes_to_clients,
            &mut turn.allocations_made,
            &mut turn.allocations,
            &mut turn.relays,
            &mut turn.streams,
            &mut turn.connections,
            &mut turn.reservations,
            &mut turn.timers,
        ] {
            next += 1;
            *field = next;
        }
        ServerStats {
            udp_received: 1,
            udp_answered: 2,
            udp_ignored: 3,
            udp_not_sent: 4,
            tcp_accepted: 5,
            tcp_refused: 6,
            tcp_answered: 7,
            http_accepted: 8,
            http_refused: 9,
            relay_not_sent: 10,
            handovers_lost: 11,
            stream_data_lost: 18,
            streams_slow: 19,
            ports_in_use: 12,
            users: 13,
            turn,
            rendezvous: RendezvousCounts {
                connections: 14,
                codes: 15,
                met: 16,
                refused: 17,
            },
        }
    }

    #[test]
    fn every_number_of_the_server_is_on_the_page_once() {
        let stats = distinct();
        let page = page(&stats, false);
        let shown: Vec<&str> = page
            .lines()
            .filter(|line| !line.starts_with('#') && !line.starts_with("nilas_build_info"))
            .filter_map(|line| line.rsplit(' ').next())
            .collect();
        // What Debug shows is every number there is, also one that this test does not know.
        let debug = format!("{stats:?}");
        let numbers: Vec<&str> = debug
            .split(|c: char| !c.is_ascii_digit())
            .filter(|text| !text.is_empty())
            .collect();
        assert!(
            !numbers.contains(&"0"),
            "a number is not set by this test: {debug}"
        );
        for number in &numbers {
            assert_eq!(
                shown.iter().filter(|shown| shown == &number).count(),
                1,
                "{number}"
            );
        }
        assert_eq!(shown.len(), numbers.len() + 1, "and nilas_draining");
    }

    #[test]
    fn the_page_is_what_prometheus_reads() {
        let page = page(&distinct(), true);
        assert!(page.ends_with('\n') && page.contains("\nnilas_draining 1\n"));
        let mut series = BTreeSet::new();
        let mut named = "";
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
                named = name;
            } else if !line.starts_with('#') {
                let (name, value) = line.rsplit_once(' ').expect("a series and a value");
                assert!(value.parse::<u64>().is_ok(), "{line}");
                assert!(
                    name == named || name.starts_with(&format!("{named}{{")),
                    "{line}"
                );
                assert!(series.insert(name.to_owned()), "twice: {name}");
            }
        }
    }
}

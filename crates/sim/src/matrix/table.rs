//! What is expected of each pair of kinds: the two matrices, and the rest, as data.
//!
//! Two letters name a path as the first peer does when it controls: its own end, then the other's; `h` host, `s`
//! server-reflexive, `p` peer-reflexive, `r` relay; a `t` behind them, that it is a connection (RFC 6544). Where the other peer controls, the mirrored cell holds.
//!
//! # How the cells were reasoned
//!
//! - An end is named by its mapped address (RFC 8445 section 7.2.5.3.2). An endpoint-independent mapping (RFC
//!   4787 section 4.1) is the same to the peer as to the STUN server: `s`. Another mapping shows the peer an
//!   address that it was not told: `p`.
//! - Two endpoint-independent mappings always pass: both sides send to the other's told address, and each filter
//!   (RFC 4787 section 5) has then seen the address and the port that the other's checks come from.
//! - An unforeseen port passes a filter that does not look at ports. With one endpoint-independent mapping such a
//!   filter on its side is enough.
//! - With none, a filter is needed that lets strangers in, `eif`; what came in is answered from the port it came
//!   to, so that side keeps its told address. Where both are `eif`, the peer-reflexive candidate has the higher
//!   priority (RFC 8445 section 5.1.2.2), so the controlling side takes the other's unforeseen port.
//! - `eim-apdf` with a port that depends on the destination has no direct path, not even to `eif`: both sides send
//!   at the same time, so the other's NAT has a session towards this peer, from an unforeseen port, before this
//!   peer's check reaches it, and answers from there.
//! - Over TCP the same holds of connections that both sides open at once, from the ports that a server has seen (RFC 6544
//!   section 5.2).
//! - Otherwise one relay carries it. Of the two relays the controlling side takes the other's: the pair of its base
//!   with the other's relay has the higher priority (RFC 8445 section 6.1.2.3: equal minima, and a base is of type
//!   host). RFC 8445 section 7.2.5.3.2 names its own end by the relay's view: `s` where the relay's address,
//!   which is the STUN server's, sees the same port, and else `p`.

/// libwebrtc's ten kinds of endpoint, in the order of its own table: the last three are its `!UDP`, `!UDP, !TCP in`
/// and `HTTP only`.
pub(super) const ENDPOINTS: [&str; 10] = [
    "open",
    "eim-eif",
    "eim-adf",
    "eim-apdf",
    "apdm-apdf",
    "cgn:eim-eif:eim-eif",
    "cgn:eim-eif:apdm-apdf",
    "open+noudp",
    "v4fw+noudp",
    "open+tcp443",
];

/// The ten kinds of endpoint, beside each other.
///
/// Who cannot send UDP but open connections to any port does so: to an open network, or from it, since its own
/// passive candidate can be reached, by whoever is behind a NAT as well. The side that connects is peer-reflexive, and
/// between two open networks it is the controlling one: its active candidate makes a better pair with the other's
/// passive one than the other way round (RFC 6544 section 4.2). Where no
/// connection may come in, both sides open one at the same time (simultaneous-open candidates), which a firewall lets pass,
/// and a NAT whose port for it is foreseen; an open network's passive candidate does as well. Who can open connections to
/// ports 80 and 443 only has its own relay and nothing else, so the other side's path leads there.
#[rustfmt::skip]
pub(super) const ENDPOINT_CELLS: [&str; 10] = [
    "hh hs hs hs hp hs hp pht hht hr",
    "sh ss ss ss sp ss sp pht sht sr",
    "sh ss ss ss sp ss sp pht sht sr",
    "sh ss ss ss sr ss sr pht sht sr",
    "ph ps ps pr pr ps pr pht pr pr",
    "sh ss ss ss sp ss sp pht sht sr",
    "ph ps ps pr pr ps pr pht pr pr",
    "pht hpt hpt hpt hpt hpt hpt pht hht rr",
    "pht hst hst hst rp hst rp pht hht rr",
    "rh rs rs rs rp rs rp rr rr rr",
];

/// What libwebrtc's own table has there: `tt` a path over ICE-TCP, `--` no assertion.
#[rustfmt::skip]
pub(super) const LIBWEBRTC_CELLS: [&str; 10] = [
    "hh hs hs hs hp hs hp tt tt --",
    "sh ss ss ss sp ss sp -- -- --",
    "sh ss ss ss sp ss sp -- -- --",
    "sh ss ss ss rp ss rp -- -- --",
    "ph ps ps pr pr ps pr -- -- --",
    "sh ss ss ss sp ss sp -- -- --",
    "ph ps ps pr pr ps pr -- -- --",
    "tt -- -- -- -- -- -- tt tt --",
    "tt -- -- -- -- -- -- tt -- --",
    "-- -- -- -- -- -- -- -- -- --",
];

/// Why a cell differs from libwebrtc's.
pub(super) fn beside_libwebrtc(theirs: &str, ours: &str) -> &'static str {
    match theirs {
        _ if theirs == ours => "",
        "--" => "libwebrtc asserts nothing here",
        "tt" if ours.ends_with('t') => "",
        _ => {
            "one relay, as in libwebrtc, but the other side's: the controlling side's base makes the better pair with it"
        }
    }
}

/// The nine types of NAT that RFC 4787 knows: mapping and filtering.
pub(super) const NATS: [&str; 9] = [
    "eim-eif",
    "eim-adf",
    "eim-apdf",
    "adm-eif",
    "adm-adf",
    "adm-apdf",
    "apdm-eif",
    "apdm-adf",
    "apdm-apdf",
];

/// The nine types of NAT, beside each other.
#[rustfmt::skip]
pub(super) const NAT_CELLS: [&str; 9] = [
    "ss ss ss sp sp sp sp sp sp",
    "ss ss ss sp sp sp sp sp sp",
    "ss ss ss sr sr sr sr sr sr",
    "ps ps sr sp sp sp sp sp sp",
    "ps ps sr ps sr sr ps sr sr",
    "ps ps sr ps sr sr ps sr sr",
    "ps ps pr sp sp sp sp sp sp",
    "ps ps pr ps pr pr ps pr pr",
    "ps ps pr ps pr pr ps pr pr",
];

/// A cell outside of both matrices: the kinds, and the path when the first or the second peer controls.
pub(super) struct Single {
    pub(super) a: &'static str,
    pub(super) b: &'static str,
    pub(super) paths: [&'static str; 2],
    pub(super) why: &'static str,
}

/// What neither matrix holds.
#[rustfmt::skip]
pub(super) const SINGLES: [Single; 23] = [
    single("plain", "same", ["hh", "hh"], "one network: the addresses of the machines reach each other"),
    single("plain", "plain+overlap", ["ss", "ss"], "the same private addresses on both sides lead nowhere, and do no harm"),
    single("cgn:plain:eim-apdf", "eim-apdf", ["ss", "ss"], "two endpoint-independent mappings in a row are one"),
    single("cgn:plain:eim-apdf", "apdm-apdf", ["sr", "rp"], "no direct path past the carrier's filter, as behind one eim-apdf"),
    single("cgn:plain:eim-apdf+hairpin", "samecgn", ["ss", "ss"], "the carrier's NAT turns what is for its own outside back in (RFC 4787 section 6)"),
    single("cgn:plain:eim-apdf", "samecgn", ["sr", "rs"], "without hairpinning nothing gets from one customer's told address to another's"),
    single("cgn:plain:apdm-apdf", "plain", ["pr", "rs"], "the carrier's NAT is the one that the peer sees"),
    single("v6fw", "v6fw", ["hh", "hh"], "no NAT: both firewalls have seen a check leave before one comes"),
    single("v6fw", "open", ["hh", "hh"], "the firewall's side sends first as far as its firewall is concerned"),
    single("v6fw", "plain", ["hr", "hr"], "no family in common: the relay of the IPv4 side has an IPv6 address as well"),
    single("v4fw", "v4fw", ["hh", "hh"], "as two IPv6 firewalls"),
    single("v4fw", "sym", ["hr", "rp"], "a stateful firewall filters as apdf does, and the port of sym is unforeseen"),
    single("dual", "dual", ["hh", "hh"], "IPv6 host candidates reach each other where IPv4 has NATs"),
    single("dual", "sym", ["sr", "rp"], "IPv4 only, and that is eim-apdf beside apdm-apdf"),
    single("v6broken", "dual", ["ss", "ss"], "IPv6 leads nowhere, and IPv4 does not wait for it"),
    single("nat64", "plain", ["ss", "ss"], "through the translator, which is a NAT like the other side's"),
    single("multi", "plain", ["ss", "ss"], "the way out with the better NAT"),
    single("plain+noudp", "plain+noudp", ["sst", "sst"], "both open a connection at once, from the ports that the server has seen (RFC 6544 section 5.2): as over UDP"),
    single("eim-eif+noudp", "sym+noudp", ["spt", "spt"], "eif lets a connection in from a port that nobody foresaw"),
    single("plain+noudp", "sym+noudp", ["rr", "rr"], "no connection passes a filter by port from a port that nobody foresaw, and without UDP neither side reaches the other's relay"),
    single("plain+udpblock", "sym", ["rp", "rp"], "only TCP to ports 80 and 443 gets out: a relay over TLS on 443"),
    single("plain+tcp443", "plain", ["rs", "rs"], "only TCP to port 443 gets out: a relay over TLS there"),
    single("plain+strict443", "plain", ["rs", "rs"], "as tcp443"),
];

const fn single(
    a: &'static str,
    b: &'static str,
    paths: [&'static str; 2],
    why: &'static str,
) -> Single {
    Single { a, b, paths, why }
}

//! What is expected of each pair of kinds: the two matrices, and the rest, as data.
//!
//! Two letters name a path as the first peer does when it controls: its own end, then the other's; `h` host, `s`
//! server-reflexive, `p` peer-reflexive, `r` relay. Where the other peer controls, the mirrored cell holds.
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
//! - Otherwise one relay carries it. Of the two relays the controlling side takes the other's: the pair of its base
//!   with the other's relay has the higher priority (RFC 8445 section 6.1.2.3: equal minima, and a base is of type
//!   host). RFC 8445 section 7.2.5.3.2 names its own end by the relay's view: `s` where the relay's address,
//!   which is the STUN server's, sees the same port, and else `p`.

/// libwebrtc's ten kinds of endpoint, in the order of its own table.
pub(super) const ENDPOINTS: [&str; 7] = [
    "open",
    "eim-eif",
    "eim-adf",
    "eim-apdf",
    "apdm-apdf",
    "cgn:eim-eif:eim-eif",
    "cgn:eim-eif:apdm-apdf",
];

/// The ten kinds of endpoint, beside each other.
#[rustfmt::skip]
pub(super) const ENDPOINT_CELLS: [&str; 7] = [
    // open   eim     eim     eim     sym     cone    sym
    //        eif     adf     apdf            cone    cone
    "hh hs hs hs hp hs hp",
    "sh ss ss ss sp ss sp",
    "sh ss ss ss sp ss sp",
    "sh ss ss ss sr ss sr",
    "ph ps ps pr pr ps pr",
    "sh ss ss ss sp ss sp",
    "ph ps ps pr pr ps pr",
];

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
pub(super) const SINGLES: [Single; 6] = [
    Single {
        a: "plain",
        b: "same",
        paths: ["hh", "hh"],
        why: "one network: the addresses of the machines reach each other",
    },
    Single {
        a: "cgn:plain:eim-apdf",
        b: "eim-apdf",
        paths: ["ss", "ss"],
        why: "two endpoint-independent mappings in a row are one",
    },
    Single {
        a: "cgn:plain:eim-apdf",
        b: "apdm-apdf",
        paths: ["sr", "rp"],
        why: "no direct path past the carrier's filter, as behind one eim-apdf",
    },
    Single {
        a: "cgn:plain:eim-apdf+hairpin",
        b: "samecgn",
        paths: ["ss", "ss"],
        why: "the carrier's NAT turns what is for its own outside back in (RFC 4787 section 6)",
    },
    Single {
        a: "cgn:plain:eim-apdf",
        b: "samecgn",
        paths: ["sr", "rs"],
        why: "without hairpinning nothing gets from one customer's told address to another's",
    },
    Single {
        a: "cgn:plain:apdm-apdf",
        b: "plain",
        paths: ["pr", "rs"],
        why: "the carrier's NAT is the one that the peer sees",
    },
];

//! What a person may type, and what it says about a slip.

use nilas_lab::{Egress, Event, Kind, Nat, Node, Spec, SpecError, Topology, Wire};

fn spec_error(text: &str) -> String {
    text.parse::<Spec>().expect_err(text).to_string()
}

fn topology_error(text: &str) -> String {
    text.parse::<Topology>().expect_err(text).to_string()
}

#[test]
fn every_kind_is_written_as_it_is_read() {
    let mut kinds: Vec<String> = Nat::ALL.iter().map(ToString::to_string).collect();
    kinds.extend(
        [
            "open", "same", "samecgn", "v6fw", "dual", "v6broken", "nat64", "multi",
        ]
        .map(String::from),
    );
    for inner in Nat::ALL {
        kinds.extend(Nat::ALL.map(|outer| format!("cgn:{inner}:{outer}")));
    }
    for kind in kinds {
        assert_eq!(kind.parse::<Spec>().expect(&kind).to_string(), kind);
    }
}

#[test]
fn flags_are_read_in_any_order() {
    let spec: Spec = "eim-apdf+rate=500+lossout=0.5+hairpin+to=6+mtu=1280+tcp443+lossin=12"
        .parse()
        .unwrap();
    assert!(spec.flags.hairpin);
    assert_eq!(spec.flags.egress, Some(Egress::Tcp443));
    assert_eq!(spec.flags.udp_timeout_seconds, Some(6));
    assert_eq!(spec.flags.mtu, Some(1280));
    assert_eq!(
        (spec.flags.loss_in_tenths, spec.flags.loss_out_tenths),
        (Some(120), Some(5))
    );
    assert_eq!(spec.flags.rate_kbit, Some(500));
    assert_eq!(
        spec.to_string(),
        "eim-apdf+hairpin+tcp443+to=6+mtu=1280+lossin=12+lossout=0.5+rate=500"
    );
    assert_eq!(
        "plain+loss=3".parse::<Spec>().unwrap().to_string(),
        "plain+loss=3"
    );
}

#[test]
fn an_unknown_word_is_named_with_what_there_is() {
    assert!(spec_error("").contains("no kind of access is called ``"));
    assert!(spec_error("eim").contains("`eim`"));
    assert!(spec_error("eim").contains("{eim,adm,apdm}-{eif,adf,apdf}"));
    assert!(spec_error("cgn:plain").contains("cgn:INNER:OUTER"));
    assert!(spec_error("cgn:plain:open").contains("cgn:INNER:OUTER"));
    assert!(
        spec_error("plain+udpblok")
            .contains("no flag is called `udpblok`; there are hairpin, udpblock")
    );
    assert!(spec_error("plain+").contains("no flag is called ``"));
    assert!(spec_error("plain+wire:delay=3").contains("given apart"));
}

#[test]
fn a_value_out_of_bounds_is_named_with_its_bounds() {
    for (text, allowed) in [
        ("plain+to=0", "seconds from 1 to 86400"),
        ("plain+to", "seconds"),
        ("plain+mtu=1500", "576 to 1499"),
        ("plain+mtu=-1", "576 to 1499"),
        ("plain+loss=0", "0.1 to 100"),
        ("plain+loss=100.1", "0.1 to 100"),
        ("plain+loss=3.25", "steps of 0.1"),
        ("plain+lossin=x", "a percentage"),
        ("plain+rate=1", "kbit/s from 8"),
        ("plain+udpblock=1", "no value"),
        ("plain+overlap=", "no value"),
    ] {
        assert!(
            spec_error(text).contains(allowed),
            "{text}: {}",
            spec_error(text)
        );
    }
    assert!(spec_error("plain+loss=3+lossin=4").contains("repeats or contradicts"));
    assert!(spec_error("plain+udpblock+tcp443").contains("repeats or contradicts"));
}

#[test]
fn a_flag_that_would_change_nothing_is_refused() {
    for text in [
        "plain+hairpin",
        "sym+hairpin",
        "cgn:eim-eif:plain+hairpin",
        "nat64+hairpin",
        "v6fw+hairpin",
        "open+udpblock",
        "open+to=6",
        "open+overlap",
        "v6fw+overlap",
        "same+loss=3",
        "same+strict443",
    ] {
        assert!(
            matches!(text.parse::<Spec>(), Err(SpecError::Useless { .. })),
            "{text}"
        );
    }
    assert!(spec_error("plain+hairpin").contains("table of mappings"));
}

#[test]
fn two_sides_must_fit_each_other() {
    assert!(topology_error("plain").contains("here are 1"));
    assert!(topology_error("plain,sym,open").contains("here are 3"));
    assert!(topology_error("same,plain").contains("second side only"));
    assert!(topology_error("open,same").contains("`open` has none"));
    assert!(topology_error("plain,samecgn").contains("cgn:INNER:OUTER"));
    assert!(topology_error("plain,multi").contains("first side only"));
    assert!(topology_error("plain+overlap,plain").contains("second side only"));
    let topology: Topology = "multi, v6fw+loss=3".parse().unwrap();
    assert_eq!(topology.a.kind, Kind::Multi);
    assert_eq!(topology.to_string(), "multi,v6fw+loss=3");
}

#[test]
fn wires_and_events_and_nodes_say_what_they_take() {
    let wire: Wire = "delay=2.5,order=0,burst=1/10/50,rate=100,queue=9000,mtu=1280,seed=3"
        .parse()
        .unwrap();
    assert_eq!(wire.delay.as_micros(), 2_500);
    assert!(!wire.keep_order);
    for (text, wanted) in [
        ("delay", "KEY=VALUE"),
        ("delay=-1", "none below zero"),
        ("delay=70000", "at most 60 seconds"),
        ("loss=101", "from 0 to 100"),
        ("loss=nan", "from 0 to 100"),
        ("burst=1/2", "ENTER/LEAVE/LOSS"),
        ("speed=1", "there are delay"),
        ("rate=0", "at least 1"),
    ] {
        let error = text.parse::<Wire>().expect_err(text).to_string();
        assert!(error.contains(wanted), "{text}: {error}");
    }
    for text in [
        "flush na",
        "remap ca",
        "readdress nb 198.51.100.80",
        "losewifi",
        "regainwifi",
        "blackhole wa",
        "oneway wc",
        "unblackhole wb",
    ] {
        assert_eq!(text.parse::<Event>().unwrap().to_string(), text);
    }
    assert!(
        "flush"
            .parse::<Event>()
            .unwrap_err()
            .to_string()
            .contains("flush NODE")
    );
    assert!(
        "flush x"
            .parse::<Event>()
            .unwrap_err()
            .to_string()
            .contains("core, srv, a, b")
    );
    assert!(
        "blackhole na"
            .parse::<Event>()
            .unwrap_err()
            .to_string()
            .contains("wa, wb, wc")
    );
    assert!(
        "readdress na here"
            .parse::<Event>()
            .unwrap_err()
            .to_string()
            .contains("`here`")
    );
    for node in Node::ALL {
        assert_eq!(node.to_string().parse(), Ok(node));
    }
}

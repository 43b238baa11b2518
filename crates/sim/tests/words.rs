//! The laboratory and the simulated network speak the same words.

use nilas_lab::Spec;
use nilas_sim::Access;

const KINDS: [&str; 22] = [
    "open",
    "plain",
    "sym",
    "eim-eif",
    "eim-adf",
    "eim-apdf",
    "adm-eif",
    "adm-adf",
    "adm-apdf",
    "apdm-eif",
    "apdm-adf",
    "apdm-apdf",
    "cgn:plain:sym",
    "cgn:eim-eif:apdm-apdf",
    "same",
    "samecgn",
    "v6fw",
    "dual",
    "v6broken",
    "nat64",
    "multi",
    "cgn:plain",
];

const FLAGS: [&str; 22] = [
    "",
    "+hairpin",
    "+overlap",
    "+udpblock",
    "+tcp443",
    "+strict443",
    "+to=6",
    "+to=0",
    "+mtu=1280",
    "+mtu=1500",
    "+loss=3",
    "+loss=0.5",
    "+loss=0.05",
    "+lossin=1",
    "+lossout=100",
    "+loss=1+lossin=1",
    "+rate=500",
    "+rate=7",
    "+udpblock+tcp443",
    "+hairpin=1",
    "+mirror",
    "+to",
];

/// Where the two differ, and why.
fn differs(kind: &str, flag: &str) -> Option<&'static str> {
    let blocks = ["+udpblock", "+tcp443", "+strict443"].contains(&flag);
    match (kind, flag) {
        ("plain" | "sym" | "cgn:plain:sym", "+hairpin") => {
            Some("the kernel's masquerade cannot turn packets round, a simulated NAT can")
        }
        ("open", _) if blocks => {
            Some("the simulated network has a router to block ports in front of a public address")
        }
        _ => None,
    }
}

#[test]
fn both_take_and_refuse_the_same_words() {
    let mut taken = 0;
    for kind in KINDS {
        for flag in FLAGS {
            let word = format!("{kind}{flag}");
            let [lab, sim] = [
                word.parse::<Spec>().map(|_| ()).map_err(|e| e.to_string()),
                word.parse::<Access>()
                    .map(|_| ())
                    .map_err(|e| e.to_string()),
            ];
            match differs(kind, flag) {
                None => assert_eq!(lab.is_ok(), sim.is_ok(), "{word}: {lab:?}, {sim:?}"),
                Some(why) => assert_ne!(lab.is_ok(), sim.is_ok(), "{word}: no longer so: {why}"),
            }
            taken += usize::from(sim.is_ok());
        }
    }
    assert!(taken > 200, "{taken}");
}

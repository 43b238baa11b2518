//! Offers, answers and fragments (RFC 8839, RFC 8840).

use nilas_ice::{
    Candidate, Destination, IceChange, IceDescription, Parameters, ParametersError,
    RemoteCandidate, SdpError, SdpFragment, SessionDescription,
};
use proptest::prelude::*;

/// RFC 8839 section 4.2.6.
const EXAMPLE: &str = "v=0\r
o=jdoe 2890844526 2890842807 IN IP4 203.0.113.141\r
s=\r
c=IN IP4 192.0.2.3\r
t=0 0\r
a=ice-options:ice2\r
a=ice-pacing:50\r
a=ice-pwd:asd88fgpdd777uzjYhagZg\r
a=ice-ufrag:8hhY\r
m=audio 45664 RTP/AVP 0\r
b=RS:0\r
b=RR:0\r
a=rtpmap:0 PCMU/8000\r
a=candidate:1 1 UDP 2130706431 203.0.113.141 8998 typ host\r
a=candidate:2 1 UDP 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998\r
";

/// What a browser offers before it has candidates, shortened: two bundled streams and a removed one.
const BROWSER: &str = "v=0\r
o=- 4611731400430051336 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE 0 data\r
a=extmap-allow-mixed\r
m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r
c=IN IP4 0.0.0.0\r
a=rtcp:9 IN IP4 0.0.0.0\r
a=ice-ufrag:abcd\r
a=ice-pwd:aaaaaaaaaaaaaaaaaaaaaa\r
a=ice-options:trickle\r
a=setup:actpass\r
a=mid:0\r
a=rtcp-mux\r
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r
c=IN IP4 0.0.0.0\r
a=ice-ufrag:abcd\r
a=ice-pwd:aaaaaaaaaaaaaaaaaaaaaa\r
a=ice-options:trickle\r
a=mid:data\r
a=sctp-port:5000\r
m=video 0 UDP/TLS/RTP/SAVPF 96\r
c=IN IP4 0.0.0.0\r
a=mid:1\r
";

fn read(text: &str) -> SessionDescription {
    SessionDescription::parse(text).expect("a description")
}

fn parameters(ufrag: &str) -> Parameters {
    Parameters::new(ufrag, "asd88fgpdd777uzjYhagZg")
}

fn with_candidates(ufrag: &str, lines: &[&str]) -> IceDescription {
    let mut ice = IceDescription::new(parameters(ufrag));
    ice.candidates = lines
        .iter()
        .map(|line| line.parse().expect("a candidate"))
        .collect();
    ice.choose_destinations();
    ice
}

#[test]
fn the_example_of_the_rfc_is_read() {
    let description = read(EXAMPLE);
    let section = description.section(0).expect("a section");
    let ice = section.ice();
    let parameters = ice.parameters.expect("ICE");
    assert_eq!(
        (&*parameters.ufrag, &*parameters.pwd),
        ("8hhY", "asd88fgpdd777uzjYhagZg")
    );
    assert_eq!((parameters.pacing, parameters.lite), (Some(50), false));
    assert_eq!(parameters.options, ["ice2"]);
    assert_eq!(ice.candidates.len(), 2);
    assert_eq!(
        ice.destination,
        Destination::Address("192.0.2.3:45664".parse().expect("an address"))
    );
    assert_eq!(
        (section.media(), section.port(), section.protocol()),
        ("audio", 45664, "RTP/AVP")
    );
    assert!(!description.is_mismatched(0));
    assert!(description.section(1).is_none());
}

#[test]
fn what_is_not_changed_stays_byte_for_byte() {
    let odd = "v=0\no=x\nz=?\na=ICE-UFRAG:8hhY\n\nm=a 1/2 b c d\nc=IN IP4 224.2.1.1/127\na=candidate:nonsense\na=unknown";
    for text in [EXAMPLE, BROWSER, odd, "v=0", "v=0\r\n"] {
        let mut description = read(text);
        assert_eq!(description.to_string(), text);
        let count = description.sections().len();
        for index in 0..count {
            let section = description.section(index).expect("a section");
            let (ice, port) = (section.ice(), section.port());
            let result = description.set_ice(index, &ice);
            assert_eq!(result.is_ok(), port != 0);
        }
        assert_eq!(description.to_string(), text);
    }
}

#[test]
fn only_lines_of_ice_and_of_the_destination_are_patched() {
    let mut answer = read(BROWSER);
    let ice = with_candidates(
        "wxyz",
        &[
            "candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host",
            "candidate:2 1 udp 1694498815 203.0.113.7 50001 typ srflx raddr 192.0.2.7 rport 50000",
        ],
    );
    answer.set_ice(0, &ice).expect("it fits");
    let expected = BROWSER
        .replacen(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n",
            "m=audio 50001 UDP/TLS/RTP/SAVPF 111 63\r\nc=IN IP4 203.0.113.7\r\n",
            1,
        )
        .replacen(
            "a=ice-ufrag:abcd\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaa\r\na=ice-options:trickle\r\n",
            "a=ice-ufrag:wxyz\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\n\
             a=candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host\r\n\
             a=candidate:2 1 udp 1694498815 203.0.113.7 50001 typ srflx raddr 192.0.2.7 rport 50000\r\n",
            1,
        );
    assert_eq!(answer.to_string(), expected);
    assert_eq!(answer.section(0).map(|section| section.ice()), Some(ice));
    assert_eq!(
        answer.set_ice(2, &IceDescription::default()),
        Err(SdpError::Rejected)
    );
    assert_eq!(
        answer.set_ice(3, &IceDescription::default()),
        Err(SdpError::NoSection)
    );
}

#[test]
fn two_components_have_two_destinations() {
    let mut offer = read("v=0\nm=audio 9 RTP/AVP 0\ni=a title\nb=AS:1\n");
    let ice = with_candidates(
        "8hhY",
        &[
            "candidate:1 1 udp 2130706431 2001:db8::1 7000 typ host",
            "candidate:1 2 udp 2130706430 2001:db8::1 7009 typ host",
        ],
    );
    offer.set_ice(0, &ice).expect("it fits");
    let text = offer.to_string();
    assert!(
        text.starts_with("v=0\nm=audio 7000 RTP/AVP 0\ni=a title\nc=IN IP6 2001:db8::1\nb=AS:1\n"),
        "{text}"
    );
    assert!(
        text.ends_with("\na=rtcp:7009 IN IP6 2001:db8::1\n"),
        "{text}"
    );
    assert!(!text.contains('\r'), "{text}");
    assert!(!offer.is_mismatched(0));
    // RFC 8840 section 4.1.1: without any candidate there is no rtcp attribute.
    offer
        .set_ice(0, &IceDescription::new(parameters("8hhY")))
        .expect("it fits");
    assert!(offer.to_string().contains("m=audio 9 "));
    assert!(!offer.to_string().contains("a=rtcp"));
}

#[test]
fn what_the_session_says_goes_on_for_the_other_sections() {
    let text = "v=0\r\na=ice-ufrag:8hhY\r\na=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=ice-options:ice2\r\n\
                a=end-of-candidates\r\nm=a 9 b c\r\nm=d 9 e f\r\na=ice-ufrag:own0\r\n";
    let mut description = read(text);
    let before = description.section(1).expect("a section").ice();
    assert_eq!(
        before.parameters.as_ref().map(|own| &*own.ufrag),
        Some("own0")
    );
    assert!(before.end_of_candidates);
    description
        .set_ice(0, &IceDescription::default())
        .expect("it fits");
    assert_eq!(
        description.section(0).map(|section| section.ice()),
        Some(IceDescription::default())
    );
    assert_eq!(
        description.section(1).map(|section| section.ice()),
        Some(before)
    );

    // RFC 8839 section 5.3: ice-lite is of the session only.
    let mut lite = IceDescription::new(Parameters {
        lite: true,
        ..parameters("lite")
    });
    lite.end_of_candidates = true;
    description.set_ice(1, &lite).expect("it fits");
    assert_eq!(
        description.section(1).map(|section| section.ice()),
        Some(lite)
    );
    let text = description.to_string();
    assert!(
        text.find("a=ice-lite")
            .is_some_and(|at| at < text.find("m=").unwrap_or(0)),
        "{text}"
    );
}

#[test]
fn a_rejected_stream_has_nothing_of_ice() {
    let mut description = read(EXAMPLE);
    description.reject(0).expect("a section");
    let section = description.section(0).expect("a section");
    assert!(section.is_rejected());
    assert!(section.ice().candidates.is_empty());
    assert!(!description.is_mismatched(0));
    let bundled = read("v=0\r\nm=audio 0 RTP/AVP 0\r\na=mid:1\r\na=bundle-only\r\n");
    assert!(
        bundled
            .section(0)
            .is_some_and(|section| !section.is_rejected() && section.is_bundle_only())
    );
}

/// draft-ietf-mmusic-mdns-ice-candidates-03, 3.1.2.4: many peers cannot read a description with a name there.
#[test]
fn a_name_is_no_default_destination() {
    let line = |text: &str| -> Candidate { text.parse().expect("a candidate") };
    let name = line("candidate:1 1 udp 9 9b36eaac-bb2e-49bb-bb78-21c41c499900.local 7 typ host");
    let seen = line("candidate:2 1 udp 5 203.0.113.1 7 typ srflx raddr 0.0.0.0 rport 9");
    let alone = Destination::of(std::slice::from_ref(&name), 1);
    assert_eq!(alone, Destination::Unknown);
    let address = "203.0.113.1:7".parse().expect("an address");
    let both = Destination::of(&[name, seen], 1);
    assert_eq!(both, Destination::Address(address));
}

#[test]
fn a_default_destination_that_is_no_candidate_is_a_mismatch() {
    for (from, to, mismatched) in [
        ("", "", false),
        ("c=IN IP4 192.0.2.3", "c=IN IP4 192.0.2.99", true),
        ("m=audio 45664", "m=audio 45666", true),
        ("m=audio 45664 RTP/AVP", "m=audio 45664 TCP/RTP/AVP", true),
        // RFC 8839 section 4.2.5: neither the form of trickling nor a name is one.
        ("c=IN IP4 192.0.2.3", "c=IN IP4 phone.example.org", false),
        ("m=audio 45664", "m=audio 9", false),
        ("b=RS:0", "a=rtcp:45665", true),
        ("b=RS:0", "a=rtcp:45664", false),
        ("b=RS:0", "a=rtcp:8998 IN IP4 203.0.113.141", false),
        ("b=RS:0", "a=rtcp:9 IN IP6 ::", false),
        ("b=RS:0", "a=ice-mismatch", false),
        ("a=ice-ufrag:8hhY\r\n", "", false),
    ] {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_eq!(read(&text).is_mismatched(0), mismatched, "{to}");
    }
    // RFC 8840 section 7: candidates only for the first of a bundle.
    let bundle = "v=0\r\nc=IN IP4 192.0.2.3\r\na=group:BUNDLE a b\r\na=ice-ufrag:8hhY\r\n\
                  a=ice-pwd:asd88fgpdd777uzjYhagZg\r\nm=audio 1000 RTP/AVP 0\r\na=mid:a\r\n\
                  a=candidate:1 1 udp 1 192.0.2.3 1000 typ host\r\nm=video 1002 RTP/AVP 31\r\na=mid:b\r\n";
    let description = read(bundle);
    assert!(!description.is_mismatched(0) && !description.is_mismatched(1));
    assert_eq!([0, 1, 7].map(|index| description.carrier(index)), [0, 0, 7]);
    assert!(read(&bundle.replace("BUNDLE a b", "BUNDLE a")).is_mismatched(1));
    // A mismatch is answered without candidates.
    let mut answer = read(EXAMPLE);
    let mut ice = answer.section(0).expect("a section").ice();
    ice.mismatch = true;
    answer.set_ice(0, &ice).expect("it fits");
    ice.candidates.clear();
    assert_eq!(answer.section(0).map(|section| section.ice()), Some(ice));
}

#[test]
fn a_restart_needs_a_new_ufrag_and_a_new_password() {
    let before = read(EXAMPLE).section(0).expect("a section").ice();
    let change = |text: &str| {
        read(text)
            .section(0)
            .expect("a section")
            .ice()
            .change_since(&before)
    };
    for (from, to, expected) in [
        ("", "", IceChange::Continues),
        ("8hhY\r\n", "9hhY\r\n", IceChange::Refused),
        ("a=ice-pwd:asd88", "a=ice-pwd:bsd88", IceChange::Refused),
        (
            "asd88fgpdd777uzjYhagZg\r\na=ice-ufrag:8hhY",
            "bsd88fgpdd777uzjYhagZg\r\na=ice-ufrag:9hhY",
            IceChange::Restarts,
        ),
        (
            "a=ice-options:ice2",
            "a=ice-options:ice2 trickle",
            IceChange::Refused,
        ),
        ("a=ice-pacing:50\r\n", "", IceChange::Continues),
        ("a=ice-pacing:50", "a=ice-pacing:20", IceChange::Refused),
        ("a=ice-pacing:50", "a=ice-lite", IceChange::Refused),
        ("a=ice-ufrag:8hhY\r\n", "", IceChange::Ends),
        ("b=RS:0", "a=ice-mismatch", IceChange::Ends),
        (
            "c=IN IP4 192.0.2.3",
            "c=IN IP4 0.0.0.0",
            IceChange::Continues,
        ),
    ] {
        assert_eq!(change(&EXAMPLE.replacen(from, to, 1)), expected, "{to}");
    }
    // RFC 8839 section 4.4.1.1.1: credentials that move from the session to the section are no restart.
    let credentials = "a=ice-pwd:asd88fgpdd777uzjYhagZg\r\na=ice-ufrag:8hhY\r\n";
    let moved = EXAMPLE.replacen(credentials, "", 1) + credentials;
    assert_eq!(change(&moved), IceChange::Continues);
    assert_eq!(
        before.change_since(&IceDescription::default()),
        IceChange::Restarts
    );
}

#[test]
fn text_that_is_no_description_is_refused_with_its_line() {
    for (text, error) in [
        ("", SdpError::Version),
        ("o=-\r\nv=0\r\n", SdpError::Version),
        ("v=0\r\nnonsense\r\n", SdpError::Line(2)),
        ("v=0\r\na=x\ry\r\n", SdpError::Line(2)),
        ("v=0\r\na=x\r", SdpError::Line(2)),
        ("v=0\r\na=x\0\r\n", SdpError::Line(2)),
        ("v=0\r\nm=audio RTP/AVP 0\r\n", SdpError::Media(2)),
        ("v=0\r\nm=audio 65536 RTP/AVP 0\r\n", SdpError::Media(2)),
        ("v=0\r\nm=audio +1 RTP/AVP 0\r\n", SdpError::Media(2)),
        (
            "v=0\r\nm=a 1 b c\r\na=mid:1\r\nm=a 1 b c\r\na=mid:1\r\n",
            SdpError::SameMid(5),
        ),
        (
            "v=0\r\nm=a 1 b c\r\na=ice-ufrag:abcd\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaa\r\n\
             m=a 1 b c\r\na=ice-ufrag:abcd\r\na=ice-pwd:bbbbbbbbbbbbbbbbbbbbbb\r\n",
            SdpError::SameUfrag,
        ),
    ] {
        assert_eq!(SessionDescription::parse(text), Err(error), "{text:?}");
    }
    let ufrag = SessionDescription::parse("v=0\r\na=ice-ufrag:a b\r\n");
    assert!(
        matches!(ufrag, Err(SdpError::Credentials(2, _))),
        "{ufrag:?}"
    );
    let long = format!("v=0\r\n{}", "a=x\r\n".repeat(1 << 17));
    assert_eq!(SessionDescription::parse(&long), Err(SdpError::TooLong));
    let many = format!("v=0\r\n{}", "m=a 1 b c\r\n".repeat(1025));
    assert_eq!(
        SessionDescription::parse(&many),
        Err(SdpError::TooManySections)
    );
}

#[test]
fn nothing_written_becomes_a_second_line() {
    let mut description = read(BROWSER);
    let good = with_candidates("wxyz", &["candidate:1 1 udp 1 192.0.2.7 5 typ host"]);
    let mut wrong = [good.clone(), good.clone(), good.clone(), good.clone(), good];
    wrong[0].parameters = Some(Parameters {
        options: vec!["a\r\na=ice-lite".into()],
        ..parameters("wxyz")
    });
    wrong[1].candidates[0].extensions = vec![("x".into(), "y\r\na=ice-lite".into())];
    wrong[2].destination = Destination::Name {
        name: "a\r\nb".into(),
        port: 5,
    };
    wrong[3].destination = Destination::Address("192.0.2.7:0".parse().expect("an address"));
    wrong[4].remote_candidates = vec![RemoteCandidate {
        component: 0,
        address: [192, 0, 2, 7].into(),
        port: 5,
    }];
    for ice in wrong {
        assert_eq!(description.set_ice(0, &ice), Err(SdpError::Unwritable));
    }
    let short = IceDescription::new(Parameters::new("a", "b"));
    assert_eq!(
        description.set_ice(0, &short),
        Err(SdpError::Parameters(ParametersError::Ufrag))
    );
    let long = IceDescription::new(parameters(&"u".repeat(33)));
    assert_eq!(
        description.set_ice(0, &long),
        Err(SdpError::Parameters(ParametersError::LongUfrag))
    );
    let clash = IceDescription::new(parameters("abcd"));
    assert_eq!(description.set_ice(0, &clash), Err(SdpError::SameUfrag));
    assert_eq!(description.to_string(), BROWSER);
}

/// RFC 8840 section 4.4, figure 7, shortened.
const FRAGMENT: &str = "a=ice-pwd:asd88fgpdd777uzjYhagZg\r
a=ice-ufrag:8hhY\r
m=audio 9 RTP/AVP 0\r
a=mid:1\r
a=candidate:1 1 UDP 2130706432 2001:db8:a0b:12f0::1 5000 typ host\r
a=candidate:2 2 UDP 1694498815 192.0.2.3 5011 typ srflx raddr 192.0.2.1 rport 8998\r
a=end-of-candidates\r
m=audio 9 RTP/AVP 0\r
a=mid:2\r
a=candidate:1 1 UDP 2130706432 2001:db8:a0b:12f0::1 6000 typ host\r
a=unknown\r
";

#[test]
fn the_fragment_of_the_rfc_is_read() {
    let fragment = SdpFragment::parse(FRAGMENT).expect("a fragment");
    assert_eq!(fragment.to_string(), FRAGMENT);
    let [first, second] = ["1", "2"].map(|mid| fragment.section(mid).expect("a section").ice());
    assert_eq!((first.candidates.len(), second.candidates.len()), (2, 1));
    assert!(first.end_of_candidates && !second.end_of_candidates && !fragment.ends_session());
    assert_eq!(
        second.parameters.as_ref().map(|own| &*own.ufrag),
        Some("8hhY")
    );
    assert_eq!(fragment.bundle().count(), 0);
    let no_mid = FRAGMENT.replacen("a=mid:2\r\n", "", 1);
    assert_eq!(SdpFragment::parse(&no_mid), Err(SdpError::NoMid(8)));
}

#[test]
fn candidates_trickle_by_fragments_that_repeat_themselves() {
    let mut own = read(BROWSER);
    own.set_ice(0, &IceDescription::new(parameters("wxyz")))
        .expect("it fits");
    own.set_ice(1, &IceDescription::new(parameters("wxyz")))
        .expect("it fits");
    let mut seen = own.clone();
    let candidate = |line: &str| line.parse().expect("a candidate");
    let first = candidate("candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host");
    let second = candidate("candidate:2 1 udp 5 192.0.2.8 50000 typ host");
    own.add_candidate(0, &first).expect("it fits");
    let early = own.fragment();
    own.add_candidate(0, &second).expect("it fits");
    own.end_candidates(0).expect("it fits");
    own.end_candidates(0).expect("it was said already");
    let late = own.fragment();
    assert_eq!(late.bundle().collect::<Vec<_>>(), ["0", "data"]);
    assert!(
        late.to_string()
            .contains("m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\n")
    );
    let read_again =
        |fragment: &SdpFragment| SdpFragment::parse(&fragment.to_string()).expect("a fragment");

    let news = seen.add_fragment(&read_again(&early)).expect("news");
    assert_eq!(
        (news.len(), news[0].section, &news[0].candidates),
        (1, 0, &vec![first])
    );
    let news = seen.add_fragment(&read_again(&late)).expect("news");
    assert_eq!((news.len(), &news[0].candidates), (1, &vec![second]));
    assert!(news[0].end_of_candidates);
    // What comes late or twice tells nothing new.
    for fragment in [&early, &late] {
        assert_eq!(seen.add_fragment(fragment), Ok(Vec::new()));
    }
    let ices = |description: &SessionDescription| {
        description
            .sections()
            .map(|section| section.ice())
            .collect::<Vec<_>>()
    };
    assert_eq!(ices(&seen), ices(&own));
}

#[test]
fn a_fragment_of_another_generation_changes_nothing() {
    let mut description = read(BROWSER);
    let mut fragment = SdpFragment::new(&parameters("wxyz")).expect("parameters");
    let mut ice = IceDescription::default();
    ice.candidates = vec![
        "candidate:1 1 udp 5 192.0.2.7 5 typ host"
            .parse()
            .expect("a candidate"),
    ];
    fragment.push("0", &ice).expect("it fits");
    assert_eq!(
        description.add_fragment(&fragment),
        Err(SdpError::Generation)
    );
    let silent = SdpFragment::parse("m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=end-of-candidates\r\n");
    assert_eq!(
        description.add_fragment(&silent.expect("a fragment")),
        Err(SdpError::Generation)
    );
    let mut elsewhere = SdpFragment::new(&parameters("wxyz")).expect("parameters");
    elsewhere.push("nowhere", &ice).expect("it fits");
    assert_eq!(
        description.add_fragment(&elsewhere),
        Err(SdpError::NoSection)
    );
    assert_eq!(description.to_string(), BROWSER);
    for mid in ["0", "a b", "", "a\r\nb"] {
        assert_eq!(
            fragment.push(mid, &ice),
            Err(SdpError::Unwritable),
            "{mid:?}"
        );
    }
}

#[test]
fn the_end_of_all_candidates_ends_every_section_of_its_generation() {
    let mut description = read(BROWSER);
    let end = "a=ice-ufrag:abcd\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaa\r\na=end-of-candidates\r\n";
    let end = SdpFragment::parse(end).expect("a fragment");
    let news = description.add_fragment(&end).expect("news");
    assert_eq!(
        news.iter().map(|told| told.section).collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(
        description
            .section(1)
            .is_some_and(|section| section.ice().end_of_candidates)
    );
}

#[test]
fn fragments_do_not_grow_a_description_without_bound() {
    let mut description = read(BROWSER);
    let head = "a=ice-ufrag:abcd\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaa\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n";
    let mut refused = 0;
    for round in 0..4 {
        let lines = (0..4000).map(|port| {
            format!(
                "a=candidate:1 1 udp 1 192.0.2.{round} {} typ host\r\n",
                40_000 + port
            )
        });
        let fragment = head.to_owned() + &lines.collect::<String>();
        let fragment = SdpFragment::parse(&fragment).expect("a fragment");
        refused += usize::from(description.add_fragment(&fragment) == Err(SdpError::TooLong));
    }
    assert_eq!(refused, 2);
    assert!(SessionDescription::parse(&description.to_string()).is_ok());
}

const POOL: [&str; 19] = [
    "a=ice-ufrag:abcd",
    "a=ice-pwd:aaaaaaaaaaaaaaaaaaaaaa",
    "a=ice-options:ice2 trickle",
    "a=ice-lite",
    "a=ice-pacing:20",
    "a=ice-mismatch",
    "a=End-Of-Candidates",
    "a=candidate:1 1 udp 1 192.0.2.3 1000 typ host",
    "a=candidate:1 2 tcp 1 a.local 9 typ host tcptype active x y",
    "a=candidate:broken",
    "a=remote-candidates:1 192.0.2.3 5",
    "a=remote-candidates:2 192.0.2.3 6",
    "a=rtcp:1001 IN IP4 192.0.2.3",
    "a=sendrecv",
    "c=IN IP6 ::",
    "i=title",
    "",
    "a=bundle-only",
    "a=group:BUNDLE 1 2",
];

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(8_839),
        ..ProptestConfig::default()
    })]

    /// Whatever a description holds: what is written into a section is read from it, the others say what they
    /// said, and the lines that are none of ICE's stay.
    #[test]
    fn any_description_can_be_patched(
        session in prop::collection::vec(0..POOL.len(), 0..6),
        sections in prop::collection::vec((0..2_u16, prop::collection::vec(0..POOL.len(), 0..8)), 1..4),
        from in 0..4_usize, to in 0..4_usize,
        ending in prop::sample::select(vec!["\r\n", "\n"]),
    ) {
        let mut lines = vec!["v=0".to_owned()];
        let pick = |picks: &[usize]| picks.iter().map(|pick| POOL[*pick].to_owned()).collect::<Vec<_>>();
        lines.extend(pick(&session));
        for (number, (port, picks)) in sections.iter().enumerate() {
            lines.push(format!("m=audio {} RTP/AVP 0", port * 1000));
            lines.push(format!("a=mid:{number}"));
            lines.extend(pick(picks));
        }
        let text = lines.join(ending);
        let mut description = read(&text);
        prop_assert_eq!(description.to_string(), &*text);
        let all = description.sections().map(|section| section.ice()).collect::<Vec<_>>();
        let (from, to) = (from % all.len(), to % all.len());
        let mut wanted = all[from].clone();
        wanted.choose_destinations();
        let kept = |description: &SessionDescription| {
            let text = description.to_string();
            text.split('\n').map(|line| line.trim_end_matches('\r').to_owned()).filter(|line| {
                let own = ["c=", "m=", "a=rtcp:", "a=ice", "a=cand", "a=End", "a=end", "a=remote"];
                !line.is_empty() && !own.iter().any(|prefix| line.starts_with(prefix))
            }).collect::<Vec<_>>()
        };
        let before = kept(&description);
        let result = description.set_ice(to, &wanted);
        if result.is_ok() {
            let mut read_back = description.section(to).expect("a section").ice();
            if wanted.mismatch {
                wanted.candidates.clear();
                read_back.candidates.clear();
            }
            prop_assert_eq!(read_back, wanted);
            prop_assert_eq!(kept(&description), before);
            for (index, mut ice) in all.into_iter().enumerate().filter(|(index, _)| *index != to) {
                let section = description.section(index).expect("a section");
                let mut now = section.ice();
                for ice in [&mut ice, &mut now] {
                    // These are the session's; a section without a port is not kept up.
                    if let Some(parameters) = &mut ice.parameters {
                        (parameters.lite, parameters.pacing) = (false, None);
                    }
                }
                if section.port() != 0 {
                    prop_assert_eq!(now, ice);
                }
            }
            let again = read(&description.to_string());
            prop_assert_eq!(&again, &description);
        } else {
            prop_assert_eq!(description.to_string(), &*text);
        }
        let fragment = description.fragment();
        prop_assert_eq!(SdpFragment::parse(&fragment.to_string()), Ok(fragment.clone()));
        let complete = description.sections().all(|section| section.ice().parameters.is_some());
        if complete {
            let mut told = description.clone();
            prop_assert_eq!(told.add_fragment(&fragment), Ok(Vec::new()));
        }
    }
}

//! Each component finds a path of its own, and what belongs together is told apart.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentError, ChecklistState, EngineConfig, Event, Parameters, RecordingOptions,
    Role, SessionDescription, SessionEvent, State, replay,
};
use nilas_sim::{Link, Realm, Session, Signaling, World};
use nilas_stun::Class;

use super::{Pair, USUAL, gather, local_parameters, nowhere, session, tie_breakers};
use crate::common::{Check, MINUTE, address, ends, ip, message, ms, sent_by};

#[test]
fn two_streams_of_two_components_connect_across_nats_in_both_roles() {
    for (seed, roles) in (0..10).flat_map(|seed| [(seed, USUAL), (seed, [USUAL[1], USUAL[0]])]) {
        for signaling in [Signaling::all_at_once(ms(0)), Signaling::trickled(ms(20))] {
            let mut pair = Pair::behind_nats(seed, roles, &[2, 2]);
            pair.introduce(signaling);
            pair.run_until_completed();
            pair.assert_each_has_its_own_path();
            for [a, b] in pair.components() {
                let ends_at = |agent| ends(pair.world.selected_pair(agent).expect("a pair"));
                let ((local, remote), mirrored) = (ends_at(a), ends_at(b));
                assert_eq!((remote, local), mirrored, "seed {seed}");
            }
            for side in [pair.a, pair.b] {
                assert_eq!(pair.roles(side).len(), 1, "seed {seed}");
                // RFC 8445 section 6.1.1: one tie-breaker for the session.
                assert_eq!(tie_breakers(&pair.world, side.node).len(), 1, "seed {seed}");
                let state = pair
                    .world
                    .with_session(side, |session, _| (session.ice_state(), session.state()));
                let completed = (ChecklistState::Completed, State::Completed);
                assert_eq!(state, Ok(completed), "seed {seed}");
                let told = pair.world.session_events(side);
                let last = told.last().map(|(_, event)| *event);
                assert_eq!(last, Some(SessionEvent::StateChange(State::Completed)));
                for stream in [0, 1] {
                    let state = ChecklistState::Completed;
                    let event = SessionEvent::ChecklistStateChange { stream, state };
                    let times = told.iter().filter(|(_, told)| *told == event).count();
                    assert_eq!(times, 1, "seed {seed}, {told:?}");
                }
            }
        }
    }
}

#[test]
fn what_a_component_tells_names_it_and_the_credentials_are_the_streams() {
    let mut pair = Pair::behind_nats(1, USUAL, &[2, 1]);
    gather(&mut pair.world, pair.a);
    pair.world.run_for(ms(500));
    let agents = pair.world.components(pair.a);
    let mut told = Vec::new();
    for agent in agents {
        let candidates = pair.world.events(agent).iter().filter_map(|(_, event)| {
            let Event::Candidate(candidate) = event else {
                return None;
            };
            Some(candidate.clone())
        });
        told.push(candidates.collect::<Vec<_>>());
    }
    let [rtp, rtcp, other] = &told[..] else {
        panic!("{told:?}");
    };
    for (candidates, component) in [(rtp, 1), (rtcp, 2), (other, 1)] {
        assert_eq!(
            candidates.len(),
            2,
            "host and server-reflexive: {candidates:?}"
        );
        for (candidate, like) in candidates.iter().zip(rtp) {
            assert_eq!(candidate.component, component);
            // RFC 8445 section 5.1.2.1: 256 minus the component id.
            assert_eq!(candidate.priority & 0xff, 256 - u32::from(component));
            // Section 5.1.1.3: the foundation is that of all components.
            assert_eq!(candidate.foundation, like.foundation);
        }
    }
    assert_ne!(rtp[0].foundation, rtp[1].foundation);
    assert_eq!(rtp[0].ufrag, rtcp[0].ufrag);
    assert_ne!(rtp[0].ufrag, other[0].ufrag);
    assert_ne!(rtp[0].address, rtcp[0].address);
    let parameters = local_parameters(&mut pair.world, pair.a, 0);
    assert_eq!(rtcp[0].ufrag.as_deref(), Some(&*parameters.ufrag));
}

#[test]
fn one_remote_address_and_one_ufrag_are_told_apart_by_the_socket() {
    let mut pair = Pair::open(1, USUAL, &[2]);
    gather(&mut pair.world, pair.a);
    pair.world.run_for(ms(1));
    let own = local_parameters(&mut pair.world, pair.a, 0);
    let stranger = pair
        .world
        .add_host(Realm::INTERNET, &[ip("192.0.2.77")], Link::new(ms(1)));
    let source = address("192.0.2.77:7");
    let agents = [1, 2].map(|component| pair.world.component(pair.a, 0, component));
    for (id, agent) in (1..).zip(agents) {
        let host = pair
            .world
            .events(agent)
            .iter()
            .find_map(|(_, event)| match event {
                Event::Candidate(candidate) => candidate.ip_address(),
                _ => None,
            });
        let host = host.expect("a host candidate");
        let check = Check {
            to_ufrag: &own.ufrag,
            to_pwd: &own.pwd,
            from_ufrag: "peer",
            id,
            controlling: None,
            controlled: Some(1),
            nominate: false,
            component: id.into(),
        };
        pair.world.inject(stranger, source, host, &check.bytes());
        pair.world.run_for(ms(30));
        // The answer leaves from the socket that was asked.
        let answers = sent_by(&pair.world, pair.a.node)
            .filter(|packet| message(packet, Class::SuccessResponse).is_some())
            .map(|packet| packet.source);
        assert_eq!(answers.last(), Some(host));
    }
    let parameters = Parameters::new("peer", "a+password+that+is+long+enough");
    let told = pair.world.with_session(pair.a, |session, now| {
        session.set_remote_parameters(now, 0, &parameters)
    });
    assert_eq!(told, Ok(Ok(())));
    for agent in agents {
        let host = pair
            .world
            .events(agent)
            .iter()
            .find_map(|(_, event)| match event {
                Event::Candidate(candidate) => candidate.ip_address(),
                _ => None,
            });
        let data = format!("for {agent:?}");
        let to = host.expect("a host candidate");
        pair.world.inject(stranger, source, to, data.as_bytes());
        pair.world.run_for(ms(30));
        let received = pair
            .world
            .received(agent)
            .iter()
            .map(|(_, data)| data.clone());
        assert_eq!(received.collect::<Vec<_>>(), [data.into_bytes()]);
    }
}

const SECTIONS: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    m=audio 9 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\n\
    m=video 9 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\na=mid:v\r\n";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Offer,
    Answer,
}

/// An offer or an answer of a session with two streams.
fn describe(world: &mut World, side: Session, kind: Kind) -> String {
    let mut text = SessionDescription::parse(SECTIONS).expect("a description");
    for section in 0..2 {
        let own = world.with_session(side, |session, _| match kind {
            Kind::Offer => session.description(section),
            Kind::Answer => session.answer(section),
        });
        let own = own.expect("open").expect("a stream");
        text.set_ice(section, &own).expect("it can be written");
    }
    text.to_string()
}

fn take(world: &mut World, side: Session, text: &str) {
    let description = SessionDescription::parse(text).expect("what the other has written");
    for (stream, section) in description.sections().enumerate() {
        let taken = world.with_session(side, |session, now| {
            session.set_remote_description(now, stream, &section.ice())
        });
        assert_eq!(taken, Ok(Ok(())));
    }
}

#[test]
fn an_offer_and_an_answer_connect_two_sections_with_rtp_and_rtcp() {
    let mut pair = Pair::behind_nats(1, USUAL, &[2, 2]);
    for side in [pair.a, pair.b] {
        gather(&mut pair.world, side);
    }
    pair.world.run_for(ms(500));
    let offer = describe(&mut pair.world, pair.a, Kind::Offer);
    // Host and server-reflexive candidates of both components, in both sections.
    assert_eq!(offer.matches("a=candidate:").count(), 8, "{offer}");
    assert_eq!(offer.matches("a=rtcp:").count(), 2, "{offer}");
    assert_eq!(offer.matches("a=end-of-candidates").count(), 2, "{offer}");
    let lines = |component: &str| {
        let lines = offer
            .lines()
            .filter(|line| line.starts_with("a=candidate:"));
        lines
            .filter(|line| line.split(' ').nth(1) == Some(component))
            .count()
    };
    assert_eq!((lines("1"), lines("2")), (4, 4), "{offer}");
    take(&mut pair.world, pair.b, &offer);
    let answer = describe(&mut pair.world, pair.b, Kind::Answer);
    take(&mut pair.world, pair.a, &answer);
    pair.run_until_completed();
    pair.assert_each_has_its_own_path();
    // A section that does not offer ICE is told as such.
    let bare = SessionDescription::parse(SECTIONS).expect("a description");
    let section = bare.section(0).expect("a section").ice();
    let refused = pair.world.with_session(pair.a, |session, now| {
        session.set_remote_description(now, 0, &section)
    });
    assert_eq!(refused, Ok(Err(AgentError::NoIce)));
}

/// What an agent would have written that knows nothing of trickling.
fn without_trickle(text: &str) -> String {
    let text = text.replace("a=end-of-candidates\r\n", "");
    assert!(text.contains(" trickle"), "{text}");
    text.replace(" trickle", "").replace(" continual", "")
}

/// RFC 8838 section 3: it falls back to regular ICE. What was gathered since comes in another description, until a pair is
/// nominated (RFC 8839 section 4.4.1.2.1).
#[test]
fn a_description_without_trickle_has_all_candidates_until_the_next_one() {
    for roles in [USUAL, [USUAL[1], USUAL[0]]] {
        let mut pair = Pair::behind_nats(1, roles, &[2, 2]);
        for side in [pair.a, pair.b] {
            gather(&mut pair.world, side);
        }
        pair.world.run_for(ms(500));
        let sides = [(pair.a, Kind::Offer), (pair.b, Kind::Answer)];
        let [offer, answer] = sides.map(|(side, kind)| {
            let text = describe(&mut pair.world, side, kind);
            without_trickle(&text)
        });
        // At first only where nobody is.
        let hosts = |line: &&str| !line.contains("typ srflx");
        let first: String = offer.split_inclusive('\n').filter(hosts).collect();
        let mut first = SessionDescription::parse(&first).expect("a description");
        for section in 0..2 {
            let mut ice = first.section(section).expect("a section").ice();
            ice.choose_destinations();
            first.set_ice(section, &ice).expect("it can be written");
        }
        take(&mut pair.world, pair.b, &first.to_string());
        pair.world.run_for(ms(500));
        // Nothing else trickles in.
        let late = pair.world.with_session(pair.b, |session, now| {
            session.add_remote_candidate(now, 0, nowhere(9, 1, 77))
        });
        assert_eq!(late, Ok(Err(AgentError::AfterEndOfCandidates)));
        take(&mut pair.world, pair.b, &offer);
        take(&mut pair.world, pair.a, &answer);
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
    }
}

/// A later offer has what was nominated (RFC 8839 section 4.4.1.2.2), and one with new credentials restarts a stream
/// (section 4.4.1.1.1), whoever offers and whoever controls.
#[test]
fn later_offers_say_what_was_nominated_and_restart_a_stream() {
    for (roles, offers) in [
        (USUAL, 0),
        (USUAL, 1),
        ([USUAL[1], USUAL[0]], 0),
        ([USUAL[1], USUAL[0]], 1),
    ] {
        let mut pair = Pair::behind_nats(1, roles, &[2, 2]);
        let sides = [pair.a, pair.b];
        let [offerer, answerer] = [sides[offers], sides[1 - offers]];
        let exchange = |pair: &mut Pair| {
            pair.world.run_for(ms(500));
            let offer = describe(&mut pair.world, offerer, Kind::Offer);
            take(&mut pair.world, answerer, &offer);
            pair.world.run_for(ms(500));
            let answer = describe(&mut pair.world, answerer, Kind::Answer);
            take(&mut pair.world, offerer, &answer);
            pair.run_until_completed();
            pair.assert_each_has_its_own_path();
            [offer, answer]
        };
        for side in sides {
            gather(&mut pair.world, side);
        }
        exchange(&mut pair);
        // Again: nothing changes, and what is said is what was found.
        let before = sides.map(|side| pair.world.session_events(side));
        let later = exchange(&mut pair);
        let told = [(offerer, Kind::Offer), (answerer, Kind::Answer)];
        for (text, (side, kind)) in later.iter().zip(told) {
            let controls = roles[usize::from(side == sides[1])] == Role::Controlling;
            let description = SessionDescription::parse(text).expect("what was written");
            for (stream, section) in description.sections().enumerate() {
                let ice = section.ice();
                assert!(!description.is_mismatched(stream), "{text}");
                assert_eq!(ice.candidates.len(), 2, "{text}");
                let mut remotes = ice.remote_candidates.iter();
                for component in [1, 2] {
                    let agent = pair.world.component(side, stream, component);
                    let (local, remote) = ends(pair.world.selected_pair(agent).expect("a pair"));
                    let told = &ice.candidates[usize::from(component) - 1];
                    assert_eq!((told.component, told.ip_address()), (component, local));
                    let told = remotes.next().map(|told| {
                        (
                            told.component,
                            Some(SocketAddr::new(told.address, told.port)),
                        )
                    });
                    // RFC 8839 section 4.4.2: never in an answer.
                    let names = controls && kind == Kind::Offer;
                    assert_eq!(told, names.then_some((component, remote)), "{text}");
                }
            }
        }
        assert_eq!(sides.map(|side| pair.world.session_events(side)), before);
        // The first stream begins anew, with all candidates; the second goes on.
        let restarted = pair
            .world
            .with_session(offerer, |session, now| session.restart(now, 0));
        assert_eq!(restarted, Ok(Ok(())));
        for text in exchange(&mut pair) {
            let description = SessionDescription::parse(&text).expect("what was written");
            let counts: Vec<_> = description
                .sections()
                .map(|section| section.ice().candidates.len())
                .collect();
            assert_eq!(counts, [4, 2], "{roles:?} {offers}: {text}");
        }
        for side in sides {
            let parameters = local_parameters(&mut pair.world, side, 0);
            assert!(!later[0].contains(&parameters.ufrag) && !later[1].contains(&parameters.ufrag));
        }
    }
}

#[test]
fn a_shared_port_is_for_the_first_component_of_each_stream() {
    let mut pair = Pair::open(1, USUAL, &[1]);
    let mut world = World::new(1);
    let [a, b] = [1, 2].map(|n: u8| {
        let host = world.add_host(
            Realm::INTERNET,
            &[ip(&format!("192.0.2.{n}"))],
            Link::new(ms(10)),
        );
        let mut engine = EngineConfig::default();
        engine.shared_port = Some(5_000);
        world.configure_engine(host, engine);
        session(
            &mut world,
            host,
            AgentConfig::new(Role::Controlling),
            &[2, 2],
        )
    });
    (pair.world, pair.a, pair.b) = (world, a, b);
    pair.introduce(Signaling::trickled(ms(5)));
    pair.run_until_completed();
    pair.assert_each_has_its_own_path();
}

#[test]
fn the_host_of_a_lite_session_completes_each_component() {
    let mut world = World::new(1);
    let [a, b] = [1, 2].map(|n: u8| {
        let host = world.add_host(
            Realm::INTERNET,
            &[ip(&format!("192.0.2.{n}"))],
            Link::new(ms(10)),
        );
        let mut config = AgentConfig::new(Role::Controlled);
        if n == 2 {
            config.mode = nilas_ice::Mode::Lite;
        }
        session(&mut world, host, config, &[2, 1])
    });
    let mut pair = Pair { world, a, b };
    pair.introduce(Signaling::trickled(ms(5)));
    pair.run_until_completed();
    // RFC 8445 section 6.1.1: the full one controls, with all of its components.
    assert_eq!(pair.roles(a), BTreeSet::from(["controlling"]));
    assert_eq!(pair.roles(b), BTreeSet::from(["controlled"]));
    pair.assert_each_has_its_own_path();
}

#[test]
fn a_recorded_session_plays_back_to_equality_and_holds_no_password() {
    for seed in 0..5 {
        let mut world = World::new(seed);
        world.record_hosts(RecordingOptions::default());
        let [a, b] = Pair::fill(&mut world, [Role::Controlling; 2], &[2, 2]);
        let mut pair = Pair { world, a, b };
        pair.introduce(Signaling::trickled(ms(20)));
        pair.run_until_completed();
        let mut secrets = Vec::new();
        let mut note = |world: &mut World| {
            for (side, stream) in [(a, 0), (a, 1), (b, 0), (b, 1)] {
                secrets.push(local_parameters(world, side, stream).pwd);
            }
        };
        note(&mut pair.world);
        for agent in [pair.world.component(a, 1, 2), pair.world.component(b, 0, 1)] {
            let restarted = pair
                .world
                .with_agent(agent, |mut agent, now| agent.restart(now));
            restarted.expect("open");
            pair.world.run_for(Duration::from_secs(5));
        }
        note(&mut pair.world);
        let refused = pair.world.with_session(a, |session, now| {
            session.add_stream(now, AgentConfig::new(Role::Controlled), 9)
        });
        assert_eq!(refused, Ok(Err(AgentError::SessionTooLarge)));
        let closed = pair
            .world
            .with_session(a, |session, now| session.close_stream(now, 0));
        assert_eq!(closed, Ok(Ok(())));
        pair.world.run_for(MINUTE);
        for side in [a, b] {
            let recording = pair.world.end_recording(side.node);
            let played = replay(&recording).expect("a recording");
            assert_eq!(played.difference, None, "seed {seed}");
            assert!(played.calls > 100, "seed {seed}: {} calls", played.calls);
            for secret in &secrets {
                let secret = secret.as_bytes();
                let found = recording.windows(secret.len()).any(|part| part == secret);
                assert!(!found, "seed {seed}");
            }
        }
    }
}

//! Candidate lines, session descriptions and fragments, their attributes, and their JSON (RFC 8839, RFC 8840).
//!
//! What is read is written so that it reads the same again, and no line ever grows a second one. What is changed
//! in a description is what was to be changed, and nothing else.

use nilas_ice::{
    Attribute, Candidate, IceDescription, Parameters, RtcIceCandidateInit, RtcIceParameters,
    SdpFragment, SessionDescription,
};

/// Each line of the text, and the whole as JSON, as a description and as a fragment.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    json(text);
    description(text);
    fragment(text);
    line(text);
    for each in text.split('\n') {
        line(each);
    }
}

fn line(text: &str) {
    let mut parameters = Parameters::new("", "");
    if let Ok(candidate) = text.parse::<Candidate>() {
        written_again(&candidate);
        let init = RtcIceCandidateInit::from(&candidate);
        assert_eq!(init.parse(), Ok(Some(candidate.clone())), "{text:?}");
        assert_eq!(
            text.parse(),
            Ok(Attribute::Candidate(candidate)),
            "{text:?}"
        );
    }
    if let Ok(attribute) = text.parse::<Attribute>() {
        let written = attribute.to_string();
        assert!(!written.contains(char::is_control), "{written:?}");
        assert_eq!(
            written.parse().as_ref(),
            Ok(&attribute),
            "{written:?} of {text:?}"
        );
        assert_eq!(format!("a={written}\r\n").parse(), Ok(attribute.clone()));
        parameters.apply(&attribute);
        assert!(!format!("{attribute:?}").is_empty());
    }
}

fn description(text: &str) {
    let Ok(read) = SessionDescription::parse(text) else {
        return;
    };
    assert_eq!(read.to_string(), text);
    let before = ices(&read);
    let written: Vec<_> = before
        .iter()
        .cloned()
        .chain([IceDescription::default()])
        .collect();
    // One section's words in all others: what fits is read back, what does not changes nothing.
    for ice in written.iter().take(4) {
        for index in 0..before.len().min(4) {
            let mut changed = read.clone();
            let mut ice = ice.clone();
            ice.choose_destinations();
            match changed.set_ice(index, &ice) {
                Ok(()) => took(&read, &changed, index, ice),
                Err(_) => assert_eq!(changed, read),
            }
        }
    }
    for index in 0..before.len().min(4) {
        let _ = (read.is_mismatched(index), read.carrier(index));
        let _ = before[index].change_since(&before[0]);
        let mut changed = read.clone();
        assert_eq!(changed.reject(index), Ok(()));
        assert!(changed.section(index).is_some_and(|own| own.port() == 0));
        parses(&changed);
    }
    let told = read.fragment().to_string();
    let told = SdpFragment::parse(&told).expect("a fragment that was written");
    assert_eq!(told, read.fragment());
    let mut again = read.clone();
    if let Ok(news) = again.add_fragment(&told) {
        assert!(news.is_empty(), "{news:?} of {text:?}");
        assert_eq!(again, read);
    }
}

fn took(
    read: &SessionDescription,
    changed: &SessionDescription,
    index: usize,
    mut ice: IceDescription,
) {
    let mut now = ices(changed);
    if ice.mismatch {
        ice.candidates.clear();
        now[index].candidates.clear();
    }
    assert_eq!(now[index], ice);
    let others = ices(read).into_iter().zip(now).enumerate();
    for (_, (before, now)) in others.filter(|(other, _)| *other != index) {
        assert_eq!(before.candidates, now.candidates);
        assert_eq!(before.destination, now.destination);
    }
    parses(changed);
}

fn parses(written: &SessionDescription) {
    assert_eq!(
        SessionDescription::parse(&written.to_string()).as_ref(),
        Ok(written)
    );
}

fn ices(description: &SessionDescription) -> Vec<IceDescription> {
    description
        .sections()
        .map(|section| section.ice())
        .collect()
}

fn fragment(text: &str) {
    if let Ok(read) = SdpFragment::parse(text) {
        assert_eq!(read.to_string(), text);
        let mids = read.sections().filter_map(|section| section.mid());
        for mid in mids.take(4) {
            let ice = read.section(mid).expect("a section with this mid").ice();
            let Some(parameters) = &ice.parameters else {
                continue;
            };
            let Ok(mut written) = SdpFragment::new(parameters) else {
                continue;
            };
            if written.push(mid, &ice).is_ok() {
                let again = SdpFragment::parse(&written.to_string());
                assert_eq!(again.as_ref(), Ok(&written));
                let now = written.section(mid).expect("the section").ice();
                assert_eq!(
                    now.candidates.len(),
                    if ice.mismatch {
                        0
                    } else {
                        ice.candidates.len()
                    }
                );
                assert_eq!(now.end_of_candidates, ice.end_of_candidates);
            }
        }
    }
}

fn written_again(candidate: &Candidate) {
    let written = candidate.to_string();
    assert!(!written.contains(char::is_control), "{written:?}");
    assert_eq!(written.parse().as_ref(), Ok(candidate), "{written:?}");
    assert!((1..=256).contains(&candidate.component) && (1..1 << 31).contains(&candidate.priority));
}

fn json(text: &str) {
    if let Ok(init) = serde_json::from_str::<RtcIceCandidateInit>(text) {
        if let Ok(Some(candidate)) = init.parse() {
            written_again(&candidate);
        }
        let written = serde_json::to_string(&init).expect("plain fields are always JSON");
        assert_eq!(
            serde_json::from_str::<RtcIceCandidateInit>(&written).ok(),
            Some(init)
        );
    }
    if let Ok(parameters) = serde_json::from_str::<Parameters>(text) {
        let written = serde_json::to_string(&parameters).expect("plain fields are always JSON");
        assert_eq!(
            serde_json::from_str::<Parameters>(&written).ok().as_ref(),
            Some(&parameters)
        );
        assert!(!format!("{parameters:?}").contains(&*parameters.pwd) || parameters.pwd.len() < 22);
        if parameters.check().is_ok() {
            let mut again = Parameters::new("", "");
            for attribute in parameters.attributes() {
                again.apply(&attribute);
            }
            assert_eq!(
                (&again.ufrag, &again.pwd, again.lite),
                (&parameters.ufrag, &parameters.pwd, parameters.lite)
            );
        }
    }
    if let Ok(parameters) = serde_json::from_str::<RtcIceParameters>(text) {
        let _ = Parameters::from(parameters).check();
    }
}

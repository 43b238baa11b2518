//! Candidate lines, attributes of session descriptions, and their JSON (RFC 8839).
//!
//! What is read is written so that it reads the same again, and no line ever grows a second one.

use nilas_ice::{Attribute, Candidate, Parameters, RtcIceCandidateInit, RtcIceParameters};

/// Each line of the text, and the whole as JSON.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    json(text);
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

//! The selection policy, by its vectors.

use nilas_ice::selection;
use nilas_ice::{Choice, Contender, SelectionReason, Situation};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    schema: String,
    #[serde(rename = "about")]
    _about: String,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    situation: Situation,
    contenders: Vec<Contender>,
    choice: Option<Choice>,
}

fn vectors() -> Vec<Vector> {
    let read: Vectors = serde_json::from_str(include_str!("selection_vectors.json")).expect("JSON");
    assert_eq!(read.schema, "nilas-selection-vectors/1");
    assert!(!read.vectors.is_empty());
    read.vectors
}

#[test]
fn the_policy_answers_as_its_vectors_say() {
    for vector in vectors() {
        let choice = selection::select(&vector.situation, &vector.contenders);
        assert_eq!(choice, vector.choice, "{}", vector.name);
    }
}

#[test]
fn a_choice_that_was_carried_out_stands() {
    for vector in vectors() {
        // What the peer nominates need not be what the policy would have chosen.
        let Some(choice) = vector
            .choice
            .filter(|own| own.reason != SelectionReason::Nominated)
        else {
            continue;
        };
        let mut contenders = vector.contenders;
        if contenders.iter().any(|own| own.nominated) {
            for (index, own) in contenders.iter_mut().enumerate() {
                own.nominated = index == choice.index;
            }
        }
        let mut situation = vector.situation;
        situation.current = Some(choice.index);
        let again = selection::select(&situation, &contenders).map(|choice| choice.index);
        assert_eq!(again, Some(choice.index), "{}", vector.name);
    }
}

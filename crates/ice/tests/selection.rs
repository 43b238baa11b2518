//! The selection policy, by its vectors.

use nilas_ice::selection;
use nilas_ice::{CandidateType, Choice, Contender, SelectionReason, Situation};
use serde::Deserialize;
use std::time::Duration;

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

/// What is known stays as it is here: then so does the data, after a few moves, wherever it begins.
#[test]
fn the_policy_comes_to_rest() {
    for seed in 0..20_000_u64 {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        let contenders: Vec<_> = (0..2 + roll(7))
            .map(|_| {
                let mut own = Contender::new(CandidateType::Host, CandidateType::Host, roll(1_000));
                own.round_trip = Some(Duration::from_millis(20 + 5 * roll(30)));
                own.loss = (5 * roll(10)) as u8;
                own.tcp = roll(3) == 0;
                own.age = Duration::from_secs(60);
                own
            })
            .collect();
        let mut situation = Situation::default();
        (situation.current, situation.settled) = (Some(0), true);
        let mut path = vec![0];
        loop {
            let choice = selection::select(&situation, &contenders).expect("a choice");
            if Some(choice.index) == situation.current {
                break;
            }
            assert!(
                !path.contains(&choice.index),
                "seed {seed}: {path:?} and {choice:?} of {contenders:#?}"
            );
            path.push(choice.index);
            situation.current = Some(choice.index);
        }
    }
}

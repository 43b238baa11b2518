//! Several streams and components with one peer, over loopback.

mod common;

use std::sync::Arc;

use common::{config, deliver, soon};
use nilas::ice::AgentError;
use nilas::signaling::Signal;
use nilas::{Config, Endpoint, Error, Role, State, Streams};
use tokio::sync::mpsc;

async fn streams(role: Role, components: &[u16]) -> Streams {
    let endpoint = Endpoint::new().unwrap();
    endpoint.streams(config(role), components).await.unwrap()
}

/// Every component carries its own data, both ways.
async fn assert_each_is_connected(a: &Streams, b: &Streams, components: &[u16]) {
    let mut ports = Vec::new();
    for (stream, count) in components.iter().enumerate() {
        for component in 1..=*count {
            let [a, b] = [a, b].map(|side| side.agent(stream, component).unwrap());
            let both = async { tokio::try_join!(a.connect(), b.connect()).unwrap() };
            let (mut at_a, mut at_b) = soon("connecting", both).await;
            deliver(&mut at_a, &mut at_b, &format!("{stream} {component} to b")).await;
            deliver(&mut at_b, &mut at_a, &format!("{stream} {component} to a")).await;
            let local = a.selected_pair().unwrap().local.ip_address();
            assert!(!ports.contains(&local), "{local:?} carries two components");
            ports.push(local);
        }
    }
}

#[tokio::test]
async fn descriptions_of_two_streams_lead_to_a_connection_for_each_component() {
    let components = [2, 1];
    let a = streams(Role::Controlling, &components).await;
    let b = streams(Role::Controlling, &components).await;
    assert_eq!((a.state(), b.state()), (State::New, State::New));
    for (stream, count) in components.into_iter().enumerate() {
        for (from, to) in [(&a, &b), (&b, &a)] {
            let description = soon("gathering", from.description(stream)).await.unwrap();
            let told = description.candidates.iter().map(|own| own.component);
            assert_eq!(told.max(), Some(count));
            to.set_remote_description(stream, description)
                .await
                .unwrap();
        }
    }
    assert_each_is_connected(&a, &b, &components).await;
    for side in [&a, &b] {
        let mut state = side.state();
        while state != State::Completed {
            state = soon("completing", side.state_other_than(state)).await;
        }
    }
    let role = |side: &Streams| {
        let agents = [(0, 1), (0, 2), (1, 1)];
        agents.map(|(stream, component)| side.agent(stream, component).unwrap().role())
    };
    assert_eq!(role(&a), [role(&a)[0]; 3]);
    assert_eq!(role(&b), [role(&a)[0].opposite(); 3]);
    // A restart is the stream's.
    let before = a.agent(0, 1).unwrap().local_parameters();
    a.agent(0, 2).unwrap().restart().await.unwrap();
    for (from, to) in [(&a, &b), (&b, &a)] {
        let description = soon("gathering", from.description(0)).await.unwrap();
        to.set_remote_description(0, description).await.unwrap();
    }
    let after = a.agent(0, 1).unwrap().local_parameters();
    assert_ne!(after.ufrag, before.ufrag);
    assert_eq!(after, a.agent(0, 2).unwrap().local_parameters());
    assert!(a.agent(0, 3).is_none() && a.agent(2, 1).is_none() && a.agent(0, 0).is_none());
}

#[tokio::test]
async fn the_agents_of_streams_trickle_each_for_itself() {
    let components = [2, 2];
    let a = streams(Role::Controlling, &components).await;
    let b = streams(Role::Controlled, &components).await;
    let sides = [a, b].map(|side| side.into_agents().into_iter().flatten().map(Arc::new));
    let [a, b] = sides.map(Iterator::collect::<Vec<_>>);
    for (a, b) in a.iter().zip(&b) {
        let (to_b, from_a) = mpsc::channel(4);
        let (to_a, from_b) = mpsc::channel(4);
        for (agent, to, from) in [(a, to_b, from_b), (b, to_a, from_a)] {
            let agent = Arc::clone(agent);
            tokio::spawn(async move {
                let (mut to, mut from): (mpsc::Sender<Signal>, mpsc::Receiver<Signal>) = (to, from);
                agent.exchange(&mut to, &mut from).await.unwrap();
            });
        }
    }
    for (number, (a, b)) in a.iter().zip(&b).enumerate() {
        let both = async { tokio::try_join!(a.connect(), b.connect()).unwrap() };
        let (mut at_a, mut at_b) = soon("connecting", both).await;
        deliver(&mut at_a, &mut at_b, &format!("component {number}")).await;
    }
}

#[tokio::test]
async fn what_cannot_be_is_an_error_and_leaves_nothing_behind() {
    let endpoint = Endpoint::new().unwrap();
    for components in [&[] as &[u16], &[0], &[1, 5], &[1; 17]] {
        let refused = endpoint.streams(Config::controlling(), components).await;
        assert!(
            matches!(refused, Err(Error::Agent(AgentError::SessionTooLarge))),
            "{components:?}: {refused:?}"
        );
    }
    let streams = endpoint
        .streams(config(Role::Controlling), &[1])
        .await
        .unwrap();
    let refused = streams.description(1).await;
    assert!(
        matches!(refused, Err(Error::Agent(AgentError::UnknownStream))),
        "{refused:?}"
    );
    let own = streams.description(0).await.unwrap();
    let mut bare = own;
    bare.parameters = None;
    let refused = streams.set_remote_description(0, bare).await;
    assert!(
        matches!(refused, Err(Error::Agent(AgentError::NoIce))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn streams_are_closed_with_the_last_of_their_agents() {
    let endpoint = Endpoint::new().unwrap();
    let streams = endpoint
        .streams(config(Role::Controlling), &[1])
        .await
        .unwrap();
    let closed = streams.agent(0, 1).unwrap().events();
    let waits = tokio::spawn(async move {
        let mut closed = closed;
        while let Some(event) = closed.next().await {
            drop(event);
        }
    });
    drop(streams);
    soon("closing", waits).await.unwrap();
}

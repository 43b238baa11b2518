//! Two agents in one process. Every wait has a limit only so that a hang becomes a failure.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod relay;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use nilas::signaling::Signal;
use nilas::{Agent, Config, Connection, Event, Events, Role, State};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Both ends on loopback addresses, of whichever family there is.
pub(crate) fn config(role: Role) -> Config {
    let mut config = Config::new(role).loopback(true);
    // A machine's other addresses would be candidates as well: here the network is loopback.
    config
        .engine_config_mut()
        .filter
        .names
        .push(loopback_name());
    config
}

fn loopback_name() -> String {
    nilas_net::interfaces()
        .expect("a listing")
        .into_iter()
        .find(|interface| {
            interface
                .addresses
                .iter()
                .any(|address| address.is_loopback())
        })
        .expect("a loopback interface")
        .name
}

/// Fails the test instead of hanging it.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Two agents whose signals are exchanged by tasks of their own for as long as they live.
pub(crate) struct Two {
    pub(crate) a: Arc<Agent>,
    pub(crate) b: Arc<Agent>,
}

impl Two {
    pub(crate) async fn new() -> Self {
        Self::with(config(Role::Controlling), config(Role::Controlled)).await
    }

    pub(crate) async fn with(a: Config, b: Config) -> Self {
        let (a, b) = (Agent::new(a).await.unwrap(), Agent::new(b).await.unwrap());
        Self {
            a: Arc::new(a),
            b: Arc::new(b),
        }
    }

    pub(crate) fn exchange(&self) {
        let (to_b, from_a) = mpsc::channel(4);
        let (to_a, from_b) = mpsc::channel(4);
        for (agent, to, from) in [(&self.a, to_b, from_b), (&self.b, to_a, from_a)] {
            let agent = Arc::clone(agent);
            tokio::spawn(async move {
                let (mut to, mut from): (mpsc::Sender<Signal>, mpsc::Receiver<Signal>) = (to, from);
                agent.exchange(&mut to, &mut from).await.unwrap();
            });
        }
    }

    pub(crate) async fn connect(&self) -> (Connection, Connection) {
        let both = async { tokio::try_join!(self.a.connect(), self.b.connect()).unwrap() };
        soon("connecting", both).await
    }
}

/// Sends, and receives the same at the other end.
pub(crate) async fn deliver(from: &mut Connection, to: &mut Connection, text: &str) {
    from.send(text.as_bytes()).await.unwrap();
    assert_eq!(receive(to).await, text);
}

pub(crate) async fn receive(connection: &mut Connection) -> String {
    let mut buffer = [0; 2000];
    let length = soon("receiving", connection.recv(&mut buffer))
        .await
        .unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// Passes events by until one is as wanted.
pub(crate) async fn event(
    events: &mut Events,
    what: &str,
    wanted: impl Fn(&Event) -> bool,
) -> Event {
    soon(what, async {
        loop {
            match events.next().await {
                Some(Ok(event)) if wanted(&event) => return event,
                Some(_) => {}
                None => panic!("the events ended before {what}"),
            }
        }
    })
    .await
}

pub(crate) fn is_state(wanted: State) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::StateChange { state, .. } if *state == wanted)
}

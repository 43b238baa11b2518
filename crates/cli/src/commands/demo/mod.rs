//! `nilas demo`: both peers and their server in one process, so that everyone can see them find each other.
//!
//! The rooms: [`place`] is where it happens, [`peer`] one of the two, [`relay`] what the server relays for them,
//! [`echo`] the data they exchange, [`result`] what is found out. This file sets the stage and prints.

mod echo;
mod peer;
mod place;
mod relay;
mod result;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nilas::{Role, State};
use nilas_lab::{Node, Side};
use nilas_server::{LocalAddresses, Server, ServerError, ServerHandle};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use peer::{News, Order, Plan};
use place::Place;
use relay::Relay;
use result::{Outcome, Report};

use crate::arguments;
use crate::failure::Failure;
use crate::network;
use crate::output::reason::why;
use crate::output::text::milliseconds;
use crate::output::{Event, Format, PairView, Reporter, Stream, ended, json_line};

/// The schema of the last JSON line.
const SCHEMA: &str = "nilas.demo/1";
/// The schema of the lines before it.
const EVENT_SCHEMA: &str = "nilas.demo-event/1";
const NAMES: [&str; 2] = ["a", "b"];
/// The patience that RFC 8863 section 4 asks for takes 39.5 s; nothing else takes a second.
const LONGEST: Duration = Duration::from_secs(60);
/// After so long without an answer, people want to know what is waited for.
const IMPATIENT: Duration = Duration::from_secs(3);
/// How long the peers may take to agree on a pair. A side that has doubted its path and moved by itself stays away for 10 s, and
/// is then told again which pair is nominated, with a consent check, which comes every 4 to 6 s (RFC 7675 section 5.1).
const AGREEMENT: Duration = Duration::from_secs(30);
/// How long the peers may take to end.
const FAREWELL: Duration = Duration::from_secs(20);

pub(crate) fn run(arguments: &arguments::Demo) -> Result<(), Failure> {
    let report = ended(arguments.json, SCHEMA, demonstrate(arguments))?;
    if arguments.json {
        json_line(SCHEMA, &report)?;
    } else if report.ok {
        super::print_line(&conclusion(&report))?;
    }
    match report.verdict {
        None => Ok(()),
        Some(verdict) => Err(Failure::NoConnection(verdict)),
    }
}

fn demonstrate(arguments: &arguments::Demo) -> Result<Report, Failure> {
    let wants_lab =
        arguments.nat.is_some() || arguments.delay_ms.is_some() || arguments.loss.is_some();
    // Before any thread is started: a user namespace is entered by a process of one.
    let place = if wants_lab {
        let nat = arguments.nat.as_deref().unwrap_or("open,open");
        let topology = super::lab::topology(nat, arguments.delay_ms, arguments.loss)?;
        Place::Lab {
            lab: Box::new(super::lab::build(&topology)?),
            topology,
        }
    } else {
        let interfaces = network::interfaces()?;
        network::require_address(
            &mut network::config(Role::Controlling, &[], &interfaces),
            &interfaces,
        )?;
        Place::Here
    };
    let format = Format::choose(arguments.json, Stream::Stdout);
    let mut reporter = Reporter::new(format, Stream::Stdout, EVENT_SCHEMA);
    reporter.note(place.introduction())?;
    let relay = match arguments.no_relay {
        true => None,
        false => Some(place.relay()?),
    };
    let stage = Stage::set(&place, relay.as_ref(), arguments)?;
    // The server has read the relay's files: whatever ends the demo now, none is left behind.
    drop(relay);
    stage.play(&mut reporter)
}

fn conclusion(report: &Report) -> String {
    let times: Vec<_> = report
        .peers
        .iter()
        .filter_map(|peer| {
            let (first, selected) = (
                milliseconds(peer.first_path_ms?),
                milliseconds(peer.selected_ms?),
            );
            Some(format!(
                "{} had a path after {first} and settled after {selected}",
                peer.name
            ))
        })
        .collect();
    let echo = report.echo;
    let came = if echo.sent == echo.received {
        format!("all {} datagrams came back", echo.sent)
    } else {
        format!("{} of {} datagrams came back", echo.received, echo.sent)
    };
    format!("connected: {}; {came}", times.join(", "))
}

/// The server and the peers, running.
struct Stage {
    server: ServerHandle,
    orders: [UnboundedSender<Order>; 2],
    reports: Receiver<(&'static str, News)>,
}

impl Stage {
    fn set(
        place: &Place,
        relay: Option<&Relay>,
        arguments: &arguments::Demo,
    ) -> Result<Self, Failure> {
        let (server, addresses) = start_server(place, relay)?;
        let (to_main, reports) = channel();
        let (to_a, for_a) = unbounded_channel();
        let (to_b, for_b) = unbounded_channel();
        let (orders_a, a_obeys) = unbounded_channel();
        let (orders_b, b_obeys) = unbounded_channel();
        let peers = [
            (Side::A, Node::A, a_obeys, (to_b, for_a), Role::Controlling),
            (Side::B, Node::B, b_obeys, (to_a, for_b), Role::Controlled),
        ];
        for (name, (side, node, orders, memory, role)) in NAMES.into_iter().zip(peers) {
            let server = place
                .server_for(side, &addresses)
                .ok_or_else(|| Failure::internal("the server listens nowhere"))?;
            let plan = Plan {
                name,
                role,
                stun: server.stun,
                rendezvous: server.rendezvous,
                relay: relay.map(|relay| relay.access(server.turn)),
                relay_only: arguments.relay_only,
                recording: match side {
                    Side::A => arguments.recording.clone(),
                    Side::B => arguments.recording.of_second(),
                },
                creates: side == Side::A,
                orders,
                memory,
                reports: to_main.clone(),
            };
            place.spawn(node, move || peer::run(plan))?;
        }
        Ok(Self {
            server,
            orders: [orders_a, orders_b],
            reports,
        })
    }

    /// Lets the peers find each other, and tells what they do.
    fn play(self, reporter: &mut Reporter) -> Result<Report, Failure> {
        let told = self.direct(reporter);
        self.order(|| Order::Close);
        let outcomes = self.outcomes(reporter)?;
        self.server.stop();
        told?;
        Ok(Report::new(NAMES, &outcomes))
    }

    fn direct(&self, reporter: &mut Reporter) -> Result<(), Failure> {
        let began = Instant::now();
        let (mut decided, mut echoed, mut failed, mut in_memory) = (0, 0, false, false);
        let mut waiting = false;
        let mut selected: [Option<PairView>; 2] = [None, None];
        let mut talked = None;
        while !(failed && decided == 2) {
            let mut left = LONGEST.saturating_sub(began.elapsed());
            if echoed == 2 {
                if let [Some(a), Some(b)] = &selected
                    && a.mirrors(b)
                {
                    return Ok(());
                }
                let talked = *talked.get_or_insert_with(Instant::now);
                left = left.min(AGREEMENT.saturating_sub(talked.elapsed()));
            }
            if !waiting && decided == 0 && began.elapsed() > IMPATIENT {
                waiting = true;
                reporter.note("no pair has answered yet; RFC 8863 asks for patience, so the verdict takes up to 40 s")?;
            }
            let (name, news) = match self.reports.recv_timeout(left) {
                Ok(report) => report,
                // The outcomes will say how far it came.
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Ok(()),
            };
            match news {
                News::Event(event) => {
                    failed |= matches!(
                        event,
                        Event::State {
                            state: State::Failed,
                            ..
                        }
                    );
                    if reporter.is_json() || is_worth_a_line(&event) {
                        reporter.tell(Some(name), &event)?;
                    }
                }
                News::Pairs(pairs) => reporter.pairs(name, &pairs)?,
                News::Selected(pair) => {
                    if let Some(place) = NAMES.iter().position(|known| *known == name) {
                        selected[place] = Some(pair);
                    }
                }
                News::Code(code) => {
                    let [_, to_b] = &self.orders;
                    // A peer that has ended has said so, and why.
                    let _ = to_b.send(Order::Join(code));
                }
                News::NoRendezvous(reason) if !in_memory => {
                    in_memory = true;
                    reporter.note(format!(
                        "{reason}; the descriptions are handed over within this process instead"
                    ))?;
                    self.order(|| Order::UseMemory);
                }
                News::NoRendezvous(_) => {}
                News::Decided => {
                    decided += 1;
                    if decided == 2 && !failed {
                        self.order(|| Order::Echo);
                    }
                }
                News::EchoDone => echoed += 1,
                News::Ended(_) => {
                    return Err(Failure::internal(format!("peer {name} ended early")));
                }
            }
        }
        Ok(())
    }

    fn order(&self, order: impl Fn() -> Order) {
        for peer in &self.orders {
            // A peer that has ended has said so.
            let _ = peer.send(order());
        }
    }

    /// Waits for both peers to end, and names the winners.
    fn outcomes(&self, reporter: &mut Reporter) -> Result<[Outcome; 2], Failure> {
        let began = Instant::now();
        let mut outcomes = [None, None];
        while outcomes.iter().any(Option::is_none) {
            let left = FAREWELL.saturating_sub(began.elapsed());
            match self.reports.recv_timeout(left) {
                Ok((name, News::Ended(outcome))) => {
                    if let Some(place) = NAMES.iter().position(|known| *known == name) {
                        outcomes[place] = Some(*outcome);
                    }
                }
                Ok((name, News::Pairs(pairs))) => reporter.pairs(name, &pairs)?,
                Ok(_) => {}
                Err(_) => return Err(Failure::internal("a peer does not end")),
            }
        }
        let mut winners = Vec::new();
        for (name, outcome) in NAMES.into_iter().zip(outcomes.iter().flatten()) {
            if let Some(pair) = &outcome.selected {
                let why = why(pair, &reporter.pairs_of(name));
                reporter.selected(name, pair);
                winners.push((
                    name,
                    Event::Selected {
                        pair: pair.clone(),
                        why,
                    },
                ));
            }
        }
        reporter.settle()?;
        for (name, winner) in winners {
            reporter.tell(Some(name), &winner)?;
        }
        Ok(outcomes.map(Option::unwrap_or_default))
    }
}

/// People see from the pairs and from the end what these say.
fn is_worth_a_line(event: &Event) -> bool {
    !matches!(
        event,
        Event::State {
            state: State::New | State::Checking | State::Completed | State::Closed,
            ..
        }
    )
}

/// Starts the server on a thread of its own; returns once it serves.
fn start_server(
    place: &Place,
    relay: Option<&Relay>,
) -> Result<(ServerHandle, LocalAddresses), Failure> {
    let config = place.server_config(relay)?;
    let (started, is_started) = channel();
    place.spawn(Node::Server, move || {
        let runtime = match super::runtime() {
            Ok(runtime) => runtime,
            Err(failure) => return drop(started.send(Err(failure))),
        };
        runtime.block_on(async {
            match Server::bind(config).await {
                Ok(server) => {
                    // Whoever started this thread waits for exactly this.
                    let _ = started.send(Ok((server.handle(), server.local_addresses().clone())));
                    if let Err(error) = server.run(std::future::pending()).await {
                        tracing::error!(%error, "the demo's own server has ended");
                    }
                }
                Err(error) => drop(started.send(Err(unusable(&error)))),
            }
        });
    })?;
    is_started
        .recv()
        .unwrap_or_else(|_| Err(Failure::internal("the server's thread ended")))
}

fn unusable(error: &ServerError) -> Failure {
    Failure::usage(format!("the demo's own server does not start: {error}"))
}

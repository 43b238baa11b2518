//! `nilas gather`: under which addresses this machine can be reached, and who says so.

mod probe;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nilas::{
    Agent, Candidate, CandidateType, Config, Endpoint, Event as Happened, GatheringState, Role,
    Stats,
};
use nilas_ice::{StreamTransport, StunServer, TurnServer, TurnTransport};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::arguments;
use crate::failure::Failure;
use crate::network;
use crate::output::pairs::round_ms;
use crate::output::{CandidateView, Event, Format, Reporter, Stream, ended, json_line};
use crate::recording;

/// The schema of the last JSON line.
const SCHEMA: &str = "nilas.gather/1";
/// The schema of the lines before it.
const EVENT_SCHEMA: &str = "nilas.gather-event/1";

/// The last line of `nilas gather --json`.
#[derive(Debug, Serialize)]
struct Summary {
    ok: bool,
    candidates: usize,
    /// The servers that gave no answer on some address of this machine.
    failed_servers: Vec<String>,
    /// What went wrong besides: a port is in use, or the gateway forwards none.
    errors: Vec<String>,
    /// All of it, in words.
    #[serde(skip)]
    reasons: Vec<String>,
}

pub(crate) fn run(arguments: &arguments::Gather) -> Result<(), Failure> {
    let format = Format::choose(arguments.json, Stream::Stdout);
    let reporter = Reporter::new(format, Stream::Stdout, EVENT_SCHEMA);
    let gathered = || {
        let config = network::from_arguments(Role::Controlling, &arguments.network)?;
        super::runtime()?.block_on(async {
            let endpoint = recording::endpoint(&arguments.network.recording, "gather")?;
            gather(config, endpoint, &reporter).await
        })
    };
    let summary = ended(arguments.json, SCHEMA, gathered())?;
    if arguments.json {
        json_line(SCHEMA, &summary)?;
    }
    if summary.candidates == 0 {
        return Err(network::no_candidate(&arguments.network, &summary.reasons));
    }
    if !summary.failed_servers.is_empty() {
        let servers = summary.failed_servers.join(", ");
        return Err(Failure::no_connection(format!(
            "not every server told an address: {servers}"
        )));
    }
    if !summary.ok {
        return Err(Failure::no_connection(summary.errors.join("; ")));
    }
    Ok(())
}

/// Tells candidates as they come, until all have.
async fn gather(
    mut config: Config,
    endpoint: Endpoint,
    reporter: &Reporter,
) -> Result<Summary, Failure> {
    let engine = config.engine_config_mut();
    let stun = std::mem::take(&mut engine.stun_servers);
    let turn = std::mem::take(&mut engine.turn_servers);
    let servers = stun.into_iter().map(Server::Stun);
    let servers: Vec<_> = servers.chain(turn.into_iter().map(Server::Turn)).collect();
    let (sender, mut events) = mpsc::unbounded_channel();
    let mut gatherers = JoinSet::new();
    // An agent for each server, so that it is certain who told an address.
    let each = if servers.is_empty() {
        vec![None]
    } else {
        servers.into_iter().map(Some).collect()
    };
    // Ports that the user chose may be too few for all at once.
    let turns = Arc::new(Semaphore::new(match config.engine_config_mut().ports {
        Some(_) => 1,
        None => each.len(),
    }));
    for (number, server) in each.into_iter().enumerate() {
        let (endpoint, config, sender) = (endpoint.clone(), config.clone(), sender.clone());
        let turns = Arc::clone(&turns);
        gatherers.spawn(async move {
            // Nobody closes it.
            let _turn = turns.acquire().await;
            ask(&endpoint, config, server, number == 0, &sender).await
        });
    }
    drop(sender);
    let mut candidates = 0;
    let (mut failed_servers, mut errors) = (BTreeSet::new(), BTreeSet::new());
    let mut reasons = BTreeSet::new();
    let mut told = Ok(());
    while let Some(event) = events.recv().await {
        match &event {
            Event::Candidate(_) => candidates += 1,
            Event::ServerError { url, text, .. } => {
                failed_servers.insert(url.clone());
                reasons.insert(format!("{url}: {text}"));
            }
            Event::CandidateError { text } => {
                errors.insert(text.clone());
                reasons.insert(text.clone());
            }
            _ => {}
        }
        // The agents close in order, also where nobody reads any more.
        if told.is_ok() {
            told = reporter.tell(None, &event);
        }
    }
    while let Some(ended) = gatherers.join_next().await {
        ended
            .map_err(Failure::internal)?
            .map_err(Failure::no_connection)?;
    }
    told?;
    Ok(Summary {
        ok: candidates > 0 && reasons.is_empty(),
        candidates,
        failed_servers: failed_servers.into_iter().collect(),
        errors: errors.into_iter().collect(),
        reasons: reasons.into_iter().collect(),
    })
}

/// A server to ask.
#[derive(Clone)]
enum Server {
    Stun(StunServer),
    Turn(TurnServer),
}

/// Gathers with one server, or with none. Only the first of several tells the machine's own addresses.
async fn ask(
    endpoint: &Endpoint,
    mut config: Config,
    server: Option<Server>,
    first: bool,
    told: &mpsc::UnboundedSender<Event>,
) -> Result<(), nilas::Error> {
    // A receiver that is gone has failed to print, and says so itself.
    let tell = |event| drop(told.send(event));
    let engine = config.engine_config_mut();
    // One is enough to know what the gateway does.
    engine.port_mapping &= first;
    let mut round_trip = Measured::Known(None);
    match &server {
        Some(Server::Stun(server)) => {
            engine.stun_servers.push(server.clone());
            round_trip = Measured::start(server.clone());
        }
        Some(Server::Turn(server)) => engine.turn_servers.push(server.clone()),
        None => {}
    }
    let began = Instant::now();
    let agent = endpoint.agent(config).await?;
    let mut events = agent.events();
    // Whether it is known what the server says.
    let mut answered = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Happened::Candidate(candidate)) => {
                let mut view = CandidateView::new(&candidate);
                view.server = teller(&agent, &candidate).await;
                match candidate.kind {
                    CandidateType::Relay => {
                        answered = true;
                        view.found_ms = Some(round_ms(began.elapsed().as_secs_f64() * 1e3));
                    }
                    CandidateType::Srflx if view.server.is_some() => {
                        // A relay that tells an address and gives none has not done its work.
                        answered |= matches!(server, Some(Server::Stun(_)));
                        let measured = round_trip.get().await;
                        view.rtt_ms = measured.map(|time| round_ms(time.as_secs_f64() * 1e3));
                    }
                    _ if !first => continue,
                    _ => {}
                }
                tell(Event::Candidate(view));
            }
            Ok(Happened::CandidateError(error)) => {
                answered |= !error.url.is_empty();
                tell(error.into());
            }
            Ok(Happened::GatheringStateChange(GatheringState::Complete)) => break,
            _ => {}
        }
    }
    // What a domain may offer and does not is no server.
    let absent = matches!(&server, Some(Server::Turn(server)) if server.may_be_absent);
    if let (false, Some(server)) = (answered || absent, &server) {
        let is_stun = matches!(server, Server::Stun(_));
        let server = name(server);
        tell(match round_trip.get().await {
            // RFC 8445 section 5.1.3: a server-reflexive candidate that equals its base is redundant, and not told.
            Some(time) => Event::NoNat {
                server,
                rtt_ms: round_ms(time.as_secs_f64() * 1e3),
            },
            None => Event::ServerError {
                url: server,
                error_code: 701,
                text: if is_stun {
                    "the server did not answer".to_owned()
                } else {
                    "the server gave no relayed address".to_owned()
                },
            },
        });
    }
    agent.close().await;
    Ok(())
}

/// The server that told a candidate: the gateway is none, and neither is the command line.
async fn teller(agent: &Agent, candidate: &Candidate) -> Option<String> {
    let foundation = candidate.foundation.to_string();
    let stats = agent.stats().await.unwrap_or_default();
    stats.into_iter().find_map(|entry| match entry {
        Stats::LocalCandidate(local)
            if (&local.foundation, local.priority) == (&foundation, candidate.priority) =>
        {
            local.url
        }
        _ => None,
    })
}

/// The server's URI.
fn name(server: &Server) -> String {
    let (scheme, host, port, transport) = match server {
        Server::Stun(server) => ("stun", &server.host, server.port, ""),
        Server::Turn(server) => {
            let (scheme, transport) = match server.transport {
                TurnTransport::Stream(StreamTransport::Tcp) => ("turn", "?transport=tcp"),
                TurnTransport::Stream(StreamTransport::Tls) => ("turns", "?transport=tcp"),
                TurnTransport::Stream(_) => ("turns", "?transport=udp"),
                TurnTransport::Udp => ("turn", "?transport=udp"),
            };
            (scheme, &server.host, server.port, transport)
        }
    };
    if host.contains(':') {
        format!("{scheme}:[{host}]:{port}{transport}")
    } else {
        format!("{scheme}:{host}:{port}{transport}")
    }
}

/// A round-trip time that is measured once, beside the gathering.
enum Measured {
    Running(tokio::task::JoinHandle<Option<Duration>>),
    Known(Option<Duration>),
}

impl Measured {
    fn start(server: StunServer) -> Self {
        Self::Running(tokio::spawn(
            async move { probe::round_trip(&server).await },
        ))
    }

    async fn get(&mut self) -> Option<Duration> {
        if let Self::Running(task) = self {
            // A panic there leaves the time unknown; the panic itself has been told.
            *self = Self::Known(task.await.ok().flatten());
        }
        match self {
            Self::Known(round_trip) => *round_trip,
            Self::Running(_) => None,
        }
    }
}

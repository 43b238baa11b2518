//! `nilas gather`: under which addresses this machine can be reached, and who says so.

mod probe;

use std::collections::BTreeSet;
use std::time::Duration;

use nilas::{CandidateType, Config, Endpoint, Event as Happened, GatheringState, Role};
use nilas_ice::StunServer;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::arguments;
use crate::failure::Failure;
use crate::network;
use crate::output::pairs::round_ms;
use crate::output::{CandidateView, Event, Format, Reporter, Stream, json_line};

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
}

pub(crate) fn run(arguments: &arguments::Gather) -> Result<(), Failure> {
    let format = Format::choose(arguments.json, Stream::Stdout);
    let reporter = Reporter::new(format, Stream::Stdout, EVENT_SCHEMA);
    let config = network::from_arguments(Role::Controlling, &arguments.network)?;
    let summary = super::runtime()?.block_on(gather(config, &reporter))?;
    if arguments.json {
        json_line(SCHEMA, &summary)?;
    }
    if summary.candidates == 0 {
        return Err(Failure::no_connection(
            "no candidate was found: bring a network interface up, or add --loopback",
        ));
    }
    if !summary.ok {
        let servers = summary.failed_servers.join(", ");
        return Err(Failure::no_connection(format!(
            "not every server told an address: {servers}"
        )));
    }
    Ok(())
}

/// Tells candidates as they come, until all have.
async fn gather(mut config: Config, reporter: &Reporter) -> Result<Summary, Failure> {
    let servers = std::mem::take(&mut config.engine_config_mut().stun_servers);
    let endpoint = Endpoint::new().map_err(Failure::internal)?;
    let (sender, mut events) = mpsc::unbounded_channel();
    let mut gatherers = JoinSet::new();
    // An agent for each server, so that it is certain who told an address.
    let each = if servers.is_empty() {
        vec![None]
    } else {
        servers.into_iter().map(Some).collect()
    };
    for (number, server) in each.into_iter().enumerate() {
        let (endpoint, config, sender) = (endpoint.clone(), config.clone(), sender.clone());
        gatherers.spawn(async move { ask(&endpoint, config, server, number == 0, &sender).await });
    }
    drop(sender);
    let mut candidates = 0;
    let mut failed_servers = BTreeSet::new();
    while let Some(event) = events.recv().await {
        match &event {
            Event::Candidate(_) => candidates += 1,
            Event::ServerError { url, .. } => drop(failed_servers.insert(url.clone())),
            _ => {}
        }
        reporter.tell(None, &event)?;
    }
    while let Some(ended) = gatherers.join_next().await {
        ended
            .map_err(Failure::internal)?
            .map_err(Failure::no_connection)?;
    }
    let failed_servers: Vec<_> = failed_servers.into_iter().collect();
    Ok(Summary {
        ok: candidates > 0 && failed_servers.is_empty(),
        candidates,
        failed_servers,
    })
}

/// Gathers with one server, or with none. Only the first of several tells the machine's own addresses.
async fn ask(
    endpoint: &Endpoint,
    mut config: Config,
    server: Option<StunServer>,
    first: bool,
    told: &mpsc::UnboundedSender<Event>,
) -> Result<(), nilas::Error> {
    // A receiver that is gone has failed to print, and says so itself.
    let tell = |event| drop(told.send(event));
    config
        .engine_config_mut()
        .stun_servers
        .extend(server.clone());
    let agent = endpoint.agent(config).await?;
    let mut events = agent.events();
    let mut round_trip = match &server {
        Some(server) => Measured::start(server.clone()),
        None => Measured::Known(None),
    };
    // Whether it is known what the server says.
    let mut answered = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(Happened::Candidate(candidate)) => {
                let mut view = CandidateView::new(&candidate);
                if candidate.kind == CandidateType::Srflx {
                    answered = true;
                    view.server = server.as_ref().map(name);
                    view.rtt_ms = round_trip
                        .get()
                        .await
                        .map(|time| round_ms(time.as_secs_f64() * 1e3));
                } else if !first {
                    continue;
                }
                tell(Event::Candidate(view));
            }
            Ok(Happened::CandidateError(error)) => {
                answered = true;
                tell(Event::ServerError {
                    url: error.url,
                    error_code: error.error_code,
                    text: error.error_text,
                });
            }
            Ok(Happened::GatheringStateChange(GatheringState::Complete)) => break,
            _ => {}
        }
    }
    if let (false, Some(server)) = (answered, &server) {
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
                text: "the server did not answer".to_owned(),
            },
        });
    }
    agent.close().await;
    Ok(())
}

/// The server's URI.
fn name(server: &StunServer) -> String {
    let (host, port) = (&server.host, server.port);
    if host.contains(':') {
        format!("stun:[{host}]:{port}")
    } else {
        format!("stun:{host}:{port}")
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

//! `nilas agent`: one agent, driven by JSON lines.

use std::future::Future;
use std::io::{self, Write};
use std::pin::Pin;

use nilas::{
    Agent, Batch, Connection, Event, Events, GatheringState, Mtu, Role, SelectedPair, State,
};
use nilas_ice::{AgentError, Candidate, Parameters, TcpCandidates};
use tokio::sync::mpsc;

use crate::agent_protocol::{Command, Event as Said, Start};
use crate::arguments;
use crate::failure::Failure;
use crate::input::{self, Line};
use crate::network;
use crate::recording;

/// The longest command: the largest datagram as JSON text, each byte of it escaped in six.
const MAX_LINE: usize = 6 * 65_535 + 1_024;

pub(crate) fn run(arguments: &arguments::Agent) -> Result<(), Failure> {
    super::runtime()?.block_on(drive(&arguments.recording))
}

/// The commands, until standard input or the program is to end.
struct Commands<Stop> {
    lines: mpsc::Receiver<Line>,
    stop: Pin<Box<Stop>>,
}

impl<Stop: Future<Output = ()>> Commands<Stop> {
    async fn next(&mut self) -> Option<Result<Command, String>> {
        tokio::select! {
            line = self.lines.recv() => line.map(understand),
            () = &mut self.stop => None,
        }
    }
}

/// Waits for `start`, and drives the agent to its end.
async fn drive(record: &arguments::Recording) -> Result<(), Failure> {
    let mut commands = Commands {
        lines: input::lines(MAX_LINE)?,
        stop: Box::pin(super::server::stop_signal()?),
    };
    while let Some(command) = commands.next().await {
        match command {
            Ok(Command::Start(start)) => match Session::start(&start, record).await {
                Ok(session) => return session.drive(commands).await,
                Err(error) => complain(error)?,
            },
            Ok(Command::Close) => {
                return say(&Said::State {
                    state: State::Closed,
                });
            }
            Ok(_) => complain("the agent is not started: begin with the command start")?,
            Err(reason) => complain(reason)?,
        }
    }
    Ok(())
}

struct Session {
    agent: Agent,
    connection: Connection,
    events: Events,
    teller: Teller,
    /// What is wrong with `start`; the rest of it holds.
    complaints: Vec<String>,
}

/// Puts events into words, and remembers what that takes.
struct Teller {
    /// The `params` that were told last.
    own: Parameters,
    /// The generation that the other side told last.
    peer_ufrag: Option<String>,
    /// Whether data may come: not between a failure and the restart after it.
    receiving: bool,
}

impl Session {
    async fn start(start: &Start, record: &arguments::Recording) -> Result<Self, Failure> {
        let interfaces = network::interfaces()?;
        let role = if start.controlling {
            Role::Controlling
        } else {
            Role::Controlled
        };
        let mut config = network::config(role, &start.interfaces, &interfaces);
        for server in &start.servers {
            config = server.add_to(config).map_err(Failure::internal)?;
        }
        config = config
            .addresses(start.addresses)
            .dscp(start.dscp)
            .lite(start.lite)
            .port_mapping(start.port_mapping)
            .mdns(start.mdns);
        if let Some(ports) = start.ports {
            config = config.ports(ports);
        }
        if let Some(longest) = start.mtu {
            config = config.mtu(Mtu::Discover(longest));
        }
        if start.tcp {
            config = config.tcp(TcpCandidates::All);
        }
        let agent = recording::agent(config, record, "agent").await?;
        let connection = agent.connection().map_err(Failure::internal)?;
        let events = agent.events();
        let teller = Teller {
            own: agent.local_parameters(),
            peer_ufrag: None,
            receiving: true,
        };
        let mut complaints = start.refused.clone();
        complaints.extend(network::missing(&start.interfaces, &interfaces));
        Ok(Self {
            agent,
            connection,
            events,
            teller,
            complaints,
        })
    }

    /// Until `close` or the end of input.
    async fn drive(mut self, commands: Commands<impl Future<Output = ()>>) -> Result<(), Failure> {
        match self.serve(commands).await {
            Ok(()) => self.close().await,
            // Nobody listens any more. A server would keep what it relays for minutes, and a gateway the port that it forwards.
            Err(failure) => {
                self.agent.close().await;
                Err(failure)
            }
        }
    }

    async fn serve(
        &mut self,
        mut commands: Commands<impl Future<Output = ()>>,
    ) -> Result<(), Failure> {
        say(&Said::Params(&self.teller.own))?;
        for reason in &self.complaints {
            complain(reason)?;
        }
        let mut batch = Batch::new();
        loop {
            tokio::select! {
                // What happened is told before anything new is done, so that answers follow their causes.
                biased;
                event = self.events.next() => match event {
                    Some(Ok(event)) => self.teller.tell(event)?,
                    Some(Err(lagged)) => complain(lagged)?,
                    None => return Ok(()),
                },
                received = self.connection.recv_batch(&mut batch), if self.teller.receiving => match received {
                    Ok(()) => {
                        for datagram in batch.iter() {
                            say(&Said::Data { data: &String::from_utf8_lossy(datagram) })?;
                        }
                    }
                    // The state tells why; data may come again after a restart.
                    Err(_) => self.teller.receiving = false,
                },
                command = commands.next() => match command {
                    None | Some(Ok(Command::Close)) => return Ok(()),
                    Some(Ok(command)) => self.obey(command).await?,
                    Some(Err(reason)) => complain(reason)?,
                },
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), Failure> {
        let done = match command {
            Command::Start(_) => return complain("the agent is started already"),
            Command::Remote(parameters) => {
                let ufrag = parameters.ufrag.clone();
                let done = self.agent.set_remote_parameters(parameters).await;
                if done.is_ok() {
                    self.teller.peer_ufrag = Some(ufrag);
                }
                done
            }
            Command::Candidate(candidate) => {
                match self.agent.add_remote_candidate(*candidate).await {
                    // One of an earlier generation may well be under way when a restart overtakes it.
                    Err(nilas::Error::Agent(AgentError::StaleCandidate)) => Ok(()),
                    done => done,
                }
            }
            Command::Remove(candidate) => {
                match self.agent.remove_remote_candidate(*candidate).await {
                    Err(nilas::Error::Agent(AgentError::StaleCandidate)) => Ok(()),
                    done => done,
                }
            }
            Command::EndOfCandidates => self.agent.end_of_remote_candidates().await,
            Command::Send(data) => self.connection.send(data.as_bytes()).await,
            Command::Restart => self.agent.restart().await,
            Command::Stats => match self.agent.stats().await {
                Ok(stats) => return say(&Said::Stats { stats: &stats }),
                Err(error) => Err(error),
            },
            Command::Close => Ok(()), // `serve` has seen to it.
        };
        done.or_else(complain)
    }

    /// Closes, and tells what still happens until the state `closed`.
    async fn close(self) -> Result<(), Failure> {
        let Self {
            agent,
            mut events,
            mut teller,
            ..
        } = self;
        agent.close().await;
        while let Some(event) = events.next().await {
            event.map_or_else(complain, |event| teller.tell(event))?;
        }
        Ok(())
    }
}

impl Teller {
    fn tell(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            // Those of the start were told when it started.
            Event::LocalParameters(parameters) if parameters != self.own => {
                say(&Said::Params(&parameters))?;
                self.own = parameters;
            }
            Event::Candidate(candidate) => {
                say(&Said::Candidate {
                    candidate: &line(candidate, Some(&self.own.ufrag)),
                })?;
            }
            Event::CandidateRemoved(candidate) => say(&Said::Removed {
                candidate: &line(candidate, Some(&self.own.ufrag)),
            })?,
            Event::GatheringStateChange(GatheringState::Complete) => say(&Said::Eoc)?,
            Event::SelectedPairChange(SelectedPair { local, remote, .. }) => {
                let (local, remote) = (
                    line(local, Some(&self.own.ufrag)),
                    line(remote, self.peer_ufrag.as_deref()),
                );
                say(&Said::Selected {
                    local: &local,
                    remote: &remote,
                })?;
            }
            Event::StateChange { state, .. } => {
                self.receiving = state != State::Failed;
                say(&Said::State { state })?;
            }
            Event::CandidateError(error) => {
                // Some errors are of no server.
                match error.url.is_empty() {
                    true => complain(&error.error_text)?,
                    false => complain(format_args!("{}: {}", error.url, error.error_text))?,
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The candidate's line. Each ends in the generation that it belongs to.
fn line(mut candidate: Candidate, ufrag: Option<&str>) -> String {
    if candidate.ufrag.is_none() {
        candidate.ufrag = ufrag.map(Into::into);
    }
    candidate.to_string()
}

fn understand(line: Line) -> Result<Command, String> {
    match line {
        Line::Text(text) => Command::parse(&text),
        Line::TooLong => Err(format!("the line is longer than {MAX_LINE} bytes")),
        Line::NotText => Err("the line is not UTF-8".to_owned()),
    }
}

fn complain(reason: impl std::fmt::Display) -> Result<(), Failure> {
    say(&Said::Error {
        msg: &reason.to_string(),
    })
}

/// Writes an event as one line, at once: whoever drives the agent waits for it.
fn say(event: &Said<'_>) -> Result<(), Failure> {
    let mut line = serde_json::to_vec(event).map_err(Failure::internal)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()?;
    Ok(())
}

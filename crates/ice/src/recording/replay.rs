//! A recording is played back: the same core is given the same, and must do the same.

use core::fmt;

use nilas_turn::Time;

use super::entry::{Answer, Call, Decision, Step};
use super::reader::{RecordingEnd, RecordingError, Steps};
use super::recorder::MAX_AGENTS;
use super::watcher::Watcher;
use crate::engine::Engine;
use crate::io::Input;
use crate::source::{Source, Tape};

/// More room than this no message needs.
const MAX_ROOM: u32 = 1 << 16;

/// What came of playing a recording back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replay {
    /// The version of nilas that recorded.
    pub version: String,
    /// What it was told to say about the recording.
    pub note: String,
    /// Calls that were played and came out the same.
    pub calls: u64,
    /// When the last of them was.
    pub until: Time,
    /// How the recording ends; where there is a difference, how far it was read.
    pub end: RecordingEnd,
    /// Where this core first did something else.
    pub difference: Option<Difference>,
    /// Whether an agent chose its paths by a policy of the application's own
    /// ([`AgentConfig::selection`](crate::AgentConfig::selection)). It is not in the recording, and the policy of nilas took
    /// its place: where they choose differently, that is the difference.
    pub foreign_policy: bool,
}

/// The first place where a core does something else than was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// When.
    pub at: Time,
    /// In which call, from 0.
    pub call: u64,
    /// Where in the recording that call stands.
    pub offset: usize,
    /// What the engine was given.
    pub given: String,
    /// What is recorded.
    pub expected: String,
    /// What came instead.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            at,
            call,
            offset,
            given,
            expected,
            got,
        } = self;
        let at = at.as_nanos() as f64 / 1e9;
        write!(
            f,
            "at {at:.6} s, in call {call} (byte {offset}): {given}\n  recorded: {expected}\n  now:      {got}"
        )
    }
}

/// Gives the engine of this build all that the recorded one was given, and compares what it does.
///
/// # Errors
/// [`RecordingError`] when it cannot be read. One whose end is missing is played as far as it goes.
pub fn replay(recording: &[u8]) -> Result<Replay, RecordingError> {
    let mut steps = Steps::open(recording)?;
    let mut player = Player::new(&steps);
    let mut calls = 0;
    let mut difference = None;
    loop {
        let offset = steps.offset();
        let Some(step) = steps.next()? else { break };
        if let Some((expected, got)) = player.play(&step) {
            difference = Some(Difference {
                at: step.now,
                call: calls,
                offset,
                given: format!("{:?}", step.call),
                expected,
                got,
            });
            break;
        }
        calls += 1;
    }
    Ok(Replay {
        version: steps.header.version.clone(),
        note: steps.header.note.clone(),
        calls,
        until: steps.last(),
        end: steps.end(),
        difference,
        foreign_policy: player.foreign_policy,
    })
}

struct Player {
    engine: Engine,
    watcher: Watcher,
    buffer: Vec<u8>,
    foreign_policy: bool,
}

impl Player {
    fn new(steps: &Steps<'_>) -> Self {
        let mut source = Source::playing();
        if let Some(tape) = source.tape() {
            tape.load(&steps.header.taken.0);
        }
        Self {
            engine: Engine::with_source(steps.header.config.clone(), source),
            watcher: Watcher::default(),
            buffer: Vec::new(),
            foreign_policy: false,
        }
    }

    /// Plays one call; what was expected and what came, where they differ.
    fn play(&mut self, step: &Step) -> Option<(String, String)> {
        if let Call::Add(config) | Call::AddStream(_, config, _) = &step.call {
            self.foreign_policy |= config.selection.is_some();
        }
        let adds = matches!(step.call, Call::Add(_) | Call::AddStream(..));
        let full = adds && self.engine.agents.len() >= MAX_AGENTS;
        if full {
            let got = format!("no room: a recording has at most {MAX_AGENTS} agents");
            return Some((format!("{:?}", step.answer), got));
        }
        self.tape().load(&step.taken.0);
        let answer = self.call(step.now, &step.call);
        if answer != step.answer {
            let (expected, mut got) = (format!("{:?}", step.answer), format!("{answer:?}"));
            if expected == got {
                got.push_str(", with another password");
            }
            return Some((expected, got));
        }
        let used_up = self.tape().is_used_up();
        let touched = core::mem::take(&mut self.tape().touched);
        let decisions = self.watcher.look(&self.engine.agents, &touched);
        if decisions != step.decisions {
            return Some(first_of(&step.decisions, &decisions));
        }
        if !used_up {
            return Some((
                String::from("the randomness that is recorded"),
                String::from("more of it, or less"),
            ));
        }
        None
    }

    fn tape(&mut self) -> &mut Tape {
        let Some(tape) = self.engine.shared.source.tape() else {
            unreachable!("a source that plays keeps its tape")
        };
        tape
    }

    fn call(&mut self, now: Time, call: &Call) -> Answer {
        let engine = &mut self.engine;
        let input = match call {
            Call::Add(config) => {
                let added = engine.add_agent(now, (**config).clone());
                if let (Ok(id), Some(tape)) = (added, engine.shared.source.tape()) {
                    tape.touched.push(id.0.slot);
                }
                return Answer::Added(added);
            }
            Call::AddStream(session, config, components) => {
                let added = engine.add_members(now, *session, config, *components);
                if let (Ok((_, agents)), Some(tape)) = (&added, engine.shared.source.tape()) {
                    tape.touched.extend(agents.iter().map(|id| id.0.slot));
                }
                return Answer::AddedStream(added);
            }
            Call::Gather(_)
            | Call::RemoteParameters(..)
            | Call::RemoteCandidate(..)
            | Call::RemoveRemoteCandidate(..)
            | Call::EndOfRemoteCandidates(_)
            | Call::Restart(_)
            | Call::Addresses(..)
            | Call::TurnCredentials(..)
            | Call::Close(_) => return self.tell(now, call),
            Call::Poll(room) => {
                self.buffer.resize((*room).min(MAX_ROOM) as usize, 0);
                let output = engine.poll(now, &mut self.buffer);
                return Answer::of(&output, &self.buffer);
            }
            Call::Datagram {
                socket,
                remote,
                payload,
            } => {
                let payload = &payload.bytes();
                let input = Input::Datagram {
                    socket: *socket,
                    remote: *remote,
                    payload,
                };
                return Answer::Handled(engine.handle(now, input));
            }
            Call::StreamBytes { stream, payload } => {
                let bytes = &payload.bytes();
                let stream = *stream;
                return Answer::Handled(engine.handle(now, Input::StreamBytes { stream, bytes }));
            }
            Call::Bound { request, result } => Input::Bound {
                request: *request,
                result: *result,
            },
            Call::Resolved { request, result } => Input::Resolved {
                request: *request,
                result: result.as_deref().map_err(|error| *error),
            },
            Call::PortMapped { socket, result } => Input::PortMapped {
                socket: *socket,
                result: *result,
            },
            Call::StreamOpened { request, result } => Input::StreamOpened {
                request: *request,
                result: *result,
            },
            Call::StreamAccepted {
                socket,
                stream,
                remote,
            } => Input::StreamAccepted {
                socket: *socket,
                stream: *stream,
                remote: *remote,
            },
            Call::StreamClosed(stream) => Input::StreamClosed { stream: *stream },
            Call::SendError {
                socket,
                remote,
                error,
            } => Input::SendError {
                socket: *socket,
                remote: *remote,
                error: *error,
            },
            Call::Interfaces(interfaces) => Input::Interfaces(interfaces),
        };
        Answer::Handled(engine.handle(now, input))
    }

    /// Tells an agent something. It is there, unless the recording lies or this core has gone another way.
    fn tell(&mut self, now: Time, call: &Call) -> Answer {
        let (Call::Gather(id)
        | Call::RemoteParameters(id, _)
        | Call::RemoteCandidate(id, _)
        | Call::RemoveRemoteCandidate(id, _)
        | Call::EndOfRemoteCandidates(id)
        | Call::Restart(id)
        | Call::Addresses(id, _)
        | Call::TurnCredentials(id, ..)
        | Call::Close(id)) = call
        else {
            return Answer::Nothing;
        };
        let mut agent = match self.engine.agent(*id) {
            Ok(agent) => agent,
            Err(error) => return Answer::Accepted(Err(error)),
        };
        match call {
            Call::Gather(_) => agent.gather(now),
            Call::EndOfRemoteCandidates(_) => agent.end_of_remote_candidates(now),
            Call::Restart(_) => agent.restart(now),
            Call::Addresses(_, addresses) => {
                return Answer::Accepted(agent.set_addresses(now, *addresses));
            }
            Call::TurnCredentials(_, server, credentials) => {
                let done = agent.set_turn_credentials(now, *server, credentials);
                return Answer::Accepted(done);
            }
            Call::Close(_) => agent.close(now),
            Call::RemoteParameters(_, parameters) => {
                return Answer::Accepted(agent.set_remote_parameters(now, parameters));
            }
            Call::RemoteCandidate(_, candidate) => {
                return Answer::Accepted(agent.add_remote_candidate(now, candidate.clone()));
            }
            Call::RemoveRemoteCandidate(_, candidate) => {
                return Answer::Accepted(agent.remove_remote_candidate(now, candidate));
            }
            _ => {}
        }
        Answer::Nothing
    }
}

/// The first decisions that differ.
fn first_of(expected: &[Decision], got: &[Decision]) -> (String, String) {
    let say = |decision: Option<&Decision>| match decision {
        Some(decision) => format!("{decision:?}"),
        None => String::from("nothing"),
    };
    let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    (say(expected.get(same)), say(got.get(same)))
}

//! What an engine that is recorded does besides.

use nilas_turn::Time;
use nilas_turn::client::Credentials;

use super::RecordingOptions;
use super::conceal::{StandIns, stand_in};
use super::entry::{Answer, Blob, Call, Ended, Header, MAGIC, Payload, Sent, Step};
use super::watcher::Watcher;
use super::wire::{Wire, Writer};
use crate::agent::Agent;
use crate::arena::Arena;
use crate::config::{AddressPolicy, AgentConfig, EngineConfig};
use crate::engine::Engine;
use crate::error::AgentError;
use crate::ids::{AgentId, SessionId};
use crate::io::{Handled, Input, Output};
use crate::parameters::Parameters;
use crate::source::Tape;

type Agents = Arena<Box<Agent>>;

/// Agents of an engine that is recorded, at most: to play them back takes their memory.
pub(super) const MAX_AGENTS: usize = 4096;
/// Room that is kept for the mark at the end.
const END_BYTES: u64 = 24;

#[derive(Debug)]
pub(crate) struct Recorder {
    out: Writer,
    /// Bytes that were taken away already.
    taken_away: u64,
    limit: u64,
    full: bool,
    missed: u64,
    last: Time,
    stand_ins: StandIns,
    watcher: Watcher,
}

impl Recorder {
    pub(crate) fn new(options: RecordingOptions, config: &EngineConfig, taken: Vec<u8>) -> Self {
        let mut out = Writer::default();
        out.bytes.extend_from_slice(&MAGIC);
        let header = Header {
            version: env!("CARGO_PKG_VERSION").into(),
            note: options.note,
            config: config.clone(),
            taken: Blob(taken),
        };
        header.write(&mut out);
        Self {
            out,
            taken_away: 0,
            limit: options.limit_bytes.saturating_sub(END_BYTES),
            full: false,
            missed: 0,
            last: Time::ZERO,
            stand_ins: StandIns::default(),
            watcher: Watcher::default(),
        }
    }

    /// What was recorded since the last time.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let bytes = core::mem::take(&mut self.out.bytes);
        self.taken_away += bytes.len() as u64;
        bytes
    }

    /// The same, with the mark of the end.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let ended = Ended {
            missed: self.missed,
            at: self.last,
        };
        ended.write(&mut self.out);
        self.take()
    }

    /// Records a call that has been carried out.
    fn note(
        &mut self,
        engine: &mut Engine,
        say: impl FnOnce(&mut StandIns, &mut Tape, &Agents) -> (Call, Answer),
    ) {
        self.last = engine.now;
        if self.full {
            self.missed += 1;
            return;
        }
        let Some(tape) = engine.shared.source.tape() else {
            return;
        };
        self.stand_ins.take_drawn(tape);
        let (call, answer) = say(&mut self.stand_ins, tape, &engine.agents);
        let touched = core::mem::take(&mut tape.touched);
        let taken = Blob(tape.taken());
        for slot in &touched {
            if let Some(agent) = engine.agents.by_slot(*slot) {
                self.stand_ins.learn(tape, agent, None);
            }
        }
        let step = Step {
            now: engine.now,
            call,
            taken,
            answer,
            decisions: self.watcher.look(&engine.agents, &touched),
        };
        let before = self.out.bytes.len();
        step.write(&mut self.out);
        let written = self.taken_away + self.out.bytes.len() as u64;
        if written > self.limit || engine.agents.len() > MAX_AGENTS {
            self.out.bytes.truncate(before);
            self.full = true;
            self.missed += 1;
            engine.shared.source.stop();
        }
    }
}

/// What an agent is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Told<'a> {
    Gather,
    RemoteParameters(&'a Parameters, Result<(), AgentError>),
    EndOfRemoteCandidates,
    Restart,
    Addresses(AddressPolicy, Result<(), AgentError>),
    TurnCredentials(usize, &'a Credentials, Result<(), AgentError>),
    Close,
}

impl Engine {
    #[cold]
    pub(crate) fn note_added(&mut self, config: &AgentConfig, added: Result<AgentId, AgentError>) {
        self.note(|stand_ins, tape, _| {
            let config = Box::new(stand_ins.config(tape, config));
            if let Ok(id) = added {
                tape.touched.push(id.0.slot);
            }
            (Call::Add(config), Answer::Added(added))
        });
    }

    #[cold]
    pub(crate) fn note_stream(
        &mut self,
        session: Option<SessionId>,
        config: &AgentConfig,
        components: u16,
        added: Result<(SessionId, Vec<AgentId>), AgentError>,
    ) {
        self.note(|stand_ins, tape, _| {
            let config = Box::new(stand_ins.config(tape, config));
            if let Ok((_, agents)) = &added {
                tape.touched.extend(agents.iter().map(|id| id.0.slot));
            }
            let call = Call::AddStream(session, config, components);
            (call, Answer::AddedStream(added))
        });
    }

    #[cold]
    pub(crate) fn note_told(&mut self, agent: AgentId, told: Told<'_>) {
        let beside: Vec<_> = self.beside(agent.0.slot).collect();
        self.note(|stand_ins, tape, agents| match told {
            Told::Gather => (Call::Gather(agent), Answer::Nothing),
            Told::EndOfRemoteCandidates => (Call::EndOfRemoteCandidates(agent), Answer::Nothing),
            Told::Restart => (Call::Restart(agent), Answer::Nothing),
            Told::Addresses(addresses, result) => {
                (Call::Addresses(agent, addresses), Answer::Accepted(result))
            }
            Told::TurnCredentials(server, credentials, result) => (
                Call::TurnCredentials(agent, server, stand_in(credentials)),
                Answer::Accepted(result),
            ),
            Told::Close => (Call::Close(agent), Answer::Nothing),
            Told::RemoteParameters(parameters, result) => {
                let concealed = stand_ins.parameters(tape, parameters);
                for key in core::iter::once(agent.0).chain(beside) {
                    if let Some(agent) = agents.get(key) {
                        stand_ins.learn(tape, agent, Some(parameters));
                    }
                }
                (
                    Call::RemoteParameters(agent, concealed),
                    Answer::Accepted(result),
                )
            }
        });
    }

    #[cold]
    pub(crate) fn note_call(&mut self, call: Call, answer: Answer) {
        self.note(|_, _, _| (call, answer));
    }

    #[cold]
    pub(crate) fn handle_recorded(&mut self, now: Time, input: Input<'_>) -> Handled {
        // The keys must be those of now, and not those of afterwards.
        let concealed = self.recorder.as_ref().and_then(|recorder| {
            if recorder.full {
                return None;
            }
            match input {
                Input::Datagram {
                    socket,
                    remote,
                    payload,
                } => Some(recorder.stand_ins.datagram(self, socket, remote, payload)),
                Input::StreamBytes { stream, bytes } => {
                    Some(recorder.stand_ins.stream_bytes(self, stream, bytes))
                }
                _ => None,
            }
        });
        let mut call = Call::of(&input);
        let handled = self.take_in(now, input);
        let application = match &handled {
            Handled::Application(application) => Some(&application.range),
            Handled::Stream { application, .. } => {
                application.as_ref().map(|application| &application.range)
            }
            Handled::Consumed | Handled::NotOurs => None,
        };
        if let (
            Call::Datagram { payload, .. } | Call::StreamBytes { payload, .. },
            Some((bytes, mut hidden)),
        ) = (&mut call, concealed)
        {
            // What the engine takes for application data is hidden, whatever it looks like.
            hidden.extend(application.cloned());
            *payload = Payload::new(&bytes, hidden);
        }
        self.note_call(call, Answer::Handled(handled.clone()));
        handled
    }

    #[cold]
    pub(crate) fn poll_recorded(&mut self, now: Time, buffer: &mut [u8]) -> Output {
        let output = self.give(now, buffer);
        self.note(|stand_ins, tape, _| {
            let mut answer = Answer::of(&output, buffer);
            if let Answer::Event(_, event) = &mut answer {
                **event = stand_ins.event(tape, event);
            }
            (Call::Poll(buffer.len() as u32), answer)
        });
        output
    }

    fn note(&mut self, say: impl FnOnce(&mut StandIns, &mut Tape, &Agents) -> (Call, Answer)) {
        if let Some(mut recorder) = self.recorder.take() {
            recorder.note(self, say);
            self.recorder = Some(recorder);
        }
    }
}

impl Call {
    /// Without the payload.
    fn of(input: &Input<'_>) -> Self {
        let payload = Payload::default();
        match *input {
            Input::Datagram { socket, remote, .. } => Self::Datagram {
                socket,
                remote,
                payload,
            },
            Input::StreamBytes { stream, .. } => Self::StreamBytes { stream, payload },
            Input::Bound { request, result } => Self::Bound { request, result },
            Input::Resolved { request, result } => Self::Resolved {
                request,
                result: result.map(<[_]>::to_vec),
            },
            Input::PortMapped { socket, result } => Self::PortMapped { socket, result },
            Input::StreamOpened { request, result } => Self::StreamOpened { request, result },
            Input::StreamAccepted {
                socket,
                stream,
                remote,
            } => Self::StreamAccepted {
                socket,
                stream,
                remote,
            },
            Input::StreamClosed { stream } => Self::StreamClosed(stream),
            Input::SendError {
                socket,
                remote,
                error,
            } => Self::SendError {
                socket,
                remote,
                error,
            },
            Input::Interfaces(interfaces) => Self::Interfaces(interfaces.to_vec()),
        }
    }
}

impl Answer {
    pub(super) fn of(output: &Output, buffer: &[u8]) -> Self {
        match output {
            Output::Transmit(transmit) => Self::Transmit {
                socket: transmit.socket,
                destination: transmit.destination,
                sent: Sent::of(&buffer[..transmit.size]),
            },
            Output::StreamTransmit(transmit) => Self::StreamTransmit {
                stream: transmit.stream,
                sent: Sent::of(&buffer[..transmit.size]),
            },
            Output::Event(agent, event) => Self::Event(*agent, Box::new(event.clone())),
            Output::SessionEvent(session, event) => Self::SessionEvent(*session, *event),
            Output::Command(command) => Self::Command(command.clone()),
            Output::Idle(deadline) => Self::Idle(*deadline),
        }
    }
}

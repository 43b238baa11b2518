//! What keeps secrets out of a recording that can be played back all the same.
//!
//! Each password has a stand-in. Whatever was made with a password is made anew with the stand-in: the
//! integrity of a message that came, and with it the answer to whether it is authentic. What went out stands
//! in the recording as a digest that leaves out what depends on passwords. Application data is left out, but
//! for its length. So the recording of a session has none of its secrets, and none need be trusted to play it.

use core::fmt;
use core::hash::Hasher;
use core::net::SocketAddr;
use core::ops::Range;
use std::collections::BTreeMap;

use nilas_stun::{
    AttributeType, Class, Fingerprint, Key, Message, Method, is_stun, opaque_string, reseal,
    stream_message_length,
};
use nilas_turn::client::{Credentials, message_length};
use siphasher::sip::SipHasher13;

use super::entry::Sent;
use crate::agent::Agent;
use crate::config::AgentConfig;
use crate::demux::{Allocation, StreamEnd};
use crate::engine::{Engine, FRAME_HEAD, without_flow};
use crate::event::Event;
use crate::ids::{AgentId, SocketId, StreamId};
use crate::parameters::Parameters;
use crate::shared::ice_char;
use crate::source::Tape;

/// Characters that no password may have, for those that have one.
const NO_ICE_CHAR: &str = "!";
const NO_OPAQUE_STRING: &str = "\u{1}";

/// Secrets and what stands for them.
#[derive(Default)]
pub(super) struct StandIns {
    passwords: BTreeMap<Box<str>, Box<str>>,
    /// Of each generation of each agent.
    local: BTreeMap<(AgentId, u32), Key>,
    remote: BTreeMap<(AgentId, u32), Key>,
}

impl fmt::Debug for StandIns {
    /// The passwords stay out of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandIns").finish_non_exhaustive()
    }
}

/// A payload while it is being concealed.
struct Concealed {
    bytes: Vec<u8>,
    hidden: Vec<Range<usize>>,
}

impl StandIns {
    /// Takes over the passwords that were drawn.
    pub(super) fn take_drawn(&mut self, tape: &mut Tape) {
        for (real, stand_in) in tape.secrets.drain(..) {
            let text = |bytes: Vec<u8>| -> String {
                let chars = bytes.into_iter().map(ice_char);
                chars.map(char::from).collect()
            };
            self.passwords
                .insert(text(real).into(), text(stand_in).into());
        }
    }

    /// What stands for a password of ICE: good where it is good, and otherwise bad in the same way.
    fn password(&mut self, tape: &mut Tape, real: &str) -> String {
        if let Some(known) = self.passwords.get(real) {
            return known.to_string();
        }
        let sound = Parameters::new("sound", real).check().is_ok();
        // Whatever the length, more of it would say no more.
        let length = real.len().min(300);
        let stand_in = match sound {
            true => format!("{:0length$}", tape.next_stand_in()),
            false => NO_ICE_CHAR.repeat(length),
        };
        self.passwords.insert(real.into(), stand_in.as_str().into());
        stand_in
    }

    pub(super) fn parameters(&mut self, tape: &mut Tape, real: &Parameters) -> Parameters {
        Parameters {
            pwd: self.password(tape, &real.pwd),
            ..real.clone()
        }
    }

    pub(super) fn config(&mut self, tape: &mut Tape, real: &AgentConfig) -> AgentConfig {
        let mut config = real.clone();
        if let Some(credentials) = &mut config.credentials {
            *credentials = self.parameters(tape, credentials);
        }
        for server in &mut config.turn_servers {
            server.credentials = stand_in(&server.credentials);
        }
        config
    }

    pub(super) fn event(&mut self, tape: &mut Tape, real: &Event) -> Event {
        match real {
            Event::LocalParameters(parameters) => {
                Event::LocalParameters(self.parameters(tape, parameters))
            }
            _ => real.clone(),
        }
    }

    /// Learns the keys of an agent's generations, and of the peer's parameters that it has just taken.
    pub(super) fn learn(&mut self, tape: &mut Tape, agent: &Agent, remote: Option<&Parameters>) {
        let id = agent.id;
        // What has gone before, of this agent and of others in its place.
        let oldest = agent.secrets().map(|secrets| secrets.generation).min();
        let stays = |of: AgentId, number: u32| {
            of.0.slot != id.0.slot || of == id && oldest.is_some_and(|oldest| number >= oldest)
        };
        self.local.retain(|(of, number), _| stays(*of, *number));
        self.remote.retain(|(of, number), _| stays(*of, *number));
        for secrets in agent.secrets() {
            let generation = (id, secrets.generation);
            if !self.local.contains_key(&generation)
                && let Ok(key) = Key::short_term(&self.password(tape, secrets.pwd))
            {
                self.local.insert(generation, key);
            }
            if let (Some(told), Some((ufrag, _))) = (remote, secrets.remote)
                && told.ufrag == ufrag
                && let Ok(key) = Key::short_term(&self.password(tape, &told.pwd))
            {
                self.remote.insert(generation, key);
            }
        }
    }

    pub(super) fn datagram(
        &self,
        engine: &Engine,
        socket: SocketId,
        remote: SocketAddr,
        payload: &[u8],
    ) -> (Vec<u8>, Vec<Range<usize>>) {
        let mut concealed = Concealed::new(payload);
        let all = 0..payload.len();
        let server = engine.shared.demux.by_server(socket, without_flow(remote));
        let relayed = server.is_some_and(|allocation| {
            self.conceal_of_server(engine, allocation, &mut concealed, all.clone())
        });
        if !relayed {
            self.conceal_of_peer(engine, &mut concealed, all);
        }
        (concealed.bytes, concealed.hidden)
    }

    /// What a stream brought. The engine looks at its first message only.
    pub(super) fn stream_bytes(
        &self,
        engine: &Engine,
        stream: StreamId,
        bytes: &[u8],
    ) -> (Vec<u8>, Vec<Range<usize>>) {
        let mut concealed = Concealed::new(bytes);
        let owner = engine.shared.demux.by_stream(stream);
        let allocation = match owner {
            None => None,
            Some(owner) => match owner.end {
                StreamEnd::Relay(index) => Some(Allocation {
                    agent: owner.agent,
                    index,
                }),
                StreamEnd::Peer => {
                    self.conceal_frame(engine, &mut concealed);
                    return (concealed.bytes, concealed.hidden);
                }
                StreamEnd::Server => {
                    self.conceal_answer(engine, &mut concealed);
                    return (concealed.bytes, concealed.hidden);
                }
            },
        };
        let datagrams = allocation.is_some_and(|allocation| {
            let agent = engine.agents.get(allocation.agent.0);
            agent.is_some_and(|agent| agent.is_datagrams(allocation.index))
        });
        let first = match message_length(bytes) {
            _ if datagrams => 0..bytes.len(),
            Ok(Some(length)) if length <= bytes.len() => 0..length,
            // Its length can still be told from four bytes, or that it has none.
            _ => 0..0,
        };
        let known = !first.is_empty()
            && allocation.is_some_and(|allocation| {
                self.conceal_of_server(engine, allocation, &mut concealed, first.clone())
            });
        let kept = if known { first.end } else { bytes.len().min(4) };
        concealed.hide(kept..bytes.len());
        (concealed.bytes, concealed.hidden)
    }

    /// What came from a peer over a connection: the first frame, of which the length is no secret.
    fn conceal_frame(&self, engine: &Engine, concealed: &mut Concealed) {
        let end = concealed.bytes.len();
        let frame = match concealed.bytes[..] {
            [high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([high, low]));
                Some(FRAME_HEAD..FRAME_HEAD + length).filter(|frame| frame.end <= end)
            }
            _ => None,
        };
        let mut kept = end.min(FRAME_HEAD);
        if let Some(frame) = frame {
            kept = frame.end;
            self.conceal_of_peer(engine, concealed, frame);
        }
        concealed.hide(kept..end);
    }

    /// What came from a server that was asked what it sees: the first message, and otherwise what tells its length.
    fn conceal_answer(&self, engine: &Engine, concealed: &mut Concealed) {
        let end = concealed.bytes.len();
        let mut kept = end.min(4);
        if let Ok(Some(length)) = stream_message_length(&concealed.bytes)
            && length <= end
        {
            kept = length;
            self.conceal_of_peer(engine, concealed, 0..length);
        }
        concealed.hide(kept..end);
    }

    /// Something of the server of an allocation; false, and nothing has changed, if it is no message of TURN.
    fn conceal_of_server(
        &self,
        engine: &Engine,
        allocation: Allocation,
        concealed: &mut Concealed,
        at: Range<usize>,
    ) -> bool {
        let bytes = &concealed.bytes[at.clone()];
        if let [0x40..=0x4F, _, high, low, ..] = *bytes {
            let end = 4 + usize::from(u16::from_be_bytes([high, low]));
            let inner = at.start + 4..at.start + end.min(bytes.len());
            let rest = inner.end..at.end;
            self.conceal_of_peer(engine, concealed, inner);
            concealed.hide(rest);
            return true;
        }
        let Ok(message) = Message::parse(bytes) else {
            return false;
        };
        match (message.class(), message.method()) {
            (Class::Indication, Method::DATA) => {
                if let Some(data) = message.data() {
                    let inner = within(&concealed.bytes, data);
                    self.conceal_of_peer(engine, concealed, inner);
                    // It was parsed, and its structure is the same.
                    let _ = reseal(&mut concealed.bytes[at], None);
                }
                true
            }
            (Class::SuccessResponse | Class::ErrorResponse, _) => {
                let agent = engine.agents.get(allocation.agent.0);
                let keys = agent.and_then(|agent| agent.server_keys(allocation.index, stand_in));
                match keys {
                    Some((real, stand_in)) if message.authenticate(real).is_ok() => {
                        let _ = reseal(&mut concealed.bytes[at], Some(&stand_in));
                        true
                    }
                    // It may be an answer to a check, from a server that is a peer, too.
                    _ if message.method() == Method::BINDING => false,
                    _ => true,
                }
            }
            _ => false,
        }
    }

    /// Something of a peer, or of a STUN server.
    fn conceal_of_peer(&self, engine: &Engine, concealed: &mut Concealed, at: Range<usize>) {
        let bytes = &concealed.bytes[at.clone()];
        let message = match Message::parse(bytes) {
            Ok(message) if is_stun(bytes) && engine.is_of_ice(&message) => message,
            _ => return concealed.hide(at),
        };
        let key = self.key_for(engine, &message);
        let private = [AttributeType::DATA, AttributeType::ACCESS_TOKEN];
        let private: Vec<_> = message
            .attributes()
            .filter(|attribute| private.contains(&attribute.attribute_type))
            .map(|attribute| within(&concealed.bytes, attribute.value))
            .collect();
        if key.is_none() && private.is_empty() {
            return;
        }
        private.into_iter().for_each(|range| concealed.hide(range));
        // It was parsed, and its structure is the same.
        let _ = reseal(&mut concealed.bytes[at], key);
    }

    /// The stand-in for the key that authenticates a message of a peer.
    fn key_for(&self, engine: &Engine, message: &Message<'_>) -> Option<&Key> {
        let demux = &engine.shared.demux;
        if message.class() == Class::Request {
            let (ufrag, _) = message.username().ok()??.split_once(':')?;
            let agent = engine.called(ufrag)?;
            let (generation, real) = agent.called(ufrag)?;
            message.authenticate(real).ok()?;
            return self.local.get(&(agent.id, generation));
        }
        let agent = engine
            .agents
            .by_slot(demux.slot_of(message.transaction_id()))?;
        let secrets = agent.secrets().find(|secrets| {
            let real = secrets.remote.map(|(_, key)| key);
            real.is_some_and(|real| message.authenticate(real).is_ok())
        })?;
        self.remote.get(&(agent.id, secrets.generation))
    }
}

impl Concealed {
    fn new(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            hidden: Vec::new(),
        }
    }

    fn hide(&mut self, range: Range<usize>) {
        self.bytes[range.clone()].fill(0);
        self.hidden.push(range);
    }
}

/// What of some bytes a part of them is.
fn within(bytes: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr().addr() - bytes.as_ptr().addr();
    start..start + part.len()
}

/// Credentials for a TURN server that are as long as the real ones where it matters, and as bad.
pub(super) fn stand_in(real: &Credentials) -> Credentials {
    let like = |text: &str, good: &str, length: usize| match opaque_string(text) {
        Ok(_) => good.repeat(length),
        Err(_) => NO_OPAQUE_STRING.repeat(length),
    };
    Credentials {
        username: like(&real.username, "u", real.username.len()),
        password: like(real.password.trim_end_matches('\0'), "p", 1),
    }
}

impl Sent {
    /// What is recorded of a message that goes out.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut hasher = SipHasher13::new();
        digest(bytes, &mut hasher);
        Self {
            size: bytes.len() as u32,
            kind: match *frame(bytes).unwrap_or(bytes) {
                [high, low, ..] => u16::from_be_bytes([high, low]),
                _ => 0,
            },
            digest: hasher.finish() as u32,
        }
    }
}

/// What is in a frame of a connection of ICE-TCP, if it is one with a message in it.
fn frame(bytes: &[u8]) -> Option<&[u8]> {
    let (head, inner) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let whole = usize::from(u16::from_be_bytes(*head)) == inner.len();
    (whole && is_stun(inner)).then_some(inner)
}

/// Takes in everything but what a stand-in changes. The engine makes what is digested: it is nested once.
fn digest(bytes: &[u8], hasher: &mut SipHasher13) {
    if let [0x40..=0x4F, _, _, _, inner @ ..] = bytes {
        hasher.write(&bytes[..4]);
        return digest(inner, hasher);
    }
    if let Some(inner) = frame(bytes) {
        hasher.write(&bytes[..FRAME_HEAD]);
        return digest(inner, hasher);
    }
    let Ok(message) = Message::parse(bytes) else {
        // RFC 4571: a connection to a peer has the length before each message.
        return match bytes {
            [high, low, inner @ ..]
                if usize::from(u16::from_be_bytes([*high, *low])) == inner.len()
                    && is_stun(inner) =>
            {
                hasher.write(&bytes[..FRAME_HEAD]);
                digest(inner, hasher);
            }
            _ => hasher.write(bytes),
        };
    };
    hasher.write(&bytes[..20]);
    for attribute in message.attributes() {
        hasher.write(&attribute.attribute_type.0.to_be_bytes());
        match attribute.attribute_type {
            AttributeType::MESSAGE_INTEGRITY
            | AttributeType::MESSAGE_INTEGRITY_SHA256
            | AttributeType::FINGERPRINT
            | AttributeType::USERHASH => {}
            AttributeType::USERNAME if message.method() != Method::BINDING => {}
            AttributeType::DATA => digest(attribute.value, hasher),
            _ => hasher.write(attribute.value),
        }
    }
}

impl Engine {
    /// Whether a message that was parsed is one to the engine: everything else is data.
    fn is_of_ice(&self, message: &Message<'_>) -> bool {
        let is_response = matches!(
            message.class(),
            Class::SuccessResponse | Class::ErrorResponse
        );
        let id = message.transaction_id();
        message.fingerprint() == Fingerprint::Valid
            || is_response
                && self
                    .agents
                    .by_slot(self.shared.demux.slot_of(id))
                    .is_some_and(|agent| agent.has_transaction(id))
    }
}

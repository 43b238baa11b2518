//! The messages between a client and a rendezvous server: JSON, one message in each WebSocket text message.
//!
//! The client opens with `hello` and goes on with `create` or `join` without waiting; the server answers
//! `hello`, and then `created` when the client has to wait for its peer. Once both peers are there, each
//! gets `peer_joined`, and every `signal` goes to the other side verbatim. `peer_left` ends it. Leaving is
//! closing the WebSocket.
//!
//! ```text
//! -> {"type":"hello","schema":"nilas.rendezvous/1"}
//! -> {"type":"create"}                             a code, please
//! -> {"type":"join","code":"7-amber-canyon"}       or: my peer waits under this code
//!                                                  or, with "create":true: whoever comes first waits
//! -> {"type":"signal","signal":{…}}
//!
//! <- {"type":"hello","schema":"nilas.rendezvous/1"}
//! <- {"type":"created","code":"7-amber-canyon","expires_in_s":600}
//! <- {"type":"peer_joined","controlling":true}     true for the one who waited
//! <- {"type":"signal","signal":{…}}
//! <- {"type":"peer_left"}
//! <- {"type":"error","error":"unknown_code","message":"…"}   and the server closes
//! ```
//!
//! Fields that are not known are ignored. A server message of a type that is not known is ignored too
//! ([`ServerMessage::Unknown`]); a client message of such a type is refused, because the client waits for
//! something that this server does not do.

use core::fmt;
use core::time::Duration;
use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::code::{Code, CodeError};

/// The version of these messages, said in `hello` by both sides.
pub const SCHEMA: &str = "nilas.rendezvous/1";
/// The path of the rendezvous on its server.
pub const PATH: &str = "/v1/rendezvous";
/// The most bytes of a message, in both directions.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Messages that a client may send at once.
pub const MESSAGE_BURST: u32 = 256;
/// Messages that a client may send each second after the burst. A server drops a client that sends more.
pub const MESSAGES_PER_SECOND: u32 = 32;
/// The most messages that wait for one receiver, in the server and in the client.
pub const MAX_QUEUED_MESSAGES: usize = 256;
/// How often a server pings its clients. Either side takes three silent intervals for a lost connection.
pub const PING_INTERVAL: Duration = Duration::from_secs(20);

/// What a client says to the server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientMessage<'a> {
    /// The first message.
    Hello {
        /// Must be [`SCHEMA`].
        schema: Cow<'a, str>,
    },
    /// Asks for a code and waits under it.
    Create,
    /// Names a code.
    Join {
        /// The code.
        code: Code,
        /// Whether to wait under the code if nobody does yet.
        create: bool,
    },
    /// Something for the peer.
    Signal(&'a RawValue),
}

/// What the server says to a client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerMessage<'a> {
    /// The first message.
    Hello {
        /// The server's version of the messages.
        schema: Cow<'a, str>,
    },
    /// The client waits for its peer under this code.
    Created {
        /// The code.
        code: Code,
        /// How long the code holds, in whole seconds.
        expires_in: Duration,
    },
    /// Both peers are there.
    PeerJoined {
        /// Whether this side begins as the controlling agent (RFC 8445 section 6.1.1).
        controlling: bool,
    },
    /// Something from the peer.
    Signal(&'a RawValue),
    /// The peer has closed its connection to the server. An ICE session with it may well go on.
    PeerLeft,
    /// The server refuses to go on, and closes.
    Error(Refusal),
    /// A message that this version does not know. Ignore it.
    Unknown,
}

/// Why a server refuses a client. The text tells the client's user what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Nobody waits under this code.
    UnknownCode,
    /// The code has expired, before or while waiting under it.
    ExpiredCode,
    /// Two peers are meeting under this code at this moment.
    CodeInUse,
    /// Two peers have met under this code.
    UsedCode,
    /// The text is no code.
    InvalidCode,
    /// Too many wrong codes from here.
    TooManyAttempts {
        /// When another try will be looked at, in whole seconds.
        retry_after: Duration,
    },
    /// The server, or the share of it that one address gets, is full.
    ServerFull,
    /// A message came that was not JSON, or not one of these messages, or not at its time.
    BadMessage,
    /// A message had more than [`MAX_MESSAGE_BYTES`].
    MessageTooLarge,
    /// The client sent faster than [`MESSAGES_PER_SECOND`].
    TooManyMessages,
    /// The client took its messages too slowly.
    TooSlow,
    /// The client said nothing where it had to say what it wants.
    Idle,
    /// The client's [`SCHEMA`] is not the server's.
    UnsupportedSchema,
    /// The server shuts down.
    ShuttingDown,
    /// A reason that this version does not know.
    Other,
}

impl Refusal {
    const NAMES: [(Self, &'static str); 13] = [
        (Self::UnknownCode, "unknown_code"),
        (Self::ExpiredCode, "expired_code"),
        (Self::CodeInUse, "code_in_use"),
        (Self::UsedCode, "used_code"),
        (Self::InvalidCode, "invalid_code"),
        (Self::ServerFull, "server_full"),
        (Self::BadMessage, "bad_message"),
        (Self::MessageTooLarge, "message_too_large"),
        (Self::TooManyMessages, "too_many_messages"),
        (Self::TooSlow, "too_slow"),
        (Self::Idle, "idle"),
        (Self::UnsupportedSchema, "unsupported_schema"),
        (Self::ShuttingDown, "shutting_down"),
    ];

    /// The name in the message, such as `unknown_code`.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooManyAttempts { .. } => TOO_MANY_ATTEMPTS,
            known => Self::NAMES
                .iter()
                .find(|(refusal, _)| *refusal == known)
                .map_or("other", |(_, name)| name),
        }
    }

    fn from_name(name: &str, retry_after: Duration) -> Self {
        match name {
            TOO_MANY_ATTEMPTS => Self::TooManyAttempts { retry_after },
            name => Self::NAMES
                .iter()
                .find(|(_, known)| *known == name)
                .map_or(Self::Other, |(refusal, _)| *refusal),
        }
    }
}

const TOO_MANY_ATTEMPTS: &str = "too_many_attempts";

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownCode => "nobody waits under this code: check its spelling, or ask your peer for a new one",
            Self::ExpiredCode => "the code has expired: agree on a new one",
            Self::CodeInUse => "two peers already use this code: agree on a new one",
            Self::UsedCode => "the code has been used, and codes work only once: agree on a new one",
            Self::InvalidCode => "that is no code: use letters from a to z, digits and hyphens, such as 7-amber-canyon",
            Self::TooManyAttempts { retry_after } => {
                let seconds = retry_after.as_secs();
                return write!(f, "too many wrong codes: wait {seconds} s, check the spelling, and try again");
            }
            Self::ServerFull => "the rendezvous server is full: try again later, or use another server",
            Self::BadMessage => "the rendezvous server did not understand a message: is its version older than yours?",
            Self::MessageTooLarge => "a message was too large for the rendezvous server: send fewer candidates at once",
            Self::TooManyMessages => "messages came too fast for the rendezvous server: send them more slowly",
            Self::TooSlow => "messages were taken too slowly from the rendezvous server: connect again",
            Self::Idle => "this side said nothing to the rendezvous server for too long: connect again",
            Self::UnsupportedSchema => "the rendezvous server speaks another version: use the same version on both ends",
            Self::ShuttingDown => "the rendezvous server is shutting down: try again later, or use another server",
            Self::Other => "the rendezvous server refused for a reason that this version does not know: update it",
        })
    }
}

impl core::error::Error for Refusal {}

/// Why a text is no message.
#[derive(Debug)]
#[non_exhaustive]
pub enum MessageError {
    /// More than [`MAX_MESSAGE_BYTES`].
    TooLarge,
    /// Not JSON, or a field has a wrong type.
    Json(serde_json::Error),
    /// A client's message of a type that is not known.
    UnknownType,
    /// A field is missing.
    Missing(&'static str),
    /// The code is none.
    Code(CodeError),
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "the message has more than {MAX_MESSAGE_BYTES} bytes"),
            Self::Json(error) => {
                write!(f, "the message is not the JSON that was expected: {error}")
            }
            Self::UnknownType => f.write_str("the message has a type that is not known"),
            Self::Missing(field) => write!(f, "the message lacks the field {field:?}"),
            Self::Code(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MessageError {}

impl From<serde_json::Error> for MessageError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl From<CodeError> for MessageError {
    fn from(error: CodeError) -> Self {
        Self::Code(error)
    }
}

impl<'a> ClientMessage<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`MessageError`] when the text is too large, or not one of these messages.
    pub fn parse(text: &'a str) -> Result<Self, MessageError> {
        let fields = Fields::parse(text)?;
        Ok(match &*fields.kind {
            "hello" => Self::Hello {
                schema: fields.schema.ok_or(MessageError::Missing("schema"))?,
            },
            "create" => Self::Create,
            "join" => Self::Join {
                code: fields.code.ok_or(MessageError::Missing("code"))?.parse()?,
                create: fields.create.unwrap_or_default(),
            },
            "signal" => Self::Signal(fields.signal.ok_or(MessageError::Missing("signal"))?),
            _ => return Err(MessageError::UnknownType),
        })
    }

    /// The message as text.
    pub fn to_json(&self) -> String {
        let mut fields = Fields::default();
        match self {
            Self::Hello { schema } => {
                fields.kind = "hello".into();
                fields.schema = Some(Cow::Borrowed(schema));
            }
            Self::Create => fields.kind = "create".into(),
            Self::Join { code, create } => {
                fields.kind = "join".into();
                fields.code = Some(code.as_str().into());
                fields.create = create.then_some(true);
            }
            Self::Signal(signal) => {
                fields.kind = "signal".into();
                fields.signal = Some(signal);
            }
        }
        fields.to_json()
    }
}

impl<'a> ServerMessage<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`MessageError`] when the text is too large, or not one of these messages.
    pub fn parse(text: &'a str) -> Result<Self, MessageError> {
        let fields = Fields::parse(text)?;
        Ok(match &*fields.kind {
            "hello" => Self::Hello {
                schema: fields.schema.ok_or(MessageError::Missing("schema"))?,
            },
            "created" => Self::Created {
                code: fields.code.ok_or(MessageError::Missing("code"))?.parse()?,
                expires_in: Duration::from_secs(
                    fields
                        .expires_in_s
                        .ok_or(MessageError::Missing("expires_in_s"))?,
                ),
            },
            "peer_joined" => Self::PeerJoined {
                controlling: fields
                    .controlling
                    .ok_or(MessageError::Missing("controlling"))?,
            },
            "signal" => Self::Signal(fields.signal.ok_or(MessageError::Missing("signal"))?),
            "peer_left" => Self::PeerLeft,
            "error" => {
                let name = fields.error.ok_or(MessageError::Missing("error"))?;
                let retry_after = Duration::from_secs(fields.retry_after_s.unwrap_or_default());
                Self::Error(Refusal::from_name(&name, retry_after))
            }
            _ => Self::Unknown,
        })
    }

    /// The message as text. [`Unknown`](Self::Unknown) has none and gives an empty object.
    pub fn to_json(&self) -> String {
        let mut fields = Fields::default();
        match self {
            Self::Hello { schema } => {
                fields.kind = "hello".into();
                fields.schema = Some(Cow::Borrowed(schema));
            }
            Self::Created { code, expires_in } => {
                fields.kind = "created".into();
                fields.code = Some(code.as_str().into());
                fields.expires_in_s = Some(expires_in.as_secs());
            }
            Self::PeerJoined { controlling } => {
                fields.kind = "peer_joined".into();
                fields.controlling = Some(*controlling);
            }
            Self::Signal(signal) => {
                fields.kind = "signal".into();
                fields.signal = Some(signal);
            }
            Self::PeerLeft => fields.kind = "peer_left".into(),
            Self::Error(refusal) => {
                fields.kind = "error".into();
                fields.error = Some(refusal.name().into());
                fields.message = Some(refusal.to_string().into());
                if let Refusal::TooManyAttempts { retry_after } = refusal {
                    fields.retry_after_s = Some(retry_after.as_secs());
                }
            }
            Self::Unknown => return "{}".into(),
        }
        fields.to_json()
    }
}

/// All fields of all messages, flat.
///
/// A tagged enum would be shorter, but serde reads those through a buffer in which a [`RawValue`] cannot
/// live, and without it a signal would not be relayed verbatim.
#[derive(Default, Serialize, Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    schema: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    code: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    controlling: Option<bool>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    signal: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
}

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Self, MessageError> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(MessageError::TooLarge);
        }
        Ok(serde_json::from_str(text)?)
    }

    fn to_json(&self) -> String {
        // Strings, numbers, booleans and JSON that has been parsed: nothing of it can fail to be written.
        serde_json::to_string(self).expect("plain fields are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_messages_have_the_documented_shape() {
        let code: Code = "7-amber-canyon".parse().unwrap();
        let raw = RawValue::from_string(r#"{"b":1, "a":2.50,"b":3}"#.into()).unwrap();
        for (message, text) in [
            (
                ClientMessage::Hello {
                    schema: SCHEMA.into(),
                },
                r#"{"type":"hello","schema":"nilas.rendezvous/1"}"#,
            ),
            (ClientMessage::Create, r#"{"type":"create"}"#),
            (
                ClientMessage::Join {
                    code: code.clone(),
                    create: false,
                },
                r#"{"type":"join","code":"7-amber-canyon"}"#,
            ),
            (
                ClientMessage::Join { code, create: true },
                r#"{"type":"join","code":"7-amber-canyon","create":true}"#,
            ),
            (
                ClientMessage::Signal(&raw),
                r#"{"type":"signal","signal":{"b":1, "a":2.50,"b":3}}"#,
            ),
        ] {
            assert_eq!(message.to_json(), text);
            assert_eq!(ClientMessage::parse(text).unwrap().to_json(), text);
        }
    }

    #[test]
    fn server_messages_have_the_documented_shape() {
        let code: Code = "7-amber-canyon".parse().unwrap();
        let raw = RawValue::from_string("[ 1 ,2]".into()).unwrap();
        for (message, text) in [
            (
                ServerMessage::Created {
                    code,
                    expires_in: Duration::from_secs(600),
                },
                r#"{"type":"created","code":"7-amber-canyon","expires_in_s":600}"#,
            ),
            (
                ServerMessage::PeerJoined { controlling: false },
                r#"{"type":"peer_joined","controlling":false}"#,
            ),
            (
                ServerMessage::Signal(&raw),
                r#"{"type":"signal","signal":[ 1 ,2]}"#,
            ),
            (ServerMessage::PeerLeft, r#"{"type":"peer_left"}"#),
        ] {
            assert_eq!(message.to_json(), text);
            assert_eq!(ServerMessage::parse(text).unwrap().to_json(), text);
        }
    }

    #[test]
    fn refusals_survive_the_wire() {
        let all = Refusal::NAMES.iter().map(|(refusal, _)| *refusal);
        for refusal in all.chain([
            Refusal::TooManyAttempts {
                retry_after: Duration::from_secs(7),
            },
            Refusal::Other,
        ]) {
            let text = ServerMessage::Error(refusal).to_json();
            match ServerMessage::parse(&text).unwrap() {
                ServerMessage::Error(parsed) => assert_eq!(parsed, refusal),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_not_known_is_ignored_where_that_is_safe() {
        let text = r#"{"later":{"x":[1]},"type":"join","code":"7 AMBER canyon"}"#;
        assert!(matches!(
            ClientMessage::parse(text),
            Ok(ClientMessage::Join { create: false, .. })
        ));
        assert!(matches!(
            ServerMessage::parse(r#"{"type":"weather"}"#),
            Ok(ServerMessage::Unknown)
        ));
        assert!(matches!(
            ClientMessage::parse(r#"{"type":"weather"}"#),
            Err(MessageError::UnknownType)
        ));
    }

    #[test]
    fn garbage_is_an_error() {
        let deep = format!(r#"{{"type":"signal","signal":{}"#, "[".repeat(60_000));
        for text in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"type":1}"#,
            r#"{"type":"join"}"#,
            r#"{"type":"signal"}"#,
            &deep,
        ] {
            assert!(ClientMessage::parse(text).is_err(), "{text:.40}");
        }
        let large = format!(
            r#"{{"type":"create","x":"{}"}}"#,
            "x".repeat(MAX_MESSAGE_BYTES)
        );
        assert!(matches!(
            ClientMessage::parse(&large),
            Err(MessageError::TooLarge)
        ));
        let weak = r#"{"type":"join","code":"1234"}"#;
        assert!(matches!(
            ClientMessage::parse(weak),
            Err(MessageError::Code(CodeError::TooShort))
        ));
    }
}

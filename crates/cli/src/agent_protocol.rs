//! The language of `nilas agent`: JSON lines in, JSON lines out.
//!
//! One command is one line, an object with `cmd`; one event is one line, an object with `ev`. A line that is
//! not understood gets an `error` event and changes nothing else. An option of `start` that this build does
//! not have gets an `error` event too, and the rest of `start` is carried out; a key that is not known in any
//! other command is ignored, because the other side's `params` are handed over as they are.

use nilas::ice_servers::{self, IceServer, IceServersError};
use nilas::{Config, ServerError};
use nilas_ice::{
    AddressPolicy, Candidate, Dscp, MdnsCandidates, Parameters, PortRange, State, Stats,
};
use serde::Serialize;
use serde_json::{Map, Value};

/// What the driving program wants.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Start(Start),
    Remote(Parameters),
    Candidate(Box<Candidate>),
    Remove(Box<Candidate>),
    EndOfCandidates,
    Send(String),
    Restart,
    Stats,
    Close,
}

/// What `start` asks for, and what of it cannot be had.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Start {
    pub(crate) controlling: bool,
    pub(crate) servers: Vec<Server>,
    pub(crate) lite: bool,
    pub(crate) tcp: bool,
    pub(crate) port_mapping: bool,
    pub(crate) mdns: MdnsCandidates,
    /// Interfaces by name; empty means all.
    pub(crate) interfaces: Vec<String>,
    pub(crate) addresses: AddressPolicy,
    pub(crate) ports: Option<PortRange>,
    pub(crate) dscp: Dscp,
    /// Find out how long packets may be, up to so many bytes.
    pub(crate) mtu: Option<u16>,
    /// A sentence for each option that is not carried out.
    pub(crate) refused: Vec<String>,
}

/// A STUN or TURN server, one that can be used.
#[derive(Debug, PartialEq)]
pub(crate) enum Server {
    /// `host:port`, or a URI.
    Stun(String),
    /// A server of `iceServers`, with one URL; `turn` is put into this shape, too.
    Listed(IceServer),
    /// A TURN server whose secret makes the credentials.
    Shared {
        url: String,
        user: String,
        secret: String,
    },
}

/// What the agent tells.
#[derive(Debug, Serialize)]
#[serde(tag = "ev", rename_all = "lowercase")]
pub(crate) enum Event<'a> {
    Params(&'a Parameters),
    Candidate { candidate: &'a str },
    Removed { candidate: &'a str },
    Eoc,
    Selected { local: &'a str, remote: &'a str },
    State { state: State },
    Data { data: &'a str },
    Stats { stats: &'a [Stats] },
    Error { msg: &'a str },
}

impl Command {
    /// Understands a line, or says in a sentence why not.
    pub(crate) fn parse(line: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(line).map_err(|error| format!("the line is not JSON: {error}"))?;
        let Value::Object(fields) = value else {
            return Err("the line is not a JSON object".to_owned());
        };
        let command = text(&fields, "cmd")?;
        match command {
            "start" => Start::parse(&fields).map(Self::Start),
            "remote" => {
                let parameters: Parameters = serde_json::from_value(Value::Object(fields))
                    .map_err(|error| format!("remote: {error}"))?;
                parameters.check().map_err(|error| error.to_string())?;
                Ok(Self::Remote(parameters))
            }
            "candidate" => candidate(&fields).map(Self::Candidate),
            "remove" => candidate(&fields).map(Self::Remove),
            "eoc" => Ok(Self::EndOfCandidates),
            "send" => text(&fields, "data").map(|data| Self::Send(data.to_owned())),
            "restart" => Ok(Self::Restart),
            "stats" => Ok(Self::Stats),
            "close" => Ok(Self::Close),
            other => Err(format!(
                "no command is called {other:?}: there are start, remote, candidate, remove, eoc, send, restart, stats, close"
            )),
        }
    }
}

fn candidate(fields: &Map<String, Value>) -> Result<Box<Candidate>, String> {
    let candidate: Result<Candidate, _> = text(fields, "candidate")?.parse();
    candidate.map(Box::new).map_err(|error| error.to_string())
}

impl Start {
    fn parse(fields: &Map<String, Value>) -> Result<Self, String> {
        let mut start = Self::default();
        let mut relay_only = false;
        for (key, value) in fields {
            match key.as_str() {
                "cmd" => {}
                "controlling" => start.controlling = boolean(key, value)?,
                "stun" => start.take_stun(value)?,
                "iceServers" => start.take_ice_servers(value)?,
                "interfaces" => start.interfaces = strings(key, value)?,
                "turn" => start.take_turn(value)?,
                "relayOnly" => relay_only = boolean(key, value)?,
                "lite" => start.lite = boolean(key, value)?,
                "portMapping" => start.port_mapping = boolean(key, value)?,
                "tcp" => start.tcp = boolean(key, value)?,
                "mdns" => start.mdns = mdns(value)?,
                "addresses" => start.addresses = addresses(value)?,
                "ports" => start.ports = ports(value)?,
                "dscp" => start.dscp = dscp(value)?,
                "mtu" => start.mtu = Some(mtu(value)?),
                _ => start.refuse(format!("{key}: this build does not know the option")),
            }
        }
        if relay_only {
            // It tells the peer less than any word of `addresses`.
            start.addresses = AddressPolicy::RelayOnly;
        }
        start.leave_out_what_lite_has_not();
        Ok(start)
    }

    /// RFC 8445 section 5.2: a lite agent has host candidates only.
    fn leave_out_what_lite_has_not(&mut self) {
        if !self.lite {
            return;
        }
        if !self.servers.is_empty() {
            self.servers.clear();
            self.refuse("lite: a lite agent has neither STUN nor TURN servers");
        }
        if std::mem::take(&mut self.port_mapping) {
            self.refuse("portMapping: a lite agent has host candidates only");
        }
        if self.addresses == AddressPolicy::RelayOnly {
            self.addresses = AddressPolicy::All;
            self.refuse("relayOnly: a lite agent has no relay");
        }
    }

    fn refuse(&mut self, reason: impl Into<String>) {
        self.refused.push(reason.into());
    }

    fn take_stun(&mut self, value: &Value) -> Result<(), String> {
        match value {
            Value::Null => {}
            Value::String(text) => self.take("stun", Server::Stun(text.clone())),
            _ => return Err("stun: a text \"host:port\" or null is needed".to_owned()),
        }
        Ok(())
    }

    /// `{"host", "port", "transport": "udp|tcp|tls|dtls", "user", "pass"}`, or `secret` in place of `pass`.
    fn take_turn(&mut self, value: &Value) -> Result<(), String> {
        let fields = match value {
            Value::Null => return Ok(()),
            Value::Object(fields) => fields,
            _ => return Err("turn: an object or null is needed".to_owned()),
        };
        let text = |key| text(fields, key).map_err(|wrong| format!("turn: {wrong}"));
        let host = text("host")?;
        let secret = fields.get("secret").map(|_| text("secret")).transpose()?;
        let (user, password) = match secret {
            Some(_) if !fields.contains_key("user") => ("", ""),
            Some(_) => (text("user")?, ""),
            None => (text("user")?, text("pass")?),
        };
        let port = fields.get("port").and_then(Value::as_u64);
        let port = port.ok_or("turn: port: a number is needed")?;
        let (scheme, transport) = match text("transport")? {
            "udp" => ("turn", "udp"),
            "tcp" => ("turn", "tcp"),
            "tls" => ("turns", "tcp"),
            "dtls" => ("turns", "udp"),
            other => {
                self.refuse(format!("turn: there is no transport {other:?}"));
                return Ok(());
            }
        };
        let (open, close) = if host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        let url = format!("{scheme}:{open}{host}{close}:{port}?transport={transport}");
        if let Some(secret) = secret {
            let (user, secret) = (user.to_owned(), secret.to_owned());
            self.take("turn", Server::Shared { url, user, secret });
            return Ok(());
        }
        match url.parse() {
            Ok(url) => {
                let server = IceServer {
                    urls: vec![url],
                    username: Some(user.to_owned()),
                    credential: Some(password.to_owned()),
                };
                self.take("turn", Server::Listed(server));
            }
            Err(wrong) => self.refuse(format!("turn: {wrong}")),
        }
        Ok(())
    }

    /// RTCIceServer, in any of the shapes that are handed out.
    fn take_ice_servers(&mut self, value: &Value) -> Result<(), String> {
        let Value::Array(servers) = value else {
            return Err("iceServers: a list is needed".to_owned());
        };
        for server in servers {
            if !server.is_object() {
                return Err("iceServers: each server is an object".to_owned());
            }
            let listed = match ice_servers::parse(&server.to_string()) {
                Ok(listed) => listed,
                Err(wrong @ (IceServersError::NoUrl { .. } | IceServersError::Shape { .. })) => {
                    return Err(format!("iceServers: {wrong}"));
                }
                Err(wrong) => {
                    self.refuse(format!("iceServers: {wrong}"));
                    continue;
                }
            };
            // One URL that cannot be used does not spoil the others.
            for IceServer {
                urls,
                username,
                credential,
            } in listed
            {
                for url in urls {
                    let server = IceServer {
                        urls: vec![url],
                        username: username.clone(),
                        credential: credential.clone(),
                    };
                    self.take("iceServers", Server::Listed(server));
                }
            }
        }
        Ok(())
    }

    /// Takes a server if it can be used.
    fn take(&mut self, option: &str, server: Server) {
        match server.add_to(Config::controlled()) {
            Ok(_) => self.servers.push(server),
            Err(reason) => self.refuse(format!("{option}: {reason}")),
        }
    }
}

impl Server {
    pub(crate) fn add_to(&self, config: Config) -> Result<Config, ServerError> {
        match self {
            Self::Stun(text) => config.stun(text),
            Self::Listed(server) => config.ice_server(server),
            Self::Shared { url, user, secret } => config.turn_with_secret(url, secret, user),
        }
    }
}

/// The modes of RFC 8828 section 5.2, by the names that the command line has for them.
fn addresses(value: &Value) -> Result<AddressPolicy, String> {
    Ok(match value.as_str() {
        Some("all") => AddressPolicy::All,
        Some("default-route") => AddressPolicy::DefaultRoute,
        Some("default-route-hidden") => AddressPolicy::DefaultRouteHidden,
        _ => {
            return Err(
                "addresses: all, default-route or default-route-hidden is needed".to_owned(),
            );
        }
    })
}

/// `7000`, `"7000"` or `"50000-50099"`; null for any.
fn ports(value: &Value) -> Result<Option<PortRange>, String> {
    let range = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text.parse(),
        Value::Number(number) => number.to_string().parse(),
        _ => "".parse(),
    };
    range
        .map(Some)
        .map_err(|error: nilas_ice::PortRangeError| format!("ports: {error}"))
}

/// Below 576 bytes nothing is worth to be found out.
fn mtu(value: &Value) -> Result<u16, String> {
    let length = value.as_u64().and_then(|length| length.try_into().ok());
    length
        .filter(|length| *length >= 576)
        .ok_or_else(|| "mtu: bytes of an IP packet from 576 to 65535 are needed".to_owned())
}

fn dscp(value: &Value) -> Result<Dscp, String> {
    let code = value.as_u64().and_then(|code| u8::try_from(code).ok());
    code.and_then(Dscp::new)
        .ok_or_else(|| format!("dscp: {}", nilas_ice::DscpError))
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    match fields.get(key) {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("{key}: a text is needed")),
        None => Err(format!("{key} is missing")),
    }
}

fn boolean(key: &str, value: &Value) -> Result<bool, String> {
    value
        .as_bool()
        .ok_or_else(|| format!("{key}: true or false is needed"))
}

fn mdns(value: &Value) -> Result<MdnsCandidates, String> {
    match (value.as_bool(), value.as_str()) {
        (Some(true), _) => Ok(MdnsCandidates::Hide),
        (Some(false), _) => Ok(MdnsCandidates::Off),
        (_, Some("resolve")) => Ok(MdnsCandidates::Resolve),
        _ => Err("mdns: true, false or \"resolve\" is needed".to_owned()),
    }
}

fn strings(key: &str, value: &Value) -> Result<Vec<String>, String> {
    let list = value
        .as_array()
        .ok_or_else(|| format!("{key}: a list of texts is needed"))?;
    list.iter()
        .map(|item| item.as_str().map(str::to_owned))
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{key}: a list of texts is needed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(line: &str) -> Start {
        match Command::parse(line) {
            Ok(Command::Start(start)) => start,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn start_takes_what_it_can_and_names_what_it_cannot() {
        let judge = r#"{"cmd":"start","controlling":true,"stun":"203.0.113.10:3478","turn":null,"relayOnly":false}"#;
        let stun = |text: &str| Server::Stun(text.to_owned());
        let listed = |text: &str| {
            let mut servers = ice_servers::parse(text).expect("a server");
            Server::Listed(servers.remove(0))
        };
        assert_eq!(
            start(judge),
            Start {
                controlling: true,
                servers: vec![stun("203.0.113.10:3478")],
                ..Start::default()
            }
        );
        let everything = r#"{"cmd":"start","controlling":false,"stun":null,
            "turn":{"host":"2001:db8::2","port":443,"transport":"tls","user":"u","pass":"p"},"relayOnly":true,"lite":false,"mdns":true,
            "tcp":true,"portMapping":true,"interfaces":["eth0"],"colour":"red",
            "iceServers":[{"urls":"stun:[2001:db8::1]:5"},{"urls":["stuns:a.example","turn:b.example"],"username":"u","credential":"p"},
                {"urls":"turn:c.example"}]}"#;
        let start = start(everything);
        let mut servers = start.servers;
        // The keys of an object come in the order of their names.
        servers.sort_by_key(|server| format!("{server:?}"));
        assert_eq!(
            servers,
            [
                listed("stun:[2001:db8::1]:5"),
                listed("turn:b.example u p"),
                listed("turns:[2001:db8::2]:443?transport=tcp u p"),
            ]
        );
        assert!(start.tcp && start.port_mapping);
        assert_eq!(start.mdns, MdnsCandidates::Hide);
        assert_eq!(start.addresses, AddressPolicy::RelayOnly);
        assert_eq!(start.interfaces, ["eth0"]);
        for option in [
            "colour:",
            "iceServers: \"stuns:a.example\"",
            "iceServers: server 1",
        ] {
            assert_eq!(
                start
                    .refused
                    .iter()
                    .filter(|why| why.starts_with(option))
                    .count(),
                1,
                "{option} {:?}",
                start.refused
            );
        }
        assert_eq!(start.refused.len(), 3);
    }

    #[test]
    fn a_lite_agent_is_started_without_servers() {
        let line = r#"{"cmd":"start","lite":true,"relayOnly":true,"portMapping":true,"stun":"192.0.2.1:3478"}"#;
        let start = start(line);
        assert!(start.lite && start.servers.is_empty());
        assert_eq!(start.addresses, AddressPolicy::All);
        assert!(!start.port_mapping);
        assert_eq!(start.refused.len(), 3, "{:?}", start.refused);
    }

    #[test]
    fn addresses_ports_and_the_mark_of_packets_are_taken() {
        for (line, ports) in [
            (r#""ports":"50000-50099""#, PortRange::new(50_000, 50_099)),
            (r#""ports":"7000""#, PortRange::new(7_000, 7_000)),
            (r#""ports":7000"#, PortRange::new(7_000, 7_000)),
            (r#""ports":null"#, None),
        ] {
            let start = start(&format!(r#"{{"cmd":"start",{line}}}"#));
            assert_eq!(start.ports, ports, "{line}");
        }
        let start =
            start(r#"{"cmd":"start","addresses":"default-route-hidden","dscp":46,"mtu":1500}"#);
        assert_eq!(start.mtu, Some(1_500));
        assert_eq!(start.addresses, AddressPolicy::DefaultRouteHidden);
        assert_eq!(start.dscp, Dscp::EF);
        assert!(start.refused.is_empty());
    }

    #[test]
    fn every_transport_of_a_relay_is_understood() {
        for (transport, url) in [
            ("udp", "turn:192.0.2.1:5?transport=udp"),
            ("tcp", "turn:192.0.2.1:5?transport=tcp"),
            ("tls", "turns:192.0.2.1:5?transport=tcp"),
            ("dtls", "turns:192.0.2.1:5?transport=udp"),
        ] {
            let line = format!(
                r#"{{"cmd":"start","turn":{{"host":"192.0.2.1","port":5,"transport":"{transport}","user":"u","pass":"p"}}}}"#
            );
            let start = start(&line);
            let [Server::Listed(server)] = start.servers.as_slice() else {
                panic!("{:?}", start.refused)
            };
            assert_eq!(server.urls, [url.parse().expect("a URL")]);
        }
        let shared = r#"{"cmd":"start","turn":{"host":"192.0.2.1","port":5,"transport":"udp","secret":"north"}}"#;
        assert_eq!(
            start(shared).servers,
            [Server::Shared {
                url: "turn:192.0.2.1:5?transport=udp".to_owned(),
                user: String::new(),
                secret: "north".to_owned(),
            }]
        );
        let sctp = r#"{"cmd":"start","turn":{"host":"h","port":5,"transport":"sctp","user":"u","pass":"p"}}"#;
        assert_eq!(start(sctp).refused.len(), 1);
    }

    #[test]
    fn a_line_that_is_not_understood_says_why() {
        for (line, why) in [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[1]", "not a JSON object"),
            ("{}", "cmd is missing"),
            (r#"{"cmd":1}"#, "cmd: a text"),
            (r#"{"cmd":"dance"}"#, "no command is called \"dance\""),
            (
                r#"{"cmd":"start","controlling":1}"#,
                "controlling: true or false",
            ),
            (r#"{"cmd":"start","stun":1}"#, "stun: a text"),
            (
                r#"{"cmd":"start","interfaces":"eth0"}"#,
                "interfaces: a list",
            ),
            (r#"{"cmd":"start","ports":"9-1"}"#, "ports: a port from 1"),
            (r#"{"cmd":"start","ports":0}"#, "ports: a port from 1"),
            (r#"{"cmd":"start","ports":[1]}"#, "ports: a port from 1"),
            (r#"{"cmd":"start","addresses":"some"}"#, "addresses: all,"),
            (r#"{"cmd":"start","mtu":100}"#, "mtu: bytes of"),
            (r#"{"cmd":"start","dscp":64}"#, "dscp: a number from 0"),
            (r#"{"cmd":"start","dscp":"EF"}"#, "dscp: a number from 0"),
            (r#"{"cmd":"start","iceServers":{}}"#, "iceServers: a list"),
            (r#"{"cmd":"start","iceServers":[{}]}"#, "iceServers: "),
            (r#"{"cmd":"start","iceServers":[1]}"#, "iceServers: "),
            (r#"{"cmd":"start","turn":"192.0.2.1"}"#, "turn: an object"),
            (
                r#"{"cmd":"start","turn":{"host":"h"}}"#,
                "turn: user is missing",
            ),
            (r#"{"cmd":"remote","ufrag":"abcd"}"#, "pwd"),
            (
                r#"{"cmd":"remote","ufrag":"a","pwd":"0123456789012345678901"}"#,
                "ufrag: 4 to 256",
            ),
            (r#"{"cmd":"candidate"}"#, "candidate is missing"),
            (
                r#"{"cmd":"candidate","candidate":"candidate:1 1 udp x 192.0.2.1 9 typ host"}"#,
                "priority",
            ),
            (
                r#"{"cmd":"remove","candidate":"candidate:1 1 udp 1 192.0.2.1 x typ host"}"#,
                "port",
            ),
            (r#"{"cmd":"send"}"#, "data is missing"),
        ] {
            let error = Command::parse(line).expect_err(line);
            assert!(error.contains(why), "{line}: {error}");
        }
    }

    #[test]
    fn params_can_be_handed_over_as_they_are() {
        let line = r#"{"cmd":"remote","ufrag":"abcd","pwd":"0123456789012345678901","pacing":20,"options":["ice2"],"setup":"actpass"}"#;
        let Ok(Command::Remote(parameters)) = Command::parse(line) else {
            panic!("not understood")
        };
        assert_eq!(parameters.pacing, Some(20));
        let json = serde_json::to_string(&Event::Params(&parameters)).expect("plain fields");
        assert_eq!(
            json,
            r#"{"ev":"params","ufrag":"abcd","pwd":"0123456789012345678901","options":["ice2"],"pacing":20}"#
        );
    }

    #[test]
    fn events_are_spelled_as_agreed() {
        let json = |event: &Event<'_>| serde_json::to_string(event).expect("plain fields");
        assert_eq!(json(&Event::Eoc), r#"{"ev":"eoc"}"#);
        assert_eq!(
            json(&Event::State {
                state: State::Connected
            }),
            r#"{"ev":"state","state":"connected"}"#
        );
        assert_eq!(
            json(&Event::Selected {
                local: "l",
                remote: "r"
            }),
            r#"{"ev":"selected","local":"l","remote":"r"}"#
        );
        assert_eq!(
            json(&Event::Stats { stats: &[] }),
            r#"{"ev":"stats","stats":[]}"#
        );
        assert_eq!(
            json(&Event::Error { msg: "m" }),
            r#"{"ev":"error","msg":"m"}"#
        );
    }
}

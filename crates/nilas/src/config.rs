//! What an application may choose for an agent.

use std::net::IpAddr;
use std::sync::Arc;

use nilas_ice::{
    AddressPolicy, AgentConfig, Credentials, Dscp, ExternalAddress, MdnsCandidates, Mode, Mtu,
    PortRange, Role, TcpCandidates, TemporaryAddresses, TurnServer,
};
use nilas_net::ice_servers::{self, IceServer};
use nilas_net::stream::{ClientTls, Proxy};

use crate::connector::Connector;
use crate::secret::Secret;
use crate::server::{Entry, ServerError, ServerErrorReason, parse_stun, parse_turn, parse_url};
use crate::servers::NewServers;

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What an [`Agent`](crate::Agent) is to be.
///
/// ```
/// let config = nilas::Config::controlling()
///     .stun("stun:stun.example.org")?
///     .stun("203.0.113.10:3478")?
///     .turn("turn:turn.example.org", "anna", "secret")?
///     .turn("turns:turn.example.org:443?transport=tcp", "anna", "secret")?
///     .interface("eth0");
/// # Ok::<_, nilas::ServerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) agent: AgentConfig,
    pub(crate) servers: NewServers,
    pub(crate) receive_queue_bytes: usize,
    pub(crate) ecn: bool,
}

impl Config {
    /// The defaults, for this role: no servers, all interfaces but loopback and link-local addresses.
    pub fn new(role: Role) -> Self {
        AgentConfig::new(role).into()
    }

    /// The defaults for the side that takes the first step. If both sides choose the same role, the
    /// protocol heals it (RFC 8445 section 7.3.1.1).
    pub fn controlling() -> Self {
        Self::new(Role::Controlling)
    }

    /// The defaults for the side that follows.
    pub fn controlled() -> Self {
        Self::new(Role::Controlled)
    }

    /// Adds a STUN server that tells how the world sees this machine: a `stun:` URI (RFC 7064), or
    /// `host:port` alone.
    ///
    /// # Errors
    /// [`ServerError`] when the text is neither, or names a server of a kind that is not supported.
    pub fn stun(mut self, server: &str) -> Result<Self, ServerError> {
        self.push(parse_stun(server)?);
        Ok(self)
    }

    /// Adds a TURN server, which relays where nothing direct works: a `turn:` or `turns:` URI (RFC 7065)
    /// and who one is to it. Without `?transport=`, `turn:` means UDP and `turns:` TLS. For a network that
    /// lets only some of them out, add the server once for each: what works first is used first.
    ///
    /// Where the URI has no port, the DNS may say where the server is, by SRV records; where it has no transport
    /// either, the NAPTR records of its domain rule, and what they offer over other transports is used as well (RFC
    /// 5928 section 3).
    ///
    /// A TLS or DTLS server's certificate must be for the host of the URI, and issued by a root that is
    /// trusted: see [`trust`](Self::trust).
    ///
    /// # Errors
    /// [`ServerError`] when the text is no such URI.
    pub fn turn(mut self, uri: &str, user: &str, password: &str) -> Result<Self, ServerError> {
        self.push(parse_turn(uri, user, password)?);
        Ok(self)
    }

    /// The same for a server that shares a secret with this application: a user name and a password are made that hold for a
    /// day, and others twice a day while an agent lasts. An allocation keeps those that it was made with (RFC 8656 section
    /// 5), and most servers let it go on when they have ended; one that does not loses it, and another is made with those of
    /// then. `user` may be empty. Whoever knows the secret can let anybody in, so it stays with those who hand out
    /// credentials; [`creds::time_limited`](crate::creds::time_limited) makes them for others, with another end or hash.
    ///
    /// ```
    /// let config = nilas::Config::controlling().turn_with_secret("turn:turn.example.org", "north", "anna")?;
    /// # Ok::<_, nilas::ServerError>(())
    /// ```
    ///
    /// # Errors
    /// [`ServerError`] when the text is no such URI, the secret is empty, or this machine's clock stands before 1970.
    pub fn turn_with_secret(
        self,
        uri: &str,
        secret: &str,
        user: &str,
    ) -> Result<Self, ServerError> {
        let secret = Secret::new(secret, user).map_err(|reason| ServerError {
            server: uri.to_owned(),
            reason,
        })?;
        let Credentials { username, password } = &secret.made;
        let mut config = self.turn(uri, username, password)?;
        config.servers.secrets.push(secret);
        Ok(config)
    }

    /// The same with credentials that hold from now on, where they are made from a secret: a configuration may serve for
    /// agents of many days.
    pub(crate) fn renewed(mut self) -> Self {
        for secret in &mut self.servers.secrets {
            let servers = secret.servers(&self.agent);
            secret.renew();
            for server in servers {
                self.agent.turn_servers[server].credentials = secret.made.clone();
            }
        }
        self
    }

    /// Adds the servers of a W3C RTCIceServer. Either all are added or none; `stuns:` URLs, which are not supported yet, are
    /// passed over where there is another.
    ///
    /// # Errors
    /// For the first URL that cannot be used.
    pub fn ice_server(self, server: &IceServer) -> Result<Self, ServerError> {
        self.add_listed(std::slice::from_ref(server))
    }

    /// Adds the servers of a list in any shape that providers hand out, such as the JSON of W3C's
    /// RTCIceServer; [`ice_servers`] says which. Either all are added or none; `stuns:` URLs, which are not supported yet, are
    /// passed over where there is another.
    ///
    /// ```
    /// let servers = r#"{"iceServers": [
    ///     {"urls": "stun:stun.example.org"},
    ///     {"urls": ["turn:turn.example.org", "turns:turn.example.org?transport=tcp"],
    ///      "username": "anna", "credential": "secret"}]}"#;
    /// let config = nilas::Config::controlling().ice_servers(servers)?;
    /// # Ok::<_, nilas::ServerError>(())
    /// ```
    ///
    /// # Errors
    /// When the text has none of those shapes, and for the first URL that cannot be used.
    pub fn ice_servers(self, list: &str) -> Result<Self, ServerError> {
        let servers = ice_servers::parse(list).map_err(|wrong| ServerError {
            // The text holds passwords.
            server: String::from("the list of servers"),
            reason: ServerErrorReason::List(wrong),
        })?;
        self.add_listed(&servers)
    }

    fn add_listed(mut self, servers: &[IceServer]) -> Result<Self, ServerError> {
        let (mut entries, mut passed_over) = (Vec::new(), None);
        for server in servers {
            let credentials = server.username.as_deref().zip(server.credential.as_deref());
            for url in &server.urls {
                match parse_url(url, credentials) {
                    Ok(entry) => entries.push(entry),
                    Err(error) if error.reason == ServerErrorReason::Tls => {
                        passed_over.get_or_insert(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        match passed_over {
            Some(error) if entries.is_empty() => return Err(error),
            Some(error) => tracing::warn!("{error}"),
            None => {}
        }
        entries.into_iter().for_each(|entry| self.push(entry));
        Ok(self)
    }

    /// Whether only relayed addresses are used, so that the peer learns neither this machine's own
    /// addresses nor its network's. It needs a TURN server.
    #[must_use]
    pub fn relay_only(self, only: bool) -> Self {
        self.addresses(match only {
            true => AddressPolicy::RelayOnly,
            false => AddressPolicy::All,
        })
    }

    /// Which addresses of this machine are used, and which the peer is told (RFC 8828 section 5.2).
    #[must_use]
    pub fn addresses(mut self, addresses: AddressPolicy) -> Self {
        self.agent.addresses = addresses;
        self
    }

    /// Binds UDP sockets to these ports only: `"7000"` for one, `"50000-50099"` for a range.
    ///
    /// ```
    /// let config = nilas::Config::controlling().ports("50000-50099".parse()?);
    /// # Ok::<_, nilas::PortRangeError>(())
    /// ```
    #[must_use]
    pub fn ports(mut self, ports: PortRange) -> Self {
        self.agent.ports = Some(ports);
        self
    }

    /// Tells the peer this address in place of local ones: that of a NAT which maps one address to one, such as those of
    /// rented servers. For more than one address of a family see
    /// [`AgentConfig::external_addresses`](nilas_ice::AgentConfig::external_addresses).
    #[must_use]
    pub fn external_address(mut self, address: IpAddr) -> Self {
        let external = ExternalAddress::replacing(address);
        self.agent.external_addresses.push(external);
        self
    }

    /// Whether the network's gateway is asked to forward a port to each IPv4 socket, by PCP, NAT-PMP or UPnP. Between two
    /// NATs that map each remote to a port of its own, that makes a direct path. It opens a port of this network to
    /// everybody for as long as the session lasts, so it is off by default.
    ///
    /// Sessions do not wait for the gateway, only the end of gathering does, for five seconds at most. Why there is no port
    /// is told as [`Event::CandidateError`](crate::Event::CandidateError).
    #[must_use]
    pub fn port_mapping(mut self, map: bool) -> Self {
        self.agent.port_mapping = map;
        self
    }

    /// Reaches TURN servers over TCP and TLS through this proxy, by HTTP CONNECT or SOCKS5. What runs over
    /// UDP does not pass it: direct paths, and TURN over UDP and DTLS.
    ///
    /// ```
    /// let config = nilas::Config::controlling()
    ///     .turn("turns:turn.example.org:443?transport=tcp", "anna", "secret")?
    ///     .proxy("http://proxy.example.org:3128".parse()?);
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.connector().proxy = Some(proxy);
        self
    }

    /// Trusts these roots and no others with TURN over TLS and DTLS. Without, they are the system's, or
    /// those in the file that `SSL_CERT_FILE` names.
    ///
    /// ```no_run
    /// # fn example() -> Result<nilas::Config, Box<dyn std::error::Error>> {
    /// let own = nilas::ClientTls::from_file("own-root.pem".as_ref())?;
    /// let config = nilas::Config::controlling()
    ///     .turn("turns:turn.example.org", "anna", "secret")?
    ///     .trust(own);
    /// # Ok(config)
    /// # }
    /// ```
    #[must_use]
    pub fn trust(mut self, roots: ClientTls) -> Self {
        self.connector().tls = Some(roots);
        self
    }

    /// Whether the agent is lite (RFC 8445 section 2.5): it answers checks and sends none. That is for servers with
    /// a public address; a lite agent can have neither STUN nor TURN servers.
    #[must_use]
    pub fn lite(mut self, lite: bool) -> Self {
        self.agent.mode = if lite { Mode::Lite } else { Mode::Full };
        self
    }

    /// Whether the peer's candidates that are names, as browsers tell them, are looked for on the link by multicast DNS; and
    /// whether this machine's addresses are told as such names, which only the link can resolve.
    #[must_use]
    pub fn mdns(mut self, mdns: MdnsCandidates) -> Self {
        self.agent.mdns = mdns;
        self
    }

    /// Looks for paths over TCP as well (RFC 6544), for networks that let no UDP through. They come last, after all
    /// direct paths over UDP. With [`TcpCandidates::All`] two ports are open on each address for the peer to connect to.
    #[must_use]
    pub fn tcp(mut self, candidates: TcpCandidates) -> Self {
        self.agent.tcp = candidates;
        self
    }

    /// Admits only interfaces that were named so. May be called for several.
    #[must_use]
    pub fn interface(mut self, name: impl Into<String>) -> Self {
        self.agent.filter.names.push(name.into());
        self
    }

    /// Leaves out the interface of this name. May be called for several.
    #[must_use]
    pub fn without_interface(mut self, name: impl Into<String>) -> Self {
        self.agent.filter.excluded.push(name.into());
        self
    }

    /// Uses addresses of this family only.
    #[must_use]
    pub fn family(mut self, family: Family) -> Self {
        self.agent.filter.ipv4 = family == Family::Ipv4;
        self.agent.filter.ipv6 = family == Family::Ipv6;
        self
    }

    /// Whether loopback addresses become candidates. They do not by default, because they mean another
    /// machine to the peer; two ends on one machine without a network need them.
    #[must_use]
    pub fn loopback(mut self, admit: bool) -> Self {
        self.agent.filter.loopback = admit;
        self
    }

    /// Whether link-local addresses become candidates. They do not by default.
    #[must_use]
    pub fn link_local(mut self, admit: bool) -> Self {
        self.agent.filter.link_local = admit;
        self
    }

    /// What is done with temporary IPv6 addresses (RFC 8981): by default they are used, and stable addresses
    /// of the same network are not.
    #[must_use]
    pub fn temporary_addresses(mut self, choice: TemporaryAddresses) -> Self {
        self.agent.filter.temporary = choice;
        self
    }

    /// How many bytes of received datagrams wait for the application at most, 2 MiB by default. What
    /// comes when the queue is full is dropped and [counted](crate::Connection::dropped).
    #[must_use]
    pub fn receive_queue_bytes(mut self, bytes: usize) -> Self {
        self.receive_queue_bytes = bytes;
        self
    }

    /// Marks every datagram of the session so, checks like data (RFC 8445 section 7.2.3): see [`Dscp`]. Connections over
    /// TCP and TLS are not marked. On Linux only: elsewhere the agent is refused with an error that says so.
    ///
    /// ```
    /// let config = nilas::Config::controlling().dscp(nilas::Dscp::EF);
    /// ```
    #[must_use]
    pub fn dscp(mut self, dscp: Dscp) -> Self {
        self.agent.dscp = dscp;
        self
    }

    /// How long datagrams may be: by default as long as packets of 1,280 bytes allow; with [`Mtu::Discover`] it is found out
    /// how much the path carries. [`Connection::max_payload`](crate::Connection::max_payload) says what is left for
    /// data. Nothing longer than 9,000 bytes is tried.
    ///
    /// ```
    /// use nilas::{Config, Mtu};
    /// let config = Config::controlling().mtu(Mtu::Discover(1500));
    /// ```
    #[must_use]
    pub fn mtu(mut self, mtu: Mtu) -> Self {
        self.agent.mtu = mtu;
        self
    }

    /// Whether [`Connection::recv_marked`](crate::Connection::recv_marked) tells how each datagram was marked on its way
    /// (ECN). The system then says it with each datagram, for all agents of the endpoint, which costs a little.
    /// Sending needs no such choice: [`Sender::set_ecn`](crate::Sender::set_ecn).
    #[must_use]
    pub fn ecn(mut self, tell: bool) -> Self {
        self.ecn = tell;
        self
    }

    /// Everything that the engine lets an application choose.
    pub fn engine_config_mut(&mut self) -> &mut AgentConfig {
        &mut self.agent
    }

    fn push(&mut self, entry: Entry) {
        match entry {
            Entry::Stun(server, service) => {
                self.agent.stun_servers.push(server);
                self.servers.services.extend(service);
            }
            Entry::Turn(servers, services) => {
                for server in servers {
                    self.push_turn(server);
                }
                self.servers.services.extend(services);
            }
        }
    }

    /// What a domain may offer is of no use beside the same server by its name.
    fn push_turn(&mut self, server: TurnServer) {
        let known = &mut self.agent.turn_servers;
        let same = |other: &TurnServer| {
            let other = TurnServer {
                may_be_absent: server.may_be_absent,
                ..other.clone()
            };
            other == server
        };
        if server.may_be_absent && known.iter().any(same) {
            return;
        }
        known.retain(|known| !(known.may_be_absent && same(known)));
        known.push(server);
    }

    fn connector(&mut self) -> &mut Connector {
        Arc::make_mut(self.servers.connector.get_or_insert_default())
    }
}

impl From<AgentConfig> for Config {
    fn from(agent: AgentConfig) -> Self {
        Self {
            agent,
            servers: NewServers::default(),
            receive_queue_bytes: 2 << 20,
            ecn: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nilas_ice::TurnTransport;
    use nilas_net::creds::{CredentialHash, time_limited};

    use super::*;

    #[test]
    fn which_addresses_are_used_is_what_was_asked_for() {
        let config = Config::controlling();
        let default = config.agent.filter.clone();
        assert_eq!(default.temporary, TemporaryAddresses::Preferred);
        let config = config.temporary_addresses(TemporaryAddresses::Avoided);
        assert_eq!(config.agent.filter.temporary, TemporaryAddresses::Avoided);
        let config = config.link_local(true).loopback(true);
        assert!(config.agent.filter.link_local && config.agent.filter.loopback);
        assert!(!default.link_local && !default.loopback);
    }

    #[test]
    fn a_list_of_servers_is_taken_whole_or_not_at_all() {
        let list = r#"[{"urls":"stun:192.0.2.1"},
            {"urls":["turn:192.0.2.2","turns:t.example:443?transport=tcp"],"username":"u","credential":"p"}]"#;
        let config = Config::controlling().ice_servers(list).unwrap();
        assert_eq!(config.agent.stun_servers.len(), 1);
        let transports: Vec<_> = config
            .agent
            .turn_servers
            .iter()
            .map(|server| (server.transport, server.credentials.password.as_str()))
            .collect();
        let tls = TurnTransport::Stream(nilas_ice::StreamTransport::Tls);
        assert_eq!(transports, [(TurnTransport::Udp, "p"), (tls, "p")]);
        let mixed = list.replace(
            "turns:t.example:443?transport=tcp",
            "turn:t.example?transport=sctp",
        );
        let error = Config::controlling().ice_servers(&mixed).unwrap_err();
        assert_eq!(error.reason, ServerErrorReason::Transport);
        let secure = list.replace("stun:192.0.2.1", "stuns:192.0.2.1");
        let config = Config::controlling().ice_servers(&secure).unwrap();
        assert_eq!(config.agent.stun_servers.len(), 0);
        assert_eq!(config.agent.turn_servers.len(), 2);
        let alone = Config::controlling().ice_servers(r#"{"urls":["stuns:192.0.2.1"]}"#);
        assert_eq!(alone.unwrap_err().reason, ServerErrorReason::Tls);
        let error = Config::controlling().ice_servers("{").unwrap_err();
        assert!(matches!(error.reason, ServerErrorReason::List(_)));
    }

    #[test]
    fn what_a_domain_may_offer_is_asked_for_once_and_not_beside_what_was_named() {
        let named = "turn:t.example?transport=tcp";
        for uris in [
            ["turn:t.example", "turn:t.example", named],
            [named, "turn:t.example", "turn:t.example"],
        ] {
            let config = uris.iter().fold(Config::controlling(), |config, uri| {
                config.turn(uri, "u", "p").unwrap()
            });
            let servers = &config.agent.turn_servers;
            let tcp = TurnTransport::Stream(nilas_ice::StreamTransport::Tcp);
            let tcp: Vec<_> = servers
                .iter()
                .filter(|server| server.transport == tcp)
                .collect();
            assert_eq!(tcp.len(), 1, "{uris:?}");
            assert!(!tcp[0].may_be_absent, "{uris:?}");
            let absent = servers.iter().filter(|server| server.may_be_absent);
            assert_eq!(absent.count(), 2, "TLS and DTLS: {uris:?}");
        }
    }

    #[test]
    fn a_secret_makes_credentials_that_hold_for_a_day_from_when_an_agent_is_made() {
        use std::time::{SystemTime, UNIX_EPOCH};
        let since_1970 = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            now.unwrap().as_secs()
        };
        let with = |secret| Config::controlling().turn_with_secret("turn:192.0.2.1", secret, "u");
        let before = since_1970();
        let mut config = with("north").unwrap();
        // As if the configuration was made long ago, with another server that has credentials of its own.
        let old = Credentials {
            username: "1700000000:u".into(),
            password: "old".into(),
        };
        config.agent.turn_servers[0].credentials = old.clone();
        config.servers.secrets[0].made = old;
        let config = config.turn("turn:192.0.2.2", "u", "p").unwrap().renewed();
        assert_eq!(config.agent.turn_servers[1].credentials.password, "p");
        let made = &config.agent.turn_servers[0].credentials;
        let (expiry, user) = made.username.split_once(':').unwrap();
        let expiry: u64 = expiry.parse().unwrap();
        assert!(
            (before..=since_1970()).contains(&(expiry - 86_400)),
            "{expiry}"
        );
        assert_eq!(user, "u");
        let expiry = Duration::from_secs(expiry);
        let (_, password) =
            time_limited(b"north", "u", Duration::ZERO, expiry, CredentialHash::Sha1);
        assert_eq!(made.password, password);
        let empty = with("").unwrap_err();
        assert_eq!(empty.reason, ServerErrorReason::EmptySecret);
    }

    #[test]
    fn secrets_do_not_show() {
        let config = Config::controlled()
            .turn("turn:192.0.2.1", "u", "hush")
            .and_then(|config| config.turn_with_secret("turn:192.0.2.1", "hush", "u"))
            .unwrap()
            .proxy("http://u:hush@192.0.2.2".parse().unwrap());
        assert!(!format!("{config:?}").contains("hush"));
    }
}

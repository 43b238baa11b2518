//! Server-reflexive candidates: servers are asked what they see of a socket (RFC 8445 section 5.1.1.2).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_stun::{Class, Message};
use nilas_turn::Time;

use super::Agent;
use super::generation::{LocalCandidate, Origin};
use super::mobility::RestartDue;
use super::transaction::{Purpose, Transaction};
use super::translator::{direct_address_for, reflexive_preference};
use super::trickle::plain;
use crate::candidate::CandidateType;
use crate::config::{AgentConfig, StunServer, TcpCandidates, TurnTransport};
use crate::event::{CandidateError, Event, State};
use crate::ids::RequestId;
use crate::io::{Command, ResolveError, StreamTransport};
use crate::shared::Shared;

/// RFC 8445 section 5.1.1.4: server-reflexive candidates are kept alive until ICE is done; Tr is 15 s
/// (section 11).
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A server that did not answer is asked again after this, and after twice as long each time.
const FIRST_REST: Duration = Duration::from_secs(5);
/// So often in all is a server asked from a socket that does not answer there.
const MAX_QUESTIONS: u8 = 5;

/// A STUN server and what its name resolved to.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) url: Box<str>,
    host: Box<str>,
    port: u16,
    pub(super) addresses: Vec<SocketAddr>,
    request: Option<RequestId>,
    resolved: bool,
    /// It is a TURN server that is reached over TCP, and answers questions over TCP only. What is wrong with it is told where
    /// its allocation is.
    is_relay: bool,
}

impl Server {
    pub(super) fn new(server: &StunServer) -> Self {
        Self::at(server.url(), &server.host, server.port)
    }

    /// The servers that an agent asks what they see of it.
    pub(super) fn all_of(config: &AgentConfig) -> Vec<Self> {
        let mut servers: Vec<_> = config.stun_servers.iter().map(Self::new).collect();
        // RFC 6544 section 5.2.
        if config.tcp == TcpCandidates::All {
            let over_tcp = TurnTransport::Stream(StreamTransport::Tcp);
            let relays = { config.turn_servers.iter() }.filter(|own| own.transport == over_tcp);
            servers.extend(relays.map(|relay| Self {
                is_relay: true,
                ..Self::at(relay.url(), &relay.host, relay.port)
            }));
        }
        servers
    }

    fn at(url: String, host: &str, port: u16) -> Self {
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        Self {
            url: url.into(),
            host: host.into(),
            port,
            addresses: literal
                .map(|ip| SocketAddr::new(ip, port))
                .into_iter()
                .collect(),
            request: None,
            resolved: literal.is_some(),
            is_relay: false,
        }
    }
}

/// Why a server's name is of no use.
pub(super) const fn unresolved(error: ResolveError) -> &'static str {
    match error {
        ResolveError::NotFound => "there is no such name",
        ResolveError::TimedOut => "the name server did not answer",
        ResolveError::Other => "the name could not be resolved",
    }
}

/// One question to one server from one socket.
#[derive(Debug)]
pub(super) struct Job {
    socket: u16,
    server: u16,
    address: SocketAddr,
    state: JobState,
    /// How often it was asked without an answer; over TCP, how often a connection has been there for it.
    unanswered: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobState {
    /// To be asked in a pacing slot.
    Waiting,
    Asked,
    /// Not answered; asked again at this time, while the answer is of use. Nothing waits for it any more.
    Silent {
        next: Time,
    },
    AskedAgain,
    /// Answered; asked again at this time, to keep the NAT's binding.
    Answered {
        next: Time,
    },
    Failed,
}

impl Job {
    /// Whether gathering waits for it.
    const fn is_open(&self) -> bool {
        matches!(self.state, JobState::Waiting | JobState::Asked)
    }

    fn goes_to(&self, socket: u16, server: SocketAddr) -> bool {
        self.socket == socket && plain(self.address) == server
    }
}

impl Agent {
    /// Asks for the addresses of the servers that are given by name.
    pub(super) fn resolve_servers(&mut self, shared: &mut Shared) {
        for server in &mut self.servers {
            if !server.resolved && server.request.is_none() {
                let request = shared.request(self.id);
                server.request = Some(request);
                let (name, port) = (server.host.to_string(), server.port);
                shared.command(Command::Resolve {
                    request,
                    name,
                    port,
                });
            }
        }
    }

    /// The answer to a resolution.
    pub(crate) fn resolved(
        &mut self,
        shared: &mut Shared,
        request: RequestId,
        result: Result<&[SocketAddr], ResolveError>,
    ) {
        if self.turn_resolved(shared, request, result) {
            return;
        }
        let Some(index) = self
            .servers
            .iter()
            .position(|server| server.request == Some(request))
        else {
            return;
        };
        let server = &mut self.servers[index];
        server.request = None;
        server.resolved = true;
        match result {
            // More than one address of a family is of no use, and the list is the outside's.
            Ok(addresses) => server.addresses = addresses.iter().copied().take(8).collect(),
            Err(_) if server.is_relay => {}
            Err(error) => {
                let error = self.server_error(index as u16, None, 701, unresolved(error));
                self.emit(shared, Event::CandidateError(error));
            }
        }
        for socket in 0..self.sockets.len() as u16 {
            self.add_job(shared, socket, index as u16);
        }
        self.finish_gathering(shared);
    }

    /// Has a server asked from a socket, unless it is being asked or cannot be reached.
    pub(super) fn add_job(&mut self, shared: &Shared, socket: u16, server: u16) {
        let own = self.sockets[usize::from(socket)];
        let is_tcp = own.tcp().is_some();
        let servers = &self.servers[usize::from(server)];
        if !self.asks_servers(&own) || servers.is_relay && !is_tcp {
            return;
        }
        let base = own.address.ip();
        // Through a translator a server tells another address than directly.
        let far = self.far_address_for(shared, &servers.addresses, base);
        let asked = direct_address_for(&servers.addresses, base)
            .into_iter()
            .chain(far);
        for address in asked {
            // From one port there is one connection to a server, whatever it is there for.
            let known = |job: &Job| {
                (job.socket, job.address) == (socket, address) && (is_tcp || job.server == server)
            };
            if !self.current.jobs.iter().any(known) {
                self.current.jobs.push(Job {
                    socket,
                    server,
                    address,
                    state: JobState::Waiting,
                    unanswered: 0,
                });
            }
        }
    }

    /// The next question to a server, if one is due.
    pub(super) fn next_job(&mut self, now: Time) -> Option<(u16, u16, SocketAddr)> {
        let is_due = |job: &Job| self.question_due(job).is_some_and(|at| at <= now);
        let index = self.current.jobs.iter().position(is_due)?;
        let job = &mut self.current.jobs[index];
        job.state = match job.state {
            JobState::Answered { .. } => JobState::Answered {
                next: now + KEEPALIVE,
            },
            JobState::Silent { .. } => JobState::AskedAgain,
            _ => JobState::Asked,
        };
        Some((index as u16, job.socket, job.address))
    }

    /// When `next_job` has one.
    pub(super) fn jobs_deadline(&self) -> Option<Time> {
        let jobs = self.current.jobs.iter();
        jobs.filter_map(|job| self.question_due(job)).min()
    }

    fn question_due(&self, job: &Job) -> Option<Time> {
        match job.state {
            JobState::Waiting => Some(Time::ZERO),
            JobState::Answered { next } => Some(next).filter(|_| self.keeps_alive()),
            JobState::Silent { next } => Some(next).filter(|_| self.needs_more(job)),
            JobState::Asked | JobState::AskedAgain | JobState::Failed => None,
        }
    }

    /// Whether what a server may yet say of a socket is of use: a path is still looked for, or what is found may be told
    /// at any time.
    fn needs_more(&self, job: &Job) -> bool {
        let is_there = self.sockets[usize::from(job.socket)].usable;
        is_there && (self.current.selected.is_none() || self.is_continual())
    }

    fn keeps_alive(&self) -> bool {
        // Whoever answers a restart late meets candidates that still hold.
        let waits = self.state != State::Failed || self.current.abandoned;
        self.current.selected.is_none() && waits
    }

    /// A server answered, with an address or an error.
    ///
    /// STUN servers are asked without credentials, so nothing authenticates the answer but the
    /// transaction id and the address it comes from (RFC 8489 section 6.3.3). What it can change is
    /// only which address is offered to the peer.
    pub(super) fn job_answered(
        &mut self,
        shared: &mut Shared,
        now: Time,
        transaction: &Transaction,
        message: &Message<'_>,
    ) {
        let Purpose::Gather { generation, job } = transaction.purpose else {
            return;
        };
        if generation != self.current.number {
            return;
        }
        if let Some(rtt) = transaction.round_trip(now) {
            self.round_trip = Some(rtt);
        }
        let Job {
            socket,
            server,
            address,
            state,
            ..
        } = self.current.jobs[usize::from(job)];
        let (first, late) = (state == JobState::Asked, state == JobState::AskedAgain);
        let is_tcp = self.sockets[usize::from(socket)].tcp().is_some();
        let mapped = match message.class() {
            Class::SuccessResponse => message.xor_mapped_address().ok().flatten(),
            _ => None,
        };
        // A server that was asked through a translator has seen that one's IPv4 address.
        let Some(mapped) =
            mapped.filter(|mapped| (mapped.is_ipv4() || address.is_ipv6()) && mapped.port() != 0)
        else {
            let (code, reason) = match message.error_code() {
                Ok(Some(error)) => (error.code(), error.reason()),
                _ => (701, "the server's answer has no mapped address"),
            };
            if !is_tcp {
                let error = self.server_error(server, Some(socket), code, reason);
                self.emit(shared, Event::CandidateError(error));
            }
            self.end_job(shared, job);
            return;
        };
        // RFC 8838 section 13: after the end of candidates only what was agreed on lets more follow.
        if late && self.current.local_ended && self.is_continual() {
            // Until it is told, gathering is not complete.
            self.current.jobs[usize::from(job)].state = JobState::Asked;
            self.gather_more(shared);
        } else if late && self.current.local_ended && self.carrier().is_none() {
            self.restart_due = RestartDue::At(now.max(self.restart_after));
        }
        self.current.jobs[usize::from(job)].state = JobState::Answered {
            next: now + KEEPALIVE,
        };
        let origin = Origin::Stun(server);
        let told = (origin, address.ip());
        self.add_reflexive(shared, socket, mapped, told);
        if is_tcp {
            self.add_active_reflexive(shared, socket, mapped, told);
        }
        if first || late {
            self.finish_gathering(shared);
        }
    }

    /// The server-reflexive candidate of what a server sees of a socket, with the address at which it was asked.
    pub(super) fn add_reflexive(
        &mut self,
        shared: &mut Shared,
        socket: u16,
        address: SocketAddr,
        (origin, asked): (Origin, IpAddr),
    ) {
        let server = self.number_of_server(Some(asked), origin);
        let mut base = self.sockets[usize::from(socket)];
        base.preference = reflexive_preference(&base, address);
        self.add_local(
            shared,
            LocalCandidate {
                address,
                socket,
                kind: CandidateType::Srflx,
                origin,
                removed: false,
                priority: base.priority(CandidateType::Srflx, self.component()),
                // RFC 8445 section 5.1.1.3: type, base address and server make the foundation.
                foundation: 1_000_000 + 1_000 * server + base.foundation,
            },
        );
    }

    pub(super) fn job_timed_out(
        &mut self,
        shared: &mut Shared,
        now: Time,
        generation: u32,
        job: u16,
    ) {
        if generation != self.current.number {
            return;
        }
        let own = &mut self.current.jobs[usize::from(job)];
        let (state, server, socket) = (own.state, own.server, own.socket);
        if !matches!(state, JobState::Asked | JobState::AskedAgain) {
            return;
        }
        if self.sockets[usize::from(socket)].tcp().is_some() {
            let address = own.address;
            return self.give_up_server(shared, socket, address);
        }
        own.unanswered += 1;
        own.state = match own.unanswered {
            MAX_QUESTIONS.. => JobState::Failed,
            asked => JobState::Silent {
                next: now + FIRST_REST * (1 << (asked - 1)),
            },
        };
        if state == JobState::Asked {
            let error = self.server_error(server, Some(socket), 701, "the server did not answer");
            self.emit(shared, Event::CandidateError(error));
            self.finish_gathering(shared);
        }
    }

    /// The connection to a server is there: the question has its turn.
    pub(super) fn ask_when_connected(&mut self, now: Time, socket: u16, server: SocketAddr) {
        let mut jobs = self.current.jobs.iter_mut();
        let Some(job) = jobs.find(|job| job.goes_to(socket, server)) else {
            return;
        };
        match &mut job.state {
            JobState::Asked => {
                job.state = JobState::Waiting;
                job.unanswered = 1;
            }
            JobState::Answered { next } => *next = now,
            _ => {}
        }
    }

    /// A connection to a server is gone, or there is none: what was to be asked on it has no answer.
    pub(super) fn end_job_over(&mut self, shared: &mut Shared, socket: u16, server: SocketAddr) {
        let tried = |job: &Job| match job.state {
            JobState::Waiting => job.unanswered > 0,
            state => state == JobState::Asked,
        };
        let mut jobs = self.current.jobs.iter();
        if let Some(job) = jobs.position(|job| job.goes_to(socket, server) && tried(job)) {
            self.end_job(shared, job as u16);
        }
    }

    pub(super) fn has_open_job(&self, socket: u16, server: SocketAddr) -> bool {
        let mut jobs = self.current.jobs.iter();
        jobs.any(|job| job.goes_to(socket, server) && job.is_open())
    }

    fn end_job(&mut self, shared: &mut Shared, job: u16) {
        self.current.jobs[usize::from(job)].state = JobState::Failed;
        self.finish_gathering(shared);
    }

    fn server_error(
        &self,
        server: u16,
        socket: Option<u16>,
        code: u16,
        text: &str,
    ) -> CandidateError {
        // W3C's icecandidateerror: not where a local candidate does not show it.
        let base = socket
            .filter(|_| !self.settings.hides_bases())
            .map(|socket| self.sockets[usize::from(socket)].address);
        CandidateError {
            address: base.map(|base| base.ip().to_string()),
            port: base.map(|base| base.port()),
            url: self.servers[usize::from(server)].url.to_string(),
            error_code: code,
            error_text: text.chars().filter(|c| !c.is_control()).take(128).collect(),
        }
    }

    /// Tells of the servers that no local address can reach: IPv6 only from IPv4 only, or loopback.
    pub(super) fn report_unreachable(&self, shared: &mut Shared) {
        for (index, server) in self.servers.iter().enumerate() {
            let asked = self
                .current
                .jobs
                .iter()
                .any(|job| usize::from(job.server) == index);
            if !asked
                && !server.is_relay
                && !self.settings.relay_only()
                && !server.addresses.is_empty()
                && !self.sockets.is_empty()
            {
                let text = "no local address can reach the server";
                let error = self.server_error(index as u16, None, 701, text);
                self.emit(shared, Event::CandidateError(error));
            }
        }
    }

    /// Whether no server can tell another address.
    pub(super) fn servers_done(&self) -> bool {
        self.servers.iter().all(|server| server.resolved)
            && !self.current.jobs.iter().any(Job::is_open)
    }
}

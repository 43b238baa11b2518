//! What the server has done and what it has dropped, by reason: for operators. No user's name is in here.

/// How often each thing happened since the core began; the last few say how many there are now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Neither STUN nor ChannelData.
    pub not_stun: u64,
    /// Began as STUN or ChannelData and broke its rules.
    pub malformed: u64,
    /// A response, or an indication that is none of a client's.
    pub unexpected: u64,
    /// A method that the server does not have.
    pub unknown_method: u64,
    /// Binding requests answered with success.
    pub bindings: u64,
    /// Requests without credentials, answered with 401.
    pub challenged: u64,
    /// Requests whose user, password or token was wrong or expired: 401.
    pub wrong_credentials: u64,
    /// Requests with a nonce that is not valid any more: 438.
    pub stale_nonces: u64,
    /// Requests from another user than the allocation's: 441.
    pub wrong_user: u64,
    /// Requests refused with any other error.
    pub refused: u64,
    /// Peers refused by the peer-address rule: 403, or dropped.
    pub peers_forbidden: u64,
    /// Requests refused because a quota was used up: 486.
    pub over_quota: u64,
    /// Requests refused because a bound or the operating system had no more: 508.
    pub no_capacity: u64,
    /// Requests sent to another server: 300.
    pub redirected: u64,
    /// Errors not sent, because a source without credentials has had too many.
    pub answers_limited: u64,
    /// Answers not sent, because they were more than five times as long as an unverified request.
    pub answers_too_long: u64,
    /// Answers not sent, because too many were waiting.
    pub answers_dropped: u64,
    /// Messages that were not on the path of any allocation.
    pub no_allocation: u64,
    /// Data for a channel that is not bound.
    pub no_channel: u64,
    /// Data to or from a peer without a permission.
    pub no_permission: u64,
    /// Data beyond the bandwidth of a user or of the server.
    pub over_bandwidth: u64,
    /// Streams closed, because what came was neither STUN nor ChannelData, or too long.
    pub streams_misframed: u64,
    /// Streams closed, because they had no allocation for too long.
    pub streams_idle: u64,
    /// Datagrams relayed to peers.
    pub packets_to_peers: u64,
    /// Bytes of application data relayed to peers.
    pub bytes_to_peers: u64,
    /// Datagrams relayed to clients.
    pub packets_to_clients: u64,
    /// Bytes of application data relayed to clients.
    pub bytes_to_clients: u64,
    /// Allocations made.
    pub allocations_made: u64,
    /// Allocations that exist now.
    pub allocations: u64,
    /// Relayed transport addresses that exist now.
    pub relays: u64,
    /// Streams that are open now.
    pub streams: u64,
    /// Connections to peers that exist now (RFC 6062).
    pub connections: u64,
    /// Ports reserved now (RFC 8656 section 7.2).
    pub reservations: u64,
    /// Entries in the list of deadlines now.
    pub timers: u64,
}

/// What several cores have counted together.
impl core::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        let Self {
            not_stun,
            malformed,
            unexpected,
            unknown_method,
            bindings,
            challenged,
            wrong_credentials,
            stale_nonces,
            wrong_user,
            refused,
            peers_forbidden,
            over_quota,
            no_capacity,
            redirected,
            answers_limited,
            answers_too_long,
            answers_dropped,
            no_allocation,
            no_channel,
            no_permission,
            over_bandwidth,
            streams_misframed,
            streams_idle,
            packets_to_peers,
            bytes_to_peers,
            packets_to_clients,
            bytes_to_clients,
            allocations_made,
            allocations,
            relays,
            streams,
            connections,
            reservations,
            timers,
        } = other;
        self.not_stun += not_stun;
        self.malformed += malformed;
        self.unexpected += unexpected;
        self.unknown_method += unknown_method;
        self.bindings += bindings;
        self.challenged += challenged;
        self.wrong_credentials += wrong_credentials;
        self.stale_nonces += stale_nonces;
        self.wrong_user += wrong_user;
        self.refused += refused;
        self.peers_forbidden += peers_forbidden;
        self.over_quota += over_quota;
        self.no_capacity += no_capacity;
        self.redirected += redirected;
        self.answers_limited += answers_limited;
        self.answers_too_long += answers_too_long;
        self.answers_dropped += answers_dropped;
        self.no_allocation += no_allocation;
        self.no_channel += no_channel;
        self.no_permission += no_permission;
        self.over_bandwidth += over_bandwidth;
        self.streams_misframed += streams_misframed;
        self.streams_idle += streams_idle;
        self.packets_to_peers += packets_to_peers;
        self.bytes_to_peers += bytes_to_peers;
        self.packets_to_clients += packets_to_clients;
        self.bytes_to_clients += bytes_to_clients;
        self.allocations_made += allocations_made;
        self.allocations += allocations;
        self.relays += relays;
        self.streams += streams;
        self.connections += connections;
        self.reservations += reservations;
        self.timers += timers;
    }
}

//! What the engine dropped, by reason: for operators, and for whoever asks why.

/// Datagrams that changed nothing, by the reason; events that were bounded away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Neither STUN nor data of a known remote.
    pub unknown_remote: u64,
    /// Began as STUN and broke its rules.
    pub malformed: u64,
    /// A STUN message that is none of a check, a response, or an indication.
    pub unexpected: u64,
    /// A request for a username fragment that no agent here has.
    pub unknown_ufrag: u64,
    /// A request or response whose MESSAGE-INTEGRITY is missing or wrong.
    pub unauthenticated: u64,
    /// A check whose transaction id came from another address before: a replay.
    pub replayed: u64,
    /// A response to nothing that was asked, or not any more: late, replayed, or forged.
    pub unknown_transaction: u64,
    /// A response from another address than the request went to.
    pub asymmetric: u64,
    /// Candidates that signaling brought and that were refused: unusable, too many, of another generation, or after the
    /// end. Each was answered with the reason.
    pub candidates_refused: u64,
    /// Remote candidates not learned from checks, because of the bound.
    pub peer_reflexive_refused: u64,
    /// Checks before the peer's description that were answered but not remembered.
    pub early_checks_forgotten: u64,
    /// Pairs not formed or given up, because of the bound.
    pub pairs_refused: u64,
    /// Connections to TCP candidates that were ended: too many, or what came was no check of the peer.
    pub connections_refused: u64,
    /// Names of the peers' candidates that were not looked for, because of the bound.
    pub names_refused: u64,
    /// Responses not sent, because too many were waiting.
    pub responses_dropped: u64,
    /// Paths that carried data and seemed to have died.
    pub paths_suspected: u64,
    /// Other parameters of a peer than before: restarts of the peers, and what they tell while both sides restart.
    pub peer_restarts: u64,
    /// Roles that changed, because of a conflict or of a lite peer.
    pub role_switches: u64,
    /// Restarts of the agents' own accord.
    pub restarts: u64,
    /// Datagrams that the operating system refused to send.
    pub send_errors: u64,
}

//! STUN transactions in flight (RFC 8489 section 6.2.1).

use core::net::SocketAddr;
use core::time::Duration;

use nilas_stun::TransactionId;

use super::pair::PairId;
use crate::event::Role;
use nilas_turn::Time;

/// RFC 8489 section 6.2.1: Rc, the number of transmissions of a request.
const RC: u8 = 7;
/// RFC 8489 section 6.2.1: Rm, the wait after the last one in multiples of the first RTO.
const RM: u32 = 16;
/// RFC 8445 section 14.3: the least RTO.
pub(super) const RTO: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    pub(super) id: TransactionId,
    pub(super) purpose: Purpose,
    /// Index of the local socket.
    pub(super) socket: u16,
    pub(super) destination: SocketAddr,
    pub(super) sent_at: Time,
    /// When it is sent again, or given up.
    pub(super) due: Time,
    rto: Duration,
    transmissions: u8,
    limit: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A connectivity check.
    Check {
        generation: u32,
        pair: PairId,
        role: Role,
        nominate: bool,
        /// Whether its timing out is the pair's failure; a repeated or cancelled one's is not.
        leads: bool,
    },
    /// A consent check (RFC 7675 section 5.1), sent once.
    Consent { generation: u32, pair: PairId },
    /// A check of the selected pair that is as long as the length of this index: it tells whether the path takes that.
    Probe {
        generation: u32,
        pair: PairId,
        length: u8,
    },
    /// A question to a STUN server, by the index of the gathering job.
    Gather { generation: u32, job: u16 },
}

/// What is to be done about a transaction that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Retransmit,
    TimedOut,
}

impl Transaction {
    pub(super) fn new(
        id: TransactionId,
        purpose: Purpose,
        socket: u16,
        destination: SocketAddr,
        now: Time,
        schedule: Schedule,
    ) -> Self {
        let (rto, limit, due) = match schedule {
            Schedule::Retransmitted { rto } => (rto, RC, now + rto),
            Schedule::Short => (RTO, 4, now + RTO),
            Schedule::Once { wait } => (wait, 1, now + wait),
        };
        Self {
            id,
            purpose,
            socket,
            destination,
            sent_at: now,
            due,
            rto,
            transmissions: 1,
            limit,
        }
    }

    /// To be called when `due` has come.
    pub(super) fn fire(&mut self, now: Time) -> Due {
        if self.transmissions >= self.limit {
            return Due::TimedOut;
        }
        self.transmissions += 1;
        // 500 ms, then 1 s, 2 s, ..., and Rm times the first one after the last (RFC 8489 section 6.2.1).
        self.due = now
            + match self.transmissions {
                RC => self.rto * RM,
                // A server that has not answered four transmissions is waited for no longer.
                _ if self.transmissions == self.limit => self.rto * 3,
                sent => self.rto * (1 << (sent - 1)),
            };
        Due::Retransmit
    }

    /// RFC 8445 section 7.3.1.4: not retransmitted any more, its timing out is no failure, and its
    /// response still counts.
    pub(super) fn cancel(&mut self) {
        if let Purpose::Check { leads, .. } = &mut self.purpose {
            *leads = false;
        }
        if self.transmissions < self.limit {
            self.limit = self.transmissions;
            self.due = self.sent_at + RTO * 79;
        }
    }

    /// The round trip, which only a request that was sent once can tell (Karn's algorithm).
    pub(super) fn round_trip(&self, now: Time) -> Option<Duration> {
        (self.transmissions == 1).then(|| now.since(self.sent_at))
    }
}

/// How often a request is sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Schedule {
    /// As RFC 8489 section 6.2.1 says: seven times in 39.5 s with an RTO of 500 ms.
    Retransmitted { rto: Duration },
    /// At 0, 0.5, 1.5 and 3.5 s, and given up at 5 s: a server that is silent for so long must not
    /// hold up the end of gathering.
    Short,
    /// Once, and a response is awaited for so long.
    Once { wait: Duration },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Arena;

    fn sends(schedule: Schedule) -> Vec<u64> {
        let pair = Arena::new().insert(());
        let purpose = Purpose::Consent {
            generation: 0,
            pair,
        };
        let remote = SocketAddr::from(([192, 0, 2, 1], 1));
        let mut transaction = Transaction::new(
            TransactionId::new([0; 12]),
            purpose,
            0,
            remote,
            Time::ZERO,
            schedule,
        );
        let mut times = vec![0];
        loop {
            let now = transaction.due;
            times.push(now.as_nanos() / 1_000_000);
            if transaction.fire(now) == Due::TimedOut {
                return times;
            }
        }
    }

    #[test]
    fn the_schedule_is_that_of_the_rfc() {
        let usual = sends(Schedule::Retransmitted { rto: RTO });
        assert_eq!(usual, [0, 500, 1500, 3500, 7500, 15500, 31500, 39500]);
        assert_eq!(sends(Schedule::Short), [0, 500, 1500, 3500, 5000]);
        assert_eq!(sends(Schedule::Once { wait: RTO }), [0, 500]);
    }
}

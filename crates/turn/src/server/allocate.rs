//! The Allocate request (RFC 8656 section 7.2, RFC 6062 section 5.1, RFC 8016 section 3.1.2).

use core::time::Duration;
use std::sync::Arc;

use nilas_stun::{AddressFamily, AttributeError, ErrorCode, Message};

use super::Reservation;
use super::Server;
use super::allocation::{Allocation, PendingAllocate, place_of};
use super::answer::{Answer, Reply};
use super::authenticate::Caller;
use super::credential::Origin;
use super::event::Traffic;
use super::io::{Command, Path, RelayId, RelayPort, RelayProtocol};
use super::mobility::Mobility;
use super::quota::{AllocationLimits, OverLimit};
use super::relay::{Peers, Relay};
use super::request::{Handling, Outcome};
use super::timers::Timer;
use crate::time::Time;

/// RFC 8656 section 18.8: the numbers of IP protocols in REQUESTED-TRANSPORT.
const UDP: u8 = 17;
const TCP: u8 = 6;
/// RFC 8656 section 7.2: a reservation is held for at least 30 seconds.
const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);

/// What a client asks for.
struct Wish {
    protocol: RelayProtocol,
    port: RelayPort,
    families: [bool; 2],
    /// The family of a dual allocation that there is none of here.
    missing: Option<(AddressFamily, u16)>,
    lifetime: Option<u32>,
    mobility: bool,
}

impl Server {
    pub(super) fn allocate(
        &mut self,
        now: Time,
        path: Path,
        caller: &Caller<'_>,
        reply: &Reply,
    ) -> Handling {
        // RFC 8656 section 7.2, step 2: the 5-tuple is in use. A retransmission is answered as before.
        if let Some(key) = self.allocation_at(path) {
            return self.allocate_again(now, key, caller);
        }
        if self.is_data_stream(path) {
            return Err(ErrorCode::ALLOCATION_MISMATCH);
        }
        let mut wish = self.wish(caller.request.message(), path)?;
        // RFC 8656 section 7.2, step 11: 300 at any point.
        if self.draining || self.config.redirect {
            return self.redirect(path);
        }
        // RFC 8656 section 7.2, step 10: quotas by user name, not by address.
        let limits = AllocationLimits {
            per_user: self.config.max_allocations_per_user,
            total: self.config.max_allocations,
        };
        let account = &caller.credential.account;
        let charge = match self.common.accounts.charge(now, account, limits) {
            Ok(charge) => charge,
            Err(OverLimit::User) => return Err(ErrorCode::ALLOCATION_QUOTA_REACHED),
            Err(OverLimit::Total) => return Err(ErrorCode::INSUFFICIENT_CAPACITY),
        };

        let reservation = if let RelayPort::EvenWithNext(token) = &mut wish.port {
            *token = with_family(self.random(), wish.families);
            Some(*token)
        } else {
            None
        };
        if let Some(token) = reservation {
            let until = now + RESERVATION_LIFETIME;
            self.timers.set(until, Timer::Reservation(token));
            // The reserved port is paid for as well, until it is given back.
            let charge = charge.another();
            self.reservations.insert(
                token,
                Reservation {
                    until,
                    _charge: charge,
                },
            );
        }
        if let RelayPort::Reserved(token) = wish.port {
            // Its port becomes this allocation's, if the driver still has it.
            self.redeem_reservation(token);
        }
        let mobility = wish.mobility.then(|| {
            Box::new(Mobility {
                serial: 0,
                next_path: None,
                last: None,
            })
        });
        let waiting = wish.families.iter().filter(|family| **family).count() as u8;
        let key = self.allocations.insert(Allocation {
            path: Some(path),
            credential: Arc::clone(&caller.credential),
            charge,
            relays: [None, None],
            transaction: caller.request.transaction_id(),
            pending: Some(Box::new(PendingAllocate {
                reply: reply.clone(),
                waiting,
                lifetime: self.granted_lifetime(now, &caller.credential.origin, wish.lifetime),
            })),
            missing: wish.missing,
            reservation,
            mobility,
            moved: false,
            connections: Vec::new(),
            traffic: Traffic::default(),
            made: now,
        });
        self.paths.insert(path, key);
        for family in [AddressFamily::Ipv4, AddressFamily::Ipv6] {
            if !wish.families[place_of(family)] {
                continue;
            }
            let relay = self.relays.insert(Relay {
                allocation: key,
                family,
                protocol: wish.protocol,
                address: None,
                expires: None,
                peers: Peers::default(),
            });
            if let Some(allocation) = self.allocations.get_mut(key) {
                allocation.relays[place_of(family)] = Some(relay);
            }
            self.outbox.command(Command::BindRelay {
                relay: RelayId(relay),
                family,
                protocol: wish.protocol,
                port: wish.port,
            });
        }
        Ok(Outcome::Later)
    }

    /// An Allocate request on a 5-tuple that has an allocation.
    fn allocate_again(
        &mut self,
        now: Time,
        key: crate::arena::Key,
        caller: &Caller<'_>,
    ) -> Handling {
        let allocation = self
            .allocations
            .get(key)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        if allocation.transaction != caller.request.transaction_id()
            || allocation.credential.username != caller.credential.username
        {
            return Err(ErrorCode::ALLOCATION_MISMATCH);
        }
        if allocation.pending.is_some() {
            // The answer is on its way.
            return Ok(Outcome::Later);
        }
        self.allocated(now, key)
            .map(|allocated| Outcome::Answer(Answer::Allocated(allocated)))
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)
    }

    /// Checks what the request asks for, in the order of RFC 8656 section 7.2.
    fn wish(&self, request: Message<'_>, path: Path) -> Result<Wish, ErrorCode<'static>> {
        let bad = |_: AttributeError| ErrorCode::BAD_REQUEST;
        // Step 3: what is between relay and peer.
        let transport = request.requested_transport().map_err(bad)?;
        let protocol = match transport.ok_or(ErrorCode::BAD_REQUEST)? {
            UDP => RelayProtocol::Udp,
            TCP if self.config.tcp_relay => RelayProtocol::Tcp,
            _ => return Err(ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL),
        };
        let even_port = request.even_port().map_err(bad)?;
        let token = request.reservation_token().map_err(bad)?;
        let lifetime = request.lifetime().map_err(bad)?;
        let family = supported(request.requested_address_family())?;
        let additional = supported(request.additional_address_family())?;
        if protocol == RelayProtocol::Tcp {
            // RFC 6062 section 5.1: only over TCP or TLS, and without what is about UDP ports.
            let control_is_stream = matches!(path, Path::Stream(_));
            if !control_is_stream
                || request.dont_fragment()
                || even_port.is_some()
                || token.is_some()
            {
                return Err(ErrorCode::BAD_REQUEST);
            }
        }
        // Step 5: a token is for one port of the family that it was reserved in.
        if token.is_some() && (even_port.is_some() || family.is_some() || additional.is_some()) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        // Step 6: one or both, but not both ways of asking.
        if family.is_some() && additional.is_some() {
            return Err(ErrorCode::BAD_REQUEST);
        }
        // Step 7: the family, IPv4 if none is asked for.
        let has = self.config.families;
        let first = token
            .map(family_of_token)
            .or(family)
            .unwrap_or(AddressFamily::Ipv4);
        if additional.is_none() && !has.has(first) {
            return Err(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED);
        }
        // Steps 8 and 9: not a pair of ports in two families; the additional one is IPv6.
        if additional.is_some() && even_port == Some(true) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        if additional == Some(AddressFamily::Ipv4) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let mut families = [false; 2];
        families[place_of(first)] = has.has(first);
        let mut missing = None;
        if additional.is_some() {
            families[place_of(AddressFamily::Ipv6)] = has.ipv6;
            let unsupported = ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED.code();
            missing = match (has.ipv4, has.ipv6) {
                (true, true) => None,
                (true, false) => Some((AddressFamily::Ipv6, unsupported)),
                (false, true) => Some((AddressFamily::Ipv4, unsupported)),
                (false, false) => return Err(ErrorCode::INSUFFICIENT_CAPACITY),
            };
        }
        Ok(Wish {
            protocol,
            port: match (token, even_port) {
                (Some(token), _) => RelayPort::Reserved(token),
                (None, None) => RelayPort::Any,
                (None, Some(false)) => RelayPort::Even,
                // The token is drawn when all is known to be right.
                (None, Some(true)) => RelayPort::EvenWithNext([0; 8]),
            },
            families,
            missing,
            lifetime,
            mobility: self.wants_mobility(request)?,
        })
    }

    /// RFC 8016 section 3.1.2: an empty MOBILITY-TICKET asks for one.
    fn wants_mobility(&self, request: Message<'_>) -> Result<bool, ErrorCode<'static>> {
        match request.mobility_ticket() {
            None => Ok(false),
            Some([]) if self.config.mobility => Ok(true),
            Some([]) => Err(ErrorCode::MOBILITY_FORBIDDEN),
            Some(_) => Err(ErrorCode::BAD_REQUEST),
        }
    }

    /// RFC 8489 section 10: another server of the client's family.
    fn redirect(&mut self, path: Path) -> Handling {
        let is_ipv4 = self
            .client_of(path)
            .is_none_or(|client| client.ip().to_canonical().is_ipv4());
        let alternate = self
            .config
            .alternate_servers
            .iter()
            .find(|server| server.address.is_ipv4() == is_ipv4)
            .ok_or(ErrorCode::INSUFFICIENT_CAPACITY)?;
        self.counters.redirected += 1;
        Ok(Outcome::Answer(Answer::Alternate {
            address: alternate.address,
            domain: alternate.domain.clone(),
        }))
    }

    /// The lifetime that is granted, no longer than a token is good for.
    pub(super) fn granted_lifetime(
        &self,
        now: Time,
        origin: &Origin,
        asked: Option<u32>,
    ) -> Duration {
        let lifetime = self.config.lifetime(asked);
        match origin {
            // RFC 7635 section 9: at most what is left of the token.
            Origin::Token { expiry } => {
                let left = expiry.saturating_sub(self.common.unix(now));
                lifetime.min(Duration::from_secs(left))
            }
            Origin::Static | Origin::Secret { .. } => lifetime,
        }
    }
}

/// A token says in its first bit of which family the port is: the request that brings it may not.
const fn with_family(mut token: [u8; 8], families: [bool; 2]) -> [u8; 8] {
    token[0] &= 0x7F;
    if families[place_of(AddressFamily::Ipv6)] {
        token[0] |= 0x80;
    }
    token
}

const fn family_of_token(token: [u8; 8]) -> AddressFamily {
    if token[0] & 0x80 == 0 {
        AddressFamily::Ipv4
    } else {
        AddressFamily::Ipv6
    }
}

/// A family that the attribute names; one that does not exist is one that the server does not support.
fn supported(
    family: Result<Option<AddressFamily>, AttributeError>,
) -> Result<Option<AddressFamily>, ErrorCode<'static>> {
    family.map_err(|error| match error {
        // RFC 8656 section 7.2, step 7.
        AttributeError::AddressFamily { .. } => ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED,
        _ => ErrorCode::BAD_REQUEST,
    })
}

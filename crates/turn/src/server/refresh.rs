//! The Refresh request (RFC 8656 section 8.2), also of a client that has moved (RFC 8016 section 3.2.2).
//! Nobody but its user touches an allocation (RFC 8656 sections 21.1.3 and 21.3.3).

use std::sync::Arc;

use nilas_stun::ErrorCode;

use super::Server;
use super::allocation::{canonical, place_of, whole_seconds};
use super::answer::Answer;
use super::authenticate::Caller;
use super::credential::Origin;
use super::event::{EndReason, Event};
use super::io::{AllocationId, Command, Path};
use super::mobility::{LastMove, OLD_TICKET_LIFETIME, TicketContents};
use super::request::{Handling, Outcome};
use super::timers::Timer;
use crate::arena::Key;
use crate::time::Time;

impl Server {
    pub(super) fn refresh(
        &mut self,
        now: Time,
        path: Path,
        caller: &Caller<'_>,
        moving: Option<TicketContents>,
    ) -> Handling {
        let key = match moving {
            // Of a core that is no more, or of another server: its allocation is not here.
            Some(ticket) if ticket.worker != self.worker => {
                return Err(ErrorCode::ALLOCATION_MISMATCH);
            }
            Some(ticket) => ticket.allocation,
            None => self
                .allocation_at(path)
                .ok_or(ErrorCode::ALLOCATION_MISMATCH)?,
        };
        self.check_user(key, caller)?;
        let request = caller.request.message();
        let asked = request.lifetime().map_err(|_| ErrorCode::BAD_REQUEST)?;
        let family = request
            .requested_address_family()
            .map_err(|_| ErrorCode::BAD_REQUEST)?;
        let allocation = self
            .allocations
            .get(key)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        // RFC 8656 section 8.2: of a family that the allocation has. Without one, of all.
        let relays = match family {
            None => allocation.relays,
            Some(family) => {
                let mut only = [None; 2];
                let place = place_of(family);
                only[place] =
                    Some(allocation.relays[place].ok_or(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH)?);
                only
            }
        };
        if let Some(ticket) = moving {
            self.move_to(now, path, ticket)?;
        }
        if asked == Some(0) {
            for relay in relays.into_iter().flatten() {
                self.end_relay(now, relay, EndReason::Released);
            }
            return Ok(Outcome::Answer(Answer::Refreshed {
                lifetime: 0,
                ticket: None,
            }));
        }
        let lifetime = self.granted_lifetime(now, &caller.credential.origin, asked);
        // RFC 7635 section 9: a new token refreshes an allocation, and its key takes over.
        if matches!(caller.credential.origin, Origin::Token { .. })
            && let Some(allocation) = self.allocations.get_mut(key)
        {
            allocation.credential = Arc::clone(&caller.credential);
        }
        let expires = now + lifetime;
        for relay in relays.into_iter().flatten() {
            let Some(state) = self.relays.get_mut(relay) else {
                continue;
            };
            if let Some(before) = state.expires.replace(expires) {
                self.timers.cancel(before, Timer::Relay(relay));
            }
            self.timers.set(expires, Timer::Relay(relay));
            state.peers.forget_expired(now);
        }
        let ticket = if moving.is_some() {
            self.ticket(key)
        } else {
            None
        };
        Ok(Outcome::Answer(Answer::Refreshed {
            lifetime: whole_seconds(lifetime),
            ticket,
        }))
    }

    /// RFC 8656 section 5: only the user that made an allocation may change it.
    pub(super) fn check_user(
        &self,
        key: Key,
        caller: &Caller<'_>,
    ) -> Result<(), ErrorCode<'static>> {
        let allocation = self
            .allocations
            .get(key)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        if allocation.credential.username != caller.credential.username {
            return Err(ErrorCode::WRONG_CREDENTIALS);
        }
        // While it is being made it is none yet.
        if allocation.pending.is_some() {
            return Err(ErrorCode::ALLOCATION_MISMATCH);
        }
        Ok(())
    }

    /// Makes `path` the one that the client moves to. Nothing else about the allocation changes: it stays the same
    /// allocation, with one charge, whatever number of times its client moves.
    fn move_to(
        &mut self,
        now: Time,
        path: Path,
        ticket: TicketContents,
    ) -> Result<(), ErrorCode<'static>> {
        let key = ticket.allocation;
        let allocation = self
            .allocations
            .get_mut(key)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        let current = allocation.path;
        let mobility = allocation.mobility.as_mut().ok_or(ErrorCode::BAD_REQUEST)?;
        if ticket.serial != mobility.serial {
            // RFC 8016 section 3.2.2: the ticket before is good for a retransmission only.
            let again = mobility
                .last
                .is_some_and(|last| last.path == path && last.until > now)
                && ticket.serial.wrapping_add(1) == mobility.serial;
            return if again {
                Ok(())
            } else {
                Err(ErrorCode::BAD_REQUEST)
            };
        }
        // RFC 8016 section 3.2.2: from the same address there is nothing to move.
        if current == Some(path) || mobility.next_path == Some(path) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        if self.paths.contains_key(&path) {
            return Err(ErrorCode::ALLOCATION_MISMATCH);
        }
        mobility.serial = mobility.serial.wrapping_add(1);
        mobility.last = Some(LastMove {
            path,
            until: now + OLD_TICKET_LIFETIME,
        });
        let given_up = mobility.next_path.replace(path);
        self.paths.insert(path, key);
        self.outbox.command(Command::Route(path));
        if let Path::Stream(stream) = path {
            self.stop_stream_patience(stream);
        }
        if let Some(given_up) = given_up {
            self.forget_path(now, given_up, true);
        }
        if current.is_none() {
            // The old connection is closed already.
            self.complete_move(now, key);
        }
        Ok(())
    }

    /// RFC 8016 section 3.2.2: data from the new 5-tuple, or the end of the old one, makes the new one the only one.
    pub(super) fn complete_move(&mut self, now: Time, key: Key) {
        let Some(allocation) = self.allocations.get_mut(key) else {
            return;
        };
        let Some(next) = allocation
            .mobility
            .as_mut()
            .and_then(|mobility| mobility.next_path.take())
        else {
            return;
        };
        let old = allocation.path.replace(next);
        let was_moved = core::mem::replace(&mut allocation.moved, true);
        if let Some(old) = old
            && self.paths.get(&old) == Some(&key)
        {
            self.forget_path(now, old, was_moved);
        }
        if let Some(client) = self.client_of(next) {
            self.outbox.event(Event::AllocationMoved {
                allocation: AllocationId(key),
                client: canonical(client),
            });
        }
    }
}

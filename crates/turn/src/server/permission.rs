//! CreatePermission and ChannelBind (RFC 8656 sections 10.2 and 12.2). Only whoever is
//! authenticated opens the relay to a peer (RFC 8656 section 21.2.1).

use core::net::{IpAddr, SocketAddr};

use nilas_stun::{AddressFamily, ErrorCode};

use super::Server;
use super::allocation::place_of;
use super::answer::Answer;
use super::authenticate::Caller;
use super::io::{Path, RelayProtocol};
use super::relay::ChannelRefused;
use super::request::{Handling, Outcome};
use crate::arena::Key;
use crate::channel_data::ACCEPTED_CHANNEL_NUMBERS;
use crate::time::Time;

impl Server {
    /// Installs or refreshes permissions for all addresses of the request, or for none.
    pub(super) fn create_permission(
        &mut self,
        now: Time,
        path: Path,
        caller: &Caller<'_>,
    ) -> Handling {
        let key = self
            .allocation_at(path)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        self.check_user(key, caller)?;
        // RFC 8656 section 10.2: first all is checked, then all is installed.
        let mut wanted: [Vec<IpAddr>; 2] = [Vec::new(), Vec::new()];
        for peer in caller.request.xor_peer_addresses() {
            let peer = peer.map_err(|_| ErrorCode::BAD_REQUEST)?.ip();
            self.relay_towards(key, peer)?;
            self.config
                .peer_rule
                .check_address(peer)
                .map_err(|_| ErrorCode::FORBIDDEN)?;
            let list = &mut wanted[place_of(AddressFamily::of(peer))];
            if let Err(place) = list.binary_search(&peer) {
                if list.len() == self.config.max_permissions {
                    return Err(ErrorCode::INSUFFICIENT_CAPACITY);
                }
                list.insert(place, peer);
            }
        }
        if wanted.iter().all(Vec::is_empty) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let relays = self
            .allocations
            .get(key)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?
            .relays;
        for (relay, list) in relays.into_iter().zip(&wanted) {
            let most = self.config.max_permissions;
            if let Some(state) = relay.and_then(|relay| self.relays.get_mut(relay))
                && !state.peers.has_room(list, now, most)
            {
                return Err(ErrorCode::INSUFFICIENT_CAPACITY);
            }
        }
        for (relay, list) in relays.into_iter().zip(&wanted) {
            if let Some(state) = relay.and_then(|relay| self.relays.get_mut(relay)) {
                for peer in list {
                    state.peers.permit(*peer, now);
                }
            }
        }
        Ok(Outcome::Answer(Answer::Done))
    }

    /// Binds a channel to a peer, or refreshes its binding.
    pub(super) fn channel_bind(&mut self, now: Time, path: Path, caller: &Caller<'_>) -> Handling {
        let key = self
            .allocation_at(path)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        self.check_user(key, caller)?;
        let number = caller.request.channel_number();
        let peer = caller.request.xor_peer_address();
        let (Ok(Some(number)), Ok(Some(peer))) = (number, peer) else {
            return Err(ErrorCode::BAD_REQUEST);
        };
        if !ACCEPTED_CHANNEL_NUMBERS.contains(&number) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let relay = self.relay_towards(key, peer.ip())?;
        self.check_peer(peer)?;
        // RFC 8656 section 12: a number is unique within the allocation, of which this is one family.
        let relays = self
            .allocations
            .get(key)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?
            .relays;
        let held_by_other = relays.into_iter().flatten().any(|other| {
            other != relay
                && self
                    .relays
                    .get(other)
                    .is_some_and(|state| state.peers.holds(number, now))
        });
        if held_by_other {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let state = self
            .relays
            .get_mut(relay)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        // RFC 6062 section 3: the peers of a TCP allocation are connections, which have no channels.
        if state.protocol == RelayProtocol::Tcp {
            return Err(ErrorCode::BAD_REQUEST);
        }
        if !state
            .peers
            .has_room(&[peer.ip()], now, self.config.max_permissions)
        {
            return Err(ErrorCode::INSUFFICIENT_CAPACITY);
        }
        state
            .peers
            .bind(number, peer, now, self.config.max_channels)
            .map_err(|refused| match refused {
                ChannelRefused::BoundOtherwise => ErrorCode::BAD_REQUEST,
                ChannelRefused::Full => ErrorCode::INSUFFICIENT_CAPACITY,
            })?;
        // RFC 8656 section 12.2: with the channel goes a permission.
        state.peers.permit(peer.ip(), now);
        Ok(Outcome::Answer(Answer::Done))
    }

    /// The relayed transport address of a peer's family: 443 if the allocation has none.
    pub(super) fn relay_towards(&self, key: Key, peer: IpAddr) -> Result<Key, ErrorCode<'static>> {
        self.allocations
            .get(key)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?
            .relays[place_of(AddressFamily::of(peer))]
        .ok_or(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH)
    }

    /// 403 if the rule refuses the peer.
    pub(super) fn check_peer(&self, peer: SocketAddr) -> Result<(), ErrorCode<'static>> {
        self.config
            .peer_rule
            .check(peer)
            .map_err(|_| ErrorCode::FORBIDDEN)
    }
}

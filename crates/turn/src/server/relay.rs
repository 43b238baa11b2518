//! A relayed transport address with its permissions and channels (RFC 8656 sections 9 and 12).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_stun::AddressFamily;

use super::io::RelayProtocol;
use super::peer_rule::PeerRule;
use crate::arena::Key;
use crate::time::Time;

/// RFC 8656 section 9: "The Permission Lifetime MUST be 300 seconds".
const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 section 12: "A channel binding lasts for 10 minutes unless refreshed."
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// RFC 8656 section 12: how long after that neither number nor peer may be bound otherwise.
const CHANNEL_QUARANTINE: Duration = Duration::from_secs(300);

/// A relayed transport address of an allocation.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) allocation: Key,
    pub(super) family: AddressFamily,
    pub(super) protocol: RelayProtocol,
    /// What peers see; nothing until it is bound.
    pub(super) address: Option<SocketAddr>,
    /// When it is gone unless it is refreshed; nothing until it is bound.
    pub(super) expires: Option<Time>,
    pub(super) peers: Peers,
}

/// Whom a relayed transport address talks to. Sorted lists: small where there are few, quick where there are many,
/// and in an order that depends on nothing but their contents. What has expired is as good as gone, and is
/// removed when room is needed or the allocation is refreshed.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// By address.
    permissions: Vec<Permission>,
    /// By number.
    channels: Vec<Channel>,
    /// Places in `channels`, by peer.
    by_peer: Vec<u16>,
}

#[derive(Clone, Copy, Debug)]
struct Permission {
    address: IpAddr,
    expires: Time,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    expires: Time,
}

/// Why a channel is not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelRefused {
    /// The number or the peer is bound otherwise.
    BoundOtherwise,
    /// There are too many.
    Full,
}

impl Peers {
    /// Whether datagrams from this address may pass. Only the address counts, not the port.
    pub(super) fn permits(&self, address: IpAddr, now: Time) -> bool {
        self.permission(address)
            .is_ok_and(|place| self.permissions[place].expires > now)
    }

    /// Whether there would be permissions for these addresses, too. They are sorted and all different.
    pub(super) fn has_room(&mut self, addresses: &[IpAddr], now: Time, most: usize) -> bool {
        let fits = |peers: &Self| {
            let new = addresses
                .iter()
                .filter(|address| peers.permission(**address).is_err())
                .count();
            peers.permissions.len() + new <= most
        };
        if fits(self) {
            return true;
        }
        self.forget_expired(now);
        fits(self)
    }

    /// Installs or refreshes a permission.
    pub(super) fn permit(&mut self, address: IpAddr, now: Time) {
        let expires = now + PERMISSION_LIFETIME;
        match self.permission(address) {
            Ok(place) => self.permissions[place].expires = expires,
            Err(place) => {
                self.permissions.reserve_exact(1);
                self.permissions
                    .insert(place, Permission { address, expires });
            }
        }
    }

    /// Where a channel leads.
    pub(super) fn peer_of(&self, number: u16, now: Time) -> Option<SocketAddr> {
        let place = self.channel(number).ok()?;
        let channel = self.channels[place];
        (channel.expires > now).then_some(channel.peer)
    }

    /// The channel that leads to a peer.
    pub(super) fn channel_of(&self, peer: SocketAddr, now: Time) -> Option<u16> {
        let place = self
            .by_peer
            .binary_search_by(|place| self.channels[usize::from(*place)].peer.cmp(&peer))
            .ok()?;
        let channel = self.channels[usize::from(self.by_peer[place])];
        (channel.expires > now).then_some(channel.number)
    }

    /// Whether the number is bound, or was until a short while ago.
    pub(super) fn holds(&self, number: u16, now: Time) -> bool {
        self.channel(number)
            .is_ok_and(|place| self.channels[place].expires + CHANNEL_QUARANTINE > now)
    }

    /// Binds a channel or refreshes its binding.
    pub(super) fn bind(
        &mut self,
        number: u16,
        peer: SocketAddr,
        now: Time,
        most: usize,
    ) -> Result<(), ChannelRefused> {
        // RFC 8656 section 12.2: neither the number nor the peer is bound otherwise. RFC 8656 section 12: nor were
        // they until five minutes ago; what comes late on a channel must not go to another peer.
        let otherwise = self.channels.iter().any(|channel| {
            (channel.number == number) != (channel.peer == peer)
                && channel.expires + CHANNEL_QUARANTINE > now
        });
        if otherwise {
            return Err(ChannelRefused::BoundOtherwise);
        }
        let expires = now + CHANNEL_LIFETIME;
        if let Ok(place) = self.channel(number)
            && self.channels[place].peer == peer
        {
            self.channels[place].expires = expires;
            return Ok(());
        }
        let conflicts = |channel: &Channel| channel.number == number || channel.peer == peer;
        if self.channels.len() >= most || self.channels.iter().any(conflicts) {
            self.forget_expired(now);
        }
        if self.channels.len() >= most {
            return Err(ChannelRefused::Full);
        }
        // Whatever held the number or the peer is out of quarantine, and was forgotten.
        if let Err(place) = self.channel(number) {
            self.channels.reserve_exact(1);
            self.channels.insert(
                place,
                Channel {
                    number,
                    peer,
                    expires,
                },
            );
            self.sort_by_peer();
        }
        Ok(())
    }

    /// Drops what no packet can use any more.
    pub(super) fn forget_expired(&mut self, now: Time) {
        self.permissions
            .retain(|permission| permission.expires > now);
        let before = self.channels.len();
        self.channels
            .retain(|channel| channel.expires + CHANNEL_QUARANTINE > now);
        if self.channels.len() != before {
            self.sort_by_peer();
        }
    }

    /// Drops the peers that a new rule refuses.
    pub(super) fn apply(&mut self, rule: &PeerRule) {
        self.permissions
            .retain(|permission| rule.check_address(permission.address).is_ok());
        self.channels
            .retain(|channel| rule.check(channel.peer).is_ok());
        self.sort_by_peer();
    }

    fn permission(&self, address: IpAddr) -> Result<usize, usize> {
        self.permissions
            .binary_search_by(|permission| permission.address.cmp(&address))
    }

    fn channel(&self, number: u16) -> Result<usize, usize> {
        self.channels
            .binary_search_by(|channel| channel.number.cmp(&number))
    }

    fn sort_by_peer(&mut self) {
        // There are at most 4096 channel numbers.
        let channels = &self.channels;
        self.by_peer.clear();
        self.by_peer.reserve_exact(channels.len());
        self.by_peer.extend(0..channels.len() as u16);
        self.by_peer
            .sort_unstable_by_key(|place| channels[usize::from(*place)].peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, (number >> 8) as u8], 1_000 + number))
    }

    fn at(seconds: u64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_permission_lasts_five_minutes() {
        let mut peers = Peers::default();
        peers.permit(peer(1).ip(), at(0));
        assert!(peers.permits(peer(1).ip(), at(299)));
        assert!(!peers.permits(peer(1).ip(), at(300)));
        assert!(!peers.permits(peer(0x100).ip(), at(0)));
        assert!(peers.has_room(&[peer(0x100).ip()], at(299), 2));
        assert!(!peers.has_room(&[peer(0x100).ip()], at(299), 1));
        assert!(peers.has_room(&[peer(0x100).ip()], at(300), 1));
    }

    #[test]
    fn a_channel_lasts_ten_minutes_and_is_kept_apart_for_five_more() {
        use ChannelRefused::BoundOtherwise;
        let mut peers = Peers::default();
        peers.bind(0x4000, peer(1), at(0), 9).unwrap();
        assert_eq!(peers.bind(0x4000, peer(2), at(1), 9), Err(BoundOtherwise));
        assert_eq!(peers.bind(0x4001, peer(1), at(1), 9), Err(BoundOtherwise));
        assert_eq!(peers.peer_of(0x4000, at(599)), Some(peer(1)));
        assert_eq!(peers.channel_of(peer(1), at(599)), Some(0x4000));
        assert_eq!(peers.peer_of(0x4000, at(600)), None);
        assert_eq!(peers.channel_of(peer(1), at(600)), None);
        assert_eq!(peers.bind(0x4000, peer(2), at(899), 9), Err(BoundOtherwise));
        assert!(peers.holds(0x4000, at(899)) && !peers.holds(0x4000, at(900)));
        peers.forget_expired(at(899));
        assert_eq!(peers.bind(0x4000, peer(2), at(899), 9), Err(BoundOtherwise));
        assert_eq!(peers.bind(0x4000, peer(1), at(899), 9), Ok(()), "the same");
        assert_eq!(peers.bind(0x4001, peer(1), at(1_799 + 600), 9), Ok(()));
        assert_eq!(peers.peer_of(0x4000, at(1_799 + 600)), None);
    }

    #[test]
    fn many_channels_lead_to_their_peers_and_back() {
        let mut peers = Peers::default();
        for number in (0..500).rev() {
            peers
                .bind(0x4000 + number, peer(number ^ 0x155), at(0), 500)
                .unwrap();
        }
        assert_eq!(
            peers.bind(0x4FFF, peer(600), at(0), 500),
            Err(ChannelRefused::Full)
        );
        for number in 0..500 {
            assert_eq!(
                peers.peer_of(0x4000 + number, at(1)),
                Some(peer(number ^ 0x155))
            );
            assert_eq!(
                peers.channel_of(peer(number ^ 0x155), at(1)),
                Some(0x4000 + number)
            );
        }
    }
}

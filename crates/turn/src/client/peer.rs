//! Permissions and channels (RFC 8656 sections 9, 10 and 12).

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use super::transaction::Purpose;
use super::{Client, ClientEvent};
use crate::time::Time;

/// RFC 8656 section 12: channel numbers.
pub(super) const FIRST_CHANNEL: u16 = 0x4000;
const LAST_CHANNEL: u16 = 0x4FFF;
/// RFC 8656 section 9: a permission lasts 300 s. It is renewed a minute early.
const PERMISSION: Duration = Duration::from_secs(300);
const PERMISSION_RENEWAL: Duration = Duration::from_secs(240);
/// RFC 8656 section 12: a channel lasts 600 s, and its binding renews the permission, too.
const CHANNEL: Duration = Duration::from_secs(600);
const CHANNEL_RENEWAL: Duration = Duration::from_secs(240);
/// More peers than this are not kept; servers cap them as well.
const MAX_PEERS: usize = 256;

/// Whether a server relays to and from a peer's address (RFC 8656 section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// It was not asked.
    Unknown,
    /// It is asked, or will be as soon as there is an allocation.
    Asked,
    /// It does.
    Granted,
    /// It does not.
    Refused,
}

/// A peer that is sent to.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// Until when the server lets this peer's address through.
    pub(super) permitted_until: Option<Time>,
    /// When the permission is to be asked for, on behalf of all peers of this address.
    permit_at: Option<Time>,
    pub(super) channel: Option<Channel>,
    wants_channel: bool,
    refused: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub(super) number: u16,
    /// Until when it is bound; `None` while the binding has not been confirmed.
    pub(super) bound_until: Option<Time>,
    bind_at: Option<Time>,
}

impl Client {
    /// Lets a peer through: sending to it is possible at once, by Send indications. False if the server
    /// refused it before, or there are too many.
    pub fn permit(&mut self, now: Time, peer: SocketAddr) -> bool {
        if let Some(known) = self.peers.iter().find(|known| known.address == peer) {
            return !known.refused;
        }
        if self.peers.len() == MAX_PEERS {
            return false;
        }
        let same = self
            .peers
            .iter()
            .find(|known| known.address.ip() == peer.ip());
        let (permitted_until, refused) = same.map_or((None, false), |known| {
            (known.permitted_until, known.refused)
        });
        let permit_at = same.is_none().then_some(now);
        self.peers.push(Peer {
            address: peer,
            permitted_until,
            permit_at,
            channel: None,
            wants_channel: false,
            refused,
        });
        !refused
    }

    /// Wants a channel to a peer that matters: four bytes in front of its data instead of 36.
    pub fn bind(&mut self, now: Time, peer: SocketAddr) {
        self.permit(now, peer);
        let number = self.next_channel;
        let Some(peer) = self
            .peers
            .iter_mut()
            .find(|known| known.address == peer && !known.refused)
        else {
            return;
        };
        peer.wants_channel = true;
        if peer.channel.is_none() && number <= LAST_CHANNEL {
            peer.channel = Some(Channel {
                number,
                bound_until: None,
                bind_at: Some(now),
            });
            self.next_channel += 1;
        }
    }

    /// What the server has said about a peer.
    pub fn permission(&self, now: Time, peer: SocketAddr) -> Permission {
        match self.peers.iter().find(|known| known.address == peer) {
            None => Permission::Unknown,
            Some(known) if known.refused => Permission::Refused,
            Some(known) if known.permitted_until.is_some_and(|until| until > now) => {
                Permission::Granted
            }
            Some(_) => Permission::Asked,
        }
    }

    /// Whether the server has been asked to let this peer's address through. The answer need not be
    /// waited for: the server takes the request before whatever is sent after it.
    pub fn permission_asked(&self, now: Time, peer: SocketAddr) -> bool {
        let mut same = self
            .peers
            .iter()
            .filter(|known| known.address.ip() == peer.ip())
            .peekable();
        self.is_ready()
            && same.peek().is_some()
            && same.all(|known| known.permit_at.is_none_or(|at| at > now))
    }

    /// A peer is of no use any more: it is not renewed.
    pub fn forget(&mut self, peer: SocketAddr) {
        self.retain_peers(|known| known != peer);
    }

    /// Peers that are not wanted any more are of no use: they are not renewed.
    pub fn retain_peers(&mut self, mut wanted: impl FnMut(SocketAddr) -> bool) {
        let before = core::mem::take(&mut self.peers);
        let (kept, gone): (Vec<_>, Vec<_>) = before
            .into_iter()
            .partition(|known| known.refused || wanted(known.address));
        self.peers = kept;
        // One peer of an address asks on behalf of all of it; another inherits that.
        for (ip, at) in gone
            .iter()
            .filter_map(|peer| Some((peer.address.ip(), peer.permit_at?)))
        {
            if let Some(heir) = self.peers.iter_mut().find(|peer| peer.address.ip() == ip) {
                heir.permit_at = Some(heir.permit_at.map_or(at, |own| own.min(at)));
            }
        }
    }

    pub(super) fn fire_peers(&mut self, now: Time, buffer: &mut [u8]) -> Option<usize> {
        if !self.is_ready() {
            return None;
        }
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            let address = peer.address;
            if peer.permit_at.is_some_and(|at| at <= now) {
                peer.permit_at = None;
                let ip = address.ip();
                if !self.is_in_flight(|purpose| purpose == Purpose::Permit { ip })
                    && let Some(size) = self.begin(now, Purpose::Permit { ip }, buffer)
                {
                    return Some(size);
                }
            }
            let peer = &mut self.peers[index];
            if let Some(channel) = &mut peer.channel
                && channel.bind_at.is_some_and(|at| at <= now)
            {
                channel.bind_at = None;
                let channel = channel.number;
                if let Some(size) = self.begin(
                    now,
                    Purpose::Bind {
                        peer: address,
                        channel,
                    },
                    buffer,
                ) {
                    return Some(size);
                }
            }
        }
        None
    }

    pub(super) fn peers_deadline(&self) -> Option<Time> {
        if !self.is_ready() {
            return None;
        }
        let times = self.peers.iter().flat_map(|peer| {
            peer.permit_at
                .into_iter()
                .chain(peer.channel.and_then(|channel| channel.bind_at))
        });
        times.min()
    }

    pub(super) fn permitted(&mut self, now: Time, ip: IpAddr) {
        let mut first = true;
        for peer in self.peers.iter_mut().filter(|peer| peer.address.ip() == ip) {
            peer.permitted_until = Some(now + PERMISSION);
            // One asks for all.
            peer.permit_at = core::mem::take(&mut first).then_some(now + PERMISSION_RENEWAL);
        }
    }

    pub(super) fn permission_failed(&mut self, now: Time, ip: IpAddr, code: Option<u16>) {
        let mut told = Vec::new();
        for peer in self.peers.iter_mut().filter(|peer| peer.address.ip() == ip) {
            match code {
                // 403, 443 and the like: this server never relays there.
                Some(code) if code != 437 && (400..500).contains(&code) => {
                    peer.refused = true;
                    told.push(ClientEvent::PeerRefused {
                        peer: peer.address,
                        code,
                    });
                }
                _ => peer.permit_at = Some(now + Duration::from_secs(1)),
            }
        }
        self.events.extend(told);
        if code == Some(437) {
            self.lose(now);
        }
    }

    pub(super) fn permit_again(&mut self, now: Time, ip: IpAddr) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.address.ip() == ip) {
            peer.permit_at = Some(now);
        }
    }

    pub(super) fn channel_bound(&mut self, now: Time, peer: SocketAddr, number: u16) {
        let Some(known) = self.peers.iter_mut().find(|known| known.address == peer) else {
            return;
        };
        let Some(channel) = known
            .channel
            .as_mut()
            .filter(|channel| channel.number == number)
        else {
            return;
        };
        let first = channel.bound_until.is_none();
        channel.bound_until = Some(now + CHANNEL);
        channel.bind_at = Some(now + CHANNEL_RENEWAL);
        known.permitted_until = Some(now + PERMISSION);
        if first {
            self.events.push_back(ClientEvent::ChannelBound { peer });
        }
    }

    /// Data goes on by Send indications. RFC 8656 section 12: a number that may be bound at the server
    /// must not be bound to another peer, so this one is tried again.
    pub(super) fn channel_failed(&mut self, now: Time, peer: SocketAddr) {
        if let Some(channel) = self.channel_of(peer) {
            channel.bound_until = channel.bound_until.filter(|until| *until > now);
            channel.bind_at = Some(now + Duration::from_secs(30));
        }
    }

    pub(super) fn bind_again(&mut self, now: Time, peer: SocketAddr) {
        if let Some(channel) = self.channel_of(peer) {
            channel.bind_at = Some(now);
        }
    }

    /// A new allocation has no permissions and no channels.
    pub(super) fn forget_peers(&mut self) {
        self.next_channel = FIRST_CHANNEL;
        let mut asked: Vec<IpAddr> = Vec::new();
        for peer in &mut self.peers {
            let ip = peer.address.ip();
            peer.permitted_until = None;
            peer.refused = false;
            peer.permit_at = (!asked.contains(&ip)).then_some(Time::ZERO);
            asked.push(ip);
            peer.channel = None;
            if peer.wants_channel && self.next_channel <= LAST_CHANNEL {
                peer.channel = Some(Channel {
                    number: self.next_channel,
                    bound_until: None,
                    bind_at: Some(Time::ZERO),
                });
                self.next_channel += 1;
            }
        }
    }

    fn channel_of(&mut self, peer: SocketAddr) -> Option<&mut Channel> {
        self.peers
            .iter_mut()
            .find(|known| known.address == peer)?
            .channel
            .as_mut()
    }
}

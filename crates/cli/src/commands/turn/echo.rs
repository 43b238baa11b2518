//! Datagrams through a relay and back: does it carry data, and how fast?

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nilas_net::relay::{Relay, RelaySendError};
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two datagrams.
const INTERVAL: Duration = Duration::from_millis(10);
/// After the last one, what is not back by then is lost.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// A datagram: which one it is, and filling to the size of an audio packet.
const SIZE: usize = 120;

/// What came of it.
#[derive(Clone, Debug)]
pub(super) struct Echo {
    pub(super) sent: u32,
    pub(super) received: u32,
    /// Round-trip times of those that came back, sorted.
    pub(super) times: Vec<Duration>,
}

impl Echo {
    pub(super) fn median(&self) -> Option<Duration> {
        self.times.get(self.times.len() / 2).copied()
    }

    pub(super) fn slowest(&self) -> Option<Duration> {
        self.times.last().copied()
    }
}

/// From one allocation to another on the same server and back: the server is passed four times.
pub(super) async fn between(
    near: &mut Relay,
    far: &mut Relay,
    [from, to]: [SocketAddr; 2],
    count: u32,
) -> Result<Echo, RelaySendError> {
    near.bind(to).await?;
    far.bind(from).await?;
    let mut round = Round::new(count);
    loop {
        tokio::select! {
            datagram = near.recv() => match datagram {
                Ok((_, data)) => round.back(&data),
                Err(error) => return Err(RelaySendError::Ended(error)),
            },
            datagram = far.recv() => match datagram {
                // What cannot be sent now is lost, and counted so.
                Ok((peer, data)) if peer == from => drop(far.try_send(peer, &data)),
                Ok(_) => {}
                Err(error) => return Err(RelaySendError::Ended(error)),
            },
            () = round.tick() => if let Some(data) = round.next() {
                drop(near.try_send(to, &data));
            },
        }
        if round.is_over() {
            return Ok(round.echo());
        }
    }
}

/// From an allocation to a socket of this machine and back. The socket sends first, so that a NAT in front of
/// it knows the way back; the server is told to let this machine's address through.
pub(super) async fn with_socket(
    relay: &mut Relay,
    relayed: SocketAddr,
    own: IpAddr,
    count: u32,
) -> Result<Option<Echo>, RelaySendError> {
    let io = |error: std::io::Error| RelaySendError::Io(error.into());
    let any: SocketAddr = match relayed {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(io)?;
    socket.connect(relayed).await.map_err(io)?;
    // The permission is for the address, whatever the port.
    relay.permit(SocketAddr::new(own, 9)).await?;
    let mut seen = None;
    for _ in 0..5 {
        socket.send(b"nilas").await.map_err(io)?;
        if let Ok(Ok((peer, _))) = timeout(PATIENCE / 4, relay.recv()).await {
            seen = Some(peer);
            break;
        }
    }
    let Some(peer) = seen else {
        return Ok(None);
    };
    relay.bind(peer).await?;
    let mut round = Round::new(count);
    let mut buffer = [0; SIZE];
    loop {
        tokio::select! {
            datagram = relay.recv() => match datagram {
                Ok((_, data)) => round.back(&data),
                Err(error) => return Err(RelaySendError::Ended(error)),
            },
            received = socket.recv(&mut buffer) => if let Ok(length) = received {
                drop(socket.try_send(&buffer[..length]));
            },
            () = round.tick() => if let Some(data) = round.next() {
                drop(relay.try_send(peer, &data));
            },
        }
        if round.is_over() {
            return Ok(Some(round.echo()));
        }
    }
}

/// The datagrams of one echo.
struct Round {
    count: u32,
    sent_at: Vec<Instant>,
    back: Vec<Option<Duration>>,
    ticks: tokio::time::Interval,
}

impl Round {
    fn new(count: u32) -> Self {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            count,
            sent_at: Vec::new(),
            back: vec![None; count as usize],
            ticks,
        }
    }

    async fn tick(&mut self) {
        self.ticks.tick().await;
    }

    /// The next datagram to send, if there is one.
    fn next(&mut self) -> Option<[u8; SIZE]> {
        let number = u32::try_from(self.sent_at.len()).ok()?;
        if number == self.count {
            return None;
        }
        self.sent_at.push(Instant::now());
        let mut data = [0; SIZE];
        data[..4].copy_from_slice(&number.to_be_bytes());
        Some(data)
    }

    /// One came back. Copies and strangers do not count.
    fn back(&mut self, data: &[u8]) {
        let Some(number) = data.first_chunk().map(|number| u32::from_be_bytes(*number)) else {
            return;
        };
        let index = number as usize;
        if let (SIZE, Some(sent)) = (data.len(), self.sent_at.get(index)) {
            self.back[index].get_or_insert_with(|| sent.elapsed());
        }
    }

    fn is_over(&self) -> bool {
        let all_sent = self.sent_at.len() == self.count as usize;
        let late = self
            .sent_at
            .last()
            .is_some_and(|last| last.elapsed() > PATIENCE);
        all_sent && (late || self.back.iter().all(Option::is_some))
    }

    fn echo(&self) -> Echo {
        let mut times: Vec<_> = self.back.iter().flatten().copied().collect();
        times.sort_unstable();
        Echo {
            sent: self.count,
            received: u32::try_from(times.len()).unwrap_or(u32::MAX),
            times,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn copies_and_strangers_do_not_count() {
        let mut round = Round::new(2);
        let first = round.next().expect("there are two");
        round.back(b"stranger");
        round.back(&[0xFF; SIZE]);
        round.back(&first);
        round.back(&first);
        assert!(!round.is_over());
        let second = round.next().expect("there are two");
        assert_eq!(round.next(), None);
        round.back(&second);
        assert!(round.is_over());
        let echo = round.echo();
        assert_eq!((echo.sent, echo.received, echo.times.len()), (2, 2, 2));
        assert_eq!(echo.slowest(), echo.median());
    }
}

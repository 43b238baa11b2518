//! A port that the network's gateway forwards to a socket of this machine: asked for, kept, and given back.
//!
//! `ask` speaks with the gateway, in whichever protocol it knows; `gateway` finds it. Here is when it is asked: at
//! once, before each mapping ends, and again where it has not answered.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use nilas_ice::PortMappingError;
use tokio::time::{Instant, sleep_until, timeout};

use self::ask::Granted;

mod ask;
mod gateway;

/// How long a mapping is asked for. RFC 6887 section 15 leaves it to the client, and RFC 6886 section 3.3 recommends two hours.
/// This is less: a gateway that was switched off and on has forgotten its mappings, which shows when they are renewed.
const LIFETIME: Duration = Duration::from_secs(1_200);
/// What a gateway may say instead.
const LIFETIMES: [Duration; 2] = [Duration::from_secs(120), Duration::from_secs(86_400)];
/// RFC 6887 section 11.2.1: renewals are not sent closer together.
const CLOSEST_RENEWALS: Duration = Duration::from_secs(4);
/// Where no port is forwarded, the gateway is asked again after so long, and each time after twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(30);
/// RFC 6887 section 8.1.1: MRT, and no longer than that.
const LAST_RETRY: Duration = Duration::from_secs(1_024);
/// Whoever ends does not wait longer for the gateway: the mapping ends by itself.
const GIVING_BACK: Duration = Duration::from_secs(2);

/// A port of the network's gateway that is to be forwarded to a UDP socket of this machine.
///
/// The gateway is asked by PCP (RFC 6887), by NAT-PMP (RFC 6886) where it says that it knows no PCP, and by UPnP-IGD. It is
/// found by the system's routes, which are read on Linux; elsewhere only UPnP is spoken, which finds it by multicast.
#[derive(Debug)]
pub struct PortMapping {
    internal: SocketAddrV4,
    granted: Option<Granted>,
    /// When the mapping ends.
    ends: Instant,
    /// When the gateway is asked next.
    due: Instant,
    retry: Duration,
    told: Option<Result<SocketAddr, PortMappingError>>,
}

impl PortMapping {
    /// For a socket at this address. Nothing is asked before [`changed`](Self::changed). Must be called within a tokio runtime.
    pub fn new(internal: SocketAddrV4) -> Self {
        let now = Instant::now();
        Self {
            internal,
            granted: None,
            ends: now,
            due: now,
            retry: FIRST_RETRY,
            told: None,
        }
    }

    /// Waits until the gateway has something new to say, and gives it: the address from which it forwards, or why it does
    /// not. The first answer takes five seconds at most. The mapping is renewed meanwhile. May be cancelled.
    pub async fn changed(&mut self) -> Result<SocketAddr, PortMappingError> {
        loop {
            sleep_until(self.due).await;
            let asked = ask::ask(self.internal, self.granted.as_ref(), LIFETIME).await;
            let Some(news) = self.take(asked, Instant::now(), jitter()) else {
                continue;
            };
            return news;
        }
    }

    /// Gives the port back. That takes two seconds at most.
    pub async fn end(self) {
        if let Some(granted) = self.granted {
            let given_back = timeout(GIVING_BACK, granted.give_back()).await;
            tracing::debug!(internal = %self.internal, in_time = given_back.is_ok(), "port mapping given back");
        }
    }

    /// Takes in what the gateway said, and when it is to be asked again: what is new to whoever waits, if anything.
    fn take(
        &mut self,
        asked: Result<Granted, PortMappingError>,
        now: Instant,
        jitter: f64,
    ) -> Option<Result<SocketAddr, PortMappingError>> {
        let told = match asked {
            Ok(granted) => {
                let lifetime = granted.lifetime().clamp(LIFETIMES[0], LIFETIMES[1]);
                // RFC 6887 section 11.2.1: at a random time between 1/2 and 5/8 of it.
                self.due = now + lifetime.mul_f64(0.5 + 0.125 * jitter);
                self.ends = now + lifetime;
                self.retry = FIRST_RETRY;
                let external = granted.external();
                self.granted = Some(granted);
                Ok(external)
            }
            // The mapping stands as yet.
            Err(_) if self.granted.is_some() && now + CLOSEST_RENEWALS < self.ends => {
                let half = self.ends.duration_since(now) / 2;
                self.due = now + half.max(CLOSEST_RENEWALS);
                return None;
            }
            Err(error) => {
                self.granted = None;
                self.due = now + self.retry.mul_f64(1.0 + 0.1 * jitter);
                self.retry = (2 * self.retry).min(LAST_RETRY);
                Err(error)
            }
        };
        (self.told.replace(told) != Some(told)).then_some(told)
    }
}

/// From 0 to 1, so that not all machines of a network ask at once.
fn jitter() -> f64 {
    // Without randomness they do.
    let random = getrandom::u32().unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> PortMapping {
        PortMapping::new("10.0.0.1:5000".parse().expect("an address"))
    }

    fn granted(external: &str, seconds: u64) -> Granted {
        let external = external.parse().expect("an address");
        Granted::for_tests(external, Duration::from_secs(seconds))
    }

    fn external(text: &str) -> Option<Result<SocketAddr, PortMappingError>> {
        Some(Ok(text.parse().expect("an address")))
    }

    #[tokio::test]
    async fn a_mapping_is_renewed_before_it_ends_and_only_what_is_new_is_told() {
        let mut mapping = mapping();
        let now = Instant::now();
        let after = |mapping: &PortMapping, now: Instant| (mapping.due - now).as_secs();
        assert_eq!(
            mapping.take(Ok(granted("192.0.2.1:7", 1_200)), now, 0.0),
            external("192.0.2.1:7")
        );
        assert_eq!(after(&mapping, now), 600);
        let now = mapping.due;
        let same = mapping.take(Ok(granted("192.0.2.1:7", 1_200)), now, 1.0);
        assert_eq!(same, None);
        assert_eq!(after(&mapping, now), 750);
        let now = mapping.due;
        let other = mapping.take(Ok(granted("192.0.2.1:8", 1_200)), now, 1.0);
        assert_eq!(other, external("192.0.2.1:8"));
    }

    #[tokio::test]
    async fn a_renewal_that_fails_is_tried_again_until_the_mapping_has_ended() {
        let mut mapping = mapping();
        let mut now = Instant::now();
        let _ = mapping.take(Ok(granted("192.0.2.1:7", 1_200)), now, 0.0);
        let mut waits = Vec::new();
        let lost = loop {
            now = mapping.due;
            let failed = mapping.take(Err(PortMappingError::NoAnswer), now, 0.0);
            waits.push((mapping.due - now).as_secs());
            if failed.is_some() {
                break failed;
            }
        };
        assert_eq!(lost, Some(Err(PortMappingError::NoAnswer)));
        assert_eq!(waits, [300, 150, 75, 37, 18, 9, 4, 4, 30]);
        // It is asked for as if it were the first, less and less often.
        assert!(mapping.granted.is_none());
        let mut waits = Vec::new();
        for _ in 0..7 {
            now = mapping.due;
            let again = mapping.take(Err(PortMappingError::NoAnswer), now, 0.0);
            assert_eq!(again, None);
            waits.push((mapping.due - now).as_secs());
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1_024, 1_024]);
        let back = mapping.take(Ok(granted("192.0.2.1:7", 1_200)), now, 0.0);
        assert_eq!(back, external("192.0.2.1:7"));
        assert_eq!(mapping.retry, FIRST_RETRY);
    }

    #[tokio::test]
    async fn a_lifetime_that_makes_no_sense_neither_floods_the_gateway_nor_lasts_for_ever() {
        let mut mapping = mapping();
        let now = Instant::now();
        for (seconds, renewed) in [(0, 60), (1, 60), (u64::from(u32::MAX), 43_200)] {
            let _ = mapping.take(Ok(granted("192.0.2.1:7", seconds)), now, 0.0);
            assert_eq!((mapping.due - now).as_secs(), renewed, "{seconds}");
        }
    }
}

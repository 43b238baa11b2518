//! A port that the network's gateway forwards to a socket of this machine: asked for, kept, and given back.
//!
//! `ask` speaks with the gateway, in whichever protocol it knows; `gateway` finds it; `gateways` knows when one has
//! forgotten what it gave, which its clock shows (`epoch`). Here is when it is asked: at once, before each mapping ends,
//! when the gateway has forgotten it, and again where it has not answered.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use nilas_ice::PortMappingError;
use tokio::time::{Instant, sleep_until, timeout};

use self::ask::{Granted, Refusal};
pub use self::gateways::Gateways;

mod ask;
mod epoch;
mod gateway;
mod gateways;

/// How long a mapping is asked for. RFC 6887 section 15 leaves it to the client, and RFC 6886 section 3.3 recommends two hours.
/// This is less: a gateway that was switched off and on has forgotten its mappings, and where it does not announce that, it
/// shows when they are renewed.
const LIFETIME: Duration = Duration::from_secs(1_200);
/// RFC 6887 section 15: what a gateway says that is longer is not believed.
const LONGEST_LIFETIME: Duration = Duration::from_secs(86_400);
/// RFC 6886 section 3.7 and RFC 6887 section 14.1.3: not all machines ask a gateway at once that has lost its mappings.
const SPREAD: Duration = Duration::from_secs(5);
/// RFC 6887 section 11.2.1: renewals are not sent closer together.
const CLOSEST_RENEWALS: Duration = Duration::from_secs(4);
/// Where no port is forwarded, the gateway is asked again after so long, and each time after twice as long; and not before
/// the time that it said.
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
    gateways: Gateways,
    granted: Option<Granted>,
    /// Whether the gateway has lost the mapping that it has granted.
    lost: bool,
    /// What it has refused, and until when it says so.
    refused: Option<(PortMappingError, Instant)>,
    /// When the mapping ends.
    ends: Instant,
    /// When the gateway was asked last, and when it is asked next.
    asked: Option<Instant>,
    due: Instant,
    retry: Duration,
    told: Option<Result<SocketAddr, PortMappingError>>,
}

impl PortMapping {
    /// For a socket at this address. Nothing is asked before [`changed`](Self::changed). Must be called within a tokio runtime.
    /// All mappings of a program should share what is known of the gateways.
    pub fn new(internal: SocketAddrV4, gateways: &Gateways) -> Self {
        let now = Instant::now();
        Self {
            internal,
            gateways: gateways.clone(),
            granted: None,
            lost: false,
            refused: None,
            ends: now,
            asked: None,
            due: now,
            retry: FIRST_RETRY,
            told: None,
        }
    }

    /// Waits until the gateway has something new to say, and gives it: the address from which it forwards, or why it does
    /// not. The first answer takes five seconds at most. The mapping is renewed meanwhile. May be cancelled.
    pub async fn changed(&mut self) -> Result<SocketAddr, PortMappingError> {
        loop {
            let origin = self.granted.as_ref().and_then(Granted::origin);
            tokio::select! {
                () = sleep_until(self.due) => {}
                () = lost(&self.gateways, origin), if !self.lost => {
                    self.make_again(Instant::now(), jitter());
                    continue;
                }
            }
            let answer = match self.refusal(Instant::now()) {
                Some(refusal) => Err(refusal),
                None => {
                    self.asked = Some(Instant::now());
                    ask::ask(&self.gateways, self.internal, self.granted.as_ref()).await
                }
            };
            let Some(news) = self.take(answer, Instant::now(), jitter()) else {
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

    /// The gateway has lost the mapping, which is asked for again soon.
    fn make_again(&mut self, now: Instant, jitter: f64) {
        self.lost = true;
        let soon = now + SPREAD.mul_f64(jitter);
        let earliest = self.asked.map_or(soon, |asked| asked + CLOSEST_RENEWALS);
        self.due = self.due.min(soon.max(earliest));
    }

    /// RFC 6887 section 11.4: what the gateway would say now, if it has said so.
    fn refusal(&self, now: Instant) -> Option<Refusal> {
        let (error, until) = self.refused.filter(|(_, until)| now < *until)?;
        let lasts = until - now;
        Some(Refusal { error, lasts })
    }

    /// Takes in what the gateway said, and when it is to be asked again: what is new to whoever waits, if anything.
    fn take(
        &mut self,
        answer: Result<Granted, Refusal>,
        now: Instant,
        jitter: f64,
    ) -> Option<Result<SocketAddr, PortMappingError>> {
        let told = match answer {
            Ok(granted) => {
                let lifetime = granted.lifetime().min(LONGEST_LIFETIME);
                // RFC 6887 section 11.2.1: at a random time between 1/2 and 5/8 of it.
                let renewal = lifetime.mul_f64(0.5 + 0.125 * jitter);
                self.due = now + renewal.max(CLOSEST_RENEWALS);
                self.ends = now + lifetime;
                self.retry = FIRST_RETRY;
                (self.lost, self.refused) = (false, None);
                let external = granted.external();
                self.granted = Some(granted);
                Ok(external)
            }
            // The mapping stands as yet.
            Err(refusal) if self.granted.is_some() && now + CLOSEST_RENEWALS < self.ends => {
                let mut wait = self.ends.duration_since(now) / 2;
                if self.lost {
                    wait = wait.min(self.retry);
                    self.retry = (2 * self.retry).min(LAST_RETRY);
                }
                self.refused = Some((refusal.error, now + refusal.lasts));
                let due = now + wait.max(CLOSEST_RENEWALS).max(refusal.lasts);
                self.due = due.min(self.ends);
                return None;
            }
            Err(refusal) => {
                self.granted = None;
                self.lost = false;
                self.refused = Some((refusal.error, now + refusal.lasts));
                let wait = self.retry.mul_f64(1.0 + 0.1 * jitter);
                self.due = now + wait.max(refusal.lasts);
                self.retry = (2 * self.retry).min(LAST_RETRY);
                Err(refusal.error)
            }
        };
        (self.told.replace(told) != Some(told)).then_some(told)
    }
}

/// Waits until the gateway has lost what it granted, if it can be known.
async fn lost(gateways: &Gateways, origin: Option<(Ipv4Addr, u64)>) {
    match origin {
        Some((gateway, losses)) => gateways.lost(gateway, losses).await,
        None => std::future::pending().await,
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
        let internal = "10.0.0.1:5000".parse().expect("an address");
        PortMapping::new(internal, &Gateways::default())
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
            let failed = mapping.take(Err(PortMappingError::NoAnswer.into()), now, 0.0);
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
            let again = mapping.take(Err(PortMappingError::NoAnswer.into()), now, 0.0);
            assert_eq!(again, None);
            waits.push((mapping.due - now).as_secs());
        }
        assert_eq!(waits, [60, 120, 240, 480, 960, 1_024, 1_024]);
        let back = mapping.take(Ok(granted("192.0.2.1:7", 1_200)), now, 0.0);
        assert_eq!(back, external("192.0.2.1:7"));
        assert_eq!(mapping.retry, FIRST_RETRY);
    }

    #[tokio::test]
    async fn a_gateway_is_not_asked_again_as_long_as_it_says_that_it_refuses() {
        let mut mapping = mapping();
        let mut now = Instant::now();
        let error = PortMappingError::Refused;
        let refusal = |seconds| Refusal {
            error,
            lasts: Duration::from_secs(seconds),
        };
        let told = mapping.take(Err(refusal(1_800)), now, 0.0);
        assert_eq!(
            (told, mapping.due - now),
            (Some(Err(error)), refusal(1_800).lasts)
        );
        assert_eq!(mapping.refusal(mapping.due), None);
        // A renewal that is refused: what was granted stands until it ends, and then the refusal is told.
        now = mapping.due;
        let _ = mapping.take(Ok(granted("192.0.2.1:7", 1_200)), now, 0.0);
        assert_eq!(mapping.refusal(now), None);
        now = mapping.due;
        assert_eq!(mapping.take(Err(refusal(1_800)), now, 0.0), None);
        assert_eq!(
            (mapping.due, mapping.due - now),
            (mapping.ends, refusal(600).lasts)
        );
        now = mapping.due;
        let refused = mapping.refusal(now).expect("it still says so");
        assert_eq!(mapping.take(Err(refused), now, 0.0), Some(Err(error)));
        assert_eq!(mapping.due - now, refusal(1_200).lasts);
        assert_eq!(mapping.refusal(mapping.due), None);
    }

    #[tokio::test]
    async fn a_mapping_that_the_gateway_has_lost_is_made_again_soon() {
        let mut mapping = mapping();
        let begun = Instant::now();
        let after = |mapping: &PortMapping| (mapping.due - begun).as_secs();
        mapping.asked = Some(begun);
        let _ = mapping.take(Ok(granted("192.0.2.1:7", 1_200)), begun, 0.0);
        // RFC 6887 section 11.2.1: not within four seconds.
        mapping.make_again(begun, 0.5);
        assert_eq!(after(&mapping), 4);
        // It may not answer yet. That is no reason to wait for half of the lifetime.
        let now = mapping.due;
        let failed = mapping.take(Err(PortMappingError::NoAnswer.into()), now, 0.0);
        assert_eq!((failed, after(&mapping)), (None, 34));
        let now = mapping.due;
        let failed = mapping.take(Err(PortMappingError::NoAnswer.into()), now, 0.0);
        assert_eq!((failed, after(&mapping)), (None, 94));
        let now = mapping.due;
        let again = mapping.take(Ok(granted("192.0.2.1:7", 1_200)), now, 0.0);
        assert_eq!((again, mapping.lost, after(&mapping)), (None, false, 694));
        // Whatever is due earlier stays so.
        let now = begun + Duration::from_secs(692);
        mapping.make_again(now, 1.0);
        assert_eq!(after(&mapping), 694);
        let mut mapping = self::mapping();
        let _ = mapping.take(Ok(granted("192.0.2.1:7", 1_200)), begun, 0.0);
        mapping.make_again(begun + Duration::from_secs(60), 1.0);
        assert_eq!(after(&mapping), 65);
    }

    #[tokio::test]
    async fn a_lifetime_that_makes_no_sense_neither_floods_the_gateway_nor_lasts_for_ever() {
        let mut mapping = mapping();
        let now = Instant::now();
        for (seconds, renewed) in [(1, 4), (30, 15), (u64::from(u32::MAX), 43_200)] {
            let _ = mapping.take(Ok(granted("192.0.2.1:7", seconds)), now, 0.0);
            assert_eq!((mapping.due - now).as_secs(), renewed, "{seconds}");
        }
    }
}

//! What a wire does to what crosses it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The settings of one direction of a wire. Both directions start alike;
/// `Lab::set_wire` changes one of them while packets cross.
///
/// Each uplink has a wire of its own, so `delay` of 20 ms means 40 ms from one peer to the other.
/// Everything random comes from `seed`: the same frames at the same instants meet the same fate.
///
/// ```
/// let wire: nilas_lab::Wire = "delay=20,jitter=5,loss=3".parse().unwrap();
/// assert_eq!(wire.delay, std::time::Duration::from_millis(20));
/// assert!("delay=-1".parse::<nilas_lab::Wire>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[allow(
    clippy::exhaustive_structs,
    reason = "callers write it out with ..Wire::default()"
)]
pub struct Wire {
    /// How long every frame takes, one way.
    pub delay: Duration,
    /// Each frame takes up to this much more or less, evenly spread.
    pub jitter: Duration,
    /// Frames leave in the order they came, so that jitter stretches gaps and does not reorder.
    pub keep_order: bool,
    /// Frames lost, independently of each other, in per cent.
    pub loss_percent: f64,
    /// Frames that leave twice, in per cent.
    pub duplicate_percent: f64,
    /// Frames that skip the delay and overtake the others, in per cent.
    pub reorder_percent: f64,
    /// Loss in bursts, besides `loss_percent`.
    pub burst: Option<Burst>,
    /// How fast frames leave, in kbit/s; `None`: at once.
    pub rate_kbit: Option<u32>,
    /// With a rate: what waits at most, in bytes. What comes beyond is lost.
    pub queue_bytes: u32,
    /// Larger IP packets are lost without an ICMP error; `None`: the interfaces' 1500.
    pub mtu: Option<u16>,
    /// What all chance comes from.
    pub seed: u64,
}

/// The Gilbert-Elliott model: a good state without loss and a bad state with some.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "the model has these three")]
pub struct Burst {
    /// Frames at which the good state ends, in per cent.
    pub enter_percent: f64,
    /// Frames at which the bad state ends, in per cent.
    pub leave_percent: f64,
    /// Frames lost in the bad state, in per cent.
    pub loss_percent: f64,
}

/// Which way frames cross a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a wire has two ends")]
pub enum Direction {
    /// From the core towards the peer.
    Down,
    /// From the peer towards the core.
    Up,
}

/// What happened to the frames of one direction of a wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WireStats {
    /// Frames that came.
    pub entered: u64,
    /// Frames that left, duplicates included.
    pub left: u64,
    /// Frames lost by chance.
    pub lost: u64,
    /// Frames larger than the wire's MTU.
    pub too_large: u64,
    /// Frames that found the queue full.
    pub overflowed: u64,
    /// Frames that left twice.
    pub duplicated: u64,
}

impl Default for Wire {
    /// A wire that changes nothing.
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            keep_order: true,
            loss_percent: 0.0,
            duplicate_percent: 0.0,
            reorder_percent: 0.0,
            burst: None,
            rate_kbit: None,
            queue_bytes: 150_000,
            mtu: None,
            seed: 1,
        }
    }
}

/// Longer delays are a mistake in the unit more likely than a wish.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

impl Wire {
    /// Whether every value makes sense; building asks it again.
    ///
    /// # Errors
    /// The first value that does not.
    pub fn check(&self) -> Result<(), WireError> {
        if self.delay > LONGEST_DELAY {
            return Err(WireError::new("delay", "at most 60 seconds"));
        }
        if self.jitter > LONGEST_DELAY {
            return Err(WireError::new("jitter", "at most 60 seconds"));
        }
        let burst = self.burst.unwrap_or(Burst {
            enter_percent: 0.0,
            leave_percent: 0.0,
            loss_percent: 0.0,
        });
        for (key, percent) in [
            ("loss", self.loss_percent),
            ("dup", self.duplicate_percent),
            ("reorder", self.reorder_percent),
            ("burst", burst.enter_percent),
            ("burst", burst.leave_percent),
            ("burst", burst.loss_percent),
        ] {
            if !(0.0..=100.0).contains(&percent) {
                return Err(WireError::new(key, "a percentage from 0 to 100"));
            }
        }
        if self.rate_kbit == Some(0) {
            return Err(WireError::new("rate", "at least 1 kbit/s"));
        }
        if self.mtu.is_some_and(|mtu| mtu < 68) {
            return Err(WireError::new("mtu", "at least 68 bytes"));
        }
        Ok(())
    }
}

impl FromStr for Wire {
    type Err = WireError;

    /// `KEY=VALUE` joined by commas; the keys are delay and jitter (milliseconds), order (0 or 1), loss,
    /// dup and reorder (per cent), burst (`ENTER/LEAVE/LOSS`, per cent), rate (kbit/s), queue and mtu (bytes), seed.
    fn from_str(text: &str) -> Result<Self, WireError> {
        let mut wire = Self::default();
        for setting in text.split(',').filter(|setting| !setting.is_empty()) {
            let (key, value) = setting
                .split_once('=')
                .ok_or_else(|| WireError::new(setting, "KEY=VALUE"))?;
            match key {
                "delay" => wire.delay = milliseconds(key, value)?,
                "jitter" => wire.jitter = milliseconds(key, value)?,
                "order" => wire.keep_order = number::<u8>(key, value, "0 or 1")? != 0,
                "loss" => wire.loss_percent = number(key, value, "a percentage")?,
                "dup" => wire.duplicate_percent = number(key, value, "a percentage")?,
                "reorder" => wire.reorder_percent = number(key, value, "a percentage")?,
                "burst" => wire.burst = Some(burst(key, value)?),
                "rate" => wire.rate_kbit = Some(number(key, value, "kbit/s")?),
                "queue" => wire.queue_bytes = number(key, value, "bytes")?,
                "mtu" => wire.mtu = Some(number(key, value, "bytes")?),
                "seed" => wire.seed = number(key, value, "a whole number")?,
                _ => {
                    return Err(WireError::new(
                        key,
                        "no such key; there are delay, jitter, order, loss, dup, reorder, burst, rate, queue, mtu, seed",
                    ));
                }
            }
        }
        wire.check()?;
        Ok(wire)
    }
}

fn number<T: FromStr>(key: &str, value: &str, wanted: &'static str) -> Result<T, WireError> {
    value.parse().map_err(|_| WireError::new(key, wanted))
}

fn milliseconds(key: &str, value: &str) -> Result<Duration, WireError> {
    let value: f64 = number(key, value, "milliseconds")?;
    Duration::try_from_secs_f64(value / 1000.0)
        .map_err(|_| WireError::new(key, "milliseconds, none below zero"))
}

fn burst(key: &str, value: &str) -> Result<Burst, WireError> {
    let wanted = "three percentages, ENTER/LEAVE/LOSS";
    let parts: Vec<&str> = value.split('/').collect();
    let &[enter, leave, loss] = parts.as_slice() else {
        return Err(WireError::new(key, wanted));
    };
    Ok(Burst {
        enter_percent: number(key, enter, wanted)?,
        leave_percent: number(key, leave, wanted)?,
        loss_percent: number(key, loss, wanted)?,
    })
}

/// A setting of a wire that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireError {
    setting: String,
    wanted: &'static str,
}

impl WireError {
    fn new(setting: &str, wanted: &'static str) -> Self {
        Self {
            setting: setting.to_owned(),
            wanted,
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wire setting `{}`: {}", self.setting, self.wanted)
    }
}

impl std::error::Error for WireError {}

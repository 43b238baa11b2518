//! What may happen between two agents, and what is on its way between them.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::str::FromStr;

use nilas_stun::{Class, Message};

/// Something that happens. Datagrams are named by their place among those on their way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// `d2`: a datagram arrives.
    Deliver(u8),
    /// `x2`: it is lost.
    Lose(u8),
    /// `c2`: it arrives, and once more later.
    Copy(u8),
    /// `s0`: signaling brings the next letter of this side to the other.
    Signal(u8),
    /// `w`: time passes until somebody has something to do; whatever is on its way is late.
    Wait,
    /// `r0`: this side restarts.
    Restart(u8),
    /// `t0`: the network that this side's path goes by costs more from now on than its others.
    Tax(u8),
    /// `u0`: the network that this side's path goes by is gone.
    Unplug(u8),
    /// `p0`: a network that this side did not have is there.
    Plug(u8),
}

/// How often something may yet happen.
#[derive(Clone, Copy, Hash)]
pub(crate) struct Rations {
    pub(crate) losses: u8,
    pub(crate) copies: u8,
    /// Of each side, as all that follow.
    pub(crate) restarts: [u8; 2],
    pub(crate) taxes: [u8; 2],
    pub(crate) unplugs: [u8; 2],
    pub(crate) plugs: [u8; 2],
}

impl Rations {
    pub(crate) fn touch_networks(&self) -> bool {
        [self.taxes, self.unplugs, self.plugs] != [[0; 2]; 3]
    }
}

/// A datagram on its way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Datagram {
    pub(crate) to_side: usize,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Rc<[u8]>,
}

impl Datagram {
    pub(crate) fn nominates(&self) -> bool {
        Message::parse(&self.bytes).is_ok_and(|message| message.use_candidate())
    }
}

impl fmt::Display for Datagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from, to, bytes, ..
        } = self;
        write!(f, "{from} to {to}: ")?;
        let Ok(message) = Message::parse(bytes) else {
            return write!(f, "{} bytes", bytes.len());
        };
        match message.class() {
            Class::Request => {
                f.write_str(match message.ice_controlling() {
                    Ok(Some(_)) => "check, controlling",
                    _ => "check, controlled",
                })?;
                match (message.use_candidate(), message.nomination()) {
                    (true, Ok(Some(value))) => write!(f, ", nomination {value}"),
                    (true, _) => f.write_str(", nominates"),
                    (false, _) => Ok(()),
                }
            }
            Class::ErrorResponse => match message.error_code() {
                Ok(Some(error)) => write!(f, "error {}", error.code()),
                _ => f.write_str("error"),
            },
            class => write!(f, "{class:?}"),
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(index) => write!(f, "d{index}"),
            Self::Lose(index) => write!(f, "x{index}"),
            Self::Copy(index) => write!(f, "c{index}"),
            Self::Signal(side) => write!(f, "s{side}"),
            Self::Wait => f.write_str("w"),
            Self::Restart(side) => write!(f, "r{side}"),
            Self::Tax(side) => write!(f, "t{side}"),
            Self::Unplug(side) => write!(f, "u{side}"),
            Self::Plug(side) => write!(f, "p{side}"),
        }
    }
}

impl FromStr for Move {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let unknown = || format!("{word} is no move");
        let (kind, number) = word.split_at_checked(1).ok_or_else(unknown)?;
        if (kind, number) == ("w", "") {
            return Ok(Self::Wait);
        }
        let number: u8 = number.parse().map_err(|_| unknown())?;
        Ok(match kind {
            "d" => Self::Deliver(number),
            "x" => Self::Lose(number),
            "c" => Self::Copy(number),
            "s" => Self::Signal(number),
            "r" => Self::Restart(number),
            "t" => Self::Tax(number),
            "u" => Self::Unplug(number),
            "p" => Self::Plug(number),
            _ => return Err(unknown()),
        })
    }
}

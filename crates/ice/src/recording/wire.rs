//! How values stand in a recording: numbers of variable length, lengths before what is long, a tag before
//! what may be one of several things.
//!
//! Reading believes nothing: it allocates no more than it has read, and ends with an error, not in a panic.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::time::Duration;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use nilas_turn::Time;

/// Something that can stand in a recording.
pub(super) trait Wire: Sized {
    fn write(&self, out: &mut Writer);
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed>;
}

/// Why a value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The bytes end too early.
    Short,
    /// They mean nothing.
    Wrong,
}

/// Writes one entry after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
    /// The time of the entry, which other times are told from.
    pub(super) now: Time,
    /// Those that have been written, with their numbers.
    addresses: BTreeMap<SocketAddr, u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
    pub(super) now: Time,
    addresses: Vec<SocketAddr>,
}

impl Writer {
    pub(super) fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    pub(super) fn blob(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            length: bytes.len(),
            now: Time::ZERO,
            addresses: Vec::new(),
        }
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) const fn offset(&self) -> usize {
        self.length - self.rest.len()
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Malformed::Wrong);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Wrong)
    }

    pub(super) fn blob(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.number()?.try_into().map_err(|_| Malformed::Wrong)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        core::str::from_utf8(self.blob()?).map_err(|_| Malformed::Wrong)
    }
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Wire for $kind {
            fn write(&self, out: &mut Writer) {
                out.number(u64::try_from(*self).unwrap_or(u64::MAX));
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                from.number()?.try_into().map_err(|_| Malformed::Wrong)
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64, usize);

macro_rules! texts {
    ($($kind:ty),*) => {$(
        impl Wire for $kind {
            fn write(&self, out: &mut Writer) {
                out.blob(self.as_bytes());
            }

            fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok(Self::from(from.text()?.to_owned()))
            }
        }
    )*};
}

texts!(String, Box<str>, Arc<str>, Cow<'static, str>);

impl Wire for bool {
    fn write(&self, out: &mut Writer) {
        out.bytes.push((*self).into());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match from.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Wrong),
        }
    }
}

impl Wire for () {
    fn write(&self, _: &mut Writer) {}

    fn read(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(())
    }
}

impl Wire for Duration {
    fn write(&self, out: &mut Writer) {
        out.number(u64::try_from(self.as_nanos()).unwrap_or(u64::MAX));
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        from.number().map(Self::from_nanos)
    }
}

impl Wire for Time {
    /// As the distance from the entry's time, forwards in the even numbers and backwards in the odd.
    fn write(&self, out: &mut Writer) {
        let distance = self
            .as_nanos()
            .wrapping_sub(out.now.as_nanos())
            .cast_signed();
        out.number((distance << 1 ^ distance >> 63).cast_unsigned());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let number = from.number()?;
        let distance = number >> 1 ^ (number & 1).wrapping_neg();
        Ok(Self::from_nanos(from.now.as_nanos().wrapping_add(distance)))
    }
}

impl Wire for IpAddr {
    fn write(&self, out: &mut Writer) {
        match self {
            Self::V4(v4) => {
                out.bytes.push(4);
                out.bytes.extend_from_slice(&v4.octets());
            }
            Self::V6(v6) => {
                out.bytes.push(6);
                out.bytes.extend_from_slice(&v6.octets());
            }
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let wrong = |_| Malformed::Wrong;
        match from.byte()? {
            4 => Ok(Ipv4Addr::from(<[u8; 4]>::try_from(from.take(4)?).map_err(wrong)?).into()),
            6 => Ok(Ipv6Addr::from(<[u8; 16]>::try_from(from.take(16)?).map_err(wrong)?).into()),
            _ => Err(Malformed::Wrong),
        }
    }
}

impl Wire for SocketAddr {
    /// The first time in full, after a 0; then by the number of its first time, from 1.
    fn write(&self, out: &mut Writer) {
        if let Some(number) = out.addresses.get(self) {
            return out.number(u64::from(*number));
        }
        let number = out.addresses.len() as u32 + 1;
        out.addresses.insert(*self, number);
        out.number(0);
        self.ip().write(out);
        self.port().write(out);
        if let Self::V6(v6) = self {
            v6.flowinfo().write(out);
            v6.scope_id().write(out);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let number = usize::read(from)?;
        if let Some(index) = number.checked_sub(1) {
            return from.addresses.get(index).copied().ok_or(Malformed::Wrong);
        }
        let (ip, port) = (IpAddr::read(from)?, u16::read(from)?);
        let address = match ip {
            IpAddr::V4(_) => Self::new(ip, port),
            IpAddr::V6(v6) => {
                SocketAddrV6::new(v6, port, u32::read(from)?, u32::read(from)?).into()
            }
        };
        from.addresses.push(address);
        Ok(address)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn write(&self, out: &mut Writer) {
        self.is_some().write(out);
        if let Some(value) = self {
            value.write(out);
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        bool::read(from)?.then(|| T::read(from)).transpose()
    }
}

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    fn write(&self, out: &mut Writer) {
        self.is_ok().write(out);
        match self {
            Ok(value) => value.write(out),
            Err(error) => error.write(out),
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match bool::read(from)? {
            true => Ok(T::read(from)?),
            false => Err(E::read(from)?),
        })
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn write(&self, out: &mut Writer) {
        self.0.write(out);
        self.1.write(out);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn write(&self, out: &mut Writer) {
        out.number(self.len() as u64);
        for value in self {
            value.write(out);
        }
    }

    /// Every element has at least a byte, so a length that lies ends at the end.
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let length = from.number()?;
        let mut values = Self::new();
        for _ in 0..length {
            if from.is_at_end() {
                return Err(Malformed::Short);
            }
            values.push(T::read(from)?);
        }
        Ok(values)
    }
}

/// A struct as its fields, in this order.
macro_rules! wire_struct {
    ($name:ty { $($field:tt),* $(,)? }) => {
        impl $crate::recording::wire::Wire for $name {
            fn write(&self, out: &mut $crate::recording::wire::Writer) {
                $($crate::recording::wire::Wire::write(&self.$field, out);)*
            }

            fn read(
                from: &mut $crate::recording::wire::Reader<'_>,
            ) -> Result<Self, $crate::recording::wire::Malformed> {
                // All fields: one that is added is missed by the compiler.
                Ok(Self { $($field: $crate::recording::wire::Wire::read(from)?),* })
            }
        }
    };
}

/// An enum as a byte for the variant and its fields; those of tuples by their numbers.
macro_rules! wire_enum {
    ($name:ty { $($tag:literal = $variant:ident { $($field:tt: $bound:ident),* $(,)? }),* $(,)? }) => {
        impl $crate::recording::wire::Wire for $name {
            fn write(&self, out: &mut $crate::recording::wire::Writer) {
                match self {
                    $(Self::$variant { $($field: $bound),* } => {
                        out.bytes.push($tag);
                        $($crate::recording::wire::Wire::write($bound, out);)*
                    })*
                }
            }

            fn read(
                from: &mut $crate::recording::wire::Reader<'_>,
            ) -> Result<Self, $crate::recording::wire::Malformed> {
                match from.byte()? {
                    $($tag => Ok(Self::$variant {
                        $($field: $crate::recording::wire::Wire::read(from)?),*
                    }),)*
                    _ => Err($crate::recording::wire::Malformed::Wrong),
                }
            }
        }
    };
}

pub(super) use {wire_enum, wire_struct};

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<T: Wire + PartialEq + core::fmt::Debug>(now: u64, values: &[T]) -> usize {
        let mut out = Writer {
            now: Time::from_nanos(now),
            ..Writer::default()
        };
        for value in values {
            value.write(&mut out);
        }
        let mut from = Reader::new(&out.bytes);
        from.now = out.now;
        for value in values {
            assert_eq!(T::read(&mut from).as_ref(), Ok(value));
        }
        assert!(from.is_at_end());
        out.bytes.len()
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(round_trip(0, &[0_u64, 127]), 2);
        round_trip(0, &[128_u64, u64::MAX, 1 << 63]);
        for now in [0, 5, u64::MAX] {
            round_trip(now, &[0, 1, 5, 6, u64::MAX].map(Time::from_nanos));
        }
        // A deadline that is near costs little, wherever it is.
        assert_eq!(round_trip(1 << 60, &[Time::from_nanos((1 << 60) - 3)]), 1);
        let addresses: Vec<SocketAddr> = ["192.0.2.1:1", "[fe80::1%3]:65535", "192.0.2.1:1"]
            .map(|text| text.parse().unwrap())
            .into();
        let once = round_trip(0, &addresses[..2]);
        assert_eq!(round_trip(0, &addresses), once + 1);
        round_trip(0, &[Some(String::from("text")), None]);
        round_trip(0, &[Ok::<u16, bool>(7), Err(true)]);
    }

    #[test]
    fn lies_about_lengths_are_errors() {
        let huge = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&huge).number(), Ok(u64::MAX));
        assert_eq!(
            Vec::<u64>::read(&mut Reader::new(&huge)),
            Err(Malformed::Short)
        );
        assert_eq!(String::read(&mut Reader::new(&huge)), Err(Malformed::Short));
        // An eleventh byte, and bits that no number has.
        assert_eq!(Reader::new(&[0x80; 11]).number(), Err(Malformed::Wrong));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).number(),
            Err(Malformed::Wrong)
        );
        assert_eq!(
            u8::read(&mut Reader::new(&[0x80, 0x02])),
            Err(Malformed::Wrong)
        );
        // Nothing has the number 1 yet.
        assert_eq!(
            SocketAddr::read(&mut Reader::new(&[1])),
            Err(Malformed::Wrong)
        );
    }
}

//! Text to values. An error says what is needed and never repeats the text.

use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use core::str::FromStr;
use core::time::Duration;

use ipnet::IpNet;

use crate::config::{AlternateServer, RelayAddress};

/// A number.
pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| String::from("a whole number is needed"))
}

/// `true` or `false`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(String::from("true or false is needed")),
    }
}

/// `90` or `90s`, `500ms`, `10m`, `1h`, `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("", 1_000),
    ];
    with_unit(text, &units)
        .map(Duration::from_millis)
        .ok_or_else(|| String::from("a duration is needed, such as 90s, 10m or 1h"))
}

/// Bytes a second: `2000000`, `500k`, `10M`, `1G`.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let units = [
        ("k", 1_000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("", 1),
    ];
    with_unit(text, &units)
        .ok_or_else(|| String::from("bytes a second are needed, such as 500k or 10M"))
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    units.iter().find_map(|(unit, factor)| {
        let digits = text.strip_suffix(unit)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse::<u64>().ok()?.checked_mul(*factor)
    })
}

/// An address with its port, or without it where there is a usual one.
pub(super) fn address(text: &str, usual_port: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse::<IpAddr>()
        .map(|ip| SocketAddr::new(ip, usual_port))
        .map_err(|_| {
            format!(
                "an address is needed, such as 192.0.2.1:{usual_port} or [2001:db8::1]:{usual_port}"
            )
        })
}

/// `ADDRESS`, or `PUBLIC/LOCAL`.
pub(super) fn relay_address(text: &str) -> Result<RelayAddress, String> {
    let ip = |text: &str| {
        text.parse::<IpAddr>().map_err(|_| {
            String::from(
                "an address is needed, such as 192.0.2.1, or behind a NAT both addresses, as PUBLIC/LOCAL",
            )
        })
    };
    match text.split_once('/') {
        Some((public, local)) => Ok(RelayAddress::behind_nat(ip(public)?, ip(local)?)),
        None => ip(text).map(RelayAddress::from),
    }
}

/// `ADDRESS:PORT`, or `ADDRESS:PORT/NAME`.
pub(super) fn alternate_server(text: &str) -> Result<AlternateServer, String> {
    let (address, name) = match text.split_once('/') {
        Some((address, name)) => (address, Some(name.to_owned())),
        None => (text, None),
    };
    address
        .parse()
        .map(|address| AlternateServer::new(address, name))
        .map_err(|_| {
            String::from(
                "an address with its port is needed, and after a slash the name in its certificate: 192.0.2.1:5349/turn.example.org",
            )
        })
}

/// `FIRST-LAST`.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    text.split_once('-')
        .and_then(|(first, last)| Some(first.trim().parse().ok()?..=last.trim().parse().ok()?))
        .filter(|ports| !ports.is_empty() && *ports.start() != 0)
        .ok_or_else(|| String::from("a range of ports is needed, such as 49152-65535"))
}

/// `ADDRESS/BITS`, or an address alone.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        String::from("a network is needed, such as 10.0.0.0/8, 2001:db8::/32 or one address")
    })?;
    // Whoever wrote it may have meant one address, or a longer prefix: a rule on who is reached is not guessed.
    if network.trunc() != network {
        return Err(String::from(
            "the address has bits beyond the length of the prefix: write the first address of the network",
        ));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_every_spelling() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        assert_eq!(rate("500k"), Ok(500_000));
        assert_eq!(rate("7"), Ok(7));
        for (text, full) in [
            ("192.0.2.1", "192.0.2.1:3478"),
            ("192.0.2.1:1", "192.0.2.1:1"),
            ("::", "[::]:3478"),
            ("[::1]", "[::1]:3478"),
            ("[::1]:0", "[::1]:0"),
        ] {
            assert_eq!(
                address(text, 3478).map(|a| a.to_string()).as_deref(),
                Ok(full)
            );
        }
        assert_eq!(ports("49152-65535"), Ok(49_152..=65_535));
        assert_eq!(
            network("192.0.2.1").map(|n| n.to_string()).as_deref(),
            Ok("192.0.2.1/32")
        );
        assert_eq!(
            relay_address("192.0.2.1/10.0.0.1"),
            Ok(RelayAddress::behind_nat(
                "192.0.2.1".parse().unwrap(),
                "10.0.0.1".parse().unwrap()
            ))
        );
        assert_eq!(
            alternate_server("192.0.2.1:1/turn.example").map(|server| server.domain),
            Ok(Some("turn.example".to_owned()))
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "",
            "s",
            "-1",
            "+1",
            "1.5s",
            "1 h",
            "1w",
            "99999999999999999999",
            "18446744073709551615d",
        ] {
            assert!(duration(text).is_err(), "{text}");
            assert!(rate(text).is_err(), "{text}");
        }
        for text in [
            "",
            "host",
            "host:1",
            "192.0.2.1:",
            "192.0.2.1:65536",
            "[::1",
            "1:2",
        ] {
            assert!(address(text, 3478).is_err(), "{text}");
        }
        for text in ["", "1", "1-", "-1", "2-1", "0-1", "1-65536", "a-b"] {
            assert!(ports(text).is_err(), "{text}");
        }
        for text in ["", "10.0.0.1/8", "10.0.0.0/33", "example.org"] {
            assert!(network(text).is_err(), "{text}");
        }
        for text in ["", "192.0.2.1:1", "/", "192.0.2.1/", "host"] {
            assert!(relay_address(text).is_err(), "{text}");
        }
        assert!(switch("on").is_err() && number::<u8>("256").is_err());
        assert!(alternate_server("turn.example:1").is_err());
    }
}

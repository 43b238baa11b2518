//! `nilas turn`: what may be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand, ValueEnum, ValueHint};
use nilas_net::ice_servers::ServerUrl;
use nilas_stun::uri::TurnUri;

use super::EXIT_CODES;

/// Test TURN servers, load them, and make credentials for them.
#[derive(Debug, Args)]
pub(crate) struct Turn {
    #[command(subcommand)]
    pub(crate) verb: TurnVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TurnVerb {
    /// Try a TURN server over every transport and family, and say which work, how fast, and why not
    Test(TurnTest),
    /// Load a TURN server, and print packets per second, loss and latency
    Bench(TurnBench),
    /// Make credentials that expire, for a server that shares a secret
    Creds(TurnCreds),
}

/// Try a TURN server over every transport and family, and say which work, how fast, and why not.
///
/// Over each transport an address is allocated, then datagrams go through the relay to a second allocation and
/// back. Without `?transport=` in the URL, UDP, TCP, TLS and DTLS are tried on its port or the default ones; what the
/// server does not offer there is told, and is no failure as long as something works.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
#[command(group(ArgGroup::new("servers").required(true).args(["url", "ice_servers"])))]
pub(crate) struct TurnTest {
    /// The server, such as turn:turn.example.org or turns:turn.example.org:443?transport=tcp
    #[arg(value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) url: Option<TurnUri>,
    /// Servers with their credentials, as JSON of RTCIceServer or what a provider hands out; `-` reads standard input
    #[arg(long, value_name = "JSON", conflicts_with_all = ["user", "password", "secret"])]
    pub(crate) ice_servers: Option<String>,
    #[command(flatten)]
    pub(crate) account: Account,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// How many datagrams are sent through each relay
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) count: u32,
    /// Print one JSON object (schema nilas.turn-test/1)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Load a TURN server, and print packets per second, loss and latency.
///
/// Each flow is an allocation with a channel. Its datagrams go to a second allocation on the same server, or with
/// `--peer local` to a socket of this machine, which spares the server half of the work. First comes a second of
/// light traffic, for the latency, then as much as goes, or `--rate`.
/// Load only servers that are yours, or whose owners agreed.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct TurnBench {
    /// The server, such as turn:turn.example.org; UDP unless it names another transport
    #[arg(value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) url: TurnUri,
    #[command(flatten)]
    pub(crate) account: Account,
    #[command(flatten)]
    pub(crate) trust: Trust,
    /// How many allocations send at once
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) flows: u32,
    /// The size of a datagram in bytes, without the channel's header
    #[arg(long, default_value_t = 1200, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(16..=8_192))]
    pub(crate) size: u32,
    /// How long the load lasts; 0 measures only allocations
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub(crate) seconds: u32,
    /// Send this many datagrams per second in all, instead of as many as go
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: Option<u32>,
    /// Where the datagrams go: `relay`, `local`, or `local` at an address of this machine
    #[arg(long, default_value = "relay", value_name = "relay|local|ADDRESS:PORT", value_parser = peer)]
    pub(crate) peer: Peer,
    /// Keep the allocations for this long before the load, without sending anything
    #[arg(long, default_value_t = 0, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub(crate) idle: u32,
    /// Print one JSON object (schema nilas.turn-bench/1)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Make credentials that expire, for a server that shares a secret.
///
/// They are what coturn calls `use-auth-secret` and others the TURN REST API: the user name says when they end.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct TurnCreds {
    /// The secret that the server knows
    #[arg(
        long,
        env = "NILAS_TURN_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub(crate) secret: String,
    /// How long they hold: seconds, or with a unit such as 30m, 12h, 7d
    #[arg(long, default_value = "24h", value_name = "TIME", value_parser = duration)]
    pub(crate) ttl: Duration,
    /// A name to put behind the time, for the server's log and quotas
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NAME"
    )]
    pub(crate) user: String,
    /// The server's URL, to print the iceServers JSON for an application; may be given several times
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) url: Vec<ServerUrl>,
    /// The hash under the password: sha1 is what every server understands, and the only one that `nilas server` does
    #[arg(long, value_enum, default_value_t = Hash::Sha1)]
    pub(crate) hash: Hash,
    /// Print one JSON object (schema nilas.turn-creds/1)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Who asks a TURN server for a relay.
#[derive(Debug, Args)]
pub(crate) struct Account {
    /// The user name; with --secret, the name behind the time
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The password
    #[arg(
        long,
        env = "NILAS_TURN_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD",
        requires = "user"
    )]
    pub(crate) password: Option<String>,
    /// The secret that the server knows: credentials for an hour are made from it
    #[arg(long, value_name = "SECRET", conflicts_with = "password")]
    pub(crate) secret: Option<String>,
}

/// Which certificates are trusted.
#[derive(Debug, Args)]
pub(crate) struct Trust {
    /// Trust the certificates in this PEM file, instead of the system's roots or those of SSL_CERT_FILE
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
}

/// Where the datagrams of a load go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// To a second allocation.
    Relay,
    /// To a socket at the address from which the server is reached, or at this one.
    Local(Option<SocketAddr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
}

fn peer(text: &str) -> Result<Peer, String> {
    match text {
        "relay" => Ok(Peer::Relay),
        "local" => Ok(Peer::Local(None)),
        _ => match text.parse() {
            Ok(address) => Ok(Peer::Local(Some(address))),
            Err(_) => Err("`relay`, `local` or an address with a port is needed".to_owned()),
        },
    }
}

/// Seconds, or a number with the unit s, m, h or d.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "a time is needed, such as 3600, 30m, 12h or 7d".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(unit) {
        Some(0) => Err("credentials of no time are good for nothing".to_owned()),
        // A hundred years: what is longer is a slip, and the server may not count so far.
        Some(seconds) if seconds <= 100 * 365 * 86_400 => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("90", 90),
            ("90s", 90),
            ("30m", 1_800),
            ("12h", 43_200),
            ("7d", 604_800),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in [
            "",
            "h",
            "-1",
            "1w",
            "1.5h",
            "0",
            "99999999999999999999",
            "9999999d",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_peer_is_a_word_or_an_address() {
        assert_eq!(peer("relay"), Ok(Peer::Relay));
        assert_eq!(peer("local"), Ok(Peer::Local(None)));
        let address = "127.0.0.1:0".parse().expect("an address");
        assert_eq!(peer("127.0.0.1:0"), Ok(Peer::Local(Some(address))));
        assert!(peer("127.0.0.1").is_err());
    }
}

//! The command line: what may be typed, defined once for the parser, `--help`, completions and the manual page.

pub(crate) mod turn;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

use crate::setting_flags::SettingFlags;
use nilas_sim::matrix::{Access, Servers};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  no connection, or a failed check; the verdict says why
  2  wrong usage or configuration
  3  an internal error

Set NO_COLOR to print without colours, and NILAS_LOG (for example to `debug`) to log to standard error.";

/// Find a path between two machines, and say why it is that one.
#[derive(Debug, Parser)]
#[command(name = "nilas", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Connect two peers on this machine, behind NATs if asked, and show how they find each other
    Demo(Demo),
    /// Connect to another machine: chat in a terminal, or pipe standard input to standard output
    Connect(Connect),
    /// Show every address under which this machine can be reached, and how each was found
    Gather(Gather),
    /// Serve STUN and TURN, and let peers meet under a code
    Server(Server),
    /// Test TURN servers, load them, and make credentials for them
    Turn(turn::Turn),
    /// Drive one ICE agent by JSON lines on standard input and output
    Agent(Agent),
    /// Build a laboratory of NATs (Linux) and run a command in it
    Lab(Lab),
    /// Run sessions in a simulated network, thousands a second, and tell how likely and how fast they connect
    Sim(Sim),
    /// Play a recorded session back, and show where this build does something else
    Replay(Replay),
    /// Say what happened in a recorded session, and why
    Explain(Explain),
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(hide = true)]
    Man,
}

/// Connect two peers on this machine, behind NATs if asked, and show how they find each other.
///
/// Both peers and a server for STUN and rendezvous run in this process. With --nat, on Linux, each peer lives
/// in a network namespace of its own behind the kernel's NAT; nothing outside of them is touched. Without
/// root this works where unprivileged user namespaces are allowed.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Demo {
    /// Put the peers behind these kinds of access, such as `plain,sym`.
    ///
    /// Kinds: open, plain, sym, {eim,adm,apdm}-{eif,adf,apdf}, cgn:INNER:OUTER, same, samecgn, v6fw, dual,
    /// v6broken, nat64, multi. Flags: +hairpin +udpblock +tcp443 +strict443 +to=N +overlap +mtu=N +loss=N
    /// +lossin=N +lossout=N +rate=KBIT.
    #[arg(long, value_name = "A,B")]
    pub(crate) nat: Option<String>,
    /// Delay every packet by this much, one way, on each side's wire (so 20 means 40 ms from end to end)
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) delay_ms: Option<u32>,
    /// Lose this share of the packets on each side's wire, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = per_cent)]
    pub(crate) loss: Option<f64>,
    /// Do without the relay, to see what is possible without one
    #[arg(long, conflicts_with = "relay_only")]
    pub(crate) no_relay: bool,
    /// Use only the relay, even where a direct path is possible
    #[arg(long)]
    pub(crate) relay_only: bool,
    #[command(flatten)]
    pub(crate) recording: Recording,
    /// Print JSON lines; the last one is the result (schema nilas.demo/1)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Connect to another machine: chat in a terminal, or pipe standard input to standard output.
///
/// Without CODE the server gives a new one, and the line to type on the other machine is shown. What the
/// other side sends goes to standard output and everything else to standard error, so
/// `tar c folder | nilas connect` and `nilas connect CODE | tar x` do what they look like.
/// The data is NOT encrypted in this version.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Connect {
    /// The code under which the other side waits
    #[arg(conflicts_with = "ticket")]
    pub(crate) code: Option<String>,
    /// Wait under CODE if nobody does yet: for a code that you two have agreed upon
    #[arg(long, requires = "code")]
    pub(crate) wait: bool,
    /// The rendezvous server, as wss://HOST or ws://HOST:PORT (see `nilas server`); the system's roots are trusted with
    /// wss:, or those in the file that SSL_CERT_FILE names
    #[arg(long, env = "NILAS_SERVER", value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) server: Option<String>,
    /// Use no server: exchange one line each way by copy and paste
    #[arg(long)]
    pub(crate) ticket: bool,
    #[command(flatten)]
    pub(crate) network: Network,
    /// Print JSON lines (schema nilas.connect-event/1), with what the other side sends as `data` events; the last one is the
    /// result (schema nilas.connect/1)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show every address under which this machine can be reached, and how each was found.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Gather {
    #[command(flatten)]
    pub(crate) network: Network,
    /// Print JSON lines; the last one is a summary (schema nilas.gather/1)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which addresses and servers an agent uses.
#[derive(Debug, Args)]
pub(crate) struct Network {
    /// A STUN server, which tells the address that the internet sees; may be given several times
    #[arg(long, value_name = "HOST:PORT", value_hint = ValueHint::Hostname)]
    pub(crate) stun: Vec<String>,
    /// A TURN server, which relays where nothing direct works, such as turn:HOST or turns:HOST:443?transport=tcp;
    /// may be given several times
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) turn: Vec<String>,
    /// The user name for the TURN servers; with --secret, the name behind the time
    #[arg(long, value_name = "NAME", requires = "turn")]
    pub(crate) user: Option<String>,
    /// The password for the TURN servers; other users of this machine can see it unless it is in the environment
    #[arg(
        long,
        env = "NILAS_TURN_PASSWORD",
        hide_env_values = true,
        value_name = "PASSWORD"
    )]
    pub(crate) password: Option<String>,
    /// The secret that the TURN servers know: credentials for a day are made from it. As with the password, the environment
    /// is the place for it
    #[arg(
        long,
        env = "NILAS_TURN_SECRET",
        hide_env_values = true,
        value_name = "SECRET"
    )]
    pub(crate) secret: Option<String>,
    /// A list of servers as providers hand it out (RTCIceServer), or the file it is in; may be given several times
    #[arg(long, value_name = "JSON|FILE", value_hint = ValueHint::FilePath)]
    pub(crate) ice_servers: Vec<String>,
    /// Use only relayed addresses, so that the other side learns none of this machine
    #[arg(long)]
    pub(crate) relay_only: bool,
    /// Look for paths over TCP too, which come last, for networks that let no UDP through (ICE-TCP)
    #[arg(long)]
    pub(crate) tcp: bool,
    /// Tell this machine's addresses as names that only its own network can resolve, and find the other side's that are
    /// such names (mDNS); with =resolve only the latter
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "hide")]
    pub(crate) mdns: Option<Mdns>,
    /// Reach TURN servers over TCP and TLS through this proxy, as http://HOST:PORT or socks5://HOST:PORT
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(crate) proxy: Option<nilas::Proxy>,
    /// Use only this network interface; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) interface: Vec<String>,
    /// Leave this network interface out; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) without_interface: Vec<String>,
    /// Use addresses of this family only
    #[arg(long, value_name = "4|6", value_parser = family)]
    pub(crate) family: Option<nilas::Family>,
    /// Bind UDP sockets to this port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "ports")]
    pub(crate) port: Option<u16>,
    /// Bind UDP sockets to ports of this range, such as 50000-50099
    #[arg(long, value_name = "A-B")]
    pub(crate) ports: Option<nilas::PortRange>,
    /// Which addresses are used: all, those of the default route, those but hidden from the other side
    #[arg(long, value_enum, default_value_t = Addresses::All, conflicts_with = "relay_only")]
    pub(crate) addresses: Addresses,
    /// Tell this address in place of local ones: that of a 1:1 NAT before this machine; may be given for each family
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) external_address: Vec<std::net::IpAddr>,
    /// Have the network's gateway forward a port to this machine while the session lasts, by PCP, NAT-PMP or UPnP
    #[arg(long)]
    pub(crate) port_mapping: bool,
    /// Mark packets with this DSCP, checks like data: 46 suits audio, 34 video (RFC 8837)
    #[arg(long, value_name = "0-63")]
    pub(crate) dscp: Option<nilas::Dscp>,
    /// Use loopback addresses too (they are used anyway where there is nothing else)
    #[arg(long)]
    pub(crate) loopback: bool,
    #[command(flatten)]
    pub(crate) recording: Recording,
}

/// Whether and how sessions are recorded.
#[derive(Clone, Debug, Args)]
pub(crate) struct Recording {
    /// Record the session, without its secrets, for `nilas replay` and `nilas explain`; where both peers run here, the
    /// second one into FILE.b
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) record: Option<PathBuf>,
    /// Let a recording grow to so many MiB, and only count what comes after that
    #[arg(long, value_name = "MIB", default_value_t = 16, requires = "record", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) record_limit: u32,
}

/// The modes of RFC 8828 section 5.2 that need no relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Addresses {
    /// All addresses
    All,
    /// Those of the interface of the default route
    DefaultRoute,
    /// The same, and only what servers see of them is told
    DefaultRouteHidden,
}

/// What an agent has to do with names on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mdns {
    /// Own addresses are told as names, and the other side's names are found
    Hide,
    /// The other side's names are found
    Resolve,
}

impl From<Mdns> for nilas_ice::MdnsCandidates {
    fn from(mdns: Mdns) -> Self {
        match mdns {
            Mdns::Hide => Self::Hide,
            Mdns::Resolve => Self::Resolve,
        }
    }
}

fn family(text: &str) -> Result<nilas::Family, &'static str> {
    match text {
        "4" => Ok(nilas::Family::Ipv4),
        "6" => Ok(nilas::Family::Ipv6),
        _ => Err("4 or 6 is needed"),
    }
}

/// Serve STUN and TURN over UDP, TCP, TLS and DTLS, and let peers meet under a code over WebSocket.
///
/// Prints `ready` with the addresses once it serves, and the iceServers for an application. Without users,
/// secrets or token keys it makes one user for this run. A flag comes before its variable, such as
/// NILAS_SERVER_RELAY_PORTS for --relay-ports, and that before the key in the file, relay-ports. SIGHUP reads
/// the file and the certificate again; SIGTERM lets allocations end before the server does, a second one or
/// Ctrl-C stops it at once. It logs to standard error; NILAS_LOG says how much.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES, args_conflicts_with_subcommands = true)]
pub(crate) struct Server {
    #[command(subcommand)]
    pub(crate) verb: Option<ServerVerb>,
    /// A file of settings in TOML
    #[arg(long, env = "NILAS_SERVER_CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON lines (schema nilas.server/1), and log JSON lines
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ServerVerb {
    /// Say what is wrong with a file of settings, all at once and with its lines
    #[command(after_help = EXIT_CODES)]
    CheckConfig {
        /// The file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Print one JSON object (schema nilas.check-config/1)
        #[arg(long)]
        json: bool,
    },
}

/// Build a laboratory of NATs out of network namespaces (Linux) and run a command in one of its machines.
///
/// Without COMMAND a shell is started. The laboratory is gone when the command ends, and the command's exit
/// code becomes that of nilas.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Lab {
    /// The two kinds of access, as with `nilas demo --nat`
    #[arg(value_name = "A,B")]
    pub(crate) nat: String,
    /// Delay every packet by this much, one way, on each side's wire
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) delay_ms: Option<u32>,
    /// Lose this share of the packets on each side's wire, in per cent
    #[arg(long, value_name = "PERCENT", value_parser = per_cent)]
    pub(crate) loss: Option<f64>,
    /// The machine: a, b, srv, core, na, nb, ca, cb or nc
    #[arg(long, default_value = "a", value_name = "MACHINE")]
    pub(crate) node: String,
    /// The command to run there
    #[arg(last = true, value_hint = ValueHint::CommandWithArguments)]
    pub(crate) command: Vec<String>,
}

/// Run sessions in a simulated network, in virtual time.
///
/// Without --matrix: sessions between two kinds of access; tells the chance to connect, the kinds of the paths,
/// the times to the first path and to the selected one, and the packets. With --matrix: every kind beside every
/// other, each with its expectation. The agents are the real ones; only the network is simulated, from one seed.
/// Exits with 1 if no session connected, or a cell of the matrix is not as expected.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Sim {
    /// The first peer's access.
    ///
    /// Kinds: open, plain, sym, {eim,adm,apdm}-{eif,adf,apdf}, cgn:INNER:OUTER, same, samecgn, v4fw, v6fw, dual,
    /// v6broken, nat64, multi. Flags: +hairpin +noudp +udpblock +tcp443 +strict443 +to=N +overlap +mtu=N +loss=N
    /// +lossin=N +lossout=N +rate=KBIT.
    #[arg(long, value_name = "KIND", required_unless_present_any = ["matrix", "worlds"])]
    pub(crate) nat_a: Option<Access>,
    /// The second peer's access
    #[arg(long, value_name = "KIND", required_unless_present_any = ["matrix", "worlds"])]
    pub(crate) nat_b: Option<Access>,
    /// The time from one peer to the other and back, and to a server and back
    #[arg(long, value_name = "MS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(crate) rtt_ms: u32,
    /// Lose this share of the packets on the way, in each direction, in per cent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = per_cent, conflicts_with = "matrix")]
    pub(crate) loss: f64,
    /// The servers that both peers are given: none, stun, turn-udp, turn-tcp, turn-tls (port 443) or turn, which is
    /// all of them [default: stun; the matrix runs with each that matters]
    #[arg(long, value_name = "SERVERS")]
    pub(crate) servers: Option<Servers>,
    /// Let both peers look for paths over TCP too; the matrix does so where one of them has no UDP
    #[arg(long, conflicts_with_all = ["matrix", "worlds"])]
    pub(crate) tcp: bool,
    /// Which peer controls: a or b
    #[arg(long, value_name = "PEER", default_value = "a", value_parser = ["a", "b"], conflicts_with = "matrix")]
    pub(crate) controlling: String,
    /// How many sessions, each from a seed of its own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000), conflicts_with = "matrix")]
    pub(crate) runs: u32,
    /// The seed of the first session; the others count on from it
    #[arg(long, value_name = "S", default_value_t = 1, conflicts_with = "matrix")]
    pub(crate) seed: u64,
    /// Draw the first session as a sequence diagram into this file
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "matrix")]
    pub(crate) html: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) recording: Recording,
    /// Run every kind of access beside every other
    #[arg(long, conflicts_with_all = ["nat_a", "nat_b", "record"])]
    pub(crate) matrix: bool,
    /// Run sessions in this many random worlds, and look whether what must hold in every one does
    #[arg(long, value_name = "N", conflicts_with_all = ["nat_a", "nat_b", "matrix", "html", "record", "loss", "rtt_ms", "servers", "controlling", "runs"], value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) worlds: Option<u32>,
    /// Print the matrix as a page of Markdown
    #[arg(long, requires = "matrix", conflicts_with_all = ["json", "nat_a"])]
    pub(crate) markdown: bool,
    /// Print JSON lines (schema nilas.sim/1, with --matrix nilas.sim-cell/1, with --worlds nilas.sim-worlds/1)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Drive one ICE agent by JSON lines on standard input and output.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Agent {
    #[command(flatten)]
    pub(crate) recording: Recording,
}

/// Play a recorded session back, and show where this build does something else.
///
/// The engine of this build is given all that the recorded one was given, and must do the same, to the byte. Exits with
/// 1 at the first difference, and with 2 if the file is no recording that can be read.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Replay {
    /// The recording, as `--record` makes it
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Print one JSON object (schema nilas.replay/1)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Say what happened in a recorded session, and why.
///
/// Each candidate and who told it, each pair and how it ended, what was slow, and what would have to change to get a direct
/// path. Exits with 2 if the file is no recording that can be read.
#[derive(Debug, Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Explain {
    /// The recording, as `--record` makes it
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Print one JSON object (schema nilas.explain/1)
    #[arg(long)]
    pub(crate) json: bool,
}

fn per_cent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("a number from 0 to 100 is needed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_share_is_a_finite_per_cent() {
        assert_eq!(per_cent("3.5"), Ok(3.5));
        for wrong in ["-1", "101", "NaN", "inf", "x", ""] {
            assert!(per_cent(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_user_is_one_of_a_relay() {
        let parse = |more: &[&str]| {
            let words = ["nilas", "gather"].iter().chain(more);
            Arguments::try_parse_from(words).is_ok()
        };
        assert!(!parse(&["--user", "u"]));
        assert!(parse(&[
            "--turn",
            "turn:h",
            "--user",
            "u",
            "--password",
            "p"
        ]));
        assert!(parse(&["--proxy", "socks5://h"]));
        assert!(!parse(&["--proxy", "ftp://h"]));
    }

    #[test]
    fn a_code_and_a_ticket_exclude_each_other() {
        assert!(
            Arguments::try_parse_from(["nilas", "connect", "7-amber-canyon", "--ticket"]).is_err()
        );
        assert!(Arguments::try_parse_from(["nilas", "connect", "--ticket"]).is_ok());
    }
}

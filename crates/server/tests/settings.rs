//! Settings in a file, in the environment and as flags: one meaning, and every mistake with its place.

use std::fs;
use std::path::{Path, PathBuf};

use core::time::Duration;
use nilas_server::settings::{Configured, Kind, Mistake, Place, SETTINGS, Settings};
use nilas_server::{RelayAddress, Secret, ServerConfig, User};

fn from_file(text: &str) -> Result<Configured, Vec<Mistake>> {
    let mut settings = Settings::new();
    settings.file(Path::new("server.toml"), text);
    settings.finish()
}

fn config(text: &str) -> ServerConfig {
    from_file(text)
        .unwrap_or_else(|mistakes| panic!("{text}: {mistakes:?}"))
        .config
}

/// A directory of its own for a test, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nilas-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file for the test");
        path.to_str().expect("plain letters").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn each_mistake_has_its_line_and_reason() {
    for (text, line, setting, reason) in [
        (
            "\nlistn = \"127.0.0.1\"",
            2,
            "listn",
            "did you mean `listen`?",
        ),
        (
            "relay_ports = \"1-2\"",
            1,
            "relay_ports",
            "did you mean `relay-ports`?",
        ),
        ("quux = 1", 1, "quux", "there is no such setting"),
        ("[relay]\nports = 1", 1, "relay", "no table"),
        ("listen = \"host:1\"", 1, "listen", "an address is needed"),
        (
            "listen = [\n \"127.0.0.1:1\",\n \"nowhere\",\n]",
            3,
            "listen",
            "an address is needed",
        ),
        ("listen = [[1]]", 1, "listen", "a list in a list"),
        (
            "listen = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            1,
            "listen",
            "is taken by `listen` already",
        ),
        ("realm = [\"a\", \"b\"]", 1, "realm", "not a list"),
        ("realm = 1.5", 1, "realm", "a text in quotes"),
        ("realm = \"\"", 1, "realm", "is empty"),
        ("workers = 0", 1, "workers", "from 1 to 255"),
        ("workers = 256", 1, "workers", "from 1 to 255"),
        ("mobility = \"maybe\"", 1, "mobility", "true or false"),
        ("user = \"ann\"", 1, "user", "NAME:PASSWORD"),
        (
            "user = [\"ann:a\",\n\"bob:b\",\n\"ann:c\"]",
            3,
            "user",
            "given twice",
        ),
        (
            "user = [\"ann\",\n\"bob:b\",\n\"bob:c\"]",
            1,
            "user",
            "NAME:PASSWORD",
        ),
        ("secret = \"\"", 1, "secret", "is empty"),
        (
            "secret-file = \"/nowhere/at/all\"",
            1,
            "secret-file",
            "cannot be read",
        ),
        (
            "token-server-name = \"a\"",
            1,
            "token-server-name",
            "give `token-key`",
        ),
        (
            "token-key = \"a:AAAA\"",
            1,
            "token-key",
            "give `token-server-name`",
        ),
        (
            "token-server-name = \"a\"\ntoken-key = \"a:AAAA\"",
            2,
            "token-key",
            "16 bytes",
        ),
        (
            "token-server-name = \"a\"\ntoken-key = \"a:!\"",
            2,
            "token-key",
            "not base64",
        ),
        (
            "relay-address = \"0.0.0.0\"",
            1,
            "relay-address",
            "cannot be relayed on",
        ),
        (
            "relay-address = [\"192.0.2.1\",\n\"192.0.2.2\"]",
            2,
            "relay-address",
            "remove one",
        ),
        (
            "relay-address = \"192.0.2.1/::1\"",
            1,
            "relay-address",
            "one family",
        ),
        (
            "relay-ports = \"2-1\"",
            1,
            "relay-ports",
            "a range of ports",
        ),
        (
            "relay-address = \"192.0.2.1\"\nmetrics = \"0.0.0.0:50000\"",
            2,
            "metrics",
            "one of `relay-ports`",
        ),
        (
            "allow-peer = [\"10.0.0.0/8\",\n\"10.0.0.1/8\"]",
            2,
            "allow-peer",
            "beyond the length",
        ),
        (
            "deny-peer = \"example.org\"",
            1,
            "deny-peer",
            "a network is needed",
        ),
        ("redirect = true", 1, "redirect", "give `alternate-server`"),
        (
            "alternate-server = \"turn.example\"",
            1,
            "alternate-server",
            "an address with its port",
        ),
        ("\n\nmax-lifetime = \"2h\"", 3, "max-lifetime", "at most"),
        (
            "default-lifetime = \"soon\"",
            1,
            "default-lifetime",
            "a duration is needed",
        ),
        ("max-channels = 5000", 1, "max-channels", "4096 at most"),
        ("max-allocations = 0", 1, "max-allocations", "1 at least"),
        (
            "max-allocations = -1",
            1,
            "max-allocations",
            "a whole number",
        ),
        (
            "user-bandwidth = \"1 MB\"",
            1,
            "user-bandwidth",
            "bytes a second",
        ),
        ("user-bandwidth = 0", 1, "user-bandwidth", "1 at least"),
        (
            "tls-listen = \"127.0.0.1\"",
            1,
            "tls-listen",
            "needs a certificate",
        ),
        ("cert = \"a.pem\"", 1, "cert", "needs its `key`"),
        ("\nkey = \"a.pem\"", 2, "key", "needs its certificate"),
        (
            "cert = \"nowhere.pem\"\nkey = \"k.pem\"",
            1,
            "cert",
            "nowhere.pem",
        ),
        (
            "public-name = \"a b\"",
            1,
            "public-name",
            "a name of the DNS",
        ),
        (
            "alternate-address = \"192.0.2.2:3479\"",
            1,
            "alternate-address",
            "neither 0.0.0.0",
        ),
        (
            "listen = []\nalternate-address = \"192.0.2.2:3479\"",
            2,
            "alternate-address",
            "same family in `listen`",
        ),
        ("realm = \"a", 1, "", "not TOML"),
        ("realm = \"a\"\nrealm = \"b\"", 2, "", "not TOML"),
    ] {
        let mistakes = from_file(text).expect_err(text);
        // One mistake may bring another: ports that cannot be read leave a relay without them.
        let mistake = mistakes
            .iter()
            .find(|mistake| mistake.reason.contains(reason))
            .unwrap_or_else(|| panic!("{text}: {mistakes:?}"));
        let place = Place::File(Path::new("server.toml").into(), line);
        assert_eq!(
            (&mistake.place, &*mistake.setting),
            (&place, setting),
            "{text}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_their_lines() {
    let text =
        "realm = \"a\"\nusr = \"x\"\nworkers = 0\nlisten = \"x\"\nmax-lifetime = \"3h\"\nb = = 1\n";
    let mistakes = from_file(text).unwrap_err();
    let lines: Vec<_> = mistakes
        .iter()
        .map(|mistake| match mistake.place {
            Place::File(_, line) => line,
            _ => 0,
        })
        .collect();
    assert_eq!(lines[..4], [2, 3, 4, 5], "{mistakes:?}");
    assert!(
        lines[4..].iter().all(|line| *line == 6) && lines.len() >= 5,
        "{mistakes:?}"
    );
}

#[test]
fn no_mistake_repeats_a_secret() {
    let text = "user = [\"hunter2\", \"ann:hunter2\", \"ann:hunter2\"]\nsecret = [\"\", \"hunter2\"]\ntoken-key = \"id:hunter2\"\nuser-file = \"nowhere\"";
    let mistakes = from_file(text).unwrap_err();
    assert!(mistakes.len() >= 4);
    assert!(!format!("{mistakes:?}").contains("hunter2"));
    // What is not closed would show its line.
    let mistakes = from_file("secret = \"hunter2").unwrap_err();
    let told: String = mistakes
        .iter()
        .map(|mistake| format!("{mistake} {mistake:?}"))
        .collect();
    assert!(
        told.contains("not TOML") && !told.contains("hunter2"),
        "{told}"
    );
}

#[test]
fn a_file_says_what_its_flags_would() {
    let file = config(
        "listen = \"127.0.0.1\"\nsignal-listen = \"none\"\nrealm = \"example.org\"\nuser = [\"ann:a:b\"]\nsecret = \"s\"\nrelay-address = [\"192.0.2.1/10.0.0.1\"]\nrelay-ports = \"50000-50100\"\nmobility = false\nworkers = 2\nmax-lifetime = 900\ndrain-time = \"1h\"\nuser-bandwidth = \"2M\"\n",
    );
    let mut settings = Settings::new();
    for (name, value) in [
        ("listen", "127.0.0.1"),
        ("signal-listen", "none"),
        ("realm", "example.org"),
        ("user", "ann:a:b"),
        ("secret", "s"),
        ("relay-address", "192.0.2.1/10.0.0.1"),
        ("relay-ports", "50000-50100"),
        ("mobility", "false"),
        ("workers", "2"),
        ("max-lifetime", "900"),
        ("drain-time", "1h"),
        ("user-bandwidth", "2M"),
    ] {
        settings.flag(name, [value]);
    }
    let flags = settings.finish().unwrap();
    assert_eq!(file, flags.config);
    assert!(flags.credentials_are_flags && !flags.relay_address_is_open);
    assert_eq!(file.stun_udp, ["127.0.0.1:3478".parse().unwrap()]);
    assert_eq!(file.rendezvous, []);
    assert_eq!(file.access.users, [User::new("ann", "a:b")]);
    assert_eq!(file.access.secrets, [Secret::from("s")]);
    assert_eq!(
        file.relay.addresses,
        [RelayAddress::behind_nat(
            "192.0.2.1".parse().unwrap(),
            "10.0.0.1".parse().unwrap()
        )]
    );
    assert_eq!(file.relay.max_lifetime, Duration::from_secs(900));
    assert_eq!(file.drain_time, Duration::from_secs(3_600));
    assert_eq!(file.relay.quotas.user_bytes_per_second, Some(2_000_000));
    assert_eq!(file.workers.map(u8::from), Some(2));
    assert!(!file.relay.mobility);
}

#[test]
fn flags_come_before_the_environment_and_that_before_the_file() {
    let variables = |list: &[(&str, &str)]| {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        list.iter().map(own).collect::<Vec<_>>()
    };
    let mut settings = Settings::new();
    settings.file(
        Path::new("server.toml"),
        "realm = \"file\"\nworkers = 1\nsecret = \"one\"\ndeny-peer = \"10.0.0.0/8\"",
    );
    settings.environment(variables(&[
        ("NILAS_SERVER_WORKERS", "2"),
        ("NILAS_SERVER_REALM", "environment"),
        ("NILAS_SERVER_SECRET", "with, a comma\nand another"),
        ("NILAS_SERVER_ALLOW_PEER", "127.0.0.0/8, ::1"),
        ("NILAS_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("NILAS_SERVER", "ws://127.0.0.1"),
        ("PATH", "/bin"),
    ]));
    settings.flag("realm", ["flag"]);
    let configured = settings.finish().unwrap();
    let config = &configured.config;
    assert_eq!(config.access.realm, "flag");
    assert_eq!(config.workers.map(u8::from), Some(2));
    assert_eq!(
        config.access.secrets,
        ["with, a comma", "and another"].map(Secret::from)
    );
    assert_eq!(
        (
            config.relay.allow_peers.len(),
            config.relay.deny_peers.len()
        ),
        (2, 1)
    );
    assert_eq!(configured.unknown_variables, ["NILAS_SERVER_SERVICE_HOST"]);
    assert!(!configured.credentials_are_flags && configured.relay_address_is_open);

    let mut settings = Settings::new();
    settings.environment(variables(&[("NILAS_SERVER_RELAY_PORTS", "9")]));
    settings.flag("workers", ["x"]);
    let told: Vec<_> = settings
        .finish()
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        told,
        [
            "NILAS_SERVER_RELAY_PORTS: a range of ports is needed, such as 49152-65535",
            "--workers: a number from 1 to 255 is needed",
        ]
    );
}

#[test]
fn secrets_stand_in_files_of_their_own() {
    let folder = Folder::new("secrets");
    folder.file("secrets", "new\n\nold\n");
    folder.file("users", "# staff\nann:a b\nbob:c");
    folder.file("keys", "k:AAAAAAAAAAAAAAAAAAAAAA==\n");
    let text = "secret = \"third\"\nsecret-file = \"secrets\"\nuser-file = \"users\"\ntoken-server-name = \"turn.example\"\ntoken-key-file = \"keys\"";
    let path = folder.file("server.toml", text);
    let mut settings = Settings::new();
    settings.file(Path::new(&path), text);
    let config = settings.finish().unwrap().config;
    assert_eq!(
        config.access.secrets,
        ["third", "new", "old"].map(Secret::from)
    );
    assert_eq!(
        config.access.users,
        [User::new("ann", "a b"), User::new("bob", "c")]
    );
    assert_eq!(config.access.tokens.unwrap().keys[0].key.reveal(), [0; 16]);

    // A mistake in such a file has its line there, and does not say what is in it.
    let users = folder.file("users", "ann:x\nhunter2\nann:hunter2\n");
    let mut settings = Settings::new();
    settings.flag("user-file", [&*users]);
    let mistakes = settings.finish().unwrap_err();
    let told: Vec<_> = mistakes.iter().map(ToString::to_string).collect();
    assert!(told[0].starts_with(&format!("{users}:2: ")), "{told:?}");
    assert!(
        told[1].starts_with(&format!("{users}:3: user: ")),
        "{told:?}"
    );
    assert!(
        told.len() == 2 && !told.concat().contains("hunter2"),
        "{told:?}"
    );
    let empty = folder.file("empty", "\n");
    let mut settings = Settings::new();
    settings.flag("secret-file", [&*empty]);
    assert!(settings.finish().is_err(), "no secret is none");
}

#[test]
fn the_defaults_are_those_of_the_library_and_as_they_are_told() {
    assert_eq!(config(""), ServerConfig::default());
    let mut settings = Settings::new();
    for setting in SETTINGS {
        let is_value = setting.kind != Kind::Many
            && setting
                .default
                .starts_with(|c: char| c.is_ascii_digit() || "tfn".contains(c))
            && !setting.default.contains(' ')
            && setting.default != "none";
        if is_value {
            settings.flag(setting.name, [setting.default]);
        }
    }
    assert_eq!(settings.finish().unwrap().config, ServerConfig::default());
}

#[test]
fn whatever_a_file_holds_is_read_without_a_panic() {
    let names: Vec<_> = SETTINGS.iter().map(|setting| setting.name).collect();
    for name in names {
        for value in [
            "\"\"",
            "[]",
            "-1",
            "9223372036854775807",
            "0x10",
            "true",
            "{}",
            "\"\u{0}\"",
            "\"/\"",
            "\":\"",
            "1979-05-27",
            "[1, {a = 1}]",
        ] {
            let _ = from_file(&format!("{name} = {value}\n"));
        }
    }
    let _ = from_file(&"[".repeat(100_000));
    assert!(from_file(&"#".repeat(2 << 20)).is_err());
}

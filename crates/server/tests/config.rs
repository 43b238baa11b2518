//! What is wrong with a configuration is found all at once, and no secret is told.

use core::net::SocketAddr;
use core::ops::RangeInclusive;
use core::time::Duration;

use nilas_server::{
    AlternateServer, CertificateFiles, ConfigMistake, DiscoveryAddresses, Reason, Secret,
    ServerConfig, TokenKey, Tokens, User,
};
use nilas_turn::server::ConfigError;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address with its port")
}

/// A relay on documentation addresses with a user.
fn relay() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.relay.addresses = ["192.0.2.1", "2001:db8::1"]
        .map(|ip| address_of(ip).into())
        .to_vec();
    config.access.users = vec![User::new("ann", "a long password")];
    config
}

fn address_of(text: &str) -> core::net::IpAddr {
    text.parse().expect("an address")
}

fn mistakes(change: impl FnOnce(&mut ServerConfig)) -> Vec<(&'static str, Option<usize>, Reason)> {
    let mut config = relay();
    change(&mut config);
    let told = |ConfigMistake {
                    setting,
                    item,
                    reason,
                    ..
                }| (setting, item, reason);
    config.check().into_iter().map(told).collect()
}

#[test]
fn what_is_offered_by_default_is_sound() {
    for config in [ServerConfig::default(), ServerConfig::loopback(), relay()] {
        assert_eq!(config.check(), []);
        config.turn().expect("the core takes it");
    }
}

#[test]
fn the_core_gets_what_was_configured() {
    let mut config = relay();
    config.relay.addresses[0] =
        nilas_server::RelayAddress::behind_nat(address_of("192.0.2.1"), address_of("10.0.0.1"));
    config.relay.ports = 50_000..=50_099;
    config.relay.allow_peers = vec!["10.0.0.0/8".parse().unwrap()];
    config.relay.deny_peers = vec!["192.0.2.9/32".parse().unwrap()];
    config.relay.max_lifetime = Duration::from_secs(60);
    config.relay.default_lifetime = Duration::from_secs(30);
    config.relay.quotas.allocations_per_user = 3;
    config.relay.quotas.user_bytes_per_second = Some(1_000);
    config.relay.mobility = false;
    config.stun_idle_time = Duration::from_secs(7);
    let turn = config.turn().unwrap();
    assert!(turn.families.ipv4 && turn.families.ipv6 && !turn.mobility && turn.tcp_relay);
    assert_eq!(turn.max_lifetime, Duration::from_secs(60));
    assert_eq!(turn.default_lifetime, Duration::from_secs(30));
    assert_eq!(turn.stream_patience, Duration::from_secs(7));
    assert_eq!(
        (turn.max_allocations_per_user, turn.user_bandwidth),
        (3, Some(1_000))
    );
    let rule = &turn.peer_rule;
    let allowed = |peer| rule.check(address(peer)).is_ok();
    assert!(
        allowed("192.0.2.1:50000"),
        "a relayed address is a peer, by the address that peers see"
    );
    assert!(!allowed("192.0.2.1:50100"), "another port of it is not");
    assert!(allowed("10.1.2.3:9") && !allowed("192.0.2.9:9") && !allowed("127.0.0.1:9"));
}

#[test]
fn every_mistake_is_found_at_once() {
    let found = mistakes(|config| {
        config.tls = vec![address("0.0.0.0:443"), address("192.0.2.1:3478")];
        config.metrics = Some(address("192.0.2.1:443"));
        config.relay.addresses.push(address_of("0.0.0.0").into());
        config.relay.ports = RangeInclusive::new(9, 8);
        config.relay.default_lifetime = Duration::from_secs(7_200);
        config.relay.quotas.channels = 5_000;
        config.relay.quotas.total_bytes_per_second = Some(0);
        config.relay.redirect = true;
        config.access.users.push(User::new("ann", "another"));
        config.access.users.push(User::new("", "x"));
        config.access.secrets = vec![Secret::from("fine"), Secret::from("")];
        config.access.tokens = Some(Tokens::new(
            "turn.example",
            vec![TokenKey::new("a", "short")],
        ));
    });
    let settings: Vec<_> = found
        .iter()
        .map(|(setting, item, _)| (*setting, *item))
        .collect();
    assert_eq!(
        settings,
        [
            ("tls-listen", Some(1)),
            ("metrics", Some(0)),
            ("tls-listen", None),
            ("relay-address", Some(2)),
            ("relay-address", Some(2)),
            ("relay-ports", None),
            ("default-lifetime", None),
            ("max-channels", None),
            ("total-bandwidth", None),
            ("redirect", None),
            ("user", Some(1)),
            ("user", Some(2)),
            ("secret", Some(1)),
            ("token-key", Some(0)),
        ]
    );
}

#[test]
fn a_listener_for_operators_is_not_where_the_relay_lets_clients_go() {
    for (listener, good) in [
        ("192.0.2.1:50000", false),
        ("0.0.0.0:50000", false),
        ("[2001:db8::1]:65535", false),
        ("192.0.2.1:9478", true),
        ("127.0.0.1:50000", true),
    ] {
        let found = mistakes(|config| config.metrics = Some(address(listener)));
        let expected = [("metrics", Some(0), Reason::PortOfRelay(address(listener)))];
        assert_eq!(found, expected[..usize::from(!good)], "{listener}");
    }
    let found = mistakes(|config| {
        config.metrics = Some(address("0.0.0.0:50000"));
        config.relay.addresses.clear();
    });
    assert_eq!(found, [], "nothing is relayed");
}

#[test]
fn nat_discovery_needs_two_addresses_with_two_ports() {
    for (primary, alternate, good) in [
        ("192.0.2.1:3478", "192.0.2.2:3479", true),
        ("192.0.2.1:3478", "192.0.2.2:3478", false),
        ("192.0.2.1:3478", "192.0.2.1:3479", false),
        ("192.0.2.1:3478", "[2001:db8::2]:3479", false),
        ("0.0.0.0:3478", "192.0.2.2:3479", false),
    ] {
        let found = mistakes(|config| {
            config.stun_udp = vec![address(primary)];
            config.discovery = Some(DiscoveryAddresses::new(
                address(primary),
                address(alternate),
            ));
        });
        assert_eq!(found.is_empty(), good, "{primary} {alternate}: {found:?}");
    }
    let found = mistakes(|config| {
        config.discovery = Some(DiscoveryAddresses::new(
            address("192.0.2.1:3478"),
            address("192.0.2.2:3479"),
        ));
    });
    assert_eq!(
        found,
        [("alternate-address", None, Reason::DiscoveryPrimary)]
    );
}

#[test]
fn an_alternate_server_has_a_name_of_the_dns_or_none() {
    for (domain, good) in [
        (None, true),
        (Some("turn.example"), true),
        (Some(""), false),
        (Some("t\u{fc}rn.example"), false),
    ] {
        let found = mistakes(|config| {
            config.relay.alternate_servers = vec![AlternateServer::new(
                address("192.0.2.7:3478"),
                domain.map(Into::into),
            )];
        });
        assert_eq!(found.is_empty(), good, "{domain:?}");
    }
}

#[test]
fn no_secret_is_told() {
    let mut config = relay();
    config.access.secrets = vec![Secret::from("hunter2"), Secret::from("")];
    config.access.users = vec![User::new("walrus", "x"), User::new("walrus", "hunter2")];
    config.access.users.push(User::new("seal", "\u{7}hunter2"));
    config.access.tokens = Some(Tokens::new(
        "turn.example",
        vec![TokenKey::new("id", "hunter2")],
    ));
    let told = format!("{config:?} {:?}", config.check());
    let words: Vec<_> = config.check().iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), 4, "{words:?}");
    assert!(
        !told.contains("hunter2") && !words.concat().contains("hunter2"),
        "{told} {words:?}"
    );
    assert!(!told.contains("walrus"), "{told}");
}

#[test]
fn what_cannot_change_is_named() {
    let old = relay();
    let mut new = old.clone();
    new.access.users = vec![User::new("bob", "x")];
    new.relay.deny_peers = vec!["192.0.2.9/32".parse().unwrap()];
    new.relay.quotas.allocations = 5;
    new.relay.mobility = false;
    assert_eq!(old.fixed_differences(&new), [""; 0]);
    new.access.realm = "other".into();
    new.stun_tcp.clear();
    new.certificate = Some(CertificateFiles::new("a", "b"));
    assert_eq!(old.fixed_differences(&new), ["listen", "cert", "realm"]);
    let mut new = old.clone();
    new.rendezvous_limits.max_connections += 1;
    new.rendezvous_limits.code_lifetime += Duration::from_secs(1);
    let named = ["max-rendezvous", "code-lifetime"];
    assert_eq!(old.fixed_differences(&new), named);
    assert!(matches!(
        {
            let mut long = old;
            long.access.realm = "x".repeat(61);
            long.check()
        }
        .as_slice(),
        [ConfigMistake {
            setting: "realm",
            reason: Reason::Core(ConfigError::RealmTooLong),
            ..
        }]
    ));
}

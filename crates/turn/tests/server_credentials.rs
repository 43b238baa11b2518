//! Who is let in (RFC 8489 section 9.2, RFC 7635): each rule, each error.

mod support;

use std::sync::Arc;
use std::time::Duration;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use nilas_stun::{AttributeType, Class, Key, Method, PasswordAlgorithm, SecurityFeatures};
use nilas_turn::server::{ConfigError, Event, Input, ServerConfig};
use sha1::Sha1;
use support::*;

/// The password that a shared secret makes of a user name.
fn password(secret: &[u8], username: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).unwrap();
    mac.update(username.as_bytes());
    BASE64.encode(&mac.finalize().into_bytes())
}

fn with_secrets(secrets: &[&str]) -> ServerConfig {
    let mut config = ServerConfig::new(REALM).unwrap();
    for secret in secrets {
        config.add_secret(secret.as_bytes()).unwrap();
    }
    config
}

fn guest(secret: &str, username: &str, client: &str) -> Client {
    let password = password(secret.as_bytes(), username);
    Client::new(path(client), username, &password)
}

fn allocate_request() -> Vec<u8> {
    message(Class::Request, Method::ALLOCATE, |builder| {
        builder.requested_transport(17).unwrap();
    })
}

/// Sends a request of this client as it stands.
fn once(client: &Client, bench: &mut Bench, bytes: &[u8]) -> Answer {
    Answer(client.exchange(bench, bytes).1.expect("an answer"))
}

#[test]
fn without_credentials_there_is_401_with_all_that_is_needed() {
    let mut bench = Bench::new(config());
    let client = Client::ann("192.0.2.1:50000");
    let answer = once(&client, &mut bench, &allocate_request());
    let message = answer.message();
    assert_eq!(answer.code(), 401);
    assert_eq!(message.realm(), Ok(Some(REALM)));
    let algorithms: Vec<_> = message.password_algorithms().unwrap().unwrap().collect();
    assert_eq!(
        algorithms,
        [PasswordAlgorithm::SHA_256, PasswordAlgorithm::MD5]
    );
    let features = SecurityFeatures::of_nonce(message.nonce().unwrap().unwrap()).unwrap();
    assert!(features.contains(SecurityFeatures::PASSWORD_ALGORITHMS));
    assert!(features.contains(SecurityFeatures::USERNAME_ANONYMITY));
    for absent in [
        AttributeType::USERNAME,
        AttributeType::USERHASH,
        AttributeType::MESSAGE_INTEGRITY,
        AttributeType::MESSAGE_INTEGRITY_SHA256,
        AttributeType::THIRD_PARTY_AUTHORIZATION,
    ] {
        assert_eq!(message.value(absent), None, "{absent}");
    }
    assert!(bench.is_empty());
}

#[test]
fn every_method_but_binding_wants_credentials() {
    let mut bench = Bench::new(config());
    let client = Client::ann("192.0.2.1:50000");
    for method in [
        Method::ALLOCATE,
        Method::REFRESH,
        Method::CREATE_PERMISSION,
        Method::CHANNEL_BIND,
        Method::CONNECT,
        Method::CONNECTION_BIND,
    ] {
        let answer = once(
            &client,
            &mut bench,
            &message(Class::Request, method, |_| {}),
        );
        assert_eq!(answer.code(), 401, "{method}");
    }
    let answer = once(
        &client,
        &mut bench,
        &message(Class::Request, Method::BINDING, |_| {}),
    );
    assert_eq!(answer.code(), 0);
}

#[test]
fn both_password_algorithms_and_clients_that_know_of_none() {
    for algorithm in [Algorithm::Old, Algorithm::Md5, Algorithm::Sha256] {
        let mut bench = Bench::new(config());
        let mut client = Client::ann("192.0.2.1:50000");
        client.algorithm = algorithm;
        let answer = client.allocate_with(&mut bench, |_| {});
        assert_eq!(answer.code(), 0, "{algorithm:?}");
        // Signed with MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256, as RFC 8489 section 9.2.4 says.
        client.verified(&answer);
    }
}

#[test]
fn a_user_may_hide_behind_a_hash() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.userhash = true;
    client.algorithm = Algorithm::Sha256;
    let answer = client.allocate_with(&mut bench, |_| {});
    client.verified(&answer);
    assert!(matches!(&bench.events[..], [Event::AllocationMade { user, .. }] if &**user == "ann"));
    // It is the same user as by name.
    client.userhash = false;
    assert_eq!(client.refresh(&mut bench, 600).code(), 0);
    let mut nobody = Client::new(path("192.0.2.1:50001"), "nobody", "x");
    nobody.userhash = true;
    assert_eq!(nobody.allocate_with(&mut bench, |_| {}).code(), 401);
}

#[test]
fn anonymity_is_not_announced_where_a_hash_leads_to_nobody() {
    let mut bench = Bench::new(with_secrets(&["one"]));
    let client = Client::ann("192.0.2.1:50000");
    let answer = once(&client, &mut bench, &allocate_request());
    let features = SecurityFeatures::of_nonce(&answer.nonce().unwrap()).unwrap();
    assert!(!features.contains(SecurityFeatures::USERNAME_ANONYMITY));
}

#[test]
fn wrong_user_password_and_realm_are_401_without_a_signature() {
    let mut bench = Bench::new(config());
    let mut right = Client::ann("192.0.2.1:50000");
    right.refresh(&mut bench, 600);
    type Change = fn(&mut Client);
    let variants: [(&str, Change); 4] = [
        ("user", |client| client.username = "nobody".into()),
        ("password", |client| client.password = "wrong".into()),
        ("realm", |client| client.realm = "example.net".into()),
        // The right key under the wrong realm.
        ("realm alone", |client| {
            client.key = Some(client.key());
            client.realm = "example.net".into();
        }),
    ];
    for (what, change) in variants {
        let mut wrong = right.clone();
        change(&mut wrong);
        let id = bench.transaction();
        let bytes = wrong.sign(id, Method::ALLOCATE, |b| {
            b.requested_transport(17).unwrap();
        });
        let answer = once(&wrong, &mut bench, &bytes);
        assert_eq!(answer.code(), 401, "{what}");
        assert!(answer.nonce().is_some());
        assert_eq!(
            answer.message().value(AttributeType::MESSAGE_INTEGRITY),
            None
        );
    }
    assert_eq!(bench.server.counters().wrong_credentials, 4);
    assert!(bench.is_empty());
}

#[test]
fn incomplete_credentials_are_400_without_a_nonce() {
    let mut bench = Bench::new(config());
    let client = Client::ann("192.0.2.1:50000");
    let key = client.key();
    for missing in 0..3 {
        let bytes = message(Class::Request, Method::ALLOCATE, |builder| {
            builder.requested_transport(17).unwrap();
            if missing != 0 {
                builder.username("ann").unwrap();
            }
            if missing != 1 {
                builder.realm(REALM).unwrap();
            }
            if missing != 2 {
                builder.nonce("n").unwrap();
            }
            builder.message_integrity(&key).unwrap();
        });
        let answer = once(&client, &mut bench, &bytes);
        assert_eq!(answer.code(), 400, "{missing}");
        assert_eq!(answer.nonce(), None);
    }
}

#[test]
fn a_nonce_goes_stale_and_the_new_one_is_good() {
    let mut config = config();
    config.nonce_lifetime = Duration::from_secs(60);
    config.default_lifetime = Duration::from_secs(600);
    let mut bench = Bench::new(config);
    let mut client = Client::ann("192.0.2.1:50000");
    client.algorithm = Algorithm::Sha256;
    client.allocate(&mut bench);
    bench.pass(61 * SECOND);
    let id = bench.transaction();
    let bytes = client.sign(id, Method::REFRESH, |_| {});
    let answer = once(&client, &mut bench, &bytes);
    assert_eq!(answer.code(), 438);
    let message = answer.message();
    assert_eq!(message.realm(), Ok(Some(REALM)));
    assert!(message.password_algorithms().unwrap().is_some());
    client.nonce = answer.nonce().unwrap();
    assert_eq!(client.refresh(&mut bench, 600).code(), 0);
    assert_eq!(bench.server.counters().stale_nonces, 1);
}

#[test]
fn a_nonce_of_another_client_or_server_is_stale() {
    let mut bench = Bench::new(config());
    let mut first = Client::ann("192.0.2.1:50000");
    first.refresh(&mut bench, 600);
    let mut elsewhere = Client::ann("192.0.2.1:50001");
    elsewhere.nonce = first.nonce.clone();
    let id = bench.transaction();
    let bytes = elsewhere.sign(id, Method::REFRESH, |_| {});
    assert_eq!(once(&elsewhere, &mut bench, &bytes).code(), 438);
    for nonce in [
        "",
        "f//499k954d6OL34oL9FSTvy64sA",
        "obMatJos2wAAAAAAAAAAAAAAAA",
    ] {
        first.nonce = nonce.into();
        let id = bench.transaction();
        let bytes = first.sign(id, Method::REFRESH, |_| {});
        assert_eq!(once(&first, &mut bench, &bytes).code(), 438, "{nonce}");
    }
}

#[test]
fn whoever_takes_sha256_out_of_the_list_is_found_out() {
    // RFC 8489 section 9.2.1: someone on the path changed PASSWORD-ALGORITHMS, and the client believed it.
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.refresh(&mut bench, 600);
    let lists: [&[PasswordAlgorithm<'_>]; 4] = [
        &[PasswordAlgorithm::MD5],
        &[PasswordAlgorithm::MD5, PasswordAlgorithm::SHA_256],
        &[PasswordAlgorithm::SHA_256],
        &[
            PasswordAlgorithm::SHA_256,
            PasswordAlgorithm::MD5,
            PasswordAlgorithm::MD5,
        ],
    ];
    let signed = |list: Option<&[PasswordAlgorithm<'_>]>, one: Option<PasswordAlgorithm<'_>>| {
        message(Class::Request, Method::REFRESH, |builder| {
            builder
                .username("ann")
                .unwrap()
                .realm(REALM)
                .unwrap()
                .nonce(&client.nonce)
                .unwrap();
            if let Some(list) = list {
                builder.password_algorithms(list).unwrap();
            }
            if let Some(one) = one {
                builder.password_algorithm(one).unwrap();
            }
            builder.message_integrity(&client.key()).unwrap();
        })
    };
    for list in lists {
        let bytes = signed(Some(list), Some(PasswordAlgorithm::MD5));
        assert_eq!(once(&client, &mut bench, &bytes).code(), 400);
    }
    let right = [PasswordAlgorithm::SHA_256, PasswordAlgorithm::MD5];
    for (list, one) in [
        (Some(&right[..]), None),
        (None, Some(PasswordAlgorithm::MD5)),
        (Some(&right[..]), Some(PasswordAlgorithm::new(3, &[]))),
    ] {
        assert_eq!(once(&client, &mut bench, &signed(list, one)).code(), 400);
    }
    // As it should be: MD5 is among them, and there is no allocation.
    let bytes = signed(Some(&right), Some(PasswordAlgorithm::MD5));
    assert_eq!(once(&client, &mut bench, &bytes).code(), 437);
}

#[test]
fn whoever_takes_the_feature_out_of_the_cookie_is_found_out() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.refresh(&mut bench, 600);
    let cookie = SecurityFeatures::NONE.cookie();
    client
        .nonce
        .replace_range(..13, std::str::from_utf8(&cookie).unwrap());
    let id = bench.transaction();
    let bytes = client.sign(id, Method::REFRESH, |_| {});
    assert_eq!(once(&client, &mut bench, &bytes).code(), 438);
}

#[test]
fn time_limited_credentials_of_several_secrets() {
    let mut bench = Bench::new(with_secrets(&["old", "new"]));
    let expiry = UNIX + 3_600;
    for (number, secret) in ["old", "new"].into_iter().enumerate() {
        for algorithm in [Algorithm::Old, Algorithm::Sha256] {
            let mut client = guest(
                secret,
                &format!("{expiry}:ann"),
                &format!("192.0.2.{number}:1"),
            );
            client.algorithm = algorithm;
            let answer = client.allocate_with(&mut bench, |_| {});
            assert_eq!(answer.code(), 0);
            client.verified(&answer);
            client.refresh(&mut bench, 0);
        }
    }
    let mut wrong = guest("other", &format!("{expiry}:ann"), "192.0.2.9:1");
    assert_eq!(wrong.allocate_with(&mut bench, |_| {}).code(), 401);
    let mut no_time = guest("new", "ann", "192.0.2.9:1");
    assert_eq!(no_time.allocate_with(&mut bench, |_| {}).code(), 401);
}

#[test]
fn expiry_stands_against_new_allocations_only() {
    let mut bench = Bench::new(with_secrets(&["one"]));
    let mut client = guest("one", &format!("{}:ann", UNIX + 100), "192.0.2.1:50000");
    client.allocate(&mut bench);
    bench.pass(200 * SECOND);
    assert_eq!(client.refresh(&mut bench, 600).code(), 0);
    let mut again = client.clone();
    again.path = path("192.0.2.1:50001");
    again.nonce.clear();
    assert_eq!(again.allocate_with(&mut bench, |_| {}).code(), 401);
}

#[test]
fn strict_expiry_stands_against_refreshing_too() {
    let mut config = with_secrets(&["one"]);
    config.strict_expiry = true;
    let mut bench = Bench::new(config);
    let mut client = guest("one", &format!("{}:ann", UNIX + 100), "192.0.2.1:50000");
    client.allocate(&mut bench);
    assert_eq!(client.refresh(&mut bench, 600).code(), 0);
    bench.pass(200 * SECOND);
    assert_eq!(client.refresh(&mut bench, 600).code(), 401);
    assert_eq!(
        client.refresh(&mut bench, 0).code(),
        0,
        "what is there may be given back"
    );
    assert!(bench.is_empty());
}

#[test]
fn fresh_credentials_of_the_same_user_bring_no_fresh_quota() {
    let mut config = with_secrets(&["one"]);
    config.max_allocations_per_user = 1;
    let mut bench = Bench::new(config);
    guest("one", &format!("{}:ann", UNIX + 100), "192.0.2.1:1").allocate(&mut bench);
    let mut second = guest("one", &format!("{}:ann", UNIX + 101), "192.0.2.1:2");
    assert_eq!(second.allocate_with(&mut bench, |_| {}).code(), 486);
    guest("one", &format!("{}:bob", UNIX + 100), "192.0.2.1:3").allocate(&mut bench);
}

#[test]
fn an_allocation_outlives_the_secret_that_made_it_and_no_new_one_is_made() {
    let mut bench = Bench::new(with_secrets(&["old"]));
    let username = format!("{}:ann", UNIX + 10_000);
    let mut client = guest("old", &username, "192.0.2.1:50000");
    client.allocate(&mut bench);
    let _ = bench.handle(Input::ConfigChanged(Arc::new(with_secrets(&["new"]))));
    assert_eq!(client.refresh(&mut bench, 600).code(), 0);
    let mut other = guest("old", &username, "192.0.2.1:50001");
    assert_eq!(other.allocate_with(&mut bench, |_| {}).code(), 401);
}

#[test]
fn a_static_user_who_is_removed_is_out() {
    let mut bench = Bench::new(config());
    let mut ann = Client::ann("192.0.2.1:50000");
    ann.allocate(&mut bench);
    let mut bob = Client::new(path("192.0.2.2:50000"), "bob", "secret of bob");
    bob.allocate(&mut bench);
    let mut without = ServerConfig::new(REALM).unwrap();
    without.add_user("bob", "secret of bob").unwrap();
    let _ = bench.handle(Input::ConfigChanged(Arc::new(without)));
    assert_eq!(bench.server.counters().allocations, 1);
    assert_eq!(ann.allocate_with(&mut bench, |_| {}).code(), 401);
    assert_eq!(bob.refresh(&mut bench, 600).code(), 0);
}

#[test]
fn cores_of_one_server_understand_each_others_nonces() {
    use nilas_turn::server::{Common, WorkerId};
    let common = Common::new([3; 32], Duration::from_secs(UNIX), 4);
    let mut first = Bench::with_common(config(), Arc::clone(&common), WorkerId(0));
    let mut second = Bench::with_common(config(), common, WorkerId(1));
    let mut client = Client::ann("192.0.2.1:50000");
    client.refresh(&mut first, 600);
    let id = second.transaction();
    let bytes = client.sign(id, Method::ALLOCATE, |b| {
        b.requested_transport(17).unwrap();
    });
    assert_eq!(once(&client, &mut second, &bytes).code(), 0);
}

/// RFC 7635: a token as an authorization server makes it.
fn token(key: &[u8; 32], name: &str, session_key: &[u8], timestamp: u64, lifetime: u32) -> Vec<u8> {
    use aes_gcm::aead::{Aead, Nonce, Payload};
    use aes_gcm::{Aes256Gcm, KeyInit};
    let mut plain = (session_key.len() as u16).to_be_bytes().to_vec();
    plain.extend_from_slice(session_key);
    plain.extend_from_slice(&(timestamp << 16).to_be_bytes());
    plain.extend_from_slice(&lifetime.to_be_bytes());
    let nonce = [5; 12];
    let sealed = Aes256Gcm::new(key.into())
        .encrypt(
            &Nonce::<Aes256Gcm>::from(nonce),
            Payload {
                msg: &plain,
                aad: name.as_bytes(),
            },
        )
        .unwrap();
    [&[0, 12][..], &nonce, &sealed].concat()
}

fn with_tokens() -> ServerConfig {
    let mut config = config();
    config
        .add_token_key("turn1.example.org", "key-7", &[9; 32])
        .unwrap();
    config
}

fn bearer(client: &str, session_key: &[u8], timestamp: u64, lifetime: u32) -> Client {
    let mut bearer = Client::new(path(client), "key-7", "unused");
    bearer.token = Some(token(
        &[9; 32],
        "turn1.example.org",
        session_key,
        timestamp,
        lifetime,
    ));
    bearer.key = Some(Key::from_hmac_key(session_key));
    bearer
}

#[test]
fn a_token_lets_its_bearer_in() {
    let mut bench = Bench::new(with_tokens());
    let mut client = bearer("192.0.2.1:50000", b"session key of 20 by", UNIX, 1_000);
    let challenge = once(&client, &mut bench, &allocate_request());
    assert_eq!(
        challenge.message().third_party_authorization(),
        Ok(Some("turn1.example.org"))
    );
    let answer = client.allocate_with(&mut bench, |b| {
        b.lifetime(3_600).unwrap();
    });
    client.verified(&answer);
    // RFC 7635 section 9: no longer than the token, with 5 seconds for clocks; one has passed.
    assert_eq!(answer.lifetime(), Some(1_004));
    // Requests but Allocate and Refresh come without it.
    assert_eq!(client.permit(&mut bench, "192.0.2.9:9"), 0);
    bench.pass(500 * SECOND);
    assert_eq!(client.refresh(&mut bench, 3_600).lifetime(), Some(504));
    // A new token refreshes, and its key is the allocation's from then on.
    let mut renewed = bearer(
        "192.0.2.1:50000",
        b"another key of 20 by",
        UNIX + 500,
        1_000,
    );
    assert_eq!(renewed.refresh(&mut bench, 3_600).code(), 0);
    assert_eq!(renewed.permit(&mut bench, "192.0.2.9:9"), 0);
    client.token = None;
    assert_eq!(client.permit(&mut bench, "192.0.2.9:9"), 401);
}

#[test]
fn a_token_that_is_not_good_is_401() {
    let mut bench = Bench::new(with_tokens());
    let mut refused = |client: &mut Client| {
        assert_eq!(client.allocate_with(&mut bench, |_| {}).code(), 401);
    };
    refused(&mut bearer("192.0.2.1:1", b"k", UNIX - 2_000, 1_000));
    refused(&mut bearer("192.0.2.1:2", b"k", UNIX + 2_000, 1_000));
    let mut other_server = bearer("192.0.2.1:3", b"k", UNIX, 1_000);
    other_server.token = Some(token(&[9; 32], "turn2.example.org", b"k", UNIX, 1_000));
    refused(&mut other_server);
    let mut other_key = bearer("192.0.2.1:4", b"k", UNIX, 1_000);
    other_key.token = Some(token(&[8; 32], "turn1.example.org", b"k", UNIX, 1_000));
    refused(&mut other_key);
    let mut other_id = bearer("192.0.2.1:5", b"k", UNIX, 1_000);
    other_id.username = "key-8".into();
    refused(&mut other_id);
    let mut thief = bearer("192.0.2.1:6", b"k", UNIX, 1_000);
    thief.key = Some(Key::from_hmac_key(b"a guess"));
    refused(&mut thief);
    assert!(bench.is_empty());
}

#[test]
fn a_token_where_none_was_announced_is_420() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.token = Some(b"token".to_vec());
    let answer = client.allocate_with(&mut bench, |_| {});
    assert_eq!(answer.code(), 420);
    let unknown: Vec<u16> = answer
        .message()
        .unknown_attributes()
        .unwrap()
        .unwrap()
        .collect();
    assert_eq!(unknown, [AttributeType::ACCESS_TOKEN.0]);
}

#[test]
fn bearers_of_one_authorization_server_have_quotas_of_their_own() {
    let mut config = with_tokens();
    config.max_allocations_per_user = 1;
    let mut bench = Bench::new(config);
    bearer("192.0.2.1:1", b"key one", UNIX, 1_000).allocate(&mut bench);
    bearer("192.0.2.1:2", b"key two", UNIX, 1_000).allocate(&mut bench);
    let mut again = bearer("192.0.2.1:3", b"key two", UNIX, 1_000);
    assert_eq!(again.allocate_with(&mut bench, |_| {}).code(), 486);
}

#[test]
fn configurations_that_are_wrong_say_so() {
    assert!(matches!(
        ServerConfig::new("").unwrap_err(),
        ConfigError::Credential(_)
    ));
    assert_eq!(
        ServerConfig::new(&"r".repeat(61)).unwrap_err(),
        ConfigError::RealmTooLong
    );
    let mut config = config();
    assert_eq!(
        config.add_user("ann", "again"),
        Err(ConfigError::DuplicateUser)
    );
    assert!(matches!(
        config.add_user("eve", ""),
        Err(ConfigError::Credential(_))
    ));
    assert_eq!(config.add_secret(b""), Err(ConfigError::EmptySecret));
    // 48 and 64 bytes would be keys of AES-CBC with HMAC.
    for length in [0, 31, 48, 64] {
        let refused = config.add_token_key("name", "id", &vec![0; length]);
        assert_eq!(refused, Err(ConfigError::TokenKeyLength), "{length}");
    }
    assert_eq!(
        config.add_token_key("name", "", &[0; 32]),
        Err(ConfigError::KeyId)
    );
    config.add_token_key("name", "id", &[0; 32]).unwrap();
    assert_eq!(
        config.add_token_key("name", "id", &[0; 32]),
        Err(ConfigError::KeyId)
    );
    assert_eq!(
        config.add_token_key("other", "id2", &[0; 32]),
        Err(ConfigError::ServerName)
    );
    assert_eq!(
        config.add_token_key(&"n".repeat(45), "id2", &[0; 32]),
        Err(ConfigError::ServerName)
    );
    let shown = format!("{config:?}");
    assert!(!shown.contains("secret of"), "{shown}");
}

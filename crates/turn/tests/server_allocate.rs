//! The Allocate and Refresh requests (RFC 8656 sections 7 and 8): each rule, each error.

mod support;

use nilas_stun::{AddressFamily, AttributeType, Method};
use nilas_turn::server::{
    AlternateServer, Command, EndReason, Event, Input, Path, RelayPort, ServerConfig,
};
use support::*;

fn code_of(write: impl Fn(&mut nilas_stun::MessageBuilder<'_>)) -> u16 {
    code_with(config(), write)
}

fn code_with(config: ServerConfig, write: impl Fn(&mut nilas_stun::MessageBuilder<'_>)) -> u16 {
    let mut bench = Bench::new(config);
    let mut client = Client::ann("192.0.2.1:50000");
    let answer = client.request(&mut bench, Method::ALLOCATE, write);
    let code = answer.code();
    if code != 0 {
        assert!(bench.is_empty(), "{code} left something");
    }
    client.verified(&answer);
    code
}

#[test]
fn an_allocation_is_made_used_up_and_gone() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    let answer = client.allocate_with(&mut bench, |_| {});
    let verified = client.verified(&answer);
    assert_eq!(
        verified.xor_mapped_address(),
        Ok(Some(address("192.0.2.1:50000")))
    );
    assert_eq!(
        verified.xor_relayed_address(),
        Ok(Some(address("198.51.100.1:50000")))
    );
    assert_eq!(verified.lifetime(), Ok(Some(600)));
    assert_eq!(verified.software(), Ok(None));
    assert!(matches!(&bench.events[..], [Event::AllocationMade { user, .. }] if &**user == "ann"));

    bench.pass(599 * SECOND);
    assert_eq!(bench.server.counters().allocations, 1);
    bench.pass(SECOND);
    assert!(bench.is_empty());
    let Some(Event::AllocationEnded { reason, age, .. }) = bench.events.last() else {
        panic!()
    };
    assert_eq!((*reason, *age), (EndReason::Expired, 600 * SECOND));
    assert_eq!(client.refresh(&mut bench, 600).code(), 437);
    assert_eq!(bench.server.counters().timers, 0);
}

#[test]
fn lifetimes_are_between_the_default_and_the_longest() {
    for (asked, granted) in [
        (0, 600),
        (1, 600),
        (600, 600),
        (1_800, 1_800),
        (3_601, 3_600),
        (u32::MAX, 3_600),
    ] {
        let mut bench = Bench::new(config());
        let mut client = Client::ann("192.0.2.1:50000");
        let answer = client.allocate_with(&mut bench, |builder| {
            builder.lifetime(asked).unwrap();
        });
        assert_eq!(answer.lifetime(), Some(granted), "{asked}");
        if asked > 0 {
            assert_eq!(client.refresh(&mut bench, asked).lifetime(), Some(granted));
        }
    }
}

#[test]
fn refresh_prolongs_and_zero_deletes() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    for _ in 0..20 {
        bench.pass(599 * SECOND);
        assert_eq!(client.refresh(&mut bench, 600).code(), 0);
        assert_eq!(bench.server.counters().timers, 1);
    }
    let answer = client.refresh(&mut bench, 0);
    assert_eq!((answer.code(), answer.lifetime()), (0, Some(0)));
    assert!(bench.is_empty());
    // RFC 8656 section 8.3: to the client, 437 is as good as success.
    assert_eq!(client.refresh(&mut bench, 0).code(), 437);
    assert!(matches!(
        bench.events.last(),
        Some(Event::AllocationEnded {
            reason: EndReason::Released,
            ..
        })
    ));
}

#[test]
fn a_retransmitted_allocate_is_answered_with_the_same_success() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    client.refresh(&mut bench, 0);
    let id = bench.transaction();
    let bytes = client.sign(id, Method::ALLOCATE, |builder| {
        builder
            .requested_transport(17)
            .unwrap()
            .even_port(true)
            .unwrap();
    });
    let first = Answer(client.exchange(&mut bench, &bytes).1.unwrap());
    bench.pass(3 * SECOND);
    let again = Answer(client.exchange(&mut bench, &bytes).1.unwrap());
    assert_eq!(first.relayed(), again.relayed());
    assert_eq!((first.lifetime(), again.lifetime()), (Some(600), Some(597)));
    let token = first.message().reservation_token().unwrap();
    assert!(token.is_some());
    assert_eq!(again.message().reservation_token(), Ok(token));
    assert_eq!((bench.relays.len(), bench.reserved.len()), (1, 1));
    // Another transaction is another request: the 5-tuple is in use.
    assert_eq!(client.allocate_with(&mut bench, |_| {}).code(), 437);
}

#[test]
fn a_retransmission_before_the_port_is_bound_makes_no_second_one() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.refresh(&mut bench, 600);
    bench.binds = false;
    let id = bench.transaction();
    let bytes = client.sign(id, Method::ALLOCATE, |builder| {
        builder.requested_transport(17).unwrap();
    });
    for _ in 0..3 {
        assert_eq!(client.exchange(&mut bench, &bytes).1, None);
    }
    assert_eq!(bench.commands.len(), 1);
    let Command::BindRelay { relay, .. } = bench.commands[0] else {
        panic!()
    };
    // Until then there is nothing to refresh.
    assert_eq!(client.refresh(&mut bench, 600).code(), 437);
    bench.transmits.clear();
    let _ = bench.handle(Input::RelayBound {
        relay,
        result: Ok(address("198.51.100.1:55555")),
    });
    let answer = Answer(bench.last_transmit().unwrap().1);
    assert_eq!(answer.message().transaction_id(), id);
    assert_eq!(answer.relayed(), [address("198.51.100.1:55555")]);
}

#[test]
fn requested_transport_400_442() {
    assert_eq!(code_of(|_| {}), 400);
    assert_eq!(
        code_of(|b| {
            b.raw(AttributeType::REQUESTED_TRANSPORT, &[17]).unwrap();
        }),
        400
    );
    assert_eq!(
        code_of(|b| {
            b.requested_transport(132).unwrap();
        }),
        442
    );
    assert_eq!(
        code_of(|b| {
            b.requested_transport(17).unwrap();
        }),
        0
    );
    // RFC 6062 section 5.1: TCP only over TCP or TLS.
    assert_eq!(
        code_of(|b| {
            b.requested_transport(6).unwrap();
        }),
        400
    );
    let mut without = config();
    without.tcp_relay = false;
    assert_eq!(
        code_with(without, |b| {
            b.requested_transport(6).unwrap();
        }),
        442
    );
}

#[test]
fn dont_fragment_is_taken_or_refused_with_420() {
    let ask = |b: &mut nilas_stun::MessageBuilder<'_>| {
        b.requested_transport(17).unwrap().dont_fragment().unwrap();
    };
    assert_eq!(code_of(ask), 0);
    let mut without = config();
    without.dont_fragment = false;
    let mut bench = Bench::new(without);
    let mut client = Client::ann("192.0.2.1:50000");
    let answer = client.request(&mut bench, Method::ALLOCATE, ask);
    assert_eq!(answer.code(), 420);
    let unknown: Vec<u16> = answer
        .message()
        .unknown_attributes()
        .unwrap()
        .unwrap()
        .collect();
    assert_eq!(unknown, [AttributeType::DONT_FRAGMENT.0]);
}

#[test]
fn what_is_not_understood_is_420_with_a_bounded_list() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    let answer = client.allocate_with(&mut bench, |builder| {
        builder.raw(AttributeType::PRIORITY, &[0; 4]).unwrap();
        builder.raw(0xC001, b"optional").unwrap();
        for kind in 0x7000..0x7020_u16 {
            builder.raw(kind, b"").unwrap();
        }
    });
    assert_eq!(answer.code(), 420);
    let unknown: Vec<u16> = answer
        .message()
        .unknown_attributes()
        .unwrap()
        .unwrap()
        .collect();
    assert_eq!(unknown.len(), 8);
    assert_eq!(unknown[..2], [AttributeType::PRIORITY.0, 0x7000]);
}

#[test]
fn families_400_440() {
    use AddressFamily::{Ipv4, Ipv6};
    let mut only_v4 = config();
    only_v4.families.ipv6 = false;
    let mut only_v6 = config();
    only_v6.families.ipv4 = false;
    let ask = |family| {
        move |b: &mut nilas_stun::MessageBuilder<'_>| {
            b.requested_transport(17)
                .unwrap()
                .requested_address_family(family)
                .unwrap();
        }
    };
    assert_eq!(code_of(ask(Ipv4)), 0);
    assert_eq!(code_of(ask(Ipv6)), 0);
    assert_eq!(code_with(only_v4, ask(Ipv6)), 440);
    assert_eq!(code_with(only_v6.clone(), ask(Ipv4)), 440);
    assert_eq!(
        code_with(only_v6, |b| {
            b.requested_transport(17).unwrap();
        }),
        440
    );
    assert_eq!(
        code_of(|b| {
            b.requested_transport(17)
                .unwrap()
                .raw(AttributeType::REQUESTED_ADDRESS_FAMILY, &[3, 0, 0, 0])
                .unwrap();
        }),
        440,
        "a family that does not exist"
    );
    assert_eq!(
        code_of(|b| {
            b.requested_transport(17)
                .unwrap()
                .raw(AttributeType::REQUESTED_ADDRESS_FAMILY, &[1])
                .unwrap();
        }),
        400
    );
    assert_eq!(
        code_of(|b| {
            b.requested_transport(17)
                .unwrap()
                .requested_address_family(Ipv4)
                .unwrap()
                .additional_address_family(Ipv6)
                .unwrap();
        }),
        400,
        "both ways of asking"
    );
    assert_eq!(
        code_of(|b| {
            b.requested_transport(17)
                .unwrap()
                .additional_address_family(Ipv4)
                .unwrap();
        }),
        400
    );
    assert_eq!(
        code_of(|b| {
            b.requested_transport(17)
                .unwrap()
                .additional_address_family(Ipv6)
                .unwrap()
                .even_port(true)
                .unwrap();
        }),
        400
    );
}

#[test]
fn dual_allocations_in_whole_and_in_part() {
    let ask = |b: &mut nilas_stun::MessageBuilder<'_>| {
        b.additional_address_family(AddressFamily::Ipv6).unwrap();
    };
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    let answer = client.allocate_with(&mut bench, ask);
    assert_eq!(
        answer.relayed(),
        [
            address("198.51.100.1:50000"),
            address("[2001:db8:ffff::1]:50000")
        ]
    );
    assert_eq!(answer.message().address_error_code(), Ok(None));
    assert_eq!(
        bench.common.allocations(),
        1,
        "one allocation, with two addresses"
    );

    for (ipv4, ipv6, missing) in [
        (true, false, AddressFamily::Ipv6),
        (false, true, AddressFamily::Ipv4),
    ] {
        let mut config = config();
        (config.families.ipv4, config.families.ipv6) = (ipv4, ipv6);
        let mut bench = Bench::new(config);
        let answer = Client::ann("192.0.2.1:50000").allocate_with(&mut bench, ask);
        assert_eq!(answer.relayed().len(), 1);
        let error = answer.message().address_error_code().unwrap().unwrap();
        assert_eq!((error.family, error.error.code()), (missing, 440));
    }

    // One of the two is not to be had: 508 for it; then none: 508 for all.
    let mut bench = Bench::new(config());
    bench.binds = false;
    let mut client = Client::ann("192.0.2.1:50000");
    assert!(
        client
            .try_request(&mut bench, Method::ALLOCATE, |b| {
                b.requested_transport(17).unwrap();
                ask(b);
            })
            .is_none()
    );
    let relays: Vec<_> = bench
        .commands
        .iter()
        .map(|command| match command {
            Command::BindRelay { relay, .. } => *relay,
            other => panic!("{other:?}"),
        })
        .collect();
    use nilas_turn::server::BindError;
    let _ = bench.handle(Input::RelayBound {
        relay: relays[1],
        result: Err(BindError::NoPort),
    });
    assert_eq!(bench.last_transmit(), None);
    let _ = bench.handle(Input::RelayBound {
        relay: relays[0],
        result: Ok(address("198.51.100.1:50001")),
    });
    let answer = Answer(bench.last_transmit().unwrap().1);
    let error = answer.message().address_error_code().unwrap().unwrap();
    assert_eq!(
        (answer.code(), error.family, error.error.code()),
        (0, AddressFamily::Ipv6, 508)
    );

    let mut bench = Bench::new(config());
    bench.ports = 0;
    let answer = Client::ann("192.0.2.1:50000").allocate_with(&mut bench, ask);
    assert_eq!(answer.code(), 508);
    assert!(bench.is_empty());
}

#[test]
fn the_families_of_a_dual_allocation_are_refreshed_apart() {
    use AddressFamily::{Ipv4, Ipv6};
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate_with(&mut bench, |b| {
        b.additional_address_family(Ipv6).unwrap();
    });
    assert_eq!(client.bind(&mut bench, 0x4000, "192.0.2.9:9"), 0);
    assert_eq!(client.bind(&mut bench, 0x4001, "[2001:db8::9]:9"), 0);
    bench.pass(300 * SECOND);
    let answer = client.request(&mut bench, Method::REFRESH, |b| {
        b.requested_address_family(Ipv6).unwrap();
    });
    assert_eq!(answer.code(), 0);
    bench.pass(299 * SECOND);
    assert_eq!(bench.relays.len(), 2);
    bench.pass(SECOND);
    assert_eq!(bench.relays.len(), 1, "IPv4 has expired, IPv6 has not");
    assert_eq!(client.permit(&mut bench, "192.0.2.9:9"), 443);
    assert_eq!(client.permit(&mut bench, "[2001:db8::9]:9"), 0);
    let answer = client.request(&mut bench, Method::REFRESH, |b| {
        b.requested_address_family(Ipv4).unwrap();
    });
    assert_eq!(answer.code(), 443);
    let answer = client.request(&mut bench, Method::REFRESH, |b| {
        b.requested_address_family(Ipv6)
            .unwrap()
            .lifetime(0)
            .unwrap();
    });
    assert_eq!(answer.code(), 0);
    assert!(bench.is_empty());
}

#[test]
fn refresh_of_a_family_that_was_not_allocated_is_443() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    let answer = client.request(&mut bench, Method::REFRESH, |b| {
        b.requested_address_family(AddressFamily::Ipv6).unwrap();
    });
    assert_eq!(answer.code(), 443);
}

#[test]
fn even_ports_and_reservations() {
    let mut bench = Bench::new(config());
    let mut first = Client::ann("192.0.2.1:50000");
    let answer = first.allocate_with(&mut bench, |b| {
        b.even_port(true).unwrap();
    });
    let port = answer.relayed()[0].port();
    assert_eq!(port % 2, 0);
    let token = answer.message().reservation_token().unwrap().unwrap();
    bench.pass(29 * SECOND);
    let mut second = Client::ann("192.0.2.1:50001");
    let answer = second.allocate_with(&mut bench, |b| {
        b.reservation_token(token).unwrap();
    });
    assert_eq!(answer.relayed()[0].port(), port + 1);
    assert_eq!(answer.message().reservation_token(), Ok(None));
    // It is used up.
    let mut third = Client::ann("192.0.2.1:50002");
    let answer = third.allocate_with(&mut bench, |b| {
        b.reservation_token(token).unwrap();
    });
    assert_eq!(answer.code(), 508);
    bench.pass(SECOND * 2);
    assert_eq!(
        bench.relays.len(),
        2,
        "a reservation that became an allocation is not released"
    );
    let answer = third.allocate_with(&mut bench, |b| {
        b.even_port(false).unwrap();
    });
    assert_eq!(answer.relayed()[0].port() % 2, 0);
    for client in [&mut first, &mut second, &mut third] {
        client.refresh(&mut bench, 0);
    }
    assert!(bench.is_empty());
}

#[test]
fn a_reservation_of_ipv6_is_one_of_ipv6() {
    let mut bench = Bench::new(config());
    let answer = Client::ann("192.0.2.1:50000").allocate_with(&mut bench, |b| {
        b.even_port(true)
            .unwrap()
            .requested_address_family(AddressFamily::Ipv6)
            .unwrap();
    });
    let token = answer.message().reservation_token().unwrap().unwrap();
    let answer = Client::ann("192.0.2.1:50001").allocate_with(&mut bench, |b| {
        b.reservation_token(token).unwrap();
    });
    assert!(answer.relayed()[0].is_ipv6());
}

#[test]
fn a_reservation_token_excludes_other_wishes_400() {
    for write in [
        (|b| {
            b.even_port(false).unwrap();
        }) as fn(&mut nilas_stun::MessageBuilder<'_>),
        |b| {
            b.requested_address_family(AddressFamily::Ipv4).unwrap();
        },
        |b| {
            b.additional_address_family(AddressFamily::Ipv6).unwrap();
        },
    ] {
        assert_eq!(
            code_of(|b| {
                b.requested_transport(17)
                    .unwrap()
                    .reservation_token([1; 8])
                    .unwrap();
                write(b);
            }),
            400
        );
    }
    assert_eq!(
        code_of(|b| {
            b.requested_transport(17)
                .unwrap()
                .reservation_token([1; 8])
                .unwrap();
        }),
        508
    );
}

#[test]
fn no_port_is_508() {
    let mut bench = Bench::new(config());
    bench.ports = 1;
    assert_eq!(
        Client::ann("192.0.2.1:50000")
            .allocate_with(&mut bench, |b| {
                b.even_port(true).unwrap();
            })
            .code(),
        508
    );
    assert!(bench.is_empty(), "nothing of the pair is left");
    Client::ann("192.0.2.1:50000").allocate(&mut bench);
    assert_eq!(
        Client::ann("192.0.2.1:50001")
            .allocate_with(&mut bench, |_| {})
            .code(),
        508
    );
    assert_eq!(bench.server.counters().no_capacity, 2);
}

#[test]
fn quotas_486_508() {
    let mut config = config();
    config.max_allocations_per_user = 2;
    config.max_allocations = 3;
    let mut bench = Bench::new(config);
    let mut clients: Vec<Client> = (0..2)
        .map(|n| Client::ann(&format!("192.0.2.1:5000{n}")))
        .collect();
    for client in &mut clients {
        client.allocate(&mut bench);
    }
    assert_eq!(
        Client::ann("192.0.2.1:50009")
            .allocate_with(&mut bench, |_| {})
            .code(),
        486
    );
    let bob = |port: u16| Client::new(path(&format!("192.0.2.2:{port}")), "bob", "secret of bob");
    bob(1).allocate(&mut bench);
    assert_eq!(bob(2).allocate_with(&mut bench, |_| {}).code(), 508);
    clients[0].refresh(&mut bench, 0);
    bob(2).allocate(&mut bench);
    assert_eq!(bench.server.counters().over_quota, 1);
    bench.pass(600 * SECOND);
    assert!(bench.is_empty());
}

#[test]
fn draining_sends_new_clients_elsewhere_and_keeps_the_old() {
    let mut config = config();
    config.alternate_servers = vec![AlternateServer {
        address: address("203.0.113.5:3478"),
        domain: Some("two.example.org".into()),
    }];
    let mut bench = Bench::new(config.clone());
    let mut old = Client::ann("192.0.2.1:50000");
    old.allocate(&mut bench);
    let _ = bench.handle(Input::Drain);
    let mut new = Client::ann("192.0.2.1:50001");
    let answer = new.allocate_with(&mut bench, |_| {});
    assert_eq!(answer.code(), 300);
    let verified = new.verified(&answer);
    assert_eq!(
        verified.alternate_server(),
        Ok(Some(address("203.0.113.5:3478")))
    );
    assert_eq!(verified.alternate_domain(), Ok(Some("two.example.org")));
    assert_eq!(old.refresh(&mut bench, 600).code(), 0);
    // There is no other server of this family.
    let mut v6 = Client::ann("[2001:db8::1]:50000");
    assert_eq!(v6.allocate_with(&mut bench, |_| {}).code(), 508);

    config.redirect = true;
    assert_eq!(
        code_with(config, |b| {
            b.requested_transport(17).unwrap();
        }),
        300
    );
}

#[test]
fn another_user_on_the_same_5_tuple_is_441() {
    let mut bench = Bench::new(config());
    let mut ann = Client::ann("192.0.2.1:50000");
    ann.allocate(&mut bench);
    let mut bob = Client::new(ann.path, "bob", "secret of bob");
    assert_eq!(bob.refresh(&mut bench, 0).code(), 441);
    assert_eq!(bob.permit(&mut bench, "192.0.2.9:9"), 441);
    assert_eq!(bob.bind(&mut bench, 0x4000, "192.0.2.9:9"), 441);
    assert_eq!(bob.allocate_with(&mut bench, |_| {}).code(), 437);
    assert_eq!(bench.server.counters().wrong_user, 3);
    assert_eq!(bench.server.counters().allocations, 1);
}

#[test]
fn without_an_allocation_requests_are_437_and_data_is_ignored() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    assert_eq!(client.refresh(&mut bench, 600).code(), 437);
    assert_eq!(client.permit(&mut bench, "192.0.2.9:9"), 437);
    assert_eq!(client.bind(&mut bench, 0x4000, "192.0.2.9:9"), 437);
    let answer = client.request(&mut bench, Method::CONNECT, |b| {
        b.xor_peer_address(address("192.0.2.9:9")).unwrap();
    });
    assert_eq!(answer.code(), 437);
    bench.transmits.clear();
    use nilas_turn::server::Handled;
    assert_eq!(
        client.send(&mut bench, "192.0.2.9:9", b"data").0,
        Handled::Done
    );
    assert_eq!(
        client.channel_data(&mut bench, 0x4000, b"data"),
        Handled::Done
    );
    assert_eq!(bench.transmits, []);
    assert_eq!(bench.server.counters().no_allocation, 2);
}

#[test]
fn the_5_tuple_has_five_parts() {
    // The same client at another address or listener of the server is another 5-tuple.
    let mut bench = Bench::new(config());
    let mut first = Client::ann("192.0.2.1:50000");
    first.allocate(&mut bench);
    let Path::Datagram {
        listener, client, ..
    } = first.path
    else {
        panic!()
    };
    let mut second = Client::ann("192.0.2.1:50000");
    second.path = Path::Datagram {
        listener,
        client,
        server: address("198.51.100.2:3478"),
    };
    second.allocate(&mut bench);
    assert_eq!(bench.server.counters().allocations, 2);
}

#[test]
fn software_is_told_to_users_if_the_operator_wants_it() {
    let mut config = config();
    config.software = Some("nilas".into());
    let mut bench = Bench::new(config);
    let mut client = Client::ann("192.0.2.1:50000");
    let bytes = message(nilas_stun::Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17).unwrap();
    });
    let challenge = Answer(client.exchange(&mut bench, &bytes).1.unwrap());
    assert_eq!(challenge.message().software(), Ok(None));
    assert_eq!(
        client
            .allocate_with(&mut bench, |_| {})
            .message()
            .software(),
        Ok(Some("nilas"))
    );
    assert_eq!(
        client.refresh(&mut bench, 600).message().software(),
        Ok(Some("nilas"))
    );
}

#[test]
fn commands_say_which_port_is_wanted() {
    let mut bench = Bench::new(config());
    Client::ann("192.0.2.1:50000").allocate(&mut bench);
    assert!(matches!(
        bench.commands[0],
        Command::BindRelay {
            port: RelayPort::Any,
            family: AddressFamily::Ipv4,
            ..
        }
    ));
}

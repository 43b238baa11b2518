//! A name that another program on this machine answers for, over the loopback interface.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use nilas_ice::ResolveError;
use nilas_net::mdns::Mdns;
use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, ResourceRecord};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::timeout;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;

/// Answers for names that begin so, until it is dropped; everybody else's are no business of it.
async fn answer_for(prefix: &'static str, address: Ipv4Addr) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
    socket.bind(&any.into()).unwrap();
    socket
        .join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST)
        .unwrap();
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    let socket = UdpSocket::from_std(socket.into()).unwrap();
    let mut buffer = [0; 9_000];
    loop {
        let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
        let Ok(query) = Packet::parse(&buffer[..length]) else {
            continue;
        };
        let asked = query
            .questions
            .iter()
            .find(|question| question.qname.to_string().starts_with(prefix));
        let Some(question) = asked.filter(|_| !query.has_flags(PacketFlag::RESPONSE)) else {
            continue;
        };
        let mut reply = Packet::new_reply(0);
        reply.set_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER);
        let data = RData::A(A {
            address: address.into(),
        });
        let record = ResourceRecord::new(question.qname.clone(), CLASS::IN, 120, data);
        reply.answers.push(record);
        let bytes = reply.build_bytes_vec().unwrap();
        socket.send_to(&bytes, (GROUP, PORT)).await.unwrap();
    }
}

#[tokio::test]
async fn a_name_on_the_link_is_found_and_others_are_given_up() {
    let prefix = "nilas-test-4711";
    let address = Ipv4Addr::new(192, 0, 2, 77);
    let responder = tokio::spawn(answer_for(prefix, address));
    let resolver = Mdns::default();
    let limit = Duration::from_secs(60);
    // Several at a time, one of them twice, and again once all is at rest.
    for round in 0..2 {
        let names = [0, 1, 1].map(|n| format!("{prefix}-{round}-{n}.local"));
        let found = async {
            tokio::join!(
                resolver.resolve(&names[0]),
                resolver.resolve(&names[1]),
                resolver.resolve(&names[2]),
            )
        };
        let wanted = Ok(IpAddr::V4(address));
        let found = timeout(limit, found).await.expect("no hang");
        assert_eq!(found, (wanted, wanted, wanted));
    }
    let nobody = timeout(limit, resolver.resolve("nobody-has-this-name-4711.local")).await;
    assert_eq!(nobody, Ok(Err(ResolveError::TimedOut)));
    responder.abort();
}

/// Two programs on one machine, each with sockets of its own.
#[tokio::test]
async fn a_name_of_this_machine_is_answered_for_until_it_is_taken_back() {
    let name = format!("nilas-test-{}.local", std::process::id());
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (own, other) = (Mdns::default(), Mdns::default());
    let limit = Duration::from_secs(60);
    assert!(own.register(&name, address));
    let found = timeout(limit, other.resolve(&name)).await;
    assert_eq!(found, Ok(Ok(address)));
    // One that both asks and answers finds its own.
    let found = timeout(limit, own.resolve(&name)).await;
    assert_eq!(found, Ok(Ok(address)));

    own.unregister(&name);
    let found = timeout(limit, other.resolve(&name)).await;
    assert_eq!(found, Ok(Err(ResolveError::TimedOut)));

    // With the last clone its names end, too.
    let clone = own.clone();
    assert!(own.register(&name, address));
    drop(own);
    let found = timeout(limit, other.resolve(&name)).await;
    assert_eq!(found, Ok(Ok(address)));
    drop(clone);
    let found = timeout(limit, other.resolve(&name)).await;
    assert_eq!(found, Ok(Err(ResolveError::TimedOut)));
}

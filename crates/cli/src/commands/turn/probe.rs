//! One server, asked over each transport.

use std::net::SocketAddr;
use std::time::Duration;

use nilas_net::dns::{ServerAddress, ServerTransport};
use nilas_net::relay::{
    Failure as Refusal, Families, Relay, RelayError, RelayRequest, RelaySendError, RelayStage,
    TurnClient,
};
use nilas_stun::uri::TurnUri;
use tokio::task::JoinSet;

use super::echo::{self, Echo};
use super::targets::Target;

const ALL: [ServerTransport; 4] = [
    ServerTransport::Udp,
    ServerTransport::Tcp,
    ServerTransport::Tls,
    ServerTransport::Dtls,
];

/// What came of one transport and address.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) transport: ServerTransport,
    pub(super) address: SocketAddr,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// There was an allocation; whether data goes through it is in each of its relays.
    Allocated(Allocated),
    /// It is not offered, which nobody asked for, or cannot be reached from this machine.
    Unavailable { reason: String },
    /// It should work, and does not.
    Failed { stage: RelayStage, reason: String },
}

#[derive(Debug)]
pub(super) struct Allocated {
    pub(super) connect: Duration,
    pub(super) allocate: Duration,
    pub(super) mapped: Option<SocketAddr>,
    pub(super) relays: Vec<Carried>,
}

/// What one relayed address carried.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) relayed: SocketAddr,
    pub(super) way: Way,
    pub(super) echo: Result<Echo, String>,
}

/// What was at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A second allocation.
    Relay,
    /// A socket of this machine, since the server does not relay to itself.
    Socket,
}

impl Row {
    pub(super) fn works(&self) -> bool {
        match &self.outcome {
            Outcome::Allocated(allocated) => allocated.relays.iter().all(Carried::works),
            _ => false,
        }
    }

    pub(super) fn fails(&self) -> bool {
        !self.works() && !matches!(self.outcome, Outcome::Unavailable { .. })
    }
}

impl Carried {
    /// A few may be lost on any network; a relay that loses more than a tenth is of no use for a call.
    pub(super) fn works(&self) -> bool {
        let carried = |echo: &Echo| echo.received > 0 && echo.received * 10 >= echo.sent * 9;
        self.echo.as_ref().is_ok_and(carried)
    }
}

/// Asks a server over every transport and address.
pub(super) async fn all(
    client: &TurnClient,
    target: &Target,
    count: u32,
) -> Result<Vec<Row>, RelayError> {
    let ways = ways(client, &target.uri).await?;
    // At once: one that swallows packets costs five seconds, and not each of them five more.
    let mut asking = JoinSet::new();
    for (index, (server, _)) in ways.iter().enumerate() {
        let (client, server, request) = (client.clone(), server.clone(), request(target));
        asking.spawn(async move { (index, allocate(&client, &server, &request).await) });
    }
    let mut answers: Vec<_> = ways.iter().map(|_| None).collect();
    while let Some(answer) = asking.join_next().await {
        // A panic there has been told, and leaves the row without an answer.
        if let Ok((index, answer)) = answer {
            answers[index] = Some(answer);
        }
    }
    // One after another, so that none is measured beside another.
    let mut rows = Vec::new();
    for ((server, required), answer) in ways.into_iter().zip(answers) {
        let outcome = match answer {
            Some(Ok(relay)) => carry(client, target, relay, count).await,
            Some(Err(error)) => classify(&error, required),
            None => continue,
        };
        rows.push(Row {
            transport: server.transport,
            address: server.address,
            outcome,
        });
    }
    forgive(&mut rows);
    Ok(rows)
}

/// An address that cannot be connected to keeps nobody from a server that has another where the same transport works: clients
/// try them all (RFC 5928 section 3).
fn forgive(rows: &mut [Row]) {
    let working = ALL.map(|transport| {
        let works = |row: &Row| row.transport == transport && row.works();
        rows.iter().any(works).then_some(transport)
    });
    for row in rows {
        if let Outcome::Failed {
            stage: RelayStage::Connect,
            reason,
        } = &row.outcome
            && working.contains(&Some(row.transport))
        {
            let reason = reason.clone();
            row.outcome = Outcome::Unavailable { reason };
        }
    }
}

/// The ways to ask a server, and whether each was asked for by name.
async fn ways(
    client: &TurnClient,
    uri: &TurnUri,
) -> Result<Vec<(ServerAddress, bool)>, RelayError> {
    let named = uri.transport.is_some();
    let asked = client.resolve(uri, &ALL).await?;
    let mut ways: Vec<_> = asked.into_iter().map(|server| (server, named)).collect();
    if !named {
        // Many servers take TLS on the plain port or the other way round, or on the default one.
        let other = TurnUri {
            secure: !uri.secure,
            ..uri.clone()
        };
        for server in client.resolve(&other, &ALL).await.unwrap_or_default() {
            if !ways.iter().any(|(known, _)| *known == server) {
                ways.push((server, false));
            }
        }
    }
    Ok(ways)
}

fn request(target: &Target) -> RelayRequest {
    let mut request = RelayRequest::new(target.credentials.clone());
    request.families = Families::Both;
    request
}

/// Both families, or the one that there is.
async fn allocate(
    client: &TurnClient,
    server: &ServerAddress,
    request: &RelayRequest,
) -> Result<Relay, RelayError> {
    // RFC 8656 section 19: 440, the address family is not supported: then there may be the other.
    match client.allocate_at(server, request).await {
        Err(RelayError::Allocate {
            failure: Refusal::Refused { code: 440, .. },
            ..
        }) => {
            let mut request = request.clone();
            request.families = Families::V6;
            client.allocate_at(server, &request).await
        }
        answer => answer,
    }
}

/// Sends through the relayed addresses of each family.
async fn carry(client: &TurnClient, target: &Target, relay: Relay, count: u32) -> Outcome {
    let (mapped, times, server) = (relay.mapped(), relay.times(), relay.server().clone());
    let mut relays = Vec::new();
    let both = request(target);
    let dual = relay.relayed().iter().any(SocketAddr::is_ipv6);
    carry_through(client, &both, relay, count, &mut relays).await;
    if !dual {
        // Some servers know nothing of two families at once, and give IPv6 to whoever asks for it alone. That they
        // do not is no failure.
        let mut v6 = both;
        v6.families = Families::V6;
        if let Ok(relay) = client.allocate_at(&server, &v6).await {
            carry_through(client, &v6, relay, count, &mut relays).await;
        }
    }
    Outcome::Allocated(Allocated {
        connect: times.connect,
        allocate: times.allocate,
        mapped,
        relays,
    })
}

/// Sends through each of a relay's addresses: to a second allocation, or where the server refuses that, to a socket.
async fn carry_through(
    client: &TurnClient,
    request: &RelayRequest,
    mut relay: Relay,
    count: u32,
    relays: &mut Vec<Carried>,
) {
    let mapped = relay.mapped();
    let mut far = allocate(client, relay.server(), request).await;
    for relayed in relay.relayed() {
        let same_family = |other: &SocketAddr| other.is_ipv4() == relayed.is_ipv4();
        let through = match &mut far {
            Ok(far) => match far.relayed().into_iter().find(same_family) {
                Some(to) => echo::between(&mut relay, far, [relayed, to], count)
                    .await
                    .map_err(|error| error.to_string()),
                None => Err("a second allocation has no address of this family".to_owned()),
            },
            Err(error) => Err(format!("a second allocation: {error}")),
        };
        let first = match through {
            Ok(echo) if echo.received > 0 => {
                relays.push(Carried {
                    relayed,
                    way: Way::Relay,
                    echo: Ok(echo),
                });
                continue;
            }
            Ok(_) => "nothing came through from one allocation to another".to_owned(),
            Err(error) => error,
        };
        let own = mapped.map(|mapped| mapped.ip());
        let echo = match own.filter(|own| own.is_ipv4() == relayed.is_ipv4()) {
            Some(own) => match echo::with_socket(&mut relay, relayed, own, count).await {
                Ok(Some(echo)) => Ok(echo),
                Ok(None) => Err(format!(
                    "{first}; and what this machine sends to {relayed} does not arrive: is it the server's \
                     public address, and are its relay ports open in the firewall?"
                )),
                Err(RelaySendError::PeerRefused { code: 403, .. }) => Err(format!(
                    "{first}; and the server's rules forbid relaying to this machine, too (403)"
                )),
                Err(error) => Err(format!("{first}; {error}")),
            },
            None => Err(first),
        };
        relays.push(Carried {
            relayed,
            way: Way::Socket,
            echo,
        });
    }
    if let Ok(far) = far {
        far.release().await;
    }
    relay.release().await;
}

/// Whether there being no allocation is a failure, or nobody asked for it.
fn classify(error: &RelayError, required: bool) -> Outcome {
    let reason = error.to_string();
    let no_route = matches!(error, RelayError::Socket { error, .. } if is_no_route(error))
        || matches!(error, RelayError::Stream(error) if matches!(
            &error.cause,
            nilas_net::stream::StreamCause::Io(error) if is_no_route(error)
        ));
    let not_there = match error.stage() {
        RelayStage::Connect | RelayStage::Handshake => true,
        // Over UDP, whether a server is there shows only then.
        RelayStage::Allocate => matches!(error, RelayError::TimedOut { .. }),
        _ => false,
    };
    if no_route || (not_there && !required) {
        Outcome::Unavailable { reason }
    } else {
        Outcome::Failed {
            stage: error.stage(),
            reason,
        }
    }
}

/// This machine has no way to addresses of this family.
fn is_no_route(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::AddrNotAvailable
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_asked_for_is_no_failure() {
        let server = SocketAddr::from(([192, 0, 2, 1], 3478));
        let silent = RelayError::TimedOut { server };
        assert!(matches!(
            classify(&silent, false),
            Outcome::Unavailable { .. }
        ));
        assert!(matches!(classify(&silent, true), Outcome::Failed { .. }));
        let refused = RelayError::Allocate {
            server,
            failure: Refusal::Unauthorized,
        };
        for required in [false, true] {
            assert!(matches!(
                classify(&refused, required),
                Outcome::Failed {
                    stage: RelayStage::Allocate,
                    ..
                }
            ));
        }
    }

    #[test]
    fn one_address_of_a_name_that_works_is_enough_for_a_transport() {
        let row = |transport, outcome| Row {
            transport,
            address: SocketAddr::from(([192, 0, 2, 1], 3478)),
            outcome,
        };
        let works = || {
            Outcome::Allocated(Allocated {
                connect: Duration::ZERO,
                allocate: Duration::ZERO,
                mapped: None,
                relays: Vec::new(),
            })
        };
        let fails = |stage| Outcome::Failed {
            stage,
            reason: "refused".into(),
        };
        use RelayStage::{Allocate, Connect};
        use ServerTransport::{Tcp, Udp};
        for (transport, stage, is_forgiven) in [
            (Tcp, Connect, true),
            (Tcp, Allocate, false),
            (Udp, Connect, false),
        ] {
            let mut rows = [row(transport, fails(stage)), row(Tcp, works())];
            forgive(&mut rows);
            assert_eq!(!rows[0].fails(), is_forgiven, "{transport} {stage:?}");
        }
    }

    #[test]
    fn a_relay_that_loses_much_does_not_work() {
        let carried = |received| Carried {
            relayed: SocketAddr::from(([192, 0, 2, 1], 50_000)),
            way: Way::Relay,
            echo: Ok(Echo {
                sent: 50,
                received,
                times: Vec::new(),
            }),
        };
        assert!(carried(50).works() && carried(45).works());
        assert!(!carried(44).works() && !carried(0).works());
    }
}

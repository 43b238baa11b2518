//! `nilas turn bench`: how much a server relays.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nilas_net::dns::{ServerAddress, ServerTransport};
use nilas_net::relay::{Relay, RelayRequest, TurnClient};
use nilas_net::{UdpSocket, os_seed};
use serde::Serialize;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::load::{self, Flow, Load};
use super::report::milliseconds;
use super::sink::{Arrivals, Latency, Sink};
use super::targets;
use crate::arguments::turn::{Peer, TurnBench};
use crate::commands::print_line;
use crate::failure::Failure;
use crate::output::{ended, json_line};

const SCHEMA: &str = "nilas.turn-bench/1";
/// Requests for allocations that are under way at once.
const AT_ONCE: usize = 32;
/// The light traffic before the load, which shows the latency.
const LIGHT_RATE: u32 = 1_000;
const LIGHT_TIME: Duration = Duration::from_secs(1);

/// The result.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether something came through, where something was sent.
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    url: String,
    transport: String,
    server: SocketAddr,
    flows: u32,
    size_bytes: u32,
    allocations: usize,
    allocations_per_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Percentiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<LoadReport>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct LoadReport {
    seconds: f64,
    sent: u64,
    received: u64,
    /// Relayed by the server and thrown away by this machine, which did not read fast enough.
    dropped_here: u64,
    /// What the server relayed.
    packets_per_s: f64,
    mbit_per_s: f64,
    loss_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Percentiles>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

pub(super) fn run(arguments: &TurnBench) -> Result<(), Failure> {
    // It looks at its sockets often: what arrives must not wait for what is sent.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .event_interval(8)
        .build()
        .map_err(|error| Failure::internal(format!("no runtime: {error}")))?;
    let report = ended(arguments.json, SCHEMA, runtime.block_on(measure(arguments)))?;
    if arguments.json {
        json_line(SCHEMA, &report)?;
    } else {
        for line in lines(&report) {
            print_line(&line)?;
        }
    }
    match report.reason {
        Some(reason) => Err(Failure::no_connection(reason)),
        None => Ok(()),
    }
}

async fn measure(arguments: &TurnBench) -> Result<Report, Failure> {
    let client = targets::client(&arguments.trust)?;
    let request = RelayRequest::new(targets::credentials(&arguments.account)?);
    let server = server(&client, arguments).await?;
    let senders = arguments.flows as usize;
    let total = match arguments.peer {
        Peer::Relay => senders * 2,
        Peer::Local(_) => senders,
    };
    let began = Instant::now();
    let mut relays = allocate(&client, &server, &request, total).await?;
    let allocations_per_s = total as f64 / began.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(arguments.idle.into())).await;
    let mut report = Report {
        ok: true,
        reason: None,
        url: arguments.url.to_string(),
        transport: server.transport.to_string(),
        server: server.address,
        flows: arguments.flows,
        size_bytes: arguments.size,
        allocations: total,
        allocations_per_s: allocations_per_s.round(),
        latency_ms: None,
        load: None,
        notes: Vec::new(),
    };
    if arguments.seconds > 0 {
        let receivers = relays.split_off(senders);
        let (flows, mut sink) = connect(relays, receivers, arguments.peer).await?;
        load_on(arguments, &flows, &mut sink, &mut report).await?;
        relays = flows.into_iter().map(|flow| flow.relay).collect();
        if let Sink::Relays(receivers) = sink {
            relays.extend(receivers);
        }
    }
    let mut releasing = JoinSet::new();
    for relay in relays {
        releasing.spawn(relay.release());
    }
    releasing.join_all().await;
    Ok(report)
}

/// The first of the server's addresses over the transport that is asked for.
async fn server(client: &TurnClient, arguments: &TurnBench) -> Result<ServerAddress, Failure> {
    let transports = [
        ServerTransport::Udp,
        ServerTransport::Tls,
        ServerTransport::Tcp,
        ServerTransport::Dtls,
    ];
    let servers = client.resolve(&arguments.url, &transports).await;
    servers
        .map_err(Failure::no_connection)?
        .into_iter()
        .next()
        .ok_or_else(|| Failure::no_connection("the URL leads to no server"))
}

async fn allocate(
    client: &TurnClient,
    server: &ServerAddress,
    request: &RelayRequest,
    count: usize,
) -> Result<Vec<Relay>, Failure> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    for _ in 0..count {
        let (client, server, request) = (client.clone(), server.clone(), request.clone());
        let places = Arc::clone(&places);
        asking.spawn(async move {
            let _place = places.acquire().await;
            client.allocate_at(&server, &request).await
        });
    }
    let mut relays = Vec::with_capacity(count);
    while let Some(asked) = asking.join_next().await {
        let asked = asked.map_err(Failure::internal)?;
        relays.push(asked.map_err(|error| {
            Failure::no_connection(format!(
                "allocation {} of {count}: {error}",
                relays.len() + 1
            ))
        })?);
    }
    Ok(relays)
}

/// Gives each flow its peer, and channels to it.
async fn connect(
    senders: Vec<Relay>,
    receivers: Vec<Relay>,
    peer: Peer,
) -> Result<(Vec<Flow>, Sink), Failure> {
    let gone = || Failure::no_connection("an allocation was lost before the load began");
    let fail = |error| match peer {
        Peer::Relay => Failure::no_connection(format!(
            "{error}; if the server does not relay to itself, try --peer local"
        )),
        Peer::Local(_) => Failure::no_connection(error),
    };
    let mut flows = Vec::with_capacity(senders.len());
    let sink = if let Peer::Local(address) = peer {
        let here = senders
            .first()
            .map(|relay| SocketAddr::new(relay.local_address().ip(), 0));
        let address = address.or(here).ok_or_else(gone)?;
        let socket = UdpSocket::bind(address)
            .map_err(|error| Failure::usage(format!("no socket at {address}: {error}")))?;
        let peer = socket.local_address();
        flows.extend(senders.into_iter().map(|relay| Flow { relay, peer }));
        let batch = Box::default();
        Sink::Local { socket, batch }
    } else {
        for (relay, receiver) in senders.into_iter().zip(&receivers) {
            let own = relay.relayed().first().copied().ok_or_else(gone)?;
            let peer = receiver.relayed().first().copied().ok_or_else(gone)?;
            receiver.bind(own).await.map_err(fail)?;
            flows.push(Flow { relay, peer });
        }
        Sink::Relays(receivers)
    };
    for flow in &flows {
        flow.relay.bind(flow.peer).await.map_err(fail)?;
    }
    Ok((flows, sink))
}

async fn load_on(
    arguments: &TurnBench,
    flows: &[Flow],
    sink: &mut Sink,
    report: &mut Report,
) -> Result<(), Failure> {
    let size = arguments.size as usize;
    let seed = os_seed().map_err(Failure::internal)?;
    let (tag, _) = seed.split_first_chunk().unwrap_or((&[0; 4], &[]));
    let tag = u32::from_be_bytes(*tag);
    let light = Arrivals::new(tag, size);
    let mut light = load::run(flows, sink, light, size, LIGHT_TIME, Some(LIGHT_RATE))
        .await
        .map_err(Failure::no_connection)?;
    report.latency_ms = light.arrivals.latency().map(Percentiles::of);
    let heavy = Arrivals::new(tag.wrapping_add(1), size);
    let time = Duration::from_secs(arguments.seconds.into());
    let heavy = load::run(flows, sink, heavy, size, time, arguments.rate)
        .await
        .map_err(Failure::no_connection)?;
    let load = LoadReport::of(heavy, size);
    if arguments.rate.is_none() && load.loss_percent < 1.0 && load.received > 0 {
        report.notes.push(
            "less than 1 % was lost: it was this program that could send no more, and the server may relay more"
                .to_owned(),
        );
    }
    if load.dropped_here * 100 > load.sent {
        report.notes.push(
            "this machine dropped more than 1 % of what the server relayed; it counts as relayed"
                .to_owned(),
        );
    }
    if load.received == 0 {
        report.ok = false;
        report.reason = Some("nothing came through the relay: `nilas turn test` says more");
    }
    report.load = Some(load);
    Ok(())
}

impl LoadReport {
    fn of(mut load: Load, size: usize) -> Self {
        let seconds = load.took.as_secs_f64();
        let received = load.arrivals.count;
        let relayed = (received + load.dropped_here).min(load.sent);
        let per_second = relayed as f64 / seconds;
        let lost = (load.sent - relayed) as f64;
        Self {
            seconds: round(seconds, 1e3),
            sent: load.sent,
            received,
            dropped_here: load.dropped_here,
            packets_per_s: per_second.round(),
            mbit_per_s: round(per_second * size as f64 * 8.0 / 1e6, 10.0),
            loss_percent: round(lost * 100.0 / (load.sent.max(1)) as f64, 1e3),
            latency_ms: load.arrivals.latency().map(Percentiles::of),
        }
    }
}

impl Percentiles {
    fn of(latency: Latency) -> Self {
        Self {
            p50: milliseconds(latency.p50),
            p90: milliseconds(latency.p90),
            p99: milliseconds(latency.p99),
            max: milliseconds(latency.max),
        }
    }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "allocated    {} at {} over {}: {} per second",
        report.allocations, report.server, report.transport, report.allocations_per_s
    )];
    let percentiles = |name: &str, of: Percentiles| {
        format!(
            "{name:<12} one way: median {} ms, 90 % {} ms, 99 % {} ms, at most {} ms",
            of.p50, of.p90, of.p99, of.max
        )
    };
    lines.extend(report.latency_ms.map(|of| percentiles("quiet", of)));
    if let Some(load) = &report.load {
        lines.push(format!(
            "load         {} flows of {} bytes for {} s: {} packets/s relayed, {} Mbit/s",
            report.flows, report.size_bytes, load.seconds, load.packets_per_s, load.mbit_per_s
        ));
        lines.push(format!(
            "loss         {} % ({} sent, {} came through)",
            load.loss_percent, load.sent, load.received
        ));
        lines.extend(load.latency_ms.map(|of| percentiles("loaded", of)));
    }
    lines.extend(
        report
            .notes
            .iter()
            .map(|note| format!("note         {note}")),
    );
    lines
}

fn round(value: f64, digits: f64) -> f64 {
    (value * digits).round() / digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_machine_dropped_was_relayed() {
        let mut arrivals = Arrivals::new(1, 100);
        arrivals.count = 900;
        let load = Load {
            sent: 1_000,
            dropped_here: 50,
            took: Duration::from_secs(1),
            arrivals,
        };
        let report = LoadReport::of(load, 100);
        assert_eq!(report.packets_per_s, 950.0);
        assert_eq!(report.loss_percent, 5.0);
        assert_eq!(report.mbit_per_s, 0.8);
    }
}

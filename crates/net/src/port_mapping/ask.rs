//! What is said to the gateway, in the protocols that it may know.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::pin::pin;
use std::time::Duration;

use crab_nat::{
    InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig, VersionCode,
    natpmp, pcp,
};
use futures_util::future::{Either, select};
use igd_next::aio::Gateway as Device;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddAnyPortError, GetExternalIpError, PortMappingProtocol, SearchOptions};
use nilas_ice::PortMappingError;
use tokio::time::{Instant, timeout};

use super::epoch::Protocol;
use super::gateway::{Gateway, gateway_of};
use super::gateways::Gateways;
use super::{LIFETIME, LONGEST_LIFETIME};

/// When a request to the gateway is sent again, and given up: after 1.75 s. RFC 6886 section 3.1 has this beginning and nine
/// attempts, RFC 6887 section 8.1.1 three seconds and no end, a departure: gathering waits for it, and a gateway is not far.
/// What nobody has answered is asked for again later.
const PATIENCE: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: None,
};
/// How long a device of UPnP is looked for, while the other protocols are tried. It may wait for up to three seconds
/// before it answers.
const SEARCH: Duration = Duration::from_millis(3_200);
/// What it is then asked takes no longer.
const REQUESTS: Duration = Duration::from_millis(1_500);
/// What devices of UPnP show the mapping as.
const DESCRIPTION: &str = "nilas";
const UDP: PortMappingProtocol = PortMappingProtocol::UDP;
/// RFC 6887 section 7.4: how long an error of a long lifetime is to be expected, where crab_nat does not tell what the gateway says.
const LONG_LIFETIME: Duration = Duration::from_secs(1_800);

/// A mapping that the gateway has granted.
#[derive(Debug)]
pub(super) struct Granted {
    external: SocketAddr,
    lifetime: Duration,
    by: By,
}

#[derive(Debug)]
enum By {
    /// PCP or NAT-PMP, with how often the gateway had lost its mappings before.
    Protocol(PortMapping, u64),
    /// Boxed, for it is much larger.
    Upnp(Box<Device<Tokio>>),
    #[cfg(test)]
    Nobody,
}

/// Why no port is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) error: PortMappingError,
    /// For how long the gateway says so (RFC 6887 section 8.3).
    pub(super) lasts: Duration,
}

impl From<PortMappingError> for Refusal {
    fn from(error: PortMappingError) -> Self {
        let lasts = Duration::ZERO;
        Self { error, lasts }
    }
}

/// Asks for a mapping, or for one more time what was granted already.
pub(super) async fn ask(
    gateways: &Gateways,
    internal: SocketAddrV4,
    granted: Option<&Granted>,
) -> Result<Granted, Refusal> {
    let answer = match granted {
        Some(granted) => granted.renew(gateways, internal).await,
        None => first(gateways, internal).await,
    };
    match &answer {
        Ok(granted) => tracing::debug!(%internal, external = %granted.external, "port mapped"),
        Err(Refusal { error, lasts }) => {
            tracing::debug!(%internal, %error, ?lasts, "no port mapping");
        }
    }
    answer
}

async fn first(gateways: &Gateways, internal: SocketAddrV4) -> Result<Granted, Refusal> {
    let gateway = match gateway_of(*internal.ip()) {
        Gateway::Known(gateway) => gateway,
        Gateway::Nowhere => return Err(PortMappingError::NoGateway.into()),
        Gateway::Untold => return Ok(by_upnp(search(internal).await?, internal).await?),
    };
    // Looking for a device asks it for nothing yet.
    let protocol = pin!(by_protocol(gateways, gateway, internal));
    let (refused, found) = match select(protocol, pin!(search(internal))).await {
        Either::Left((Ok(granted), _)) => return Ok(granted),
        Either::Left((Err(refused), search)) => (refused, search.await),
        Either::Right((found, protocol)) => match protocol.await {
            Ok(granted) => return Ok(granted),
            Err(refused) => (refused, found),
        },
    };
    let Ok(device) = found else {
        return Err(refused);
    };
    let lasts = refused.lasts;
    let granted = by_upnp(device, internal).await;
    granted.map_err(|error| Refusal { error, lasts })
}

/// By the protocols of the gateway itself.
async fn by_protocol(
    gateways: &Gateways,
    gateway: Ipv4Addr,
    internal: SocketAddrV4,
) -> Result<Granted, Refusal> {
    let asked = async {
        let wanted = Instant::now();
        let _turn = gateways.turn(gateway).await;
        match gateways.refusal(gateway, wanted) {
            Some(refusal) => Err(refusal),
            None => map(gateways, gateway, internal, None).await,
        }
    };
    timeout(SEARCH, asked)
        .await
        .unwrap_or_else(|_| Err(PortMappingError::NoAnswer.into()))
}

/// Asks by PCP each time, and by NAT-PMP if the gateway says that it knows no PCP (RFC 6886 section 1.1, RFC 6887
/// appendix A). What was granted before is suggested (RFC 6886 section 3.3, RFC 6887 section 11.2.1).
async fn map(
    gateways: &Gateways,
    gateway: Ipv4Addr,
    internal: SocketAddrV4,
    before: Option<&PortMapping>,
) -> Result<Granted, Refusal> {
    let port = NonZeroU16::new(internal.port()).ok_or(PortMappingError::Other)?;
    let options = PortMappingOptions {
        external_port: before.map(PortMapping::external_port),
        lifetime_seconds: Some(LIFETIME.as_secs() as u32),
        timeout_config: Some(PATIENCE),
    };
    let (nonce, external) = match before.map(PortMapping::mapping_type) {
        Some(PortMappingType::Pcp {
            nonce, external_ip, ..
        }) => (Some(nonce), Some(external_ip)),
        _ => (None, None),
    };
    let (client, udp) = (*internal.ip(), InternetProtocol::Udp);
    let base = pcp::BaseMapRequest::new(gateway.into(), client.into(), udp, port);
    let (protocol, mapping) = match pcp::port_mapping(base, nonce, external, options).await {
        // RFC 6886 section 3 has it for machines with private addresses only.
        Err(pcp::Failure::UnsupportedVersion(VersionCode::NatPmp)) if client.is_private() => {
            let mapping = natpmp::port_mapping(gateway.into(), udp, port, options).await;
            (
                Protocol::NatPmp,
                mapping.map_err(|error| natpmp_failure(&error).into()),
            )
        }
        mapping => {
            let refused = |error| {
                let refusal = pcp_refusal(&error);
                // RFC 6887 section 11.4: nobody asks it for a new mapping.
                if matches!(error, pcp::Failure::NoResources(_)) {
                    gateways.refuse(gateway, refusal);
                }
                refusal
            };
            (Protocol::Pcp, mapping.map_err(refused))
        }
    };
    let mapping = mapping.inspect_err(|refusal: &Refusal| {
        // What does not answer one does not answer those who wait either.
        if refusal.error == PortMappingError::NoAnswer {
            gateways.refuse(gateway, *refusal);
        }
    })?;
    let losses = gateways.heard(gateway, protocol, mapping.gateway_epoch());
    Granted::by_protocol(mapping, losses).await
}

/// Looks for a device of UPnP on the link of this address.
async fn search(internal: SocketAddrV4) -> Result<Device<Tokio>, PortMappingError> {
    let mut options = SearchOptions::default();
    options.bind_addr = SocketAddrV4::new(*internal.ip(), 0).into();
    options.timeout = Some(SEARCH);
    options.single_search_timeout = Some(SEARCH);
    // Whatever went wrong, there is no device that can be asked.
    search_gateway(options)
        .await
        .map_err(|_| PortMappingError::NoAnswer)
}

async fn by_upnp(
    device: Device<Tokio>,
    internal: SocketAddrV4,
) -> Result<Granted, PortMappingError> {
    let (local, seconds) = (internal.into(), LIFETIME.as_secs() as u32);
    let asked = async {
        let ip = device.get_external_ip().await.map_err(no_address)?;
        let port = |seconds| device.add_any_port(UDP, local, seconds, DESCRIPTION);
        let port = match port(seconds).await {
            // Some know only mappings that never end; what is not given back then stays.
            Err(AddAnyPortError::OnlyPermanentLeasesSupported) => port(0).await,
            other => other,
        };
        Ok(SocketAddr::new(ip, port.map_err(no_port)?))
    };
    let external = timeout(REQUESTS, asked)
        .await
        .unwrap_or(Err(PortMappingError::NoAnswer))?;
    let by = By::Upnp(Box::new(device));
    Ok(Granted {
        external,
        lifetime: LIFETIME,
        by,
    })
}

impl Granted {
    async fn by_protocol(mapping: PortMapping, losses: u64) -> Result<Self, Refusal> {
        // That is what a mapping has that is deleted (RFC 6886 section 3.4, RFC 6887 section 15.1).
        if mapping.lifetime() == 0 {
            return Err(PortMappingError::Other.into());
        }
        let ip = match mapping.mapping_type() {
            PortMappingType::Pcp { external_ip, .. } => external_ip,
            PortMappingType::NatPmp => {
                let asked = natpmp::external_address(mapping.gateway(), Some(PATIENCE)).await;
                asked.map_err(|error| natpmp_failure(&error))?.into()
            }
        };
        Ok(Self {
            external: SocketAddr::new(ip, mapping.external_port().get()),
            lifetime: Duration::from_secs(mapping.lifetime().into()),
            by: By::Protocol(mapping, losses),
        })
    }

    /// The address from which the gateway forwards.
    pub(super) const fn external(&self) -> SocketAddr {
        self.external
    }

    /// How long it does, as the gateway says.
    pub(super) const fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The gateway that may lose it, and how often that one had lost its mappings when it granted this.
    pub(super) fn origin(&self) -> Option<(Ipv4Addr, u64)> {
        match &self.by {
            By::Protocol(mapping, losses) => match mapping.gateway().into() {
                IpAddr::V4(gateway) => Some((gateway, *losses)),
                IpAddr::V6(_) => None,
            },
            By::Upnp(_) => None,
            #[cfg(test)]
            By::Nobody => None,
        }
    }

    async fn renew(&self, gateways: &Gateways, internal: SocketAddrV4) -> Result<Self, Refusal> {
        match &self.by {
            By::Protocol(mapping, _) => {
                let Some((gateway, _)) = self.origin() else {
                    return Err(PortMappingError::Other.into());
                };
                let _turn = gateways.turn(gateway).await;
                map(gateways, gateway, internal, Some(mapping)).await
            }
            By::Upnp(device) => {
                let seconds = LIFETIME.as_secs() as u32;
                let (port, local) = (self.external.port(), internal.into());
                let asked = async {
                    device
                        .add_port(UDP, port, local, seconds, DESCRIPTION)
                        .await
                        .ok()?;
                    device.get_external_ip().await.ok()
                };
                match timeout(REQUESTS, asked).await {
                    Ok(Some(ip)) => Ok(Self {
                        external: SocketAddr::new(ip, port),
                        lifetime: LIFETIME,
                        by: By::Upnp(device.clone()),
                    }),
                    // It may have the port for somebody else by now, or its mappings never end.
                    Ok(None) => Ok(by_upnp((**device).clone(), internal).await?),
                    Err(_) => Err(PortMappingError::NoAnswer.into()),
                }
            }
            #[cfg(test)]
            By::Nobody => Err(PortMappingError::NoAnswer.into()),
        }
    }

    /// Gives it back. The gateway need not agree. Nobody's turn is waited for: whoever ends has little time, and one such
    /// request at least is to be sent (RFC 6886 section 3.1).
    pub(super) async fn give_back(self) {
        match self.by {
            By::Protocol(mapping, _) => drop(mapping.try_drop().await),
            By::Upnp(device) => drop(device.remove_port(UDP, self.external.port()).await),
            #[cfg(test)]
            By::Nobody => {}
        }
    }

    #[cfg(test)]
    pub(super) const fn for_tests(external: SocketAddr, lifetime: Duration) -> Self {
        Self {
            external,
            lifetime,
            by: By::Nobody,
        }
    }
}

fn natpmp_failure(error: &natpmp::Failure) -> PortMappingError {
    match error {
        natpmp::Failure::Timeout
        | natpmp::Failure::UnsupportedVersion(_)
        | natpmp::Failure::UnsupportedOpcode => PortMappingError::NoAnswer,
        natpmp::Failure::Socket(error) => not_sent(error),
        natpmp::Failure::NotAuthorized | natpmp::Failure::OutOfResources => {
            PortMappingError::Refused
        }
        natpmp::Failure::NetworkFailure => PortMappingError::Unusable,
        natpmp::Failure::InvalidResponse(_) => PortMappingError::Other,
    }
}

/// RFC 6887 section 8.3: what was refused is not asked for again as long as the gateway says.
fn pcp_refusal(error: &pcp::Failure) -> Refusal {
    let told = |seconds: &u32| Duration::from_secs((*seconds).into()).min(LONGEST_LIFETIME);
    let (error, lasts) = match error {
        pcp::Failure::Timeout => (PortMappingError::NoAnswer, Duration::ZERO),
        // RFC 6887 section 9: for thirty minutes at the most.
        pcp::Failure::UnsupportedVersion(_) => (PortMappingError::NoAnswer, LONG_LIFETIME),
        pcp::Failure::Socket(error) => (not_sent(error), Duration::ZERO),
        pcp::Failure::NotAuthorized(seconds)
        | pcp::Failure::NoResources(seconds)
        | pcp::Failure::UserExceededQuota(seconds)
        | pcp::Failure::CannotProvideExternal(seconds) => {
            (PortMappingError::Refused, told(seconds))
        }
        pcp::Failure::NetworkFailure(seconds) => (PortMappingError::Unusable, told(seconds)),
        // Not the gateway's word.
        pcp::Failure::Nonce | pcp::Failure::InvalidResponse(_) => {
            (PortMappingError::Other, Duration::ZERO)
        }
        _ => (PortMappingError::Other, LONG_LIFETIME),
    };
    Refusal { error, lasts }
}

/// The gateway may say that nobody listens there.
fn not_sent(error: &std::io::Error) -> PortMappingError {
    match error.kind() {
        ErrorKind::ConnectionRefused => PortMappingError::NoAnswer,
        _ => PortMappingError::Other,
    }
}

fn no_address(error: GetExternalIpError) -> PortMappingError {
    match error {
        GetExternalIpError::ActionNotAuthorized => PortMappingError::Refused,
        GetExternalIpError::RequestError(_) => PortMappingError::Other,
    }
}

fn no_port(error: AddAnyPortError) -> PortMappingError {
    match error {
        AddAnyPortError::ActionNotAuthorized
        | AddAnyPortError::NoPortsAvailable
        | AddAnyPortError::ExternalPortInUse => PortMappingError::Refused,
        _ => PortMappingError::Other,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::mpsc;

    use tokio::net::UdpSocket;
    use tokio::task::JoinHandle;

    use super::*;

    /// Linux answers at all addresses of 127.0.0.0/8: each test has one of its own, for the port is given.
    async fn gateway(
        at: Ipv4Addr,
        answer: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static,
    ) -> JoinHandle<()> {
        let socket = UdpSocket::bind((at, crab_nat::GATEWAY_PORT));
        let socket = socket.await.expect("nobody else is there");
        tokio::spawn(async move {
            let mut buffer = [0; 1_100];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                    return;
                };
                if let Some(answer) = answer(&buffer[..length]) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        })
    }

    /// As RFC 6886 sections 3.2 and 3.3 have it, with the port after the one that is wanted.
    fn natpmp(request: &[u8]) -> Option<Vec<u8>> {
        match *request {
            [0, 0] => Some(vec![0, 128, 0, 0, 0, 0, 0, 9, 192, 0, 2, 1]),
            [0, 1, 0, 0, high, low, _, _, a, b, c, d] => {
                let external = u16::from_be_bytes([high, low]) + 1;
                let [e, f] = match [a, b, c, d] {
                    [0, 0, 0, 0] => [0; 2],
                    _ => external.to_be_bytes(),
                };
                Some(vec![0, 129, 0, 0, 0, 0, 0, 9, high, low, e, f, a, b, c, d])
            }
            // Section 3.5: unsupported version.
            [version, ..] if version != 0 => Some(vec![0, 128, 0, 1, 0, 0, 0, 9]),
            _ => None,
        }
    }

    /// As if it were of a network behind the gateway.
    fn internal() -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5_000)
    }

    async fn asked(at: Ipv4Addr) -> Result<Granted, Refusal> {
        by_protocol(&Gateways::default(), at, internal()).await
    }

    #[tokio::test]
    async fn a_gateway_that_knows_no_pcp_is_asked_by_nat_pmp() {
        let at = Ipv4Addr::new(127, 68, 0, 1);
        let gateway = gateway(at, natpmp).await;
        let gateways = Gateways::default();
        let granted = by_protocol(&gateways, at, internal())
            .await
            .expect("a port");
        let external = SocketAddr::from(([192, 0, 2, 1], 5_001));
        assert_eq!(
            (granted.external(), granted.lifetime()),
            (external, LIFETIME)
        );
        let renewed = ask(&gateways, internal(), Some(&granted)).await;
        assert_eq!(renewed.expect("the same").external(), external);
        granted.give_back().await;
        gateway.abort();
    }

    /// As RFC 6887 sections 7.2 and 11.1 have it: an answer of MAP, with an external port and address if it is none of error.
    fn pcp(request: &[u8], result: u8, lifetime: u32) -> Vec<u8> {
        let mut answer = vec![2, 129, 0, result];
        answer.extend(lifetime.to_be_bytes());
        answer.extend([0, 0, 0, 9]);
        answer.extend([0; 12]);
        answer.extend(&request[24..60]);
        if lifetime > 0 && result == 0 {
            answer[42..44].copy_from_slice(&7_000_u16.to_be_bytes());
            let external = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
            answer[44..60].copy_from_slice(&external.octets());
        }
        answer
    }

    #[tokio::test]
    async fn a_mapping_of_pcp_is_renewed_as_it_was_granted_and_deleted_in_the_end() {
        let at = Ipv4Addr::new(127, 68, 3, 1);
        let (seen, requests) = mpsc::channel();
        let gateway = gateway(at, move |request| {
            let _ = seen.send(request.to_vec());
            // It grants less than was wanted, and nothing to whoever wants nothing.
            Some(pcp(
                request,
                0,
                if request[4..8] == [0; 4] { 0 } else { 600 },
            ))
        });
        let gateway = gateway.await;
        let gateways = Gateways::default();
        let granted = by_protocol(&gateways, at, internal())
            .await
            .expect("a port");
        let external = SocketAddr::from(([192, 0, 2, 1], 7_000));
        assert_eq!(granted.external(), external);
        assert_eq!(granted.lifetime(), Duration::from_secs(600));
        let renewed = ask(&gateways, internal(), Some(&granted)).await;
        renewed.expect("the same").give_back().await;
        let mut requests: Vec<_> = requests.try_iter().collect();
        // What is sent again is the same.
        requests.dedup();
        let [first, renewal, deletion] = <[Vec<u8>; 3]>::try_from(requests).expect("three");
        let lifetimes = [&first, &renewal, &deletion].map(|request| request[4..8].to_vec());
        let wanted = (LIFETIME.as_secs() as u32).to_be_bytes();
        assert_eq!(lifetimes, [&wanted, &wanted, &[0; 4]]);
        // RFC 6887 section 8.1.1: one nonce.
        assert_eq!(first[24..36], renewal[24..36]);
        assert_eq!(first[24..36], deletion[24..36]);
        // Sections 11.2.1 and 15.1: what was assigned is suggested, and nothing when it is deleted.
        let suggested = |request: &[u8]| u16::from_be_bytes([request[42], request[43]]);
        assert_eq!(
            [&first, &renewal, &deletion].map(|request| suggested(request)),
            [0, 7_000, 0]
        );
        assert_eq!(renewal[56..60], [192, 0, 2, 1]);
        gateway.abort();
    }

    #[tokio::test]
    async fn a_gateway_says_how_long_it_refuses_and_nobody_asks_one_that_has_no_room() {
        let seconds = Duration::from_secs;
        // Results of RFC 6887 section 7.4; of some crab_nat does not tell the lifetime.
        let cases = [
            (2, 1_800, PortMappingError::Refused, seconds(1_800)),
            (2, u32::MAX, PortMappingError::Refused, LONGEST_LIFETIME),
            (3, 60, PortMappingError::Other, LONG_LIFETIME),
            (7, 30, PortMappingError::Unusable, seconds(30)),
            (8, 40, PortMappingError::Refused, seconds(40)),
        ];
        for (number, (result, lifetime, error, lasts)) in cases.into_iter().enumerate() {
            let at = Ipv4Addr::new(127, 68, 4, number as u8);
            let (seen, nonces) = mpsc::channel();
            let gateway = gateway(at, move |request| {
                let _ = seen.send(request[24..36].to_vec());
                Some(pcp(request, result, lifetime))
            });
            let gateway = gateway.await;
            let gateways = Gateways::default();
            for _ in 0..2 {
                let refused = by_protocol(&gateways, at, internal()).await;
                let refusal = refused.map(|granted| granted.external()).unwrap_err();
                assert_eq!(refusal.error, error, "{result}");
                assert!(refusal.lasts <= lasts, "{result}: {refusal:?}");
            }
            let first = asked(at).await.map(|granted| granted.external());
            assert_eq!(first, Err(Refusal { error, lasts }));
            // Section 11.4: of another mapping, too, where there is no room.
            let times = if result == 8 { 2 } else { 3 };
            let nonces: BTreeSet<_> = nonces.try_iter().collect();
            assert_eq!(nonces.len(), times, "{result}");
            gateway.abort();
        }
    }

    #[tokio::test]
    async fn nat_pmp_is_spoken_from_private_addresses_only() {
        let at = Ipv4Addr::new(127, 68, 5, 1);
        let gateway = gateway(at, natpmp).await;
        let public = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 5_000);
        let refused = by_protocol(&Gateways::default(), at, public).await;
        let refusal = refused.map(|granted| granted.external()).unwrap_err();
        assert_eq!(refusal.error, PortMappingError::NoAnswer);
        assert!(asked(at).await.is_ok());
        gateway.abort();
    }

    #[tokio::test]
    async fn what_a_gateway_refuses_and_what_makes_no_sense_are_errors() {
        // Results of RFC 6886 section 3.5, of lengths and versions that fit or do not.
        let cases: [(&'static [u8], PortMappingError); 5] = [
            (
                &[0, 129, 0, 2, 0, 0, 0, 9, 0x13, 0x88, 0, 0, 0, 0, 0, 0],
                PortMappingError::Refused,
            ),
            (
                &[0, 129, 0, 3, 0, 0, 0, 9, 0x13, 0x88, 0, 0, 0, 0, 0, 0],
                PortMappingError::Unusable,
            ),
            (
                &[0, 129, 0, 5, 0, 0, 0, 9, 0x13, 0x88, 0, 0, 0, 0, 0, 0],
                PortMappingError::NoAnswer,
            ),
            (&[0, 129], PortMappingError::Other),
            (
                &[0, 129, 0, 0, 0, 0, 0, 9, 0, 1, 0x13, 0x89, 0, 0, 4, 0xb0],
                PortMappingError::Other,
            ),
        ];
        for (number, (answer, wanted)) in cases.into_iter().enumerate() {
            let at = Ipv4Addr::new(127, 68, 1, number as u8);
            let gateway = gateway(at, move |request| match request[0] {
                0 => Some(answer.to_vec()),
                _ => natpmp(request),
            });
            let gateway = gateway.await;
            let refused = asked(at).await.map(|granted| granted.external());
            assert_eq!(refused, Err(wanted.into()), "{answer:?}");
            gateway.abort();
        }
    }

    #[tokio::test]
    async fn a_gateway_where_nobody_listens_does_not_answer() {
        let at = Ipv4Addr::new(127, 68, 2, 1);
        let refused = asked(at).await.map(|granted| granted.external());
        assert_eq!(refused, Err(PortMappingError::NoAnswer.into()));
    }
}

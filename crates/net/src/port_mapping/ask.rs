//! What is said to the gateway, in the protocols that it may know.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::pin::pin;
use std::time::Duration;

use crab_nat::{
    InternetProtocol, MappingFailure, PortMapping, PortMappingOptions, PortMappingType,
    TimeoutConfig, natpmp, pcp,
};
use futures_util::future::{Either, select};
use igd_next::aio::Gateway as Device;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{AddAnyPortError, GetExternalIpError, PortMappingProtocol, SearchOptions};
use nilas_ice::PortMappingError;
use tokio::time::timeout;

use super::gateway::{Gateway, gateway_of};

/// When a request to the gateway is sent again, and given up: after 1.75 s. RFC 6886 section 3.1 has this beginning, and
/// RFC 6887 section 8.1.1 three seconds and no end, a departure: gathering waits for it, and a gateway is not far.
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

/// A mapping that the gateway has granted.
#[derive(Debug)]
pub(super) struct Granted {
    external: SocketAddr,
    lifetime: Duration,
    by: By,
}

#[derive(Debug)]
enum By {
    /// PCP or NAT-PMP.
    Protocol(PortMapping),
    /// Boxed, for it is much larger.
    Upnp(Box<Device<Tokio>>),
    #[cfg(test)]
    Nobody,
}

/// Asks for a mapping, or for one more time what was granted already.
pub(super) async fn ask(
    internal: SocketAddrV4,
    granted: Option<&Granted>,
    lifetime: Duration,
) -> Result<Granted, PortMappingError> {
    let answer = match granted {
        Some(granted) => granted.renew(internal, lifetime).await,
        None => first(internal, lifetime).await,
    };
    match &answer {
        Ok(granted) => tracing::debug!(%internal, external = %granted.external, "port mapped"),
        Err(error) => tracing::debug!(%internal, %error, "no port mapping"),
    }
    answer
}

async fn first(internal: SocketAddrV4, lifetime: Duration) -> Result<Granted, PortMappingError> {
    let gateway = match gateway_of(*internal.ip()) {
        Gateway::Known(gateway) => gateway,
        Gateway::Nowhere => return Err(PortMappingError::NoGateway),
        Gateway::Untold => return by_upnp(search(internal).await?, internal, lifetime).await,
    };
    // Looking for a device asks it for nothing yet.
    let protocol = pin!(by_protocol(gateway, internal, lifetime));
    let (refused, found) = match select(protocol, pin!(search(internal))).await {
        Either::Left((Ok(granted), _)) => return Ok(granted),
        Either::Left((Err(refused), search)) => (refused, search.await),
        Either::Right((found, protocol)) => match protocol.await {
            Ok(granted) => return Ok(granted),
            Err(refused) => (refused, found),
        },
    };
    match found {
        Ok(device) => by_upnp(device, internal, lifetime).await,
        Err(_) => Err(refused),
    }
}

/// By PCP, or by NAT-PMP if the gateway says that it knows no PCP (RFC 6887 section 9).
async fn by_protocol(
    gateway: Ipv4Addr,
    internal: SocketAddrV4,
    lifetime: Duration,
) -> Result<Granted, PortMappingError> {
    let port = NonZeroU16::new(internal.port()).ok_or(PortMappingError::Other)?;
    let options = PortMappingOptions {
        external_port: None,
        lifetime_seconds: Some(lifetime.as_secs() as u32),
        timeout_config: Some(PATIENCE),
    };
    let client = IpAddr::V4(*internal.ip());
    let udp = InternetProtocol::Udp;
    let asked = async {
        let mapping = PortMapping::new(gateway.into(), client, udp, port, options);
        Granted::by_protocol(mapping.await.map_err(|error| failure(&error))?).await
    };
    timeout(SEARCH, asked)
        .await
        .unwrap_or(Err(PortMappingError::NoAnswer))
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
    lifetime: Duration,
) -> Result<Granted, PortMappingError> {
    let (local, seconds) = (internal.into(), lifetime.as_secs() as u32);
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
        lifetime,
        by,
    })
}

impl Granted {
    async fn by_protocol(mapping: PortMapping) -> Result<Self, PortMappingError> {
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
            by: By::Protocol(mapping),
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

    async fn renew(
        &self,
        internal: SocketAddrV4,
        lifetime: Duration,
    ) -> Result<Self, PortMappingError> {
        match &self.by {
            By::Protocol(mapping) => {
                let mut mapping = mapping.clone();
                mapping.renew().await.map_err(|error| failure(&error))?;
                Self::by_protocol(mapping).await
            }
            By::Upnp(device) => {
                let seconds = lifetime.as_secs() as u32;
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
                        lifetime,
                        by: By::Upnp(device.clone()),
                    }),
                    // It may have the port for somebody else by now, or its mappings never end.
                    Ok(None) => by_upnp((**device).clone(), internal, lifetime).await,
                    Err(_) => Err(PortMappingError::NoAnswer),
                }
            }
            #[cfg(test)]
            By::Nobody => Err(PortMappingError::NoAnswer),
        }
    }

    /// Gives it back. The gateway need not agree.
    pub(super) async fn give_back(self) {
        match self.by {
            By::Protocol(mapping) => drop(mapping.try_drop().await),
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

fn failure(error: &MappingFailure) -> PortMappingError {
    match error {
        MappingFailure::NatPmp(error) => natpmp_failure(error),
        MappingFailure::Pcp(error) => pcp_failure(error),
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

fn pcp_failure(error: &pcp::Failure) -> PortMappingError {
    match error {
        pcp::Failure::Timeout | pcp::Failure::UnsupportedVersion(_) => PortMappingError::NoAnswer,
        pcp::Failure::Socket(error) => not_sent(error),
        pcp::Failure::NotAuthorized(_)
        | pcp::Failure::NoResources(_)
        | pcp::Failure::UserExceededQuota(_)
        | pcp::Failure::CannotProvideExternal(_) => PortMappingError::Refused,
        pcp::Failure::NetworkFailure(_) => PortMappingError::Unusable,
        _ => PortMappingError::Other,
    }
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

    fn internal() -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5_000)
    }

    #[tokio::test]
    async fn a_gateway_that_knows_no_pcp_is_asked_by_nat_pmp() {
        let at = Ipv4Addr::new(127, 68, 0, 1);
        let gateway = gateway(at, natpmp).await;
        let lifetime = Duration::from_secs(1_200);
        let granted = by_protocol(at, internal(), lifetime).await.expect("a port");
        let external = SocketAddr::from(([192, 0, 2, 1], 5_001));
        assert_eq!(
            (granted.external(), granted.lifetime()),
            (external, lifetime)
        );
        let renewed = ask(internal(), Some(&granted), lifetime).await;
        assert_eq!(renewed.expect("the same").external(), external);
        granted.give_back().await;
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
            let refused = by_protocol(at, internal(), Duration::from_secs(1_200)).await;
            assert_eq!(
                refused.map(|granted| granted.external()),
                Err(wanted),
                "{answer:?}"
            );
            gateway.abort();
        }
    }

    #[tokio::test]
    async fn a_gateway_where_nobody_listens_does_not_answer() {
        let at = Ipv4Addr::new(127, 68, 2, 1);
        let refused = by_protocol(at, internal(), Duration::from_secs(1_200)).await;
        assert_eq!(
            refused.map(|granted| granted.external()),
            Err(PortMappingError::NoAnswer)
        );
    }
}

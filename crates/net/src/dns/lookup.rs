//! The questions to the DNS.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::timeout;

use super::DnsError;
use super::order::{NaptrRecord, SrvRecord, interleave};

/// A question that is not answered in this time is not answered.
const DEADLINE: Duration = Duration::from_secs(5);
/// RFC 8305 section 3: how long a family that has answered waits for IPv6.
const WAIT_FOR_IPV6: Duration = Duration::from_millis(50);
/// And for IPv4, without which a network whose IPv6 is broken would be left with nothing.
const WAIT_FOR_IPV4: Duration = Duration::from_secs(1);
/// A lost packet is repeated after this.
const REPEAT: Duration = Duration::from_millis(1500);
/// More records of one answer are not used.
const MAX_RECORDS: usize = 16;

/// A resolver, with the machine's `hosts` file before it.
pub(super) struct Lookup(TokioResolver);

impl Lookup {
    /// The system's resolvers. Without any, names from the `hosts` file are still found.
    pub(super) fn system() -> Result<Self, NetError> {
        let mut builder = match TokioResolver::builder_tokio() {
            Ok(builder) => builder,
            Err(_) => TokioResolver::builder_with_config(
                ResolverConfig::from_name_servers(Vec::new()),
                TokioRuntimeProvider::default(),
            ),
        };
        let options = builder.options_mut();
        options.timeout = options.timeout.min(REPEAT);
        options.attempts = options.attempts.max(2);
        builder.build().map(Self)
    }

    /// These resolvers and no `hosts` file.
    pub(super) fn with_servers(servers: &[SocketAddr]) -> Result<Self, NetError> {
        let servers = servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            for connection in &mut config.connections {
                connection.port = server.port();
            }
            config
        });
        let mut builder = TokioResolver::builder_with_config(
            ResolverConfig::from_name_servers(servers.collect()),
            TokioRuntimeProvider::default(),
        );
        let options = builder.options_mut();
        options.timeout = REPEAT;
        options.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
        builder.build().map(Self)
    }

    /// The addresses of a host: A and AAAA at once, and neither waits long for the other.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let v6 = self.ipv6_addresses(host);
        let v4 = async {
            let answers = self.ask(host, RecordType::A).await?;
            some(host, answers, |data| match data {
                RData::A(address) => Some(address.0),
                _ => None,
            })
        };
        tokio::pin!(v6, v4);
        let late = || DnsError::TimedOut {
            name: host.to_owned(),
        };
        let (v6, v4) = tokio::select! {
            v4 = &mut v4 => {
                let patience = if v4.is_ok() { WAIT_FOR_IPV6 } else { DEADLINE };
                (timeout(patience, v6).await.unwrap_or_else(|_| Err(late())), v4)
            }
            v6 = &mut v6 => {
                let patience = if v6.is_ok() { WAIT_FOR_IPV4 } else { DEADLINE };
                let v4 = timeout(patience, v4).await.unwrap_or_else(|_| Err(late()));
                (v6, v4)
            }
        };
        match (v6, v4) {
            (Ok(v6), v4) => Ok(interleave(v6, v4.unwrap_or_default())),
            (Err(_), Ok(v4)) => Ok(interleave(Vec::new(), v4)),
            // That there is none of one family says less than what went wrong with the other.
            (Err(DnsError::NotFound { .. }), Err(error)) | (Err(error), Err(_)) => Err(error),
        }
    }

    /// The IPv6 addresses of a host.
    pub(super) async fn ipv6_addresses(&self, host: &str) -> Result<Vec<Ipv6Addr>, DnsError> {
        let answers = self.ask(host, RecordType::AAAA).await?;
        some(host, answers, |data| match data {
            RData::AAAA(address) => Some(address.0),
            _ => None,
        })
    }

    /// The SRV records of a name; none is no error.
    pub(super) async fn srv(&self, name: &str) -> Result<Vec<SrvRecord>, DnsError> {
        let answers = self.ask(name, RecordType::SRV).await;
        none_is_empty(answers.and_then(|answers| {
            some(name, answers, |data| match data {
                RData::SRV(srv) => Some(SrvRecord {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: text(&srv.target),
                }),
                _ => None,
            })
        }))
    }

    /// The NAPTR records of a name; none is no error.
    pub(super) async fn naptr(&self, name: &str) -> Result<Vec<NaptrRecord>, DnsError> {
        let answers = self.ask(name, RecordType::NAPTR).await;
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        none_is_empty(answers.and_then(|answers| {
            some(name, answers, |data| match data {
                RData::NAPTR(naptr) => Some(NaptrRecord {
                    order: naptr.order,
                    preference: naptr.preference,
                    flags: lossy(&naptr.flags),
                    services: lossy(&naptr.services),
                    regexp: lossy(&naptr.regexp),
                    replacement: text(&naptr.replacement),
                }),
                _ => None,
            })
        }))
    }

    async fn ask(
        &self,
        name: &str,
        kind: RecordType,
    ) -> Result<hickory_resolver::lookup::Lookup, DnsError> {
        let owned = || name.to_owned();
        let mut query = Name::from_ascii(name).map_err(|_| DnsError::Name { name: owned() })?;
        // Only a name of one label is looked for in the system's search domains: any other is whole, and
        // guesses would cost a question each.
        if query.num_labels() > 1 {
            query.set_fqdn(true);
        }
        match timeout(DEADLINE, self.0.lookup(query, kind)).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(NetError::Timeout)) | Err(_) => Err(DnsError::TimedOut { name: owned() }),
            Ok(Err(error)) if error.is_no_records_found() => {
                Err(DnsError::NotFound { name: owned() })
            }
            Ok(Err(error)) => Err(DnsError::Failed {
                name: owned(),
                why: error.to_string(),
            }),
        }
    }
}

/// The records of the kind that was asked for, without those that led to them.
fn some<T>(
    name: &str,
    answers: hickory_resolver::lookup::Lookup,
    pick: impl FnMut(&RData) -> Option<T>,
) -> Result<Vec<T>, DnsError> {
    let found: Vec<T> = answers
        .answers()
        .iter()
        .map(|record| &record.data)
        .filter_map(pick)
        .take(MAX_RECORDS)
        .collect();
    if found.is_empty() {
        return Err(DnsError::NotFound {
            name: name.to_owned(),
        });
    }
    Ok(found)
}

fn none_is_empty<T>(found: Result<Vec<T>, DnsError>) -> Result<Vec<T>, DnsError> {
    match found {
        Err(DnsError::NotFound { .. }) => Ok(Vec::new()),
        found => found,
    }
}

/// A name as it is asked for, without the root's dot.
fn text(name: &Name) -> String {
    let text = name.to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hickory_resolver::Hosts;

    use super::*;

    #[tokio::test]
    async fn the_hosts_file_comes_before_the_dns() {
        // Nobody listens there: a question would be an error.
        let mut lookup = Lookup::with_servers(&["127.0.0.1:1".parse().unwrap()]).unwrap();
        let mut hosts = Hosts::default();
        let file = "192.0.2.7 turn.lan relay # ours\n2001:db8::7 turn.lan\n";
        hosts.read_hosts_conf(file.as_bytes()).unwrap();
        lookup.0.set_hosts(Arc::new(hosts));
        let texts = |addresses: Vec<IpAddr>| -> Vec<String> {
            addresses.iter().map(ToString::to_string).collect()
        };
        let found = lookup.addresses("turn.lan").await.unwrap();
        assert_eq!(texts(found), ["2001:db8::7", "192.0.2.7"]);
        let found = lookup.addresses("relay").await.unwrap();
        assert_eq!(texts(found), ["192.0.2.7"]);
    }

    #[tokio::test]
    async fn localhost_is_here() {
        let found = Lookup::system()
            .unwrap()
            .addresses("localhost")
            .await
            .unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}

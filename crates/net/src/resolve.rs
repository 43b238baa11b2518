//! Host names to addresses, through the system's resolver.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::ResolveError;
use tokio::net::lookup_host;
use tokio::time::timeout;

/// A resolver that takes longer than this is taken for dead: nothing else waits for it meanwhile.
const DEADLINE: Duration = Duration::from_secs(5);
/// The most addresses of one name that are of use.
const MAX_ADDRESSES: usize = 16;

/// The addresses of a host name, in the system's order of preference (RFC 6724), each with `port`.
///
/// # Errors
/// When there is no such name, or nobody tells within five seconds.
pub async fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    let found = timeout(DEADLINE, lookup_host((name, port)))
        .await
        .map_err(|_| ResolveError::TimedOut)?;
    let mut addresses = Vec::new();
    for address in found
        .map_err(|error| resolve_error(&error))?
        .take(MAX_ADDRESSES)
    {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        Err(ResolveError::NotFound)
    } else {
        Ok(addresses)
    }
}

/// The standard library keeps getaddrinfo's code to itself, so the text has to tell.
fn resolve_error(error: &io::Error) -> ResolveError {
    if error.raw_os_error().is_some() || error.to_string().contains("Temporary failure") {
        ResolveError::Other
    } else {
        ResolveError::NotFound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_and_localhost_resolve() {
        assert_eq!(
            resolve("192.0.2.1", 7).await,
            Ok(vec!["192.0.2.1:7".parse().unwrap()])
        );
        assert_eq!(
            resolve("2001:db8::1", 7).await,
            Ok(vec!["[2001:db8::1]:7".parse().unwrap()])
        );
        let localhost = resolve("localhost", 9).await.unwrap();
        assert!(
            localhost
                .iter()
                .all(|address| address.ip().is_loopback() && address.port() == 9),
            "{localhost:?}"
        );
    }

    #[tokio::test]
    async fn what_is_no_name_is_an_error() {
        assert!(resolve("no such name", 1).await.is_err());
        assert!(resolve("", 1).await.is_err());
    }
}

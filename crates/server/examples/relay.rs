//! A relay on the loopback, for trying other programs against it: the user `ann` with the password `password`, who may
//! reach the loopback.
//!
//! Run with `cargo run -p nilas-server --example relay -- 3478 [TLS-PORT CHAIN KEY]`. With a second address of the
//! machine, 127.0.0.2, it also tells clients about their NAT (RFC 5780).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nilas_server::{CertificateFiles, DiscoveryAddresses, Server, ServerConfig, User};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let home = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let port: u16 = arguments.first().ok_or("which port?")?.parse()?;
    let mut config = ServerConfig::on(&[home], port, 0);
    config.discovery = Some(DiscoveryAddresses::new(
        SocketAddr::new(home, port),
        SocketAddr::new(other, port + 1),
    ));
    if let [_, tls, chain, key] = &arguments[..] {
        config.tls = vec![SocketAddr::new(home, tls.parse()?)];
        config.certificate = Some(CertificateFiles::new(chain, key));
    }
    config.access.realm = "example.org".to_owned();
    config.access.users.push(User::new("ann", "password"));
    config.relay.addresses = vec![home.into()];
    config.relay.allow_peers = vec!["127.0.0.0/8".parse()?];
    config.max_stun_connections_per_source = 1_000;
    let server = Server::bind(config).await?;
    println!("{:?}", server.local_addresses());
    Ok(server.run(std::future::pending()).await?)
}

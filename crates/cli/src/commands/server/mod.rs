//! `nilas server`: STUN, TURN and rendezvous for others.
//!
//! `configure` puts the configuration together, `announce` tells what is served, `signals` are what an operator can
//! say while it runs, and `check` looks at a file of settings without serving anything.

mod announce;
mod check;
mod configure;
mod signals;

use std::net::{IpAddr, SocketAddr};

use nilas_server::{Server, ServerConfig, ServerHandle};
use serde::Serialize;

pub(super) use self::signals::stop_signal;

use self::announce::IceServer;
use self::configure::{Configuration, Run, failure, is_private};
use self::signals::{Signal, Signals};
use crate::arguments::{self, ServerVerb};
use crate::failure::Failure;
use crate::output::json_line;

const SCHEMA: &str = "nilas.server/1";

/// What the server tells programs.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event<'a> {
    /// It serves, at these addresses.
    Ready {
        stun_udp: &'a [SocketAddr],
        stun_tcp: &'a [SocketAddr],
        tls: &'a [SocketAddr],
        dtls: &'a [SocketAddr],
        rendezvous: &'a [String],
        metrics: Option<SocketAddr>,
        relay: &'a [IpAddr],
        #[serde(rename = "iceServers")]
        ice_servers: &'a [IceServer],
    },
    /// The settings were read again; these differ and hold only after a new start.
    Reloaded { unchanged: &'a [&'static str] },
    /// The settings were read again and are wrong: what held before still holds.
    NotReloaded { mistakes: &'a [String] },
    /// It makes no new allocations, and ends when the last is gone.
    Draining,
    /// It was asked to stop and has stopped.
    Stopped,
    /// It could not start, or could not go on. Nothing comes after this.
    Failed { ok: bool, reason: String },
}

pub(crate) fn run(arguments: &arguments::Server) -> Result<(), Failure> {
    match &arguments.verb {
        Some(ServerVerb::CheckConfig { file, json }) => check::run(file, *json),
        None => {
            let served = super::runtime().and_then(|runtime| runtime.block_on(serve(arguments)));
            if let (true, Err(failure)) = (arguments.json, &served)
                && failure.needs_telling()
            {
                let reason = failure.to_string();
                json_line(SCHEMA, &Event::Failed { ok: false, reason })?;
            }
            served
        }
    }
}

async fn serve(arguments: &arguments::Server) -> Result<(), Failure> {
    let mut run = Run::default();
    let configuration = run
        .configure(arguments)
        .map_err(|mistakes| failure(&mistakes))?;
    let config = configuration.config.clone();
    // Before the first word, so that whoever reads `ready` can already stop it in good order.
    let signals = Signals::catch()?;
    let server = Server::bind(config.clone()).await.map_err(Failure::usage)?;
    warn(&config);
    tell_ready(arguments.json, &configuration, &server)?;
    let mut operator = Operator {
        arguments,
        run,
        started: config,
        server: server.handle(),
        signals,
    };
    let served = server.run(operator.listen()).await;
    served.map_err(Failure::internal)?;
    if arguments.json {
        json_line(SCHEMA, &Event::Stopped)?;
    }
    Ok(())
}

/// What is allowed and rarely meant.
fn warn(config: &ServerConfig) {
    for address in &config.relay.addresses {
        if is_private(address.public) {
            tracing::warn!(
                address = %address.public,
                "peers on the internet cannot reach this relay address; behind a NAT give --relay-address PUBLIC/LOCAL"
            );
        }
    }
}

fn tell_ready(json: bool, configuration: &Configuration, server: &Server) -> Result<(), Failure> {
    let Configuration {
        config,
        credentials,
    } = configuration;
    let addresses = server.local_addresses();
    let ice_servers = announce::ice_servers(config, addresses, *credentials);
    if json {
        let relay: Vec<_> = config
            .relay
            .addresses
            .iter()
            .map(|address| address.public)
            .collect();
        let ready = Event::Ready {
            stun_udp: &addresses.stun_udp,
            stun_tcp: &addresses.stun_tcp,
            tls: &addresses.tls,
            dtls: &addresses.dtls,
            rendezvous: &announce::rendezvous(config, addresses),
            metrics: addresses.metrics,
            relay: &relay,
            ice_servers: &ice_servers,
        };
        return json_line(SCHEMA, &ready);
    }
    super::print_line(&announce::ready(config, addresses))?;
    if !ice_servers.is_empty() {
        let text = serde_json::to_string(&ice_servers).map_err(Failure::internal)?;
        super::print_line(&text)?;
    }
    Ok(())
}

/// Does what an operator says by signals.
struct Operator<'a> {
    arguments: &'a arguments::Server,
    run: Run,
    /// What the server was started with: of what cannot change, this holds.
    started: ServerConfig,
    server: ServerHandle,
    signals: Signals,
}

impl Operator<'_> {
    /// Returns when the server is to stop at once.
    async fn listen(&mut self) {
        loop {
            match self.signals.next().await {
                Signal::Stop => return,
                Signal::Drain if self.server.is_draining() => return,
                Signal::Drain => {
                    tracing::info!(
                        allocations = self.server.stats().turn.allocations,
                        "draining: no new allocations"
                    );
                    self.server.drain();
                    self.tell(&Event::Draining);
                }
                Signal::Reload => self.reload(),
            }
        }
    }

    fn reload(&mut self) {
        let reloaded = self
            .run
            .configure(self.arguments)
            .and_then(|configuration| {
                let config = configuration.config;
                match self.server.reload(&config) {
                    Ok(()) => Ok(self.started.fixed_differences(&config)),
                    Err(error) => Err(vec![error.to_string()]),
                }
            });
        match reloaded {
            Ok(unchanged) => {
                for setting in &unchanged {
                    tracing::warn!(setting, "changed, and holds only after a new start");
                }
                tracing::info!("the settings were read again");
                self.tell(&Event::Reloaded {
                    unchanged: &unchanged,
                });
            }
            Err(mistakes) => {
                for mistake in &mistakes {
                    tracing::error!(mistake, "wrong, so what held before still holds");
                }
                self.tell(&Event::NotReloaded {
                    mistakes: &mistakes,
                });
            }
        }
    }

    /// Tells programs; people read the log.
    fn tell(&self, event: &Event<'_>) {
        // A server serves on when nobody reads its output any more.
        if self.arguments.json
            && let Err(failure) = json_line(SCHEMA, event)
        {
            tracing::debug!(%failure, "an event was not told");
        }
    }
}

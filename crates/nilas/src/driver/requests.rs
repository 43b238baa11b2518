//! What applications ask the driver for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentError, AgentId, IceDescription, Input, Interface, SessionId, State,
};
use nilas_net::{InterfaceWatch, interfaces};
use tokio::sync::{broadcast, watch};
use tokio::time::sleep;

use super::renewals::{Shared, shared};
use super::{Driver, Hosted, INTERFACES_AGE, MAX_EVENTS};
use crate::inbox::Inbox;
use crate::secret::RENEWAL;
use crate::servers::NewServers;
use crate::session::{Added, AddedStreams, Request};
use crate::snapshot::Snapshot;

/// Where the system refuses to list the interfaces, watching them is begun again so much later.
const WATCH_AGAIN: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn serve(&mut self, request: Request) {
        let now = self.clock.now();
        // Whoever asked may have gone away: the answer is nobody's then.
        match request {
            Request::Add {
                config,
                servers,
                inbox,
                ecn,
                reply,
            } => {
                if ecn {
                    self.tell_ecn();
                }
                let added = self.add(*config, *servers, inbox);
                if let Err(Ok(unwanted)) = reply.send(added) {
                    self.close(unwanted.agent);
                }
            }
            Request::AddStreams {
                config,
                servers,
                inboxes,
                ecn,
                reply,
            } => {
                if ecn {
                    self.tell_ecn();
                }
                let added = self.add_streams(*config, &servers, inboxes);
                if let Err(Ok(unwanted)) = reply.send(added) {
                    for added in unwanted.agents.into_iter().flatten() {
                        self.close(added.agent);
                    }
                }
            }
            Request::Description {
                session,
                stream,
                reply,
            } => {
                let session = self.engine.session(session);
                let _ = reply.send(session.and_then(|session| session.description(stream)));
            }
            Request::RemoteDescription {
                session,
                stream,
                description,
                reply,
            } => {
                let taken = self.take_description(session, stream, &description);
                let _ = reply.send(taken);
            }
            Request::RemoteParameters {
                agent,
                parameters,
                reply,
            } => {
                let done = self
                    .engine
                    .agent(agent)
                    .and_then(|mut agent| agent.set_remote_parameters(now, &parameters));
                if done.is_ok()
                    && let Some(hosted) = self.agents.get_mut(&agent)
                {
                    hosted.remote_ufrag = Some(parameters.ufrag);
                }
                let _ = reply.send(done);
            }
            Request::RemoteCandidate {
                agent,
                candidate,
                reply,
            } => {
                let agent = self.engine.agent(agent);
                let _ = reply
                    .send(agent.and_then(|mut agent| agent.add_remote_candidate(now, *candidate)));
            }
            Request::RemoveRemoteCandidate {
                agent,
                candidate,
                reply,
            } => {
                let agent = self.engine.agent(agent);
                let _ = reply.send(
                    agent.and_then(|mut agent| agent.remove_remote_candidate(now, &candidate)),
                );
            }
            Request::EndOfRemoteCandidates {
                agent,
                ufrag,
                reply,
            } => {
                let present = self
                    .agents
                    .get(&agent)
                    .and_then(|hosted| hosted.remote_ufrag.as_ref());
                // The end of an earlier generation says nothing about the present one.
                let stale = ufrag.is_some() && present.is_some() && ufrag.as_ref() != present;
                let agent = self.engine.agent(agent);
                let _ = reply.send(agent.map(|mut agent| {
                    if !stale {
                        agent.end_of_remote_candidates(now);
                    }
                }));
            }
            Request::Restart { agent, reply } => {
                // The network may have changed since: that is what most restarts are for.
                self.list_interfaces();
                let agent = self.engine.agent(agent);
                let _ = reply.send(agent.map(|mut agent| agent.restart(now)));
            }
            Request::Addresses {
                agent,
                addresses,
                reply,
            } => {
                self.list_interfaces();
                let agent = self.engine.agent(agent);
                let _ = reply.send(agent.and_then(|mut agent| agent.set_addresses(now, addresses)));
            }
            Request::Dedicate { socket, remote } => self.dedicate(socket, remote),
            Request::Left { agent, reply } => self.leaving.push((agent, reply)),
            Request::PortsGivenBack { reply } => self.port_mappings.when_given_back(reply),
            Request::Counters { reply } => {
                let _ = reply.send(Ok(*self.engine.counters()));
            }
            Request::Stats { agent, reply } => {
                let _ = reply.send(self.engine.agent(agent).map(|agent| agent.stats(now)));
            }
        }
    }

    pub(super) fn add(
        &mut self,
        config: AgentConfig,
        servers: NewServers,
        inbox: Arc<Inbox>,
    ) -> Result<Added, AgentError> {
        self.list_interfaces();
        let now = self.clock.now();
        let maps_ports = config.port_mapping;
        let secrets = shared(&servers.secrets, &config);
        let id = self.engine.add_agent(now, config)?;
        let added = self.host(id, servers, secrets, inbox)?;
        Ok(Added {
            maps_ports,
            ..added
        })
    }

    /// A session whose streams have so many components as there are inboxes.
    fn add_streams(
        &mut self,
        config: AgentConfig,
        servers: &NewServers,
        inboxes: Vec<Vec<Arc<Inbox>>>,
    ) -> Result<AddedStreams, AgentError> {
        self.list_interfaces();
        let now = self.clock.now();
        let mut counts = inboxes.iter().map(|inboxes| inboxes.len() as u16);
        let first = counts.next().unwrap_or_default();
        let id = self.engine.add_session(now, config.clone(), first)?;
        let more = counts.try_for_each(|count| {
            let mut session = self.engine.session(id)?;
            session.add_stream(now, config.clone(), count).map(drop)
        });
        if let Err(error) = more {
            self.engine.session(id)?.close(now);
            return Err(error);
        }
        let state = watch::Sender::new(State::New);
        let seen = state.subscribe();
        self.sessions.insert(id, state);
        let secrets = shared(&servers.secrets, &config);
        let mut agents = Vec::new();
        for (stream, inboxes) in inboxes.into_iter().enumerate() {
            let mut added = Vec::new();
            for (component, inbox) in (1..).zip(inboxes) {
                let agent = self.engine.session(id)?.component(stream, component);
                let agent = agent.ok_or(AgentError::UnknownAgent)?;
                let hosted = self.host(agent, servers.clone(), secrets.clone(), inbox)?;
                let maps_ports = config.port_mapping;
                added.push(Added {
                    maps_ports,
                    ..hosted
                });
            }
            agents.push(added);
        }
        Ok(AddedStreams {
            session: id,
            state: seen,
            agents,
        })
    }

    fn take_description(
        &mut self,
        id: SessionId,
        stream: usize,
        description: &IceDescription,
    ) -> Result<(), AgentError> {
        let now = self.clock.now();
        let mut session = self.engine.session(id)?;
        session.set_remote_description(now, stream, description)?;
        let ufrag = description.parameters.as_ref().map(|told| &told.ufrag);
        for agent in session.components_of(stream) {
            if let Some(hosted) = self.agents.get_mut(&agent) {
                hosted.remote_ufrag = ufrag.cloned();
            }
        }
        Ok(())
    }

    /// Takes on an agent that the engine has added, and lets it gather.
    fn host(
        &mut self,
        id: AgentId,
        servers: NewServers,
        secrets: Vec<Shared>,
        inbox: Arc<Inbox>,
    ) -> Result<Added, AgentError> {
        let now = self.clock.now();
        let mut agent = self.engine.agent(id)?;
        let snapshot = watch::Sender::new(Snapshot::new(agent.local_parameters(), agent.role()));
        let path = agent.path();
        agent.gather(now);
        if !secrets.is_empty() {
            self.renew_at.get_or_insert(now + RENEWAL);
        }
        let NewServers {
            connector,
            services,
            secrets: _,
        } = servers;
        self.servers.add(&services);
        let (events, first_events) = broadcast::channel(MAX_EVENTS);
        let added = Added {
            agent: id,
            path,
            snapshot: snapshot.subscribe(),
            events: first_events,
            subscribe: events.downgrade(),
            maps_ports: false,
        };
        self.agents.insert(
            id,
            Hosted {
                inbox,
                snapshot,
                events,
                remote_ufrag: None,
                connector,
                services,
                secrets,
            },
        );
        Ok(added)
    }

    /// Has the system tell how datagrams are marked, on all sockets from now on: a socket may carry several sessions.
    fn tell_ecn(&mut self) {
        if !self.ecn {
            self.ecn = true;
            for reader in self.readers.values().chain(self.dedicated.values()) {
                // Where the system refuses, it stays unknown how they are.
                let _ = reader.socket.tell_ecn();
            }
        }
    }

    pub(super) fn close(&mut self, agent: AgentId) {
        // It may be closed already.
        if let Ok(agent) = self.engine.agent(agent) {
            agent.close(self.clock.now());
        }
    }

    /// Tells the engine the machine's addresses, unless it has been told lately or nothing has changed.
    fn list_interfaces(&mut self) {
        let now = self.clock.now();
        if self
            .listed
            .is_some_and(|listed| now.since(listed) < INTERFACES_AGE)
        {
            return;
        }
        self.take_listing(interfaces());
        if self.watching.is_empty() {
            self.watch_interfaces();
        }
    }

    fn take_listing(&mut self, listing: io::Result<Vec<Interface>>) {
        match listing {
            Ok(found) => self.take_interfaces(found),
            // Out of descriptors for a moment, for example. The interfaces are where they were, and so are the sessions' paths.
            Err(error) if self.listed.is_some() => {
                tracing::warn!("the interfaces cannot be listed: {error}");
            }
            // Without any listing the engine finds no candidate, and its verdict says so.
            Err(_) => self.take_interfaces(Vec::new()),
        }
    }

    /// The machine's interfaces, as they are now.
    pub(super) fn take_interfaces(&mut self, found: Vec<Interface>) {
        let now = self.clock.now();
        if self.listed.is_none() || found != self.interfaces {
            self.interfaces = found;
            self.servers.network_changed();
            let _ = self.engine.handle(now, Input::Interfaces(&self.interfaces));
        }
        self.listed = Some(now);
    }

    fn watch_interfaces(&mut self) {
        let changes = self.changes.0.clone();
        self.watching.spawn(async move {
            let mut watch = loop {
                match InterfaceWatch::new() {
                    Ok(watch) => break watch,
                    Err(_) => sleep(WATCH_AGAIN).await,
                }
            };
            // What changed between the driver's listing and this one must not be missed.
            let mut found = watch.interfaces().to_vec();
            while changes.send(found).await.is_ok() {
                found = watch.changed().await.to_vec();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use nilas_ice::{Engine, EngineConfig};
    use nilas_net::Clock;

    use super::*;
    use crate::sockets::SocketTable;

    fn wired(address: &str) -> Vec<Interface> {
        vec![Interface {
            name: "eth0".into(),
            index: 1,
            addresses: vec![address.parse().unwrap()],
            ..Interface::default()
        }]
    }

    fn driver() -> Driver {
        let engine = Engine::new(EngineConfig::default(), [7; 32]);
        Driver::new(
            engine,
            Clock::start(),
            Arc::new(SocketTable::new(false)),
            None,
        )
    }

    fn refused() -> io::Result<Vec<Interface>> {
        Err(io::Error::other("no descriptor is free"))
    }

    #[test]
    fn a_listing_that_fails_takes_nothing_away() {
        let mut driver = driver();
        driver.take_listing(Ok(wired("192.0.2.1")));
        driver.take_listing(refused());
        assert_eq!(driver.interfaces, wired("192.0.2.1"));
        driver.take_listing(Ok(wired("192.0.2.2")));
        assert_eq!(driver.interfaces, wired("192.0.2.2"));
    }

    #[test]
    fn where_no_listing_succeeds_gathering_ends_with_nothing() {
        let mut driver = driver();
        driver.take_listing(refused());
        assert!(driver.listed.is_some() && driver.interfaces.is_empty());
    }
}

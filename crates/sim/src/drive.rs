//! What a driver does for an engine: sending, binding, resolving, waking it in time.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;

use nilas_ice::{Command, Input, Output, ResolveError, SendError};

use crate::agents::Agent;
use crate::sockets::UdpOwner;
use crate::world::{Happening, NodeId, World};

/// More than this at one moment, and an engine does not come to rest.
const MOST_OUTPUTS_AT_ONCE: u32 = 1_000_000;

impl World {
    /// Does all that a host's engine wants, until it is idle.
    pub(crate) fn settle(&mut self, node: NodeId) {
        let now = self.now();
        let mut buffer = [0; 2048];
        for _ in 0..MOST_OUTPUTS_AT_ONCE {
            let host = self.host_mut(node);
            match host.engine.poll(now, &mut buffer) {
                Output::Transmit(transmit) => {
                    let (socket, remote) = (transmit.socket, transmit.destination);
                    let source = host.address_of(socket).unwrap_or_else(|| {
                        panic!("the engine sends from {socket:?}, which it closed or never had")
                    });
                    if !self.send_datagram(node, source, remote, &buffer[..transmit.size]) {
                        // As an operating system says when the address is gone.
                        let error = SendError::Unreachable;
                        let input = Input::SendError {
                            socket,
                            remote,
                            error,
                        };
                        let _ = self.host_mut(node).engine.handle(now, input);
                    }
                }
                Output::StreamTransmit(transmit) => {
                    self.write_stream(node, transmit.stream, &buffer[..transmit.size]);
                }
                Output::Event(id, event) => self.note(Agent { node, id }, event),
                Output::SessionEvent(id, event) => host.session_events.push((now, id, event)),
                Output::Command(command) => self.execute(node, command),
                Output::Idle(deadline) => {
                    if host.wake != deadline {
                        host.wake = deadline.map(|deadline| deadline.max(now));
                        if let Some(at) = host.wake {
                            self.queue.plan(at, Happening::Wake { node });
                        }
                    }
                    return;
                }
                output => panic!("nilas-sim does not know what to do with {output:?}"),
            }
        }
        panic!("the engine of {node} does not come to rest at {now:?}");
    }

    fn execute(&mut self, node: NodeId, command: Command) {
        let now = self.now();
        match command {
            Command::Bind { request, address } => {
                let own = self.addresses_of(node);
                let socket = self.host_mut(node).next_socket();
                let owner = UdpOwner::Engine(socket);
                let result = self.node_mut(node).sockets.bind(address, own, owner);
                if let Ok(address) = result {
                    self.host_mut(node).addresses.insert(socket, address);
                }
                let result = result.map(|address| (socket, address));
                self.queue.plan(
                    now,
                    Happening::Bound {
                        node,
                        request,
                        result,
                    },
                );
            }
            Command::MapPort { socket, address } => self.map_port(node, socket, address),
            Command::UnmapPort(socket) => self.unmap_port(node, socket),
            Command::Listen { request, address } => {
                let result = self.listen_for_engine(node, address);
                let bound = Happening::Bound {
                    node,
                    request,
                    result,
                };
                self.queue.plan(now, bound);
            }
            Command::Connect {
                request,
                local,
                remote,
            } => self.connect_stream(node, request, local, remote),
            Command::CloseSocket(socket) if self.stop_listening(node, socket) => {}
            Command::CloseSocket(socket) => {
                if let Some(address) = self.host_mut(node).addresses.remove(&socket) {
                    self.node_mut(node).sockets.close(address);
                }
            }
            Command::Resolve {
                request,
                name,
                port,
            } => {
                let result = self.resolve_with_port(node, &name, port);
                self.queue.plan(
                    now + self.name_delay,
                    Happening::Resolved {
                        node,
                        request,
                        result,
                    },
                );
            }
            Command::FindName {
                request,
                name,
                port,
            } => {
                let (delay, result) = match self.names.contains_key(&name) {
                    true => (self.name_delay, self.resolve_with_port(node, &name, port)),
                    false => self.find_on_link(node, &name, port),
                };
                let found = Happening::Resolved {
                    node,
                    request,
                    result,
                };
                self.queue.plan(now + delay, found);
            }
            Command::RegisterName { name, address } => self.register_name(node, name, address),
            Command::UnregisterName { name } => self.unregister_name(&name),
            Command::OpenStream {
                request,
                transport,
                host,
                port,
                address,
            } => {
                let is_known = address.is_some() || host.parse::<IpAddr>().is_ok();
                let addresses = match address {
                    Some(address) => Ok(vec![address]),
                    None => self.resolve_with_port(node, &host, port),
                };
                let delay = if is_known {
                    Duration::ZERO
                } else {
                    self.name_delay
                };
                self.queue.plan(
                    now + delay,
                    Happening::OpensStream {
                        node,
                        request,
                        transport,
                        addresses,
                    },
                );
            }
            Command::CloseStream(stream) => self.close_stream(node, stream),
            command => panic!("nilas-sim does not know how to execute {command:?}"),
        }
    }

    fn resolve_with_port(
        &self,
        node: NodeId,
        name: &str,
        port: u16,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let ips = match name.parse() {
            Ok(ip) => vec![ip],
            Err(_) => self.resolve(node, name)?,
        };
        Ok(ips
            .into_iter()
            .map(|ip| SocketAddr::new(ip, port))
            .collect())
    }

    /// What a host's resolver knows of a name. Behind a translator to IPv4 it is a DNS64 (RFC 6147).
    fn resolve(&self, node: NodeId, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let addresses = self.names.get(name).ok_or(ResolveError::NotFound)?;
        // An interface that is gone leads to no resolver.
        let mut attachments = self.node(node).attachments.iter();
        let first = attachments.find(|attachment| !attachment.addresses.is_empty());
        Ok(match first {
            Some(attachment) => self.synthesized(attachment.realm, addresses),
            None => addresses.clone(),
        })
    }
}

//! The driver's port mappings: a task for each socket that a port of the gateway is forwarded to.

use std::collections::HashMap;
use std::net::SocketAddr;

use nilas_ice::{Input, PortMappingError, SocketId};
use nilas_net::{Gateways, PortMapping};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Driver;
use crate::session::Reply;

/// What the tasks have to say and the driver has not heard yet; more of them wait.
const MAX_NEWS: usize = 16;

/// What a gateway said of a socket.
pub(super) struct News {
    socket: SocketId,
    result: Result<SocketAddr, PortMappingError>,
}

pub(super) struct PortMappings {
    /// Dropped, the port is given back.
    open: HashMap<SocketId, oneshot::Sender<()>>,
    /// Those that are open, and those that are being given back.
    pub(super) tasks: JoinSet<()>,
    gateways: Gateways,
    /// Who waits until nothing is being given back.
    waiting: Vec<Reply<()>>,
    inlet: mpsc::Sender<News>,
    pub(super) news: mpsc::Receiver<News>,
}

impl Default for PortMappings {
    fn default() -> Self {
        let (inlet, news) = mpsc::channel(MAX_NEWS);
        Self {
            open: HashMap::new(),
            tasks: JoinSet::new(),
            gateways: Gateways::default(),
            waiting: Vec::new(),
            inlet,
            news,
        }
    }
}

impl PortMappings {
    /// Gives the port of a socket back, if it has one.
    pub(super) fn close(&mut self, socket: SocketId) {
        self.open.remove(&socket);
    }

    /// Gives all ports back, and waits until that is done.
    pub(super) async fn end(&mut self) {
        self.open.clear();
        while self.tasks.join_next().await.is_some() {}
    }

    /// Answers as soon as nothing is being given back.
    pub(super) fn when_given_back(&mut self, reply: Reply<()>) {
        self.waiting.push(reply);
        self.ended();
    }

    /// A task has ended, perhaps the last one that somebody waits for.
    pub(super) fn ended(&mut self) {
        if self.tasks.len() <= self.open.len() {
            for reply in self.waiting.drain(..) {
                // Whoever waited may have gone away.
                let _ = reply.send(Ok(()));
            }
        }
    }
}

impl Driver {
    pub(super) fn map_port(&mut self, socket: SocketId, address: SocketAddr) {
        let SocketAddr::V4(internal) = address else {
            let result = Err(PortMappingError::Other);
            return self.input(Input::PortMapped { socket, result });
        };
        let (open, closed) = oneshot::channel();
        let kept = keep(
            socket,
            PortMapping::new(internal, &self.port_mappings.gateways),
            closed,
            self.port_mappings.inlet.clone(),
        );
        self.port_mappings.open.insert(socket, open);
        self.port_mappings.tasks.spawn(kept);
        self.control.enqueue();
    }

    pub(super) fn port_mapped(&mut self, news: News) {
        let News { socket, result } = news;
        self.input(Input::PortMapped { socket, result });
    }
}

/// Keeps a port forwarded until it is wanted no more.
async fn keep(
    socket: SocketId,
    mut mapping: PortMapping,
    mut closed: oneshot::Receiver<()>,
    inlet: mpsc::Sender<News>,
) {
    loop {
        tokio::select! {
            biased;
            _ = &mut closed => break,
            result = mapping.changed() => {
                tokio::select! {
                    biased;
                    _ = &mut closed => break,
                    _ = inlet.send(News { socket, result }) => {}
                }
            }
        }
    }
    mapping.end().await;
}

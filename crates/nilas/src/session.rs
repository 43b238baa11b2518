//! What the handles of one agent share, and how they talk to the driver.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nilas_ice::{
    AddressPolicy, AgentConfig, AgentError, AgentId, Candidate, Counters, Dscp, Event,
    IceDescription, Parameters, PathCell, SessionId, SocketId, State, Stats,
};
use nilas_net::Clock;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::error::Error;
use crate::inbox::Inbox;
use crate::servers::NewServers;
use crate::snapshot::Snapshot;
use crate::sockets::SocketTable;

/// Something an application wants of the engine. The driver answers each, unless it has ended.
#[derive(Debug)]
pub(crate) enum Request {
    Add {
        config: Box<AgentConfig>,
        servers: Box<NewServers>,
        inbox: Arc<Inbox>,
        ecn: bool,
        reply: Reply<Added>,
    },
    AddStreams {
        config: Box<AgentConfig>,
        servers: Box<NewServers>,
        /// For each component of each stream.
        inboxes: Vec<Vec<Arc<Inbox>>>,
        ecn: bool,
        reply: Reply<AddedStreams>,
    },
    Description {
        session: SessionId,
        stream: usize,
        reply: Reply<IceDescription>,
    },
    RemoteDescription {
        session: SessionId,
        stream: usize,
        description: Box<IceDescription>,
        reply: Reply<()>,
    },
    RemoteParameters {
        agent: AgentId,
        parameters: Parameters,
        reply: Reply<()>,
    },
    RemoteCandidate {
        agent: AgentId,
        candidate: Box<Candidate>,
        reply: Reply<()>,
    },
    RemoveRemoteCandidate {
        agent: AgentId,
        candidate: Box<Candidate>,
        reply: Reply<()>,
    },
    EndOfRemoteCandidates {
        agent: AgentId,
        ufrag: Option<String>,
        reply: Reply<()>,
    },
    Restart {
        agent: AgentId,
        reply: Reply<()>,
    },
    Addresses {
        agent: AgentId,
        addresses: AddressPolicy,
        reply: Reply<()>,
    },
    Stats {
        agent: AgentId,
        reply: Reply<Vec<Stats>>,
    },
    /// A socket of its own for a path that carries much. There may be none.
    Dedicate {
        socket: SocketId,
        remote: SocketAddr,
    },
    /// An agent that is closed has given back what servers relay for it, as far as they answer, and its sockets are closed.
    Left {
        agent: AgentId,
        reply: Reply<()>,
    },
    /// Ports that a gateway forwarded and that nobody wants any more were given back, as far as it answers.
    PortsGivenBack {
        reply: Reply<()>,
    },
    Counters {
        reply: Reply<Counters>,
    },
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, AgentError>>;

/// What the driver tells about an agent that it has added.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) agent: AgentId,
    pub(crate) path: Arc<PathCell>,
    pub(crate) snapshot: watch::Receiver<Snapshot>,
    pub(crate) events: broadcast::Receiver<Event>,
    pub(crate) subscribe: broadcast::WeakSender<Event>,
    /// Whether the network's gateway is asked to forward ports to it.
    pub(crate) maps_ports: bool,
}

/// The same of a session.
#[derive(Debug)]
pub(crate) struct AddedStreams {
    pub(crate) session: SessionId,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) agents: Vec<Vec<Added>>,
}

/// Asks the driver about one agent. It does not keep the agent open.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    pub(crate) agent: AgentId,
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) snapshot: watch::Receiver<Snapshot>,
}

impl Control {
    pub(crate) async fn ask<T>(
        &self,
        request: impl FnOnce(AgentId, Reply<T>) -> Request,
    ) -> Result<T, Error> {
        ask(&self.requests, |reply| request(self.agent, reply)).await
    }

    /// Waits until the agent stands so that `look` has something to say: `None` once it is closed.
    pub(crate) async fn wait<T>(&self, mut look: impl FnMut(&Snapshot) -> Option<T>) -> Option<T> {
        let mut snapshot = self.snapshot.clone();
        loop {
            {
                let seen = snapshot.borrow_and_update();
                if let Some(found) = look(&seen) {
                    return Some(found);
                }
                if seen.state == State::Closed {
                    return None;
                }
            }
            // The driver has ended, which closes all agents.
            snapshot.changed().await.ok()?;
        }
    }
}

pub(crate) async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(Reply<T>) -> Request,
) -> Result<T, Error> {
    let (reply, answer) = oneshot::channel();
    requests
        .send(request(reply))
        .await
        .map_err(|_| Error::Closed)?;
    Ok(answer.await.map_err(|_| Error::Closed)??)
}

/// An agent as long as anybody holds a handle of it: the last one dropped closes it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) control: Control,
    pub(crate) path: Arc<PathCell>,
    pub(crate) sockets: Arc<SocketTable>,
    pub(crate) clock: Clock,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) dscp: Dscp,
    /// Whether a [`Connection`](crate::Connection) takes from the inbox.
    pub(crate) receiving: AtomicBool,
    maps_ports: bool,
    closings: mpsc::UnboundedSender<AgentId>,
    /// Made before the first event, for whoever asks first.
    first_events: Mutex<Option<broadcast::Receiver<Event>>>,
    subscribe: broadcast::WeakSender<Event>,
}

impl Session {
    pub(crate) fn new(
        added: Added,
        inbox: Arc<Inbox>,
        dscp: Dscp,
        requests: mpsc::Sender<Request>,
        closings: mpsc::UnboundedSender<AgentId>,
        sockets: Arc<SocketTable>,
        clock: Clock,
    ) -> Self {
        Self {
            control: Control {
                agent: added.agent,
                requests,
                snapshot: added.snapshot,
            },
            path: added.path,
            sockets,
            clock,
            inbox,
            dscp,
            receiving: AtomicBool::new(false),
            maps_ports: added.maps_ports,
            closings,
            first_events: Mutex::new(Some(added.events)),
            subscribe: added.subscribe,
        }
    }

    /// The events from the first one on for whoever asks first, and from now on for the others: `None`
    /// when there will be no more.
    pub(crate) fn events(&self) -> Option<broadcast::Receiver<Event>> {
        let first = self
            .first_events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        first.or_else(|| self.subscribe.upgrade().map(|sender| sender.subscribe()))
    }

    /// Closes the agent, and waits until that is done.
    pub(crate) async fn close(&self) {
        self.send_close();
        // There is nothing to look for: it ends when the agent is closed.
        self.control.wait(|_| None::<()>).await;
        // A driver that has ended has given all of it back.
        let _ = self
            .control
            .ask(|agent, reply| Request::Left { agent, reply })
            .await;
        if self.maps_ports {
            let _ = ask(&self.control.requests, |reply| Request::PortsGivenBack {
                reply,
            })
            .await;
        }
    }

    /// Claims the inbox for one receiver.
    pub(crate) fn claim(&self) -> Result<(), Error> {
        match self.receiving.swap(true, Ordering::AcqRel) {
            false => Ok(()),
            true => Err(Error::ConnectionTaken),
        }
    }

    fn send_close(&self) {
        // The driver has ended: the agent is closed already.
        let _ = self.closings.send(self.control.agent);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.send_close();
    }
}

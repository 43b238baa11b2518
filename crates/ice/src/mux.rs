//! Sockets that many agents share: a server then needs one UDP port, whatever the number of its sessions.
//!
//! Nothing of this can be seen from outside the engine: an agent asks for a socket and gives it back as ever, and
//! the outside is asked once for each local address. Whose a packet is says `demux`: requests name a username fragment,
//! responses carry the id of a transaction, and data belongs to whoever has had an authenticated exchange with its
//! sender. Where two sessions meet the same sender, its data could not be told apart: the second gets a socket of its own
//! (`bind_apart`).

use core::net::SocketAddr;

use crate::ids::{RequestId, SocketId};
use crate::io::BindError;

#[derive(Debug, Default)]
pub(crate) struct Mux {
    sockets: Vec<SharedSocket>,
}

#[derive(Debug)]
struct SharedSocket {
    /// What was asked for.
    address: SocketAddr,
    state: Binding,
}

#[derive(Debug)]
enum Binding {
    /// Asked for with the first of these requests.
    Asked(Vec<RequestId>),
    Bound {
        id: SocketId,
        address: SocketAddr,
        agents: usize,
    },
}

/// What becomes of a request.
pub(crate) enum Joined {
    /// The outside is to be asked.
    First,
    /// It has been asked.
    Waits,
    /// There is a socket already.
    Bound(SocketId, SocketAddr),
}

impl Mux {
    /// An agent asks for a socket that it shares.
    pub(crate) fn join(&mut self, request: RequestId, address: SocketAddr) -> Joined {
        let known = self
            .sockets
            .iter_mut()
            .find(|socket| socket.address == address);
        match known.map(|socket| &mut socket.state) {
            None => {
                self.sockets.push(SharedSocket {
                    address,
                    state: Binding::Asked(vec![request]),
                });
                Joined::First
            }
            Some(Binding::Asked(waiting)) => {
                waiting.push(request);
                Joined::Waits
            }
            Some(Binding::Bound {
                id,
                address,
                agents,
            }) => {
                *agents += 1;
                Joined::Bound(*id, *address)
            }
        }
    }

    /// The answer of the outside; who waits for it, if it is about a shared socket.
    pub(crate) fn bound(
        &mut self,
        request: RequestId,
        result: Result<(SocketId, SocketAddr), BindError>,
    ) -> Option<Vec<RequestId>> {
        let index = self.sockets.iter().position(
            |socket| matches!(&socket.state, Binding::Asked(waiting) if waiting.first() == Some(&request)),
        )?;
        let asked = match result {
            Ok((id, address)) => {
                let socket = &mut self.sockets[index];
                let Binding::Asked(waiting) = &socket.state else {
                    return None;
                };
                let agents = waiting.len();
                core::mem::replace(
                    &mut socket.state,
                    Binding::Bound {
                        id,
                        address,
                        agents,
                    },
                )
            }
            // The next agent that comes tries again.
            Err(_) => self.sockets.swap_remove(index).state,
        };
        match asked {
            Binding::Asked(waiting) => Some(waiting),
            Binding::Bound { .. } => None,
        }
    }

    /// An agent gives a socket back; whether it is to be closed.
    pub(crate) fn leave(&mut self, left: SocketId) -> bool {
        let index = self
            .sockets
            .iter()
            .position(|socket| matches!(socket.state, Binding::Bound { id, .. } if id == left));
        let Some(index) = index else {
            return true;
        };
        if let Binding::Bound { agents, .. } = &mut self.sockets[index].state {
            *agents -= 1;
            if *agents > 0 {
                return false;
            }
        }
        self.sockets.swap_remove(index);
        true
    }

    /// Whether agents share this socket.
    pub(crate) fn is_shared(&self, socket: SocketId) -> bool {
        self.sockets
            .iter()
            .any(|shared| matches!(shared.state, Binding::Bound { id, .. } if id == socket))
    }
}

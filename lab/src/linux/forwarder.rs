//! The thread that carries frames over the wires of one laboratory.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::time::TimeSpec;

use super::packet_socket::PacketSocket;
use crate::impairment::Impairment;
use crate::node::Uplink;
use crate::wire::{Direction, Wire, WireStats};

/// Frames taken from one socket before the others get their turn.
const FRAMES_IN_A_ROW: usize = 64;

/// The two ends of a wire in the hidden namespace between them.
pub(crate) struct WireEnds {
    pub(crate) uplink: Uplink,
    /// The end towards the core.
    pub(crate) upper: PacketSocket,
    /// The end towards the peer.
    pub(crate) lower: PacketSocket,
}

/// A running forwarder; dropping it ends the thread and closes the wires.
pub(crate) struct Forwarder {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    wires: Mutex<Vec<(Uplink, BothWays)>>,
    stop: AtomicBool,
    wake: EventFd,
}

struct BothWays {
    down: Impairment,
    up: Impairment,
}

impl BothWays {
    const fn direction(&mut self, direction: Direction) -> &mut Impairment {
        match direction {
            Direction::Down => &mut self.down,
            Direction::Up => &mut self.up,
        }
    }
}

impl Shared {
    fn wires(&self) -> MutexGuard<'_, Vec<(Uplink, BothWays)>> {
        // Every change under this lock is whole before anything in it can panic.
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Forwarder {
    /// Starts carrying frames, in both directions of every wire alike.
    pub(crate) fn start(ends: Vec<WireEnds>, wire: &Wire) -> io::Result<Self> {
        let wires = ends
            .iter()
            .map(|ends| {
                let stream = ends.uplink as u64 * 2;
                let both = BothWays {
                    down: Impairment::new(wire.clone(), stream),
                    up: Impairment::new(wire.clone(), stream + 1),
                };
                (ends.uplink, both)
            })
            .collect();
        let shared = Arc::new(Shared {
            wires: Mutex::new(wires),
            stop: AtomicBool::new(false),
            wake: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        });
        let thread = std::thread::Builder::new()
            .name("lab wires".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || {
                    be_punctual();
                    carry(&shared, &ends);
                }
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Other settings for one direction of a wire; false if there is no such wire.
    pub(crate) fn set(&self, uplink: Uplink, direction: Direction, wire: Wire) -> bool {
        let mut wires = self.shared.wires();
        let Some((_, both)) = wires.iter_mut().find(|(of, _)| *of == uplink) else {
            return false;
        };
        both.direction(direction).set(wire);
        true
    }

    /// What has happened to frames in one direction of a wire.
    pub(crate) fn stats(&self, uplink: Uplink, direction: Direction) -> Option<WireStats> {
        let mut wires = self.shared.wires();
        let (_, both) = wires.iter_mut().find(|(of, _)| *of == uplink)?;
        Some(both.direction(direction).stats())
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        // Fails only if the counter is full, and then the thread is awake.
        let _ = self.shared.wake.write(1);
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported already; nothing is left to undo.
            let _ = thread.join();
        }
    }
}

/// A delay is only worth its name if the thread wakes when it should.
#[allow(unsafe_code, reason = "nix does not offer sched_setscheduler")]
fn be_punctual() {
    use nix::libc;
    // Without the permission for either, delays are a fraction of a millisecond less exact.
    let _ = nix::sys::prctl::set_timerslack(1);
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter outlives the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
}

fn carry(shared: &Shared, ends: &[WireEnds]) {
    let begun = Instant::now();
    let now = || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let mut buffer = vec![0; 1 << 16];
    while !shared.stop.load(Ordering::Acquire) {
        let mut next = None;
        for ((_, both), ends) in shared.wires().iter_mut().zip(ends) {
            for (from, to, direction) in [
                (&ends.upper, &ends.lower, &mut both.down),
                (&ends.lower, &ends.upper, &mut both.up),
            ] {
                for _ in 0..FRAMES_IN_A_ROW {
                    let Some(length) = from.receive(&mut buffer) else {
                        break;
                    };
                    direction.push(now(), &buffer[..length]);
                }
                while direction.pop(now(), |frame| to.send(frame)) {}
                next = [next, direction.next_due()].into_iter().flatten().min();
            }
        }
        let wait = next.map(|due| {
            TimeSpec::from_duration(std::time::Duration::from_nanos(due.saturating_sub(now())))
        });
        let mut sources: Vec<_> = ends
            .iter()
            .flat_map(|ends| [&ends.upper, &ends.lower])
            .map(|socket| PollFd::new(std::os::fd::AsFd::as_fd(socket), PollFlags::POLLIN))
            .collect();
        sources.push(PollFd::new(
            std::os::fd::AsFd::as_fd(&shared.wake),
            PollFlags::POLLIN,
        ));
        // An interrupted wait is as good as a finished one.
        let _ = ppoll(&mut sources, wait, None);
    }
}

//! What happens to an agent, as it happens.

use core::fmt;

use nilas_ice::{Event, State};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// The events of an agent, in the engine's order. Listening does not keep the agent open.
#[derive(Debug)]
pub struct Events {
    /// `None` when there will be no more.
    receiver: Option<broadcast::Receiver<Event>>,
}

impl Events {
    pub(crate) fn new(receiver: Option<broadcast::Receiver<Event>>) -> Self {
        Self { receiver }
    }

    /// Waits for the next event: `None` after the state `Closed`.
    ///
    /// Nothing is lost when the future is dropped before it is ready.
    ///
    /// # Errors
    /// [`Lagged`] when the listener has been so slow that events are gone, more than 256 behind. The
    /// next call goes on with the oldest that is left; ask the agent how it stands.
    pub async fn next(&mut self) -> Option<Result<Event, Lagged>> {
        match self.receiver.as_mut()?.recv().await {
            Ok(event) => {
                if matches!(
                    event,
                    Event::StateChange {
                        state: State::Closed,
                        ..
                    }
                ) {
                    self.receiver = None;
                }
                Some(Ok(event))
            }
            Err(RecvError::Lagged(missed)) => Some(Err(Lagged { missed })),
            Err(RecvError::Closed) => {
                self.receiver = None;
                None
            }
        }
    }
}

/// A listener was too slow and has missed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lagged {
    /// How many.
    pub missed: u64,
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} events were missed: take them faster, or ask the agent how it stands",
            self.missed
        )
    }
}

impl core::error::Error for Lagged {}

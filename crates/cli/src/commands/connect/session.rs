//! A session: the agent looks for a path, and what is typed or piped goes over it.

use std::future::Future;
use std::io::{self, IsTerminal};
use std::pin::Pin;
use std::time::{Duration, Instant};

use nilas::{Agent, Batch, Connection, Event as Happened, Events, State};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::sink::Sink;
use crate::failure::Failure;
use crate::output::reason::why;
use crate::output::{CandidateView, Event, PairView, Reporter};
use crate::pipe::{LEAVE_FRAME, Pipe};

/// How often pairs are looked at, until one has won.
const LOOK: Duration = Duration::from_millis(50);
/// A nomination that takes longer than this is not waited for before people may type.
const NOMINATION: Duration = Duration::from_secs(5);
/// The farewell may get lost like any datagram.
const FAREWELLS: usize = 3;
const FOREVER: Duration = Duration::from_secs(3_600);

/// Signals that go to the other side and come from there, until either end does.
type Exchange<'a> = Pin<Box<dyn Future<Output = Result<(), nilas::Error>> + 'a>>;

pub(super) struct Session<'a> {
    agent: &'a Agent,
    connection: Connection,
    events: Events,
    /// Keeps the two sides in touch besides the path; after tickets there is no way to.
    exchange: Option<Exchange<'a>>,
    input: mpsc::Receiver<Vec<u8>>,
    pipe: Pipe,
    began: Instant,
    /// Whether standard input is a person.
    typed: bool,
    /// Since when there is a path.
    up: Option<Instant>,
    /// Whether the winner was named.
    settled: bool,
}

/// Why the loop ends.
enum End {
    /// Both streams have arrived.
    Complete,
    /// The other side went away in the middle.
    PeerLeft,
    /// The user stops it.
    Stopped,
    /// Standard output takes no more.
    OutputClosed,
}

impl<'a> Session<'a> {
    pub(super) fn new(
        agent: &'a Agent,
        exchange: Option<Exchange<'a>>,
        input: mpsc::Receiver<Vec<u8>>,
    ) -> Result<Self, Failure> {
        let connection = agent.connection().map_err(Failure::internal)?;
        let events = agent.events();
        Ok(Self {
            agent,
            connection,
            events,
            exchange,
            input,
            pipe: Pipe::new(),
            began: Instant::now(),
            typed: io::stdin().is_terminal(),
            up: None,
            settled: false,
        })
    }

    /// Until both sides have said all they want to, or it fails, or `stop`.
    pub(super) async fn carry(
        &mut self,
        reporter: &mut Reporter,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let sink = Sink::start(reporter.is_json())?;
        let end = self.pump(reporter, &sink, stop).await;
        if !matches!(end, Ok(End::Complete | End::PeerLeft)) {
            for _ in 0..FAREWELLS {
                // Without a path there is nobody to part from.
                let _ = self.connection.try_send(&LEAVE_FRAME);
            }
        }
        match end? {
            End::Complete => sink.finish(),
            End::PeerLeft if self.typed => {
                sink.finish()?;
                reporter.note("the other side has left")
            }
            End::PeerLeft => {
                sink.finish()?;
                Err(Failure::no_connection(
                    "the other side left before all was said",
                ))
            }
            End::Stopped if self.typed => Ok(()),
            End::Stopped => Err(Failure::no_connection("stopped before all was said")),
            End::OutputClosed => Err(Failure::OutputClosed),
        }
    }

    async fn pump(
        &mut self,
        reporter: &mut Reporter,
        sink: &Sink,
        stop: impl Future<Output = ()>,
    ) -> Result<End, Failure> {
        let mut stop = std::pin::pin!(stop);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Batch::new();
        let (mut receiving, mut reading) = (true, true);
        loop {
            self.transmit().await;
            if self.pipe.peer_left() {
                return Ok(End::PeerLeft);
            }
            if self.pipe.may_go(self.now()) {
                return Ok(End::Complete);
            }
            let wait = self
                .pipe
                .deadline()
                .map_or(FOREVER, |deadline| deadline.saturating_sub(self.now()));
            let wants_input = reading && self.up.is_some() && self.pipe.has_room();
            let has_output = self.pipe.is_readable() && self.settled;
            tokio::select! {
                exchanged = ended(&mut self.exchange) => {
                    self.exchange = None;
                    // Without signaling, what is there already may still do.
                    if let Err(reason) = exchanged && self.up.is_none() {
                        reporter.note(reason.to_string())?;
                    }
                }
                event = self.events.next() => match event {
                    Some(Ok(event)) => self.happened(event, reporter).await?,
                    Some(Err(_)) => {}
                    None => return Err(Failure::no_connection("the session was closed")),
                },
                received = self.connection.recv_batch(&mut batch), if receiving => match received {
                    Ok(()) => {
                        let now = self.now();
                        batch.iter().for_each(|datagram| self.pipe.handle(now, datagram));
                    }
                    // The state tells why.
                    Err(_) => receiving = false,
                },
                block = self.input.recv(), if wants_input => match block {
                    Some(block) => self.pipe.write(&block),
                    None => {
                        reading = false;
                        self.pipe.finish();
                    }
                },
                permit = sink.ready(), if has_output => match permit {
                    Some(permit) => {
                        if let Some(block) = self.pipe.read() {
                            permit.send(block);
                        }
                        if self.typed && self.pipe.is_read_to_end() {
                            self.pipe.finish();
                        }
                    }
                    None => return Ok(End::OutputClosed),
                },
                _ = look.tick(), if !self.settled => self.look(reporter).await?,
                () = sleep(wait), if wait < FOREVER => {}
                () = &mut stop => return Ok(End::Stopped),
            }
            if self.typed && self.pipe.is_read_to_end() {
                self.pipe.finish();
            }
        }
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Sends what the pipe wants to send, as far as there is a path.
    async fn transmit(&mut self) {
        if self.up.is_none() {
            return;
        }
        let mut datagram = Vec::new();
        while self.pipe.poll_transmit(self.began.elapsed(), &mut datagram) {
            // What cannot be sent now is lost as on any network, and comes again.
            let _ = self.connection.send(&datagram).await;
        }
    }

    async fn happened(&mut self, event: Happened, reporter: &mut Reporter) -> Result<(), Failure> {
        match event {
            Happened::Candidate(candidate) => {
                reporter.tell(None, &Event::Candidate(CandidateView::new(&candidate)))
            }
            Happened::CandidateError(error) => reporter.tell(None, &error.into()),
            Happened::StateChange {
                state: State::Failed,
                verdict,
            } => {
                self.show_pairs(reporter).await?;
                Err(match verdict {
                    Some(verdict) => Failure::no_connection(verdict),
                    None => Failure::no_connection("no path to the other side was found"),
                })
            }
            Happened::StateChange { state, verdict } => {
                if state.is_up() && self.up.is_none() {
                    self.up = Some(Instant::now());
                }
                let verdict = verdict.map(|verdict| verdict.to_string());
                match state {
                    State::Disconnected | State::Connected => {
                        reporter.tell(None, &Event::State { state, verdict })
                    }
                    _ if reporter.is_json() => {
                        reporter.tell(None, &Event::State { state, verdict })
                    }
                    _ => Ok(()),
                }
            }
            Happened::Nominated(pair) => {
                self.show_pairs(reporter).await?;
                self.settle(&PairView::selected(&pair), reporter)
            }
            Happened::SelectedPairChange(pair) if self.settled => {
                // The rows are gone since the first one won. Where it is closed, the events say so.
                let pairs = self.agent.stats().await;
                let pairs = pairs.map_or_else(|_| Vec::new(), |stats| PairView::all(&stats));
                name_winner(&PairView::selected(&pair), &pairs, reporter)
            }
            _ => Ok(()),
        }
    }

    /// Shows how the pairs stand, until one has won or people have waited enough.
    async fn look(&mut self, reporter: &mut Reporter) -> Result<(), Failure> {
        self.show_pairs(reporter).await?;
        match (self.up, self.connection.selected_pair()) {
            (Some(up), Some(pair)) if up.elapsed() > NOMINATION => {
                self.settle(&PairView::selected(&pair), reporter)
            }
            _ => Ok(()),
        }
    }

    async fn show_pairs(&self, reporter: &mut Reporter) -> Result<(), Failure> {
        match self.agent.stats().await {
            Ok(stats) => reporter.pairs("", &PairView::all(&stats)),
            // It is closed, and the events say so.
            Err(_) => Ok(()),
        }
    }

    fn settle(&mut self, pair: &PairView, reporter: &mut Reporter) -> Result<(), Failure> {
        if std::mem::replace(&mut self.settled, true) {
            return Ok(());
        }
        let pairs = reporter.pairs_of("");
        name_winner(pair, &pairs, reporter)?;
        if self.typed && !reporter.is_json() {
            reporter.note("type, and press Enter to send; Ctrl-D ends")?;
        }
        Ok(())
    }
}

/// Says which pair carries the data from now on, and why it is that one of `pairs`.
fn name_winner(
    pair: &PairView,
    pairs: &[PairView],
    reporter: &mut Reporter,
) -> Result<(), Failure> {
    reporter.selected("", pair);
    // A later change finds no rows, and is a line of its own.
    reporter.settle()?;
    let (pair, why) = (pair.clone(), why(pair, pairs));
    reporter.tell(None, &Event::Selected { pair, why })
}

/// Waits for the exchange to end; for ever, where there is none.
async fn ended(exchange: &mut Option<Exchange<'_>>) -> Result<(), nilas::Error> {
    match exchange {
        Some(exchange) => exchange.await,
        None => std::future::pending().await,
    }
}

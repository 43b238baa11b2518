//! One of the two peers of a demo: an agent on a thread and a runtime of its own, which reports what happens.

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nilas::signaling::{Code, Meeting, Rendezvous, RendezvousError, RendezvousEvent, Signal};
use nilas::{Agent, Batch, Connection, Event as Happened, Events, Role, State};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::echo::Echoing;
use super::relay::Access;
use super::result::Outcome;
use crate::arguments::Recording;
use crate::network;
use crate::output::{CandidateView, Event, PairView};
use crate::recording;

/// How often pairs are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// The pause between two numbered datagrams.
const ECHO_PACE: Duration = Duration::from_millis(1);

/// What a peer is to do.
pub(super) struct Plan {
    pub(super) name: &'static str,
    pub(super) role: Role,
    pub(super) stun: SocketAddr,
    /// The URL of the rendezvous.
    pub(super) rendezvous: String,
    pub(super) relay: Option<Access>,
    pub(super) relay_only: bool,
    /// Where the session is recorded.
    pub(super) recording: Recording,
    /// Whether this peer asks for the code; the other one is told it.
    pub(super) creates: bool,
    pub(super) orders: UnboundedReceiver<Order>,
    /// To the other peer and from it, for where the rendezvous cannot be reached.
    pub(super) memory: (UnboundedSender<Signal>, UnboundedReceiver<Signal>),
    pub(super) reports: mpsc::Sender<(&'static str, News)>,
}

/// What a peer is told.
#[derive(Debug)]
pub(super) enum Order {
    /// The other peer waits under this code.
    Join(Code),
    /// The rendezvous is of no use: exchange descriptions within this process.
    UseMemory,
    /// Both have a path: send numbered datagrams.
    Echo,
    /// End, and tell how it went.
    Close,
}

/// What a peer tells.
#[derive(Debug)]
pub(super) enum News {
    Event(Event),
    Pairs(Vec<PairView>),
    /// The pair that was settled on, or the one that the data moved to since.
    Selected(PairView),
    Code(Code),
    NoRendezvous(String),
    /// A pair was nominated, or there is none.
    Decided,
    EchoDone,
    Ended(Box<Outcome>),
}

/// The body of the peer's thread.
pub(super) fn run(plan: Plan) {
    let (name, reports) = (plan.name, plan.reports.clone());
    let outcome = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime.block_on(Peer::live(plan)),
        Err(error) => Err(error.to_string()),
    };
    let outcome = outcome.unwrap_or_else(|reason| Outcome {
        state: Some(State::Failed),
        verdict: Some(reason),
        ..Outcome::default()
    });
    // Nobody listens any more only when the demo has been given up.
    let _ = reports.send((name, News::Ended(Box::new(outcome))));
}

/// How signals travel.
enum Link {
    /// Not decided yet.
    None,
    Connecting(JoinHandle<Result<Rendezvous, RendezvousError>>),
    Rendezvous(Rendezvous),
    Memory,
}

struct Peer {
    plan: Plan,
    agent: Agent,
    connection: Connection,
    events: Events,
    link: Link,
    /// Own signals so far, and how many of them the link has taken.
    said: Vec<Signal>,
    sent: usize,
    /// When this peer first knew both descriptions.
    began: Option<Instant>,
    outcome: Outcome,
    decided: bool,
    receiving: bool,
    echo: Option<Echoing>,
}

impl Peer {
    async fn live(plan: Plan) -> Result<Outcome, String> {
        let interfaces = network::interfaces().map_err(|failure| failure.to_string())?;
        let mut config = network::config(plan.role, &[], &interfaces);
        config
            .engine_config_mut()
            .stun_servers
            .push(plan.stun.into());
        if let Some(relay) = &plan.relay {
            config = relay.add_to(config).map_err(|error| error.to_string())?;
        }
        config = config.relay_only(plan.relay_only);
        let agent = recording::agent(config, &plan.recording, "demo")
            .await
            .map_err(|error| error.to_string())?;
        let connection = agent.connection().map_err(|error| error.to_string())?;
        let mut peer = Self {
            events: agent.events(),
            agent,
            connection,
            link: Link::None,
            said: Vec::new(),
            sent: 0,
            began: None,
            outcome: Outcome::default(),
            decided: false,
            receiving: true,
            echo: None,
            plan,
        };
        if peer.plan.creates {
            peer.meet(Meeting::Create);
        }
        peer.work().await;
        Ok(peer.end().await)
    }

    /// Until it is told to close.
    async fn work(&mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut pace = interval(ECHO_PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Batch::new();
        loop {
            tokio::select! {
                event = self.events.next() => match event {
                    Some(Ok(event)) => self.happened(event).await,
                    Some(Err(_)) => {}
                    None => return,
                },
                received = self.connection.recv_batch(&mut batch), if self.receiving => match received {
                    Ok(()) => self.answer(&batch).await,
                    Err(_) => self.receiving = false,
                },
                signal = self.agent.next_signal() => if let Some(signal) = signal {
                    self.said.push(signal);
                    self.send_signals();
                },
                news = self.link.next() => self.link_news(news).await,
                Some(signal) = self.plan.memory.1.recv() => self.heard(signal).await,
                order = self.plan.orders.recv() => match order {
                    Some(Order::Join(code)) => self.meet(Meeting::Join(code)),
                    Some(Order::UseMemory) => self.use_memory(),
                    Some(Order::Echo) => self.echo = Some(Echoing::new()),
                    Some(Order::Close) | None => return,
                },
                _ = pace.tick(), if self.echo.is_some() => self.send_next().await,
                _ = look.tick() => self.look().await,
            }
        }
    }

    async fn happened(&mut self, event: Happened) {
        match event {
            Happened::Candidate(candidate) => {
                self.tell(Event::Candidate(CandidateView::new(&candidate)))
            }
            Happened::CandidateError(error) => self.tell(error.into()),
            Happened::StateChange { state, verdict } => {
                let verdict = verdict.map(|verdict| verdict.to_string());
                self.outcome.state = Some(state);
                self.outcome.verdict.clone_from(&verdict);
                if state.is_up() && self.outcome.first_path_ms.is_none() {
                    self.outcome.first_path_ms = self.elapsed_ms();
                }
                // The pair that made the difference comes first.
                self.look().await;
                self.tell(Event::State { state, verdict });
                if state == State::Failed {
                    self.decide();
                }
            }
            Happened::SelectedPairChange(pair) if self.decided => {
                // Not the pair that was settled on: the last word counts.
                self.select(PairView::selected(&pair));
            }
            Happened::Nominated(pair) => {
                self.select(PairView::selected(&pair));
                self.look().await;
                if self.outcome.selected_ms.is_none() {
                    self.outcome.selected_ms = self.elapsed_ms();
                }
                self.decide();
            }
            _ => {}
        }
    }

    fn select(&mut self, pair: PairView) {
        self.outcome.selected = Some(pair.clone());
        self.report(News::Selected(pair));
    }

    fn decide(&mut self) {
        if !std::mem::replace(&mut self.decided, true) {
            self.report(News::Decided);
        }
    }

    fn elapsed_ms(&self) -> Option<f64> {
        let began = self.began?;
        Some((began.elapsed().as_secs_f64() * 1e6).round() / 1e3)
    }

    /// Reports the pairs as they are now.
    async fn look(&mut self) {
        if let Ok(stats) = self.agent.stats().await {
            let pairs = PairView::all(&stats);
            // The round trip is measured again and again, and a check that was repeated measures none.
            if let Some(selected) = &mut self.outcome.selected
                && let Some(now) = pairs.iter().find(|pair| pair.same_ends(selected))
            {
                selected.rtt_ms = now.rtt_ms.or(selected.rtt_ms);
            }
            self.report(News::Pairs(pairs));
        }
    }

    fn meet(&mut self, meeting: Meeting) {
        let url = self.plan.rendezvous.clone();
        self.link = Link::Connecting(tokio::spawn(async move {
            Rendezvous::connect(&url, meeting).await
        }));
    }

    fn use_memory(&mut self) {
        self.link = Link::Memory;
        // What the rendezvous has taken may not have arrived.
        self.sent = 0;
        self.send_signals();
    }

    /// Hands over the signals that the link has not taken yet.
    fn send_signals(&mut self) {
        for signal in &self.said[self.sent..] {
            let taken = match &self.link {
                Link::Rendezvous(rendezvous) => rendezvous.send(signal).is_ok(),
                Link::Memory => self.plan.memory.0.send(signal.clone()).is_ok(),
                Link::None | Link::Connecting(_) => false,
            };
            if !taken {
                return;
            }
            self.sent += 1;
        }
    }

    async fn link_news(&mut self, news: LinkNews) {
        match news {
            LinkNews::Connected(rendezvous) => {
                if self.plan.creates {
                    self.report(News::Code(rendezvous.code().clone()));
                }
                self.link = Link::Rendezvous(*rendezvous);
                self.send_signals();
            }
            LinkNews::Signal(signal) => self.heard(signal).await,
            LinkNews::Nothing => {}
            LinkNews::Lost(reason) => {
                self.link = Link::None;
                // Once there is a path, nobody needs the rendezvous any more.
                if !self.decided {
                    self.report(News::NoRendezvous(reason));
                }
            }
        }
    }

    async fn heard(&mut self, signal: Signal) {
        let is_description = matches!(signal, Signal::Description(_));
        match self.agent.signal(signal).await {
            Ok(()) if is_description && self.began.is_none() => self.began = Some(Instant::now()),
            Ok(()) => {}
            Err(error) => self.tell(Event::Note {
                text: format!("{}: {error}", self.plan.name),
            }),
        }
    }

    /// Sends back what the other side wants to see again, and counts what came back.
    async fn answer(&mut self, batch: &Batch) {
        for datagram in batch.iter() {
            match Echoing::read(datagram) {
                // A path that is gone for a moment loses it, as any datagram.
                Some((number, false)) => drop(self.connection.send(&Echoing::answer(number)).await),
                Some((number, true)) => {
                    if let Some(echo) = &mut self.echo {
                        echo.came_back(number);
                    }
                }
                None => {}
            }
        }
    }

    async fn send_next(&mut self) {
        let round_trip = self
            .outcome
            .selected
            .as_ref()
            .and_then(|pair| pair.rtt_ms)
            .unwrap_or_default();
        let Some(echo) = &mut self.echo else { return };
        if let Some(datagram) = echo.next() {
            // Counted as sent although it may be lost: that is what the figure is for.
            let _ = self.connection.send(&datagram).await;
        } else if echo.is_over(Duration::from_secs_f64(round_trip / 1e3)) {
            self.outcome.echo = echo.figures();
            self.echo = None;
            self.report(News::EchoDone);
        }
    }

    async fn end(mut self) -> Outcome {
        if let Some(echo) = &self.echo {
            self.outcome.echo = echo.figures();
        }
        self.look().await;
        if let Link::Rendezvous(rendezvous) = self.link {
            rendezvous.close().await;
        }
        drop(self.connection);
        self.agent.close().await;
        self.outcome
    }

    fn tell(&self, event: Event) {
        self.report(News::Event(event));
    }

    fn report(&self, news: News) {
        // Nobody listens any more only when the demo has been given up; then `orders` ends this peer.
        let _ = self.plan.reports.send((self.plan.name, news));
    }
}

enum LinkNews {
    Connected(Box<Rendezvous>),
    Signal(Signal),
    /// Something of no interest here.
    Nothing,
    Lost(String),
}

impl Link {
    /// What comes next; never, where nothing can come. Nothing is lost when the future is dropped.
    async fn next(&mut self) -> LinkNews {
        match self {
            Self::Connecting(connecting) => match connecting.await {
                Ok(Ok(rendezvous)) => LinkNews::Connected(Box::new(rendezvous)),
                Ok(Err(error)) => LinkNews::Lost(error.to_string()),
                Err(error) => LinkNews::Lost(error.to_string()),
            },
            Self::Rendezvous(rendezvous) => match rendezvous.recv().await {
                Ok(Some(RendezvousEvent::Signal(signal))) => LinkNews::Signal(signal),
                Ok(Some(RendezvousEvent::PeerLeft)) | Ok(None) => {
                    LinkNews::Lost("the other peer has left the rendezvous".to_owned())
                }
                Ok(Some(_)) => LinkNews::Nothing,
                Err(error) => LinkNews::Lost(error.to_string()),
            },
            Self::None | Self::Memory => std::future::pending().await,
        }
    }
}

//! `nilas connect`: a chat or a pipe to another machine.
//!
//! This file finds the other side, by a code or by tickets; [`session`] carries what is typed or piped once
//! there is a path, and [`sink`] writes out what comes.

mod session;
mod sink;

use std::cell::OnceCell;
use std::future::Future;
use std::io::{self, IsTerminal, Write};

use nilas::signaling::{
    Code, Meeting, Refusal, Rendezvous, RendezvousError, RendezvousEvent, Ticket, TicketError,
};
use nilas::{Agent, Error, Event as Happened, GatheringState, Role};
use serde::Serialize;

use crate::arguments;
use crate::failure::Failure;
use crate::input::{self, Line};
use crate::network;
use crate::output::{Event, Format, Reporter, Stream, ended, json_line};
use crate::pipe::MAX_BLOCK;
use crate::recording;
use session::Session;

/// The schema of the last JSON line.
const SCHEMA: &str = "nilas.connect/1";
/// The schema of the lines before it.
const EVENT_SCHEMA: &str = "nilas.connect-event/1";
/// Room for a ticket and what a paste may put around it.
const MAX_TICKET_LINE: usize = 16 * 1_024;
/// What people must know before they type anything.
const WARNING: &str = "NOT ENCRYPTED: this version of nilas sends what you type or pipe as it is, for all on the way to read";

/// The last line where all was said.
#[derive(Serialize)]
struct Complete {
    ok: bool,
}

pub(crate) fn run(arguments: &arguments::Connect) -> Result<(), Failure> {
    ended(arguments.json, SCHEMA, connect(arguments))?;
    match arguments.json {
        true => json_line(SCHEMA, &Complete { ok: true }),
        false => Ok(()),
    }
}

fn connect(arguments: &arguments::Connect) -> Result<(), Failure> {
    let warning = console::Style::new()
        .yellow()
        .bold()
        .for_stderr()
        .apply_to(WARNING);
    writeln!(io::stderr(), "{warning}")?;
    let format = Format::choose(arguments.json, Stream::Stderr);
    let mut reporter = Reporter::new(format, Stream::Stderr, EVENT_SCHEMA);
    let runtime = super::runtime()?;
    let ended = runtime.block_on(async {
        let stop = super::server::stop_signal()?;
        let made = OnceCell::new();
        let ended = converse(arguments, &mut reporter, &made, stop).await;
        // However it ended: a server would keep what it relays for minutes, and a gateway the port that it forwards.
        if let Some(agent) = made.into_inner() {
            agent.close().await;
        }
        ended
    });
    reporter.settle()?;
    ended
}

/// Meets the other side and carries what is said. The agent, once there is one, is in `made`.
async fn converse(
    arguments: &arguments::Connect,
    reporter: &mut Reporter,
    made: &OnceCell<Agent>,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    tokio::pin!(stop);
    // Until there is a path, nobody need be told that this side leaves.
    let mut session = tokio::select! {
        session = meet(arguments, reporter, made) => session?,
        () = &mut stop => return Err(Failure::no_connection("stopped before there was a connection")),
    };
    session.carry(reporter, stop).await
}

/// Finds the other side; the session's agent has begun to look for a path when this returns.
async fn meet<'a>(
    arguments: &arguments::Connect,
    reporter: &Reporter,
    made: &'a OnceCell<Agent>,
) -> Result<Session<'a>, Failure> {
    if arguments.ticket {
        if network::is_typed(arguments.server.as_deref(), "NILAS_SERVER") {
            return Err(Failure::usage(
                "tickets need no server: leave out --server, or --ticket",
            ));
        }
        exchange_tickets(arguments, reporter, made).await
    } else {
        meet_under_code(arguments, reporter, made).await
    }
}

async fn meet_under_code<'a>(
    arguments: &arguments::Connect,
    reporter: &Reporter,
    made: &'a OnceCell<Agent>,
) -> Result<Session<'a>, Failure> {
    let Some(url) = &arguments.server else {
        return Err(Failure::usage(
            "there is no server to meet at: name one with --server wss://HOST or ws://HOST:PORT or in NILAS_SERVER (`nilas server` \
             starts one), or do without one by --ticket",
        ));
    };
    let meeting = match &arguments.code {
        None => Meeting::Create,
        Some(code) => {
            let code: Code = code.parse().map_err(Failure::usage)?;
            if arguments.wait {
                Meeting::JoinOrCreate(code)
            } else {
                Meeting::Join(code)
            }
        }
    };
    // What can be wrong with the command line is said before anybody waits.
    let mut config = network::from_arguments(Role::Controlled, &arguments.network)?;
    if arguments.network.stun.is_empty()
        && let Some(host) = host(url)
    {
        config = config.stun(host).map_err(Failure::usage)?;
    }
    let mut rendezvous = Rendezvous::connect(url, meeting)
        .await
        .map_err(|error| unmet(&error))?;
    if let Some(expires_in) = rendezvous.expires_in() {
        let code = rendezvous.code().to_string();
        let wait = if arguments.wait { " --wait" } else { "" };
        let command = format!("nilas connect {code} --server {url}{wait}");
        reporter.tell(
            None,
            &Event::Code {
                code,
                command,
                expires_in_s: Some(expires_in.as_secs()),
            },
        )?;
    }
    let controlling = loop {
        match rendezvous.recv().await.map_err(|error| unmet(&error))? {
            Some(RendezvousEvent::PeerJoined { controlling }) => break controlling,
            Some(RendezvousEvent::PeerLeft) | None => {
                return Err(Failure::no_connection(
                    "the rendezvous ended before the other side came: try again",
                ));
            }
            Some(_) => {}
        }
    };
    reporter.note("the other side is there; looking for a path")?;
    // Only now: an address that a server told minutes ago may not be this side's any more.
    config.engine_config_mut().role = if controlling {
        Role::Controlling
    } else {
        Role::Controlled
    };
    let agent = recording::agent(config, &arguments.network.recording, "connect").await?;
    let agent = made.get_or_init(|| agent);
    let exchange = async move {
        agent
            .exchange(&mut rendezvous.sender(), &mut rendezvous)
            .await
    };
    Session::new(agent, Some(Box::pin(exchange)), input::blocks(MAX_BLOCK)?)
}

async fn exchange_tickets<'a>(
    arguments: &arguments::Connect,
    reporter: &Reporter,
    made: &'a OnceCell<Agent>,
) -> Result<Session<'a>, Failure> {
    // Both sides are alike, and ICE heals that (RFC 8445 section 7.3.1.1).
    let config = network::from_arguments(Role::Controlling, &arguments.network)?;
    let agent = recording::agent(config, &arguments.network.recording, "connect").await?;
    let agent = made.get_or_init(|| agent);
    let own = match agent.ticket().await {
        Ok(own) => own,
        Err(Error::Ticket(TicketError::NoCandidates)) => {
            let reasons = why_nothing_was_found(agent).await;
            return Err(network::no_candidate(&arguments.network, &reasons));
        }
        Err(error) => return Err(Failure::no_connection(error)),
    };
    reporter.tell(
        None,
        &Event::Ticket {
            ticket: own.to_string(),
        },
    )?;
    reporter.note("paste the other side's line, and press Enter:")?;
    let mut input = input::line_then_blocks(MAX_TICKET_LINE, MAX_BLOCK)?;
    loop {
        let line = match input.lines.recv().await {
            Some(Line::Text(line)) if line.trim().is_empty() => {
                Err("there is nothing on the line".to_owned())
            }
            Some(Line::Text(line)) => line.parse::<Ticket>().map_err(|error| error.to_string()),
            Some(Line::TooLong | Line::NotText) => {
                Err("that is no ticket: paste the line that begins with nilas1:".to_owned())
            }
            None => {
                return Err(Failure::no_connection(
                    "the input ended before the other side's ticket came",
                ));
            }
        };
        let reason = match line {
            Ok(theirs) if theirs == own => {
                "that is this side's own ticket: paste the other side's".to_owned()
            }
            Ok(theirs) => match agent.accept(&theirs).await {
                Ok(()) => break,
                Err(error) => error.to_string(),
            },
            Err(reason) => reason,
        };
        if !io::stdin().is_terminal() {
            return Err(Failure::usage(reason));
        }
        reporter.note(format!("{reason}; once more:"))?;
        // The thread that reads waits for exactly this.
        let _ = input.again.send(true);
    }
    let _ = input.again.send(false);
    Session::new(agent, None, input.blocks)
}

/// What went wrong while candidates were gathered, which nobody has listened to yet.
async fn why_nothing_was_found(agent: &Agent) -> Vec<String> {
    let mut events = agent.events();
    let mut reasons = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Happened::CandidateError(error)) => {
                reasons.push(match error.url.is_empty() {
                    true => error.error_text,
                    false => format!("{}: {}", error.url, error.error_text),
                });
            }
            Ok(Happened::GatheringStateChange(GatheringState::Complete)) => break,
            _ => {}
        }
    }
    reasons
}

/// What was typed wrongly is the user's; the rest is the network's.
fn unmet(error: &RendezvousError) -> Failure {
    match error {
        RendezvousError::Url { .. }
        | RendezvousError::Roots(_)
        | RendezvousError::Refused(Refusal::InvalidCode) => Failure::usage(error),
        RendezvousError::Refused(Refusal::UnknownCode) => Failure::no_connection(format_args!(
            "{error}; to wait under a code that you two have agreed upon, add --wait on both sides"
        )),
        _ => Failure::no_connection(error),
    }
}

/// The host of a URL `ws://HOST[:PORT][/PATH]`, where the server usually answers STUN too.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    let host = match authority.rfind(']') {
        Some(end) => &authority[..=end],
        None => authority.split(':').next()?,
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_the_server_is_found() {
        for (url, expected) in [
            ("wss://rendezvous.example", Some("rendezvous.example")),
            (
                "ws://rendezvous.example:3480/v1",
                Some("rendezvous.example"),
            ),
            ("ws://192.0.2.1", Some("192.0.2.1")),
            ("ws://[2001:db8::1]:3480", Some("[2001:db8::1]")),
            ("rendezvous.example", None),
            ("ws://", None),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
    }
}

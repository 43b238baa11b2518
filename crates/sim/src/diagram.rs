//! A session as a sequence diagram: one HTML file that needs nothing else.

use core::fmt::Write;

use nilas_ice::{Event, Time};
use nilas_stun::{Class, Message};

use crate::agents::Agent;
use crate::trace::{Fate, TracedPacket};
use crate::world::{NodeId, World};

/// The most rows that are drawn: what comes after them is counted instead.
const MOST_ROWS: usize = 600;

const ROW: usize = 24;
const TOP: usize = 70;
const TIME_WIDTH: usize = 110;
const LANE_WIDTH: usize = 330;

/// Draws what agents told and every datagram between the named nodes, in the order of time.
///
/// A lane is a node with its name; `peers` are the agents whose events are written on their node's lane. Datagrams
/// of nodes without a lane are left out. The answer is a whole HTML page.
pub fn sequence_diagram(
    world: &World,
    title: &str,
    lanes: &[(NodeId, &str)],
    peers: &[Agent],
) -> String {
    let mut rows: Vec<(Time, Row<'_>)> = Vec::new();
    for packet in world.trace().packets() {
        if lane_of(lanes, packet.sender).is_some() {
            rows.push((packet.sent, Row::Packet(packet)));
        }
    }
    for peer in peers {
        for (at, event) in world.events(*peer) {
            if let Some(text) = note(event) {
                rows.push((*at, Row::Note(peer.node, text)));
            }
        }
    }
    // A stable sort: what happens at one time stays in its order.
    rows.sort_by_key(|(at, _)| *at);
    let left_out = rows.len().saturating_sub(MOST_ROWS);
    rows.truncate(MOST_ROWS);

    let (width, height) = (
        TIME_WIDTH + LANE_WIDTH * (lanes.len().max(2) - 1) + 220,
        TOP + ROW * (rows.len() + 1),
    );
    let mut page = String::from(HEAD);
    // Writing to a String cannot fail; so it is everywhere below.
    let _ = write!(
        page,
        "<title>{0}</title>\n<h1>{0}</h1>\n{LEGEND}",
        escaped(title)
    );
    let _ = writeln!(
        page,
        "<svg role=\"img\" aria-label=\"sequence diagram\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">{MARKERS}"
    );
    for (number, (_, name)) in lanes.iter().enumerate() {
        let x = lane_x(number);
        let _ = writeln!(
            page,
            "<line class=\"lane\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{height}\"/><text class=\"name\" x=\"{x}\" y=\"{}\">{}</text>",
            TOP - 20,
            TOP - 32,
            escaped(name)
        );
    }
    let mut last = None;
    for (number, (at, row)) in rows.iter().enumerate() {
        let y = TOP + ROW * number;
        if last != Some(*at) {
            let _ = writeln!(
                page,
                "<text class=\"time\" x=\"{}\" y=\"{}\">{}</text>",
                TIME_WIDTH - 50,
                y + 4,
                milliseconds(*at)
            );
        }
        last = Some(*at);
        match row {
            Row::Packet(packet) => draw_packet(&mut page, lanes, packet, y),
            Row::Note(node, text) => {
                let x = lane_of(lanes, *node).map_or(TIME_WIDTH, lane_x);
                let _ = writeln!(
                    page,
                    "<circle class=\"note\" cx=\"{x}\" cy=\"{y}\" r=\"4\"/><text class=\"note\" x=\"{}\" y=\"{}\">{}</text>",
                    x + 9,
                    y + 4,
                    escaped(text)
                );
            }
        }
    }
    page.push_str("</svg>\n");
    if left_out > 0 {
        let _ = writeln!(page, "<p>{left_out} later rows are not drawn.</p>");
    }
    page.push_str("</html>\n");
    page
}

enum Row<'a> {
    Packet(&'a TracedPacket),
    Note(NodeId, String),
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">
<style>
:root { color-scheme: light dark; --ink: #222; --dim: #888; --paper: #fff; --good: #176b2c; --bad: #b3261e; --note: #1a4fa3; }
@media (prefers-color-scheme: dark) { :root { --ink: #ddd; --dim: #888; --paper: #181a1b; --good: #6fcf86; --bad: #ff8a80; --note: #8ab4f8; } }
body { font: 14px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 1.5em; }
h1 { font-size: 1.2em; } svg { font: 12px system-ui, sans-serif; fill: var(--ink); }
.lane { stroke: var(--dim); } .name { font-weight: bold; font-size: 14px; text-anchor: middle; }
.time { fill: var(--dim); text-anchor: end; font-variant-numeric: tabular-nums; } .label { text-anchor: middle; }
.good { stroke: var(--good); stroke-width: 1.5; } .bad { stroke: var(--bad); stroke-dasharray: 4 3; stroke-width: 1.5; }
text.bad { stroke: none; fill: var(--bad); } .note { fill: var(--note); }
#good path { fill: var(--good); } #bad path { stroke: var(--bad); fill: none; stroke-width: 2; }
</style>
";

const LEGEND: &str = "<p>Time runs downwards, in milliseconds, and only where something happens. A whole arrow arrived; a broken one \
ending in a cross did not, and says why. Point at an arrow for its addresses.</p>\n";

const MARKERS: &str = "<defs><marker id=\"good\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
<path d=\"M0 0 8 4 0 8z\"/></marker><marker id=\"bad\" viewBox=\"0 0 8 8\" refX=\"4\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\">\
<path d=\"M1 1 7 7M7 1 1 7\"/></marker></defs>";

const fn lane_x(number: usize) -> usize {
    TIME_WIDTH + LANE_WIDTH * number
}

fn lane_of(lanes: &[(NodeId, &str)], node: NodeId) -> Option<usize> {
    lanes.iter().position(|(lane, _)| *lane == node)
}

fn draw_packet(page: &mut String, lanes: &[(NodeId, &str)], packet: &TracedPacket, y: usize) {
    let Some(from) = lane_of(lanes, packet.sender) else {
        return;
    };
    let (to, fate) = match packet.fate {
        Fate::Delivered { node, .. } => (lane_of(lanes, node), None),
        fate => (None, Some(fate.to_string())),
    };
    let x = lane_x(from);
    let (class, end) = match to {
        Some(to) if to != from => ("good", lane_x(to)),
        // To itself, or nowhere: a stump towards the other lanes.
        _ if from + 1 < lanes.len() => (
            if to.is_some() { "good" } else { "bad" },
            x + LANE_WIDTH / 2,
        ),
        _ => (
            if to.is_some() { "good" } else { "bad" },
            x - LANE_WIDTH / 2,
        ),
    };
    let mut label = what(packet);
    if let Some(fate) = &fate {
        let _ = write!(label, " · {fate}");
    }
    if packet.copy_of.is_some() {
        label.push_str(" · a copy");
    }
    let _ = writeln!(
        page,
        "<g><title>{} → {}, {} bytes, {}</title><line class=\"{class}\" x1=\"{x}\" y1=\"{y}\" x2=\"{end}\" y2=\"{y}\" marker-end=\"url(#{class})\"/>\
<text class=\"label {}\" x=\"{}\" y=\"{}\">{}</text></g>",
        packet.source,
        packet.destination,
        packet.payload.len(),
        escaped(&packet.fate.to_string()),
        if fate.is_some() { "bad" } else { "" },
        // In the middle of the nearest gap: an arrow over two gaps is labelled in its first.
        if end > x {
            x + LANE_WIDTH / 2
        } else {
            x - LANE_WIDTH / 2
        },
        y - 5,
        escaped(&label)
    );
}

/// What a datagram is, in a few words.
fn what(packet: &TracedPacket) -> String {
    let Ok(message) = Message::parse(&packet.payload) else {
        return format!("data, {} bytes", packet.payload.len());
    };
    let method = message.method();
    match message.class() {
        Class::Request if message.use_candidate() => format!("{method}, nominates"),
        Class::Request => method.to_string(),
        Class::Indication => format!("{method} indication"),
        Class::SuccessResponse => format!("{method} ok"),
        Class::ErrorResponse => match message.error_code() {
            Ok(Some(error)) => format!("{method} error {}", error.code()),
            _ => format!("{method} error"),
        },
    }
}

/// What is worth a note of what an agent told.
fn note(event: &Event) -> Option<String> {
    Some(match event {
        Event::LocalParameters(_) => "restarts".to_owned(),
        Event::Candidate(candidate) => {
            format!("candidate {} {}", candidate.kind, candidate.address)
        }
        Event::CandidateRemoved(candidate) => format!("{} is gone", candidate.address),
        Event::CandidateError(error) => format!("{}: {}", error.url, error.error_text),
        Event::StateChange { state, verdict } => match verdict {
            Some(verdict) => format!("{state:?}: {verdict}"),
            None => format!("{state:?}"),
        },
        Event::SelectedPairChange(pair) => {
            format!("selects {} ↔ {}", pair.local.kind, pair.remote.kind)
        }
        Event::Nominated(pair) => format!("nominated: {} ↔ {}", pair.local.kind, pair.remote.kind),
        Event::RoleChange(role) => format!("is {role:?} now"),
        Event::MaxPayloadChange { bytes } => format!("sends up to {bytes} bytes"),
        Event::RestartDue(reason) => format!("is to restart: {reason:?}"),
        _ => return None,
    })
}

fn milliseconds(at: Time) -> String {
    let microseconds = at.as_nanos() / 1_000;
    format!("{}.{}", microseconds / 1_000, microseconds % 1_000 / 100)
}

/// Text that stays text in HTML: candidates and names come from elsewhere.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            _ => safe.push(character),
        }
    }
    safe
}

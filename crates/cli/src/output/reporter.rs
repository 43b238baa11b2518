//! Puts events where they belong: live rows on a terminal, plain lines in a pipe, JSON for programs.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nilas_ice::PairState;
use serde::Serialize;

use super::event::Event;
use super::pairs::PairView;
use super::text::Palette;
use crate::failure::Failure;

/// Where lines for people go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// How a command reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON lines on standard output.
    Json,
    /// Lines, and rows that change in place.
    Live,
    /// Lines only.
    Plain,
}

impl Format {
    /// JSON where it was asked for; otherwise whatever the stream can show.
    pub(crate) fn choose(json: bool, stream: Stream) -> Self {
        let terminal = match stream {
            Stream::Stdout => io::stdout().is_terminal(),
            Stream::Stderr => io::stderr().is_terminal(),
        };
        match (json, terminal) {
            (true, _) => Self::Json,
            (false, true) => Self::Live,
            (false, false) => Self::Plain,
        }
    }
}

/// The most rows that change in place at a time; the screen belongs to the user.
const MOST_ROWS: usize = 16;

/// Reports events, and remembers which pairs there are.
#[derive(Debug)]
pub(crate) struct Reporter {
    format: Format,
    stream: Stream,
    schema: &'static str,
    palette: Palette,
    screen: MultiProgress,
    /// By peer and pair, in the order they came.
    pairs: BTreeMap<(String, usize), Row>,
    told: usize,
}

#[derive(Debug)]
struct Row {
    pair: PairView,
    selected: bool,
    bar: Option<ProgressBar>,
}

/// An event as a JSON line.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(flatten)]
    event: &'a Event,
}

impl Reporter {
    /// `schema` is the name and version of the JSON lines.
    pub(crate) fn new(format: Format, stream: Stream, schema: &'static str) -> Self {
        let target = match (format, stream) {
            (Format::Live, Stream::Stdout) => ProgressDrawTarget::stdout(),
            (Format::Live, Stream::Stderr) => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::hidden(),
        };
        Self {
            format,
            stream,
            schema,
            palette: Palette::new(stream == Stream::Stderr),
            screen: MultiProgress::with_draw_target(target),
            pairs: BTreeMap::new(),
            told: 0,
        }
    }

    pub(crate) const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json)
    }

    /// Tells something of a peer.
    pub(crate) fn tell(&self, peer: Option<&str>, event: &Event) -> Result<(), Failure> {
        match self.format {
            Format::Json => super::json_line(self.schema, &Line { peer, event }),
            Format::Live | Format::Plain => self.line(&self.palette.line(peer, event)),
        }
    }

    /// Tells a person a sentence; programs get it as a `note`.
    pub(crate) fn note(&self, text: impl Into<String>) -> Result<(), Failure> {
        self.tell(None, &Event::Note { text: text.into() })
    }

    fn line(&self, text: &str) -> Result<(), Failure> {
        let write = || match self.stream {
            Stream::Stdout => writeln!(io::stdout().lock(), "{text}"),
            Stream::Stderr => writeln!(io::stderr().lock(), "{text}"),
        };
        // The rows make way for the line and come back under it.
        self.screen.suspend(write)?;
        Ok(())
    }

    /// Tells which pairs a peer has now: those that are new, and those whose state has changed.
    pub(crate) fn pairs(&mut self, peer: &str, pairs: &[PairView]) -> Result<(), Failure> {
        for pair in pairs {
            let known = self
                .pairs
                .iter()
                .find(|((of, _), row)| of == peer && row.pair.id == pair.id);
            let key = match known {
                Some((_, row)) if row.pair == *pair => continue,
                Some((key, row)) => {
                    let same_state = row.pair.state == pair.state;
                    let key = key.clone();
                    if same_state {
                        // A new RTT or type is worth a look in a row, but not another line.
                        self.update(&key, pair, false);
                        continue;
                    }
                    key
                }
                None => {
                    self.told += 1;
                    (peer.to_owned(), self.told)
                }
            };
            self.update(&key, pair, false);
            match self.format {
                Format::Live => {}
                // A pair that only waits would double the lines; it is told once it is checked.
                Format::Plain if matches!(pair.state, PairState::Frozen | PairState::Waiting) => {}
                Format::Plain | Format::Json => {
                    self.tell(named(peer), &Event::Pair(pair.clone()))?
                }
            }
        }
        Ok(())
    }

    /// Marks the pair that carries a peer's data.
    pub(crate) fn selected(&mut self, peer: &str, pair: &PairView) {
        let of_peer = self.pairs.iter().filter(|((of, _), _)| of == peer);
        let rows: Vec<_> = of_peer
            .map(|(key, row)| (key.clone(), row.pair.clone(), row.pair.same_ends(pair)))
            .collect();
        for (key, pair, selected) in rows {
            self.update(&key, &pair, selected);
        }
    }

    fn update(&mut self, key: &(String, usize), pair: &PairView, selected: bool) {
        let shown = self.pairs.values().filter(|row| row.bar.is_some()).count();
        let (palette, screen, live) = (&self.palette, &self.screen, self.format == Format::Live);
        let row = self.pairs.entry(key.clone()).or_insert_with(|| Row {
            pair: pair.clone(),
            selected: false,
            bar: (live && shown < MOST_ROWS).then(|| new_bar(screen)),
        });
        row.selected = selected || row.selected && row.pair.same_ends(pair);
        row.pair = pair.clone();
        if let Some(bar) = &row.bar {
            let peer = named(&key.0)
                .map(|peer| format!("{peer}  "))
                .unwrap_or_default();
            bar.set_message(format!("{peer}{}", palette.pair(pair, row.selected)));
        }
    }

    /// Turns the rows into lines that stay.
    pub(crate) fn settle(&mut self) -> Result<(), Failure> {
        if self.format == Format::Live {
            self.screen.clear()?;
            for ((peer, _), row) in std::mem::take(&mut self.pairs) {
                let peer = named(&peer)
                    .map(|peer| format!("{peer}  "))
                    .unwrap_or_default();
                if let Some(bar) = &row.bar {
                    bar.finish_and_clear();
                    self.line(&format!(
                        "{peer}{}",
                        self.palette.pair(&row.pair, row.selected)
                    ))?;
                }
            }
        }
        self.pairs.clear();
        Ok(())
    }

    /// All pairs of a peer as they were told last.
    pub(crate) fn pairs_of(&self, peer: &str) -> Vec<PairView> {
        self.pairs
            .iter()
            .filter(|((of, _), _)| of == peer)
            .map(|(_, row)| row.pair.clone())
            .collect()
    }
}

/// A command with one agent calls it nothing.
fn named(peer: &str) -> Option<&str> {
    (!peer.is_empty()).then_some(peer)
}

fn new_bar(screen: &MultiProgress) -> ProgressBar {
    let bar = screen.add(ProgressBar::new_spinner());
    // The template is a constant, and right.
    if let Ok(style) = ProgressStyle::with_template("{spinner:.dim} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

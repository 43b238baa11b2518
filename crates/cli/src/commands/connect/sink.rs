//! What comes from the other side, on its way to standard output.

use std::io::{self, Write};
use std::thread::JoinHandle;

use serde::Serialize;
use tokio::sync::mpsc;

use super::EVENT_SCHEMA;
use crate::failure::Failure;
use crate::output::Event;

/// Blocks that wait to be written. Beyond them the other side is slowed down.
const QUEUE: usize = 64;
/// A line that does not end is told in parts of so many bytes.
const MAX_LINE: usize = 64 * 1_024;

/// Writes blocks to standard output in a thread of its own: a reader that pauses must stop the pipe, and not
/// the answers to the other side's consent checks.
#[derive(Debug)]
pub(super) struct Sink {
    sender: mpsc::Sender<Box<[u8]>>,
    thread: JoinHandle<io::Result<()>>,
}

impl Sink {
    /// With `json`, each line becomes a `data` event.
    pub(super) fn start(json: bool) -> Result<Self, Failure> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let write = move || {
            if json {
                write_lines(receiver)
            } else {
                write_bytes(receiver)
            }
        };
        let thread = std::thread::Builder::new()
            .name("standard output".to_owned())
            .spawn(write)
            .map_err(Failure::internal)?;
        Ok(Self { sender, thread })
    }

    /// Waits until another block can be taken: `None` once standard output takes no more.
    pub(super) async fn ready(&self) -> Option<mpsc::Permit<'_, Box<[u8]>>> {
        self.sender.reserve().await.ok()
    }

    /// Waits until all is written.
    pub(super) fn finish(self) -> Result<(), Failure> {
        drop(self.sender);
        match self.thread.join() {
            Ok(written) => Ok(written?),
            Err(_) => Err(Failure::internal("the thread that writes panicked")),
        }
    }
}

fn write_bytes(mut blocks: mpsc::Receiver<Box<[u8]>>) -> io::Result<()> {
    let mut stdout = io::stdout();
    while let Some(block) = blocks.blocking_recv() {
        stdout.write_all(&block)?;
        stdout.flush()?;
    }
    Ok(())
}

fn write_lines(mut blocks: mpsc::Receiver<Box<[u8]>>) -> io::Result<()> {
    let mut lines = Lines::default();
    while let Some(block) = blocks.blocking_recv() {
        for line in lines.take(&block) {
            write_line(line)?;
        }
    }
    lines.rest().map_or(Ok(()), write_line)
}

fn write_line(data: String) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line {
        schema: &'static str,
        #[serde(flatten)]
        event: Event,
    }
    let mut line = serde_json::to_vec(&Line {
        schema: EVENT_SCHEMA,
        event: Event::Data { data },
    })?;
    line.push(b'\n');
    let mut stdout = io::stdout();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// Puts lines together that came in several blocks.
#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    fn take(&mut self, block: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for part in block.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.begun.pop();
            } else if self.begun.len() < MAX_LINE {
                continue;
            }
            lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.begun)).into_owned());
        }
        lines
    }

    fn rest(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.begun);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_put_together_across_blocks() {
        let mut lines = Lines::default();
        assert_eq!(lines.take("one\ntw".as_bytes()), ["one"]);
        assert_eq!(lines.take(&[b'o', 0xc3]), [""; 0]);
        assert_eq!(lines.take(&[0xa4, b'\n', b'\n', b'x']), ["twoä", ""]);
        assert_eq!(lines.rest().as_deref(), Some("x"));
        assert_eq!(lines.rest(), None);
        assert_eq!(lines.take(&[b'a'; MAX_LINE])[0].len(), MAX_LINE);
    }
}

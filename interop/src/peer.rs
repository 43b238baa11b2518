//! One process that speaks the JSON lines of `nilas agent`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use serde_json::Value;

/// What a peer's standard output brought.
#[derive(Debug)]
pub enum Line {
    /// A line of JSON.
    Event(Value),
    /// A line that is not JSON: always a fault.
    Garbage(String),
    /// The output ended.
    End,
}

/// A running peer. Dropped, it is killed.
#[derive(Debug)]
pub struct Peer {
    child: Child,
    /// None after the input was closed.
    input: Option<ChildStdin>,
}

impl Peer {
    /// Starts the program; its lines go to `lines`, marked with `mark`.
    ///
    /// # Errors
    /// The operating system's, when the program does not start.
    pub fn spawn(
        mut command: Command,
        mark: usize,
        lines: Sender<(usize, Line)>,
    ) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take();
        let input = child.stdin.take();
        if let Some(output) = output {
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let line = serde_json::from_str(&line).map_or(Line::Garbage(line), Line::Event);
                    if lines.send((mark, line)).is_err() {
                        return;
                    }
                }
                // Nobody listens any more: the test has ended.
                drop(lines.send((mark, Line::End)));
            });
        }
        Ok(Self { child, input })
    }

    /// Sends one command. A peer that has gone is noticed by the end of its output, so a failed write is no error here.
    pub fn send(&mut self, command: &Value) {
        self.send_text(&command.to_string());
    }

    /// Sends a line as it is.
    pub fn send_text(&mut self, line: &str) {
        if let Some(input) = &mut self.input {
            drop(writeln!(input, "{line}"));
        }
    }

    /// Ends the peer's input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Waits for the process to exit; to be called after its output ended.
    ///
    /// # Errors
    /// The operating system's.
    pub fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have exited already; then there is nothing to kill and the status is collected.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

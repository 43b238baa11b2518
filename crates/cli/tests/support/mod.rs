//! Running the program as a user would, with a guard against hanging.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// Far more than anything here takes: it only turns a hang into a failure.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

/// The program, without what the environment of the tests could tell it.
pub(crate) fn nilas(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nilas"));
    command
        .args(arguments)
        .env_remove("NILAS_SERVER")
        .env_remove("NILAS_SERVER_CONFIG")
        .env_remove("NILAS_LOG")
        .env_remove("CLICOLOR_FORCE");
    command
}

/// Runs to the end with this standard input.
pub(crate) fn run_with(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = nilas(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // A program that ends early closes its input, which is no failure of the test.
    thread::spawn(move || stdin.write_all(&input));
    finish(child)
}

/// Runs to the end without input.
pub(crate) fn run(arguments: &[&str]) -> Output {
    run_with(arguments, b"")
}

/// Waits for the end, and kills what does not end.
pub(crate) fn finish(mut child: Child) -> Output {
    let mut stdout = child.stdout.take().map(read_all);
    let mut stderr = child.stderr.take().map(read_all);
    let guard = std::time::Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if guard.elapsed() > GUARD {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the program hangs");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let take = |reader: &mut Option<Receiver<Vec<u8>>>| {
        reader
            .take()
            .map(|bytes| bytes.recv_timeout(GUARD).expect("the output ends"))
            .unwrap_or_default()
    };
    Output {
        status,
        stdout: take(&mut stdout),
        stderr: take(&mut stderr),
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        sender.send(bytes)
    });
    receiver
}

/// A program that runs, spoken to line by line. Dropping it kills it.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_command(nilas(arguments))
    }

    pub(crate) fn start_command(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = read_lines(child.stdout.take().expect("it is piped"));
        let errors = read_lines(child.stderr.take().expect("it is piped"));
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            errors,
        }
    }

    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is not closed yet");
        stdin
            .write_all(text.as_bytes())
            .and_then(|()| stdin.flush())
            .expect("the program reads");
    }

    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// The next line of standard output.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(GUARD).expect("a line of output")
    }

    /// The next line of standard output, or `None` at its end.
    pub(crate) fn line_or_end(&self) -> Option<String> {
        self.lines.recv_timeout(GUARD).ok()
    }

    /// The next line of standard output that is JSON and that `wanted` accepts.
    pub(crate) fn json(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        loop {
            let line = self.line();
            let value: serde_json::Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            if wanted(&value) {
                return value;
            }
        }
    }

    /// The next line of standard error that contains `wanted`.
    pub(crate) fn error_line(&self, wanted: &str) -> String {
        loop {
            let line = self
                .errors
                .recv_timeout(GUARD)
                .unwrap_or_else(|_| panic!("no line with {wanted:?}"));
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// Waits for the end and tells the exit code.
    pub(crate) fn exit_code(mut self) -> Option<i32> {
        let guard = std::time::Instant::now();
        while guard.elapsed() < GUARD {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                return status.code();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("the program hangs");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A server of ours on free ports of the loopback interface.
pub(crate) struct Server {
    pub(crate) running: Running,
    /// `127.0.0.1:PORT`
    pub(crate) stun: String,
    /// `ws://127.0.0.1:PORT`
    pub(crate) rendezvous: String,
    /// All that it has said.
    pub(crate) ready: serde_json::Value,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// One that relays for the user `ann`, whose password is `x`.
    pub(crate) fn relaying() -> Self {
        Self::start_with(&["--user", "ann:x"])
    }

    fn start_with(more: &[&str]) -> Self {
        let listen = ["--listen", "127.0.0.1:0", "--signal-listen", "127.0.0.1:0"];
        let running = Running::start(&[&["server", "--json"], &listen[..], more].concat());
        let ready = running.json(|value| value["event"] == "ready");
        let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
        Self {
            stun: text(&ready["stun_udp"][0]),
            rendezvous: text(&ready["rendezvous"][0]),
            running,
            ready,
        }
    }

    /// Waits until so many allocations have ended, and sees that their clients have given them back. Otherwise they would end
    /// long after the [`GUARD`].
    pub(crate) fn expect_released(&self, allocations: usize) {
        for _ in 0..allocations {
            let line = self.running.error_line("an allocation ended");
            assert!(line.contains("Released"), "{line}");
        }
    }
}

/// A port of the loopback interface that is free, and that nobody is given by chance.
pub(crate) fn quiet_port() -> u16 {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    (first..32_000)
        .find(|port| std::net::UdpSocket::bind(("127.0.0.1", *port)).is_ok())
        .expect("one is free")
}

/// Tells a program to end.
#[cfg(unix)]
pub(crate) fn signal(running: &Running, name: &str) {
    let pid = running.child.id().to_string();
    let status = Command::new("kill").args([name, &pid]).status();
    assert!(status.expect("kill runs").success());
}

/// The last line of standard output.
pub(crate) fn last_json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .last()
        .unwrap_or_else(|| panic!("standard output is empty; {}", complaint(output)));
    serde_json::from_str(line).expect("JSON")
}

/// Standard error as text.
pub(crate) fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

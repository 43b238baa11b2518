//! Standard input, read by a thread of its own so that nothing waits for a slow typist.
//!
//! The thread ends with the input, or with the process: a read cannot be interrupted.

use std::io::{self, BufRead, Read};

use tokio::sync::mpsc;

use crate::failure::Failure;

/// What is read and not yet taken.
const QUEUE: usize = 64;

/// A line of input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its line break.
    Text(String),
    /// It has more bytes than allowed; they were skipped.
    TooLong,
    /// It is not UTF-8.
    NotText,
}

/// The lines of standard input, each of at most `limit` bytes. The channel closes at the end of input.
pub(crate) fn lines(limit: usize) -> Result<mpsc::Receiver<Line>, Failure> {
    spawn(move |sender| {
        let mut stdin = io::stdin().lock();
        while let Ok(Some(line)) = read_line(&mut stdin, limit) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    })
}

/// The bytes of standard input, in blocks of at most `size`, as they come.
pub(crate) fn blocks(size: usize) -> Result<mpsc::Receiver<Vec<u8>>, Failure> {
    spawn(move |sender| read_blocks(&mut io::stdin().lock(), size, &sender))
}

/// What lines are asked for first, and the blocks after them.
pub(crate) struct Asked {
    pub(crate) lines: mpsc::Receiver<Line>,
    /// Says after each line whether another is wanted; the blocks begin when it is not.
    pub(crate) again: std::sync::mpsc::Sender<bool>,
    pub(crate) blocks: mpsc::Receiver<Vec<u8>>,
}

/// One line of at most `limit` bytes, or several until one is accepted, and then the rest in blocks.
pub(crate) fn line_then_blocks(limit: usize, size: usize) -> Result<Asked, Failure> {
    let (line_sender, lines) = mpsc::channel(1);
    let (again, wants_more) = std::sync::mpsc::channel();
    let blocks = spawn(move |sender| {
        let mut stdin = io::stdin().lock();
        loop {
            let Ok(Some(line)) = read_line(&mut stdin, limit) else {
                return;
            };
            if line_sender.blocking_send(line).is_err() {
                return;
            }
            match wants_more.recv() {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return,
            }
        }
        drop(line_sender);
        read_blocks(&mut stdin, size, &sender);
    })?;
    Ok(Asked {
        lines,
        again,
        blocks,
    })
}

fn read_blocks(input: &mut impl Read, size: usize, sender: &mpsc::Sender<Vec<u8>>) {
    loop {
        let mut block = vec![0; size];
        match input.read(&mut block) {
            Ok(0) => return,
            Ok(length) => block.truncate(length),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        }
        if sender.blocking_send(block).is_err() {
            return;
        }
    }
}

fn spawn<T: Send + 'static>(
    read: impl FnOnce(mpsc::Sender<T>) + Send + 'static,
) -> Result<mpsc::Receiver<T>, Failure> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::Builder::new()
        .name("standard input".to_owned())
        .spawn(move || read(sender))
        .map_err(Failure::internal)?;
    Ok(receiver)
}

/// The next line, or `None` at the end. Never holds more than `limit` bytes of it.
fn read_line(input: &mut impl BufRead, limit: usize) -> io::Result<Option<Line>> {
    let mut line = Vec::new();
    let mut too_long = false;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = &available[..end.unwrap_or(available.len())];
        let at_end_of_input = available.is_empty();
        if line.len() + part.len() > limit {
            too_long = true;
        } else if !too_long {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() || at_end_of_input {
            if at_end_of_input && line.is_empty() && !too_long {
                return Ok(None);
            }
            return Ok(Some(match String::from_utf8(line) {
                _ if too_long => Line::TooLong,
                Ok(text) => Line::Text(text.trim_end_matches('\r').to_owned()),
                Err(_) => Line::NotText,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_bounded_and_the_rest_goes_on() {
        let text = |text: &str| Line::Text(text.to_owned());
        for capacity in [1, 3, 100] {
            let bytes: &[u8] = b"one\r\n\n123456789\n\xff\n12345678\nlast";
            let mut input = BufReader::with_capacity(capacity, bytes);
            let mut lines = Vec::new();
            while let Some(line) = read_line(&mut input, 8).expect("memory does not fail") {
                lines.push(line);
            }
            assert_eq!(
                lines,
                [
                    text("one"),
                    text(""),
                    Line::TooLong,
                    Line::NotText,
                    text("12345678"),
                    text("last")
                ]
            );
        }
    }
}

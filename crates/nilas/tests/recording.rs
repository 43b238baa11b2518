//! Sessions of the real driver are recorded, and play back.

mod common;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use common::{Two, config, deliver, receive, soon};
use nilas::ice::{RecordingEnd, replay};
use nilas::{Endpoint, RecordingOptions, Role};

const PAYLOAD: &str = "a very private payload";

/// A file in memory.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Vec<u8>>>);

impl Write for Shelf {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn endpoint(shelf: &Shelf) -> Endpoint {
    let mut options = RecordingOptions::default();
    options.note = String::from("a test");
    Endpoint::recorded(Default::default(), options, shelf.clone()).unwrap()
}

#[tokio::test]
async fn a_session_over_loopback_is_recorded_and_plays_back() {
    let shelves = [Shelf::default(), Shelf::default()];
    let roles = [Role::Controlling, Role::Controlled];
    let mut agents = Vec::new();
    for (shelf, role) in shelves.iter().zip(roles) {
        agents.push(Arc::new(endpoint(shelf).agent(config(role)).await.unwrap()));
    }
    let b = agents.pop().unwrap();
    let a = agents.pop().unwrap();
    let passwords = [&a, &b].map(|agent| agent.local_parameters().pwd);
    let two = Two { a, b };
    two.exchange();
    let (mut at_a, mut at_b) = two.connect().await;
    deliver(&mut at_a, &mut at_b, PAYLOAD).await;
    two.a.restart().await.unwrap();
    for n in 0..100 {
        at_b.send(format!("{n} {PAYLOAD}").as_bytes())
            .await
            .unwrap();
    }
    receive(&mut at_a).await;
    soon("closing", async {
        tokio::join!(at_a.close(), at_b.close())
    })
    .await;
    drop(two);
    for shelf in shelves {
        // The driver ends soon after its last handle is gone.
        let recording = soon("the end", async {
            loop {
                let recording = shelf.0.lock().unwrap().clone();
                if replay(&recording).is_ok_and(|replay| replay.end == RecordingEnd::Whole) {
                    break recording;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
        let replay = replay(&recording).unwrap();
        assert_eq!(replay.difference, None);
        assert!(replay.calls > 50, "{}", replay.calls);
        assert_eq!(replay.note, "a test");
        for secret in passwords.iter().map(String::as_str).chain([PAYLOAD]) {
            let secret = secret.as_bytes();
            assert!(!recording.windows(secret.len()).any(|part| part == secret));
        }
    }
}

/// A disk that is full.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn where_nothing_can_be_written_the_session_goes_on() {
    let options = RecordingOptions::default();
    let full = Endpoint::recorded(Default::default(), options, Full).unwrap();
    let mut agents = Vec::new();
    for role in [Role::Controlling, Role::Controlled] {
        agents.push(Arc::new(full.agent(config(role)).await.unwrap()));
    }
    let b = agents.pop().unwrap();
    let a = agents.pop().unwrap();
    let two = Two { a, b };
    two.exchange();
    let (mut at_a, mut at_b) = two.connect().await;
    deliver(&mut at_a, &mut at_b, "anyway").await;
}

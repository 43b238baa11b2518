//! A chat between two terminals or two machines, without any server: the tickets go by copy and paste.
//!
//! ```text
//! cargo run -p nilas --example chat
//! ```
//!
//! Start it at both ends, paste each end's line into the other, and type. Nothing is encrypted.
//! A STUN server may be named (`-- stun:stun.example.org`) for ends that are not in one network;
//! `-- loopback` lets both ends be on one machine that has no network at all.

use nilas::signaling::Ticket;
use nilas::{Agent, Config};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[tokio::main]
async fn main() {
    // An error's text says what to do, which is all that a user wants to see of it.
    if let Err(error) = chat().await {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

async fn chat() -> Result<(), Box<dyn std::error::Error>> {
    // Both ends begin the same way: the protocol settles who leads (RFC 8445 section 7.3.1.1).
    let mut config = Config::controlling();
    for argument in std::env::args().skip(1) {
        config = match argument.as_str() {
            "loopback" => config.loopback(true),
            server => config.stun(server)?,
        };
    }
    let agent = Agent::new(config).await?;
    println!(
        "Paste this line at the other end:\n\n{}\n\nand the other end's line here:",
        agent.ticket().await?
    );

    let mut lines = BufReader::new(stdin()).lines();
    let line = lines.next_line().await?.ok_or("no ticket was pasted")?;
    agent.accept(&line.parse::<Ticket>()?).await?;
    let mut connection = agent.connect().await?;
    if let Some(pair) = connection.selected_pair() {
        println!(
            "Connected: {} to {}. Type away; an empty line ends.",
            pair.local.kind, pair.remote.kind
        );
    }

    let mut buffer = [0; 2000];
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) if !line.is_empty() => connection.send(line.as_bytes()).await?,
                _ => break,
            },
            length = connection.recv(&mut buffer) => {
                println!("> {}", String::from_utf8_lossy(&buffer[..length?]));
            }
        }
    }
    connection.close().await;
    Ok(())
}

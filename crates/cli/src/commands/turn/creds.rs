//! `nilas turn creds`: credentials that expire.

use nilas_net::creds::{CredentialHash, time_limited};
use nilas_net::ice_servers::{self, IceServer};
use serde::Serialize;

use super::targets::since_1970;
use crate::arguments::turn::{Hash, TurnCreds};
use crate::commands::print_line;
use crate::failure::Failure;
use crate::output::{ended, json_line};

const SCHEMA: &str = "nilas.turn-creds/1";

/// What a program gets to know.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    ok: bool,
    username: String,
    credential: String,
    /// When they end, in seconds since 1970.
    expires: u64,
    /// For `new RTCPeerConnection({iceServers})`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ice_servers: Vec<IceServer>,
}

pub(super) fn run(arguments: &TurnCreds) -> Result<(), Failure> {
    let made = ended(arguments.json, SCHEMA, make(arguments))?;
    if arguments.json {
        return json_line(SCHEMA, &made);
    }
    print_line(&format!("user      {}", made.username))?;
    print_line(&format!("password  {}", made.credential))?;
    if !made.ice_servers.is_empty() {
        print_line(&ice_servers::to_json(&made.ice_servers))?;
    }
    Ok(())
}

fn make(arguments: &TurnCreds) -> Result<Made, Failure> {
    if arguments.secret.is_empty() {
        return Err(Failure::usage("the secret is empty, which no server takes"));
    }
    let now = since_1970()?;
    let hash = match arguments.hash {
        Hash::Sha1 => CredentialHash::Sha1,
        Hash::Sha256 => CredentialHash::Sha256,
    };
    let secret = arguments.secret.as_bytes();
    let (username, credential) = time_limited(secret, &arguments.user, arguments.ttl, now, hash);
    let mut made = Made {
        ok: true,
        username: username.clone(),
        credential: credential.clone(),
        expires: now.saturating_add(arguments.ttl).as_secs(),
        ice_servers: Vec::new(),
    };
    if !arguments.url.is_empty() {
        made.ice_servers.push(IceServer {
            urls: arguments.url.clone(),
            username: Some(username),
            credential: Some(credential),
        });
    }
    Ok(made)
}

//! Which servers, with which credentials.

use std::io::Read;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nilas_net::creds::{CredentialHash, time_limited};
use nilas_net::ice_servers::{self, ServerUrl};
use nilas_net::relay::{Credentials, TurnClient};
use nilas_net::stream::ClientTls;
use nilas_stun::uri::TurnUri;

use crate::arguments::turn::{Account, Trust, TurnTest};
use crate::failure::Failure;

/// What is made from a secret holds for so long.
const TTL: Duration = Duration::from_secs(3600);

/// A server to try.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) uri: TurnUri,
    pub(super) credentials: Credentials,
}

/// The servers that the command line names.
pub(super) fn of_test(arguments: &TurnTest) -> Result<Vec<Target>, Failure> {
    if let Some(uri) = &arguments.url {
        return Ok(vec![Target {
            uri: uri.clone(),
            credentials: credentials(&arguments.account)?,
        }]);
    }
    let given = arguments.ice_servers.as_deref().unwrap_or_default();
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        std::io::stdin().lock().read_to_string(&mut text)?;
    }
    let mut targets = Vec::new();
    for server in ice_servers::parse(&text).map_err(Failure::usage)? {
        let credentials = Credentials {
            username: server.username.unwrap_or_default(),
            password: server.credential.unwrap_or_default(),
        };
        for url in server.urls {
            if let ServerUrl::Turn(uri) = url {
                targets.push(Target {
                    uri,
                    credentials: credentials.clone(),
                });
            }
        }
    }
    if targets.is_empty() {
        return Err(Failure::usage(
            "there is no TURN server in the list, only STUN servers, which relay nothing",
        ));
    }
    Ok(targets)
}

/// The credentials that the command line gives or makes.
pub(super) fn credentials(account: &Account) -> Result<Credentials, Failure> {
    let user = account.user.clone().unwrap_or_default();
    if let Some(secret) = &account.secret {
        let (username, password) = time_limited(
            secret.as_bytes(),
            &user,
            TTL,
            since_1970()?,
            CredentialHash::Sha1,
        );
        return Ok(Credentials { username, password });
    }
    match &account.password {
        Some(password) => Ok(Credentials {
            username: user,
            password: password.clone(),
        }),
        None => Err(Failure::usage(
            "a TURN server wants to know who asks: give --user and --password, or --secret",
        )),
    }
}

/// The time since 1970 began.
pub(super) fn since_1970() -> Result<Duration, Failure> {
    SystemTime::now().duration_since(UNIX_EPOCH).map_err(|_| {
        Failure::usage(
            "this machine's clock stands before 1970: set it, since credentials expire by it",
        )
    })
}

/// A client that trusts whom the command line says.
pub(super) fn client(trust: &Trust) -> Result<TurnClient, Failure> {
    let client = TurnClient::new().map_err(Failure::no_connection)?;
    Ok(match &trust.ca {
        Some(file) => client.trusting(ClientTls::from_file(file).map_err(Failure::usage)?),
        None => client,
    })
}

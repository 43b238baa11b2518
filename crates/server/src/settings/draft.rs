//! A configuration that is being put together, and where each part of it came from.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::BASE64;
use nilas_net::stream::{CertificateError, CertifiedKeyStore};

use super::mistake::{Mistake, Place};
use super::table::Setting;
use crate::config::{
    CertificateFiles, DiscoveryAddresses, Secret, ServerConfig, TokenKey, Tokens, User,
};

/// A longer file holds no secrets.
const MAX_SECRETS_BYTES: u64 = 1 << 20;

/// What the settings came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Configured {
    /// The configuration, in which nothing is wrong that can be told without the machine it runs on.
    pub config: ServerConfig,
    /// Whether nothing was said about addresses to relay on, so that they may be chosen.
    pub relay_address_is_open: bool,
    /// Whether all users and secrets were given as flags, which everybody on this machine can read: then it
    /// tells nothing new to print them.
    pub credentials_are_flags: bool,
    /// Variables that look like settings and are none.
    pub unknown_variables: Vec<String>,
}

/// A configuration in the making.
pub(super) struct Draft {
    pub(super) config: ServerConfig,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) alternate_address: Option<SocketAddr>,
    pub(super) token_server_name: Option<String>,
    token_keys: Vec<TokenKey>,
    /// Where each value of a setting came from, by the name under which a mistake in it is told.
    origins: BTreeMap<&'static str, Vec<Place>>,
    given: BTreeMap<&'static str, Place>,
    place: Place,
    mistakes: Vec<Mistake>,
}

impl Draft {
    pub(super) fn new(mistakes: Vec<Mistake>) -> Self {
        Self {
            config: ServerConfig::default(),
            certificate: None,
            key: None,
            alternate_address: None,
            token_server_name: None,
            token_keys: Vec::new(),
            origins: BTreeMap::new(),
            given: BTreeMap::new(),
            place: Place::Default,
            mistakes,
        }
    }

    /// The values of a setting follow, which replace its default.
    pub(super) fn begin(&mut self, setting: &Setting, first: Option<&Place>) {
        match setting.name {
            "listen" => {
                self.config.stun_udp.clear();
                self.config.stun_tcp.clear();
            }
            "signal-listen" => self.config.rendezvous.clear(),
            _ => {}
        }
        let first = first.cloned().unwrap_or(Place::Default);
        self.given.insert(setting.name, first);
    }

    pub(super) fn apply(&mut self, setting: &Setting, place: &Place, value: &str) {
        self.place = place.clone();
        if let Err(reason) = (setting.apply)(self, value) {
            self.mistakes
                .push(Mistake::new(place.clone(), setting.name, reason));
        }
    }

    /// A value was added to a setting that may have several.
    pub(super) fn added(&mut self, setting: &'static str) {
        self.origins
            .entry(setting)
            .or_default()
            .push(self.place.clone());
    }

    /// A path, from the directory of the file that it stands in.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        match &self.place {
            Place::File(file, _) => file.parent().unwrap_or_else(|| Path::new("")).join(text),
            Place::Variable(_) | Place::Flag | Place::Default => PathBuf::from(text),
        }
    }

    pub(super) fn add_user(&mut self, text: &str) -> Result<(), String> {
        let (name, password) = text
            .split_once(':')
            .ok_or("a name and a password are needed, as NAME:PASSWORD")?;
        self.config.access.users.push(User::new(name, password));
        self.added("user");
        Ok(())
    }

    pub(super) fn add_secret(&mut self, text: &str) {
        self.config.access.secrets.push(Secret::from(text));
        self.added("secret");
    }

    pub(super) fn add_token_key(&mut self, text: &str) -> Result<(), String> {
        let (id, key) = text
            .split_once(':')
            .ok_or("the id of a key and the key in base64 are needed, as ID:KEY")?;
        let key = BASE64
            .decode(key.as_bytes())
            .map_err(|_| "the key after the colon is not base64")?;
        self.token_keys.push(TokenKey::new(id, key));
        self.added("token-key");
        Ok(())
    }

    /// Adds each line of a file that is not empty. A mistake in it is told with its own line.
    pub(super) fn add_lines(
        &mut self,
        text: &str,
        mut add: impl FnMut(&mut Self, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let path = self.path(text);
        let mut lines = String::new();
        File::open(&path)
            .and_then(|file| file.take(MAX_SECRETS_BYTES).read_to_string(&mut lines))
            .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
        let path: Arc<Path> = path.into();
        let setting = self.place.clone();
        let mut any = false;
        for (index, line) in lines.lines().enumerate() {
            if line.is_empty() {
                continue;
            }
            any = true;
            self.place = Place::File(Arc::clone(&path), index + 1);
            if let Err(reason) = add(self, line) {
                self.mistakes
                    .push(Mistake::new(self.place.clone(), "", reason));
            }
        }
        self.place = setting;
        if any {
            Ok(())
        } else {
            Err(format!(
                "{} has no line with anything in it",
                path.display()
            ))
        }
    }

    pub(super) fn finish(
        mut self,
        unknown_variables: Vec<String>,
    ) -> Result<Configured, Vec<Mistake>> {
        self.join_certificate();
        self.join_discovery();
        self.join_tokens();
        for mistake in self.config.check() {
            let place = mistake
                .item
                .and_then(|item| self.origins.get(mistake.setting)?.get(item))
                .or_else(|| self.given.get(mistake.setting))
                .cloned()
                .unwrap_or(Place::Default);
            let told = Mistake::new(place, mistake.setting, mistake.reason.to_string());
            self.mistakes.push(told);
        }
        if !self.mistakes.is_empty() {
            self.mistakes
                .sort_by(|one, other| one.place.cmp(&other.place));
            return Err(self.mistakes);
        }
        let credentials = ["user", "secret", "token-key"];
        let mut places = credentials
            .iter()
            .flat_map(|name| self.origins.get(name))
            .flatten();
        Ok(Configured {
            relay_address_is_open: !self.given.contains_key("relay-address"),
            credentials_are_flags: places.all(|place| *place == Place::Flag),
            config: self.config,
            unknown_variables,
        })
    }

    fn join_certificate(&mut self) {
        let (chain, key) = match (self.certificate.take(), self.key.take()) {
            (Some(chain), Some(key)) => (chain, key),
            (None, None) => return,
            (Some(_), None) => return self.wrong("cert", "a certificate needs its `key`, too"),
            (None, Some(_)) => {
                return self.wrong("key", "a key needs its certificate in `cert`, too");
            }
        };
        if let Err(error) = CertifiedKeyStore::load(&chain, &key) {
            let of_key = matches!(&error, CertificateError::File { path, .. } if *path == key);
            let setting = if of_key { "key" } else { "cert" };
            self.wrong(setting, error.to_string());
        }
        self.config.certificate = Some(CertificateFiles::new(chain, key));
    }

    fn join_discovery(&mut self) {
        let Some(alternate) = self.alternate_address else {
            return;
        };
        let same_family = |address: &&SocketAddr| address.is_ipv4() == alternate.is_ipv4();
        match self.config.stun_udp.iter().find(same_family) {
            Some(primary) => {
                self.config.discovery = Some(DiscoveryAddresses::new(*primary, alternate));
            }
            None => self.wrong(
                "alternate-address",
                "NAT behavior discovery needs an address of the same family in `listen`",
            ),
        }
    }

    fn join_tokens(&mut self) {
        let keys = core::mem::take(&mut self.token_keys);
        match self.token_server_name.take() {
            Some(_) if keys.is_empty() => {
                self.wrong("token-server-name", "tokens need a key: give `token-key`");
            }
            Some(name) => self.config.access.tokens = Some(Tokens::new(name, keys)),
            None if keys.is_empty() => {}
            None => {
                let setting = if self.given.contains_key("token-key") {
                    "token-key"
                } else {
                    "token-key-file"
                };
                self.wrong(
                    setting,
                    "tokens need the name of this server: give `token-server-name`",
                );
            }
        }
    }

    fn wrong(&mut self, setting: &'static str, reason: impl Into<String>) {
        let place = self.given.get(setting).cloned().unwrap_or(Place::Default);
        self.mistakes.push(Mistake::new(place, setting, reason));
    }
}

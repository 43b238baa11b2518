//! Settings as text: from a file in TOML, from the environment and from flags, in this order, where what comes
//! later replaces what came before, setting by setting. Each is defined once, in `table`, so that a flag
//! `--relay-ports`, a key `relay-ports` and a variable `NILAS_SERVER_RELAY_PORTS` mean the same. Everything is
//! looked at before anything is complained about.
//!
//! ```
//! use nilas_server::settings::Settings;
//!
//! let mut settings = Settings::new();
//! settings.file("nilas-server.toml".as_ref(), "realm = \"example.org\"\nrelay-ports = \"50000-50\"\nusr = \"ann:x\"");
//! let mistakes = settings.finish().unwrap_err();
//! assert_eq!(
//!     mistakes.iter().map(ToString::to_string).collect::<Vec<_>>(),
//!     [
//!         "nilas-server.toml:2: relay-ports: a range of ports is needed, such as 49152-65535",
//!         "nilas-server.toml:3: usr: there is no such setting; did you mean `user`?",
//!     ]
//! );
//! ```
//!
//! | file | what lives there |
//! |---|---|
//! | `table` | every setting: its name, its help, what it does |
//! | `draft` | a configuration that is being put together, and where each part of it came from |
//! | `file` | the file in TOML |
//! | `value` | text to durations, addresses, ranges |
//! | `mistake` | what is wrong and where; the nearest known name |

mod draft;
mod file;
mod mistake;
mod table;
mod value;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub use self::draft::Configured;
pub use self::mistake::{Mistake, Place};
pub use self::table::{Group, Kind, SETTINGS, Setting};

use self::draft::Draft;
use self::mistake::nearest;

/// What the name of a variable begins with; the rest is the setting's name in capitals, `_` for `-`.
pub const VARIABLE_PREFIX: &str = "NILAS_SERVER_";

/// Settings that are being gathered. Give the weakest source first: the file, the environment, the flags.
#[derive(Default)]
pub struct Settings {
    given: BTreeMap<&'static str, Vec<Given>>,
    mistakes: Vec<Mistake>,
    unknown_variables: Vec<String>,
}

/// A value, and where it stands.
struct Given {
    place: Place,
    value: String,
}

impl Settings {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the text of a file. Paths in it count from the file's directory.
    pub fn file(&mut self, path: &Path, text: &str) {
        let path: Arc<Path> = path.into();
        for entry in file::read(&path, text, &mut self.mistakes) {
            let Some(setting) = Setting::named(&entry.key) else {
                let reason = no_such_setting(&entry.key);
                self.mistakes
                    .push(Mistake::new(entry.place, &entry.key, reason));
                continue;
            };
            let values = entry.values.into_iter();
            let given = values
                .map(|(place, value)| Given { place, value })
                .collect();
            if setting.kind == Kind::Many || !entry.is_list {
                self.given.insert(setting.name, given);
            } else {
                let reason = "one value is needed, and not a list";
                self.mistakes
                    .push(Mistake::new(entry.place, setting.name, reason));
            }
        }
    }

    /// Takes the variables whose names begin with [`VARIABLE_PREFIX`]. Several values of one setting are separated
    /// by commas, and those that are secret by line breaks. Unknown ones are no mistake, as others (such as
    /// Kubernetes) put variables of that beginning into the environment: [`Configured`] names them.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            let Some(setting) = Setting::named(&rest.to_ascii_lowercase().replace('_', "-")) else {
                self.unknown_variables.push(name);
                continue;
            };
            let separator = if setting.is_secret { '\n' } else { ',' };
            let values: Vec<&str> = match setting.kind {
                Kind::Many => value
                    .split(separator)
                    .map(str::trim)
                    .filter(|value| !value.is_empty())
                    .collect(),
                Kind::One | Kind::Switch => vec![&value],
            };
            let place = Place::Variable(name.as_str().into());
            self.replace(setting, place, values);
        }
        self.unknown_variables.sort();
    }

    /// Takes the values of one flag, without its dashes. A switch that has no value is `true`.
    ///
    /// # Panics
    /// If there is no setting of that name in [`SETTINGS`]: flags are made from them.
    pub fn flag<'a>(&mut self, name: &str, values: impl IntoIterator<Item = &'a str>) {
        let setting = Setting::named(name).expect("flags are made from the table of settings");
        self.replace(setting, Place::Flag, values);
    }

    /// The configuration, of the defaults and what was given.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file's lines, then of the variables and flags.
    pub fn finish(self) -> Result<Configured, Vec<Mistake>> {
        let mut draft = Draft::new(self.mistakes);
        for setting in SETTINGS {
            let Some(values) = self.given.get(setting.name) else {
                continue;
            };
            draft.begin(setting, values.first().map(|given| &given.place));
            for given in values {
                draft.apply(setting, &given.place, &given.value);
            }
        }
        draft.finish(self.unknown_variables)
    }

    fn replace<'a>(
        &mut self,
        setting: &'static Setting,
        place: Place,
        values: impl IntoIterator<Item = &'a str>,
    ) {
        let given = values.into_iter().map(|value| Given {
            place: place.clone(),
            value: value.to_owned(),
        });
        self.given.insert(setting.name, given.collect());
    }
}

fn no_such_setting(key: &str) -> String {
    match nearest(key, SETTINGS.iter().map(|setting| setting.name)) {
        Some(name) => format!("there is no such setting; did you mean `{name}`?"),
        None => String::from("there is no such setting"),
    }
}

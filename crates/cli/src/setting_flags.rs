//! The flags of `nilas server`, made from the server's table of settings.

use std::fmt;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use nilas_server::settings::{Kind, SETTINGS, Setting, Settings};

/// What was given of them, setting by setting.
#[derive(Clone, Default)]
pub(crate) struct SettingFlags(Vec<(&'static str, Vec<String>)>);

impl SettingFlags {
    /// Gives them on, after whatever they come before.
    pub(crate) fn give(&self, settings: &mut Settings) {
        for (name, values) in &self.0 {
            settings.flag(name, values.iter().map(String::as_str));
        }
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        command.args(SETTINGS.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        for setting in SETTINGS {
            if let Some(values) = matches.get_many::<String>(setting.name) {
                self.0.push((setting.name, values.cloned().collect()));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for SettingFlags {
    /// The names alone: values hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

fn flag(setting: &'static Setting) -> Arg {
    let often = match setting.kind {
        Kind::Many => "; may be given several times",
        Kind::One | Kind::Switch => "",
    };
    let visible = if setting.is_secret {
        "; everybody on this machine can read it, better give the file"
    } else {
        ""
    };
    let default = match setting.default {
        "none" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.value)
        .help_heading(setting.group.heading())
        .help(format!("{}{often}{visible}{default}", setting.help));
    match setting.kind {
        Kind::Many => arg.action(ArgAction::Append),
        Kind::One => arg.action(ArgAction::Set),
        Kind::Switch => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
    }
}

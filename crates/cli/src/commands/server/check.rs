//! `nilas server check-config`: what is wrong with a file of settings.

use std::path::Path;

use nilas_server::settings::{Mistake, Place, Settings};
use serde::Serialize;

use super::configure::{failure, read, words};
use crate::failure::Failure;
use crate::output::json_line;

const SCHEMA: &str = "nilas.check-config/1";

#[derive(Serialize)]
struct Verdict<'a> {
    ok: bool,
    mistakes: Vec<Wrong<'a>>,
}

#[derive(Serialize)]
struct Wrong<'a> {
    /// Another file than the one that is checked, where it names one with secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// From one; zero for the file as a whole.
    line: usize,
    setting: &'a str,
    reason: &'a str,
}

pub(super) fn run(path: &Path, json: bool) -> Result<(), Failure> {
    let text = match read(path) {
        Ok(text) => text,
        Err(reason) if json => {
            let whole = Wrong {
                file: None,
                line: 0,
                setting: "",
                reason: &reason,
            };
            let verdict = Verdict {
                ok: false,
                mistakes: vec![whole],
            };
            json_line(SCHEMA, &verdict)?;
            return Err(Failure::Command(2));
        }
        Err(reason) => return Err(Failure::usage(reason)),
    };
    let mut settings = Settings::new();
    settings.file(path, &text);
    let mistakes = settings.finish().err().unwrap_or_default();
    if json {
        let verdict = Verdict {
            ok: mistakes.is_empty(),
            mistakes: mistakes
                .iter()
                .map(|mistake| wrong(mistake, path))
                .collect(),
        };
        json_line(SCHEMA, &verdict)?;
    }
    if !mistakes.is_empty() {
        return Err(if json {
            Failure::Command(2)
        } else {
            failure(&words(&mistakes))
        });
    }
    if !json {
        super::super::print_line(&format!("{}: good", path.display()))?;
    }
    Ok(())
}

fn wrong<'a>(mistake: &'a Mistake, path: &Path) -> Wrong<'a> {
    let (file, line) = match &mistake.place {
        Place::File(file, line) => (Some(&**file), *line),
        _ => (None, 0),
    };
    Wrong {
        file: file
            .filter(|file| *file != path)
            .map(|file| file.display().to_string()),
        line,
        setting: &mistake.setting,
        reason: &mistake.reason,
    }
}

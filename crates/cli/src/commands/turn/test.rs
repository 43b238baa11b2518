//! `nilas turn test`: which ways to a server work.

use super::report::{Report, ServerReport, lines};
use super::{probe, targets};
use crate::arguments::turn::TurnTest;
use crate::commands::{print_line, runtime};
use crate::failure::Failure;
use crate::output::{ended, json_line};

const SCHEMA: &str = "nilas.turn-test/1";

pub(super) fn run(arguments: &TurnTest) -> Result<(), Failure> {
    let report = ended(arguments.json, SCHEMA, try_all(arguments))?;
    if arguments.json {
        json_line(SCHEMA, &report)?;
    } else {
        print_line(&format!("verdict: {}", report.verdict))?;
    }
    if report.ok {
        Ok(())
    } else {
        Err(Failure::Told)
    }
}

fn try_all(arguments: &TurnTest) -> Result<Report, Failure> {
    let targets = targets::of_test(arguments)?;
    runtime()?.block_on(async {
        let client = targets::client(&arguments.trust)?;
        let mut servers = Vec::new();
        for target in &targets {
            let server = match probe::all(&client, target, arguments.count).await {
                Ok(rows) => ServerReport::of(&target.uri, &rows),
                Err(error) => ServerReport::unreachable(target.uri.to_string(), error.to_string()),
            };
            if !arguments.json {
                for line in lines(&server) {
                    print_line(&line)?;
                }
            }
            servers.push(server);
        }
        Ok(Report {
            ok: servers.iter().all(|server| server.ok),
            verdict: verdict(&servers),
            servers,
        })
    })
}

fn verdict(servers: &[ServerReport]) -> String {
    match servers {
        [one] => one.verdict(),
        many => {
            let works = many.iter().filter(|server| server.ok).count();
            let mut text = format!("{works} of {} servers work", many.len());
            for server in many.iter().filter(|server| !server.ok) {
                text.push_str(&format!("; {}: {}", server.url, server.verdict()));
            }
            text
        }
    }
}

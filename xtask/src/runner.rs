//! How a step is run, timed, judged and summed up. What a step's programs print goes straight to the terminal.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::prerequisites::{self, Missing};
use crate::steps::{Step, Work};
use crate::workspace::Workspace;

pub(crate) fn list(steps: &[&Step]) {
    for step in steps {
        println!("{:14} {}", step.name, step.about);
    }
}

/// Runs the steps and ends with the line `N passed, N failed`, to which the steps that a failed gate kept from
/// running are added.
pub(crate) fn run(workspace: &Workspace, steps: &[&Step]) -> ExitCode {
    let mut results = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        println!(
            "\n== {}/{} {}: {}",
            number + 1,
            steps.len(),
            step.name,
            step.about
        );
        let begun = Instant::now();
        let verdict = perform(workspace, step, steps);
        let took = begun.elapsed();
        match &verdict {
            Ok(()) => println!("-- {} passed in {}", step.name, seconds(took)),
            Err(reason) => println!("-- {} FAILED in {}: {reason}", step.name, seconds(took)),
        }
        let stop = step.gate && verdict.is_err();
        results.push((step.name, verdict, took));
        if stop {
            break;
        }
    }
    let (text, passed) = summary(&results, steps);
    print!("{text}");
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Of a command line with hundreds of files, its beginning tells enough.
const LINE_LENGTH: usize = 200;

/// Runs a program to its end; anything but exit code 0 is an error in words.
pub(crate) fn execute(mut command: Command) -> Result<(), String> {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_else(|| command.get_program());
    let words: Vec<String> = std::iter::once(program)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut line = words.join(" ");
    if let Some((end, _)) = line.char_indices().nth(LINE_LENGTH) {
        line.truncate(end);
        line.push_str(" ...");
    }
    println!("$ {line}");
    let status = command
        .status()
        .map_err(|error| format!("{line}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{line}: {status}"))
    }
}

fn perform(workspace: &Workspace, step: &Step, steps: &[&Step]) -> Result<(), String> {
    match &step.work {
        Work::Prerequisites => {
            let needs = steps.iter().flat_map(|step| step.needs).copied().collect();
            prerequisites::bring(workspace, needs).map_err(|Missing(text)| text)
        }
        Work::Commands(commands) => commands(workspace).into_iter().try_for_each(execute),
        Work::Check(check) => check(workspace)
            .map(|told| println!("{told}"))
            .map_err(|findings| {
                println!("{findings}");
                "see above".to_owned()
            }),
    }
}

type Outcome = (&'static str, Result<(), String>, Duration);

fn summary(results: &[Outcome], steps: &[&Step]) -> (String, bool) {
    let mut text = String::from("\n");
    for (name, verdict, took) in results {
        let verdict = if verdict.is_ok() { "passed" } else { "FAILED" };
        text += &format!("{name:14} {:>9}  {verdict}\n", seconds(*took));
    }
    for step in &steps[results.len()..] {
        text += &format!("{:14} {:>9}  not run\n", step.name, "");
    }
    let failed: Vec<&Outcome> = results
        .iter()
        .filter(|(_, verdict, _)| verdict.is_err())
        .collect();
    for (name, verdict, _) in &failed {
        if let Err(reason) = verdict {
            text += &format!("\n{name}: {reason}\n    again: cargo xtask test --only {name}\n");
        }
    }
    let not_run = steps.len() - results.len();
    text += &format!(
        "\n{} passed, {} failed",
        results.len() - failed.len(),
        failed.len()
    );
    if not_run > 0 {
        text += &format!(", {not_run} skipped");
    }
    text += "\n";
    (text, failed.is_empty() && not_run == 0)
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps;

    #[test]
    fn the_last_line_counts_the_steps() {
        let all = steps::chosen(&[]).expect("all steps");
        let two = &all[..2];
        let passed = |name| (name, Ok(()), Duration::ZERO);
        let (text, good) = summary(&[passed("a"), passed("b")], two);
        assert!(good && text.ends_with("\n2 passed, 0 failed\n"), "{text}");
        let failed = ("b", Err("why".to_owned()), Duration::ZERO);
        let (text, good) = summary(&[passed("a"), failed.clone()], two);
        assert!(
            !good && text.ends_with("\n1 passed, 1 failed\n") && text.contains("b: why"),
            "{text}"
        );
        let (text, good) = summary(&[failed], two);
        assert!(
            !good
                && text.ends_with("\n0 passed, 1 failed, 1 skipped\n")
                && text.contains("not run"),
            "{text}"
        );
    }

    #[test]
    fn a_program_that_fails_is_an_error_in_words() {
        let error = execute(Command::new("false")).expect_err("false fails");
        assert!(
            error.contains("false") && error.contains("exit status: 1"),
            "{error}"
        );
        assert!(execute(Command::new("no-such-program-of-nilas")).is_err());
        assert_eq!(execute(Command::new("true")), Ok(()));
    }
}

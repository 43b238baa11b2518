//! `nilas completions` and `nilas man`: what shells and manuals want to know, from the one definition.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::failure::Failure;

/// Prints the completion script for a shell.
pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "nilas", &mut script);
    print(&script)
}

/// Prints the manual page, with a section for each verb.
pub(crate) fn page() -> Result<(), Failure> {
    let command = Arguments::command().version(env!("CARGO_PKG_VERSION"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = format!("nilas {}", verb.get_name());
        let verb = verb.clone().bin_name(name.clone()).after_help("");
        writeln!(page, ".SH \"{}\"", name.to_uppercase())?;
        let man = clap_mangen::Man::new(verb);
        man.render_synopsis_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    print(&page)
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    io::stdout().lock().write_all(bytes)?;
    Ok(())
}

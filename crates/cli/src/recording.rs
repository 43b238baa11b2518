//! Recordings of sessions, made (`--record`) and read (`nilas replay`, `nilas explain`).

use std::fs::File;
use std::path::Path;

use nilas::{Agent, Config, Endpoint, RecordingOptions};

use crate::failure::Failure;

/// An endpoint, whose engine is recorded into this file if there is one; the note says by which command.
pub(crate) fn endpoint(file: Option<&Path>, note: &str) -> Result<Endpoint, Failure> {
    let Some(path) = file else {
        return Endpoint::new().map_err(Failure::internal);
    };
    let file = File::create(path).map_err(|error| unwritable(path, &error))?;
    Endpoint::recorded(Default::default(), options(note), file).map_err(Failure::internal)
}

/// An agent on such an endpoint.
pub(crate) async fn agent(
    config: Config,
    file: Option<&Path>,
    note: &str,
) -> Result<Agent, Failure> {
    endpoint(file, note)?
        .agent(config)
        .await
        .map_err(Failure::no_connection)
}

pub(crate) fn options(note: &str) -> RecordingOptions {
    let mut options = RecordingOptions::default();
    options.note = format!("nilas {note}");
    options
}

/// Where the recording of the second of two peers goes.
pub(crate) fn of_second(file: &Path) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".b");
    name.into()
}

pub(crate) fn write(path: &Path, recording: &[u8]) -> Result<(), Failure> {
    std::fs::write(path, recording).map_err(|error| unwritable(path, &error))
}

/// The recording in this file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{} cannot be written: {error}", path.display()))
}

//! Recordings of sessions, made (`--record`) and read (`nilas replay`, `nilas explain`).

use std::fs::File;
use std::path::Path;

use nilas::{Agent, Config, Endpoint, RecordingOptions};

use crate::arguments::Recording;
use crate::failure::Failure;

/// An endpoint, whose engine is recorded where that was asked for; the note says by which command.
pub(crate) fn endpoint(recording: &Recording, note: &str) -> Result<Endpoint, Failure> {
    let Some(path) = &recording.record else {
        return Endpoint::new().map_err(Failure::internal);
    };
    let file = File::create(path).map_err(|error| unwritable(path, &error))?;
    Endpoint::recorded(Default::default(), recording.options(note), file).map_err(Failure::internal)
}

/// An agent on such an endpoint.
pub(crate) async fn agent(
    config: Config,
    recording: &Recording,
    note: &str,
) -> Result<Agent, Failure> {
    endpoint(recording, note)?
        .agent(config)
        .await
        .map_err(Failure::no_connection)
}

impl Recording {
    pub(crate) fn options(&self, note: &str) -> RecordingOptions {
        let mut options = RecordingOptions::default();
        options.limit_bytes = u64::from(self.record_limit) << 20;
        options.note = format!("nilas {note}");
        options
    }

    /// For the second of two peers.
    pub(crate) fn of_second(&self) -> Self {
        let record = self.record.as_ref().map(|file| {
            let mut name = file.as_os_str().to_owned();
            name.push(".b");
            name.into()
        });
        Self {
            record,
            ..self.clone()
        }
    }

    /// Writes what was recorded elsewhere, where that was asked for.
    pub(crate) fn write(&self, recording: &[u8]) -> Result<(), Failure> {
        match &self.record {
            Some(path) => std::fs::write(path, recording).map_err(|error| unwritable(path, &error)),
            None => Ok(()),
        }
    }
}

/// The recording in this file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{} cannot be written: {error}", path.display()))
}

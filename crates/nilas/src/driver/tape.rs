//! Where the recording of the engine goes.

use std::fmt;
use std::io::Write;

use nilas_ice::Engine;

/// What a recording is written to, as long as that works.
pub(crate) struct Tape(Option<Box<dyn Write + Send>>);

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tape").field(&self.0.is_some()).finish()
    }
}

impl Tape {
    pub(crate) fn new(to: impl Write + Send + 'static) -> Self {
        Self(Some(Box::new(to)))
    }

    /// Writes what was recorded since.
    pub(super) fn write(&mut self, engine: &mut Engine) {
        let part = engine.take_recording();
        self.append(engine, &part);
    }

    /// Writes the end.
    pub(super) fn end(&mut self, engine: &mut Engine) {
        let part = engine.end_recording();
        self.append(engine, &part);
    }

    fn append(&mut self, engine: &mut Engine, part: &[u8]) {
        let Some(to) = self.0.as_mut().filter(|_| !part.is_empty()) else {
            return;
        };
        if let Err(error) = to.write_all(part).and_then(|()| to.flush()) {
            tracing::warn!(%error, "the recording cannot be written, and ends here");
            self.0 = None;
            engine.end_recording();
        }
    }
}

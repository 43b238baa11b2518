//! How many connections there may be, in all and from one source.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::source::Source;

/// Counts connections. A connection is counted for as long as its [`Permit`] lives.
#[derive(Clone, Debug)]
pub(crate) struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    max: usize,
    max_per_source: usize,
    present: Mutex<Present>,
}

#[derive(Debug, Default)]
struct Present {
    total: usize,
    per_source: BTreeMap<Source, usize>,
}

impl Admission {
    pub(crate) fn new(max: usize, max_per_source: usize) -> Self {
        Self(Arc::new(Shared {
            max,
            max_per_source,
            present: Mutex::default(),
        }))
    }

    /// Lets a connection in, unless there are too many.
    pub(crate) fn admit(&self, source: Source) -> Option<Permit> {
        let mut present = self.0.present();
        if present.total >= self.0.max {
            return None;
        }
        let of_source = present.per_source.get(&source).copied().unwrap_or_default();
        if of_source >= self.0.max_per_source {
            return None;
        }
        present.total += 1;
        present.per_source.insert(source, of_source + 1);
        Some(Permit {
            shared: Arc::clone(&self.0),
            source,
        })
    }
}

impl Shared {
    fn present(&self) -> MutexGuard<'_, Present> {
        // The counts change by additions that cannot panic half-way, so a poisoned lock guards whole counts.
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Permit {
    shared: Arc<Shared>,
    source: Source,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut present = self.shared.present();
        present.total = present.total.saturating_sub(1);
        if let Some(count) = present.per_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                present.per_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let source = |text: &str| Source::from(text.parse::<IpAddr>().unwrap());
        let admission = Admission::new(3, 2);
        let first = admission.admit(source("192.0.2.1")).unwrap();
        let second = admission.admit(source("192.0.2.1")).unwrap();
        assert!(
            admission.admit(source("192.0.2.1")).is_none(),
            "two of one source"
        );
        let third = admission.admit(source("192.0.2.2")).unwrap();
        assert!(
            admission.admit(source("192.0.2.3")).is_none(),
            "three in all"
        );
        drop(first);
        let fourth = admission.admit(source("192.0.2.1")).unwrap();
        drop((second, third, fourth));
        assert!(admission.0.present().per_source.is_empty());
    }
}

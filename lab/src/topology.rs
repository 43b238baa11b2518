//! Two specs that fit each other, and the wire to both.

use std::fmt;
use std::str::FromStr;

use crate::node::Side;
use crate::spec::{Kind, Spec, SpecError};
use crate::wire::Wire;

/// A whole laboratory: what stands between each peer and the internet, and what the way to the
/// internet is like.
///
/// Parsed from two specs joined by a comma:
///
/// ```
/// let topology: nilas_lab::Topology = "cgn:plain:eim-apdf,samecgn".parse().unwrap();
/// assert_eq!(topology.to_string(), "cgn:plain:eim-apdf,samecgn");
/// assert!("plain,samecgn".parse::<nilas_lab::Topology>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs, reason = "callers write it out")]
pub struct Topology {
    /// The first peer's side.
    pub a: Spec,
    /// The second peer's side.
    pub b: Spec,
    /// A wire of this kind on every uplink; without one, packets cross in microseconds.
    pub wire: Option<Wire>,
}

impl Topology {
    /// Two sides without wires.
    #[must_use]
    pub const fn new(a: Spec, b: Spec) -> Self {
        Self { a, b, wire: None }
    }

    /// The spec of one side.
    #[must_use]
    pub const fn side(&self, side: Side) -> &Spec {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    /// Whether the two sides and the wire fit together; building asks it again.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), SpecError> {
        self.a.check()?;
        self.b.check()?;
        let refuse = |what, rule| Err(SpecError::Side { what, rule });
        match (self.a.kind, self.b.kind) {
            (Kind::Same, _) => {
                return refuse(
                    "same",
                    "stands on the second side only: it puts B on A's home network",
                );
            }
            (Kind::SameCgn, _) => {
                return refuse(
                    "samecgn",
                    "stands on the second side only: it puts B behind A's carrier",
                );
            }
            (_, Kind::Multi) => {
                return refuse(
                    "multi",
                    "stands on the first side only: there is one mobile network",
                );
            }
            (Kind::Open, Kind::Same) => {
                return refuse(
                    "same",
                    "needs a home network on the first side, and `open` has none",
                );
            }
            (Kind::Cgn { .. }, Kind::SameCgn) => {}
            (_, Kind::SameCgn) => {
                return refuse(
                    "samecgn",
                    "needs a carrier on the first side: cgn:INNER:OUTER",
                );
            }
            _ => {}
        }
        if self.a.flags.overlap {
            return refuse(
                "overlap",
                "stands on the second side only: it gives B the prefix that A's home network has",
            );
        }
        Ok(())
    }
}

impl FromStr for Topology {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let specs: Vec<&str> = text.split(',').collect();
        let &[a, b] = specs.as_slice() else {
            return Err(SpecError::NotTwo(specs.len()));
        };
        let topology = Self::new(a.trim().parse()?, b.trim().parse()?);
        topology.check()?;
        Ok(topology)
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.a, self.b)
    }
}

//! Two peers behind every kind of NAT, as data.
//!
//! | file | what lives there |
//! |---|---|
//! | `scenario` | [`Scenario`]: one session, built and run; [`Outcome`]: what came of it |
//! | `path` | [`Ends`] of a path by their kinds; what is [`Expected`] of a session |
//! | `table` | what is expected of each pair of kinds, and the reasoning |
//! | `cell` | [`Cell`]: a pair of kinds with servers, loss and roles; the judge |

mod cell;
mod path;
mod scenario;
mod table;

pub use crate::access::{Access, AccessError};
pub use cell::{Cell, Judged, LOSSES, Table, cells};
pub use path::{Ends, Expected};
pub use scenario::{Outcome, Scenario, Servers, Session};

//! Sessions in random worlds, and what must hold in every one of them.
//!
//! A seed is a world: two peers, full or lite, with one to three interfaces of IPv4, IPv6 or both, behind NATs, firewalls
//! and translators, maybe without UDP; links with delay, jitter, loss and duplication; early and late signaling, and names in
//! place of addresses; STUN and relays; one component, or several in one or two streams; and what happens later: restarts, also
//! of both and in a row, interfaces that are lost, come back, move or cost something else, machines that sleep or are unplugged,
//! NATs and servers that forget. [`check`] builds it, runs it, and looks at what must hold. A failure is made as small as it
//! goes, and tells its seed.
//!
//! | file | what lives there |
//! |---|---|
//! | `plan` | the world as data, and made smaller |
//! | `dice` | a plan drawn from a seed |
//! | `oracle` | which paths exist, by reasoning about the networks alone |
//! | `network` | a plan's network, built |
//! | `run` | the world, run |
//! | `rules` | what must hold |

mod dice;
mod network;
mod oracle;
mod plan;
mod rules;
mod run;

use core::fmt;

use self::plan::Plan;

/// What was seen in a world in which everything held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// Sessions that connected.
    pub connected: u64,
    /// Those of them that have several streams or components.
    pub of_several: u64,
    /// Sessions that had no path and said why.
    pub failed: u64,
    /// Paths that were lost or given up on purpose, after which the session was looked at again.
    pub disturbed: u64,
    /// Times that a session was found on a relay.
    pub relayed: u64,
    /// Times that it was found on a connection between the peers (RFC 6544).
    pub over_tcp: u64,
    /// Datagrams.
    pub packets: u64,
}

impl core::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.connected += other.connected;
        self.of_several += other.of_several;
        self.failed += other.failed;
        self.disturbed += other.disturbed;
        self.relayed += other.relayed;
        self.over_tcp += other.over_tcp;
        self.packets += other.packets;
    }
}

/// Something that must hold did not.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Broken {
    /// The world's seed.
    pub seed: u64,
    /// What did not hold.
    pub rule: String,
    /// The smallest world found in which the same does not hold.
    pub world: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, rule, world } = self;
        write!(
            f,
            "seed {seed}: {rule}\nagain: nilas sim --worlds 1 --seed {seed}\nthe smallest such world found: {world}"
        )
    }
}

/// Runs the world of a seed.
///
/// # Errors
/// What must hold and did not.
pub fn check(seed: u64) -> Result<Seen, Box<Broken>> {
    let plan = Plan::draw(seed);
    match run::run(&plan) {
        Ok(seen) => Ok(seen),
        Err(rule) => {
            let (plan, rule) = smallest(plan, rule);
            Err(Box::new(Broken {
                seed,
                rule: rule.to_string(),
                world: plan.to_string(),
            }))
        }
    }
}

/// Makes a world smaller as long as the same rule is broken in it.
fn smallest(mut plan: Plan, mut rule: rules::Rule) -> (Plan, rules::Rule) {
    // Each step makes something smaller, so this ends; the bound is for a plan that would not.
    for _ in 0..200 {
        let smaller = plan.smaller().into_iter().find_map(|smaller| {
            let broken = run::run(&smaller).err()?;
            (broken.name == rule.name).then_some((smaller, broken))
        });
        match smaller {
            Some(smaller) => (plan, rule) = smaller,
            None => break,
        }
    }
    (plan, rule)
}

//! The attributes of ICE (RFC 8445 section 16.1).

use crate::attribute::{AttributeError, AttributeType};
use crate::builder::{BuildError, MessageBuilder};
use crate::message::Message;

impl Message<'_> {
    /// PRIORITY: the priority of a peer-reflexive candidate that this check may reveal.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn priority(&self) -> Result<Option<u32>, AttributeError> {
        self.read_u32(AttributeType::PRIORITY)
    }

    /// USE-CANDIDATE: whether the check nominates its pair. The attribute is a flag; a value that
    /// should not be there is ignored.
    #[must_use]
    pub fn use_candidate(&self) -> bool {
        self.ordinary_value(AttributeType::USE_CANDIDATE).is_some()
    }

    /// NOMINATION of draft-thatcher-ice-renomination-01: of several nominations the highest stands.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn nomination(&self) -> Result<Option<u32>, AttributeError> {
        self.read_u32(AttributeType::NOMINATION)
    }

    /// ICE-CONTROLLING: the tiebreaker of a sender in the controlling role.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn ice_controlling(&self) -> Result<Option<u64>, AttributeError> {
        self.read_u64(AttributeType::ICE_CONTROLLING)
    }

    /// ICE-CONTROLLED: the tiebreaker of a sender in the controlled role.
    ///
    /// # Errors
    /// The attribute is malformed.
    pub fn ice_controlled(&self) -> Result<Option<u64>, AttributeError> {
        self.read_u64(AttributeType::ICE_CONTROLLED)
    }
}

impl MessageBuilder<'_> {
    /// Adds PRIORITY.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn priority(&mut self, priority: u32) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::PRIORITY, priority.to_be_bytes())
    }

    /// Adds USE-CANDIDATE.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn use_candidate(&mut self) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::USE_CANDIDATE, [])
    }

    /// Adds NOMINATION.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn nomination(&mut self, value: u32) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::NOMINATION, value.to_be_bytes())
    }

    /// Adds ICE-CONTROLLING with the sender's tiebreaker.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn ice_controlling(&mut self, tiebreaker: u64) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::ICE_CONTROLLING, tiebreaker.to_be_bytes())
    }

    /// Adds ICE-CONTROLLED with the sender's tiebreaker.
    ///
    /// # Errors
    /// No room, or behind the integrity.
    pub fn ice_controlled(&mut self, tiebreaker: u64) -> Result<&mut Self, BuildError> {
        self.write_fixed(AttributeType::ICE_CONTROLLED, tiebreaker.to_be_bytes())
    }
}

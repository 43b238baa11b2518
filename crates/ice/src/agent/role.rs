//! Role conflicts, found in the peer's checks (RFC 8445 section 7.3.1.1).

use nilas_stun::Authenticated;

use super::Agent;
use crate::event::Role;
use crate::shared::{Answer, Shared};

impl Agent {
    /// What a check says about the roles: `Success` where there is no conflict (any more).
    ///
    /// It takes an authenticated check, because an unauthenticated one could flip the role.
    pub(super) fn examine_role(
        &mut self,
        shared: &mut Shared,
        check: &Authenticated<'_>,
    ) -> Answer {
        let (Ok(controlling), Ok(controlled)) = (check.ice_controlling(), check.ice_controlled())
        else {
            return Answer::BadRequest;
        };
        if self.lite {
            return self.examine_role_of_full_peer(shared, controlling, controlled);
        }
        let switches = match (self.role, controlling, controlled) {
            (Role::Controlling, Some(theirs), None) => self.tie_breaker < theirs,
            (Role::Controlled, None, Some(theirs)) => self.tie_breaker >= theirs,
            // One of the two must be there, and not both (RFC 8445 section 7.1.3).
            (_, Some(_), Some(_)) | (_, None, None) => return Answer::BadRequest,
            _ => return Answer::Success,
        };
        if !switches {
            return Answer::RoleConflict;
        }
        self.switch_role(shared);
        Answer::Success
    }

    /// RFC 8445 section 6.1.1: whoever sends checks is full, and controls beside a lite agent, whatever the
    /// tie-breakers are.
    fn examine_role_of_full_peer(
        &mut self,
        shared: &mut Shared,
        controlling: Option<u64>,
        controlled: Option<u64>,
    ) -> Answer {
        match (controlling, controlled) {
            (Some(_), None) => {
                if self.role == Role::Controlling {
                    self.switch_role(shared);
                }
                Answer::Success
            }
            (None, Some(_)) => Answer::RoleConflict,
            _ => Answer::BadRequest,
        }
    }

    /// The tie-breaker of a check of this role. One that is sent again is the same again: with the tie-breaker of
    /// now, a check from before the role changed could win a conflict that is healed, and both sides would control.
    pub(super) fn tie_breaker_of(&self, role: Role) -> u64 {
        if role == self.role {
            self.tie_breaker
        } else {
            self.tie_breaker_before
        }
    }

    /// RFC 8445 section 7.2.5.1: after a 487 the tie-breaker changes, too.
    pub(super) fn new_tie_breaker(&mut self, shared: &mut Shared) {
        self.tie_breaker = shared.source.next_u64();
    }
}

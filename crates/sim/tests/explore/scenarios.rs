//! Where two agents begin, what may happen to them, and how many moves deep that is tried.

use std::fmt;

use nilas_ice::Role;

use crate::moves::Rations;

/// How two agents begin, and what may happen to them.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) subject: Subject,
    pub(crate) beginning: Beginning,
    /// How many moves deep: without optimisation, and with it.
    pub(crate) depths: [usize; 2],
    pub(crate) roles: [Role; 2],
    /// Of the engines: they decide whose tie-breaker is the greater.
    pub(crate) seeds: [u8; 2],
    /// What the networks of each side cost: it has as many.
    pub(crate) networks: [&'static [u16]; 2],
    /// Those of them that are not there in the beginning, the last ones.
    pub(crate) missing: [usize; 2],
    /// Whether both sides offer renomination. Without it one nomination stands, as RFC 8445 has it.
    pub(crate) renomination: bool,
    /// Whether both sides restart of their own accord. Where they need not, this would hide a dead state.
    pub(crate) restarts_alone: bool,
    /// Whether parameters say what they answer. Without that restarts are told from answers as beside a plain peer.
    pub(crate) answers: bool,
    /// No time passes, and datagrams arrive in the order in which they left: what is tried are all orders of restarts and letters
    /// among them, many moves deep.
    pub(crate) orderly: bool,
    pub(crate) rations: Rations,
}

impl Scenario {
    /// The scenario, and where a side may restart also the one with parameters that say what they answer.
    pub(crate) fn columns(&self) -> impl Iterator<Item = Self> {
        let restarts = self.rations.restarts != [0, 0] || self.restarts_alone;
        let with = Self {
            answers: true,
            ..*self
        };
        [*self].into_iter().chain(restarts.then_some(with))
    }

    /// With `answers` one move less, for nearly all is the same then; where all orders come to an end, all of them.
    pub(crate) fn default_depth(&self) -> usize {
        let depth = self.depths[usize::from(!cfg!(debug_assertions))];
        depth - usize::from(self.answers && !self.orderly)
    }

    /// The scenario of this name, as it is displayed.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let all = SCENARIOS.iter().flat_map(Self::columns);
        { all }.find(|scenario| scenario.to_string() == name)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = if self.answers { "+answers" } else { "" };
        write!(f, "{}{answers}", self.name)
    }
}

/// What a scenario is about: each has a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Nomination,
    TwoThatControl,
    TwoThatAreControlled,
    RestartOfOneSide,
    RestartsOfBothSides,
    CrossedRestarts,
    Renomination,
    RenominationAndRestart,
    MakeBeforeBreak,
}

/// Where the moves begin. What comes before has happened in its order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Neither knows anything of the other.
    Strangers,
    /// Both know all that signaling brings.
    Acquainted,
    /// The check that nominates is on its way.
    Nominating,
    /// A pair is nominated, all others were checked, and both are at rest.
    AtRest,
    /// The same, and then the first side's network has become dear: the check that nominates another pair is on its way.
    Renominating,
}

use Beginning::{Acquainted, AtRest, Nominating, Renominating, Strangers};

const RATIONS: Rations = Rations {
    losses: 2,
    copies: 1,
    restarts: [0, 0],
    taxes: [0, 0],
    unplugs: [0, 0],
    plugs: [0, 0],
};
const ONE_LOSS: Rations = Rations {
    losses: 1,
    copies: 0,
    ..RATIONS
};
const NO_LOSS: Rations = Rations {
    losses: 0,
    ..ONE_LOSS
};

/// The usual scenario: the first side controls and has one network, the second has two.
const fn plain(
    subject: Subject,
    name: &'static str,
    beginning: Beginning,
    depths: [usize; 2],
) -> Scenario {
    Scenario {
        name,
        subject,
        beginning,
        depths,
        roles: [Role::Controlling, Role::Controlled],
        seeds: [1, 2],
        networks: [&[0], &[0, 0]],
        missing: [0, 0],
        renomination: false,
        restarts_alone: false,
        answers: false,
        orderly: false,
        rations: RATIONS,
    }
}

/// Both sides have the same role.
const fn alike(
    subject: Subject,
    name: &'static str,
    beginning: Beginning,
    depths: [usize; 2],
    seeds: [u8; 2],
) -> Scenario {
    let role = match subject {
        Subject::TwoThatAreControlled => Role::Controlled,
        _ => Role::Controlling,
    };
    Scenario {
        roles: [role, role],
        seeds,
        ..plain(subject, name, beginning, depths)
    }
}

/// Both sides offer renomination, and the first, which controls, has two networks.
const fn renominating(
    subject: Subject,
    name: &'static str,
    beginning: Beginning,
    depths: [usize; 2],
    rations: Rations,
) -> Scenario {
    Scenario {
        networks: [&[0, 0], &[0]],
        renomination: true,
        rations,
        ..plain(subject, name, beginning, depths)
    }
}

const fn restarting(rations: Rations, restarts: [u8; 2]) -> Rations {
    Rations {
        restarts,
        ..rations
    }
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    plain(Subject::Nomination, "strangers", Strangers, [4, 7]),
    plain(Subject::Nomination, "nomination", Nominating, [3, 6]),
    alike(
        Subject::TwoThatControl,
        "both-controlling-strangers",
        Strangers,
        [4, 6],
        [1, 2],
    ),
    alike(
        Subject::TwoThatControl,
        "both-controlling",
        Acquainted,
        [3, 6],
        [1, 2],
    ),
    // The same with the tie-breakers the other way round.
    alike(
        Subject::TwoThatControl,
        "both-controlling-reversed",
        Acquainted,
        [3, 6],
        [2, 1],
    ),
    alike(
        Subject::TwoThatAreControlled,
        "both-controlled",
        Acquainted,
        [3, 6],
        [1, 2],
    ),
    alike(
        Subject::TwoThatAreControlled,
        "both-controlled-reversed",
        Acquainted,
        [3, 6],
        [2, 1],
    ),
    Scenario {
        rations: restarting(RATIONS, [1, 0]),
        ..plain(
            Subject::RestartOfOneSide,
            "the-controlling-side-restarts",
            AtRest,
            [5, 8],
        )
    },
    Scenario {
        rations: restarting(RATIONS, [0, 1]),
        ..plain(
            Subject::RestartOfOneSide,
            "the-controlled-side-restarts",
            AtRest,
            [5, 8],
        )
    },
    Scenario {
        rations: restarting(RATIONS, [1, 1]),
        ..plain(
            Subject::RestartsOfBothSides,
            "both-sides-restart",
            AtRest,
            [5, 8],
        )
    },
    Scenario {
        rations: restarting(NO_LOSS, [1, 2]),
        ..plain(
            Subject::RestartsOfBothSides,
            "one-side-restarts-twice",
            AtRest,
            [6, 9],
        )
    },
    Scenario {
        rations: restarting(ONE_LOSS, [2, 2]),
        ..plain(
            Subject::RestartsOfBothSides,
            "both-sides-restart-twice",
            AtRest,
            [4, 7],
        )
    },
    Scenario {
        rations: restarting(NO_LOSS, [2, 2]),
        ..plain(
            Subject::RestartsOfBothSides,
            "restarts-before-it-began",
            Strangers,
            [4, 7],
        )
    },
    // Restarts and answers that cross and overtake each other in every way: these come to an end before that depth.
    Scenario {
        orderly: true,
        rations: restarting(NO_LOSS, [2, 2]),
        ..plain(
            Subject::CrossedRestarts,
            "restarts-that-cross",
            AtRest,
            [20, 20],
        )
    },
    Scenario {
        orderly: true,
        rations: restarting(NO_LOSS, [3, 3]),
        ..plain(
            Subject::CrossedRestarts,
            "many-restarts-that-cross",
            AtRest,
            [10, 40],
        )
    },
    Scenario {
        renomination: true,
        ..plain(
            Subject::Renomination,
            "strangers-with-renomination",
            Strangers,
            [4, 6],
        )
    },
    Scenario {
        renomination: true,
        ..alike(
            Subject::Renomination,
            "both-controlling-with-renomination",
            Acquainted,
            [3, 5],
            [1, 2],
        )
    },
    renominating(
        Subject::Renomination,
        "a-network-becomes-dear",
        AtRest,
        [4, 7],
        Rations {
            taxes: [2, 0],
            ..RATIONS
        },
    ),
    // Nominations that overtake each other: there, and back again.
    renominating(
        Subject::Renomination,
        "renomination",
        Renominating,
        [3, 6],
        Rations {
            taxes: [1, 0],
            ..RATIONS
        },
    ),
    Scenario {
        networks: [&[50, 0], &[0]],
        missing: [1, 0],
        ..renominating(
            Subject::Renomination,
            "a-better-network-appears",
            AtRest,
            [4, 6],
            Rations {
                plugs: [1, 0],
                ..RATIONS
            },
        )
    },
    renominating(
        Subject::Renomination,
        "the-path-is-unplugged",
        AtRest,
        [4, 7],
        Rations {
            unplugs: [1, 0],
            ..RATIONS
        },
    ),
    // The side that does not nominate loses its end of the path, and cannot but wait for the other.
    Scenario {
        networks: [&[0], &[0, 0]],
        ..renominating(
            Subject::Renomination,
            "the-far-end-is-unplugged",
            AtRest,
            [5, 8],
            Rations {
                unplugs: [0, 1],
                ..RATIONS
            },
        )
    },
    renominating(
        Subject::RenominationAndRestart,
        "a-restart-beside-a-renomination",
        AtRest,
        [4, 6],
        Rations {
            restarts: [1, 1],
            taxes: [1, 0],
            ..ONE_LOSS
        },
    ),
    renominating(
        Subject::RenominationAndRestart,
        "a-restart-during-a-renomination",
        Renominating,
        [3, 6],
        Rations {
            restarts: [1, 1],
            ..ONE_LOSS
        },
    ),
    // Without renomination another pair takes a restart.
    Scenario {
        renomination: false,
        restarts_alone: true,
        ..renominating(
            Subject::MakeBeforeBreak,
            "a-plain-peer-and-a-dear-network",
            AtRest,
            [4, 7],
            Rations {
                taxes: [1, 0],
                ..RATIONS
            },
        )
    },
    Scenario {
        renomination: false,
        restarts_alone: true,
        ..renominating(
            Subject::MakeBeforeBreak,
            "a-plain-peer-and-a-path-unplugged",
            AtRest,
            [4, 8],
            Rations {
                unplugs: [1, 0],
                ..ONE_LOSS
            },
        )
    },
];

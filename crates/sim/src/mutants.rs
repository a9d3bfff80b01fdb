//! Planted bugs: a simulator that does not find them proves nothing.

use crate::explore::Summary;
use crate::faults::Fault;
use crate::scenario::Setup;
use pgherd_kernel::view::Mutant;

/// A planted bug.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Planted {
    /// In the kernel, or where it meets its workers.
    Kernel(Mutant),
    /// The monitor takes a standby's timeline from the control file alone.
    BlindToWal,
}

/// Every planted bug, by name.
pub const ALL: [(&str, Planted); 5] = [
    ("NoMargin", Planted::Kernel(Mutant::NoMargin)),
    ("PromoteWithoutLock", Planted::Kernel(Mutant::PromoteWithoutLock)),
    ("LateCommandNotDropped", Planted::Kernel(Mutant::LateCommandNotDropped)),
    ("KeepaliveWithoutTtl", Planted::Kernel(Mutant::KeepaliveWithoutTtl)),
    ("BlindToWal", Planted::BlindToWal),
];

impl Planted {
    /// The faults that bring it to light soonest; the very same runs without the bug must pass.
    pub fn faults(self) -> &'static [Fault] {
        match self {
            Self::Kernel(Mutant::NoMargin) => &[Fault::StalledIsolation, Fault::PeerCut],
            Self::Kernel(Mutant::LateCommandNotDropped) => &[
                Fault::SlowOperator,
                Fault::StalledIsolation,
                Fault::Isolation,
                Fault::PostmasterCrash,
                Fault::NodeDeath,
            ],
            Self::Kernel(Mutant::PromoteWithoutLock | Mutant::KeepaliveWithoutTtl) | Self::BlindToWal => {
                &crate::faults::ALL
            }
        }
    }

    /// The run of a seed with the bug.
    pub fn setup(self, seed: u64) -> Setup {
        let mutant = match self {
            Self::Kernel(mutant) => Some(mutant),
            Self::BlindToWal => None,
        };
        Setup { blind_to_wal: self == Self::BlindToWal, ..Setup::focused(seed, mutant, self.faults()) }
    }

    /// The same run without it.
    pub fn healthy(self, seed: u64) -> Setup {
        Setup::focused(seed, None, self.faults())
    }

    /// The first seed up to `seeds` that finds it.
    pub fn hunt(self, seeds: u64) -> Summary {
        crate::explore::explore(1..seeds + 1, 1, |seed| self.setup(seed))
    }
}

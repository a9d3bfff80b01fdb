//! Planted bugs: a simulator that does not find them proves nothing.

use crate::explore::Summary;
use crate::faults::Fault;
use crate::scenario::Setup;
use pgherd_kernel::view::Mutant;
use pgherd_types::SyncMode;

/// A planted bug.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Planted {
    /// In the kernel, or where it meets its workers.
    Kernel(Mutant),
    /// The monitor takes a standby's timeline from the control file alone.
    BlindToWal,
    /// Whoever may race does so as if there were no `sync` key.
    BlindToSyncKey,
    /// Slots follow what a former leader published, too.
    TrustsFormerLeader,
    /// The leader says of every copy of its slot that nothing is missing.
    CopiesCountAsSafe,
    /// Consumers read all that there is.
    ConsumersDoNotWait,
}

/// Every planted bug, by name.
pub const ALL: [(&str, Planted); 11] = [
    ("NoMargin", Planted::Kernel(Mutant::NoMargin)),
    ("PromoteWithoutLock", Planted::Kernel(Mutant::PromoteWithoutLock)),
    ("LateCommandNotDropped", Planted::Kernel(Mutant::LateCommandNotDropped)),
    ("KeepaliveWithoutTtl", Planted::Kernel(Mutant::KeepaliveWithoutTtl)),
    ("BlindToWal", Planted::BlindToWal),
    ("NamesBeforeKey", Planted::Kernel(Mutant::NamesBeforeKey)),
    ("BlindToSyncKey", Planted::BlindToSyncKey),
    ("TrustsFormerLeader", Planted::TrustsFormerLeader),
    ("CopiesCountAsSafe", Planted::CopiesCountAsSafe),
    ("ConsumersDoNotWait", Planted::ConsumersDoNotWait),
    ("SlotsOneByOne", Planted::Kernel(Mutant::SlotsOneByOne)),
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
            Self::Kernel(Mutant::PromoteWithoutLock | Mutant::KeepaliveWithoutTtl | Mutant::NamesBeforeKey)
            | Self::BlindToWal => &crate::faults::ALL,
            Self::TrustsFormerLeader | Self::CopiesCountAsSafe | Self::Kernel(Mutant::SlotsOneByOne) => {
                &[Fault::NodeDeath, Fault::Isolation, Fault::PeerCut, Fault::Switchover, Fault::SlowLink]
            }
            Self::ConsumersDoNotWait => &[Fault::NodeDeath, Fault::PostmasterCrash, Fault::AgentDeath, Fault::SlowLink],
            Self::BlindToSyncKey => {
                &[Fault::NodeDeath, Fault::Isolation, Fault::PeerCut, Fault::SlowLink, Fault::EtcdFreeze]
            }
        }
    }

    /// The run of a seed with the bug.
    pub fn setup(self, seed: u64) -> Setup {
        let mutant = match self {
            Self::Kernel(mutant) => Some(mutant),
            Self::BlindToWal
            | Self::BlindToSyncKey
            | Self::TrustsFormerLeader
            | Self::CopiesCountAsSafe
            | Self::ConsumersDoNotWait => None,
        };
        Setup { planted: Some(self), mutant, ..self.healthy(seed) }
    }

    /// The same run without it.
    pub fn healthy(self, seed: u64) -> Setup {
        let setup = Setup::focused(seed, None, self.faults());
        match self {
            Self::Kernel(Mutant::NamesBeforeKey) | Self::BlindToSyncKey => setup.synchronous(&[SyncMode::On]),
            Self::TrustsFormerLeader | Self::CopiesCountAsSafe => setup.with_slot(),
            Self::ConsumersDoNotWait => {
                let mut setup = setup.synchronous(&[SyncMode::On, SyncMode::Quorum]).with_consumers_that_wait();
                // an operator who meddles with the key answers for what follows
                setup.faults.retain(|planned| !crate::faults::SYNCHRONOUS.contains(&planned.fault));
                setup
            }
            Self::Kernel(Mutant::SlotsOneByOne) => setup.with_slot().with_another(),
            Self::Kernel(_) | Self::BlindToWal => setup,
        }
    }

    /// The first seed up to `seeds` that finds it.
    pub fn hunt(self, seeds: u64) -> Summary {
        crate::explore::explore(1..seeds + 1, 1, |seed| self.setup(seed))
    }
}

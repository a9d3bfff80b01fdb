//! How a run is set up: drawn from a seed, or written down as a story.

use crate::faults::{self, Fault, Planned, Whom};
use crate::mutants::Planted;
use crate::rng::Rng;
use pgherd_kernel::view::Mutant;
use pgherd_types::{RewindPolicy, Settings};
use std::time::Duration;

/// A run.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its seed.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// Cluster-wide settings.
    pub settings: Settings,
    /// A planted bug.
    pub mutant: Option<Mutant>,
    /// What goes wrong.
    pub faults: Vec<Planned>,
    /// From then on nothing does.
    pub heal_at: u64,
    /// The end.
    pub end_at: u64,
    /// The client writes so often, in milliseconds.
    pub write_every: u64,
    /// So much WAL a commit.
    pub write_bytes: u64,
    /// Small mishaps happen on their own: a reply is lost, an operation fails.
    pub mishaps: bool,
    /// Servers keep copies of slots on standbys by themselves, as from version 17 on.
    pub native: bool,
    /// A planted bug, also one outside the kernel.
    pub planted: Option<Planted>,
}

/// `ttl`, `loop_wait` and `retry_timeout` in seconds, and how long faults go on with them.
const TIMES: [(u64, u64, u64, u64); 4] = [(30, 10, 10, 190), (20, 1, 3, 110), (3, 1, 1, 50), (10, 2, 2, 80)];

/// Settings with these times.
pub fn settings(ttl: u64, loop_wait: u64, retry_timeout: u64) -> Settings {
    Settings {
        ttl: Duration::from_secs(ttl),
        loop_wait: Duration::from_secs(loop_wait),
        retry_timeout: Duration::from_secs(retry_timeout),
        ..Settings::default()
    }
}

/// Time after the heal in which every node must find its place: `serve_within`, and the longest wait before a retry.
pub fn calm(settings: &Settings) -> u64 {
    let s = settings;
    (s.ttl + 2 * s.loop_wait + s.retry_timeout).as_millis() as u64 + 50_000
}

impl Setup {
    /// The run of this seed, with any fault.
    pub fn draw(seed: u64) -> Self {
        Self::without_slots(seed).maybe_with_slot()
    }

    /// The same without a logical slot.
    pub fn without_slots(seed: u64) -> Self {
        Self::asynchronous(seed).maybe_synchronous()
    }

    /// A third of all runs have a logical slot, where it can be; the others are as they would be without this. (A standby
    /// cluster has none: its end would be the end of the slot.)
    fn maybe_with_slot(self) -> Self {
        let standby_cluster = self.faults.iter().any(|planned| planned.fault == Fault::StandbyCluster);
        if Rng::new(self.seed ^ 0x0005_1075).permille(400) && self.settings.use_slots && !standby_cluster {
            let two = Rng::new(self.seed ^ 0x0002_1075).permille(400);
            return if two { self.with_slot().with_another() } else { self.with_slot() };
        }
        self
    }

    /// The run with a second logical slot.
    pub fn with_another(mut self) -> Self {
        self.settings.slots.permanent.insert(crate::slots::SLOTS[1].to_owned(), crate::slots::setting());
        self
    }

    /// The run with a logical slot.
    pub fn with_slot(mut self) -> Self {
        self.settings.use_slots = true;
        self.settings.slots.permanent.insert(crate::slots::SLOT.to_owned(), crate::slots::setting());
        self
    }

    /// The same without synchronous replication.
    pub fn asynchronous(seed: u64) -> Self {
        Self::focused(seed, None, &faults::ALL)
    }

    /// The run of this seed, with faults of these kinds only.
    pub fn focused(seed: u64, mutant: Option<Mutant>, kinds: &[Fault]) -> Self {
        let mut rng = Rng::new(seed ^ 0x5EED);
        let (ttl, loop_wait, retry_timeout, rough_s) = TIMES[rng.below(4) as usize];
        let mut settings = settings(ttl, loop_wait, retry_timeout);
        settings.dcs_outage_demote_early = rng.permille(150);
        settings.use_slots = rng.permille(800);
        settings.failsafe_mode = rng.permille(300);
        settings.rewind = RewindPolicy {
            use_pg_rewind: rng.permille(500),
            replace_on_failure: rng.permille(300),
            replace_on_divergence: rng.permille(200),
        };
        if rng.permille(150) {
            settings.primary_start_timeout = Duration::ZERO;
        }
        let heal_at = rough_s * 1000;
        let count = rng.range(1, 9);
        let mut faults: Vec<Planned> = (0..count).map(|_| any_fault(&mut rng, kinds, heal_at)).collect();
        if rng.permille(500) {
            crowd(&mut rng, &mut faults, ttl * 1000, heal_at);
        }
        faults.sort_by_key(|f| f.at);
        let heavy = rng.permille(100);
        Self {
            seed,
            nodes: if rng.permille(800) { 3 } else { 2 },
            end_at: heal_at + calm(&settings),
            settings,
            mutant,
            faults,
            heal_at,
            write_every: rng.range(200, 900),
            write_bytes: if heavy { 400_000 } else { rng.range(80, 2000) },
            mishaps: true,
            native: false,
            planted: None,
        }
    }
}

fn any_fault(rng: &mut Rng, kinds: &[Fault], heal_at: u64) -> Planned {
    let earliest = if rng.permille(100) { 0 } else { 12_000 };
    let fault = kinds[rng.below(kinds.len() as u64) as usize];
    Planned { at: rng.range(earliest, heal_at - 1000), fault, whom: Whom::Drawn, lasts: None }
}

/// Faults that come one at a time prove little: let them come within moments of each other.
fn crowd(rng: &mut Rng, faults: &mut [Planned], ttl_ms: u64, heal_at: u64) {
    let begin = rng.range(12_000, (heal_at - 1000).saturating_sub(3 * ttl_ms).max(12_001));
    for planned in faults {
        planned.at = begin + rng.below(2 * ttl_ms);
    }
}

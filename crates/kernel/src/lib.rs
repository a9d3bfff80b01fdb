//! Every decision of pgherd, as one pure function.
//!
//! The rule of this crate: no clock, no I/O, no thread, no randomness, no order that depends on a hash. What the world
//! is like comes in as [`Observation`]s, which [`View::apply`] turns into a [`View`]; [`decide()`] looks at the view and
//! says what to do ([`Decision`]), why ([`Reason`]) and when to ask again; [`View::dispatched`] notes what was asked
//! for, so that the same facts do not lead to the same request twice. Production and the simulator run this very code.
//!
//! Reading order: `observation`, `view`, `lease_view`, `situation`, `decide`, then `rules/*` one situation a file,
//! `upkeep` (what is owed beside the decision), `sync` (synchronous replication, planned by itself), `shown` (what the node says of itself), `explain` (what would be decided otherwise), `invariants` (an independent judge of every decision).

pub mod asked;
pub mod candidates;
pub mod decide;
pub mod decision;
pub mod divergence;
pub mod eligibility;
pub mod explain;
pub mod failsafe;
pub mod history;
pub mod invariants;
pub mod lease_view;
pub mod observation;
pub mod reason;
pub mod rules;
pub mod shown;
pub mod situation;
pub mod slots;
pub mod sync;
#[cfg(test)]
#[allow(missing_docs, reason = "only tests read it")]
mod testing;
pub mod upkeep;
pub mod view;
pub mod wishes;

pub use decide::decide;
pub use decision::{Action, Decision, Upkeep};
pub use invariants::Breach;
pub use lease_view::{LeaseView, Lock};
pub use observation::Observation;
pub use reason::Reason;
pub use view::{Me, Seen, View};

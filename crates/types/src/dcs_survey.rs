//! What a node found out about the store itself.

/// A look at the members of the store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DcsSurvey {
    /// How many members it has; 0 when that is not known.
    pub members: u32,
    /// The store's leader runs on this node's host; `None` when that is not known or does not matter.
    pub leader_here: Option<bool>,
    /// To which member this node has just moved the store's leadership.
    pub moved_to: Option<String>,
    /// What is wrong with the store, and what to do.
    pub troubles: Vec<String>,
}

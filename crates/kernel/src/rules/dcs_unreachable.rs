//! The DCS does not answer and this node does not lead.

use crate::Reason;
use crate::decide::Verdict;

/// A running standby goes on as it is: it neither races nor changes whom it follows without knowing who leads.
pub fn blind() -> Verdict {
    Verdict::hold(Reason::DcsNotAccessible)
}

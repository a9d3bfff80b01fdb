//! What a node says when it is asked why.

use actix::Message;
use pgherd_types::MemberName;
use pgherd_types::node_status::ReasonText;
use serde::Serialize;
use serde_json::Value;

/// Explain the present decision, or the one that would be made otherwise. For the coordinator.
#[derive(Message, Clone, Copy, PartialEq, Eq, Debug)]
#[rtype(result = "Explanation")]
pub struct RequestExplanation {
    /// As if the leader had just died.
    pub leader_lost: bool,
}

/// The answer.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Explanation {
    /// Who answers: it is what this node knows.
    pub name: MemberName,
    /// Its cluster.
    pub scope: String,
    /// What is assumed; absent: nothing.
    #[serde(rename = "if", skip_serializing_if = "Option::is_none")]
    pub condition: Option<&'static str>,
    /// What this node decides; null if it is the leader that is assumed to be dead.
    pub decision: Option<Explained>,
    /// On what that rests.
    pub facts: Vec<Fact>,
    /// Every member.
    pub members: Vec<ExplainedMember>,
    /// With a condition: who would lead, whoever of them is first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_leader: Option<Vec<MemberName>>,
}

/// A decision.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Explained {
    /// What is done about the node's role.
    pub action: String,
    /// Why.
    pub reason: ReasonText,
    /// It is decided again then at the latest, in milliseconds.
    pub again_in_ms: u64,
}

/// Something the node knows.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Fact {
    /// Of what.
    pub name: &'static str,
    /// What.
    pub value: Value,
    /// How old that is, in milliseconds; null where age has no meaning.
    pub age_ms: Option<u64>,
}

/// Could this member lead if nobody did now?
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ExplainedMember {
    /// Who.
    pub name: MemberName,
    /// It leads.
    pub leads: bool,
    /// The answer.
    pub could_lead: bool,
    /// The rule that says so.
    pub reason: ReasonText,
}

//! How work on the server can end other than well.

use pgherd_types::OperationEnd;

/// Why an operation stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// It did not work; the text says what was tried and what to do.
    #[error("{0}")]
    Failed(String),
    /// It was asked to give up.
    #[error("cancelled")]
    Cancelled,
    /// The lease that allowed it may have ended.
    #[error("its fence had passed")]
    TooLate,
}

impl OperationError {
    /// A failure with this text.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }
    /// A failure with words before it; the other ends as they are.
    pub(crate) fn named(self, what: &str) -> Self {
        match self {
            Self::Failed(why) => Self::Failed(format!("{what}: {why}")),
            other => other,
        }
    }
    /// As the coordinator is told.
    pub fn end(self) -> OperationEnd {
        match self {
            Self::Failed(why) => OperationEnd::Failed(why),
            Self::Cancelled => OperationEnd::Cancelled,
            Self::TooLate => OperationEnd::TooLate,
        }
    }
}

/// Result of an operation or a part of it.
pub type Outcome<T> = Result<T, OperationError>;

/// Turns any error into a failure that says what was tried.
pub(crate) trait Tried<T> {
    /// `what` completes "could not …".
    fn tried(self, what: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: std::fmt::Display> Tried<T> for Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|e| OperationError::Failed(format!("could not {}: {e}", what())))
    }
}

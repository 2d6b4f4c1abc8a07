//! The error type of domain and store. Its variants correspond to what the caller can *do* about it.
//!
//! Invariants
//! - this module does not depend on gRPC: `status` converts an [`Error`] to a status, once, at the edge;
//! - [`Error::Internal`] holds the cause for the log; its text is never sent to a client;
//! - messages are lowercase, without a full stop, with names in backticks.

mod chain;
mod reason;
mod refusal;
mod resource_kind;

use std::fmt;
use std::time::Duration;

pub(crate) use self::chain::error_chain;
pub use self::reason::Reason;
pub use self::refusal::{BrokenCode, GatewayRefusal};
pub use self::resource_kind::ResourceKind;
use shoreguard_proto::strict::MessageFault;

/// An error, as it can be reported to a caller.
#[derive(Debug)]
pub enum Error {
    /// The request is invalid; repeating it does not help.
    Invalid {
        /// Dotted path of the field in the request.
        field: String,
        /// What is wrong with it, including the limit.
        why: String,
    },
    /// The object does not exist, or the caller cannot see it.
    NotFound {
        /// Kind of the object.
        kind: ResourceKind,
        /// The id or name that the caller sent.
        id: String,
    },
    /// An object with that name already exists.
    AlreadyExists {
        /// Kind of the object.
        kind: ResourceKind,
        /// The name in use.
        name: String,
    },
    /// The object has changed since it was read: read it again and retry.
    Conflict {
        /// Kind of the object.
        kind: ResourceKind,
        /// The id or name that the caller sent.
        id: String,
        /// The present etag, if the caller sent another one.
        etag: Option<String>,
    },
    /// The current state does not allow it.
    Refused {
        /// For programs.
        reason: Reason,
        /// For people.
        why: String,
    },
    /// The current state does not allow it, for a reason with facts.
    Explained {
        /// For programs.
        reason: Reason,
        /// For people.
        why: String,
        /// Facts for programs: the metadata of google.rpc.ErrorInfo. Without secrets.
        facts: Vec<(&'static str, String)>,
    },
    /// The caller is authenticated but has no permission.
    Denied {
        /// The missing permission, such as the required role.
        why: String,
    },
    /// The caller is not authenticated.
    Unauthenticated {
        /// For programs.
        reason: Reason,
    },
    /// A rate or capacity limit is reached.
    Exhausted {
        /// For programs.
        reason: Reason,
        /// When to retry.
        retry_in: Duration,
    },
    /// The requested position is no longer stored.
    OutOfRange {
        /// For people, with the oldest position that is stored.
        why: String,
    },
    /// A dependency is unavailable, or a gateway sent no valid response. Nothing has changed in Shoreguard, and the
    /// call may be repeated; the audit log says whether a gateway has carried out the request.
    Unavailable {
        /// For programs.
        reason: Reason,
        /// For people.
        why: String,
    },
    /// The deadline of the call, or Shoreguard's own time limit for it, has passed.
    DeadlineExceeded {
        /// For people.
        why: String,
    },
    /// The gateway refused the request.
    Gateway {
        /// Name of the gateway.
        gateway: String,
        /// Kind of the refusal.
        refusal: GatewayRefusal,
        /// The gateway's message, which is not trusted (T20): truncated and without control characters.
        why: String,
    },
    /// The method does not exist.
    Unimplemented {
        /// Path of the call.
        path: String,
    },
    /// A bug or fault in Shoreguard. The error chain is logged; the caller gets the request id.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

/// Maximum length of a name or id in an error, in characters; no valid one is longer.
const ID_CHARS_MAX: usize = 253;
/// Maximum length of an explanation in an error, in bytes: it is sent twice, and in a header a byte that is not ASCII
/// takes three.
const WHY_BYTES_MAX: usize = 1_000;

/// A transaction whose commit was sent but got no response.
#[derive(Debug)]
struct InDoubt(String);

impl fmt::Display for InDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit in doubt: {}", self.0)
    }
}

impl std::error::Error for InDoubt {}

impl Error {
    /// The database did not respond to a commit: it is unknown whether the change was stored.
    #[must_use]
    pub fn in_doubt(why: String) -> Self {
        Self::Internal(Box::new(InDoubt(why)))
    }

    /// Whether it is unknown if the change was stored.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Internal(source) if source.is::<InDoubt>())
    }

    /// Whether the request was refused, as opposed to attempted without success.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Invalid { .. }
            | Self::NotFound { .. }
            | Self::AlreadyExists { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. }
            | Self::Explained { .. }
            | Self::Denied { .. }
            | Self::Unauthenticated { .. }
            | Self::Exhausted { .. }
            | Self::OutOfRange { .. }
            | Self::Unimplemented { .. } => true,
            Self::Gateway { .. }
            | Self::Unavailable { .. }
            | Self::DeadlineExceeded { .. }
            | Self::Internal(_) => false,
        }
    }

    /// Returns the error for an invalid field of the request.
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid { field: truncate(field.into(), ID_CHARS_MAX), why: truncate_why(why.into()) }
    }

    /// Returns the error for an object that does not exist or that the caller cannot see.
    pub fn not_found(kind: ResourceKind, id: impl fmt::Display) -> Self {
        Self::NotFound { kind, id: truncate(id.to_string(), ID_CHARS_MAX) }
    }

    /// Returns the error for a name that is in use.
    pub fn already_exists(kind: ResourceKind, name: impl fmt::Display) -> Self {
        Self::AlreadyExists { kind, name: truncate(name.to_string(), ID_CHARS_MAX) }
    }

    /// Returns the error for an object that has changed since it was read.
    pub fn conflict(kind: ResourceKind, id: impl fmt::Display) -> Self {
        Self::Conflict { kind, id: truncate(id.to_string(), ID_CHARS_MAX), etag: None }
    }

    /// Returns the error for an object whose etag is another one than the caller sent.
    pub fn stale_etag(kind: ResourceKind, id: impl fmt::Display, present: String) -> Self {
        Self::Conflict {
            kind,
            id: truncate(id.to_string(), ID_CHARS_MAX),
            etag: Some(truncate(present, ID_CHARS_MAX)),
        }
    }

    /// Returns the error for a request that the current state does not allow.
    pub fn refused(reason: Reason, why: impl Into<String>) -> Self {
        Self::Refused { reason, why: truncate_why(why.into()) }
    }

    /// Returns the error for a request that the current state does not allow, with facts for programs.
    pub fn explained(
        reason: Reason,
        why: impl Into<String>,
        facts: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Self {
        let facts = facts.into_iter().map(|(key, fact)| (key, truncate(fact, ID_CHARS_MAX)));
        Self::Explained { reason, why: truncate_why(why.into()), facts: facts.collect() }
    }

    /// Returns the error for an unavailable dependency.
    pub fn unavailable(reason: Reason, why: impl Into<String>) -> Self {
        Self::Unavailable { reason, why: why.into() }
    }

    /// Returns the error for a bug or fault in Shoreguard.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }
}

/// Truncates text in an error: it is sent in headers, whose size clients limit.
fn truncate(mut text: String, chars_max: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Truncates an explanation.
fn truncate_why(mut why: String) -> String {
    if why.len() > WHY_BYTES_MAX {
        let end = why.floor_char_boundary(WHY_BYTES_MAX);
        why.truncate(end);
        why.push_str("...");
    }
    why
}

impl From<MessageFault> for Error {
    fn from(fault: MessageFault) -> Self {
        match fault {
            MessageFault::Ambiguous(why) => Self::refused(Reason::MessageAmbiguous, why),
            MessageFault::Malformed(why) => Self::refused(Reason::MalformedMessage, why),
            MessageFault::Nul(field) => Self::invalid(field, "must not contain NUL (U+0000)"),
            MessageFault::NoSuchMessage => Self::internal("no such message"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { field, why } => write!(f, "`{field}` {why}"),
            Self::NotFound { kind, id } => write!(f, "{} `{id}` does not exist", kind.display_name()),
            Self::AlreadyExists { kind, name } => write!(f, "{} `{name}` exists already", kind.display_name()),
            Self::Conflict { kind: ResourceKind::Row, .. } => f.write_str(
                "an object that the request refers to was changed or deleted at the same time: read it again and retry",
            ),
            Self::Conflict { kind, id, etag } => {
                let kind = kind.display_name();
                write!(f, "{kind} `{id}` has changed since it was read: read it again and retry")?;
                etag.as_ref().map_or(Ok(()), |etag| write!(f, "; its etag is now `{etag}`"))
            }
            Self::Refused { why, .. }
            | Self::Explained { why, .. }
            | Self::Denied { why }
            | Self::OutOfRange { why }
            | Self::Unavailable { why, .. }
            | Self::DeadlineExceeded { why } => f.write_str(why),
            Self::Unauthenticated { reason } => f.write_str(reason.credential_message()),
            Self::Exhausted { reason, retry_in } => {
                let bound = reason.limit_message();
                write!(f, "{bound}; try again in {} s", retry_in.as_secs().max(1))
            }
            Self::Gateway { gateway, refusal: GatewayRefusal::Broken(_), why } => {
                write!(f, "gateway `{gateway}`: {why}")
            }
            Self::Gateway { gateway, why, .. } => write!(f, "gateway `{gateway}` says: {why}"),
            Self::Unimplemented { path } => write!(f, "no method `{path}`"),
            Self::Internal(_) => f.write_str(
                "internal error: the server's log has the cause under the id of the request or operation",
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        if let Self::Internal(source) = self {
            return Some(&**source);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_input_in_an_error_message_is_truncated() {
        let long = "\u{e9}".repeat(ID_CHARS_MAX + 1);
        for (error, chars_max) in [
            (Error::not_found(ResourceKind::Gateway, &long), 300),
            (Error::already_exists(ResourceKind::Group, &long), 300),
            (Error::conflict(ResourceKind::Group, &long), 320),
            (Error::invalid("name", long.repeat(10)), 1_100),
            (Error::refused(Reason::Busy, long.repeat(10)), 1_100),
        ] {
            assert!(error.to_string().chars().count() < chars_max, "{error}");
        }
        assert!(Error::not_found(ResourceKind::Gateway, "edge").to_string().contains("`edge`"));
        let most = "\u{1f600}".repeat(WHY_BYTES_MAX / 4);
        assert_eq!(Error::refused(Reason::Busy, most.as_str()).to_string(), most);
        let cut = Error::refused(Reason::Busy, format!("a{most}")).to_string();
        assert!(cut.ends_with("\u{1f600}...") && cut.len() < most.len() + 3, "{cut}");
    }
}

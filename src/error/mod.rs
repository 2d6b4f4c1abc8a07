//! The one error of domain and store. Its variants are what the caller can *do* about it.
//!
//! Invariants
//! - nothing here knows gRPC: `status` turns an [`Error`] into a status, once, at the edge;
//! - [`Error::Internal`] holds what went wrong for the log; its text never reaches a client;
//! - messages are lowercase, without full stop, and name the thing in backticks.

mod reason;

use std::fmt;
use std::time::Duration;

pub use self::reason::Reason;
use shoreguard_proto::strict::Fault;

/// What a caller can be told of something that went wrong.
#[derive(Debug)]
pub enum Error {
    /// The request itself is wrong; sending it again is no use.
    Invalid {
        /// The field's path in the request, dotted.
        field: String,
        /// What is wrong with it, with the limit.
        why: String,
    },
    /// The thing does not exist, or the caller may not know that it does.
    Missing {
        /// What kind of thing.
        kind: Kind,
        /// How the caller named it.
        id: String,
    },
    /// A thing of that name exists already.
    Exists {
        /// What kind of thing.
        kind: Kind,
        /// The name that is taken.
        name: String,
    },
    /// The thing has changed since it was read: read it again and repeat.
    Conflict {
        /// What kind of thing.
        kind: Kind,
        /// How the caller named it.
        id: String,
    },
    /// The state does not allow it.
    Refused {
        /// For programs.
        reason: Reason,
        /// For people.
        why: String,
    },
    /// The caller is known and may not.
    Denied {
        /// What is missing, such as the role needed.
        why: String,
    },
    /// The caller is not known.
    Unauthenticated {
        /// For programs.
        reason: Reason,
    },
    /// Too much at once.
    Exhausted {
        /// For programs.
        reason: Reason,
        /// When to try again.
        retry_in: Duration,
    },
    /// The position asked for is no longer kept.
    OutOfRange {
        /// For people, with the oldest position that is kept.
        why: String,
    },
    /// Something that is needed is away, or a gateway gives no answer that is one. Nothing has happened here, and the call
    /// may be repeated; whether a gateway has done what it was asked for is in the audit log.
    Unavailable {
        /// For programs.
        reason: Reason,
        /// For people.
        why: String,
    },
    /// The call's own deadline, or ours for it, has passed.
    Late {
        /// For people.
        why: String,
    },
    /// The gateway has answered that it won't.
    Gateway {
        /// Its name.
        gateway: String,
        /// What kind of refusal.
        said: Said,
        /// Its own words, cut and without control characters: nothing that a gateway says is trusted (T20).
        why: String,
    },
    /// No such method.
    Unimplemented {
        /// The path that was called.
        path: String,
    },
    /// A fault of ours. The chain goes to the log, the request id to the caller.
    Internal(Box<dyn std::error::Error + Send + Sync>),
}

/// Longest name or id that an error repeats, in characters: no valid one is longer.
const ID_CHARS_MAX: usize = 253;
/// Longest explanation of an error, in characters.
const WHY_CHARS_MAX: usize = 1_000;

/// How a gateway refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// The request is wrong.
    Invalid,
    /// There is no such thing.
    Missing,
    /// There is one already.
    Exists,
    /// Its state, or the role of the credential that it was shown, does not allow it.
    Refused,
    /// Something has changed meanwhile.
    Changed,
    /// It does not say whether a request with this id was carried out.
    Uncertain,
    /// Too much.
    Exhausted,
    /// It has no such method.
    Unimplemented,
    /// It is not able to at the moment.
    Unavailable,
    /// Its time was over before it was done; whether it was done all the same is open.
    Late,
    /// It has failed.
    Failed,
}

/// The kinds of things that can be missing, taken or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A gateway.
    Gateway,
    /// A user.
    User,
    /// A service principal.
    ServicePrincipal,
    /// A group.
    Group,
    /// A user's membership in a group.
    GroupMember,
    /// A role of a subject on a gateway.
    GatewayRole,
    /// A sandbox of a gateway.
    Sandbox,
    /// The SBOM of a sandbox.
    Sbom,
    /// An entry of the audit log.
    AuditEntry,
    /// An event.
    Event,
    /// A session of a user.
    Session,
    /// An issuer that people log in at.
    OidcProvider,
    /// Whom an issuer says that somebody is.
    Identity,
    /// A code that a user types to approve a device.
    DeviceCode,
    /// A boot hook of a sandbox.
    BootHook,
    /// An idempotency key in use.
    Request,
    /// A lease of a background job.
    Lease,
    /// A long-running operation.
    Operation,
    /// A row that no caller names.
    Row,
}

impl Kind {
    /// The kind in words, as messages show it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::User => "user",
            Self::ServicePrincipal => "service principal",
            Self::Group => "group",
            Self::GroupMember => "group member",
            Self::GatewayRole => "gateway role",
            Self::Sandbox => "sandbox",
            Self::Sbom => "SBOM",
            Self::AuditEntry => "audit entry",
            Self::Event => "event",
            Self::Session => "session",
            Self::OidcProvider => "OIDC provider",
            Self::Identity => "linked identity",
            Self::DeviceCode => "device code",
            Self::BootHook => "boot hook",
            Self::Request => "request",
            Self::Lease => "lease",
            Self::Operation => "operation",
            Self::Row => "row",
        }
    }
}

/// A transaction whose commit was sent and not answered.
#[derive(Debug)]
struct InDoubt(String);

impl fmt::Display for InDoubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "commit in doubt: {}", self.0)
    }
}

impl std::error::Error for InDoubt {}

impl Error {
    /// The database has not answered a commit: nobody knows whether the change was stored.
    #[must_use]
    pub fn in_doubt(why: String) -> Self {
        Self::Internal(Box::new(InDoubt(why)))
    }

    /// Whether it is not known if the change was stored.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Internal(source) if source.is::<InDoubt>())
    }

    /// Whether the request was refused, and not attempted without success.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Invalid { .. }
            | Self::Missing { .. }
            | Self::Exists { .. }
            | Self::Conflict { .. }
            | Self::Refused { .. }
            | Self::Denied { .. }
            | Self::Unauthenticated { .. }
            | Self::Exhausted { .. }
            | Self::OutOfRange { .. }
            | Self::Unimplemented { .. } => true,
            Self::Gateway { .. }
            | Self::Unavailable { .. }
            | Self::Late { .. }
            | Self::Internal(_) => false,
        }
    }

    /// A field of the request is wrong.
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Invalid {
            field: cut(field.into(), ID_CHARS_MAX),
            why: cut(why.into(), WHY_CHARS_MAX),
        }
    }

    /// No such thing, or none that the caller may see.
    pub fn missing(kind: Kind, id: impl fmt::Display) -> Self {
        Self::Missing { kind, id: cut(id.to_string(), ID_CHARS_MAX) }
    }

    /// The name is taken.
    pub fn exists(kind: Kind, name: impl fmt::Display) -> Self {
        Self::Exists { kind, name: cut(name.to_string(), ID_CHARS_MAX) }
    }

    /// The thing has changed since it was read.
    pub fn conflict(kind: Kind, id: impl fmt::Display) -> Self {
        Self::Conflict { kind, id: cut(id.to_string(), ID_CHARS_MAX) }
    }

    /// The state does not allow it.
    pub fn refused(reason: Reason, why: impl Into<String>) -> Self {
        Self::Refused { reason, why: cut(why.into(), WHY_CHARS_MAX) }
    }

    /// Something that is needed is away.
    pub fn unavailable(reason: Reason, why: impl Into<String>) -> Self {
        Self::Unavailable { reason, why: why.into() }
    }

    /// A fault of ours.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(source.into())
    }
}

/// Cuts text of a caller that an error repeats: it travels in headers, which clients bound.
fn cut(mut text: String, chars_max: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(chars_max) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Ambiguous(why) => Self::refused(Reason::MessageAmbiguous, why),
            Fault::Malformed(why) => Self::refused(Reason::MalformedMessage, why),
            Fault::Nul(field) => Self::invalid(field, "must not contain NUL (U+0000)"),
            Fault::NoSuchMessage => Self::internal("no such message"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid { field, why } => write!(f, "`{field}` {why}"),
            Self::Missing { kind, id } => write!(f, "{} `{id}` does not exist", kind.words()),
            Self::Exists { kind, name } => write!(f, "{} `{name}` exists already", kind.words()),
            Self::Conflict { kind, id } => {
                write!(f, "{} `{id}` has changed since it was read", kind.words())
            }
            Self::Refused { why, .. }
            | Self::Denied { why }
            | Self::OutOfRange { why }
            | Self::Unavailable { why, .. }
            | Self::Late { why } => f.write_str(why),
            Self::Unauthenticated { reason } => f.write_str(reason.of_a_credential()),
            Self::Exhausted { reason, retry_in } => {
                let bound = reason.of_a_bound();
                write!(f, "{bound}, try again in {} s", retry_in.as_secs().max(1))
            }
            Self::Gateway { gateway, why, .. } => write!(f, "gateway `{gateway}` says: {why}"),
            Self::Unimplemented { path } => write!(f, "no method `{path}`"),
            Self::Internal(_) => f.write_str("a fault of the server"),
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
    fn what_an_error_repeats_of_a_caller_is_cut() {
        let long = "\u{e9}".repeat(ID_CHARS_MAX + 1);
        for (error, chars_max) in [
            (Error::missing(Kind::Gateway, &long), 300),
            (Error::exists(Kind::Group, &long), 300),
            (Error::conflict(Kind::Group, &long), 300),
            (Error::invalid("name", long.repeat(10)), 1_100),
            (Error::refused(Reason::Busy, long.repeat(10)), 1_100),
        ] {
            assert!(error.to_string().chars().count() < chars_max, "{error}");
        }
        assert!(Error::missing(Kind::Gateway, "edge").to_string().contains("`edge`"));
    }
}

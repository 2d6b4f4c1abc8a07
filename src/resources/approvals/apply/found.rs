//! Decides what became of a write: by the gateway's answer, and by what the gateway has. Pure.
//!
//! Invariant: unless it is certain that a write had no effect, its outcome is unknown, and the gateway's state decides.

use crate::error::{BrokenCode, Error, GatewayRefusal, Reason};
use crate::openshell::policy_writes::WrittenRevision;

/// What an answer says about a write.
#[derive(Debug)]
pub enum Answer {
    /// It is done.
    Done(WrittenRevision),
    /// It is certainly not done: the sandbox has changed since it was read.
    Changed,
    /// It is certainly not done, and a later attempt may succeed.
    NotDone(Error),
    /// It is certainly not done, and a repeat would be refused too.
    Refused(Error),
    /// It may be done.
    Unknown(Error),
}

impl Answer {
    /// Classifies an answer. `may_have_processed` says whether the gateway may have received the request.
    #[must_use]
    pub fn of(answer: Result<WrittenRevision, Error>, may_have_processed: bool) -> Self {
        let error = match answer {
            Ok(written) => return Self::Done(written),
            Err(error) => error,
        };
        if !may_have_processed {
            return Self::NotDone(error);
        }
        match &error {
            Error::Gateway { refusal, .. } => match refusal {
                GatewayRefusal::Changed => Self::Changed,
                GatewayRefusal::Exhausted => Self::NotDone(error),
                GatewayRefusal::Invalid
                | GatewayRefusal::NotFound
                | GatewayRefusal::AlreadyExists
                | GatewayRefusal::Refused
                | GatewayRefusal::Unimplemented
                | GatewayRefusal::Broken(BrokenCode::Unimplemented) => Self::Refused(error),
                GatewayRefusal::Uncertain
                | GatewayRefusal::Unavailable
                | GatewayRefusal::DeadlineExceeded
                | GatewayRefusal::Failed
                | GatewayRefusal::Broken(
                    BrokenCode::Cancelled
                    | BrokenCode::ResourceExhausted
                    | BrokenCode::PermissionDenied
                    | BrokenCode::Internal,
                ) => Self::Unknown(error),
            },
            // The sandbox does not exist.
            Error::NotFound { .. } => Self::Refused(error),
            Error::Refused { reason: Reason::GatewayCredentialRefused, .. } => Self::NotDone(error),
            Error::Invalid { .. }
            | Error::AlreadyExists { .. }
            | Error::Conflict { .. }
            | Error::Refused { .. }
            | Error::Explained { .. }
            | Error::Denied { .. }
            | Error::Unauthenticated { .. }
            | Error::Exhausted { .. }
            | Error::OutOfRange { .. }
            | Error::Unavailable { .. }
            | Error::DeadlineExceeded { .. }
            | Error::Unimplemented { .. }
            | Error::Internal(_) => Self::Unknown(error),
        }
    }
}

/// What a write was meant to do.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The round, as the annotation of its revision names it.
    pub round: &'a str,
    /// Digest of the candidate.
    pub candidate: &'a str,
    /// Newest version before the write; 0 if there was none.
    pub base_version: u32,
    /// Digest of that version; `None` if there was none.
    pub base: Option<&'a str>,
}

/// A revision of the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRevision {
    /// Its version.
    pub version: u32,
    /// The gateway's hash of its policy.
    pub policy_hash: String,
    /// The round in its annotations.
    pub round: Option<String>,
    /// Digest of its policy.
    pub digest: String,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This revision has the candidate.
    Done {
        /// Its version.
        version: u32,
        /// The gateway's hash of its policy.
        policy_hash: String,
    },
    /// This revision is that of the round, and its policy is not the candidate.
    Altered {
        /// Its version.
        version: u32,
    },
    /// The newest revision is equal to the base.
    NotDone,
    /// The newest revision is another one.
    Moved,
}

/// Decides what became of a write. `revisions` are the newest one and all after the base, newest first.
#[must_use]
pub fn decide(wanted: &Wanted<'_>, revisions: &[SeenRevision]) -> Found {
    let later = || revisions.iter().filter(|revision| revision.version > wanted.base_version);
    let done = later().find(|revision| revision.digest == wanted.candidate);
    if let Some(SeenRevision { version, policy_hash, .. }) = done {
        return Found::Done { version: *version, policy_hash: policy_hash.clone() };
    }
    let own = later().find(|revision| revision.round.as_deref() == Some(wanted.round));
    if let Some(SeenRevision { version, .. }) = own {
        return Found::Altered { version: *version };
    }
    if revisions.first().map(|newest| newest.digest.as_str()) == wanted.base {
        return Found::NotDone;
    }
    Found::Moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(version: u32, round: Option<&str>, digest: &str) -> SeenRevision {
        let (round, digest) = (round.map(str::to_owned), digest.to_owned());
        SeenRevision { version, policy_hash: format!("hash {version}"), round, digest }
    }

    fn done(version: u32) -> Found {
        Found::Done { version, policy_hash: format!("hash {version}") }
    }

    #[test]
    fn what_the_gateway_has_decides() {
        let wanted = Wanted { round: "7", candidate: "new", base_version: 3, base: Some("old") };
        let base = revision(3, None, "old");
        for (revisions, expected) in [
            (vec![base.clone()], Found::NotDone),
            (vec![revision(4, Some("7"), "new"), base.clone()], done(4)),
            // Another client wrote the same content.
            (vec![revision(4, None, "new"), base.clone()], done(4)),
            (vec![revision(5, None, "other"), revision(4, Some("7"), "new")], done(4)),
            // The gateway drops a part of what is written.
            (vec![revision(4, Some("7"), "less"), base.clone()], Found::Altered { version: 4 }),
            // Annotations of other rounds say nothing.
            (vec![revision(4, Some("8"), "other"), base.clone()], Found::Moved),
            // Another revision with the content of the base is the base.
            (vec![revision(4, None, "old"), base.clone()], Found::NotDone),
            // A revision before the base is not that of this write.
            (vec![base.clone(), revision(2, Some("7"), "new")], Found::NotDone),
            (vec![], Found::Moved),
        ] {
            assert_eq!(decide(&wanted, &revisions), expected, "{revisions:?}");
        }
        let first = Wanted { base_version: 0, base: None, ..wanted };
        assert_eq!(decide(&first, &[]), Found::NotDone);
        assert_eq!(decide(&first, &[revision(1, Some("7"), "new")]), done(1));
    }

    #[test]
    fn only_what_certainly_had_no_effect_is_not_unknown() {
        let gateway =
            |refusal| Error::Gateway { gateway: String::new(), refusal, why: String::new() };
        let word = |error, may_have_processed| match Answer::of(Err(error), may_have_processed) {
            Answer::Done(_) => "done",
            Answer::Changed => "changed",
            Answer::NotDone(_) => "not done",
            Answer::Refused(_) => "refused",
            Answer::Unknown(_) => "unknown",
        };
        for (refusal, expected) in [
            (GatewayRefusal::Changed, "changed"),
            (GatewayRefusal::Exhausted, "not done"),
            (GatewayRefusal::Invalid, "refused"),
            (GatewayRefusal::Refused, "refused"),
            (GatewayRefusal::Uncertain, "unknown"),
            (GatewayRefusal::Unavailable, "unknown"),
            (GatewayRefusal::DeadlineExceeded, "unknown"),
            (GatewayRefusal::Failed, "unknown"),
            (GatewayRefusal::Broken(BrokenCode::Internal), "unknown"),
        ] {
            assert_eq!(word(gateway(refusal), true), expected, "{refusal:?}");
            assert_eq!(word(gateway(refusal), false), "not done", "{refusal:?}");
        }
        let late = || Error::DeadlineExceeded { why: String::new() };
        assert_eq!((word(late(), true), word(late(), false)), ("unknown", "not done"));
        let lost = || Error::unavailable(Reason::GatewayUnreachable, "it broke off");
        assert_eq!((word(lost(), true), word(lost(), false)), ("unknown", "not done"));
        let written = WrittenRevision { version: 1, policy_hash: String::new() };
        assert!(matches!(Answer::of(Ok(written), true), Answer::Done(_)));
    }
}

//! Determines the outcome of a write from the gateway's answer and from the policy that the gateway has. Pure.
//!
//! Invariants
//! - unless it is certain that a write had no effect, its outcome is unknown, and the gateway's state decides;
//! - a revision that our write has created counts as the written policy if it differs from that only by missing marks:
//!   the gateway has dropped them, and the policy is in force. Any other difference makes it another policy.

use crate::error::{BrokenCode, Error, GatewayRefusal, Reason};
use crate::openshell::policy_writes::WrittenRevision;
use crate::policy::LostMarks;

/// Meaning of an answer about a write.
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

/// A write, and the revision on which it is based.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The round, as the annotation of its revision names it.
    pub round: &'a str,
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

/// A revision of the gateway, compared with the candidate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedRevision {
    /// The revision.
    pub seen: SeenRevision,
    /// Marks of the candidate that its policy lacks. `None` if it differs in anything else.
    pub lost_marks: Option<LostMarks>,
}

/// A revision that has what was approved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its version.
    pub version: u32,
    /// The gateway's hash of its policy.
    pub policy_hash: String,
    /// Approved marks that the gateway has dropped.
    pub lost_marks: LostMarks,
}

/// Outcome of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This revision has the candidate, apart from marks that the gateway has dropped.
    Done(Written),
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

/// Determines the outcome of a write. `revisions` are the newest one and all after the base, newest first.
#[must_use]
pub fn decide(wanted: &Wanted<'_>, revisions: &[ComparedRevision]) -> Found {
    let later = || revisions.iter().filter(|revision| revision.seen.version > wanted.base_version);
    let is_complete = |revision: &&ComparedRevision| {
        revision.lost_marks.as_ref().is_some_and(LostMarks::is_empty)
    };
    let same = later().find(is_complete);
    let own = || later().find(|revision| revision.seen.round.as_deref() == Some(wanted.round));
    if let Some(ComparedRevision { seen, lost_marks }) = same.or_else(own) {
        let version = seen.version;
        return match lost_marks.clone() {
            Some(lost_marks) => {
                Found::Done(Written { version, policy_hash: seen.policy_hash.clone(), lost_marks })
            }
            None => Found::Altered { version },
        };
    }
    if revisions.first().map(|newest| newest.seen.digest.as_str()) == wanted.base {
        return Found::NotDone;
    }
    Found::Moved
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The candidate is `new`. `new without marks` lacks a mark.
    fn revision(version: u32, round: Option<&str>, digest: &str) -> ComparedRevision {
        let (round, policy_hash) = (round.map(str::to_owned), format!("hash {version}"));
        let lost_marks = match digest {
            "new" => Some(LostMarks::default()),
            "new without marks" => Some(lost(&["a mark"])),
            _ => None,
        };
        let seen = SeenRevision { version, policy_hash, round, digest: digest.to_owned() };
        ComparedRevision { seen, lost_marks }
    }

    fn lost(paths: &[&str]) -> LostMarks {
        let named: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        LostMarks { total: named.len(), named }
    }

    fn written(version: u32, lost_marks: &[&str]) -> Found {
        let lost_marks = lost(lost_marks);
        Found::Done(Written { version, policy_hash: format!("hash {version}"), lost_marks })
    }

    fn done(version: u32) -> Found {
        written(version, &[])
    }

    #[test]
    fn what_the_gateway_has_decides() {
        let wanted = Wanted { round: "7", base_version: 3, base: Some("old") };
        let unmarked = |version, round| revision(version, round, "new without marks");
        let base = revision(3, None, "old");
        for (revisions, expected) in [
            (vec![base.clone()], Found::NotDone),
            (vec![revision(4, Some("7"), "new"), base.clone()], done(4)),
            // Another client wrote the same content.
            (vec![revision(4, None, "new"), base.clone()], done(4)),
            (vec![revision(5, None, "other"), revision(4, Some("7"), "new")], done(4)),
            // The gateway drops a part of what is written.
            (vec![revision(4, Some("7"), "less"), base.clone()], Found::Altered { version: 4 }),
            // It drops marks only.
            (vec![unmarked(4, Some("7")), base.clone()], written(4, &["a mark"])),
            (vec![revision(5, None, "other"), unmarked(4, Some("7"))], written(4, &["a mark"])),
            (vec![revision(5, None, "new"), unmarked(4, Some("7"))], done(5)),
            // Another client wrote a policy without the mark.
            (vec![unmarked(4, None), base.clone()], Found::Moved),
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

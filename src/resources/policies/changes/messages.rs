//! Conversion between the messages of policy changes and the domain types.

use super::super::messages::count;
use super::make::{ChangeOptions, Changed, Outcome};
use crate::error::Error;
use crate::governance::parse_reason;
use crate::governance::{Deciders, Doubt, Refusal, Verdict};
use crate::pb::v1 as pb;
use crate::policy::edits::EDITS_MAX;
use crate::policy::presets::NAME_CHARACTERS_MAX;
use crate::policy::{DOCUMENT_BYTES_MAX, EditTarget, ExactTarget, PathAccess};
use crate::resources::approvals::proposals::change::{EditContent, EditInput, PolicyChange};

/// Maximum length of an etag, in bytes: it is a hash that a gateway has computed.
const ETAG_BYTES_MAX: usize = 1_024;

/// Parses the fields that all requests for a change have.
pub(in crate::resources::policies) fn options(
    etag: String,
    validate_only: bool,
    comment: &str,
    has_duration: bool,
) -> Result<ChangeOptions, Error> {
    let bytes = etag.len();
    if bytes > ETAG_BYTES_MAX {
        let why = format!("must be at most {ETAG_BYTES_MAX} bytes, got {bytes}");
        return Err(Error::invalid("etag", why));
    }
    let comment = parse_reason("comment", comment)?;
    if has_duration {
        return Err(Error::invalid("grant_duration", "must be unset: it is not supported yet"));
    }
    Ok(ChangeOptions { etag, validate_only, comment })
}

/// Parses a change by a document.
pub(in crate::resources::policies) fn document(
    mode: i32,
    yaml: String,
) -> Result<PolicyChange, Error> {
    if yaml.is_empty() {
        return Err(Error::invalid("yaml", "is required"));
    }
    let bytes = yaml.len();
    if bytes > DOCUMENT_BYTES_MAX {
        let why = format!("must be at most {DOCUMENT_BYTES_MAX} bytes, got {bytes}");
        return Err(Error::invalid("yaml", why));
    }
    match pb::PolicyApplyMode::try_from(mode) {
        Ok(pb::PolicyApplyMode::Unspecified | pb::PolicyApplyMode::Replace) => {
            Ok(PolicyChange::Replace(yaml))
        }
        Ok(pb::PolicyApplyMode::Merge) => Ok(PolicyChange::Merge(yaml)),
        Err(_) => Err(Error::invalid("mode", "must be replace, merge or unspecified")),
    }
}

/// Parses the name of a preset.
pub(in crate::resources::policies) fn preset(name: String) -> Result<PolicyChange, Error> {
    let count = name.chars().count();
    if !(1..=NAME_CHARACTERS_MAX).contains(&count) {
        let why = format!("must be 1 to {NAME_CHARACTERS_MAX} characters, got {count}");
        return Err(Error::invalid("policy_preset", why));
    }
    Ok(PolicyChange::Presets(vec![name]))
}

/// Parses the version of a revision.
pub(in crate::resources::policies) fn version(version: u32) -> Result<PolicyChange, Error> {
    if version == 0 {
        return Err(Error::invalid("version", "is required"));
    }
    Ok(PolicyChange::Revert(version))
}

/// Parses edits.
pub(in crate::resources::policies) fn edits(
    given: Vec<pb::PolicyEdit>,
) -> Result<PolicyChange, Error> {
    if given.is_empty() || given.len() > EDITS_MAX {
        let why = format!("must be 1 to {EDITS_MAX} edits, got {}", given.len());
        return Err(Error::invalid("policy_edits", why));
    }
    let mut inputs = Vec::with_capacity(given.len());
    for (at, edit) in given.into_iter().enumerate() {
        let place = format!("policy_edits[{at}]");
        let Some(edit) = edit.edit else { return Err(Error::invalid(place, "is required")) };
        parse_edit(&place, edit, &mut inputs)?;
    }
    Ok(PolicyChange::Edits(inputs))
}

/// Parses an edit. Additional paths become an edit for each kind of access.
fn parse_edit(
    place: &str,
    edit: pb::policy_edit::Edit,
    inputs: &mut Vec<EditInput>,
) -> Result<(), Error> {
    use pb::policy_edit::Edit;
    let (name, content) = match edit {
        Edit::AddRule(pb::AddPolicyRule { rule_name, yaml }) => {
            ("add_rule", EditContent::AddRule { rule_name, yaml })
        }
        Edit::RemoveRule(pb::RemovePolicyRule { rule_name }) => {
            ("remove_rule", EditContent::RemoveRule(rule_name))
        }
        Edit::RemoveEndpoint(pb::RemovePolicyEndpoint { rule_name, host, port }) => {
            ("remove_endpoint", EditContent::RemoveEndpoint { rule_name, host, port })
        }
        Edit::AddDenyRules(add) => {
            let name = "add_deny_rules";
            let target = target(&format!("{place}.{name}.target"), add.target)?;
            (name, EditContent::AddDenyRules(target, add.yaml))
        }
        Edit::AddAllowRules(add) => {
            let name = "add_allow_rules";
            let target = target(&format!("{place}.{name}.target"), add.target)?;
            (name, EditContent::AddAllowRules(target, add.yaml))
        }
        Edit::RemoveBinary(pb::RemovePolicyBinary { rule_name, binary_path: path }) => {
            ("remove_binary", EditContent::RemoveBinary { rule_name, path })
        }
        Edit::AddPaths(add) => return parse_paths(place, add, inputs),
    };
    inputs.push(EditInput { field: format!("{place}.{name}"), content });
    Ok(())
}

fn parse_paths(
    place: &str,
    add: pb::AddPolicyPaths,
    inputs: &mut Vec<EditInput>,
) -> Result<(), Error> {
    let pb::AddPolicyPaths { read_only, read_write } = add;
    if read_only.is_empty() && read_write.is_empty() {
        return Err(Error::invalid(format!("{place}.add_paths"), "must have at least one path"));
    }
    for (access, name, paths) in [
        (PathAccess::ReadOnly, "read_only", read_only),
        (PathAccess::ReadWrite, "read_write", read_write),
    ] {
        if !paths.is_empty() {
            let field = format!("{place}.add_paths.{name}");
            inputs.push(EditInput { field, content: EditContent::AddPaths(access, paths) });
        }
    }
    Ok(())
}

/// Parses the endpoint that an edit extends: the first of a host and port, or exactly one of a rule.
fn target(field: &str, given: Option<pb::PolicyEditTarget>) -> Result<EditTarget, Error> {
    let given = given.ok_or_else(|| Error::invalid(field, "is required"))?;
    let pb::PolicyEditTarget { rule_name, host, ports, path, binaries, any_binary } = given;
    if host.trim().is_empty() {
        return Err(Error::invalid(format!("{field}.host"), "is required"));
    }
    if rule_name.is_empty() {
        let ([port], None, true, false) = (&ports[..], &path, binaries.is_empty(), any_binary)
        else {
            let why = "must have a `rule_name`, or one port and nothing else beside `host`";
            return Err(Error::invalid(field, why));
        };
        return Ok(EditTarget::First { host, port: *port });
    }
    let binaries = match (any_binary, binaries.is_empty()) {
        (true, true) => None,
        (false, false) => Some(binaries),
        (_, _) => {
            return Err(Error::invalid(field, "must have either `any_binary` or `binaries`"));
        }
    };
    Ok(EditTarget::Exact(ExactTarget { rule_name, host, ports, path, binaries }))
}

impl From<Verdict> for pb::PolicyVerdict {
    fn from(verdict: Verdict) -> Self {
        let (kind, refusal) = match verdict {
            Verdict::Pass | Verdict::PassWithInitialPolicy | Verdict::Round(Deciders::Default) => {
                (pb::PolicyVerdictKind::Apply, None)
            }
            Verdict::Round(Deciders::Workflows) => (pb::PolicyVerdictKind::Propose, None),
            Verdict::Refuse(refusal) => (pb::PolicyVerdictKind::Refuse, Some(refusal)),
        };
        let (reason, message) = refusal.map_or_else(Default::default, describe);
        Self { kind: kind.into(), reason: reason.into(), message }
    }
}

/// Returns the reason and the message of a refusal.
fn describe(refusal: Refusal) -> (pb::ErrorReason, String) {
    let reason = match &refusal {
        Refusal::Pinned(_) => pb::ErrorReason::PolicyPinned,
        Refusal::Governed(_) | Refusal::Doubt(Doubt::UnreadableRule(_)) => {
            pb::ErrorReason::Governed
        }
        Refusal::ApprovalModeAuto(_) => pb::ErrorReason::ApprovalModeAuto,
        Refusal::RoleTooLow(_) => pb::ErrorReason::RoleTooLow,
    };
    (reason, Error::from(refusal).to_string())
}

impl From<Changed> for pb::PolicyChange {
    fn from(changed: Changed) -> Self {
        use pb::PolicyChangeOutcome as Kind;
        let (diff, etag) = (changed.diff(), changed.candidate.etag().to_owned());
        let (mut verdict, mut round, mut operation) = (None, None, None);
        let outcome = match changed.outcome {
            Outcome::UpToDate => Kind::UpToDate,
            Outcome::Validated(found) => {
                verdict = Some(found.into());
                Kind::Validated
            }
            Outcome::Proposed(open) => {
                round = Some(open);
                Kind::Proposed
            }
            Outcome::Applying(approved, started) => {
                (round, operation) = (Some(approved), started);
                Kind::Applying
            }
        };
        Self {
            outcome: outcome.into(),
            policy_differences: diff.differences.into_iter().map(Into::into).collect(),
            omitted: count(diff.omitted),
            policy_section_counts: diff.sections.into_iter().map(Into::into).collect(),
            base_version: changed.candidate.base.version,
            base_digest: diff.from_digest,
            digest: diff.to_digest,
            etag,
            verdict,
            approval_id: round.as_ref().map_or(0, |round| round.id.get()),
            approval_digest: round.map_or_else(String::new, |round| round.digest),
            operation: operation.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> pb::PolicyEditTarget {
        pb::PolicyEditTarget {
            rule_name: "web".to_owned(),
            host: "a.example".to_owned(),
            ports: vec![443, 80],
            path: Some("/v1".to_owned()),
            binaries: vec!["/bin/x".to_owned()],
            any_binary: false,
        }
    }

    #[test]
    fn a_target_names_a_rule_or_a_host_with_one_port() {
        let EditTarget::Exact(exact) = target("t", Some(whole())).unwrap() else {
            panic!("it names a rule");
        };
        assert_eq!((exact.ports.as_slice(), exact.path.as_deref()), (&[443, 80][..], Some("/v1")));
        let first = pb::PolicyEditTarget {
            host: "a.example".to_owned(),
            ports: vec![443],
            ..Default::default()
        };
        let found = target("t", Some(first.clone())).unwrap();
        assert_eq!(found, EditTarget::First { host: "a.example".to_owned(), port: 443 });
        for invalid in [
            None,
            Some(pb::PolicyEditTarget { ports: vec![443, 80], ..first.clone() }),
            Some(pb::PolicyEditTarget { any_binary: true, ..first.clone() }),
            Some(pb::PolicyEditTarget { path: Some(String::new()), ..first }),
            Some(pb::PolicyEditTarget { any_binary: true, ..whole() }),
            Some(pb::PolicyEditTarget { binaries: Vec::new(), ..whole() }),
            Some(pb::PolicyEditTarget { host: " ".to_owned(), ..whole() }),
        ] {
            let why = target("t", invalid).unwrap_err().to_string();
            assert!(why.starts_with("`t` ") || why.starts_with("`t.host` "), "{why}");
        }
    }

    #[test]
    fn bounds_of_a_change_are_checked_with_its_field() {
        let empty = pb::PolicyEdit::default;
        let paths = pb::policy_edit::Edit::AddPaths(pb::AddPolicyPaths::default());
        let paths = pb::PolicyEdit { edit: Some(paths) };
        for (parsed, said) in [
            (document(0, String::new()), "`yaml` is required"),
            (document(0, "x".repeat(DOCUMENT_BYTES_MAX + 1)), "`yaml` must be at most"),
            (document(9, "x".to_owned()), "`mode` must be"),
            (preset(String::new()), "`policy_preset` must be 1 to 253"),
            (preset("x".repeat(254)), "`policy_preset` must be 1 to 253"),
            (version(0), "`version` is required"),
            (edits(Vec::new()), "`policy_edits` must be 1 to 256"),
            (edits(vec![empty(); EDITS_MAX + 1]), "`policy_edits` must be 1 to 256"),
            (edits(vec![empty()]), "`policy_edits[0]` is required"),
            (edits(vec![paths]), "`policy_edits[0].add_paths` must have"),
        ] {
            let why = parsed.unwrap_err().to_string();
            assert!(why.starts_with(said), "{why}");
        }
        let parse = |etag: usize, comment: &str, has_duration| {
            options("x".repeat(etag), false, comment, has_duration)
        };
        assert!(parse(ETAG_BYTES_MAX, "why", false).is_ok());
        for (parsed, said) in [
            (parse(0, "a\nb", false), "`comment`"),
            (parse(0, &"x".repeat(1_001), false), "`comment`"),
            (parse(0, "", true), "`grant_duration`"),
            (parse(ETAG_BYTES_MAX + 1, "", false), "`etag`"),
        ] {
            assert!(parsed.unwrap_err().to_string().starts_with(said), "{said}");
        }
    }
}

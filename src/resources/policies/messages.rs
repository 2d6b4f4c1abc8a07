//! Conversion between the messages of `PolicyService` and the domain types.

use super::domain::{
    ExportedPolicy, PolicyDiff, PolicyOperand, PolicySelection, SandboxPolicy, SectionCount,
};
use crate::ctx::Ctx;
use crate::db::types::{ApprovalRoundId, PLACE_CHARACTERS_MAX, SandboxName, SandboxRef};
use crate::error::Error;
use crate::etag;
use crate::governance::parse_reason;
use crate::openshell::policies::{PolicySource, Revision, RevisionStatus};
use crate::pb::v1 as pb;
use crate::policy::diff::{Difference, DifferenceKind};
use crate::policy::{DOCUMENT_BYTES_MAX, Preset};
use crate::resources::policy_pins::domain::{Pin, PinFilter, PinOutcome, PinSettings};
use crate::rpc::wire;
use crate::texts::check_length;
use crate::upstream::generation::Generation;

/// Parses the fields that name a sandbox on the gateway of the call.
pub(super) fn sandbox(workspace: String, sandbox: String) -> Result<SandboxName, Error> {
    SandboxName::parse("", workspace, sandbox)
}

/// Parses the fields that name a sandbox, which need not exist, on the gateway of the call.
pub(super) fn place(ctx: &Ctx, workspace: String, name: String) -> Result<SandboxRef, Error> {
    let gateway = ctx.required_gateway()?.clone();
    Ok(SandboxRef { gateway, name: sandbox(workspace, name)? })
}

/// Parses which policy is read.
pub(super) fn selection(view: i32, version: u32) -> Result<PolicySelection, Error> {
    match (pb::PolicyView::try_from(view), version) {
        (Ok(pb::PolicyView::Unspecified), version) => Ok(PolicySelection::Revision(version)),
        (Ok(pb::PolicyView::Base), 0) => Ok(PolicySelection::Revision(0)),
        (Ok(pb::PolicyView::Effective), 0) => Ok(PolicySelection::Effective),
        (Ok(pb::PolicyView::Base | pb::PolicyView::Effective), _) => {
            Err(Error::invalid("view", "must be unspecified if `version` is set"))
        }
        (Err(_), _) => Err(Error::invalid("view", "must be base, effective or unspecified")),
    }
}

/// Parses a policy to be compared.
pub(super) fn operand(
    field: &str,
    given: Option<pb::PolicyOperand>,
) -> Result<PolicyOperand, Error> {
    match given.and_then(|given| given.policy) {
        None => Err(Error::invalid(field, "is required: `version`, `yaml` or `approval_id`")),
        Some(pb::policy_operand::Policy::Version(version)) => Ok(PolicyOperand::Revision(version)),
        Some(pb::policy_operand::Policy::Yaml(text)) => {
            let bytes = text.len();
            if bytes > DOCUMENT_BYTES_MAX {
                let why = format!("must be at most {DOCUMENT_BYTES_MAX} bytes, got {bytes}");
                return Err(Error::invalid(format!("{field}.yaml"), why));
            }
            Ok(PolicyOperand::Document(text))
        }
        Some(pb::policy_operand::Policy::ApprovalId(id)) if id > 0 => {
            Ok(PolicyOperand::Approval(ApprovalRoundId(id)))
        }
        Some(pb::policy_operand::Policy::ApprovalId(_)) => {
            Err(Error::invalid(format!("{field}.approval_id"), "must be a number above 0"))
        }
    }
}

fn generation(generation: Generation) -> pb::WireGeneration {
    match generation {
        Generation::V0_0 => pb::WireGeneration::V00,
        Generation::V0_1 => pb::WireGeneration::V01,
    }
}

/// Converts a number, which a limit keeps far below the maximum.
pub(super) fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl From<Revision> for pb::PolicyRevision {
    fn from(revision: Revision) -> Self {
        let status = match revision.status {
            RevisionStatus::Unspecified => pb::PolicyRevisionStatus::Unspecified,
            RevisionStatus::Pending => pb::PolicyRevisionStatus::Pending,
            RevisionStatus::Loaded => pb::PolicyRevisionStatus::Loaded,
            RevisionStatus::Failed => pb::PolicyRevisionStatus::Failed,
            RevisionStatus::Superseded => pb::PolicyRevisionStatus::Superseded,
        };
        Self {
            version: revision.version,
            policy_hash: revision.policy_hash,
            status: status.into(),
            load_error: revision.load_error,
            create_time: revision.created_at.map(wire::to_timestamp),
            load_time: revision.loaded_at.map(wire::to_timestamp),
            provenance: revision.provenance.into_iter().collect(),
        }
    }
}

impl From<SandboxPolicy> for pb::Policy {
    fn from(found: SandboxPolicy) -> Self {
        let SandboxPolicy { gateway, sandbox, revision, active_version, effective, policy, yaml } =
            found;
        let (policy_hash, source, gateway_policy_version) = match effective {
            None => (revision.policy_hash.clone(), pb::PolicySource::Sandbox, 0),
            Some(effective) => {
                let source = match effective.source {
                    PolicySource::Unspecified => pb::PolicySource::Unspecified,
                    PolicySource::Sandbox => pb::PolicySource::Sandbox,
                    PolicySource::Gateway => pb::PolicySource::Gateway,
                };
                (effective.policy_hash, source, effective.gateway_version)
            }
        };
        Self {
            gateway,
            workspace: sandbox.workspace,
            sandbox: sandbox.name,
            wire_generation: generation(policy.generation()).into(),
            revision: Some(revision.into()),
            active_version,
            yaml,
            digest: policy.digest(),
            policy_hash,
            marks: policy.marks(),
            unknown_parts: policy.unknown().to_vec(),
            source: source.into(),
            gateway_policy_version,
        }
    }
}

impl From<Difference> for pb::PolicyDifference {
    fn from(difference: Difference) -> Self {
        let kind = match difference.kind {
            DifferenceKind::Added => pb::PolicyDifferenceKind::Added,
            DifferenceKind::Removed => pb::PolicyDifferenceKind::Removed,
            DifferenceKind::Changed => pb::PolicyDifferenceKind::Changed,
        };
        let Difference { path, old, new, .. } = difference;
        Self { path, kind: kind.into(), old, new }
    }
}

impl From<SectionCount> for pb::PolicySectionCount {
    fn from(count: SectionCount) -> Self {
        let SectionCount { section, added, removed, changed } = count;
        Self { section, added, removed, changed }
    }
}

impl From<PolicyDiff> for pb::DiffPoliciesResponse {
    fn from(diff: PolicyDiff) -> Self {
        Self {
            policy_differences: diff.differences.into_iter().map(Into::into).collect(),
            omitted: count(diff.omitted),
            policy_section_counts: diff.sections.into_iter().map(Into::into).collect(),
            equivalent: diff.is_equivalent,
            from_digest: diff.from_digest,
            to_digest: diff.to_digest,
        }
    }
}

impl From<ExportedPolicy> for pb::ExportPolicyResponse {
    fn from(exported: ExportedPolicy) -> Self {
        let ExportedPolicy { yaml, revision, digest } = exported;
        Self { yaml, version: revision.version, policy_hash: revision.policy_hash, digest }
    }
}

/// Converts a preset, without its content.
pub(super) fn listed_preset(preset: &Preset) -> pb::PolicyPreset {
    let generations = preset.generations().map(|of| generation(of).into());
    pb::PolicyPreset {
        name: preset.name.clone(),
        description: preset.description.clone(),
        built_in: preset.is_built_in,
        wire_generations: generations.collect(),
        yaml: String::new(),
    }
}

/// Converts a preset with its content.
pub(super) fn preset(preset: &Preset) -> pb::PolicyPreset {
    pb::PolicyPreset { yaml: preset.to_yaml(), ..listed_preset(preset) }
}

impl TryFrom<pb::PinPolicyRequest> for PinSettings {
    type Error = Error;

    fn try_from(req: pb::PinPolicyRequest) -> Result<Self, Error> {
        let parse = |at| wire::parse_timestamp("expire_time", at);
        Ok(Self {
            reason: parse_reason("reason", &req.reason)?,
            expires_at: req.expire_time.map(parse).transpose()?,
        })
    }
}

/// Parses a name in a filter; `None` if it is empty.
fn filter_name(field: &str, name: String) -> Result<Option<String>, Error> {
    check_length(field, &name, PLACE_CHARACTERS_MAX)?;
    Ok((!name.is_empty()).then_some(name))
}

/// Parses which pins are listed.
pub(super) fn pin_filter(gateway: String, workspace: String) -> Result<PinFilter, Error> {
    let gateway = filter_name("gateway", gateway)?;
    Ok(PinFilter { gateway, workspace: filter_name("workspace", workspace)? })
}

impl From<Pin> for pb::PolicyPin {
    fn from(pin: Pin) -> Self {
        let held = pin.is_held();
        Self {
            gateway: pin.gateway,
            workspace: pin.sandbox.workspace,
            sandbox: pin.sandbox.name,
            pinned_version: u32::try_from(pin.pinned_version).unwrap_or_default(),
            pinned_hash: pin.pinned_hash.unwrap_or_default(),
            pinned_by: pin.pinned_by,
            reason: pin.reason.unwrap_or_default(),
            setter_role: pb::Role::from(pin.setter_role).into(),
            pin_time: Some(wire::to_timestamp(pin.pinned_at)),
            expire_time: pin.expires_at.map(wire::to_timestamp),
            held,
            etag: etag::from_version(pin.version),
        }
    }
}

impl From<PinOutcome> for pb::PinPolicyResponse {
    fn from(outcome: PinOutcome) -> Self {
        Self {
            policy_pin: Some(outcome.pin.into()),
            in_flight: outcome.in_flight.into_iter().map(Into::into).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_excludes_a_version() {
        let of = |view: pb::PolicyView, version| selection(view.into(), version);
        for (view, version, expected) in [
            (pb::PolicyView::Unspecified, 0, PolicySelection::Revision(0)),
            (pb::PolicyView::Unspecified, 7, PolicySelection::Revision(7)),
            (pb::PolicyView::Base, 0, PolicySelection::Revision(0)),
            (pb::PolicyView::Effective, 0, PolicySelection::Effective),
        ] {
            assert_eq!(of(view, version).unwrap(), expected);
        }
        assert!(of(pb::PolicyView::Base, 1).is_err() && of(pb::PolicyView::Effective, 1).is_err());
        assert!(selection(9, 0).is_err());
    }
}

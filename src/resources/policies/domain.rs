//! Reads policies from their gateway, compares and exports them, and finds presets.

use bytes::Bytes;

use crate::ctx::{Ctx, ListKey};
use crate::db::page::PageSize;
use crate::db::types::{ApprovalRoundId, SandboxName, SandboxRef};
use crate::error::{Error, ResourceKind};
use crate::openshell::policies::{EffectivePolicy, Revision};
use crate::openshell::{Gateway, Generation};
use crate::policy::diff::{self, Difference, DifferenceKind};
use crate::policy::{Policy, Preset, Presets};
use crate::resources::approvals::proposals::candidate::decode;
use crate::resources::approvals::proposals::reviewed::reviewed_policy;
use crate::seal::join_parts;

/// Maximum number of differences in a response.
pub const DIFFERENCES_MAX: usize = 1_000;

/// Which policy of a sandbox is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicySelection {
    /// A revision by its version; 0 is the newest.
    Revision(u32),
    /// The policy in force.
    Effective,
}

/// A policy of a sandbox.
#[derive(Debug)]
pub struct SandboxPolicy {
    /// Name of the gateway.
    pub gateway: String,
    /// The sandbox.
    pub sandbox: SandboxName,
    /// The revision; for the policy in force, the newest one.
    pub revision: Revision,
    /// Version that the sandbox has loaded; 0 if none.
    pub active_version: u32,
    /// The policy in force, if it was requested.
    pub effective: Option<EffectivePolicy>,
    /// The policy.
    pub policy: Policy,
    /// The policy as YAML.
    pub yaml: String,
}

/// A policy to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyOperand {
    /// A revision by its version; 0 is the newest.
    Revision(u32),
    /// A document.
    Document(String),
    /// The policy that an approval of the sandbox leads to.
    Approval(ApprovalRoundId),
}

/// Number of differences in a section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SectionCount {
    /// The section.
    pub section: String,
    /// Values that only the second policy has.
    pub added: u32,
    /// Values that only the first policy has.
    pub removed: u32,
    /// Values that differ.
    pub changed: u32,
}

/// What differs between two policies.
#[derive(Debug)]
pub struct PolicyDiff {
    /// The first [`DIFFERENCES_MAX`] differences.
    pub differences: Vec<Difference>,
    /// Number of further differences.
    pub omitted: usize,
    /// Number of differences per section.
    pub sections: Vec<SectionCount>,
    /// Whether the policies differ in spelling only.
    pub is_equivalent: bool,
    /// Digest of the first policy.
    pub from_digest: String,
    /// Digest of the second policy.
    pub to_digest: String,
}

/// An exported revision.
#[derive(Debug)]
pub struct ExportedPolicy {
    /// The document.
    pub yaml: String,
    /// The revision.
    pub revision: Revision,
    /// Digest of the policy.
    pub digest: String,
}

pub(super) async fn connect(ctx: &Ctx) -> Result<Gateway, Error> {
    Ok(Gateway::connect(ctx.app(), ctx.required_gateway()?).await?.on_behalf_of(ctx))
}

/// Returns a policy of a sandbox.
pub async fn get(
    ctx: &Ctx,
    sandbox: &SandboxName,
    selection: PolicySelection,
) -> Result<SandboxPolicy, Error> {
    let gateway = connect(ctx).await?;
    let (version, is_effective) = match selection {
        PolicySelection::Revision(version) => (version, false),
        PolicySelection::Effective => (0, true),
    };
    let (revision, active_version) = gateway.policy_revision(sandbox, version).await?;
    let mut effective = None;
    if is_effective {
        effective = Some(gateway.effective_policy(sandbox).await?);
    }
    let sent = effective.as_ref().map_or(&revision.policy, |effective| &effective.policy);
    let turn = ctx.long_work(sent.as_ref().map_or(0, Bytes::len)).await?;
    let (policy, yaml) = turn.run(|| {
        let policy = decode(gateway.generation(), sent.as_ref())?;
        let yaml = policy.to_yaml();
        Ok::<_, Error>((policy, yaml))
    })?;
    Ok(SandboxPolicy {
        gateway: gateway.name().to_string(),
        sandbox: sandbox.clone(),
        revision,
        active_version,
        effective,
        policy,
        yaml,
    })
}

/// Returns a page of the revisions of a sandbox's policy, newest first.
pub async fn list_revisions(
    ctx: &Ctx,
    sandbox: &SandboxName,
    size: PageSize,
    token: &str,
) -> Result<(Vec<Revision>, String), Error> {
    let gateway = &ctx.required_gateway()?.name;
    let parts = [gateway.as_bytes(), sandbox.workspace.as_bytes(), sandbox.name.as_bytes()];
    let filter = join_parts(&parts);
    let list =
        ListKey { method: "ListPolicyRevisions", filter: &filter, order: "version descending" };
    let page = ctx.page_request::<(Option<u32>, String)>(list, size, token)?;
    let (before, cursor) = page.after().cloned().unwrap_or_default();
    let limit = u32::try_from(size.get()).unwrap_or(u32::MAX);
    let (mut revisions, next) =
        connect(ctx).await?.policy_revisions(sandbox, limit, &cursor).await?;
    // A new revision moves the others back, so a page can begin with revisions of the previous page.
    revisions.retain(|revision| before.is_none_or(|before| revision.version < before));
    let before = revisions.last().map(|revision| revision.version).or(before);
    let next = next.map(|cursor| page.next_token((before, cursor))).transpose()?;
    Ok((revisions, next.unwrap_or_default()))
}

/// Compares two policies for a sandbox.
pub async fn compare(
    ctx: &Ctx,
    sandbox: &SandboxName,
    from: &PolicyOperand,
    to: &PolicyOperand,
) -> Result<PolicyDiff, Error> {
    let gateway = connect(ctx).await?;
    let place = SandboxRef { gateway: ctx.required_gateway()?.clone(), name: sandbox.clone() };
    let first = load(ctx, &gateway, &place, "from", from).await?;
    let second = load(ctx, &gateway, &place, "to", to).await?;
    let turn = ctx.long_work(first.bytes() + second.bytes()).await?;
    let generation = gateway.generation();
    turn.run(|| compare_loaded(generation, first, second))
}

/// Compares two policies. A document gets the marks of the other policy.
fn compare_loaded(
    generation: Generation,
    first: Loaded<'_>,
    second: Loaded<'_>,
) -> Result<PolicyDiff, Error> {
    let are_documents = (first.is_document(), second.is_document());
    let (mut from, mut to) = (first.parse(generation, "from")?, second.parse(generation, "to")?);
    match are_documents {
        (false, true) => to = to.with_marks_of(&from)?,
        (true, false) => from = from.with_marks_of(&to)?,
        (false, false) | (true, true) => {}
    }
    Ok(diff_of(diff::compare(&from, &to), from.is_equivalent(&to), &from, &to))
}

/// Returns what differs between two policies of one generation, which was compared before.
pub(super) fn diff_of(
    mut differences: Vec<Difference>,
    is_equivalent: bool,
    from: &Policy,
    to: &Policy,
) -> PolicyDiff {
    let sections = count_by_section(&differences);
    let omitted = differences.len().saturating_sub(DIFFERENCES_MAX);
    differences.truncate(DIFFERENCES_MAX);
    PolicyDiff {
        differences,
        omitted,
        sections,
        is_equivalent,
        from_digest: from.digest(),
        to_digest: to.digest(),
    }
}

/// An operand, before it is parsed.
enum Loaded<'a> {
    Document(&'a str),
    Revision(Option<Bytes>),
    Approval(Box<Policy>),
}

impl Loaded<'_> {
    /// Returns whether it is a document, which has no marks of its own.
    fn is_document(&self) -> bool {
        matches!(self, Self::Document(_))
    }

    /// Returns its size.
    fn bytes(&self) -> usize {
        match self {
            Self::Document(text) => text.len(),
            Self::Revision(sent) => sent.as_ref().map_or(0, Bytes::len),
            Self::Approval(policy) => policy.encoded().len(),
        }
    }

    /// Parses it as a policy of the gateway's generation. `field` is that of the request.
    fn parse(self, generation: Generation, field: &str) -> Result<Policy, Error> {
        match self {
            Self::Document(text) => Policy::from_yaml(generation, &format!("{field}.yaml"), text),
            Self::Revision(sent) => decode(generation, sent.as_ref())?.require_known(),
            Self::Approval(policy) => Ok(*policy),
        }
    }
}

/// Reads an operand, which is this field of the request.
async fn load<'a>(
    ctx: &Ctx,
    gateway: &Gateway,
    place: &SandboxRef,
    field: &str,
    operand: &'a PolicyOperand,
) -> Result<Loaded<'a>, Error> {
    match operand {
        PolicyOperand::Document(text) => Ok(Loaded::Document(text)),
        PolicyOperand::Revision(version) => {
            let (revision, _) = gateway.policy_revision(&place.name, *version).await?;
            Ok(Loaded::Revision(revision.policy))
        }
        PolicyOperand::Approval(id) => {
            let field = format!("{field}.approval_id");
            let policy = reviewed_policy(ctx, place, *id, &field).await?;
            let (generation, reviewed) = (gateway.generation(), policy.generation());
            if reviewed == generation {
                return Ok(Loaded::Approval(Box::new(policy)));
            }
            let why = format!(
                "must be of generation {generation}, which the gateway has now: approval {id} is of {reviewed}"
            );
            Err(Error::invalid(field, why))
        }
    }
}

/// Counts differences, which are in the order of their sections.
fn count_by_section(differences: &[Difference]) -> Vec<SectionCount> {
    let mut counts: Vec<SectionCount> = Vec::new();
    for difference in differences {
        if counts.last().is_none_or(|count| count.section != difference.section) {
            let section = difference.section.clone();
            counts.push(SectionCount { section, ..SectionCount::default() });
        }
        let Some(count) = counts.last_mut() else { continue };
        match difference.kind {
            DifferenceKind::Added => count.added += 1,
            DifferenceKind::Removed => count.removed += 1,
            DifferenceKind::Changed => count.changed += 1,
        }
    }
    counts
}

/// Exports a revision. Version 0 is the newest.
pub async fn export(
    ctx: &Ctx,
    sandbox: &SandboxName,
    version: u32,
) -> Result<ExportedPolicy, Error> {
    ctx.add_audit_detail("workspace", sandbox.workspace.as_str());
    let gateway = connect(ctx).await?;
    let (revision, _) = gateway.policy_revision(sandbox, version).await?;
    ctx.add_audit_detail("version", revision.version);
    let turn = ctx.long_work(revision.policy.as_ref().map_or(0, Bytes::len)).await?;
    let (yaml, digest) = turn.run(|| {
        let policy = decode(gateway.generation(), revision.policy.as_ref())?.require_known()?;
        let digest = policy.digest();
        let yaml = policy.to_document(&[
            ("gateway", gateway.name().to_string()),
            ("workspace", sandbox.workspace.clone()),
            ("sandbox", sandbox.name.clone()),
            ("wire_generation", gateway.generation().to_string()),
            ("version", revision.version.to_string()),
            ("policy_hash", revision.policy_hash.clone()),
            ("digest", digest.clone()),
            ("exported_at", ctx.now().to_string()),
        ]);
        Ok::<_, Error>((yaml, digest))
    })?;
    Ok(ExportedPolicy { yaml, revision, digest })
}

/// Returns a page of the presets of this server, by name.
pub fn list_presets<'a>(
    ctx: &'a Ctx,
    size: PageSize,
    token: &str,
) -> Result<(Vec<&'a Preset>, String), Error> {
    let list = ListKey { method: "ListPolicyPresets", filter: b"", order: "name" };
    let page = ctx.page_request::<String>(list, size, token)?;
    let all = ctx.app().part::<Presets>().0.iter();
    let rest = all.filter(|preset| page.after().is_none_or(|after| preset.name > *after));
    let rows: Vec<&Preset> = rest.take(size.get() + 1).collect();
    page.finish(rows, |preset| preset.name.clone())
}

/// Returns a preset of this server by name.
pub fn get_preset<'a>(ctx: &'a Ctx, name: &str) -> Result<&'a Preset, Error> {
    if name.is_empty() {
        return Err(Error::invalid("policy_preset", "is required"));
    }
    let found = ctx.app().part::<Presets>().find(name);
    found.ok_or_else(|| Error::not_found(ResourceKind::PolicyPreset, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_counted_by_section() {
        let of = |section: &str, kind| Difference {
            section: section.to_owned(),
            path: String::new(),
            kind,
            old: String::new(),
            new: String::new(),
        };
        let counts = count_by_section(&[
            of("process", DifferenceKind::Changed),
            of("network_policies", DifferenceKind::Added),
            of("network_policies", DifferenceKind::Added),
            of("network_policies", DifferenceKind::Removed),
        ]);
        let shown: Vec<_> = counts
            .iter()
            .map(|count| (count.section.as_str(), count.added, count.removed, count.changed))
            .collect();
        assert_eq!(shown, [("process", 0, 0, 1), ("network_policies", 2, 1, 0)]);
    }
}

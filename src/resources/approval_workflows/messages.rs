//! Messages of `ApprovalWorkflowService`.

use super::domain::{
    ExplainedWorkflow, Explanation, NewRule, SetOutcome, ShownWorkflow, StoredWorkflow, Warning,
    scope,
};
use super::explain::ExplainedGroup;
use super::input::{NamedGroup, NamedRule, NamedVoters};
use crate::error::Error;
use crate::etag;
use crate::governance::{APPLY_WINDOW_MINUTES_DEFAULT, EXPIRE_MINUTES_DEFAULT, Why};
use crate::pb::v1 as pb;
use crate::role::Role;
use crate::rpc::wire;

impl TryFrom<pb::SetWorkflowRequest> for NewRule {
    type Error = Error;

    fn try_from(req: pb::SetWorkflowRequest) -> Result<Self, Error> {
        let rule = req.rule.ok_or_else(|| Error::invalid("rule", "is required"))?;
        Ok(Self {
            scope: scope(req.workspace, req.sandbox, &req.selector)?,
            rule: rule.try_into()?,
            etag: req.etag,
            validate_only: req.validate_only,
        })
    }
}

impl TryFrom<pb::ApprovalRule> for NamedRule {
    type Error = Error;

    fn try_from(rule: pb::ApprovalRule) -> Result<Self, Error> {
        if rule.rollback_on_load_failure {
            let why = "must be false: it is not available yet";
            return Err(Error::invalid("rule.rollback_on_load_failure", why));
        }
        if rule.grant_minutes_max.is_some() {
            let why = "must be unset: it is not available yet";
            return Err(Error::invalid("rule.grant_minutes_max", why));
        }
        let groups = rule.groups.into_iter().enumerate();
        let groups = groups.map(|(at, group)| parse_group(&format!("rule.groups[{at}]"), group));
        let or_default = |minutes: u32, default| if minutes == 0 { default } else { minutes };
        let escalation = rule.escalation;
        Ok(Self {
            groups: groups.collect::<Result<_, _>>()?,
            required_groups: rule.required_groups,
            distinct_actors: rule.distinct_actors.unwrap_or(true),
            escalation: escalation.map(|set| parse_voters("rule.escalation", set)).transpose()?,
            escalation_timeout_minutes: rule.escalation_timeout_minutes,
            expire_minutes: or_default(rule.expire_minutes, EXPIRE_MINUTES_DEFAULT),
            apply_window_minutes: or_default(
                rule.apply_window_minutes,
                APPLY_WINDOW_MINUTES_DEFAULT,
            ),
        })
    }
}

fn parse_group(field: &str, group: pb::VoterGroup) -> Result<NamedGroup, Error> {
    let voters = group.voters.ok_or_else(|| {
        Error::invalid(format!("{field}.voters"), "is required: a group must have voters")
    })?;
    let voters = parse_voters(&format!("{field}.voters"), voters)?;
    Ok(NamedGroup { name: group.name, required: group.required, voters })
}

fn parse_voters(field: &str, set: pb::VoterSet) -> Result<NamedVoters, Error> {
    let role = match pb::Role::try_from(set.role) {
        Ok(pb::Role::Unspecified) => None,
        Ok(pb::Role::Viewer) => Some(Role::Viewer),
        Ok(pb::Role::Operator) => Some(Role::Operator),
        Ok(pb::Role::Admin) => Some(Role::Admin),
        Ok(pb::Role::None) | Err(_) => {
            let why = "must be viewer, operator or admin";
            return Err(Error::invalid(format!("{field}.role"), why));
        }
    };
    let (users, groups, service_principals) = (set.users, set.groups, set.service_principals);
    Ok(NamedVoters { role, users, groups, service_principals })
}

impl From<NamedVoters> for pb::VoterSet {
    fn from(voters: NamedVoters) -> Self {
        Self {
            role: voters.role.map_or(pb::Role::Unspecified, Into::into).into(),
            users: voters.users,
            groups: voters.groups,
            service_principals: voters.service_principals,
        }
    }
}

impl From<NamedRule> for pb::ApprovalRule {
    fn from(rule: NamedRule) -> Self {
        let groups = rule.groups.into_iter().map(|group| pb::VoterGroup {
            name: group.name,
            required: group.required,
            voters: Some(group.voters.into()),
        });
        Self {
            groups: groups.collect(),
            required_groups: rule.required_groups,
            distinct_actors: Some(rule.distinct_actors),
            escalation: rule.escalation.map(Into::into),
            escalation_timeout_minutes: rule.escalation_timeout_minutes,
            expire_minutes: rule.expire_minutes,
            apply_window_minutes: rule.apply_window_minutes,
            rollback_on_load_failure: false,
            grant_minutes_max: None,
        }
    }
}

impl From<ShownWorkflow> for pb::ApprovalWorkflow {
    fn from(shown: ShownWorkflow) -> Self {
        let StoredWorkflow { id, gateway, scope, created_by, version, .. } = shown.stored;
        Self {
            id: id.get(),
            gateway,
            workspace: scope.workspace().unwrap_or_default().to_owned(),
            sandbox: scope.sandbox().unwrap_or_default().to_owned(),
            rule: shown.rule.map(Into::into),
            created_by,
            create_time: Some(wire::to_timestamp(shown.stored.created_at)),
            update_time: Some(wire::to_timestamp(shown.stored.updated_at)),
            broken_time: shown.stored.broken_since.map(wire::to_timestamp),
            etag: if version == 0 { String::new() } else { etag::from_version(version) },
        }
    }
}

impl From<Warning> for pb::ApprovalWorkflowWarning {
    fn from(warning: Warning) -> Self {
        match warning {
            Warning::ApprovalModeAuto => Self::ApprovalModeAuto,
            Warning::ApprovalModeUnknown => Self::ApprovalModeUnknown,
            Warning::NoSpareVoter => Self::NoSpareVoter,
            Warning::RolesAlone => Self::RolesAlone,
            Warning::ReviewRequired => Self::ReviewRequired,
        }
    }
}

impl From<SetOutcome> for pb::SetWorkflowResponse {
    fn from(outcome: SetOutcome) -> Self {
        let warnings = outcome.warnings.into_iter();
        let named = outcome.rounds.first.iter();
        Self {
            approval_workflow: Some(outcome.workflow.into()),
            in_flight: outcome.in_flight.into_iter().map(Into::into).collect(),
            warnings: warnings.map(|it| pb::ApprovalWorkflowWarning::from(it).into()).collect(),
            open_approval_ids: named.map(|id| id.get()).collect(),
            open_approval_count: u32::try_from(outcome.rounds.count).unwrap_or(u32::MAX),
        }
    }
}

impl From<Why> for pb::VoteExclusion {
    fn from(why: Why) -> Self {
        match why {
            Why::NotNamed => Self::NotNamed,
            Why::JoinedLater => Self::JoinedLater,
            Why::RoleTooLow => Self::RoleTooLow,
            Why::BesideMaker => Self::BesideMaker,
            Why::MakerUnknown => Self::MakerUnknown,
            Why::Maker => Self::Maker,
            Why::Owner => Self::Owner,
            Why::Author => Self::Author,
            Why::Left => Self::Left,
        }
    }
}

impl From<ExplainedGroup> for pb::ExplainedVoterGroup {
    fn from(group: ExplainedGroup) -> Self {
        Self {
            name: group.name,
            required: group.required,
            voters: group.voters.iter().map(ToString::to_string).collect(),
            voter_count: u32::try_from(group.count).unwrap_or(u32::MAX),
        }
    }
}

impl From<ExplainedWorkflow> for pb::ExplainedWorkflow {
    fn from(explained: ExplainedWorkflow) -> Self {
        let excluded = explained.excluded.into_iter().map(|(name, why)| pb::ExcludedVoter {
            principal: name.to_string(),
            exclusion: pb::VoteExclusion::from(why).into(),
        });
        let (lacking_group, lacking_group_has) =
            explained.lacking.map(|lacking| (lacking.group, lacking.have)).unwrap_or_default();
        Self {
            approval_workflow: Some(explained.workflow.into()),
            groups: explained.groups.into_iter().map(Into::into).collect(),
            excluded: excluded.collect(),
            can_be_met: explained.can_be_met,
            lacking_group,
            lacking_group_has,
        }
    }
}

impl From<Explanation> for pb::ExplainWorkflowResponse {
    fn from(explanation: Explanation) -> Self {
        Self {
            explained_workflows: explanation.workflows.into_iter().map(Into::into).collect(),
            owner: explanation.owner.unwrap_or_default(),
        }
    }
}

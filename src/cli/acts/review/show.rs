//! What a reviewer sees of an approval: who asks for what, the difference, findings, an earlier rejection, what
//! prevents the write, and the votes so far, for each group.
//!
//! Invariant: everything that comes from a gateway or an agent is on lines with a label or a prefix, so that it cannot
//! look like a statement of the server.

use super::super::answer::word;
use super::super::difference::add_differences;
use super::super::terminal::{Look, Page};
use crate::pb::v1::{
    Approval, ApprovalContent, ApprovalDecision, ApprovalDetail, ApprovalDraft,
    ApprovalGroupProgress, UncountedReason,
};

/// Returns the page of an approval.
pub(super) fn page(
    detail: &ApprovalDetail,
    approval: &Approval,
    votes: &[ApprovalDecision],
    position: &str,
) -> Page {
    let mut page = Page::new();
    page.line(Look::Plain, "");
    let action = word(approval.action().as_str_name(), "APPROVAL_ACTION_");
    page.line(
        Look::Heading,
        &format!("Approval {} ({position}): {action} on {}", approval.id, place(approval)),
    );
    add_origin(&mut page, approval);
    if let Some(content) = &detail.content {
        add_content(&mut page, content);
    }
    add_refused(&mut page, detail);
    add_earlier_rejection(&mut page, detail);
    add_lost_marks(&mut page, detail);
    for blocker in &detail.blockers {
        page.line(Look::Warning, &format!("! blocked for now: {blocker}"));
    }
    if !detail.satisfiable {
        page.line(Look::Warning, "! not enough voters can approve it");
    }
    add_votes(&mut page, detail, approval, votes);
    page.line(Look::Plain, &format!("Digest    {}", approval.digest));
    if let Some(why) = cannot_approve(detail) {
        page.line(Look::Warning, &format!("! {why}"));
    }
    page
}

/// Returns why the page does not show everything that an approval would be for.
pub(super) fn cannot_approve(detail: &ApprovalDetail) -> Option<String> {
    let content = detail.content.as_ref()?;
    let id = detail.approval.as_ref().map_or(0, |approval| approval.id);
    let (omitted, findings) = (content.omitted, content.omitted_findings);
    let what = if omitted > 0 {
        format!("{omitted} differences are shown only as a part of the policy: check that")
    } else if findings > 0 {
        format!("{findings} findings are not shown completely: read them on the gateway")
    } else {
        return None;
    };
    Some(format!("{what}, then use `approval approve {id} --digest`"))
}

/// Returns gateway, workspace and sandbox, as far as the approval names them.
fn place(approval: &Approval) -> String {
    let parts = [&approval.gateway, &approval.workspace, &approval.sandbox].map(String::as_str);
    let named = parts.into_iter().filter(|part| !part.is_empty());
    named.collect::<Vec<_>>().join("/")
}

fn add_origin(page: &mut Page, approval: &Approval) {
    field(page, "Asks", &approval.authors.join(", "));
    field(page, "Owner", &approval.owner);
    field(page, "Comment", &approval.comment);
    if let Some(draft) = &approval.draft {
        field(page, "Rule", &draft.rule_name);
        field(page, "Program", &draft.binary);
        field(page, "Because", &draft.rationale);
        if draft.hits > 0 {
            field(page, "Refused", &format!("{} times", draft.hits));
        }
        add_quoting(page, draft);
    }
    if let Some(time) = approval.expire_time {
        field(page, "Until", &time.to_string());
    }
    if approval.grant_minutes > 0 {
        field(page, "Granted", &format!("for {} minutes", approval.grant_minutes));
    }
}

/// Adds what was done to the texts of the agent and the gateway.
fn add_quoting(page: &mut Page, draft: &ApprovalDraft) {
    let replaced = draft.replaced_characters;
    if replaced > 0 {
        let why = format!("! {replaced} hidden characters of its texts are replaced by spaces");
        page.line(Look::Warning, &why);
    }
    if draft.truncated {
        page.line(Look::Warning, "! a text is cut at its limit");
    }
}

/// Adds the log lines about connections that were refused.
fn add_refused(page: &mut Page, detail: &ApprovalDetail) {
    for refused in &detail.refused_connections {
        let time = refused.log_time.map(|time| time.to_string()).unwrap_or_default();
        page.line(Look::Plain, &format!("* refused at {time}: {}", refused.line));
    }
}

fn add_earlier_rejection(page: &mut Page, detail: &ApprovalDetail) {
    let Some(rejection) = &detail.earlier_rejection else { return };
    let time = rejection.rejection_time.map(|time| time.to_string()).unwrap_or_default();
    let (id, voter, comment) = (rejection.approval_id, &rejection.voter, &rejection.comment);
    let why = format!("! the same was rejected by {voter} at {time} (approval {id}): {comment}");
    page.line(Look::Warning, &why);
}

/// Adds that the gateway has dropped marks before.
fn add_lost_marks(page: &mut Page, detail: &ApprovalDetail) {
    let Some(time) = detail.marks_lost_time else { return };
    let why = "the sandbox may not refuse private addresses for what an agent proposed";
    page.line(Look::Warning, &format!("! the gateway has last dropped marks at {time}: {why}"));
}

fn add_content(page: &mut Page, content: &ApprovalContent) {
    page.line(Look::Heading, "Changes");
    add_differences(page, &content.policy_differences, content.omitted);
    if content.policy_differences.is_empty() || content.omitted > 0 {
        // A rule that is removed has no new form. Of too many differences, this shows the rest.
        page.block(Look::Removed, "- ", &content.present_yaml);
        page.block(Look::Added, "+ ", &content.yaml);
    }
    page.block(Look::Changed, "~ ", &content.rule_change_json);
    for finding in &content.gateway_findings {
        page.line(Look::Warning, &format!("! the gateway has found: {finding}"));
    }
    for mark in &content.marks {
        page.line(Look::Plain, &format!("* an agent proposed it: {mark}"));
    }
}

fn add_votes(
    page: &mut Page,
    detail: &ApprovalDetail,
    approval: &Approval,
    votes: &[ApprovalDecision],
) {
    page.line(Look::Heading, &format!("Votes     {} of {}", approval.votes, approval.needed));
    for vote in votes {
        let decision = word(vote.decision().as_str_name(), "VOTE_DECISION_");
        page.line(Look::Plain, &format!("  {} {decision} {}", vote.voter, vote.comment));
    }
    for uncounted in &detail.uncounted_votes {
        let why = word(uncounted.reason().as_str_name(), "UNCOUNTED_REASON_");
        page.line(Look::Plain, &format!("  {} does not count: {why}", uncounted.voter));
    }
    for rule in detail.rules.iter().filter(|rule| !rule.met) {
        for group in &rule.groups {
            // The rule can also be met with the groups that are not chosen.
            let or = if group.chosen { "" } else { "or " };
            page.line(Look::Plain, &format!("  {or}{}", progress(&rule.scope, group)));
        }
    }
    let own = detail.caller_uncounted();
    if own != UncountedReason::Unspecified {
        let why = word(own.as_str_name(), "UNCOUNTED_REASON_");
        page.line(Look::Warning, &format!("! your approval would not count: {why}"));
    }
}

/// Returns the progress of one group, and who could vote in it.
fn progress(scope: &str, group: &ApprovalGroupProgress) -> String {
    let (name, needed, has) = (&group.name, group.needed, group.counting.len());
    let mut text = format!("{scope} needs {needed} of {name}, has {has}");
    if !group.counting.is_empty() {
        text = format!("{text} ({})", group.counting.join(", "));
    }
    if group.could_vote.is_empty() {
        return text;
    }
    text = format!("{text}; could vote: {}", group.could_vote.join(", "));
    let named = u32::try_from(group.could_vote.len()).unwrap_or(u32::MAX);
    match group.could_vote_count.saturating_sub(named) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

fn field(page: &mut Page, name: &str, value: &str) {
    if !value.is_empty() {
        page.line(Look::Plain, &format!("{name:<9} {value}"));
    }
}

/// Returns the state of an approval after a vote.
pub(super) fn state_after_vote(approval: &Approval) -> String {
    let state = word(approval.state().as_str_name(), "APPROVAL_STATE_");
    let votes = if approval.needed == 0 {
        String::new()
    } else {
        format!(", {} of {} votes", approval.votes, approval.needed)
    };
    format!("approval {} is {state}{votes}", approval.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_has_the_parts_that_are_known() {
        let mut approval = Approval { gateway: "edge".to_owned(), ..Default::default() };
        assert_eq!(place(&approval), "edge");
        approval.workspace = "default".to_owned();
        approval.sandbox = "box".to_owned();
        assert_eq!(place(&approval), "edge/default/box");
    }

    #[test]
    fn a_change_with_too_many_differences_is_not_approved_at_once() {
        let content = ApprovalContent { omitted: 1, ..Default::default() };
        let approval = Approval { id: 7, ..Default::default() };
        let mut detail = ApprovalDetail {
            approval: Some(approval),
            content: Some(content),
            ..Default::default()
        };
        let why = cannot_approve(&detail).unwrap();
        assert!(why.contains("approval approve 7 --digest"), "{why}");
        detail.content = Some(ApprovalContent { omitted_findings: 2, ..Default::default() });
        let why = cannot_approve(&detail).unwrap();
        assert!(why.starts_with("2 findings") && why.contains("approve 7 --digest"), "{why}");
        detail.content = Some(ApprovalContent::default());
        assert_eq!(cannot_approve(&detail), None);
    }

    #[test]
    fn the_progress_of_a_group_names_who_counts_and_who_could_vote() {
        let mut group = ApprovalGroupProgress {
            name: "security".to_owned(),
            needed: 2,
            ..ApprovalGroupProgress::default()
        };
        let of = |group: &ApprovalGroupProgress| progress("the gateway", group);
        assert_eq!(of(&group), "the gateway needs 2 of security, has 0");
        group.counting = vec!["ana".to_owned()];
        group.could_vote = vec!["ben".to_owned(), "cleo".to_owned()];
        group.could_vote_count = 2;
        let text = "the gateway needs 2 of security, has 1 (ana); could vote: ben, cleo";
        assert_eq!(of(&group), text);
        group.could_vote_count = 5;
        assert_eq!(of(&group), format!("{text} and 3 more"));
    }

    #[test]
    fn a_vote_is_answered_with_what_is_missing() {
        let approval = Approval {
            id: 7,
            state: crate::pb::v1::ApprovalState::Open.into(),
            votes: 1,
            needed: 2,
            ..Default::default()
        };
        assert_eq!(state_after_vote(&approval), "approval 7 is open, 1 of 2 votes");
    }
}

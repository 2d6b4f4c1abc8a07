//! What passes, is refused or needs a round: each kind of change with each kind of rule.

use super::examples::rule;
use super::world::{minute, user};
use crate::db::types::{ApprovalWorkflowId, SandboxName};
use crate::error::{Error, Reason};
use crate::governance::{
    Action, CallerFacts, Change, Deciders, Doubt, Governed, GovernedBy, InForce, Indirect, Lock,
    Origin, Reach, Refusal, RuleChange, RuleScope, Verdict, VoterSet, WideKind, Workflow, judge,
};
use crate::role::Role;

fn sandbox() -> SandboxName {
    SandboxName { workspace: "default".to_owned(), name: "dev".to_owned() }
}

fn workflow(scope: RuleScope) -> Workflow {
    let rule = rule(&[(2, VoterSet::of_role(Role::Operator))]);
    Workflow { id: ApprovalWorkflowId(1), scope, rule }
}

fn governed() -> InForce {
    InForce { workflows: vec![workflow(RuleScope::Gateway)], ..InForce::default() }
}

fn pinned() -> InForce {
    let pin = Lock {
        by: "ana@example.com".into(),
        setter: Some(user(1)),
        setter_role: Role::Admin,
        reason: Some("audit".to_owned()),
        expires_at: Some(minute(60)),
    };
    InForce { pin: Some(pin), ..InForce::default() }
}

fn both() -> InForce {
    InForce { pin: pinned().pin, ..governed() }
}

fn decide(change: &Change, in_force: &InForce) -> Verdict {
    let caller = CallerFacts { role: Role::Operator, is_maker_known: true };
    judge(change, in_force, &caller, minute(0))
}

/// Returns the verdict as a word.
fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::PassWithInitialPolicy => "initial",
        Verdict::Round(Deciders::Default) => "default",
        Verdict::Round(Deciders::Workflows) => "round",
        Verdict::Refuse(Refusal::Pinned(_)) => "pinned",
        Verdict::Refuse(Refusal::Governed(_)) => "governed",
        Verdict::Refuse(Refusal::ApprovalModeAuto(_)) => "auto",
        Verdict::Refuse(Refusal::RoleTooLow(_)) => "role",
        Verdict::Refuse(Refusal::Doubt(_)) => "doubt",
    }
}

fn write(origin: Origin) -> Change {
    Change::Write { action: Action::PolicyApply, origin, to_pinned: false }
}

fn wide(kind: WideKind, is_locked: bool) -> Change {
    let locked = if is_locked { vec![sandbox()] } else { Vec::new() };
    Change::Wide(Reach { kind, locked, governed: Vec::new() })
}

/// One change, and the results without a rule, with a pin, with a workflow, and with both.
fn row(change: &Change, results: [&str; 4]) {
    let rules = [InForce::default(), pinned(), governed(), both()];
    let found = rules.map(|in_force| word(&decide(change, &in_force)));
    assert_eq!(found, results, "{change:?}");
}

#[test]
fn every_kind_of_change_is_decided_as_specified() {
    row(&write(Origin::Own), ["default", "pinned", "round", "pinned"]);
    row(&write(Origin::Proxied), ["pass", "pinned", "round", "pinned"]);
    let to_pinned =
        Change::Write { action: Action::PolicyApply, origin: Origin::Own, to_pinned: true };
    row(&to_pinned, ["default", "default", "round", "round"]);
    for kind in [Indirect::Providers, Indirect::UnlistedDrafts, Indirect::Setting] {
        row(&Change::Indirect(kind), ["pass", "pinned", "governed", "pinned"]);
    }
    row(&Change::Indirect(Indirect::ApprovalMode), ["pass", "pinned", "auto", "pinned"]);
    row(&Change::Create { brings_policy: true }, ["pass", "pinned", "governed", "pinned"]);
    row(&Change::Create { brings_policy: false }, ["pass", "initial", "initial", "initial"]);
    // A wider workflow also covers the next sandbox of that name.
    row(&Change::Delete, ["pass", "pinned", "pass", "pinned"]);
    let weaker = RuleChange { weakens: true, least_role: Role::None };
    row(&Change::Rule(weaker), ["pass", "pass", "round", "round"]);
    let higher = RuleChange { weakens: true, least_role: Role::Admin };
    row(&Change::Rule(higher), ["role", "role", "role", "role"]);
    let tighter = RuleChange { weakens: false, least_role: Role::Admin };
    row(&Change::Rule(tighter), ["pass", "pass", "pass", "pass"]);
    row(&Change::Harmless, ["pass", "pass", "pass", "pass"]);
    for kind in [
        WideKind::Unregister,
        WideKind::GlobalPolicy,
        WideKind::Setting,
        WideKind::Providers,
        WideKind::ApprovalMode,
    ] {
        let under_workflow = if kind == WideKind::ApprovalMode { "auto" } else { "governed" };
        row(&wide(kind, false), ["pass", "pass", under_workflow, under_workflow]);
        row(&wide(kind, true), ["governed", "governed", "governed", "governed"]);
    }
}

#[test]
fn t01_a_sandbox_with_a_workflow_of_its_own_is_not_deleted() {
    let own = workflow(RuleScope::Sandbox(sandbox()));
    let in_force = InForce { workflows: vec![own], ..governed() };
    assert_eq!(word(&decide(&Change::Delete, &in_force)), "governed");
}

#[test]
fn g14_a_pin_past_its_time_is_over() {
    let caller = CallerFacts { role: Role::Viewer, is_maker_known: true };
    let at = |minutes| word(&judge(&write(Origin::Proxied), &pinned(), &caller, minute(minutes)));
    assert_eq!((at(59), at(60)), ("pinned", "pass"));
}

#[test]
fn g08_what_is_not_known_is_refused_where_a_rule_applies() {
    let unreadable = Doubt::UnreadableRule(RuleScope::Gateway);
    let in_force = |doubt: &Doubt, rest: InForce| InForce { doubt: Some(doubt.clone()), ..rest };
    let proxied = write(Origin::Proxied);
    let create = Change::Create { brings_policy: false };
    for change in [&proxied, &create, &Change::Delete, &wide(WideKind::Providers, false)] {
        assert_eq!(word(&decide(change, &in_force(&unreadable, InForce::default()))), "doubt");
    }
    assert_eq!(word(&decide(&Change::Harmless, &in_force(&unreadable, both()))), "pass");
    // An unreadable rule can be replaced, and not be weakened.
    let change = |weakens| Change::Rule(RuleChange { weakens, least_role: Role::None });
    let doubt = in_force(&unreadable, InForce::default());
    assert_eq!(word(&decide(&change(false), &doubt)), "pass");
    assert_eq!(word(&decide(&change(true), &doubt)), "doubt");
}

#[test]
fn t12_a_program_of_an_unknown_maker_does_not_propose() {
    let caller = CallerFacts { role: Role::Operator, is_maker_known: false };
    let verdict =
        |in_force: &InForce| word(&judge(&write(Origin::Proxied), in_force, &caller, minute(0)));
    assert_eq!((verdict(&governed()), verdict(&InForce::default())), ("governed", "pass"));
}

#[test]
fn a_policy_of_the_whole_gateway_forbids_changes_of_a_sandbox() {
    let global = |rest: InForce| InForce { global_policy: true, ..rest };
    assert_eq!(word(&decide(&write(Origin::Own), &global(InForce::default()))), "governed");
    assert_eq!(word(&decide(&write(Origin::Proxied), &global(governed()))), "governed");
    // The gateway gives its own answer.
    assert_eq!(word(&decide(&write(Origin::Proxied), &global(InForce::default()))), "pass");
}

#[test]
fn a_refusal_says_what_forbids_it_and_what_to_do() {
    let Verdict::Refuse(refusal) = decide(&write(Origin::Own), &pinned()) else { panic!() };
    let Error::Explained { reason, why, facts } = Error::from(refusal) else { panic!() };
    assert_eq!(reason, Reason::PolicyPinned);
    let until = minute(60).to_string();
    let expected = [("pinned_by", "ana@example.com"), ("reason", "audit"), ("until", &until)];
    assert_eq!(facts, expected.map(|(key, fact)| (key, fact.to_owned())));
    assert!(why.contains("`ana@example.com` until 1970") && why.ends_with(": audit"), "{why}");
    let sandboxes = (0..25).map(|at| SandboxName { name: format!("s{at}"), ..sandbox() });
    let governed = Governed {
        by: GovernedBy::Pins,
        sandboxes: sandboxes.collect(),
        instead: crate::governance::Instead::RemoveRule,
    };
    let refusal = Error::from(Refusal::Governed(governed));
    let Error::Explained { reason, why, facts } = refusal else { panic!() };
    assert_eq!(reason, Reason::Governed);
    assert!(facts.contains(&("rule", "pins".to_owned())), "{facts:?}");
    assert!(facts.contains(&("sandbox_20", "s19".to_owned())), "{facts:?}");
    assert!(facts.iter().any(|(key, _)| *key == "instead") && facts.len() == 22, "{facts:?}");
    assert!(why.contains("`s19` and 5 more") && !why.contains("`s20`"), "{why}");
    let refusal = Error::from(Refusal::ApprovalModeAuto(RuleScope::Workspace("lab".to_owned())));
    let Error::Explained { reason, facts, .. } = refusal else { panic!() };
    assert_eq!(reason, Reason::ApprovalModeAuto);
    assert!(
        matches!(&*facts, [("rule", rule), ("setting", _)] if rule.contains("lab")),
        "{facts:?}"
    );
}

#[test]
fn a_scope_contains_itself_and_narrower_ones() {
    let [gateway, workspace, own] = RuleScope::of_sandbox(&sandbox());
    let other = RuleScope::Workspace("other".to_owned());
    for (wide, narrow, contains) in [
        (&gateway, &own, true),
        (&gateway, &gateway, true),
        (&workspace, &own, true),
        (&workspace, &gateway, false),
        (&own, &workspace, false),
        (&other, &own, false),
    ] {
        assert_eq!(wide.contains(narrow), contains, "{wide} {narrow}");
    }
    assert!(RuleScope::of_sandbox(&sandbox()).iter().all(|scope| scope.applies_to(&sandbox())));
    assert!(!other.applies_to(&sandbox()));
}

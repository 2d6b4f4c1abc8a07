//! Rules: limits, storage, and comparisons by example.

use super::examples::{named, rule};
use crate::governance::{
    GROUPS_MAX, REQUIRED_MAX, Rule, RuleColumns, VOTERS_MAX, VoterSet, weakens,
};
use crate::role::Role;

fn operators(required: u32) -> Rule {
    rule(&[(required, VoterSet::of_role(Role::Operator))])
}

fn is_weaker(old: &Rule, new: &Rule) -> bool {
    weakens(std::slice::from_ref(old), Some(new))
}

#[test]
fn a_rule_within_its_limits_is_valid_and_one_past_a_limit_is_not() {
    let many =
        |count: usize, required| rule(&vec![(required, VoterSet::of_role(Role::Operator)); count]);
    let names = |count: usize| {
        let ids: Vec<i64> = (1..).take(count).collect();
        rule(&[(1, named(&ids, &[], &[]))])
    };
    let clocks = |escalation, expire, apply| Rule {
        escalation_timeout_minutes: escalation,
        expire_minutes: expire,
        apply_window_minutes: apply,
        ..operators(1)
    };
    for valid in [
        many(GROUPS_MAX, 1),
        operators(REQUIRED_MAX),
        names(VOTERS_MAX),
        clocks(Some(1), 5, 5),
        clocks(Some(10_080), 129_600, 10_080),
    ] {
        assert_eq!(valid.check(), Ok(()), "{valid:?}");
    }
    for (invalid, field) in [
        (many(GROUPS_MAX + 1, 1), "groups"),
        (many(3, 7), "groups"),
        (operators(REQUIRED_MAX + 1), "groups[0].required"),
        (names(VOTERS_MAX + 1), "groups[0].voters"),
        (rule(&[(1, named(&[2, 2], &[], &[]))]), "groups[0].voters.users"),
        (rule(&[(1, VoterSet::of_role(Role::None))]), "groups[0].voters.role"),
        (clocks(Some(0), 5, 5), "escalation_timeout_minutes"),
        (clocks(Some(10_081), 5, 5), "escalation_timeout_minutes"),
        (clocks(None, 4, 5), "expire_minutes"),
        (clocks(None, 129_601, 5), "expire_minutes"),
        (clocks(None, 5, 4), "apply_window_minutes"),
        (clocks(None, 5, 10_081), "apply_window_minutes"),
        (Rule { required_groups: 2, ..operators(1) }, "required_groups"),
        (
            Rule { escalation: Some(named(&[1], &[], &[])), ..operators(1) },
            "escalation_timeout_minutes",
        ),
    ] {
        assert_eq!(invalid.check().unwrap_err().field, field, "{invalid:?}");
    }
    let mut twice = many(2, 1);
    let first = twice.groups[0].name.clone();
    twice.groups[1].name = first;
    assert_eq!(twice.check().unwrap_err().field, "groups[1].name");
    twice.groups[1].name = "a\nb".to_owned();
    assert_eq!(twice.check().unwrap_err().field, "groups[1].name");
}

#[test]
fn columns_alone_make_a_simple_rule() {
    let columns = RuleColumns {
        required_approvals: 2,
        required_roles_json: r#"["admin","operator"]"#.to_owned(),
        distinct_actors: true,
        escalation_timeout_minutes: Some(60),
        rule_json: None,
    };
    let read = Rule::from_columns(&columns).unwrap();
    assert_eq!(read.groups[0].required, 2);
    assert_eq!(read.groups[0].voters, VoterSet::of_role(Role::Operator));
    assert_eq!(read.escalation_timeout_minutes, Some(60));
    let empty = RuleColumns { required_roles_json: "[]".to_owned(), ..columns.clone() };
    assert_eq!(Rule::from_columns(&empty).unwrap(), read);
    // A simple rule needs no JSON.
    let stored = read.to_columns().unwrap();
    assert_eq!(stored.rule_json, None);
    assert_eq!(Rule::from_columns(&stored).unwrap(), read);
    for (roles, required) in
        [(r#"["owner"]"#, 1), ("operator", 1), ("[]", 0), ("[]", 21), ("[]", -1)]
    {
        let bad = RuleColumns {
            required_roles_json: roles.to_owned(),
            required_approvals: required,
            ..columns.clone()
        };
        assert!(Rule::from_columns(&bad).is_err(), "{roles} {required}");
    }
}

#[test]
fn a_rule_with_groups_is_stored_as_json_with_a_true_summary() {
    let admins = VoterSet { role: Role::Admin, ..named(&[1], &[], &[]) };
    let mut complex = rule(&[(3, named(&[], &[7], &[2])), (2, admins), (4, named(&[5], &[], &[]))]);
    complex.required_groups = 2;
    let stored = complex.to_columns().unwrap();
    assert_eq!(stored.required_approvals, 5);
    assert_eq!(stored.required_roles_json, r#"["viewer","admin"]"#);
    assert_eq!(Rule::from_columns(&stored).unwrap(), complex);
}

#[test]
fn g08_a_stored_rule_that_is_not_understood_is_an_error() {
    let stored = rule(&[(1, named(&[1], &[], &[]))]).to_columns().unwrap();
    let json = stored.rule_json.clone().unwrap();
    for bad in [
        String::new(),
        "{}".to_owned(),
        json.replacen('{', r#"{"quorum":1,"#, 1),
        json.replace(r#""required":1"#, r#""required":0"#),
        json.replace("viewer", "owner"),
    ] {
        let columns = RuleColumns { rule_json: Some(bad.clone()), ..stored.clone() };
        assert!(Rule::from_columns(&columns).is_err(), "{bad}");
    }
}

#[test]
fn g07_a_stricter_rule_is_not_weaker() {
    let two = operators(2);
    let admins = rule(&[(2, VoterSet::of_role(Role::Admin))]);
    let owners = (1, named(&[1], &[], &[]));
    let more = rule(&[(2, VoterSet::of_role(Role::Operator)), owners.clone()]);
    let sooner = Rule { expire_minutes: 60, apply_window_minutes: 60, ..two.clone() };
    for stricter in [&two, &operators(3), &admins, &more, &sooner] {
        assert!(!is_weaker(&two, stricter), "{stricter:?}");
    }
    assert!(!weakens(&[], Some(&two)));
    assert!(!weakens(&[], None));
}

#[test]
fn g07_a_weaker_or_a_different_rule_is_weaker() {
    let two = operators(2);
    let viewers = rule(&[(2, VoterSet::of_role(Role::Viewer))]);
    let named_operators = VoterSet { role: Role::Operator, ..named(&[1, 2], &[], &[]) };
    let restricted = rule(&[(2, named_operators.clone())]);
    let with_program = VoterSet { service_principals: vec![1], ..named_operators };
    let one_of_two = Rule {
        required_groups: 1,
        ..rule(&[(2, VoterSet::of_role(Role::Operator)), (1, named(&[1], &[], &[]))])
    };
    let escalating = Rule {
        escalation: Some(named(&[9], &[], &[])),
        escalation_timeout_minutes: Some(60),
        ..two.clone()
    };
    let earlier = Rule { escalation_timeout_minutes: Some(59), ..escalating.clone() };
    for (old, new) in [
        (&two, &operators(1)),
        (&two, &viewers),
        (&two, &one_of_two),
        (&two, &escalating),
        (&escalating, &earlier),
        (&two, &Rule { distinct_actors: false, ..two.clone() }),
        (&two, &Rule { expire_minutes: two.expire_minutes + 1, ..two.clone() }),
        (&two, &Rule { apply_window_minutes: 10_080, ..two.clone() }),
        (&restricted, &two),
        (&restricted, &rule(&[(2, with_program)])),
        (&one_of_two, &operators(1)),
    ] {
        assert!(is_weaker(old, new), "{old:?} {new:?}");
    }
    assert!(!is_weaker(&two, &restricted));
    assert!(weakens(&[two], None));
}

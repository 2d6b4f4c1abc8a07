//! The lists of governance are complete: each invariant, complaint and former weak point has its tests, and each event,
//! reason and action is in a test.

use std::collections::BTreeSet;

use shoreguard::access::action::Action;
use shoreguard::access::policy::{METHODS, UPSTREAM_V0_0, UPSTREAM_V0_1};
use shoreguard::outbox::event_types::ALL;

use super::{Faults, read_file, rust_files};

const INVARIANTS: &str = "src/governance/mod.rs";
const WEAK_POINTS: &str = "docs/migration.md";

/// Complaints about approval systems, each with a test of exactly this name that runs on both engines.
const COMPLAINTS: [&str; 21] = [
    "a_full_write_keeps_marks",
    "an_edit_keeps_no_votes",
    "applied_is_never_denied_later",
    "base_mover_is_no_author",
    "bulk_approval_is_no_bypass",
    "bulk_approval_is_no_bypass_of_a_proposal",
    "everything_reviewed_is_visible",
    "failed_gateway_keeps_votes",
    "one_person_many_clicks_counts_once",
    "owners_can_be_and",
    "payload_after_approval_starts_over",
    "payload_after_approval_starts_over_of_a_proposal",
    "proposer_is_told_the_outcome",
    "recreated_group_does_not_match",
    "repeated_ask_keeps_its_votes_of_a_proposal",
    "repeated_ask_keeps_its_votes_on_0_0",
    "repeated_ask_keeps_its_votes_on_0_1",
    "request_ids_are_never_ours",
    "stale_token_shows_the_new_diff",
    "two_and_one_needs_three_people",
    "zero_count_never_passes",
];

/// Weak points of the predecessor that no longer exist.
const GONE: [u32; 33] = [
    1, 2, 3, 4, 6, 7, 9, 10, 13, 21, 22, 25, 26, 28, 29, 30, 31, 33, 34, 40, 50, 52, 56, 57, 58,
    59, 67, 68, 86, 90, 96, 97, 98,
];

/// Reasons of refusals by rules and reviews.
const REASONS: [&str; 12] = [
    "APPROVAL_MODE_AUTO",
    "APPROVAL_REQUIRED",
    "GOVERNED",
    "NOT_A_VOTER",
    "OWN_CHANGE",
    "POLICY_PINNED",
    "POLICY_STATIC",
    "POLICY_UNREADABLE",
    "QUORUM_UNREACHABLE",
    "REVIEW_STALE",
    "ROUND_CLOSED",
    "WRITE_IN_FLIGHT",
];

/// Returns the names of all functions and test modules.
fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in rust_files(&["src", "crates", "tests"]) {
        for (_, line) in file.lines() {
            let line = line.trim_start();
            for word in ["fn ", "async fn ", "mod "] {
                let Some(rest) = line.strip_prefix(word) else { continue };
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                names.insert(rest.split(|c| !is_part(c)).next().unwrap_or_default().to_owned());
            }
        }
    }
    names
}

/// Returns the quoted words of a text.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the texts of the integration tests, apart from those in this folder.
fn tests() -> Vec<String> {
    let files = rust_files(&["tests/it"]).into_iter();
    files.filter(|file| !file.path.contains("/tidy/")).map(|file| file.text).collect()
}

/// Returns the names of the tests with a server that run on both engines.
fn on_both_engines() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for text in tests() {
        for list in ["server_tests! {", "server_tests_without_jobs! {"] {
            for part in text.split(list).skip(1) {
                let listed = part.split('}').next().unwrap_or_default();
                names.extend(listed.split([',', '\n', ' ']).map(str::to_owned));
            }
        }
    }
    names
}

#[test]
fn every_invariant_is_listed_with_tests_that_have_its_number() {
    let (names, mut faults) = (names(), Faults::default());
    let text = read_file(INVARIANTS).text.replace("\n//!", "");
    let (_, list) = text.split_once("Invariants of governance").unwrap();
    for number in 1..=15 {
        let (start, end) = (format!(" {number}. "), format!(" {}. ", number + 1));
        let (_, item) = list.split_once(&start).unwrap_or_else(|| panic!("{start}"));
        let item = item.split(&end).next().unwrap();
        let prefix = format!("g{number:02}_");
        let own = quoted(item).filter(|name| name.starts_with(&prefix));
        let own: Vec<&str> = own.filter(|name| names.contains(*name)).collect();
        if own.is_empty() {
            let rule = format!("name a test `{prefix}..` for invariant {number}");
            faults.add(INVARIANTS, 1, &rule);
        }
    }
    for name in quoted(list.split("mod change;").next().unwrap()) {
        let is_test = name.matches('_').count() >= 2 && !name.contains(':') && !name.contains('.');
        if is_test && !names.contains(name) {
            faults.add(INVARIANTS, 1, &format!("no test is named `{name}`"));
        }
    }
    faults.assert_none();
}

#[test]
fn every_complaint_has_its_test_on_both_engines() {
    let names = on_both_engines();
    let missing: Vec<&&str> = COMPLAINTS.iter().filter(|name| !names.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_former_weak_point_is_listed_with_its_tests() {
    let (names, mut faults) = (names(), Faults::default());
    let document = read_file(WEAK_POINTS);
    for number in GONE {
        let start = format!("| WP{number:02} |");
        let Some((line, row)) = document.lines().find(|(_, row)| row.starts_with(&start)) else {
            faults.add(WEAK_POINTS, 1, &format!("WP{number:02} has no row"));
            continue;
        };
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        if quoted(tests).next().is_none() {
            faults.add(WEAK_POINTS, line, "name a test");
        }
        for name in quoted(tests).filter(|name| !names.contains(*name)) {
            faults.add(WEAK_POINTS, line, &format!("no test is named `{name}`"));
        }
    }
    let rows = document.lines().filter(|(_, row)| row.starts_with("| WP")).count();
    assert_eq!(rows, GONE.len(), "each row is in the list of this test");
    faults.assert_none();
}

#[test]
fn every_event_reason_and_action_of_governance_is_in_a_test() {
    let tests = tests();
    let is_tested = |word: &str| tests.iter().any(|text| text.contains(&format!("\"{word}\"")));
    let is_of = |name: &str| name.starts_with("approval") || name.starts_with("policy");
    let events = ALL.iter().map(|(event_type, _)| event_type.name()).filter(|name| is_of(name));
    // The actions of rpcs are those of their rows, which other tests walk.
    let of_rpcs: BTreeSet<&str> = METHODS.iter().map(|method| method.action.as_str()).collect();
    let rows = UPSTREAM_V0_0.iter().chain(UPSTREAM_V0_1).filter_map(|row| row.policy.as_ref());
    let of_rows: BTreeSet<&str> = rows.map(|guard| guard.action.as_str()).collect();
    let actions = Action::ALL.iter().map(|action| action.as_str());
    let others =
        actions.filter(|name| is_of(name) && !of_rpcs.contains(name) && !of_rows.contains(name));
    let words = REASONS.into_iter().chain(events).chain(others);
    let missing: Vec<&str> = words.filter(|word| !is_tested(word)).collect();
    assert!(missing.is_empty(), "in no test: {missing:?}");
    let documented = read_file("proto/shoreguard/v1/common.proto").text;
    for reason in REASONS {
        assert!(documented.contains(&format!("ERROR_REASON_{reason} = ")), "{reason}");
    }
}

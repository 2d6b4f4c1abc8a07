//! Tests of the content of drafts.

use bytes::Bytes;
use prost::Message as _;

use super::*;
use crate::resources::approvals::drafts::quoting;
use crate::resources::approvals::drafts::samples::chunk;
use shoreguard_proto::v0_1::openshell::sandbox::v1 as proto;

const GENERATION: Generation = Generation::V0_1;

fn empty() -> Policy {
    Policy::decode(GENERATION, &[]).unwrap()
}

fn with_findings(chunk: &DraftChunk, verdict: &str, notes: &str) -> DraftContent {
    let (security_notes, validation_result) = (notes.to_owned(), verdict.to_owned());
    let chunk = DraftChunk { security_notes, validation_result, ..chunk.clone() };
    DraftContent::of(&empty(), &chunk).unwrap()
}

#[test]
fn a_stored_draft_is_read_as_it_was() {
    let content = with_findings(&chunk("c", "a.example"), "bad: x\n  worse: y", "note");
    assert_eq!(content.findings, ["bad: x", "note", "worse: y"]);
    let stored = content.encode();
    let read = DraftContent::decode(GENERATION, &stored).unwrap();
    assert_eq!(read.encode(), stored);
    assert!(content.covers(&read) && read.result.has_rules());
    for length in 0..stored.len() {
        assert!(DraftContent::decode(GENERATION, &stored[..length]).is_err(), "{length}");
    }
    let undo = UndoContent {
        chunk_id: "c".to_owned(),
        rule_name: "a".to_owned(),
        before: content.result,
        after: empty(),
    };
    let read = UndoContent::decode(GENERATION, &undo.encode()).unwrap();
    assert_eq!(read.encode(), undo.encode());
}

#[test]
fn fewer_findings_are_covered_and_a_new_one_or_another_result_is_not() {
    let asked = chunk("c", "a.example");
    let none = with_findings(&asked, "prover: no new findings", "");
    let one = with_findings(&asked, "prover: 1 new finding\n  link: x", "");
    let two = with_findings(&asked, "prover: 2 new findings\n  link: x\n  link: y", "");
    assert!(none.findings.is_empty());
    assert!(two.covers(&one) && two.covers(&none) && one.covers(&none));
    assert!(!none.covers(&one) && !one.covers(&two));
    let other = with_findings(&chunk("c", "b.example"), "", "");
    assert!(!none.covers(&other));
    // A repeated ask has another id.
    assert!(none.covers(&with_findings(&chunk("d", "a.example"), "", "")));
    // The rule exists by now, so that the proposed one would change nothing.
    let base = empty().edited(&[Edit::add_proposed_rule(
        GENERATION,
        &asked.rule_name,
        &asked.proposed_rule,
    )
    .unwrap()]);
    let later = DraftContent::of(&base.unwrap(), &asked).unwrap();
    assert!(!later.result.has_rules() && !none.covers(&later));
}

#[test]
fn t20_a_draft_that_is_too_large_or_has_the_id_of_a_proposal_is_not_reviewed() {
    let long = "x".repeat(101);
    for bad in ["", "policy.apply:1", "a\nb", "a\u{202e}b", long.as_str()] {
        assert!(!is_chunk_id(bad) && DraftContent::of(&empty(), &chunk(bad, "a")).is_err());
    }
    assert!(is_chunk_id(&"x".repeat(100)));
    let endpoints = (0..4_000).map(|n| proto::NetworkEndpoint {
        host: format!("host-{n}.example"),
        port: 443,
        ..Default::default()
    });
    let rule = proto::NetworkPolicyRule { endpoints: endpoints.collect(), ..Default::default() };
    let proposed_rule = Bytes::from(rule.encode_to_vec());
    let large = DraftChunk { proposed_rule, ..chunk("c", "a.example") };
    let error = DraftContent::of(&empty(), &large).unwrap_err();
    assert!(matches!(error, Error::Refused { reason: Reason::LimitReached, .. }), "{error}");
}

#[test]
fn t20_a_draft_that_is_reviewed_has_at_most_64_kib() {
    let asked = chunk("c", "a.example");
    let without_notes = with_findings(&asked, "", "").encode().len();
    let of = |bytes: usize| {
        let bytes = bytes - without_notes;
        // Different lines of 64 bytes with their breaks. The first one fills what is left.
        let others = (bytes - 1) / 64;
        let first = std::iter::once("x".repeat(bytes - others * 64));
        let lines: Vec<String> = first.chain((0..others).map(|n| format!("{n:063}"))).collect();
        let security_notes = lines.join("\n");
        DraftContent::of(&empty(), &DraftChunk { security_notes, ..asked.clone() })
    };
    assert_eq!(of(DRAFT_BYTES_MAX).unwrap().encode().len(), DRAFT_BYTES_MAX);
    let error = of(DRAFT_BYTES_MAX + 1).unwrap_err();
    assert!(matches!(error, Error::Refused { reason: Reason::LimitReached, .. }), "{error}");
}

#[test]
fn t20_texts_of_an_agent_have_no_characters_that_readers_do_not_see() {
    let text = "a\u{202e}b\u{200b}c\u{1b}d".to_owned();
    let (rationale, stage) = (text.clone(), text.clone());
    let asked = DraftChunk { rationale, stage, security_notes: text, ..chunk("c", "a.example") };
    let facts = DraftFacts::of(&asked);
    assert_eq!([facts.rationale.as_str(), facts.stage.as_str()], ["a b c d"; 2]);
    // Three in each text, and in the finding.
    assert_eq!(facts.quoting, Quoting { replaced: 9, is_cut: false });
    let long =
        DraftFacts::of(&DraftChunk { rationale: "\u{1f980}".repeat(5_000), ..asked.clone() });
    assert!(long.quoting.is_cut && long.rationale.len() < quoting::ITEM_BYTES_MAX, "{long:?}");
    assert_eq!(DraftContent::of(&empty(), &asked).unwrap().findings, ["a b c d"]);
}

#[test]
fn the_words_of_an_agent_have_no_credentials_of_urls() {
    let rationale = "see https://me:hidden@a.example/x?token=hidden\nplease".to_owned();
    let facts = DraftFacts::of(&DraftChunk { rationale, ..chunk("c", "a.example") });
    assert_eq!(facts.rationale, "see https://a.example/x please");
}

#[test]
fn t20_a_finding_that_is_cut_differs_by_what_is_not_shown_and_is_reported() {
    let asked = chunk("c", "a.example");
    let beginning = "x".repeat(FINDING_CHARACTERS_MAX);
    let found = |end: &str| with_findings(&asked, "", &format!("{beginning}{end}"));
    let (mild, severe) = (found(" is fine"), found(" is dangerous"));
    assert!(mild.findings.iter().all(|line| line.chars().count() == FINDING_CHARACTERS_MAX));
    assert!(mild.covers(&mild) && !mild.covers(&severe) && mild.encode() != severe.encode());
    for (security_notes, is_cut) in [(beginning.clone(), false), (format!("{beginning}y"), true)] {
        let facts = DraftFacts::of(&DraftChunk { security_notes, ..asked.clone() });
        assert_eq!(facts.quoting, Quoting { replaced: 0, is_cut });
    }
}

#[test]
fn t20_the_words_of_an_agent_are_cut_to_the_room_that_is_left() {
    let named = DraftFacts { rule_name: "rule".to_owned(), ..DraftFacts::default() };
    let facts = DraftFacts { rationale: "r".repeat(100), ..named };
    for (bytes, kept, is_cut) in [(104, 100, false), (103, 99, true), (8, 4, true), (7, 0, true)] {
        let mut fitted = facts.clone();
        fitted.fit(&mut Room::new(bytes));
        assert_eq!(fitted.rule_name, "rule");
        assert_eq!((fitted.rationale.len(), fitted.quoting.is_cut), (kept, is_cut), "{bytes}");
    }
}

#[test]
fn a_list_is_refreshed_when_what_it_shows_would_mislead() {
    let facts = DraftFacts { hits: 5, last_seen: Some(0), ..DraftFacts::default() };
    for (new, expected) in [
        (facts.clone(), false),
        (DraftFacts { hits: 9, ..facts.clone() }, false),
        (DraftFacts { hits: 10, ..facts.clone() }, true),
        (DraftFacts { last_seen: Some(299_999_999), ..facts.clone() }, false),
        (DraftFacts { last_seen: Some(300_000_000), ..facts.clone() }, true),
        (DraftFacts { rationale: "other".to_owned(), ..facts.clone() }, true),
        (DraftFacts { quoting: Quoting { replaced: 1, is_cut: false }, ..facts.clone() }, true),
    ] {
        assert_eq!(facts.is_outdated_by(&new), expected, "{new:?}");
    }
}

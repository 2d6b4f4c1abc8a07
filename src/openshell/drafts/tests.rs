//! How answers with draft chunks are read.

use prost::Message;

use super::*;
use crate::pb::v0_0::openshell::sandbox::v1 as policies;
use crate::pb::v0_0::openshell::v1 as old;
use crate::pb::v0_1::openshell::sandbox::v1 as new_policies;
use crate::pb::v0_1::openshell::v1 as new;

#[test]
fn a_chunk_of_an_unknown_status_may_be_approved() {
    let chunk = |id: &str, status: &str| old::PolicyChunk {
        id: id.to_owned(),
        status: status.to_owned(),
        ..Default::default()
    };
    let chunks = vec![
        chunk("a", "pending"),
        chunk("b", "rejected"),
        chunk("c", "approved"),
        chunk("d", "merged"),
        chunk("e", ""),
    ];
    let answer = old::GetDraftPolicyResponse { chunks, ..Default::default() }.encode_to_vec();
    for (id, expected) in [
        ("a", Some(ChunkStatus::Pending)),
        ("b", Some(ChunkStatus::Rejected)),
        ("c", Some(ChunkStatus::MaybeApproved)),
        ("d", Some(ChunkStatus::MaybeApproved)),
        ("e", Some(ChunkStatus::MaybeApproved)),
        ("f", None),
    ] {
        assert_eq!(find_status(&answer, id), Ok(expected), "{id}");
    }
}

#[test]
fn g08_a_list_of_chunks_that_is_malformed_after_the_first_has_no_status() {
    let chunk = |id: &str| old::PolicyChunk { id: id.to_owned(), ..Default::default() };
    let mut answer = old::GetDraftPolicyResponse { chunks: vec![chunk("a")], ..Default::default() }
        .encode_to_vec();
    // A group, which no message of this API has.
    answer.push(0x0b);
    answer.extend(
        old::GetDraftPolicyResponse { chunks: vec![chunk("b")], ..Default::default() }
            .encode_to_vec(),
    );
    assert_eq!(find_status(&answer, "a"), Err(MalformedMessage));
    assert_eq!(find_status(&answer, "b"), Err(MalformedMessage));
    // The status of the chunk follows a field that cannot be read.
    let mut broken = Vec::new();
    wire::put_bytes(&mut broken, CHUNKS, &[0x0a, 1, b'a', 0x0b, 0x12, 0]);
    assert_eq!(find_status(&broken, "a"), Err(MalformedMessage));
}

#[test]
fn chunks_of_both_generations_are_read_alike_with_their_rules_as_sent() {
    let endpoint =
        policies::NetworkEndpoint { host: "a.example".to_owned(), port: 443, ..Default::default() };
    let rule = policies::NetworkPolicyRule { endpoints: vec![endpoint], ..Default::default() };
    let sent = old::PolicyChunk {
        id: "c".to_owned(),
        status: "pending".to_owned(),
        rule_name: "allow_a".to_owned(),
        proposed_rule: Some(rule.clone()),
        hit_count: 7,
        created_at_ms: 1_000,
        last_seen_ms: 2_000,
        review_token: "t".to_owned(),
        candidate_effective_policy: Some(policies::SandboxPolicy::default()),
        ..Default::default()
    };
    let answer = old::GetDraftPolicyResponse { chunks: vec![sent], ..Default::default() };
    let read = read_chunks(Generation::V0_0, &answer.encode_to_vec().into()).unwrap();
    let [chunk] = &read[..] else { panic!() };
    assert_eq!(chunk.proposed_rule, rule.encode_to_vec());
    assert_eq!((chunk.id.as_str(), chunk.hits, chunk.status), ("c", 7, ChunkStatus::Pending));
    assert_eq!(chunk.created_at, Some(Timestamp::from_unix_micros(1_000_000)));
    assert_eq!(chunk.candidate_effective_policy, Some(Bytes::new()));
    assert_eq!(chunk.current_effective_policy, None);

    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let sent = new::PolicyChunk {
        id: "c".to_owned(),
        status: "pending".to_owned(),
        rule_name: "allow_a".to_owned(),
        proposed_rule: Some(new_policies::NetworkPolicyRule::default()),
        hit_count: 7,
        created_time: at(1),
        last_seen_time: at(2),
        review_token: "t".to_owned(),
        candidate_effective_policy: Some(new_policies::SandboxPolicy::default()),
        ..Default::default()
    };
    let answer = new::GetDraftPolicyResponse { chunks: vec![sent], ..Default::default() };
    let read = read_chunks(Generation::V0_1, &answer.encode_to_vec().into()).unwrap();
    let expected = DraftChunk { proposed_rule: Bytes::new(), ..chunk.clone() };
    assert_eq!(read, [expected]);
}

#[test]
fn g08_a_rule_that_is_sent_in_two_parts_is_not_guessed() {
    let mut chunk = Vec::new();
    wire::put_bytes(&mut chunk, 4, &[]);
    let answer = |chunk: &[u8]| {
        let mut answer = Vec::new();
        wire::put_bytes(&mut answer, CHUNKS, chunk);
        read_chunks(Generation::V0_0, &answer.into())
    };
    assert!(answer(&chunk).is_ok());
    wire::put_bytes(&mut chunk, 4, &[]);
    assert_eq!(answer(&chunk), Err(MalformedMessage));
    let mut invalid = Vec::new();
    wire::put_bytes(&mut invalid, ID, &[0xff]);
    assert_eq!(answer(&invalid), Err(MalformedMessage));
}

#[test]
fn g08_two_chunks_with_one_id_are_not_read() {
    let chunk = |id: &str, status: &str| old::PolicyChunk {
        id: id.to_owned(),
        status: status.to_owned(),
        ..Default::default()
    };
    let answer = |ids: &[(&str, &str)]| {
        let chunks = ids.iter().map(|(id, status)| chunk(id, status)).collect();
        old::GetDraftPolicyResponse { chunks, ..Default::default() }.encode_to_vec()
    };
    let once = answer(&[("a", "pending"), ("b", "approved")]);
    assert_eq!(find_status(&once, "a"), Ok(Some(ChunkStatus::Pending)));
    assert!(read_chunks(Generation::V0_0, &once.into()).is_ok());
    let twice = answer(&[("a", "pending"), ("b", "pending"), ("a", "approved")]);
    assert_eq!(find_status(&twice, "a"), Err(MalformedMessage));
    assert_eq!(read_chunks(Generation::V0_0, &twice.into()), Err(MalformedMessage));
}

//! Draft chunks for tests.

use bytes::Bytes;
use prost::Message as _;

use crate::openshell::drafts::{ChunkStatus, DraftChunk};
use shoreguard_proto::v0_1::openshell::sandbox::v1 as proto;

/// Returns a pending chunk of generation 0.1 that asks for a host.
pub(in crate::resources::approvals) fn chunk(id: &str, host: &str) -> DraftChunk {
    let endpoint =
        proto::NetworkEndpoint { host: host.to_owned(), port: 443, ..Default::default() };
    let binary = proto::NetworkBinary { path: "/usr/bin/curl".to_owned() };
    let rule = proto::NetworkPolicyRule {
        endpoints: vec![endpoint],
        binaries: vec![binary],
        ..Default::default()
    };
    DraftChunk {
        id: id.to_owned(),
        status: ChunkStatus::Pending,
        rule_name: "allow_it".to_owned(),
        proposed_rule: Bytes::from(rule.encode_to_vec()),
        hits: 1,
        binary: "/usr/bin/curl".to_owned(),
        ..DraftChunk::empty()
    }
}

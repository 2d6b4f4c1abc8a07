//! Measures the form of a policy that is reviewed and sent, and its digest, in memory.

use std::hint::black_box;
use std::time::Instant;

use prost::Message as _;
use shoreguard::pb::v0_1::openshell::sandbox::v1 as proto;
use shoreguard::policy::Policy;
use shoreguard_simulator::Generation;

use crate::figure::{Figure, Target};
use crate::{Bench, BoxError};

/// Size of the policy, encoded: the most that gateways accept.
const BYTES_MAX: usize = 256 << 10;
/// Policies per value.
const POLICIES: u32 = 10;

/// Returns a policy of many rules for one host each.
fn largest() -> Vec<u8> {
    let mut policy = proto::SandboxPolicy { version: 1, ..Default::default() };
    for number in 0.. {
        let endpoint = proto::NetworkEndpoint {
            host: format!("host-{number}.example"),
            port: 443,
            ..Default::default()
        };
        let rule = proto::NetworkPolicyRule {
            name: format!("rule-{number}"),
            endpoints: vec![endpoint],
            binaries: vec![proto::NetworkBinary { path: "/usr/bin/git".to_owned() }],
        };
        let name = rule.name.clone();
        policy.network_policies.insert(name.clone(), rule);
        if policy.encoded_len() > BYTES_MAX {
            policy.network_policies.remove(&name);
            break;
        }
    }
    policy.encode_to_vec()
}

/// Measures the decoding of the largest policy, its canonical form and the digest of that.
pub(in crate::cases) fn run(bench: &Bench) -> Result<(), BoxError> {
    let encoded = largest();
    let mut figure = Figure::default();
    for _ in 0..bench.options.rounds {
        let begun = Instant::now();
        for _ in 0..POLICIES {
            let policy = Policy::decode(Generation::V0_1, black_box(&encoded))?;
            black_box(policy.digest());
        }
        figure.add(begun.elapsed().as_secs_f64() * 1e3 / f64::from(POLICIES));
    }
    let name = format!("canonical form and digest of a policy of {} KiB", BYTES_MAX >> 10);
    figure.print(&name, "ms", Target::None)
}

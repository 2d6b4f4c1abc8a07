//! What a scrape of the metrics looks like.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use http::StatusCode;

use crate::commands::start_dev;
use crate::support::eventually;
use crate::support::http::get;
use crate::support::limit::block_on;

/// Families that a server has after a call of each kind, a tick of its workers and a probe.
const EXPECTED: &[&str] = &[
    "shoreguard_rpc_requests_total",
    "shoreguard_rpc_duration_seconds",
    "shoreguard_http_requests_total",
    "shoreguard_http_duration_seconds",
    "shoreguard_proxied_requests_total",
    "shoreguard_audit_batch_entries",
    "shoreguard_audit_commit_seconds",
    "shoreguard_audit_queue_entries",
    "shoreguard_worker_tick_seconds",
    "shoreguard_worker_ticks_total",
    "shoreguard_access_snapshot_age_seconds",
    "shoreguard_gateway_probes_total",
    "shoreguard_connections",
];

/// The lines of one type before the samples: `# HELP` or `# TYPE`, by family.
fn comments<'a>(scrape: &'a str, prefix: &str) -> BTreeMap<&'a str, &'a str> {
    let lines = scrape.lines().filter_map(|line| line.strip_prefix(prefix)?.split_once(' '));
    let mut found = BTreeMap::new();
    for (family, text) in lines {
        assert!(found.insert(family, text).is_none(), "`{prefix}` of `{family}` appears twice");
    }
    found
}

/// Returns the family of a sample: a histogram adds a suffix to its name.
fn family<'a>(sample: &'a str, types: &BTreeMap<&str, &str>) -> &'a str {
    let name = &sample[..sample.find(['{', ' ']).unwrap()];
    let stripped = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    let is_histogram = |name: &&str| types.get(*name) == Some(&"histogram");
    stripped.filter(is_histogram).unwrap_or(name)
}

#[test]
fn every_scraped_family_has_help_and_a_type() {
    block_on(async {
        let data = tempfile::tempdir().unwrap();
        let dev = start_dev(data.path());
        dev.admin(&["ListGateways"]);
        dev.admin(&["--gateway", "dev-0-1", "OpenShell/ListSandboxes"]);
        dev.admin(&["CreateGroup", r#"{"name":"ops","role":"ROLE_VIEWER"}"#]);
        let address =
            |key: &str| -> SocketAddr { dev.about[key].as_str().unwrap().parse().unwrap() };
        let document = "/gateways/dev-0-1/.well-known/openid-configuration";
        assert_eq!(get(address("listen"), document).await.status, StatusCode::OK);
        let scrape = async || {
            let response = get(address("metrics"), "/metrics").await;
            String::from_utf8(response.body.to_vec()).unwrap()
        };
        eventually("every family was recorded", async || {
            let text = scrape().await;
            EXPECTED.iter().all(|name| text.contains(&format!("\n# TYPE {name} ")))
        })
        .await;

        let text = scrape().await;
        let (help, types) = (comments(&text, "# HELP "), comments(&text, "# TYPE "));
        let samples = text.lines().filter(|line| line.starts_with("shoreguard_"));
        let mut count = 0;
        for sample in samples {
            let family = family(sample, &types);
            assert!(help.get(family).is_some_and(|text| !text.is_empty()), "no help: {sample}");
            let kind = types.get(family).unwrap_or_else(|| panic!("no type: {sample}"));
            assert_eq!(*kind == "counter", family.ends_with("_total"), "{sample}");
            count += 1;
        }
        assert!(count > EXPECTED.len(), "{text}");
    });
}

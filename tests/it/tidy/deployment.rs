//! The files in `deploy/` match the program: metrics, versions, paths and limits.

use std::collections::BTreeSet;

use shoreguard::telemetry::metrics::{METRICS, MetricKind};

use super::{read_file, read_files};

const RULES: &str = "deploy/prometheus/rules.yml";
const RULE_TESTS: &str = "deploy/prometheus/rules_test.yml";
const DASHBOARD: &str = "deploy/grafana/dashboard.json";
const HELM: &str = "deploy/helm/shoreguard";

/// Endings of the series of a histogram.
const HISTOGRAM_SERIES: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Returns the words of a text that begin as metrics do.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("shoreguard_")).collect()
}

/// Returns the names of all series in a scrape.
fn series() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter | MetricKind::Gauge => {
                all.insert(metric.name.to_owned());
            }
            MetricKind::Histogram(_) => {
                all.extend(HISTOGRAM_SERIES.map(|end| format!("{}{end}", metric.name)));
            }
        }
    }
    all
}

/// Returns the values of lines such as `alert: Name`, in order.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let start = format!("{key}: ");
    let found = text.lines().filter_map(|line| {
        let (_, value) = line.split_once(&start)?;
        Some(value.trim_end_matches('}').split(',').next().unwrap_or_default().trim())
    });
    found.collect()
}

#[test]
fn rules_and_dashboard_name_only_series_that_a_scrape_has() {
    let series = series();
    for path in [RULES, RULE_TESTS, DASHBOARD] {
        let file = read_file(path);
        let named = metrics_in(&file.text);
        assert!(!named.is_empty(), "{path}");
        let unknown: Vec<_> = named.iter().filter(|name| !series.contains(**name)).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
}

#[test]
fn every_metric_is_in_the_dashboard() {
    let dashboard = read_file(DASHBOARD).text;
    let named = metrics_in(&dashboard);
    for metric in METRICS {
        let is_shown = match metric.kind {
            MetricKind::Counter | MetricKind::Gauge => named.contains(metric.name),
            MetricKind::Histogram(_) => HISTOGRAM_SERIES
                .iter()
                .any(|end| named.contains(format!("{}{end}", metric.name).as_str())),
        };
        assert!(is_shown, "add a panel for `{}` to {DASHBOARD}", metric.name);
    }
}

#[test]
fn every_alert_has_a_test_that_it_fires_and_one_that_it_does_not_and_is_documented() {
    let (rules, tests) = (read_file(RULES).text, read_file(RULE_TESTS).text);
    let document = read_file("docs/deployment.md").text;
    let alerts = values(&rules, "alert");
    assert!(!alerts.is_empty());
    for alert in &alerts {
        let cases = values(&tests, "alertname").iter().filter(|name| *name == alert).count();
        assert!(cases >= 2, "{RULE_TESTS}: `{alert}` has {cases} cases");
        assert!(document.contains(&format!("`{alert}`")), "docs/deployment.md: `{alert}`");
    }
    assert_eq!(tests.matches("exp_alerts: []").count(), alerts.len());
}

#[test]
fn the_dashboard_is_json_with_numbered_panels() {
    let dashboard: serde_json::Value = serde_json::from_str(&read_file(DASHBOARD).text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(!panel["targets"].as_array().unwrap().is_empty(), "{panel}");
    }
}

#[test]
fn versions_are_those_of_the_program() {
    let version = env!("CARGO_PKG_VERSION");
    let chart = read_file(&format!("{HELM}/Chart.yaml")).text;
    assert_eq!(values(&chart, "appVersion"), [format!("\"{version}\"")]);
    let compose = read_file("deploy/compose/compose.yaml").text;
    assert!(compose.contains(&format!("shoreguard:{version}}}")), "deploy/compose/compose.yaml");
    for page in ["docs/deployment.md", "docs/quickstart.md"] {
        let package = format!("shoreguard_{version}_amd64.deb");
        assert!(read_file(page).text.contains(&package), "{page}");
    }
}

#[test]
fn variables_in_deployments_are_keys_of_the_configuration() {
    let documented = read_file("docs/configuration.md").text;
    let key_exists = |name: &str| {
        let rest = name.trim_start_matches("SHOREGUARD_").to_ascii_lowercase();
        let mut sections = documented.split("\n## `[").skip(1);
        sections.any(|section| {
            let (path, keys) = section.split_once(']').unwrap();
            let prefix = format!("{}_", path.trim_start_matches('[').replace('.', "_"));
            rest.strip_prefix(&prefix).is_some_and(|key| keys.contains(&format!("\n- `{key}`:")))
        })
    };
    for folder in ["deploy/docker", "deploy/helm/shoreguard/templates"] {
        for file in read_files(&[folder]) {
            let words = file.text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for name in words.filter(|word| word.starts_with("SHOREGUARD_")) {
                assert!(key_exists(name), "{}: `{name}`", file.path);
            }
        }
    }
}

//! The files in `deploy/` match the program: metrics, versions, paths and limits.

use std::collections::BTreeSet;
use std::path::Path;

use shoreguard::cli;
use shoreguard::config::Config;
use shoreguard::telemetry::metrics::{METRICS, MetricKind};

use super::{read_file, read_files};
use crate::support::limit;

const RULES: &str = "deploy/prometheus/rules.yml";
const RULE_TESTS: &str = "deploy/prometheus/rules_test.yml";
const DASHBOARD: &str = "deploy/grafana/dashboard.json";
const HELM: &str = "deploy/helm/shoreguard";
const COMPOSE: &str = "deploy/compose/compose.yaml";
const UNIT: &str = "deploy/systemd/shoreguard.service";
const OPENRC: &str = "deploy/package/shoreguard.openrc";
const CHECKS: &str = "scripts/deploy-check";

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

/// Returns the documented keys, such as `server.tls.cert_path`, and their sections.
fn documented_keys() -> (BTreeSet<String>, BTreeSet<String>) {
    let document = read_file("docs/configuration.md").text;
    let (mut keys, mut sections) = (BTreeSet::new(), BTreeSet::new());
    for section in document.split("\n## `[").skip(1) {
        let (path, body) = section.split_once(']').unwrap();
        let path = path.trim_start_matches('[');
        sections.insert(path.to_owned());
        let lines = body.lines().filter_map(|line| line.strip_prefix("- `")?.split_once("`:"));
        keys.extend(lines.map(|(key, _)| format!("{path}.{key}")));
    }
    (keys, sections)
}

/// Returns the words of a text that begin as variables do, except for forms such as `SHOREGUARD_<SECTION>_<KEY>`.
fn variables_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("SHOREGUARD_") && !word.ends_with('_')).collect()
}

/// Variables that no server gets: those of the command line, of `scripts/deploy-check`, and of Compose.
const NO_KEYS: [&str; 5] = [
    "SHOREGUARD_BIN",
    "SHOREGUARD_CONFIG",
    "SHOREGUARD_ENDPOINT",
    "SHOREGUARD_IMAGE",
    "SHOREGUARD_KEY",
];

#[test]
fn variables_in_deployments_are_keys_of_the_configuration() {
    let (keys, _) = documented_keys();
    let variable = |key: &String| format!("SHOREGUARD_{}", key.replace('.', "_").to_uppercase());
    let variables: BTreeSet<String> = keys.iter().map(variable).collect();
    let pages = ["docs/deployment.md", "docs/operations.md", "docs/quickstart.md", CHECKS];
    let mut others = BTreeSet::new();
    for file in read_files(&["deploy"]).into_iter().chain(pages.map(read_file)) {
        for name in variables_in(&file.text) {
            if NO_KEYS.contains(&name) {
                others.insert(name.to_owned());
            } else {
                assert!(variables.contains(name), "{}: `{name}`", file.path);
            }
        }
    }
    assert_eq!(others.len(), NO_KEYS.len(), "only these are used: {others:?}");
}

fn is_python(path: impl AsRef<Path>) -> bool {
    path.as_ref().extension().is_some_and(|extension| extension == "py")
}

#[test]
fn keys_that_deployments_name_exist() {
    let (keys, sections) = documented_keys();
    let is_top = |top: &str| sections.iter().any(|path| path.split('.').next() == Some(top));
    let pages = ["docs/deployment.md", CHECKS].map(read_file);
    // Of the checks in Python, the words are variables.
    let files = read_files(&["deploy"]).into_iter().filter(|file| !is_python(&file.path));
    for file in files.chain(pages) {
        let words =
            file.text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '.'));
        for word in words.map(|word| word.trim_matches('.')) {
            let is_name =
                word.split_once('.').is_some_and(|(top, rest)| is_top(top) && rest != "md");
            let is_known = keys.contains(word) || sections.contains(word);
            assert!(!is_name || is_known, "{}: `{word}`", file.path);
        }
    }
}

#[test]
fn keys_in_configurations_exist_also_if_they_are_commented_out() {
    let (keys, sections) = documented_keys();
    for path in [
        "deploy/compose/shoreguard.toml",
        "deploy/systemd/shoreguard.toml",
        "deploy/systemd/credentials.conf",
    ] {
        let text = read_file(path).text;
        let (mut section, mut found) = ("", 0);
        for line in text.lines() {
            let line = line.trim_start_matches(['#', ' ']);
            if let Some((name, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                // Sections of systemd have capitals.
                let is_of_systemd = name.starts_with(char::is_uppercase);
                assert!(is_of_systemd || sections.contains(name), "{path}: `[{name}]`");
                section = if is_of_systemd { "" } else { name };
            } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !section.is_empty()) {
                assert!(keys.contains(&format!("{section}.{key}")), "{path}: `{section}.{key}`");
                found += 1;
            }
        }
        assert!(found > 0, "{path} has keys");
    }
}

#[test]
fn values_of_the_chart_cannot_set_what_the_chart_sets() {
    let schema = read_file(&format!("{HELM}/values.schema.json")).text;
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let refused = &schema["properties"]["config"]["propertyNames"]["not"]["enum"];
    let refused: Vec<&str> =
        refused.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let template = read_file(&format!("{HELM}/templates/deployment.yaml")).text;
    let set = variables_in(&template);
    assert!(set.contains("SHOREGUARD_SERVER_LISTEN"), "{set:?}");
    let missing: Vec<_> = set.iter().filter(|name| !refused.contains(*name)).collect();
    assert!(missing.is_empty(), "add them to `config` in values.schema.json: {missing:?}");
}

/// Returns what is between two texts in a file, each time.
fn between(path: &str, start: &str, end: &str) -> Vec<String> {
    let text = read_file(path).text;
    let rests = text.split(start).skip(1);
    let found: Vec<String> = rests.map(|rest| rest.split_once(end).unwrap().0.to_owned()).collect();
    assert!(!found.is_empty(), "{path}: `{start}`");
    found
}

#[test]
fn commands_in_deployments_are_those_of_the_program() {
    let template = format!("{HELM}/templates/deployment.yaml");
    limit::block_on(async {
        for (path, start, end) in [
            (UNIT, "ExecStartPre=/usr/bin/shoreguard ", "\n"),
            (UNIT, "ExecStart=/usr/bin/shoreguard ", "\n"),
            (OPENRC, "command_args=\"", "\""),
            (OPENRC, "\"$command ", "\""),
            (COMPOSE, "\n    command: [", "]"),
            ("deploy/docker/Dockerfile", "\nCMD [", "]"),
            (template.as_str(), "\n          args: [", "]"),
        ] {
            for command in between(path, start, end) {
                let words = command.split([' ', ',', '"']).filter(|word| !word.is_empty());
                let words: Vec<String> =
                    ["shoreguard"].into_iter().chain(words).map(str::to_owned).collect();
                let done = cli::run_captured(words, Vec::new()).await;
                // The arguments are valid: only a process of its own is missing.
                let is_valid = done.stderr.contains("needs a process of its own");
                assert!(is_valid, "{path}: `{command}`: {done:?}");
            }
        }
    });
}

/// What a stop can take in addition to the time of calls in flight, in seconds: to write what is left, and to exit.
const STOP_MARGIN: u64 = 10;

#[test]
fn a_stop_gives_calls_in_flight_their_time() {
    let drain = Config::from_toml("").unwrap().server.drain_seconds;
    for (path, start, end, count) in [
        (COMPOSE, "stop_grace_period: ", "s\n", 2),
        ("deploy/compose/haproxy.cfg", "hard-stop-after ", "s\n", 1),
        (UNIT, "TimeoutStopSec=", "\n", 1),
        (OPENRC, "retry=\"TERM/", "/", 1),
        ("docs/deployment.md", "--stop-timeout=", " ", 1),
    ] {
        let times = between(path, start, end);
        assert_eq!(times.len(), count, "{path}");
        for time in times {
            assert!(time.parse::<u64>().unwrap() >= drain + STOP_MARGIN, "{path}: {time} s");
        }
    }
    let default = between(&format!("{HELM}/values.yaml"), "\ndrainSeconds: ", "\n");
    assert_eq!(default, [drain.to_string()]);
    let template = format!("{HELM}/templates/deployment.yaml");
    let pause: u64 = between(template.as_str(), "sleep: {seconds: ", "}")[0].parse().unwrap();
    let more: u64 =
        between(template.as_str(), "add .Values.drainSeconds ", " ")[0].parse().unwrap();
    assert!(more >= pause + STOP_MARGIN, "{more} s after a pause of {pause} s");
}

#[test]
fn the_parts_of_the_compose_project_fit_together() {
    let network = between(COMPOSE, "{subnet: ", "}");
    let trusted = between("deploy/compose/shoreguard.toml", "trusted_proxies = [\"", "\"]");
    assert_eq!(network, trusted, "the replicas trust the network of the proxy");
    let compose = read_file(COMPOSE).text;
    for path in [COMPOSE, "deploy/compose/shoreguard.toml", "deploy/compose/haproxy.cfg"] {
        let text = read_file(path).text;
        for rest in text.split("/run/secrets/").skip(1) {
            let is_end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            let name = rest.split(is_end).next().unwrap();
            assert!(compose.contains(&format!("\n  {name}: {{file: ")), "{path}: `{name}`");
        }
    }
    let port = Config::from_toml("").unwrap().server.listen.port();
    for path in [COMPOSE, "deploy/compose/haproxy.cfg", "deploy/docker/Dockerfile"] {
        assert!(read_file(path).text.contains(&port.to_string()), "{path}: {port}");
    }
}

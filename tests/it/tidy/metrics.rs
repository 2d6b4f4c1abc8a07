//! Metrics are named in one list, and each of them is emitted.

use super::{Faults, read_file, rust_files};

const LIST: &str = "src/telemetry/metrics.rs";

#[test]
fn metric_names_are_defined_only_in_the_list() {
    let mut faults = Faults::default();
    for file in rust_files(&["src"]).into_iter().filter(|file| file.path != LIST) {
        for (at, line) in file.lines() {
            if ["counter!(\"shoreguard_", "gauge!(\"shoreguard_", "histogram!(\"shoreguard_"]
                .iter()
                .any(|made| line.contains(made))
            {
                faults.add(&file.path, at, "take the name of the metric from `telemetry::metrics`");
            }
        }
    }
    faults.assert_none();
}

#[test]
fn every_metric_of_the_list_is_emitted() {
    let sources: Vec<String> = rust_files(&["src"])
        .into_iter()
        .filter(|file| file.path != LIST)
        .map(|file| file.text)
        .collect();
    let mut faults = Faults::default();
    for (at, line) in read_file(LIST).lines() {
        let named = line.strip_prefix("pub const ").and_then(|rest| rest.split_once(": &str"));
        let Some((name, _)) = named else { continue };
        if !sources.iter().any(|source| source.contains(name)) {
            faults.add(LIST, at, &format!("`{name}` is never emitted"));
        }
    }
    faults.assert_none();
}

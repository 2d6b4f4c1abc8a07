//! Families, capabilities and contradictions of versions.

use super::*;
use crate::status::code_and_reason;

const STOP: &str = "/openshell.v1.OpenShell/StopSandbox";
const TEMPLATES: &str = "/openshell.v1.OpenShell/ListSandboxTemplates";
const ROUTE: &str = "/openshell.inference.v1.Inference/GetInferenceRoute";

fn supported(generation: Generation, version: &str) -> Vec<Capability> {
    Capability::ALL.into_iter().filter(|c| c.is_supported(generation, version)).collect()
}

#[test]
fn capabilities_follow_from_generation_and_version() {
    use Capability::{
        CurrentUser, InferenceRoutes, MainProcessExit, ProviderCredentials, ProviderStatus,
        RequestIds, RootfsStaging, SandboxNames, SandboxTemplates, StartStop, SubjectTokens,
    };
    let old = [InferenceRoutes, CurrentUser, StartStop, MainProcessExit, SubjectTokens];
    let new = [
        CurrentUser,
        StartStop,
        MainProcessExit,
        SubjectTokens,
        SandboxTemplates,
        RootfsStaging,
        ProviderStatus,
        RequestIds,
        SandboxNames,
        ProviderCredentials,
    ];
    let table: [(&str, Generation, &[Capability]); 15] = [
        ("0.0.88", Generation::V0_0, &old[..1]),
        ("0.0.94", Generation::V0_0, &old[..1]),
        ("0.0.95", Generation::V0_0, &old[..2]),
        ("0.0.104", Generation::V0_0, &old[..2]),
        ("0.0.105", Generation::V0_0, &old[..3]),
        ("0.0.105-dev.3+gabc", Generation::V0_0, &old[..3]),
        ("0.0.110", Generation::V0_0, &old[..3]),
        ("0.0.111", Generation::V0_0, &old[..4]),
        ("0.0.113", Generation::V0_0, &old),
        ("0.0.116", Generation::V0_0, &old),
        ("0.1.0", Generation::V0_1, &new[..9]),
        ("0.1.4", Generation::V0_1, &new[..9]),
        ("0.1.5", Generation::V0_1, &new),
        // Configured, since the version cannot be parsed.
        ("latest", Generation::V0_0, &old),
        ("latest", Generation::V0_1, &new),
    ];
    for (version, generation, expected) in table {
        assert_eq!(supported(generation, version), expected, "{version} as {generation:?}");
    }
    assert_eq!(DetectedGeneration::from_version("0.0.36").known(), None, "nothing is asked of it");
}

#[test]
fn the_four_release_families_are_distinguished() {
    let table = [
        ("0.0.36", Family::Before0_0_37),
        ("0.0.37", Family::Before0_0_88),
        ("0.0.87", Family::Before0_0_88),
        ("0.0.88", Family::V0_0),
        ("0.0.112-dev.7+g2f7fb6559", Family::V0_0),
        ("0.0.116", Family::V0_0),
        ("0.0.117", Family::Unknown),
        ("v0.1.0", Family::V0_1),
        ("0.1.99", Family::V0_1),
        ("0.2.0", Family::Unknown),
        ("0.1", Family::Unknown),
        ("", Family::Unknown),
    ];
    for (version, family) in table {
        assert_eq!(Family::from_version(version), family, "{version}");
    }
    assert!(unsupported_reason("0.0.36").contains("releases before 0.0.37"));
    assert!(unsupported_reason("0.0.50").contains("0.0.37 to 0.0.87"));
    assert!(unsupported_reason("latest").contains("this server does not know the release"));
}

#[test]
fn a_missing_method_is_reported_with_the_version_that_has_it() {
    let missing = |path, generation, version| {
        let refused = check_method(path, "edge", generation, version).err()?;
        assert_eq!(code_and_reason(&refused).1, Reason::MethodNotSupported);
        Some(refused.to_string())
    };
    assert_eq!(missing(STOP, Generation::V0_0, "0.0.105"), None);
    assert_eq!(missing(STOP, Generation::V0_1, "0.1.0"), None);
    assert_eq!(missing("/openshell.v1.OpenShell/GetSandbox", Generation::V0_0, "0.0.88"), None);
    assert_eq!(
        missing(STOP, Generation::V0_0, "0.0.104").unwrap(),
        "`StopSandbox` exists since version 0.0.105, gateway `edge` reports `0.0.104` and speaks generation 0.0"
    );
    let templates = missing(TEMPLATES, Generation::V0_0, "0.0.116").unwrap();
    assert!(templates.contains("since version 0.1.0"), "{templates}");
    let route = missing(ROUTE, Generation::V0_1, "0.1.5").unwrap();
    assert!(route.contains("up to version 0.0.116"), "{route}");
}

#[test]
fn t09_no_policy_write_passes_if_the_version_contradicts_the_generation() {
    let table = [
        (Generation::V0_0, "0.0.100", false),
        (Generation::V0_1, "0.1.5", false),
        (Generation::V0_0, "0.1.5", true),
        (Generation::V0_1, "0.0.116", true),
        (Generation::V0_0, "0.0.36", true),
        (Generation::V0_1, "0.0.87", true),
        // A version of no known family contradicts nothing.
        (Generation::V0_0, "latest", false),
        (Generation::V0_1, "0.3.0", false),
    ];
    for (set, version, contradicted) in table {
        assert_eq!(contradicts(set, version), contradicted, "{set:?} {version}");
        let refused = check_effect(PolicyEffect::Sandbox, "edge", set, version);
        assert_eq!(refused.is_err(), contradicted, "{set:?} {version}");
        check_effect(PolicyEffect::None, "edge", set, version).expect("a read passes");
        assert_eq!(
            generation_note(DetectedGeneration::Known(set), version).is_empty(),
            !contradicted,
            "{set:?} {version}"
        );
    }
}

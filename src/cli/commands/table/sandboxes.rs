//! Commands about sandboxes, their SBOMs and their boot hooks.

use super::{Row, row};

const HOOK: &str = "id name phase enabled order last_status=LAST last_run_time~=RAN \
                    | command workdir timeout_seconds continue_on_failure environment_names";
const BYPASS: &str = "log_time=TIME severity technique binary summary | id mitre_id sandbox_id";

pub(super) const ROWS: &[Row] = &[
    row("SandboxService/ListSandboxes", "sandbox list")
        .columns(
            "gateway workspace name=SANDBOX phase policy_version=POLICY image create_time~=AGE \
             | id gpu providers labels description",
        )
        .name("gateway workspace name"),
    row("SandboxService/GetSandbox", "sandbox get").takes("PLACE"),
    row("SandboxService/CreateSandbox", "sandbox create").takes("NEW").documents("policy"),
    row("SandboxService/UpdateSandboxMetadata", "sandbox update").takes("PLACE"),
    row("SandboxService/DeleteSandbox", "sandbox delete")
        .takes("PLACE")
        .asks("Delete sandbox `{sandbox}` on gateway `{gateway}`?"),
    row("SandboxService/StartSandbox", "sandbox start").takes("PLACE"),
    row("SandboxService/StopSandbox", "sandbox stop")
        .takes("PLACE")
        .asks("Stop sandbox `{sandbox}` on gateway `{gateway}`?"),
    row("SandboxService/StartExecSandbox", "sandbox run")
        .takes("PLACE command--")
        .renames("timeout=run-timeout"),
    row("SandboxService/GetSandboxLogs", "sandbox logs")
        .takes("PLACE")
        .columns("log_time=TIME level source target message | fields"),
    row("SandboxService/WatchSandbox", "sandbox watch")
        .takes("PLACE")
        .columns(
            "sandbox.phase log.log_time log.level log.source log.message event.event_time event.type \
             event.reason event.message warning",
        )
        .name("sandbox.name"),
    row("SandboxService/CreateSshSession", "sandbox ssh").takes("PLACE"),
    row("SandboxService/RevokeSshSession", "sandbox revoke-ssh")
        .takes("PLACE")
        .asks("End this SSH session on gateway `{gateway}`?"),
    row("SandboxService/ListBypassEvents", "sandbox bypass-events").takes("PLACE").columns(BYPASS),
    row("SandboxService/ListSandboxTemplates", "sandbox templates")
        .takes("gateway")
        .columns("name category image gpu description | of_gateway workspace providers presets"),
    row("SbomService/GetSbom", "sbom get").takes("PLACE"),
    row("SbomService/ListSbomComponents", "sbom components").takes("PLACE").columns(
        "name version type max_severity=SEVERITY vulnerability_count=VULNERABILITIES \
         | group purl licenses bom_ref",
    ),
    row("SbomService/ListSbomVulnerabilities", "sbom vulnerabilities").takes("PLACE").columns(
        "id severity cvss_score=CVSS analysis_state=STATE affects_count=AFFECTS description \
         | affects references counts",
    ),
    row("SbomService/DownloadSbom", "sbom download").takes("PLACE").raw("chunk"),
    row("SbomService/DeleteSbom", "sbom delete")
        .takes("PLACE")
        .asks("Delete the SBOM of sandbox `{sandbox}` on gateway `{gateway}`?"),
    row("SbomService/SearchComponents", "sbom search")
        .columns(
            "gateway workspace sandbox component.name component.version component.max_severity=SEVERITY \
             | component.purl",
        )
        .name("gateway workspace sandbox"),
    row("SbomService/DiffSboms", "sbom diff")
        .takes("PLACE OTHER")
        .columns(
            "kind vulnerability.id vulnerability.severity component.name component.versions_removed=REMOVED \
             component.versions_added=ADDED | vulnerability.severity_before component.purl",
        )
        .name("vulnerability.id component.name"),
    row("BootHookService/ListBootHooks", "boot-hook list").takes("PLACE").columns(HOOK),
    row("BootHookService/GetBootHook", "boot-hook get").takes("PLACE boot_hook_id"),
    row("BootHookService/CreateBootHook", "boot-hook create").takes("PLACE name"),
    row("BootHookService/UpdateBootHook", "boot-hook update").takes("PLACE boot_hook_id"),
    row("BootHookService/DeleteBootHook", "boot-hook delete")
        .takes("PLACE boot_hook_id")
        .target("boot_hook_id")
        .asks("Delete boot hook {boot_hook_id} of sandbox `{sandbox}`?"),
    row("BootHookService/ReorderBootHooks", "boot-hook reorder")
        .takes("PLACE boot_hook_ids...")
        .columns(HOOK),
    row("BootHookService/RunBootHook", "boot-hook run")
        .takes("PLACE boot_hook_id")
        .target("boot_hook_id"),
];

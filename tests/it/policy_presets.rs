//! Presets of policies through the API: those of the server and those of a folder.

use std::fs;

use shoreguard::config::Config;
use shoreguard::pb::v1 as pb;
use tonic::Status;

use crate::policies::parse_yaml;
use crate::support::server::{Caller, TestServer};

server_tests! { the_built_in_presets_are_listed_and_shown }

server_tests! { tuned with_presets; presets_of_a_folder_are_listed_with_the_built_in_ones }

async fn list_presets(
    caller: &Caller,
    page_size: i32,
    page_token: &str,
) -> Result<(Vec<pb::PolicyPreset>, String), Status> {
    let request = pb::ListPolicyPresetsRequest { page_size, page_token: page_token.to_owned() };
    let page = caller.policies().list_policy_presets(request).await?.into_inner();
    Ok((page.policy_presets, page.next_page_token))
}

async fn get_preset(caller: &Caller, name: &str) -> Result<pb::PolicyPreset, Status> {
    let request = pb::GetPolicyPresetRequest { policy_preset: name.to_owned() };
    Ok(caller.policies().get_policy_preset(request).await?.into_inner().policy_preset.unwrap())
}

async fn the_built_in_presets_are_listed_and_shown(sg: TestServer) {
    let admin = sg.admin();
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let (page, next) = list_presets(&admin, 4, &token).await.unwrap();
        assert!(page.len() <= 4);
        for preset in page {
            assert!(preset.built_in && preset.yaml.is_empty() && !preset.description.is_empty());
            names.push(preset.name);
        }
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert!(names.is_sorted() && names.len() == 10, "{names:?}");
    let pypi = get_preset(&admin, "pypi").await.unwrap();
    assert_eq!(pypi.wire_generations().count(), 2);
    let yaml = parse_yaml(&pypi.yaml);
    assert_eq!(yaml["network_policies"]["pypi"]["endpoints"][0]["host"], "pypi.org");
    assert_eq!(yaml["network_policies"]["pypi"]["endpoints"][0]["access"], "read-only");
    assert_refused!(get_preset(&admin, "pip").await, NotFound, "NOT_FOUND");
    assert_refused!(get_preset(&admin, "").await, InvalidArgument, "INVALID_FIELD");
    assert_refused!(list_presets(&admin, -1, "").await, InvalidArgument, "INVALID_FIELD");
    sg.finish().await;
}

const PRESET: &str = "
preset: { name: internal, description: Registry of the company }
policy:
  network_policies:
    internal:
      endpoints: [{ host: registry.example.com, port: 443, mcp: { versions: ['2025-06-18'] } }]
      binaries: [{ path: /usr/bin/curl }]
";

fn with_presets(config: &mut Config) {
    let folder = config.server.data_dir.join("presets");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("internal.yaml"), PRESET).unwrap();
    config.policies.presets_dir = Some(folder);
}

async fn presets_of_a_folder_are_listed_with_the_built_in_ones(sg: TestServer) {
    let admin = sg.admin();
    let (all, next) = list_presets(&admin, 0, "").await.unwrap();
    assert_eq!((all.len(), next.as_str()), (11, ""));
    let own: Vec<&str> = all.iter().filter(|p| !p.built_in).map(|p| p.name.as_str()).collect();
    assert_eq!(own, ["internal"]);
    let found = get_preset(&admin, "internal").await.unwrap();
    assert_eq!(found.description, "Registry of the company");
    // Only generation 0.1 has versions of MCP.
    let generations: Vec<pb::WireGeneration> = found.wire_generations().collect();
    assert_eq!(generations, [pb::WireGeneration::V01]);
    assert!(found.yaml.contains("registry.example.com"));
    sg.finish().await;
}

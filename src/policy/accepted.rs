//! What gateways accept as the policy of a sandbox, checked before a change is reviewed: size, names and paths.

use prost_reflect::{DynamicMessage, MapKey, Value};

use super::edits::EDITED_BYTES_MAX;
use super::tree::Path;
use super::{PROVIDER_PREFIX, Policy};
use crate::error::Error;

/// Maximum number of paths in the filesystem section.
pub(super) const PATHS_MAX: usize = 256;
/// Maximum length of a path, in bytes.
pub(super) const PATH_BYTES_MAX: usize = 4_096;

impl Policy {
    /// Refuses a policy that no gateway accepts: it is too large, or has a rule with a reserved name, or a path that is
    /// relative, too long, too broad or has `..`. `field` is the field of the request that leads to it.
    ///
    /// # Errors
    /// `Invalid` for `field`, with the path in the policy.
    pub fn check_accepted(&self, field: &str) -> Result<(), Error> {
        let refuse = |why: String| Error::invalid(field, why);
        let bytes = self.encoded.len();
        if bytes > EDITED_BYTES_MAX {
            let why =
                format!("leads to a policy of {bytes} bytes, encoded: at most {EDITED_BYTES_MAX}");
            return Err(refuse(why));
        }
        if let Some(name) = reserved_rule(&self.message) {
            let root = Path::ROOT;
            let rules = root.key("network_policies");
            let path = rules.key(&name);
            return Err(refuse(format!("leads to the rule `{path}`, which only the gateway adds")));
        }
        check_paths(&self.message).map_err(refuse)
    }
}

fn reserved_rule(policy: &DynamicMessage) -> Option<String> {
    let rules = policy.get_field_by_name("network_policies")?;
    let names = rules.as_map()?.keys().filter_map(MapKey::as_str);
    names.filter(|name| name.starts_with(PROVIDER_PREFIX)).min().map(str::to_owned)
}

fn check_paths(policy: &DynamicMessage) -> Result<(), String> {
    let section = policy.get_field_by_name("filesystem");
    let Some(section) = section.as_deref().and_then(Value::as_message) else { return Ok(()) };
    let root = Path::ROOT;
    let filesystem = root.key("filesystem_policy");
    let mut count = 0;
    for list in ["read_only", "read_write"] {
        let items = section.get_field_by_name(list);
        let items = items.as_deref().and_then(Value::as_list).unwrap_or_default();
        count += items.len();
        let place = filesystem.key(list);
        for (at, path) in items.iter().filter_map(Value::as_str).enumerate() {
            let is_broad = list == "read_write" && path.trim_end_matches('/').is_empty();
            if let Some(why) = path_fault(path, is_broad) {
                return Err(format!("leads to the path `{}`, which {why}", place.index(at)));
            }
        }
    }
    if count > PATHS_MAX {
        return Err(format!("leads to {count} paths in `{filesystem}`: at most {PATHS_MAX}"));
    }
    Ok(())
}

fn path_fault(path: &str, is_broad: bool) -> Option<String> {
    if !path.starts_with('/') {
        return Some("is not absolute".to_owned());
    }
    if path.split('/').any(|part| part == "..") {
        return Some("has `..`".to_owned());
    }
    if path.len() > PATH_BYTES_MAX {
        return Some(format!("has more than {PATH_BYTES_MAX} bytes"));
    }
    is_broad.then(|| "is the whole filesystem".to_owned())
}

#[cfg(test)]
mod tests {
    use shoreguard_proto::release::Generation;

    use super::*;

    #[test]
    fn what_no_gateway_accepts_is_refused_with_its_path() {
        let many: Vec<String> = (0..=PATHS_MAX).map(|n| format!("/{n}")).collect();
        let many = format!("filesystem_policy: {{read_only: [{}]}}", many.join(", "));
        let long = format!("filesystem_policy: {{read_only: [/{}]}}", "x".repeat(PATH_BYTES_MAX));
        for (text, said) in [
            ("network_policies: {_provider_a: {name: x}}", "`network_policies._provider_a`"),
            ("filesystem_policy: {read_only: [/a, b]}", "`filesystem_policy.read_only[1]`"),
            ("filesystem_policy: {read_write: [/a/../b]}", "has `..`"),
            ("filesystem_policy: {read_write: [//]}", "is the whole filesystem"),
            (many.as_str(), "257 paths in `filesystem_policy`"),
            (long.as_str(), "more than 4096 bytes"),
        ] {
            for generation in Generation::ALL {
                let policy = Policy::from_yaml(generation, "yaml", text).unwrap();
                let why = policy.check_accepted("version").unwrap_err().to_string();
                assert!(why.starts_with("`version` leads to ") && why.contains(said), "{why}");
            }
        }
        let fine = "filesystem_policy: {read_only: [/], read_write: [/tmp]}";
        let fine = Policy::from_yaml(Generation::V0_0, "yaml", fine).unwrap();
        fine.check_accepted("yaml").unwrap();
    }
}

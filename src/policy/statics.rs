//! Parts of a policy that a running sandbox cannot change: they are applied when the sandbox starts.

use prost_reflect::{DynamicMessage, Value};

use super::diff::compare;
use super::tree::Path;
use super::{Policy, schema};

/// Sections that cannot be changed at all.
const STATIC_SECTIONS: [&str; 2] = ["landlock", "process"];
/// The filesystem section in documents: paths can be added to it.
const FILESYSTEM_KEY: &str = "filesystem_policy";

impl Policy {
    /// Returns the paths of what a sandbox with the policy `created` cannot change, and what this policy changes: the
    /// sections `landlock` and `process`, `include_workdir`, and paths that are removed. `created` is the policy with
    /// which the sandbox was created, since gateways compare with that one; a sandbox without it can change everything
    /// once.
    #[must_use]
    pub fn static_changes(&self, created: &Self) -> Vec<String> {
        let differences = compare(created, self).into_iter();
        let fixed = differences.filter(|one| STATIC_SECTIONS.contains(&one.section.as_str()));
        let mut paths: Vec<String> = fixed.map(|one| one.path).collect();
        let Some(before) = filesystem(&created.message) else { return paths };
        let (root, after) = (Path::ROOT, filesystem(&self.message));
        let section = root.key(FILESYSTEM_KEY);
        let Some(after) = after else {
            paths.push(section.to_string());
            return paths;
        };
        let workdir = "include_workdir";
        if before.get_field_by_name(workdir) != after.get_field_by_name(workdir) {
            paths.push(section.key(workdir).to_string());
        }
        for list in ["read_only", "read_write"] {
            let place = section.key(list);
            let left = texts(&after, list);
            let removed = texts(&before, list).into_iter().filter(|path| !left.contains(path));
            paths.extend(removed.map(|path| place.key(&path).to_string()));
        }
        paths
    }
}

fn filesystem(policy: &DynamicMessage) -> Option<DynamicMessage> {
    let field = policy.fields().find(|(field, _)| schema::key(field) == FILESYSTEM_KEY);
    field.and_then(|(_, section)| section.as_message().cloned())
}

fn texts(message: &DynamicMessage, list: &str) -> Vec<String> {
    let found = message.get_field_by_name(list);
    let items = found.as_deref().and_then(Value::as_list).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use shoreguard_proto::release::Generation;

    use super::*;

    const CREATED: &str = "
version: 1
filesystem_policy: {include_workdir: true, read_only: [/usr, /lib], read_write: [/tmp]}
landlock: {compatibility: best_effort}
process: {run_as_user: sandbox, run_as_group: sandbox}
";

    fn changes(created: &str, candidate: &str) -> Vec<String> {
        let found = Generation::ALL.map(|generation| {
            let created = Policy::from_yaml(generation, "yaml", created).unwrap();
            let candidate = Policy::from_yaml(generation, "yaml", candidate).unwrap();
            candidate.static_changes(&created)
        });
        assert_eq!(found[0], found[1]);
        found[0].clone()
    }

    #[test]
    fn what_applies_at_the_start_of_a_sandbox_is_listed_and_the_rest_is_not() {
        assert!(changes(CREATED, CREATED).is_empty());
        let more = CREATED.replace("/lib]", "/lib, /etc]");
        let more = format!("{more}network_policies: {{a: {{name: a}}}}\n");
        assert!(changes(CREATED, &more).is_empty());
        for (from, to, paths) in [
            ("run_as_user: sandbox", "run_as_user: '1000'", vec!["process.run_as_user"]),
            (", run_as_group: sandbox", "", vec!["process.run_as_group"]),
            ("best_effort", "hard_requirement", vec!["landlock.compatibility"]),
            ("landlock: {compatibility: best_effort}", "", vec!["landlock"]),
            ("include_workdir: true, ", "", vec!["filesystem_policy.include_workdir"]),
            ("[/usr, /lib]", "[/lib]", vec!["filesystem_policy.read_only[\"/usr\"]"]),
            ("[/tmp]", "[]", vec!["filesystem_policy.read_write[\"/tmp\"]"]),
            (
                "[/usr, /lib], read_write: [/tmp]",
                "[/tmp, /lib]",
                vec![
                    "filesystem_policy.read_only[\"/usr\"]",
                    "filesystem_policy.read_write[\"/tmp\"]",
                ],
            ),
        ] {
            assert_eq!(changes(CREATED, &CREATED.replace(from, to)), paths, "{from}");
        }
        let without = "version: 1\nlandlock: {compatibility: best_effort}\n";
        let without =
            format!("{without}process: {{run_as_user: sandbox, run_as_group: sandbox}}\n");
        assert_eq!(changes(CREATED, &without), ["filesystem_policy"]);
    }

    #[test]
    fn a_sandbox_without_a_filesystem_section_may_get_any() {
        assert!(changes("version: 1", "filesystem_policy: {read_only: [/usr]}").is_empty());
        assert_eq!(changes("version: 1", "process: {run_as_user: sandbox}"), ["process"]);
    }
}

//! Presets: rules and paths that are added to the policy of a sandbox. Ten are built into the binary, others are read
//! from a folder.
//!
//! Invariants
//! - they are read once, at startup; an invalid preset prevents the start and is never skipped silently;
//! - names are unique;
//! - they contain only what can be added to the policy of a running sandbox: network rules and paths.

use std::collections::HashMap;
use std::path::Path as FilePath;
use std::sync::LazyLock;

use prost_reflect::{DynamicMessage, Value};
use shoreguard_proto::release::Generation;

use super::tree::{Node, Path};
use super::{Edit, PROVIDER_PREFIX, Policy, parse, read, schema};
use crate::characters::is_ascii_name;
use crate::error::Error;
use crate::yaml_files::{self, FolderLimits};

/// Maximum number of presets in a folder.
pub const FILES_MAX: usize = 100;
/// Maximum length of a preset's name, in characters.
pub const NAME_CHARACTERS_MAX: usize = 253;
/// Maximum length of a description, in characters.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 1_000;

/// The configuration key of the folder.
const KEY: &str = "policies.presets_dir";

/// Presets that are built into the binary.
const BUNDLED: [(&str, &str); 10] = [
    ("discord.yaml", include_str!("../../presets/discord.yaml")),
    ("docker.yaml", include_str!("../../presets/docker.yaml")),
    ("huggingface.yaml", include_str!("../../presets/huggingface.yaml")),
    ("jira.yaml", include_str!("../../presets/jira.yaml")),
    ("npm.yaml", include_str!("../../presets/npm.yaml")),
    ("openclaw.yaml", include_str!("../../presets/openclaw.yaml")),
    ("outlook.yaml", include_str!("../../presets/outlook.yaml")),
    ("pypi.yaml", include_str!("../../presets/pypi.yaml")),
    ("slack.yaml", include_str!("../../presets/slack.yaml")),
    ("telegram.yaml", include_str!("../../presets/telegram.yaml")),
];

/// The presets that are built into the binary, each with its file. They are parsed once per process: tests start many
/// servers in one.
static BUILT_IN: LazyLock<Vec<(&str, Result<Preset, String>)>> = LazyLock::new(|| {
    BUNDLED.into_iter().map(|(file, text)| (file, parse_preset(text, true))).collect()
});

/// The presets of this process, sorted by name.
#[derive(Debug)]
pub struct Presets(pub Vec<Preset>);

/// Rules and paths that are added to a policy.
#[derive(Debug, Clone)]
pub struct Preset {
    /// Unique name.
    pub name: String,
    /// Description for users.
    pub description: String,
    /// Whether it is built into the binary.
    pub is_built_in: bool,
    /// The added rules and paths, for each generation that can express them, the newest first. Never empty.
    policies: Vec<Policy>,
}

impl Preset {
    /// Returns what is added, as a policy document.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        self.policies.first().map(Policy::to_yaml).unwrap_or_default()
    }

    /// Returns the edits that add it to a policy of a generation; `None` if that generation cannot express it. `field`
    /// is the field of the request that names it.
    ///
    /// # Errors
    /// `Invalid`, which a loaded preset does not cause.
    pub fn edits(&self, generation: Generation, field: &str) -> Result<Option<Vec<Edit>>, Error> {
        let found = self.policies.iter().find(|policy| policy.generation() == generation);
        found.map(|policy| Edit::of_document(field, policy)).transpose()
    }

    /// Returns the generations to whose policies it can be added.
    pub fn generations(&self) -> impl Iterator<Item = Generation> {
        self.policies.iter().map(Policy::generation)
    }
}

impl Presets {
    /// Loads the built-in presets and those of a folder.
    ///
    /// # Errors
    /// `Invalid` with all errors, one per line, each with its file.
    pub fn load(folder: Option<&FilePath>) -> Result<Self, Error> {
        let built_in =
            BUILT_IN.iter().map(|(file, preset)| (format!("{file} of the server"), preset.clone()));
        let mut presets: Vec<(String, Result<Preset, String>)> = built_in.collect();
        if let Some(folder) = folder {
            let file_bytes = parse::DOCUMENT_BYTES_MAX;
            let limits = FolderLimits { content: "presets", files: FILES_MAX, file_bytes };
            let files = yaml_files::read_folder(folder, limits);
            let files = files.map_err(|why| Error::invalid(KEY, why))?;
            presets.extend(
                files
                    .into_iter()
                    .map(|file| (file.name, file.text.and_then(|text| parse_preset(&text, false)))),
            );
        }
        let (mut faults, mut found) = (Vec::new(), Vec::new());
        let mut places: HashMap<String, String> = HashMap::new();
        for (file, preset) in presets {
            match preset {
                Err(why) => faults.push(format!("`{file}` {why}")),
                Ok(preset) => match places.insert(preset.name.clone(), file.clone()) {
                    Some(first) => {
                        let name = &preset.name;
                        faults.push(format!("`{file}` has the name `{name}`, which `{first}` has"));
                    }
                    None => found.push(preset),
                },
            }
        }
        if !faults.is_empty() {
            return Err(Error::invalid(KEY, format!("cannot be used: {}", faults.join("\n"))));
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self(found))
    }

    /// Finds a preset by name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Preset> {
        let at = self.0.binary_search_by(|preset| preset.name.as_str().cmp(name)).ok()?;
        self.0.get(at)
    }
}

fn parse_preset(text: &str, is_built_in: bool) -> Result<Preset, String> {
    let document = parse::parse(text)?;
    let root = Path::ROOT;
    let [about, policy] = entries(document, &root, ["preset", "policy"])?;
    let about_path = root.key("preset");
    let [name, description] = entries(about, &about_path, ["name", "description"])?;
    let name = line(name, &about_path.key("name"), NAME_CHARACTERS_MAX)?;
    if !is_ascii_name(&name) {
        return Err(
            "has an invalid name at `preset.name`: must be a letter or digit, then letters, digits, `.`, `_`, `-`"
                .to_owned(),
        );
    }
    let description =
        line(description, &about_path.key("description"), DESCRIPTION_CHARACTERS_MAX)?;
    let policies = policies(&policy, &root.key("policy"))?;
    Ok(Preset { name, description, is_built_in, policies })
}

/// Returns the values of a mapping that must have exactly these keys.
fn entries<const N: usize>(
    node: Node,
    path: &Path<'_>,
    keys: [&str; N],
) -> Result<[Node; N], String> {
    let Node::Map(entries) = node else { return Err(format!("has no mapping at `{path}`")) };
    let mut found = [const { Node::Null }; N];
    for (key, value) in entries {
        let Some(at) = keys.iter().position(|known| *known == key) else {
            return Err(format!("has an unknown key at `{}`", path.key(&key)));
        };
        found[at] = value;
    }
    if let Some(at) = found.iter().position(|node| *node == Node::Null) {
        return Err(format!("has no value at `{}`", path.key(keys[at])));
    }
    Ok(found)
}

/// Returns a text of one line.
fn line(node: Node, path: &Path<'_>, max: usize) -> Result<String, String> {
    match node {
        Node::Text(text) if text.chars().count() <= max && !text.contains(char::is_control) => {
            Ok(text)
        }
        Node::Text(_)
        | Node::Null
        | Node::Bool(_)
        | Node::Integer(_)
        | Node::Float(_)
        | Node::List(_)
        | Node::Map(_) => Err(format!(
            "has an invalid text at `{path}`: must be one line of at most {max} characters"
        )),
    }
}

/// Reads what is added for each generation that can express it, the newest first.
fn policies(node: &Node, path: &Path<'_>) -> Result<Vec<Policy>, String> {
    let (mut policies, mut fault) = (Vec::new(), None);
    for generation in Generation::ALL.into_iter().rev() {
        let message = read::policy(generation, node.clone(), path)
            .map_err(|why| format!("is not valid: {why}"))
            .and_then(|message| check_additions(&message).map(|()| message));
        match message {
            Ok(message) => {
                let policy = Policy::canonical(generation, message);
                let policy = policy.map_err(|error| format!("is not valid: {error}"))?;
                Edit::of_document("policy", &policy).map_err(|error| error.to_string())?;
                policies.push(policy);
            }
            Err(why) => fault = fault.or(Some(why)),
        }
    }
    match fault {
        Some(why) if policies.is_empty() => Err(why),
        Some(_) | None => Ok(policies),
    }
}

/// Checks that a policy contains only what can be added to that of a running sandbox.
fn check_additions(policy: &DynamicMessage) -> Result<(), String> {
    if policy.fields().next().is_none() {
        return Err("adds nothing: `policy` is empty".to_owned());
    }
    for (field, value) in policy.fields() {
        let section = schema::key(&field);
        match (field.name(), value.as_message()) {
            ("network_policies", _) => {}
            ("filesystem", Some(paths)) if !paths.has_field_by_name("include_workdir") => {}
            _ => {
                return Err(format!(
                    "has more at `policy.{section}` than can be added to the policy of a running sandbox: \
                     must have `network_policies`, and `read_only` and `read_write` of `filesystem_policy`"
                ));
            }
        }
    }
    let rules = policy.get_field_by_name("network_policies");
    for (name, rule) in rules.as_deref().and_then(Value::as_map).into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if name.is_empty() || name.starts_with(PROVIDER_PREFIX) {
            return Err(format!("has a reserved name at `policy.network_policies`: `{name}`"));
        }
        let is_empty = |list: &str| {
            let list = rule.as_message().and_then(|rule| rule.get_field_by_name(list));
            list.is_none_or(|list| list.as_list().is_none_or(<[_]>::is_empty))
        };
        if is_empty("endpoints") || is_empty("binaries") {
            return Err(format!(
                "has a rule without endpoints or without binaries: `policy.network_policies.{name}`"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = "preset: {name: a, description: x}\npolicy: {network_policies: \
                        {a: {endpoints: [{host: a, port: 1}], binaries: [{path: /a}]}}}\n";

    fn load(files: &[(&str, &str)]) -> Result<Presets, Error> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Presets::load(Some(folder.path()))
    }

    #[test]
    fn the_ten_bundled_presets_are_valid_in_both_generations() {
        let presets = Presets::load(None).unwrap();
        let names: Vec<&str> = presets.0.iter().map(|preset| preset.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "discord",
                "docker",
                "huggingface",
                "jira",
                "npm",
                "openclaw",
                "outlook",
                "pypi",
                "slack",
                "telegram"
            ]
        );
        for preset in &presets.0 {
            let generations: Vec<Generation> = preset.generations().collect();
            assert_eq!(generations, [Generation::V0_1, Generation::V0_0], "{}", preset.name);
            for generation in generations {
                let read = Policy::from_yaml(generation, "yaml", &preset.to_yaml()).unwrap();
                let own = preset.policies.iter().find(|own| own.generation() == generation);
                assert_eq!(read.digest(), own.unwrap().digest(), "{}", preset.name);
            }
        }
        assert!(presets.find("pypi").is_some_and(|preset| preset.is_built_in));
        assert!(presets.find("pip").is_none());
    }

    #[test]
    fn presets_of_a_folder_are_added_to_the_bundled_ones() {
        let versions = "preset: {name: mcp, description: x}\npolicy: {network_policies: {m: \
                        {endpoints: [{host: a, mcp: {versions: ['1']}}], binaries: [{path: /a}]}}}";
        let presets = load(&[("a.yaml", GOOD), ("m.yml", versions), ("x.txt", "no")]).unwrap();
        assert_eq!(presets.0.len(), BUNDLED.len() + 2);
        assert!(!presets.find("a").unwrap().is_built_in);
        let generations: Vec<Generation> = presets.find("mcp").unwrap().generations().collect();
        assert_eq!(generations, [Generation::V0_1]);
    }

    #[test]
    fn an_invalid_preset_is_reported_with_its_file_and_path() {
        let policy =
            |policy: &str| format!("preset: {{name: a, description: x}}\npolicy: {policy}");
        for (text, said) in [
            ("a: 1".to_owned(), "`a`"),
            ("preset: {name: a, description: x}".to_owned(), "`policy`"),
            ("preset: {name: a b, description: x}\npolicy: {}".to_owned(), "preset.name"),
            ("preset: {name: a, description: \"x\\ny\"}\npolicy: {}".to_owned(), "description"),
            ("preset: {name: a, description: x, colour: red}\npolicy: {}".to_owned(), "colour"),
            (policy("{}"), "`policy` is empty"),
            (policy("{netwrok_policies: {}}"), "policy.netwrok_policies"),
            (policy("{process: {run_as_user: node}}"), "policy.process"),
            (policy("{filesystem_policy: {include_workdir: true}}"), "policy.filesystem_policy"),
            (policy("{network_policies: {_provider_a: {}}}"), "_provider_a"),
            (policy("{network_policies: {a: {binaries: [{path: /a}]}}}"), "network_policies.a"),
            (policy("{network_policies: {a: {endpoints: [{host: a}]}}}"), "network_policies.a"),
            (policy("{network_policies: {a: {binaries: [/a]}}}"), "binaries[0]"),
            ("preset: [".to_owned(), "line"),
        ] {
            let why = load(&[("bad.yaml", &text)]).unwrap_err().to_string();
            assert!(why.starts_with("`policies.presets_dir` cannot be used: `bad.yaml`"), "{why}");
            assert!(why.contains(said), "{text}: {why}");
        }
        let both = load(&[("a.yaml", GOOD), ("b.yaml", GOOD), ("c.yaml", "x")]).unwrap_err();
        let both = both.to_string();
        assert!(both.contains("`b.yaml` has the name `a`, which `a.yaml` has"), "{both}");
        assert_eq!(both.lines().count(), 2, "{both}");
        let missing = Presets::load(Some(FilePath::new("/nowhere"))).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"), "{missing}");
    }

    #[test]
    fn the_number_and_size_of_presets_are_limited() {
        let named =
            |n: usize| (format!("{n}.yaml"), GOOD.replacen("name: a", &format!("name: p{n}"), 1));
        let many: Vec<(String, String)> = (0..=FILES_MAX).map(named).collect();
        let files: Vec<(&str, &str)> =
            many.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
        assert_eq!(load(&files[..FILES_MAX]).unwrap().0.len(), FILES_MAX + BUNDLED.len());
        let why = load(&files).unwrap_err().to_string();
        assert!(why.contains("at most 100 presets"), "{why}");
        let long = format!("{GOOD}# {}", "x".repeat(parse::DOCUMENT_BYTES_MAX));
        assert!(
            load(&[("a.yaml", &long)]).unwrap_err().to_string().contains("at most 262144 bytes")
        );
    }
}

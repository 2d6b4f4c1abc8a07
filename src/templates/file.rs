//! Templates as YAML files: `template` describes the template, `sandbox` has the settings of the sandbox.
//!
//! Invariants
//! - unexpected content is rejected: unknown keys, duplicate keys, anchors, a second document;
//! - files, bytes, depth and entries are limited.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Options;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::domain::Template;
use crate::characters::is_ascii_name;
use crate::error::Error;
use crate::yaml_files::{self, FolderLimits};

/// Maximum number of templates in a folder.
pub const FILES_MAX: usize = 100;
/// Maximum size of a template, in bytes.
pub const FILE_BYTES_MAX: usize = 64 * 1024;
/// Maximum length of the name of a template, provider or preset.
pub const NAME_CHARACTERS_MAX: usize = 253;
/// Maximum length of a description, in characters.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 1_000;
/// Maximum length of a category, in characters.
pub const CATEGORY_CHARACTERS_MAX: usize = 64;
/// Maximum length of an image, in characters.
pub const IMAGE_CHARACTERS_MAX: usize = 512;
/// Maximum number of providers, and of presets.
pub const NAMES_MAX: usize = 20;
/// Maximum number of environment variables.
pub const VARIABLES_MAX: usize = 100;
/// Maximum length of a variable's name, in characters.
pub const VARIABLE_NAME_CHARACTERS_MAX: usize = 256;
/// Maximum length of a variable's value, in characters.
pub const VARIABLE_VALUE_CHARACTERS_MAX: usize = 8_192;

/// The configuration key of the folder.
const KEY: &str = "sandboxes.templates_folder";

/// Templates that are built into the binary.
const BUNDLED: [(&str, &str); 4] = [
    ("data-science.yaml", include_str!("../../templates/data-science.yaml")),
    ("openclaw.yaml", include_str!("../../templates/openclaw.yaml")),
    ("secure-coding.yaml", include_str!("../../templates/secure-coding.yaml")),
    ("web-dev.yaml", include_str!("../../templates/web-dev.yaml")),
];

/// The content of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    template: About,
    sandbox: Sandbox,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    category: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sandbox {
    #[serde(default)]
    image: String,
    #[serde(default)]
    gpu: bool,
    #[serde(default)]
    providers: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    presets: Vec<String>,
}

/// Loads the built-in templates and those of a folder, sorted by name.
///
/// # Errors
/// `Invalid` with all errors, one per line, each with its file.
pub fn load(folder: Option<&Path>) -> Result<Vec<Template>, Error> {
    let mut texts: Vec<(String, Result<String, String>)> = BUNDLED
        .iter()
        .map(|(file, text)| (format!("{file} of the server"), Ok((*text).to_owned())))
        .collect();
    if let Some(folder) = folder {
        let limits =
            FolderLimits { content: "templates", files: FILES_MAX, file_bytes: FILE_BYTES_MAX };
        let files = yaml_files::read_folder(folder, limits);
        let files = files.map_err(|why| Error::invalid(KEY, why))?;
        texts.extend(files.into_iter().map(|file| (file.name, file.text)));
    }
    let mut faults = Vec::new();
    let mut found: Vec<Template> = Vec::new();
    let mut places: HashMap<String, String> = HashMap::new();
    for (file, text) in texts {
        match text.and_then(|text| parse_template(&text)) {
            Err(why) => faults.push(format!("`{file}` {why}")),
            Ok(template) => match places.insert(template.name.clone(), file.clone()) {
                Some(first) => {
                    let name = &template.name;
                    faults.push(format!("`{file}` has the name `{name}`, which `{first}` has"));
                }
                None => found.push(template),
            },
        }
    }
    if !faults.is_empty() {
        return Err(Error::invalid(KEY, format!("cannot be used: {}", faults.join("\n"))));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_documents: 1,
        max_aliases: 0,
        max_anchors: 0,
        max_depth: 6,
        max_nodes: 1_000,
        max_events: 4_000,
    };
    serde_saphyr::options! {
        budget: budget,
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        // `yes` and `on` are strings, not booleans.
        strict_booleans: true,
    }
}

/// Parses a template. The error contains the key or the line.
fn parse_template(text: &str) -> Result<Template, String> {
    let written: Written = serde_saphyr::from_str_with_options(text, options())
        .map_err(|error| format!("is not a valid template: {}", yaml_files::error_line(&error)))?;
    let Written { template: About { name, description, category }, sandbox } = written;
    let Sandbox { image, gpu, providers, environment, presets } = sandbox;
    check_name("template.name", &name)?;
    check_line("template.description", &description, DESCRIPTION_CHARACTERS_MAX)?;
    check_line("template.category", &category, CATEGORY_CHARACTERS_MAX)?;
    check_line("sandbox.image", &image, IMAGE_CHARACTERS_MAX)?;
    check_names("sandbox.providers", &providers)?;
    check_names("sandbox.presets", &presets)?;
    check_variables("sandbox.environment", &environment)?;
    Ok(Template { name, description, category, image, gpu, providers, environment, presets })
}

fn check_name(key: &str, name: &str) -> Result<(), String> {
    if name.len() > NAME_CHARACTERS_MAX || !is_ascii_name(name) {
        let rest = NAME_CHARACTERS_MAX - 1;
        return Err(format!(
            "has an invalid name at `{key}`: must be a letter or digit, then up to {rest} letters, digits, `.`, `_`, `-`"
        ));
    }
    Ok(())
}

fn check_line(key: &str, text: &str, max: usize) -> Result<(), String> {
    if text.chars().count() > max || text.contains(char::is_control) {
        return Err(format!(
            "has an invalid text at `{key}`: must be one line of at most {max} characters"
        ));
    }
    Ok(())
}

fn check_names(key: &str, names: &[String]) -> Result<(), String> {
    if names.len() > NAMES_MAX {
        return Err(format!("has more than {NAMES_MAX} entries at `{key}`"));
    }
    names.iter().try_for_each(|name| check_name(key, name))
}

fn check_variables(key: &str, variables: &BTreeMap<String, String>) -> Result<(), String> {
    if variables.len() > VARIABLES_MAX {
        return Err(format!("has more than {VARIABLES_MAX} variables at `{key}`"));
    }
    for (name, value) in variables {
        let count = name.chars().count();
        if !(1..=VARIABLE_NAME_CHARACTERS_MAX).contains(&count)
            || name.contains(|c: char| c.is_control() || c == '=')
        {
            return Err(format!(
                "has an invalid name at `{key}`: must have 1 to {VARIABLE_NAME_CHARACTERS_MAX} characters, without `=` or control characters"
            ));
        }
        if value.chars().count() > VARIABLE_VALUE_CHARACTERS_MAX || value.contains('\0') {
            return Err(format!(
                "has an invalid value at `{key}.{name}`: must be at most {VARIABLE_VALUE_CHARACTERS_MAX} characters without NUL"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = "template: {name: a}\nsandbox: {}\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn refused(files: &[(&str, &str)]) -> String {
        load(Some(folder(files).path())).unwrap_err().to_string()
    }

    #[test]
    fn the_four_bundled_templates_are_loaded() {
        let all = load(None).unwrap();
        let shown: Vec<_> = all
            .iter()
            .map(|t| (t.name.as_str(), t.category.as_str(), t.gpu, t.presets.join(" ")))
            .collect();
        assert_eq!(
            shown,
            [
                ("data-science", "ml", true, "pypi huggingface docker".to_owned()),
                ("openclaw", "agent", false, "openclaw".to_owned()),
                ("secure-coding", "security", false, "pypi docker".to_owned()),
                ("web-dev", "dev", false, "npm docker slack".to_owned()),
            ]
        );
        assert_eq!(all[0].environment["CUDA_VISIBLE_DEVICES"], "all");
        assert_eq!(all[0].providers, ["nvidia"]);
        assert_eq!(all[1].environment.keys().collect::<Vec<_>>(), ["HOME", "TERM"]);
    }

    #[test]
    fn templates_of_a_folder_are_added_to_the_bundled_ones() {
        let mine = folder(&[
            (
                "mine.yaml",
                "template:\n  name: mine\nsandbox:\n  image: x:1\n  environment: {N: '1', ON: yes}\n",
            ),
            (
                "other.yml",
                "# A comment\ntemplate: {name: a.b_c-1, description: for tests}\nsandbox: {gpu: true}\n",
            ),
            ("README.md", "no template"),
        ]);
        let all = load(Some(mine.path())).unwrap();
        let names: Vec<&str> = all.iter().map(|template| template.name.as_str()).collect();
        assert_eq!(
            names,
            ["a.b_c-1", "data-science", "mine", "openclaw", "secure-coding", "web-dev"]
        );
        assert_eq!((all[2].image.as_str(), all[2].environment["ON"].as_str()), ("x:1", "yes"));
    }

    #[test]
    fn an_invalid_template_is_reported_with_its_file_and_key() {
        for (text, said) in [
            ("template: {name: a, colour: red}\nsandbox: {}", "colour"),
            ("template: {name: a}\nsandbox: {}\nextra: 1", "extra"),
            ("template: {name: a}\nsandbox: {imag: x}", "imag"),
            ("template: {name: a}", "sandbox"),
            ("template: {description: x}\nsandbox: {}", "name"),
            ("template: {name: a, name: b}\nsandbox: {}", "duplicate"),
            ("template: {name: a}\nsandbox: {gpu: yes}", "bool"),
            ("template: {name: a}\nsandbox: {providers: x}", "line 2"),
            ("template: {name: 'a b'}\nsandbox: {}", "template.name"),
            ("template: {name: a, description: \"x\\ny\"}\nsandbox: {}", "template.description"),
            ("template: {name: a}\nsandbox: {presets: ['']}", "sandbox.presets"),
            ("template: {name: a}\nsandbox: {environment: {'A=B': x}}", "sandbox.environment"),
            ("template: &x {name: a}\nsandbox: *x", "line"),
            ("template: {name: a}\nsandbox: {}\n---\ntemplate: {name: b}\nsandbox: {}", ""),
            ("template: [", "line"),
            ("", ""),
            ("{{ .Values }}", ""),
        ] {
            let why = refused(&[("bad.yaml", text)]);
            assert!(
                why.starts_with("`sandboxes.templates_folder` cannot be used: `bad.yaml`"),
                "{why}"
            );
            assert!(why.contains(said), "{text:?}: {why}");
            assert_eq!(why.lines().count(), 1, "{why}");
        }
        let both = refused(&[
            ("a.yaml", "x"),
            ("b.yaml", GOOD),
            ("c.yaml", GOOD),
            ("d.yaml", "template: {name: openclaw}\nsandbox: {}"),
        ]);
        assert_eq!(both.lines().count(), 3, "{both}");
        assert!(both.contains("`c.yaml` has the name `a`, which `b.yaml` has"), "{both}");
        assert!(
            both.contains(
                "`d.yaml` has the name `openclaw`, which `openclaw.yaml of the server` has"
            )
        );
        assert!(
            load(Some(Path::new("/nowhere"))).unwrap_err().to_string().contains("cannot be read")
        );
    }

    #[test]
    fn the_size_and_number_of_template_files_are_limited() {
        let of = |length: usize| format!("{GOOD}# {}", "x".repeat(length - GOOD.len() - 2));
        assert!(load(Some(folder(&[("a.yaml", &of(FILE_BYTES_MAX))]).path())).is_ok());
        assert!(refused(&[("a.yaml", &of(FILE_BYTES_MAX + 1))]).contains("at most 65536 bytes"));
        let many = tempfile::tempdir().unwrap();
        for n in 0..FILES_MAX {
            let text = format!("template: {{name: t{n}}}\nsandbox: {{}}\n");
            fs::write(many.path().join(format!("{n}.yaml")), text).unwrap();
        }
        assert_eq!(load(Some(many.path())).unwrap().len(), FILES_MAX + BUNDLED.len());
        fs::write(many.path().join("more.yaml"), GOOD).unwrap();
        assert!(load(Some(many.path())).unwrap_err().to_string().contains("at most 100 templates"));
        let listed = |key: &str, n: usize| {
            let list = (0..n).map(|i| format!("p{i}")).collect::<Vec<_>>().join(", ");
            parse_template(&format!("template: {{name: a}}\nsandbox: {{{key}: [{list}]}}"))
        };
        for key in ["providers", "presets"] {
            assert!(listed(key, NAMES_MAX).is_ok() && listed(key, NAMES_MAX + 1).is_err());
        }
        let mapped = |n: usize, value: usize| {
            let map = (0..n).map(|i| format!("V{i}: {}", "v".repeat(value))).collect::<Vec<_>>();
            parse_template(&format!(
                "template: {{name: a}}\nsandbox: {{environment: {{{}}}}}",
                map.join(", ")
            ))
        };
        assert!(mapped(VARIABLES_MAX, 1).is_ok() && mapped(VARIABLES_MAX + 1, 1).is_err());
        assert!(mapped(1, VARIABLE_VALUE_CHARACTERS_MAX).is_ok());
        assert!(mapped(1, VARIABLE_VALUE_CHARACTERS_MAX + 1).is_err());
        for depth in [10, 10_000] {
            assert!(
                parse_template(&format!("{}{}", "[".repeat(depth), "]".repeat(depth))).is_err()
            );
        }
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep.yaml")).unwrap();
        let refused = load(Some(folder.path())).unwrap_err().to_string();
        assert!(refused.contains("`deep.yaml` is not a regular file"), "{refused}");
    }
}

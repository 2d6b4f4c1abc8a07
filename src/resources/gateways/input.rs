//! Validation of the fields of a gateway: name, metadata, description and secrets.

use crate::characters::is_ascii_name;
use crate::error::Error;
use crate::names::GATEWAY_NAME_CHARACTERS_MAX;
use crate::secret::Secret;
use crate::texts::check_text;

/// Maximum size of the metadata, in bytes.
pub const METADATA_BYTES_MAX: usize = 16_384;
/// Maximum length of a description, in characters.
pub const DESCRIPTION_CHARACTERS_MAX: usize = 1_000;

/// Allowed values of `runtime` in the metadata, in any case; stored in lower case.
pub const RUNTIMES: [&str; 3] = ["docker", "kubernetes", "libkrun"];

/// Parses the name of a gateway. In lower case, it is also valid as the first label of an authority.
pub fn name(field: &str, text: &str) -> Result<String, Error> {
    if text.len() > GATEWAY_NAME_CHARACTERS_MAX || !is_ascii_name(text) {
        let why = "must be a letter or digit, then up to 252 of letters, digits, `.`, `_` and `-`";
        return Err(Error::invalid(field, why));
    }
    Ok(text.to_owned())
}

/// Parses the metadata, a JSON object; `None` if it is empty.
pub fn metadata(field: &str, text: &str) -> Result<Option<String>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > METADATA_BYTES_MAX {
        let why = format!("must be at most {METADATA_BYTES_MAX} bytes, got {}", text.len());
        return Err(Error::invalid(field, why));
    }
    let mut object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|_| Error::invalid(field, "must be a JSON object"))?;
    if let Some(runtime) = object.get_mut("runtime") {
        let name = runtime.as_str().map(str::to_ascii_lowercase).unwrap_or_default();
        if !RUNTIMES.contains(&name.as_str()) {
            let why = format!("has an unknown `runtime`: must be one of {}", RUNTIMES.join(", "));
            return Err(Error::invalid(field, why));
        }
        *runtime = name.into();
    }
    serde_json::to_string(&object).map(Some).map_err(Error::internal)
}

/// Parses the description; `None` if it is empty.
pub fn description(field: &str, text: &str) -> Result<Option<String>, Error> {
    check_text(field, text, DESCRIPTION_CHARACTERS_MAX, "\n\r\t")?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// Parses a secret given as bytes, which must be UTF-8 text; `None` if it is empty.
pub fn secret(field: &str, bytes: &[u8]) -> Result<Option<Secret>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Error::invalid(field, "must be PEM text"))?;
    Ok(Some(Secret::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t20_a_description_is_read_as_it_is_stored() {
        assert!(description("description", "two\nlines, \u{e4}").is_ok());
        for bad in ["\u{1b}[2J", "a\0", "safe \u{202e}live", "a\u{2029}b"] {
            assert!(description("description", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_a_known_runtime_is_accepted() {
        let kept = metadata("metadata_json", r#"{"runtime": "Docker", "zone": 1}"#).unwrap();
        assert_eq!(kept.as_deref(), Some(r#"{"runtime":"docker","zone":1}"#));
        for bad in
            [r#"{"runtime": "podman"}"#, r#"{"runtime": ""}"#, r#"{"runtime": 1}"#, "[]", "{"]
        {
            assert!(metadata("metadata_json", bad).is_err(), "{bad}");
        }
        assert_eq!(metadata("metadata_json", "").unwrap(), None);
    }

    #[test]
    fn gateway_names_are_validated() {
        assert!(name("name", &"a".repeat(GATEWAY_NAME_CHARACTERS_MAX)).is_ok());
        for bad in
            ["", "-a", ".a", "a/b", "a b", "\u{e4}", &"a".repeat(GATEWAY_NAME_CHARACTERS_MAX + 1)]
        {
            assert!(name("name", bad).is_err(), "{bad:?}");
        }
    }
}

//! Reads secrets from TOML and writes them as `***`.

/// An optional secret.
pub(super) mod secret {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::secret::Secret;

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(in super::super) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match secret {
            Some(_) => serializer.serialize_str("***"),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Secret>, D::Error> {
        // Reads any value first: an error of the parser about another type would quote the value.
        match toml::Value::deserialize(deserializer) {
            Ok(toml::Value::String(text)) => Ok(Some(Secret::new(text))),
            _ => Err(D::Error::custom("a secret must be a string")),
        }
    }
}

/// A list of secrets.
pub(super) mod secrets {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::secret::Secret;

    pub(in super::super) fn serialize<S: Serializer>(
        secrets: &[Secret],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(secrets.iter().map(|_| "***"))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Secret>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        Ok(texts.into_iter().map(Secret::new).collect())
    }
}

//! Providers of a gateway: what it shows of them, and whether a request replaces nothing but values of credentials.
//!
//! Invariants
//! - a provider is compared field by field, by the descriptors of its generation: a field without a rule of its own
//!   must be absent from a request or equal to what the gateway shows;
//! - a gateway never shows values of credentials, so only their keys are compared.

use std::collections::HashMap;

use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, ReflectMessage, Value};

use super::gateway::CALL_TIME;
use super::{Gateway, Generation, v0_0, v0_1};
use crate::error::{Error, GatewayRefusal};
use crate::pb::descriptors::Descriptors;

const GET: &str = "/openshell.v1.OpenShell/GetProvider";

const PROVIDER: &str = "openshell.datamodel.v1.Provider";
const META: &str = "openshell.datamodel.v1.ObjectMeta";
const ANSWER: &str = "openshell.v1.ProviderResponse";
const UPDATE: &str = "openshell.v1.UpdateProviderRequest";
const CONFIGURE: &str = "openshell.v1.ConfigureProviderRefreshRequest";
const ROTATE: &str = "openshell.v1.RotateProviderCredentialRequest";
const DELETE_REFRESH: &str = "openshell.v1.DeleteProviderRefreshRequest";

/// What a field may hold in a request that replaces nothing but values of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldRule {
    /// Anything: it names the call or its object, or is about the value of the credential.
    Any,
    /// The key of a credential that the provider has.
    Key,
    /// Keys of credentials that the provider has, of a map or a list.
    Keys,
    /// Values that are not empty, by the key of a credential that the provider has. An empty value removes the key.
    Values,
    /// What its own fields may hold.
    Nested,
    /// Nothing, or what the gateway shows.
    Same,
}

/// Returns what a field of a message may hold.
fn rule(message: &str, field: &str) -> FieldRule {
    match (message, field) {
        (UPDATE, "provider") | (PROVIDER, "metadata") => FieldRule::Nested,
        (PROVIDER, "credentials") => FieldRule::Values,
        (UPDATE | PROVIDER, "credential_expires_at_ms" | "credential_expiration_times")
        | (UPDATE, "clear_credential_expiration_keys") => FieldRule::Keys,
        (CONFIGURE | ROTATE | DELETE_REFRESH, "credential_key") => FieldRule::Key,
        // The version that the caller expects.
        (META, "resource_version")
        | (
            UPDATE | CONFIGURE | ROTATE | DELETE_REFRESH,
            "workspace" | "workspace_scope" | "request_id",
        )
        | (CONFIGURE | ROTATE | DELETE_REFRESH, "provider")
        | (DELETE_REFRESH, "allow_missing")
        | (
            CONFIGURE,
            "strategy" | "material" | "secret_material_keys" | "expires_at_ms" | "expiration_time",
        ) => FieldRule::Any,
        _ => FieldRule::Same,
    }
}

fn descriptor(generation: Generation, message: &str) -> Option<MessageDescriptor> {
    Descriptors::for_generation(generation).pool().get_message_by_name(message)
}

/// A provider, as its gateway shows it.
#[derive(Debug, Clone)]
pub struct ShownProvider(DynamicMessage);

impl ShownProvider {
    fn decode(generation: Generation, answer: &[u8]) -> Option<Self> {
        let answer = DynamicMessage::decode(descriptor(generation, ANSWER)?, answer).ok()?;
        answer.get_field_by_name("provider")?.as_message().cloned().map(Self)
    }

    fn has_key(&self, key: &str) -> bool {
        let credentials = self.0.get_field_by_name("credentials");
        let credentials = credentials.as_deref().and_then(Value::as_map);
        credentials.is_some_and(|map| map.contains_key(&MapKey::String(key.to_owned())))
    }

    fn has_keys(&self, keys: &HashMap<MapKey, Value>) -> bool {
        keys.keys().all(|key| key.as_str().is_some_and(|key| self.has_key(key)))
    }

    /// Whether it has every key of a list or a map.
    fn has_all(&self, keys: &Value) -> bool {
        let listed = |keys: &[Value]| {
            keys.iter().all(|key| key.as_str().is_some_and(|key| self.has_key(key)))
        };
        keys.as_map().is_some_and(|keys| self.has_keys(keys)) || keys.as_list().is_some_and(listed)
    }
}

/// Whether a request replaces nothing but values of credentials that the provider has: it then changes no policy.
#[must_use]
pub fn replaces_only_credentials(
    generation: Generation,
    message: &str,
    request: &[u8],
    shown: &ShownProvider,
) -> bool {
    let decoded = descriptor(generation, message)
        .and_then(|descriptor| DynamicMessage::decode(descriptor, request).ok());
    decoded.is_some_and(|request| fields_comply(&request, None, shown))
}

/// Whether every field that is set complies with its rule. `same` is the message of the provider that corresponds to
/// this one, if any.
fn fields_comply(
    message: &DynamicMessage,
    same: Option<&DynamicMessage>,
    shown: &ShownProvider,
) -> bool {
    let descriptor = message.descriptor();
    message.unknown_fields().next().is_none()
        && message.fields().all(|(field, value)| match rule(descriptor.full_name(), field.name()) {
            FieldRule::Any => true,
            FieldRule::Key => value.as_str().is_some_and(|key| shown.has_key(key)),
            FieldRule::Keys => shown.has_all(value),
            FieldRule::Values => value.as_map().is_some_and(|entries| {
                let filled = |value: &Value| value.as_str().is_some_and(|v| !v.is_empty());
                shown.has_keys(entries) && entries.values().all(filled)
            }),
            FieldRule::Nested => value.as_message().is_some_and(|nested| {
                if nested.descriptor().full_name() == PROVIDER {
                    return fields_comply(nested, Some(&shown.0), shown);
                }
                let of = same.and_then(|same| same.get_field_by_name(field.name()));
                fields_comply(nested, of.as_deref().and_then(Value::as_message), shown)
            }),
            FieldRule::Same => same.is_some_and(|same| {
                same.get_field_by_name(field.name()).is_some_and(|shown| *shown == *value)
            }),
        })
}

impl Gateway {
    /// Returns what the gateway shows of a provider, or `None` if it does not exist.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn provider(
        &self,
        workspace: &str,
        name: &str,
    ) -> Result<Option<ShownProvider>, Error> {
        let request = match self.generation() {
            Generation::V0_0 => v0_0::encode_get_provider(workspace, name),
            Generation::V0_1 => v0_1::encode_get_provider(workspace, name),
        };
        let answer = match self.unary(GET, &request, CALL_TIME).await {
            Err(Error::Gateway { refusal: GatewayRefusal::NotFound, .. }) => return Ok(None),
            answer => answer?,
        };
        let shown = ShownProvider::decode(self.generation(), &answer);
        shown.map(Some).ok_or_else(|| self.unreadable(GET))
    }
}

#[cfg(test)]
#[path = "provider_tests.rs"]
mod tests;

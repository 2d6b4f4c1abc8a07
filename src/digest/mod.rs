//! Keyed digests of requests for the audit log: they show whether two requests were equal, and nothing else.
//!
//! HMAC-SHA-256 with a key that is derived from the master key and never stored; secret fields are removed first (T17).

mod canonical;

use std::sync::{Arc, OnceLock};

use prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, MessageDescriptor, Value,
};
use ring::hmac;

use crate::access::policy::Method;
use crate::seal::MasterKeys;

/// Keyed digest of a request without its secrets, and the id of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// Id of the key.
    pub key_id: Arc<str>,
    /// HMAC-SHA256.
    pub bytes: Vec<u8>,
}

/// Computes digests.
pub struct RequestDigests {
    key_id: Arc<str>,
    key: hmac::Key,
    /// The option of secret fields, once a request was digested: it is in the descriptors, which take a megabyte.
    secret: OnceLock<ExtensionDescriptor>,
}

/// Returns the descriptors of Shoreguard's own API.
fn pool() -> &'static DescriptorPool {
    crate::pb::descriptors::OWN.pool()
}

impl RequestDigests {
    /// Uses the digest key of the current master key.
    #[must_use]
    pub fn new(master: &MasterKeys) -> Self {
        let (key_id, key) = master.digest_key();
        Self { key_id: key_id.into(), key, secret: OnceLock::new() }
    }

    fn secret(&self) -> &ExtensionDescriptor {
        self.secret.get_or_init(|| {
            let option = pool().get_extension_by_name("shoreguard.options.v1.secret");
            option.expect("the option is in the same set")
        })
    }

    /// Returns the digest of an encoded message of Shoreguard's own API, without its secrets. Returns `None` if the
    /// message cannot be decoded.
    #[must_use]
    pub fn digest(&self, message: &str, bytes: &[u8]) -> Option<Digest> {
        let descriptor = pool().get_message_by_name(message)?;
        let mut message = DynamicMessage::decode(descriptor, bytes).ok()?;
        self.strip(&mut message);
        let digest = hmac::sign(&self.key, &canonical::encode_message(&message));
        Some(Digest { key_id: Arc::clone(&self.key_id), bytes: digest.as_ref().to_vec() })
    }

    /// Starts a digest of streamed bytes.
    #[must_use]
    pub fn start_stream(&self) -> StreamDigest {
        StreamDigest {
            key_id: Arc::clone(&self.key_id),
            context: hmac::Context::with_key(&self.key),
        }
    }

    /// Whether the responses of a method contain a secret. True for an unknown method.
    #[must_use]
    pub fn returns_secret(&self, method: &Method) -> bool {
        let mut parts = method.path.trim_start_matches('/').split('/');
        let (Some(service), Some(name)) = (parts.next(), parts.next()) else { return true };
        let found = pool().get_service_by_name(service);
        let Some(method) = found.and_then(|s| s.methods().find(|m| m.name() == name)) else {
            return true;
        };
        self.contains_secret(&method.output(), &mut Vec::new())
    }

    fn contains_secret(&self, message: &MessageDescriptor, seen: &mut Vec<String>) -> bool {
        if seen.iter().any(|name| name == message.full_name()) {
            return false;
        }
        seen.push(message.full_name().to_owned());
        message.fields().any(|field| {
            field.options().get_extension(self.secret()).as_bool() == Some(true)
                || field.kind().as_message().is_some_and(|inner| self.contains_secret(inner, seen))
        })
    }

    fn strip(&self, message: &mut DynamicMessage) {
        // Only fields that are set: reading the options of a field decodes them.
        let fields: Vec<_> = message.fields().map(|(field, _)| field).collect();
        for field in fields {
            if field.options().get_extension(self.secret()).as_bool() == Some(true) {
                message.clear_field(&field);
            } else if field.kind().as_message().is_some() {
                self.strip_value(message.get_field_mut(&field));
            }
        }
    }

    fn strip_value(&self, value: &mut Value) {
        match value {
            Value::Message(inner) => self.strip(inner),
            Value::List(list) => list.iter_mut().for_each(|v| self.strip_value(v)),
            Value::Map(map) => map.values_mut().for_each(|v| self.strip_value(v)),
            Value::Bool(_)
            | Value::I32(_)
            | Value::I64(_)
            | Value::U32(_)
            | Value::U64(_)
            | Value::F32(_)
            | Value::F64(_)
            | Value::String(_)
            | Value::Bytes(_)
            | Value::EnumNumber(_) => {}
        }
    }
}

/// A digest that is being computed.
pub struct StreamDigest {
    key_id: Arc<str>,
    context: hmac::Context,
}

impl StreamDigest {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    /// Returns the digest of all added bytes.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest { key_id: self.key_id, bytes: self.context.sign().as_ref().to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::v1 as pb;
    use crate::secret::Secret;

    fn digests(byte: &str) -> RequestDigests {
        RequestDigests::new(&MasterKeys::parse(&Secret::new(byte.repeat(32))).unwrap())
    }

    fn login(email: &str, password: &str) -> Vec<u8> {
        pb::LoginRequest { email: email.into(), password: password.into() }.encode_to_vec()
    }

    #[test]
    fn t17_a_digest_reveals_no_secret_and_depends_on_the_server_key() {
        let digests_here = digests("5a");
        let of = |bytes: &[u8]| digests_here.digest("shoreguard.v1.LoginRequest", bytes).unwrap();
        let one = of(&login("ana@example.com", "one"));
        assert_eq!(one, of(&login("ana@example.com", "another")));
        assert_ne!(one, of(&login("eve@example.com", "one")));
        let elsewhere = digests("5b");
        let other =
            elsewhere.digest("shoreguard.v1.LoginRequest", &login("ana@example.com", "one"));
        assert_ne!(other.unwrap(), one);
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_map_entries() {
        let digests = digests("5a");
        let request = |gpu: bool| {
            let labels = (0..20).map(|n| (format!("key-{n}"), format!("value-{n}"))).collect();
            pb::CreateSandboxRequest { gateway: "edge".into(), labels, gpu, ..Default::default() }
        };
        // The order of map entries is random.
        let of = |gpu| {
            let bytes = request(gpu).encode_to_vec();
            digests.digest("shoreguard.v1.CreateSandboxRequest", &bytes).unwrap()
        };
        let first = of(false);
        assert!((0..20).all(|_| of(false) == first));
        assert_ne!(of(true), first);
        let mut other = request(false);
        other.labels.insert("key-0".into(), "another".into());
        let other = digests.digest("shoreguard.v1.CreateSandboxRequest", &other.encode_to_vec());
        assert_ne!(other.unwrap(), first);
    }

    #[test]
    fn t17_secrets_in_nested_messages_are_left_out_of_the_digest() {
        let digests = digests("5a");
        let register = |token: &str| {
            let credentials =
                pb::GatewayCredentials { bearer_token: token.into(), ..Default::default() };
            let request = pb::RegisterGatewayRequest {
                name: "edge".into(),
                credentials: Some(credentials),
                ..Default::default()
            };
            digests
                .digest("shoreguard.v1.RegisterGatewayRequest", &request.encode_to_vec())
                .unwrap()
        };
        assert_eq!(register("one"), register("another"));
        let path = |path: &str| crate::access::policy::find_method(path).unwrap();
        let service = "/shoreguard.v1.ServicePrincipalService";
        assert!(digests.returns_secret(path(&format!("{service}/RotateServicePrincipal"))));
        assert!(!digests.returns_secret(path(&format!("{service}/GetServicePrincipal"))));
    }
}

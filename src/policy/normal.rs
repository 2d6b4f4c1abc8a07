//! The normal form of a policy: policies that differ in spelling only have the same one.
//!
//! It is compared and never sent. Where it equates too much, a hint is wrong and nothing else.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use prost_reflect::{DynamicMessage, FieldDescriptor, MapKey, ReflectMessage, Value};
use shoreguard_proto::release::Generation;

use super::{canonical, schema, write};

/// Brings a text into its normal form.
type Spelling = fn(&str) -> String;

/// Texts with several spellings, by message and field.
const SPELLINGS: &[(&str, &str, Spelling)] = &[
    (schema::ENDPOINT, "host", host),
    (schema::SELECTOR, "include", host),
    (schema::SELECTOR, "exclude", host),
    (schema::ENDPOINT, "allowed_ips", network),
    (schema::ENDPOINT, "path", url_path),
    (schema::ALLOW, "path", url_path),
    (schema::DENY, "path", url_path),
    (schema::ENDPOINT, "access", word),
    (schema::ENDPOINT, "enforcement", word),
    (schema::ENDPOINT, "tls", word),
];

/// Returns the encoded normal form of a policy.
pub(super) fn encode(generation: Generation, message: &DynamicMessage) -> Option<Vec<u8>> {
    let mut message = message.clone();
    normalize(&mut message);
    canonical::encode(generation, &message).ok()
}

fn normalize(message: &mut DynamicMessage) {
    let descriptor = message.descriptor();
    if schema::is_json(&descriptor) {
        return;
    }
    if descriptor.full_name() == schema::ENDPOINT {
        merge_ports(message);
    }
    for (field, value) in message.fields_mut() {
        let of = descriptor.full_name();
        let found = SPELLINGS.iter().find(|(name, key, _)| *name == of && *key == field.name());
        normalize_value(&field, value, found.map(|(_, _, spelling)| *spelling));
    }
}

fn normalize_value(field: &FieldDescriptor, value: &mut Value, spelling: Option<Spelling>) {
    if let Value::Message(message) = value {
        normalize(message);
    } else if let Value::String(text) = value {
        if let Some(spelling) = spelling {
            *text = spelling(text);
        }
    } else if let Value::List(items) = value {
        for item in items.iter_mut() {
            normalize_value(field, item, spelling);
        }
        // No list of a policy has an order: each item adds to the others.
        items.sort_by_cached_key(|item| write::text(field, item));
        items.dedup_by_key(|item| write::text(field, item));
    } else if let Value::Map(entries) = value {
        for (key, value) in entries {
            normalize_value(field, value, spelling);
            drop_default_name(key, value);
        }
    }
}

/// Clears the name of a rule or middleware if it is the key: this is what an empty name means.
fn drop_default_name(key: &MapKey, value: &mut Value) {
    let (MapKey::String(key), Value::Message(message)) = (key, value) else { return };
    let name = message.get_field_by_name("name").and_then(|name| name.as_str().map(str::to_owned));
    if name.as_ref() == Some(key) {
        message.clear_field_by_name("name");
    }
}

/// Makes one set of `port` and `ports`.
fn merge_ports(endpoint: &mut DynamicMessage) {
    let ports = ports(endpoint);
    endpoint.clear_field_by_name("port");
    endpoint.clear_field_by_name("ports");
    if let (false, Some(field)) =
        (ports.is_empty(), endpoint.descriptor().get_field_by_name("ports"))
    {
        *endpoint.get_field_mut(&field) = Value::List(ports.into_iter().map(Value::U32).collect());
    }
}

/// Returns the ports of an endpoint, from both of its fields.
pub(super) fn ports(endpoint: &DynamicMessage) -> BTreeSet<u32> {
    let one = endpoint.get_field_by_name("port").and_then(|port| port.as_u32());
    let mut ports: BTreeSet<u32> = one.into_iter().collect();
    if let Some(list) = endpoint.get_field_by_name("ports") {
        ports.extend(list.as_list().unwrap_or_default().iter().filter_map(Value::as_u32));
    }
    ports.remove(&0);
    ports
}

/// Returns a host in lower case, without a dot at its end and with one spelling per address.
pub(super) fn host(text: &str) -> String {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
    bare.parse::<IpAddr>().map_or(text.clone(), |address| address.to_string())
}

fn network(text: &str) -> String {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let network = address.or_else(|_| text.parse::<IpNet>());
    network.map_or_else(|_| text.to_owned(), |network| network.trunc().to_string())
}

/// Decodes the percent escapes of characters that need none, and writes the others in upper case.
pub(super) fn url_path(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let code = after.get(..2).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        let Some(byte) = byte else {
            out.push('%');
            rest = after;
            continue;
        };
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(byte.into());
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        rest = &after[2..];
    }
    out.push_str(rest);
    out
}

fn word(text: &str) -> String {
    text.to_ascii_lowercase().replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::*;

    fn policy(endpoint: &str) -> Policy {
        let text = format!("network_policies: {{a: {{endpoints: [{endpoint}]}}}}");
        Policy::from_yaml(Generation::V0_0, "yaml", &text).unwrap()
    }

    #[test]
    fn policies_that_differ_in_spelling_only_are_equivalent() {
        for (one, other) in [
            ("{host: PyPI.org.}", "{host: pypi.org}"),
            ("{host: '[::1]'}", "{host: '0:0:0::1'}"),
            ("{host: a, port: 443}", "{host: a, ports: [443]}"),
            ("{host: a, port: 443, ports: [80]}", "{host: a, ports: [443, 80, 443]}"),
            ("{host: a, allowed_ips: [10.0.0.1]}", "{host: a, allowed_ips: [10.0.0.1/32]}"),
            ("{host: a, allowed_ips: [10.0.0.9/8]}", "{host: a, allowed_ips: [10.0.0.0/8]}"),
            ("{host: a, path: '/%7eb%2fc'}", "{host: a, path: '/~b%2Fc'}"),
            ("{host: a, access: Read_Only}", "{host: a, access: read-only}"),
            ("{host: a}, {host: b}", "{host: b}, {host: a}, {host: a}"),
        ] {
            let (one, other) = (policy(one), policy(other));
            assert!(one.is_equivalent(&other), "{} {}", one.to_yaml(), other.to_yaml());
            assert_ne!(one.digest(), other.digest());
        }
        for (one, other) in [
            ("{host: a}", "{host: b}"),
            ("{host: a, path: '/a%2fb'}", "{host: a, path: /a/b}"),
            ("{host: a, path: /A}", "{host: a, path: /a}"),
            ("{host: a, ports: [80]}", "{host: a, ports: [80, 443]}"),
            ("{host: a}", "{host: a, access: full}"),
        ] {
            assert!(!policy(one).is_equivalent(&policy(other)), "{one} {other}");
        }
    }

    #[test]
    fn the_name_of_a_rule_is_its_key_by_default() {
        let of = |name: &str| {
            let text = format!("network_policies: {{a: {{name: {name}}}}}");
            Policy::from_yaml(Generation::V0_1, "yaml", &text).unwrap()
        };
        assert!(of("a").is_equivalent(&of("''")));
        assert!(!of("a").is_equivalent(&of("b")));
    }
}

//! Endpoints of rules: the form in which gateways store them, which of them are merged, and the result.

use prost_reflect::{DynamicMessage, ReflectMessage, Value};
use shoreguard_proto::release::Generation;

use super::parts;

/// The limit of a JSON-RPC body if an endpoint has none, in bytes.
const JSON_RPC_BODY_BYTES: u32 = 64 * 1024;
/// The field of that limit.
const JSON_RPC_BODY_FIELD: &str = "json_rpc_max_body_bytes";
/// The mark of an endpoint.
pub(super) const MARK: &str = "advisor_proposed";

/// An endpoint.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    message: DynamicMessage,
    /// Its host in lower case, by which hosts are compared.
    host: String,
    path: String,
    ports: Vec<u32>,
}

/// How an endpoint is inspected as MCP, with defaults.
#[derive(Debug, PartialEq)]
struct McpContract<'a> {
    is_strict: bool,
    allows_all_known: bool,
    body_bytes: u32,
    versions: &'a [Value],
}

impl Endpoint {
    /// Reads what identifies an endpoint.
    pub(super) fn read(message: DynamicMessage) -> Self {
        let host = parts::text(&message, "host").to_ascii_lowercase();
        let path = parts::text(&message, "path");
        let listed = parts::list(&message, "ports").iter().filter_map(Value::as_u32);
        let mut ports: Vec<u32> = listed.collect();
        if ports.is_empty() {
            ports.extend(Some(parts::number(&message, "port")).filter(|port| *port != 0));
        }
        Self { message, host, path, ports }
    }

    pub(super) fn into_message(self) -> DynamicMessage {
        self.message
    }

    /// Returns the host as it is written.
    pub(super) fn shown_host(&self) -> String {
        parts::text(&self.message, "host")
    }

    /// Returns the path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Returns the ports, from either field; empty if it has none.
    pub(super) fn ports(&self) -> &[u32] {
        &self.ports
    }

    /// Returns the value of a field.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        parts::value(&self.message, name)
    }

    /// Returns the text of a field, or the word of its enum value.
    pub(super) fn text(&self, name: &str) -> String {
        parts::text(&self.message, name)
    }

    /// Returns whether a flag is set.
    pub(super) fn flag(&self, name: &str) -> bool {
        parts::flag(&self.message, name)
    }

    /// Returns the items of a list.
    pub(super) fn list(&self, name: &str) -> &[Value] {
        parts::list(&self.message, name)
    }

    /// Adds the items that a list does not have yet.
    pub(super) fn append_new(&mut self, name: &str, given: &[Value]) {
        parts::append_new(&mut self.message, name, given);
    }

    /// Sets a field to the value of another endpoint, unless it is already set.
    pub(super) fn fill(&mut self, given: &Self, name: &str) {
        parts::fill(&mut self.message, &given.message, name);
    }

    /// Sets the ports, in order and once each. `port` is the lowest of them.
    pub(super) fn set_ports(&mut self, mut ports: Vec<u32>) {
        ports.sort_unstable();
        ports.dedup();
        self.message.clear_field_by_name("port");
        self.message.clear_field_by_name("ports");
        if let Some(first) = ports.first() {
            parts::set(&mut self.message, "port", Value::U32(*first));
            let all = ports.iter().copied().map(Value::U32).collect();
            parts::set(&mut self.message, "ports", Value::List(all));
        }
        self.ports = ports;
    }

    /// Brings the endpoint into the form in which a gateway stores it.
    pub(super) fn normalize(&mut self) {
        self.set_ports(self.ports.clone());
        for name in ["allowed_ips", "rules", "deny_rules"] {
            parts::remove_repeated(&mut self.message, name);
        }
    }

    /// Returns whether two endpoints have the same host and path.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        self.host == other.host && self.path == other.path
    }

    /// Returns what places an endpoint: its host, as it is compared, and its path.
    pub(super) fn place(&self) -> (&str, &str) {
        (&self.host, &self.path)
    }

    /// Returns 1 and the number of the ports, rules and addresses that the endpoint lists.
    pub(super) fn parts(&self) -> usize {
        let lists = ["rules", "deny_rules", "allowed_ips"].map(|name| self.list(name).len());
        1 + self.ports.len() + lists.iter().sum::<usize>()
    }

    /// Returns whether a list has all items of that of another endpoint.
    pub(super) fn includes(&self, other: &Self, name: &str) -> bool {
        parts::includes(&self.message, &other.message, name)
    }

    /// Returns whether the endpoint is as it was, and covers itself: not if it has options of MCP only.
    pub(super) fn is_unchanged(&self, before: &Self) -> bool {
        self.message == before.message && self.has_equal_contract(before)
    }

    /// Returns whether two endpoints have host and path in common, and a port. The other one is normalized.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.is_at(other) && self.shared_port(other).is_some()
    }

    /// Returns the first port that a normalized endpoint has as well.
    fn shared_port(&self, other: &Self) -> Option<u32> {
        self.ports.iter().copied().find(|port| other.ports.binary_search(port).is_ok())
    }

    /// Returns whether the endpoint has a host.
    pub(super) fn has_host(&self, host: &str) -> bool {
        self.host.eq_ignore_ascii_case(host)
    }

    /// Returns whether the endpoint has a host and a port.
    pub(super) fn has_address(&self, host: &str, port: u32) -> bool {
        self.has_host(host) && self.ports.contains(&port)
    }

    /// Merges another endpoint, which is normalized and overlaps this one. Values that are already set are kept, and
    /// lists are extended.
    ///
    /// # Errors
    /// Why they cannot be merged.
    pub(super) fn merge(&mut self, given: &Self, generation: Generation) -> Result<(), String> {
        let first = given.ports.first().copied();
        let port = self.shared_port(given).or(first).unwrap_or(0);
        let becomes_mcp = self.becomes_mcp(given);
        if !becomes_mcp && !self.has_equal_contract(given) {
            let host = self.shown_host();
            return Err(format!(
                "inspects {host}:{port} as MCP in another way than the policy, which cannot be merged"
            ));
        }
        self.set_ports([self.ports.as_slice(), given.ports.as_slice()].concat());
        self.fill(given, "protocol");
        if becomes_mcp {
            self.fill(given, "mcp");
            self.fill(given, JSON_RPC_BODY_FIELD);
        }
        self.fill(given, "enforcement");
        self.fill(given, "tls");
        if !given.list("rules").is_empty() {
            self.expand_access(port)?;
            self.append_new("rules", given.list("rules"));
        } else if self.list("rules").is_empty() {
            self.fill(given, "access");
        }
        self.append_new("deny_rules", given.list("deny_rules"));
        self.append_new("allowed_ips", given.list("allowed_ips"));
        let (kept, given) = (&mut self.message, &given.message);
        for name in [
            "allow_encoded_slash",
            "websocket_credential_rewrite",
            "request_body_credential_rewrite",
        ] {
            parts::raise(kept, given, name);
        }
        match generation {
            Generation::V0_0 => parts::raise(kept, given, MARK),
            Generation::V0_1 => {
                parts::raise(kept, given, "allow_uninspected_credentials");
                parts::lower(kept, given, MARK);
            }
        }
        self.normalize();
        Ok(())
    }

    /// Refuses to change the allow and deny rules of an endpoint that is not inspected by method and path.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn check_has_methods(&self, port: u32) -> Result<(), String> {
        let (host, protocol) = (self.shown_host(), self.text("protocol"));
        match protocol.as_str() {
            "rest" | "websocket" => Ok(()),
            "" => Err(format!("has a target without inspection: {host}:{port} has no `protocol`")),
            _ => Err(format!(
                "has a target whose `protocol` is `{protocol}` ({host}:{port}): must be `rest` or `websocket`"
            )),
        }
    }

    /// Replaces the access preset by the allow rules that it means.
    ///
    /// # Errors
    /// The preset is unknown.
    pub(super) fn expand_access(&mut self, port: u32) -> Result<(), String> {
        let (protocol, access) = (self.text("protocol"), self.text("access"));
        let methods: &[&str] = match (protocol.as_str(), access.as_str()) {
            (_, "") => return Ok(()),
            (_, "full") => &["*"],
            ("websocket", "read-only") => &["GET"],
            ("websocket", "read-write") => &["GET", "WEBSOCKET_TEXT"],
            (_, "read-only") => &["GET", "HEAD", "OPTIONS"],
            (_, "read-write") => &["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH"],
            (_, _) => {
                let host = self.shown_host();
                return Err(format!("has a target with an unknown `access` ({host}:{port})"));
            }
        };
        let allowed: Vec<Value> =
            methods.iter().filter_map(|method| self.allow_everywhere(method)).collect();
        self.message.clear_field_by_name("access");
        self.append_new("rules", &allowed);
        Ok(())
    }

    /// Returns an allow rule for a method on every path.
    fn allow_everywhere(&self, method: &str) -> Option<Value> {
        let kind = self.message.descriptor().get_field_by_name("rules")?.kind();
        let mut rule = DynamicMessage::new(kind.as_message()?.clone());
        let kind = rule.descriptor().get_field_by_name("allow")?.kind();
        let mut allow = DynamicMessage::new(kind.as_message()?.clone());
        parts::set(&mut allow, "method", Value::String(method.to_owned()));
        parts::set(&mut allow, "path", Value::String("**".to_owned()));
        parts::set(&mut rule, "allow", Value::Message(allow));
        Some(Value::Message(rule))
    }

    fn mcp(&self) -> Option<&DynamicMessage> {
        self.value("mcp").and_then(Value::as_message)
    }

    fn is_mcp(&self) -> bool {
        self.text("protocol").eq_ignore_ascii_case("mcp")
    }

    /// Returns whether the endpoint is inspected as MCP, or has options for it.
    pub(super) fn uses_mcp(&self) -> bool {
        self.is_mcp() || self.mcp().is_some()
    }

    fn contract(&self) -> Option<McpContract<'_>> {
        let option = |name: &str| self.mcp().and_then(|mcp| parts::value(mcp, name)?.as_bool());
        let bytes = parts::number(&self.message, JSON_RPC_BODY_FIELD);
        self.is_mcp().then(|| McpContract {
            is_strict: option("strict_tool_names").unwrap_or(true),
            allows_all_known: option("allow_all_known_mcp_methods").unwrap_or(false),
            body_bytes: if bytes == 0 { JSON_RPC_BODY_BYTES } else { bytes },
            versions: self.mcp().map(|mcp| parts::list(mcp, "versions")).unwrap_or_default(),
        })
    }

    /// Returns whether two endpoints are inspected in the same way, as far as MCP is concerned.
    pub(super) fn has_equal_contract(&self, other: &Self) -> bool {
        match (self.contract(), other.contract()) {
            (None, None) => !self.uses_mcp() && !other.uses_mcp(),
            (own, other) => own == other,
        }
    }

    /// Returns whether two endpoints have the same protocol.
    pub(super) fn has_equal_protocol(&self, other: &Self) -> bool {
        self.value("protocol") == other.value("protocol") || (self.is_mcp() && other.is_mcp())
    }

    /// Returns whether an endpoint without inspection gets the MCP inspection of another one.
    fn becomes_mcp(&self, given: &Self) -> bool {
        let is_bare =
            ["protocol", "mcp", JSON_RPC_BODY_FIELD].iter().all(|name| self.value(name).is_none());
        is_bare && given.contract().is_some()
    }
}

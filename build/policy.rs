//! Generates the method tables from the option of each RPC. A missing or contradictory option fails the build with the
//! path of the RPC.

use std::fmt::Write;
use std::path::Path;

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ReflectMessage, Value,
};

use super::actions::Actions;

const OPTIONS: &str = "shoreguard.options.v1";

fn methods(pool: &DescriptorPool) -> Vec<(String, MethodDescriptor)> {
    let mut methods: Vec<_> = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|m| (format!("/{}/{}", m.parent_service().full_name(), m.name()), m))
        .collect();
    methods.sort_by(|a, b| a.0.cmp(&b.0));
    methods
}

fn method_option(
    pool: &DescriptorPool,
    path: &str,
    method: &MethodDescriptor,
    name: &str,
) -> DynamicMessage {
    let extension = pool
        .get_extension_by_name(&format!("{OPTIONS}.{name}"))
        .unwrap_or_else(|| panic!("no option {OPTIONS}.{name}"));
    let options = method.options();
    assert!(options.has_extension(&extension), "{path}: no ({OPTIONS}.{name}) option");
    let value = options.get_extension(&extension);
    value.as_message().expect("the option is a message").clone()
}

/// Returns the name of the enum value without its prefix, in camel case: `SCOPE_GATEWAY` is `Gateway`.
fn enum_variant(option: &DynamicMessage, field: &str, path: &str) -> String {
    let descriptor = option.descriptor().get_field_by_name(field).expect("a field of the option");
    let Kind::Enum(kind) = descriptor.kind() else { panic!("{field} is an enum") };
    let value = option.get_field(&descriptor);
    let number = value.as_enum_number().expect("an enum");
    assert!(number != 0, "{path}: `{field}` is required");
    let value = kind.get_value(number).unwrap_or_else(|| panic!("{path}: `{field}` is unknown"));
    let prefix: String = kind
        .name()
        .chars()
        .enumerate()
        .flat_map(|(i, c)| {
            let gap = (i > 0 && c.is_ascii_uppercase()).then_some('_');
            gap.into_iter().chain([c.to_ascii_uppercase()])
        })
        .collect();
    let name =
        value.name().strip_prefix(&format!("{prefix}_")).expect("a prefixed value").to_owned();
    to_camel_case(&name)
}

fn string_field(option: &DynamicMessage, field: &str) -> String {
    option.get_field_by_name(field).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn streaming_kind(method: &MethodDescriptor) -> &'static str {
    match (method.is_client_streaming(), method.is_server_streaming()) {
        (false, false) => "StreamingMode::Unary",
        (false, true) => "StreamingMode::Server",
        (true, false) => "StreamingMode::Client",
        (true, true) => "StreamingMode::Both",
    }
}

fn add_action(actions: &mut Actions, option: &DynamicMessage, path: &str) -> String {
    actions.add(path, &string_field(option, "resource_type"), &string_field(option, "verb"))
}

/// Writes `METHODS`, sorted by path, and `impl Rpc` for each request message.
pub(crate) fn write_methods(descriptors: &[u8], actions: &mut Actions, file: &Path) {
    let pool = DescriptorPool::decode(descriptors).expect("our own descriptor set");
    let (mut rows, mut impls) = (String::new(), String::new());
    for (index, (path, method)) in methods(&pool).iter().enumerate() {
        let policy = method_option(&pool, path, method, "policy");
        let public_or_any = policy.has_field_by_name("access");
        assert!(
            public_or_any != policy.has_field_by_name("role"),
            "{path}: exactly one of `access` and `role` is required"
        );
        let access = if public_or_any {
            format!("AllowedCallers::{}", enum_variant(&policy, "access", path))
        } else {
            format!("AllowedCallers::Role(Role::{})", enum_variant(&policy, "role", path))
        };
        let scope = enum_variant(&policy, "scope", path);
        // Any authenticated caller can call such a method and gets its own objects. The scope gives the handler what
        // else the caller can see.
        let is_own_objects = access == "AllowedCallers::Authenticated"
            && matches!(scope.as_str(), "Fleet" | "Loaded");
        assert!(
            !public_or_any || scope == "Global" || is_own_objects,
            "{path}: `access` requires SCOPE_GLOBAL; ACCESS_AUTHENTICATED also permits SCOPE_FLEET and SCOPE_LOADED"
        );
        let audit = enum_variant(&policy, "audit", path);
        let action = add_action(actions, &policy, path);
        let streaming = streaming_kind(method);
        writeln!(
            rows,
            "Method {{ path: {path:?}, access: {access}, scope: ScopeKind::{scope}, audit: AuditMode::{audit}, \
             action: {action}, streaming: {streaming}, request: {:?} }},",
            method.input().full_name()
        )
        .expect("a string takes all");
        let is_write = audit == "Write";
        let context = match (access.as_str(), scope.as_str()) {
            ("AllowedCallers::Public", _) => "crate::ctx::AnonymousCtx",
            (_, "Fleet") => "crate::ctx::FleetCtx",
            (_, "Loaded") => "crate::ctx::PendingCtx",
            _ => "crate::ctx::Ctx",
        };
        // The response of a bidirectional stream cannot be replayed.
        let is_replayable =
            streaming != "StreamingMode::Both" && access != "AllowedCallers::Public";
        let request_id = request_id_code(path, method, is_write && is_replayable);
        writeln!(
            impls,
            "impl Rpc for crate::pb::v1::{} {{ type Context = {context}; \
             const METHOD: &'static Method = &METHODS[{index}]; \
             fn scope(&self) -> Scope<'_> {{ {} }} fn request_id(&self) -> {request_id} \
             fn audit_subject(&self) -> AuditSubject {{ {} }} }}",
            method.input().name(),
            scope_code(path, method, &policy, &scope),
            about_code(path, method, &policy, &action),
        )
        .expect("a string takes all");
    }
    let code = format!(
        "/// Every rpc of our own API, sorted by path.\npub static METHODS: &[Method] = &[\n{rows}];\n{impls}"
    );
    std::fs::write(file, code).expect("OUT_DIR is writable");
}

fn scope_code(
    path: &str,
    method: &MethodDescriptor,
    policy: &DynamicMessage,
    scope: &str,
) -> String {
    let fields = policy.get_field_by_name("gateway_fields");
    let fields: Vec<String> = fields
        .as_deref()
        .and_then(Value::as_list)
        .map(|list| list.iter().map(|v| v.as_str().expect("a string").to_owned()).collect())
        .unwrap_or_default();
    assert!(
        (scope == "Gateway") != fields.is_empty(),
        "{path}: SCOPE_GATEWAY requires `gateway_fields`, and other scopes forbid it"
    );
    for field in &fields {
        let found = method.input().get_field_by_name(field);
        assert!(
            found.is_some_and(|f| f.kind() == Kind::String && !f.is_list()),
            "{path}: gateway field `{field}` is not a string of {}",
            method.input().full_name()
        );
    }
    match scope {
        "Global" => "Scope::Global".to_owned(),
        "Fleet" => "Scope::Fleet".to_owned(),
        "Loaded" => "Scope::Loaded".to_owned(),
        _ => {
            let list: Vec<String> = fields.iter().map(|f| format!("self.{f}.as_str()")).collect();
            format!("Scope::Gateways([{}].into())", list.join(", "))
        }
    }
}

/// Returns the code of the audit subject: the action, and the value of `target_field` or `subject_field`.
fn about_code(
    path: &str,
    method: &MethodDescriptor,
    policy: &DynamicMessage,
    action: &str,
) -> String {
    let about = |target: &str| format!("AuditSubject {{ action: {action}, target: {target} }}");
    let (field, subject) =
        (string_field(policy, "target_field"), string_field(policy, "subject_field"));
    assert!(
        field.is_empty() || subject.is_empty(),
        "{path}: one of `target_field` and `subject_field`"
    );
    if !subject.is_empty() {
        let (of, kinds) = subject_kinds(path, method, &subject);
        let mut arms = String::new();
        for (kind, variant) in kinds {
            // As in the actor of a call: `sp:` and a name.
            let short = if kind == "service_principal" { "sp" } else { &kind };
            write!(arms, "Some({variant}(name)) => format!(\"{short}:{{name}}\"), ")
                .expect("a string takes all");
        }
        return about(&format!(
            "match self.{subject}.as_ref().and_then(|of| of.{of}.as_ref()) {{ {arms}None => String::new() }}"
        ));
    }
    if field.is_empty() {
        return about("String::new()");
    }
    let found = method.input().get_field_by_name(&field);
    assert!(
        found.is_some_and(|f| f.kind() == Kind::String),
        "{path}: target field `{field}` is not a string"
    );
    about(&format!("self.{field}.clone()"))
}

/// Returns the oneof of a subject field, and the name and generated variant of each of its kinds.
fn subject_kinds(
    path: &str,
    method: &MethodDescriptor,
    field: &str,
) -> (String, Vec<(String, String)>) {
    let kind = method.input().get_field_by_name(field).map(|field| field.kind());
    let Some(Kind::Message(message)) = kind else {
        panic!("{path}: subject field `{field}` is not a message");
    };
    let oneof = message.oneofs().next();
    let oneof = oneof.unwrap_or_else(|| panic!("{path}: `{field}` has no oneof"));
    let (module, of) = (message.name().to_lowercase(), oneof.name().to_owned());
    let kinds = oneof.fields().map(|kind| {
        assert!(kind.kind() == Kind::String, "{path}: `{}` is not a string", kind.name());
        let variant = format!(
            "crate::pb::v1::{module}::{}::{}",
            to_camel_case(&of),
            to_camel_case(kind.name())
        );
        (kind.name().to_owned(), variant)
    });
    let kinds = kinds.collect();
    (of, kinds)
}

fn to_camel_case(name: &str) -> String {
    name.split('_').map(|part| part[..1].to_uppercase() + &part[1..].to_lowercase()).collect()
}

/// Returns the generated Rust type and body of the method that reads `request_id`, by which a repeat is harmless. Panics
/// if a write has no such field.
fn request_id_code(path: &str, method: &MethodDescriptor, needed: bool) -> &'static str {
    let has = method.input().get_field_by_name("request_id").is_some();
    assert!(!needed || has, "{path}: a write takes `request_id`");
    if needed { "&str { &self.request_id }" } else { "&'static str { \"\" }" }
}

/// Returns the number of a map field of the request, or `None` if `name` is empty.
fn annotations_field(path: &str, method: &MethodDescriptor, name: &str) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    let field = method.input().get_field_by_name(name);
    let field = field.filter(FieldDescriptor::is_map);
    Some(field.unwrap_or_else(|| panic!("{path}: `{name}` is not a map of the request")).number())
}

/// Returns the path of fields to a dotted field, which must end in a string.
fn field_path(path: &str, message: &MessageDescriptor, dotted: &str) -> Vec<FieldDescriptor> {
    let (mut message, mut fields) = (message.clone(), Vec::new());
    let parts: Vec<&str> = dotted.split('.').filter(|part| !part.is_empty()).collect();
    for (i, part) in parts.iter().enumerate() {
        let field = message.get_field_by_name(part).unwrap_or_else(|| {
            panic!("{path}: `{dotted}` is not a field of {}", message.full_name())
        });
        fields.push(field.clone());
        #[expect(clippy::wildcard_enum_match_arm, reason = "every other kind is refused")]
        match field.kind() {
            Kind::Message(next) if i + 1 < parts.len() => message = next,
            Kind::String if i + 1 == parts.len() => {}
            _ => panic!("{path}: `{dotted}` does not end in a string"),
        }
    }
    fields
}

/// Returns the path of field numbers to a dotted field, which must end in a string.
fn field_numbers(path: &str, message: &MessageDescriptor, dotted: &str) -> Vec<u32> {
    field_path(path, message, dotted).iter().map(FieldDescriptor::number).collect()
}

/// Returns whether a field contains a secret.
fn is_secret(pool: &DescriptorPool, field: &FieldDescriptor) -> bool {
    let extension = pool.get_extension_by_name(&format!("{OPTIONS}.secret")).expect("an option");
    field.options().get_extension(&extension).as_bool().unwrap_or_default()
}

/// Returns the path of field numbers to the id by which a gateway detects a repeated request; empty if it has no such
/// id. In a streamed request, the id is in the message that starts the stream.
fn request_id_path(method: &MethodDescriptor) -> Vec<u32> {
    let number_of =
        |message: &MessageDescriptor| Some(message.get_field_by_name("request_id")?.number());
    if let Some(number) = number_of(&method.input()) {
        return vec![number];
    }
    let start = method.input().get_field_by_name("start").filter(|_| method.is_client_streaming());
    let nested = start.and_then(|start| {
        let number = number_of(start.kind().as_message()?)?;
        Some(vec![start.number(), number])
    });
    nested.unwrap_or_default()
}

/// Writes the table of one upstream generation, sorted by path.
pub(crate) fn write_upstream(descriptors: &[u8], actions: &mut Actions, table: &str, file: &Path) {
    let pool = DescriptorPool::decode(descriptors).expect("the upstream's descriptor set");
    let mut rows = String::new();
    for (path, method) in methods(&pool) {
        let row = method_option(&pool, &path, &method, "upstream");
        let streaming = streaming_kind(&method);
        let request = method.input().full_name().to_owned();
        if enum_variant(&row, "forward", &path) == "Never" {
            writeln!(rows, "UpstreamMethod {{ path: {path:?}, streaming: {streaming}, request: {request:?}, request_id: &[], policy: None }},")
                .expect("a string takes all");
            continue;
        }
        let action = add_action(actions, &row, &path);
        let key = enum_variant(&row, "sandbox_key", &path);
        let sandbox = field_numbers(&path, &method.input(), &string_field(&row, "sandbox_field"));
        let workspace =
            field_numbers(&path, &method.input(), &string_field(&row, "workspace_field"));
        assert!(
            (key == "None") == sandbox.is_empty(),
            "{path}: a `sandbox_key` requires `sandbox_field`, and SANDBOX_KEY_NONE forbids it"
        );
        let target = field_path(&path, &method.input(), &string_field(&row, "target_field"));
        let target_secret = target.last().is_some_and(|field| is_secret(&pool, field));
        let target: Vec<u32> = target.iter().map(FieldDescriptor::number).collect();
        assert!(
            enum_variant(&row, "audit", &path) != "Write" || !target.is_empty() || key != "None",
            "{path}: a write names a sandbox or has a `target_field`"
        );
        let request_id = request_id_path(&method);
        let service_url =
            field_numbers(&path, &method.output(), &string_field(&row, "service_url_field"));
        let flag =
            |name: &str| row.get_field_by_name(name).and_then(|v| v.as_bool()).unwrap_or_default();
        let annotations =
            annotations_field(&path, &method, &string_field(&row, "annotations_field"));
        let change = if row.has_field_by_name("change") {
            format!("Some(PolicyChange::{})", enum_variant(&row, "change", &path))
        } else {
            "None".to_owned()
        };
        assert!(
            (enum_variant(&row, "effect", &path) == "None") == (change == "None"),
            "{path}: an effect on policies requires `change`, and POLICY_EFFECT_NONE forbids it"
        );
        let decision = Some(string_field(&row, "decision")).filter(|decision| !decision.is_empty());
        writeln!(
            rows,
            "UpstreamMethod {{ path: {path:?}, streaming: {streaming}, request: {request:?}, request_id: &{request_id:?}, policy: Some(UpstreamPolicy {{ \
             role: Role::{}, effect: PolicyEffect::{}, change: {change}, audit: AuditMode::{}, action: {action}, \
             target_path: &{target:?}, target_secret: {target_secret}, \
             sandbox_key: SandboxKey::{key}, sandbox_path: &{sandbox:?}, workspace_path: &{workspace:?}, \
             secret: {}, bulk: {}, answers_sandbox_ids: {}, annotations: {annotations:?}, answers_address: {}, \
             config_change: {}, decision: {decision:?}, service_url_path: &{service_url:?} }}) }},",
            enum_variant(&row, "role", &path),
            enum_variant(&row, "effect", &path),
            enum_variant(&row, "audit", &path),
            flag("secret"),
            flag("bulk"),
            flag("answers_sandbox_ids"),
            flag("answers_address"),
            flag("config_change"),
        )
        .expect("a string takes all");
    }
    let code = format!(
        "/// Every rpc of this generation of the upstream, sorted by path.\npub static {table}: &[UpstreamMethod] = &[\n{rows}];\n"
    );
    std::fs::write(file, code).expect("OUT_DIR is writable");
}

//! How a method may be called, read from the options of its descriptor.

use std::time::Duration;

use prost_reflect::{DynamicMessage, Kind, MethodDescriptor, Value};

use crate::app::new_id;

/// The options with the rules of Shoreguard's own methods, and of upstream methods.
const OWN: &str = "shoreguard.options.v1.policy";
const UPSTREAM: &str = "shoreguard.options.v1.upstream";
/// Values of the fields `access` and `audit` of these options.
const ACCESS_PUBLIC: i32 = 1;
const AUDIT_WRITE: i32 = 3;

/// The field that makes the repeat of a write safe.
const REQUEST_ID: &str = "request_id";
/// The only method with the field that does not accept it: a repeat could not return its tokens again.
const WITHOUT_REQUEST_ID: &str = "shoreguard.v1.AuthService.ChangePassword";

/// The method that waits for the `timeout` of its request, its default, and what its response may take in addition.
const WAITS: &str = "shoreguard.v1.OperationService.WaitOperation";
const WAIT_TIME: Duration = Duration::from_secs(25);
const WAIT_MARGIN: Duration = Duration::from_secs(10);

/// The rules of one method.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about a method")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MethodRules {
    /// It is a method of Shoreguard itself.
    pub(super) is_own: bool,
    /// It is called without a credential: a stale one would make it fail.
    pub(super) is_public: bool,
    /// Its `request_id` is set before the first attempt.
    pub(super) fills_request_id: bool,
    /// A failed attempt can be repeated: it reads, or has a `request_id`.
    pub(super) is_repeatable: bool,
}

impl MethodRules {
    /// Reads the rules. A method without rules is called once, with the credential.
    pub(super) fn of(method: &MethodDescriptor) -> Self {
        let own = option(method, OWN);
        let rules = own.clone().or_else(|| option(method, UPSTREAM));
        let number = |rules: &DynamicMessage, field: &str| {
            rules.get_field_by_name(field).and_then(|value| value.as_enum_number())
        };
        let is_own = own.is_some();
        let is_public = own.is_some_and(|own| number(&own, "access") == Some(ACCESS_PUBLIC));
        let is_write =
            rules.as_ref().is_some_and(|rules| number(rules, "audit") == Some(AUDIT_WRITE));
        let field = method.input().get_field_by_name(REQUEST_ID);
        let has_request_id = field.is_some_and(|field| field.kind() == Kind::String)
            && method.full_name() != WITHOUT_REQUEST_ID;
        let fills_request_id =
            is_own && is_write && has_request_id && !method.is_client_streaming();
        let is_repeatable =
            rules.is_some() && !method.is_client_streaming() && (!is_write || fills_request_id);
        Self { is_own, is_public, fills_request_id, is_repeatable }
    }

    /// Sets the `request_id` of a request if it has none and needs one.
    pub(super) fn complete(self, message: &mut DynamicMessage) {
        let is_empty = message
            .get_field_by_name(REQUEST_ID)
            .is_some_and(|value| value.as_str().is_some_and(str::is_empty));
        if self.fills_request_id && is_empty {
            message.set_field_by_name(REQUEST_ID, Value::String(new_id().to_string()));
        }
    }
}

/// Returns the time for a response if it depends on the request.
pub(super) fn wait_time(method: &MethodDescriptor, message: &DynamicMessage) -> Option<Duration> {
    if method.full_name() != WAITS {
        return None;
    }
    let timeout = message.get_field_by_name("timeout");
    let seconds = timeout.as_ref().and_then(|timeout| {
        let seconds = timeout.as_message()?.get_field_by_name("seconds")?;
        u64::try_from(seconds.as_i64()?).ok()
    });
    let given = seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    Some(given.unwrap_or(WAIT_TIME).saturating_add(WAIT_MARGIN))
}

/// Returns an option of a method.
fn option(method: &MethodDescriptor, name: &str) -> Option<DynamicMessage> {
    let extension = method.parent_pool().get_extension_by_name(name)?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    options.get_extension(&extension).as_message().cloned()
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::pb::descriptors;

    fn method(pool: &DescriptorPool, service: &str, name: &str) -> MethodDescriptor {
        let service = pool.get_service_by_name(service).unwrap();
        service.methods().find(|method| method.name() == name).unwrap()
    }

    fn rules(service: &str, name: &str) -> MethodRules {
        let service = format!("shoreguard.v1.{service}");
        MethodRules::of(&method(descriptors::OWN.pool(), &service, name))
    }

    #[test]
    fn rules_follow_from_the_options() {
        let read = MethodRules {
            is_own: true,
            is_public: false,
            fills_request_id: false,
            is_repeatable: true,
        };
        assert_eq!(rules("GatewayService", "GetGateway"), read);
        assert_eq!(
            rules("GatewayService", "RegisterGateway"),
            MethodRules { fills_request_id: true, ..read }
        );
        assert_eq!(
            rules("AuthService", "Login"),
            MethodRules { is_public: true, is_repeatable: false, ..read }
        );
        assert_eq!(rules("AuthService", "GetServerInfo"), MethodRules { is_public: true, ..read });
        assert!(!rules("AuthService", "RefreshSession").is_repeatable);
        assert!(!rules("AuthService", "ChangePassword").is_repeatable);
        assert!(!rules("SbomService", "UploadSbom").is_repeatable);
    }

    #[test]
    fn upstream_reads_are_repeated_and_upstream_writes_are_not() {
        let pool = descriptors::V0_1.pool();
        let of = |name| MethodRules::of(&method(pool, "openshell.v1.OpenShell", name));
        let (read, write) = (of("GetSandbox"), of("DeleteSandbox"));
        assert!(read.is_repeatable && !read.is_own && !read.is_public);
        assert!(!write.is_repeatable && !write.fills_request_id);
    }

    #[test]
    fn only_a_missing_request_id_is_set() {
        let method = method(descriptors::OWN.pool(), "shoreguard.v1.GroupService", "CreateGroup");
        let rules = MethodRules::of(&method);
        let mut message = DynamicMessage::new(method.input());
        rules.complete(&mut message);
        let made = message.clone();
        let made = made.get_field_by_name(REQUEST_ID).unwrap();
        assert_eq!(made.as_str().unwrap().len(), 36);
        rules.complete(&mut message);
        assert_eq!(message.get_field_by_name(REQUEST_ID).unwrap(), made);
    }

    #[test]
    fn the_exception_is_the_only_request_id_that_must_be_empty() {
        let mut found = Vec::new();
        for service in descriptors::OWN.documented_pool().services() {
            for method in service.methods() {
                let Some(field) = method.input().get_field_by_name(REQUEST_ID) else { continue };
                let file = field.parent_message().parent_file();
                let info = file.file_descriptor_proto().source_code_info.as_ref().unwrap();
                let at = info.location.iter().find(|at| at.path == field.path()).unwrap();
                if at.leading_comments().trim_start().starts_with("Must be empty") {
                    found.push(method.full_name().to_owned());
                }
            }
        }
        assert_eq!(found, [WITHOUT_REQUEST_ID]);
    }

    #[test]
    fn a_wait_takes_as_long_as_it_says() {
        let pool = descriptors::OWN.pool();
        let wait = method(pool, "shoreguard.v1.OperationService", "WaitOperation");
        let mut message = DynamicMessage::new(wait.input());
        assert_eq!(wait_time(&wait, &message), Some(WAIT_TIME + WAIT_MARGIN));
        let field = wait.input().get_field_by_name("timeout").unwrap();
        let Kind::Message(duration) = field.kind() else { panic!("a duration") };
        let mut timeout = DynamicMessage::new(duration);
        timeout.set_field_by_name("seconds", Value::I64(60));
        message.set_field_by_name("timeout", Value::Message(timeout));
        assert_eq!(wait_time(&wait, &message), Some(Duration::from_mins(1) + WAIT_MARGIN));
        let other = method(pool, "shoreguard.v1.OperationService", "GetOperation");
        assert_eq!(wait_time(&other, &DynamicMessage::new(other.input())), None);
    }
}

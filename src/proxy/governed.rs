//! Finds the role and the action of a governed request whose method alone does not determine them (T05).

use crate::access::action::Action;
use crate::access::policy::UpstreamPolicy;
use crate::error::Error;
use crate::openshell::settings;
use crate::pb::wire;
use crate::role::Role;

/// Setting key with which the policy for all sandboxes is deleted.
const GLOBAL_POLICY: &str = "policy";

/// Fields of `UpdateConfigRequest`, the same in both generations.
mod field {
    pub(super) const POLICY: u32 = 2;
    pub(super) const SETTING_KEY: u32 = 3;
    pub(super) const SETTING_VALUE: u32 = 4;
    pub(super) const DELETE_SETTING: u32 = 5;
    pub(super) const GLOBAL: u32 = 6;
    pub(super) const MERGE_OPERATIONS: u32 = 7;
}

/// Returns the role that a checked message requires in addition to that of its method.
///
/// # Errors
/// `SETTING_UNKNOWN` for an unknown setting key.
pub(crate) fn required_role(guard: &UpstreamPolicy, message: &[u8]) -> Result<Role, Error> {
    if !guard.config_change {
        return Ok(Role::None);
    }
    let global = wire::is_flag_set(message, field::GLOBAL);
    let delete = wire::is_flag_set(message, field::DELETE_SETTING);
    let key = wire::text_at(message, &[field::SETTING_KEY]);
    let known = |key| settings::is_known(key) || key == GLOBAL_POLICY && global && delete;
    if !key.is_none_or(known) {
        return Err(settings::unknown_key("setting_key"));
    }
    let needs_admin =
        global || delete || key.is_some() || wire::has_field(message, field::SETTING_VALUE);
    Ok(if needs_admin { Role::Admin } else { Role::Operator })
}

/// Returns what a message changes: the action, if it is more specific than that of the method, and the key of a
/// setting.
pub(super) fn parse_change(message: &[u8]) -> (Option<Action>, Option<&str>) {
    let delete = wire::is_flag_set(message, field::DELETE_SETTING);
    let key = wire::text_at(message, &[field::SETTING_KEY]);
    let action = match key {
        Some(GLOBAL_POLICY) => None,
        Some(_) if delete => Some(Action::GATEWAY_SETTING_DELETE),
        Some(_) => Some(Action::GATEWAY_SETTING_UPDATE),
        None if wire::has_field(message, field::MERGE_OPERATIONS) => Some(Action::POLICY_EDIT),
        None if wire::has_field(message, field::POLICY) => Some(Action::POLICY_APPLY),
        None => None,
    };
    (action, key.filter(|key| *key != GLOBAL_POLICY))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::access::policy::{self, UPSTREAM_V0_0};
    use crate::error::Reason;
    use crate::pb::v0_0::openshell::sandbox::v1::{SandboxPolicy, SettingValue};
    use crate::pb::v0_0::openshell::v1::UpdateConfigRequest as Update;

    fn guard(method: &str) -> &'static UpstreamPolicy {
        let path = format!("/openshell.v1.OpenShell/{method}");
        policy::find_upstream_method(UPSTREAM_V0_0, &path)
            .and_then(|row| row.policy.as_ref())
            .unwrap()
    }

    fn role(update: &Update) -> Result<Role, Reason> {
        required_role(guard("UpdateConfig"), &update.encode_to_vec())
            .map_err(|error| crate::status::code_and_reason(&error).1)
    }

    #[test]
    fn t05_the_role_of_update_config_depends_on_its_content() {
        let named = |name: &str| Update { name: name.to_owned(), ..Default::default() };
        let key = |key: &str| Update { setting_key: key.to_owned(), ..named("demo") };
        let policy = Update { policy: Some(SandboxPolicy::default()), ..named("demo") };
        let value = Some(SettingValue::default());
        let table = [
            (policy.clone(), Ok(Role::Operator)),
            (Update { global: true, ..policy.clone() }, Ok(Role::Admin)),
            (key("proposal_approval_mode"), Ok(Role::Admin)),
            (Update { delete_setting: true, ..policy.clone() }, Ok(Role::Admin)),
            (Update { setting_value: value, ..policy }, Ok(Role::Admin)),
            (key("launch_mode"), Err(Reason::SettingUnknown)),
            (key("policy"), Err(Reason::SettingUnknown)),
            (Update { global: true, ..key("policy") }, Err(Reason::SettingUnknown)),
            (Update { global: true, delete_setting: true, ..key("policy") }, Ok(Role::Admin)),
        ];
        for (update, expected) in table {
            assert_eq!(role(&update), expected, "{update:?}");
        }
        assert_eq!(required_role(guard("DeleteSandbox"), &[]).unwrap(), Role::None);
    }
}

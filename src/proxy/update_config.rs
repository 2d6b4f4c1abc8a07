//! Finds the role, the action and the setting of a governed request whose method alone does not determine them (T05).

use crate::access::action::Action;
use crate::access::policy::UpstreamPolicy;
use crate::error::Error;
use crate::openshell::settings;
use crate::pb::wire;
use crate::role::Role;

/// Setting key with which the policy for all sandboxes is deleted.
pub(super) const GLOBAL_POLICY: &str = "policy";

/// Fields of `UpdateConfigRequest`, the same in both generations.
pub(super) mod field {
    pub(in crate::proxy) const POLICY: u32 = 2;
    pub(in crate::proxy) const SETTING_KEY: u32 = 3;
    pub(in crate::proxy) const SETTING_VALUE: u32 = 4;
    pub(in crate::proxy) const DELETE_SETTING: u32 = 5;
    pub(in crate::proxy) const GLOBAL: u32 = 6;
    pub(in crate::proxy) const MERGE_OPERATIONS: u32 = 7;
}

/// The change that a checked message makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConfigChange<'a> {
    /// The action, if it is more specific than that of the method.
    pub(super) action: Option<Action>,
    /// The key of the setting that it changes.
    pub(super) key: Option<&'a str>,
    /// The required role in addition to that of the method; `None` if the key is unknown.
    role: Option<Role>,
}

impl<'a> ConfigChange<'a> {
    /// Reads a message. If the role of its method does not depend on the content, nothing is read.
    pub(super) fn parse(guard: &UpstreamPolicy, message: &'a [u8]) -> Self {
        if !guard.config_change {
            return Self { action: None, key: None, role: Some(Role::None) };
        }
        let global = wire::is_flag_set(message, field::GLOBAL);
        let delete = wire::is_flag_set(message, field::DELETE_SETTING);
        let key = wire::text_at(message, &[field::SETTING_KEY]);
        let known = |key| settings::is_known(key) || key == GLOBAL_POLICY && global && delete;
        let needs_admin =
            global || delete || key.is_some() || wire::has_field(message, field::SETTING_VALUE);
        let role = if needs_admin { Role::Admin } else { Role::Operator };
        let action = match key {
            Some(GLOBAL_POLICY) => None,
            Some(_) if delete => Some(Action::GATEWAY_SETTING_DELETE),
            Some(_) => Some(Action::GATEWAY_SETTING_UPDATE),
            None if wire::has_field(message, field::MERGE_OPERATIONS) => Some(Action::POLICY_EDIT),
            None if wire::has_field(message, field::POLICY) => Some(Action::POLICY_APPLY),
            None => None,
        };
        let role = key.is_none_or(known).then_some(role);
        Self { action, key: key.filter(|key| *key != GLOBAL_POLICY), role }
    }

    /// Returns the role that the message requires in addition to that of its method.
    ///
    /// # Errors
    /// `SETTING_UNKNOWN` for an unknown setting key.
    pub(super) fn required_role(&self) -> Result<Role, Error> {
        self.role.ok_or_else(|| settings::unknown_key("setting_key"))
    }
}

/// Returns whether an update creates a revision that stores annotations.
pub(super) fn creates_revision(update: &[u8]) -> bool {
    let makes_one =
        wire::has_field(update, field::POLICY) || wire::has_field(update, field::MERGE_OPERATIONS);
    makes_one && !wire::is_flag_set(update, field::GLOBAL)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::error::Reason;
    use crate::pb::v0_0::openshell::sandbox::v1::{SandboxPolicy, SettingValue};
    use crate::pb::v0_0::openshell::v1::UpdateConfigRequest as Update;
    use crate::proxy::openshell_policy;
    use crate::upstream::generation::Generation;

    fn role(update: &Update) -> Result<Role, Reason> {
        let guard = openshell_policy(Generation::V0_0, "UpdateConfig");
        ConfigChange::parse(guard, &update.encode_to_vec())
            .required_role()
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
        let other = openshell_policy(Generation::V0_0, "DeleteSandbox");
        assert_eq!(ConfigChange::parse(other, &[]).required_role().unwrap(), Role::None);
    }

    #[test]
    fn an_update_with_an_unknown_key_still_names_its_action_and_key() {
        let update = Update { setting_key: "launch_mode".to_owned(), ..Default::default() };
        let bytes = update.encode_to_vec();
        let change =
            ConfigChange::parse(openshell_policy(Generation::V0_0, "UpdateConfig"), &bytes);
        assert_eq!(change.action, Some(Action::GATEWAY_SETTING_UPDATE));
        assert_eq!(change.key, Some("launch_mode"));
        assert!(change.required_role().is_err());
    }
}

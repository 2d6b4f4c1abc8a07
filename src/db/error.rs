//! From diesel's errors to ours, by the name of the constraint that was broken.
//!
//! PostgreSQL gives the constraint's name. SQLite gives `table.column` in the text of a broken UNIQUE and the name in
//! that of a broken CHECK, so each unique constraint stands here with both.
//!
//! Invariants
//! - no text of the database reaches a caller: what is not known here is `Internal`;
//! - a broken CHECK is `Internal`: the domain has let something through that it should have refused.

use std::fmt;
use std::time::Duration;

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as DieselError};
use tracing::warn;

use crate::error::{Error, Kind, Reason};

/// A unique constraint that a caller's own words can break.
struct Unique {
    /// As PostgreSQL names it.
    name: &'static str,
    /// As SQLite names it: the columns.
    columns: &'static str,
    kind: Kind,
    /// Stands for the name that is taken until [`about`] puts it in.
    what: &'static str,
}

const fn unique(
    name: &'static str,
    columns: &'static str,
    kind: Kind,
    what: &'static str,
) -> Unique {
    Unique { name, columns, kind, what }
}

#[rustfmt::skip]
const UNIQUE: &[Unique] = &[
    unique("users_email_unique", "users.email", Kind::User, "this e-mail"),
    unique("users_oidc_provider_oidc_sub_unique", "users.oidc_provider, users.oidc_sub", Kind::User, "this identity"),
    unique("service_principals_name_unique", "service_principals.name", Kind::ServicePrincipal, "this name"),
    unique("groups_name_unique", "groups.name", Kind::Group, "this name"),
    unique("group_members_group_id_user_id_unique", "group_members.group_id, group_members.user_id", Kind::GroupMember, "this user"),
    unique("gateways_name_unique", "gateways.name", Kind::Gateway, "this name"),
    unique("user_gateway_roles_user_id_gateway_id_unique", "user_gateway_roles.user_id, user_gateway_roles.gateway_id", Kind::GatewayRole, "this user"),
    unique("sp_gateway_roles_sp_id_gateway_id_unique", "sp_gateway_roles.sp_id, sp_gateway_roles.gateway_id", Kind::GatewayRole, "this service principal"),
    unique("group_gateway_roles_group_id_gateway_id_unique", "group_gateway_roles.group_id, group_gateway_roles.gateway_id", Kind::GatewayRole, "this group"),
    unique("selector_bindings_user_id_selector_unique", "selector_bindings.user_id, selector_bindings.selector", Kind::GatewayRole, "this user"),
    unique("selector_bindings_sp_id_selector_unique", "selector_bindings.sp_id, selector_bindings.selector", Kind::GatewayRole, "this service principal"),
    unique("selector_bindings_group_id_selector_unique", "selector_bindings.group_id, selector_bindings.selector", Kind::GatewayRole, "this group"),
    unique("sandbox_meta_gateway_name_workspace_sandbox_name_unique", "sandbox_meta.gateway_name, sandbox_meta.workspace, sandbox_meta.sandbox_name", Kind::Sandbox, "this name"),
    unique("ssh_sessions_gateway_name_token_hash_unique", "ssh_sessions.gateway_name, ssh_sessions.token_hash", Kind::Session, "this session"),
    unique("device_codes_user_hash_unique", "device_codes.user_hash", Kind::DeviceCode, "this code"),
    unique("sbom_snapshots_gateway_name_workspace_sandbox_name_unique", "sbom_snapshots.gateway_name, sbom_snapshots.workspace, sbom_snapshots.sandbox_name", Kind::Sbom, "this sandbox"),
    unique("operations_resource_type_resource_key_unique", "operations.resource_type, operations.resource_key", Kind::Operation, "this operation"),
    unique("idempotency_keys_principal_method_request_id_unique", "idempotency_keys.principal, idempotency_keys.method, idempotency_keys.request_id", Kind::Request, "this id"),
    unique("sandbox_boot_hooks_place_phase_name_unique", "sandbox_boot_hooks.gateway_name, sandbox_boot_hooks.workspace, sandbox_boot_hooks.sandbox_name, sandbox_boot_hooks.phase, sandbox_boot_hooks.name", Kind::BootHook, "this name"),
];

/// What PostgreSQL says when it goes away in the middle; diesel hands on no code for these.
const GONE: &[&str] = &[
    "terminating connection",
    "the database system is shutting down",
    "the database system is starting up",
    "the database system is in recovery",
    "connection closed",
    "disk I/O error",
    "database or disk is full",
    "could not extend file",
    "no space left on device",
];

impl From<DieselError> for Error {
    #[expect(clippy::wildcard_enum_match_arm, reason = "diesel's enum is non-exhaustive")]
    fn from(error: DieselError) -> Self {
        match error {
            DieselError::DatabaseError(kind, ref information) => {
                from_database(kind, &**information).unwrap_or_else(|| Self::internal(error))
            }
            DieselError::BrokenTransactionManager => unavailable(),
            DieselError::RollbackErrorOnCommit { commit_error, .. } => Self::from(*commit_error),
            other => Self::internal(other),
        }
    }
}

/// Names the thing that is taken, which the database could not.
#[must_use]
pub fn about(error: Error, name: impl fmt::Display) -> Error {
    if let Error::Exists { kind, .. } = error {
        return Error::exists(kind, name);
    }
    error
}

/// The database does not answer.
pub(super) fn unavailable() -> Error {
    Error::unavailable(Reason::StorageUnavailable, "the database does not answer")
}

/// None when it is a fault of ours.
#[expect(clippy::wildcard_enum_match_arm, reason = "diesel's enum is non-exhaustive")]
fn from_database(
    kind: DatabaseErrorKind,
    information: &dyn DatabaseErrorInformation,
) -> Option<Error> {
    let text = information.message();
    match kind {
        DatabaseErrorKind::UniqueViolation => taken(information),
        // The other end of the reference has gone between reading and writing.
        DatabaseErrorKind::ForeignKeyViolation | DatabaseErrorKind::RestrictViolation => {
            Some(Error::conflict(Kind::Row, information.constraint_name().unwrap_or("reference")))
        }
        DatabaseErrorKind::SerializationFailure => Some(Error::conflict(Kind::Row, "transaction")),
        DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
            warn!(error = text, "the connection to the database was lost");
            Some(unavailable())
        }
        _ => from_text(text),
    }
}

fn taken(information: &dyn DatabaseErrorInformation) -> Option<Error> {
    let broken = information.message();
    let columns = broken.strip_prefix("UNIQUE constraint failed: ");
    UNIQUE
        .iter()
        .find(|known| {
            information.constraint_name() == Some(known.name) || columns == Some(known.columns)
        })
        .map(|known| Error::exists(known.kind, known.what))
}

fn from_text(text: &str) -> Option<Error> {
    if text == "deadlock detected" {
        return Some(Error::conflict(Kind::Row, "transaction"));
    }
    if text.starts_with("canceling statement due to") {
        return Some(Error::Late { why: "the database took too long".to_owned() });
    }
    // Another program holds the SQLite file, such as a backup.
    if text == "database is locked" || text == "database table is locked" {
        let retry_in = Duration::from_secs(1);
        return Some(Error::Exhausted { reason: Reason::Busy, retry_in });
    }
    if GONE.iter().any(|gone| text.contains(gone)) {
        warn!(error = text, "the database cannot be used");
        return Some(unavailable());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(kind: DatabaseErrorKind, text: &str) -> Error {
        DieselError::DatabaseError(kind, Box::new(text.to_owned())).into()
    }

    #[test]
    fn a_taken_name_is_told_by_its_columns() {
        let error =
            broken(DatabaseErrorKind::UniqueViolation, "UNIQUE constraint failed: gateways.name");
        let Error::Exists { kind: Kind::Gateway, .. } = &error else { panic!("{error:?}") };
        assert_eq!(about(error, "edge").to_string(), "gateway `edge` exists already");
    }

    #[test]
    fn both_names_of_a_constraint_are_of_the_same_columns() {
        for known in UNIQUE {
            let (table, _) = known.columns.split_once('.').unwrap();
            let columns: Vec<&str> =
                known.columns.split(", ").map(|column| &column[table.len() + 1..]).collect();
            let full = format!("{table}_{}_unique", columns.join("_"));
            // PostgreSQL cuts longer names off: there the three columns that name a sandbox are its place.
            let short = full.replace("gateway_name_workspace_sandbox_name", "place");
            assert_eq!(known.name, if full.len() > 63 { short } else { full });
        }
    }

    #[test]
    fn what_is_not_known_is_a_fault_of_ours() {
        for (kind, text) in [
            (DatabaseErrorKind::UniqueViolation, "UNIQUE constraint failed: leases.name"),
            (DatabaseErrorKind::CheckViolation, "CHECK constraint failed: users_role_known"),
            (DatabaseErrorKind::Unknown, "no such table: x"),
        ] {
            assert!(matches!(broken(kind, text), Error::Internal(_)), "{text}");
        }
    }

    #[test]
    fn each_way_of_being_away_is_unavailable() {
        for (kind, text) in [
            (DatabaseErrorKind::UnableToSendCommand, "x"),
            (DatabaseErrorKind::ClosedConnection, "x"),
            (DatabaseErrorKind::Unknown, "terminating connection due to administrator command"),
            (DatabaseErrorKind::Unknown, "database or disk is full"),
        ] {
            assert!(matches!(broken(kind, text), Error::Unavailable { .. }), "{text}");
        }
    }
}

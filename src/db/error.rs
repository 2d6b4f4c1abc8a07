//! Converts diesel errors to Shoreguard errors, using the name of the violated constraint.
//!
//! PostgreSQL returns the name of the constraint. SQLite returns `table.column` for a UNIQUE violation and the name for
//! a CHECK violation, so each unique constraint is listed here with both.
//!
//! Invariants
//! - no text of the database is returned to a caller: an unknown error is `Internal`;
//! - a value that the database rejects is the caller's error: a CHECK violation, a NULL, or text or a number that does
//!   not fit a column is `Invalid`. A warning is logged, since a validation is missing;
//! - the warning contains no text of the database that could repeat a value.

use std::fmt;
use std::time::Duration;

use diesel::result::{DatabaseErrorInformation, DatabaseErrorKind, Error as DieselError};
use tracing::warn;

use crate::error::{Error, Reason, ResourceKind};

/// A unique constraint that values of a caller can violate.
struct Unique {
    /// Name in PostgreSQL.
    name: &'static str,
    /// Columns, which SQLite reports.
    columns: &'static str,
    kind: ResourceKind,
    /// Placeholder for the name that exists already, until [`with_name`] replaces it.
    what: &'static str,
}

const fn unique(
    name: &'static str,
    columns: &'static str,
    kind: ResourceKind,
    what: &'static str,
) -> Unique {
    Unique { name, columns, kind, what }
}

#[rustfmt::skip]
const UNIQUE: &[Unique] = &[
    unique("users_email_unique", "users.email", ResourceKind::User, "this e-mail"),
    unique("users_oidc_provider_oidc_sub_unique", "users.oidc_provider, users.oidc_sub", ResourceKind::User, "this identity"),
    unique("service_principals_name_unique", "service_principals.name", ResourceKind::ServicePrincipal, "this name"),
    unique("groups_name_unique", "groups.name", ResourceKind::Group, "this name"),
    unique("group_members_group_id_user_id_unique", "group_members.group_id, group_members.user_id", ResourceKind::GroupMember, "this user"),
    unique("gateways_name_unique", "gateways.name", ResourceKind::Gateway, "this name"),
    unique("user_gateway_roles_user_id_gateway_id_unique", "user_gateway_roles.user_id, user_gateway_roles.gateway_id", ResourceKind::GatewayRole, "this user"),
    unique("sp_gateway_roles_sp_id_gateway_id_unique", "sp_gateway_roles.sp_id, sp_gateway_roles.gateway_id", ResourceKind::GatewayRole, "this service principal"),
    unique("group_gateway_roles_group_id_gateway_id_unique", "group_gateway_roles.group_id, group_gateway_roles.gateway_id", ResourceKind::GatewayRole, "this group"),
    unique("selector_bindings_user_id_selector_unique", "selector_bindings.user_id, selector_bindings.selector", ResourceKind::GatewayRole, "this user"),
    unique("selector_bindings_sp_id_selector_unique", "selector_bindings.sp_id, selector_bindings.selector", ResourceKind::GatewayRole, "this service principal"),
    unique("selector_bindings_group_id_selector_unique", "selector_bindings.group_id, selector_bindings.selector", ResourceKind::GatewayRole, "this group"),
    unique("sandbox_meta_gateway_name_workspace_sandbox_name_unique", "sandbox_meta.gateway_name, sandbox_meta.workspace, sandbox_meta.sandbox_name", ResourceKind::Sandbox, "this name"),
    unique("ssh_sessions_gateway_name_token_hash_unique", "ssh_sessions.gateway_name, ssh_sessions.token_hash", ResourceKind::Session, "this session"),
    unique("device_codes_user_hash_unique", "device_codes.user_hash", ResourceKind::DeviceCode, "this code"),
    unique("sbom_snapshots_gateway_name_workspace_sandbox_name_unique", "sbom_snapshots.gateway_name, sbom_snapshots.workspace, sbom_snapshots.sandbox_name", ResourceKind::Sbom, "this sandbox"),
    unique("operations_resource_type_resource_key_unique", "operations.resource_type, operations.resource_key", ResourceKind::Operation, "this operation"),
    unique("idempotency_keys_principal_method_request_id_unique", "idempotency_keys.principal, idempotency_keys.method, idempotency_keys.request_id", ResourceKind::Request, "this id"),
    unique("sandbox_boot_hooks_place_phase_name_unique", "sandbox_boot_hooks.gateway_name, sandbox_boot_hooks.workspace, sandbox_boot_hooks.sandbox_name, sandbox_boot_hooks.phase, sandbox_boot_hooks.name", ResourceKind::BootHook, "this name"),
    unique("policy_pins_gateway_name_workspace_sandbox_name_unique", "policy_pins.gateway_name, policy_pins.workspace, policy_pins.sandbox_name", ResourceKind::PolicyPin, "this sandbox"),
    unique("approval_workflows_selector_unique", "approval_workflows.selector", ResourceKind::ApprovalWorkflow, "this selector"),
    unique("approval_workflows_gateway_name_unique", "approval_workflows.gateway_name", ResourceKind::ApprovalWorkflow, "this gateway"),
    unique("approval_workflows_gateway_name_workspace_unique", "approval_workflows.gateway_name, approval_workflows.workspace", ResourceKind::ApprovalWorkflow, "this workspace"),
    unique("approval_workflows_gateway_name_workspace_sandbox_name_unique", "approval_workflows.gateway_name, approval_workflows.workspace, approval_workflows.sandbox_name", ResourceKind::ApprovalWorkflow, "this sandbox"),
    unique("approval_rounds_place_action_chunk_id_unique", "approval_rounds.gateway_id, approval_rounds.workspace, approval_rounds.sandbox_name, approval_rounds.action, approval_rounds.chunk_id", ResourceKind::Approval, "this content"),
    unique("approval_decisions_round_id_principal_unique", "approval_decisions.round_id, approval_decisions.principal", ResourceKind::ApprovalDecision, "this voter"),
    unique("policy_apply_proposals_place_chunk_id_unique", "policy_apply_proposals.gateway_name, policy_apply_proposals.workspace, policy_apply_proposals.sandbox_name, policy_apply_proposals.chunk_id", ResourceKind::Approval, "this content"),
    unique("webhooks_uid_unique", "webhooks.uid", ResourceKind::Webhook, "this id"),
    unique("webhook_deliveries_message_id_unique", "webhook_deliveries.message_id", ResourceKind::WebhookDelivery, "this id"),
    unique("webhook_deliveries_webhook_id_event_sequence_unique", "webhook_deliveries.webhook_id, webhook_deliveries.event_sequence", ResourceKind::WebhookDelivery, "this event"),
    unique("write_intents_gateway_id_workspace_sandbox_name_unique", "write_intents.gateway_id, write_intents.workspace, write_intents.sandbox_name", ResourceKind::WriteIntent, "this sandbox"),
    unique("bypass_events_gateway_id_sandbox_uid_at_line_hash_unique", "bypass_events.gateway_id, bypass_events.sandbox_uid, bypass_events.at, bypass_events.line_hash", ResourceKind::Row, "this line"),
    unique("refused_connections_gateway_id_sandbox_uid_at_line_hash_unique", "refused_connections.gateway_id, refused_connections.sandbox_uid, refused_connections.at, refused_connections.line_hash", ResourceKind::Row, "this line"),
    unique("bypass_notices_gateway_id_sandbox_uid_technique_unique", "bypass_notices.gateway_id, bypass_notices.sandbox_uid, bypass_notices.technique", ResourceKind::Row, "this technique"),
];

/// Messages of a database that fails or shuts down during a statement; diesel passes on no code for these.
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

/// Messages of PostgreSQL and SQLite for a value that does not fit a column: SQLSTATE classes 22 and 54, for which
/// diesel passes on no code either.
const UNFIT: &[&str] = &[
    "invalid byte sequence for encoding",
    "unsupported Unicode escape sequence",
    "value too long for type",
    "integer out of range",
    "smallint out of range",
    "bigint out of range",
    "is out of range for type",
    "field value out of range",
    "timestamp out of range",
    "interval out of range",
    "invalid input syntax for type",
    "invalid escape",
    "LIKE pattern must not end with escape character",
    "numeric field overflow",
    "index row size",
    "index row requires",
    "string or blob too big",
    "LIKE or GLOB pattern too complex",
    "datatype mismatch",
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
            DieselError::SerializationError(_) => {
                invalid_value("a value that cannot be encoded", None)
            }
            other => Self::internal(other),
        }
    }
}

/// Adds the name that exists already, which the database does not report.
#[must_use]
pub fn with_name(error: Error, name: impl fmt::Display) -> Error {
    if let Error::AlreadyExists { kind, .. } = error {
        return Error::already_exists(kind, name);
    }
    error
}

/// Returns whether the server sent the error, so that the statement had no effect.
pub(super) fn is_of_server(error: &DieselError) -> bool {
    use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
    let DieselError::DatabaseError(kind, _) = error else { return false };
    !matches!(kind, ClosedConnection | UnableToSendCommand)
}

/// Returns the error of a failed commit, or of a statement that is its own transaction. `Unavailable` would guarantee
/// that nothing took effect, which is unknown, unless the server refused to write.
pub(super) fn of_commit(error: DieselError) -> Error {
    let refused =
        matches!(error, DieselError::DatabaseError(DatabaseErrorKind::ReadOnlyTransaction, _));
    let error = Error::from(error);
    if refused {
        return error;
    }
    if let Error::Unavailable { why, .. } = error {
        return Error::in_doubt(why);
    }
    error
}

/// Returns the error of a database that does not respond.
pub(super) fn unavailable() -> Error {
    Error::unavailable(Reason::StorageUnavailable, "the database does not answer")
}

/// Returns `None` for an internal error.
#[expect(clippy::wildcard_enum_match_arm, reason = "diesel's enum is non-exhaustive")]
fn from_database(
    kind: DatabaseErrorKind,
    information: &dyn DatabaseErrorInformation,
) -> Option<Error> {
    let text = information.message();
    match kind {
        DatabaseErrorKind::UniqueViolation => unique_violation(information),
        // The referenced row was deleted between reading and writing.
        DatabaseErrorKind::ForeignKeyViolation | DatabaseErrorKind::RestrictViolation => {
            Some(Error::conflict(ResourceKind::Row, "reference"))
        }
        DatabaseErrorKind::SerializationFailure => {
            Some(Error::conflict(ResourceKind::Row, "transaction"))
        }
        DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
            warn!(error = text, "the connection to the database was lost");
            Some(unavailable())
        }
        // A failover or an operator made the server read-only, and nothing was changed. The pool replaces the
        // connection (`pg_pool`).
        DatabaseErrorKind::ReadOnlyTransaction => {
            warn!(error = text, "the database accepts no writes");
            Some(unavailable())
        }
        DatabaseErrorKind::CheckViolation => {
            let name = text.strip_prefix("CHECK constraint failed: ");
            Some(invalid_value("a broken CHECK", information.constraint_name().or(name)))
        }
        DatabaseErrorKind::NotNullViolation => {
            let name = text.strip_prefix("NOT NULL constraint failed: ");
            Some(invalid_value("a missing value", information.column_name().or(name)))
        }
        _ => from_text(text),
    }
}

/// Returns the error for a value that the database rejects although all validations accepted it.
fn invalid_value(what: &'static str, constraint: Option<&str>) -> Error {
    warn!(what, constraint, "a value reached the database that a check should have refused");
    Error::invalid(
        "request",
        "has a value that is too long, too large or not allowed here: compare each field with the limits in the API reference",
    )
}

fn unique_violation(information: &dyn DatabaseErrorInformation) -> Option<Error> {
    let broken = information.message();
    let columns = broken.strip_prefix("UNIQUE constraint failed: ");
    UNIQUE
        .iter()
        .find(|known| {
            information.constraint_name() == Some(known.name) || columns == Some(known.columns)
        })
        .map(|known| Error::already_exists(known.kind, known.what))
}

fn from_text(text: &str) -> Option<Error> {
    if text == "deadlock detected" {
        return Some(Error::conflict(ResourceKind::Row, "transaction"));
    }
    // A standby ends queries that it cannot serve; before the check of timeouts, whose text begins the same.
    if text == "canceling statement due to conflict with recovery" {
        return Some(unavailable());
    }
    if text.starts_with("canceling statement due to") {
        return Some(Error::DeadlineExceeded { why: "the database took too long".to_owned() });
    }
    // Another program holds the SQLite file, such as a backup.
    if text == "database is locked" || text == "database table is locked" {
        let retry_in = Duration::from_secs(1);
        return Some(Error::Exhausted { reason: Reason::Busy, retry_in });
    }
    if let Some(what) = UNFIT.iter().find(|unfit| text.contains(**unfit)) {
        return Some(invalid_value(what, None));
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
    fn a_unique_violation_is_mapped_to_the_resource_by_its_columns() {
        let error =
            broken(DatabaseErrorKind::UniqueViolation, "UNIQUE constraint failed: gateways.name");
        let Error::AlreadyExists { kind: ResourceKind::Gateway, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(with_name(error, "edge").to_string(), "gateway `edge` exists already");
    }

    #[test]
    fn the_names_of_a_constraint_on_both_engines_match_its_columns() {
        for known in UNIQUE {
            let (table, _) = known.columns.split_once('.').unwrap();
            let columns: Vec<&str> =
                known.columns.split(", ").map(|column| &column[table.len() + 1..]).collect();
            let full = format!("{table}_{}_unique", columns.join("_"));
            // PostgreSQL truncates longer names: there, `place` replaces the three columns that name a sandbox.
            let short = full
                .replace("gateway_name_workspace_sandbox_name", "place")
                .replace("gateway_id_workspace_sandbox_name", "place");
            assert_eq!(known.name, if full.len() > 63 { short } else { full });
        }
    }

    #[test]
    fn an_unknown_database_error_is_internal() {
        for (kind, text) in [
            (DatabaseErrorKind::UniqueViolation, "UNIQUE constraint failed: leases.name"),
            (DatabaseErrorKind::Unknown, "no such table: x"),
        ] {
            assert!(matches!(broken(kind, text), Error::Internal(_)), "{text}");
        }
    }

    #[test]
    fn a_value_that_the_database_rejects_is_an_invalid_argument() {
        for (kind, text) in [
            (DatabaseErrorKind::CheckViolation, "CHECK constraint failed: users_role_known"),
            (DatabaseErrorKind::NotNullViolation, "NOT NULL constraint failed: users.email"),
            (DatabaseErrorKind::Unknown, "invalid byte sequence for encoding \"UTF8\": 0x00"),
            (DatabaseErrorKind::Unknown, "unsupported Unicode escape sequence"),
            (DatabaseErrorKind::Unknown, "value too long for type character varying(253)"),
            (DatabaseErrorKind::Unknown, "bigint out of range"),
            (DatabaseErrorKind::Unknown, "invalid input syntax for type integer: \"x\""),
            (DatabaseErrorKind::Unknown, "string or blob too big"),
        ] {
            let error = broken(kind, text);
            let Error::Invalid { why, .. } = &error else { panic!("{text}: {error:?}") };
            assert!(!why.contains(text), "{why}");
        }
    }

    #[test]
    fn only_an_error_that_the_server_sent_proves_that_a_statement_had_no_effect() {
        let database = |kind| DieselError::DatabaseError(kind, Box::new("x".to_owned()));
        assert!(is_of_server(&database(DatabaseErrorKind::CheckViolation)));
        assert!(is_of_server(&database(DatabaseErrorKind::Unknown)));
        for lost in [
            database(DatabaseErrorKind::UnableToSendCommand),
            database(DatabaseErrorKind::ClosedConnection),
            DieselError::SerializationError("x".into()),
        ] {
            assert!(!is_of_server(&lost), "{lost:?}");
        }
        let lost = of_commit(database(DatabaseErrorKind::ClosedConnection));
        assert!(lost.is_in_doubt());
        let refused = of_commit(database(DatabaseErrorKind::ReadOnlyTransaction));
        assert!(matches!(refused, Error::Unavailable { .. }));
    }

    #[test]
    fn every_connection_failure_is_unavailable() {
        for (kind, text) in [
            (DatabaseErrorKind::UnableToSendCommand, "x"),
            (DatabaseErrorKind::ClosedConnection, "x"),
            (DatabaseErrorKind::Unknown, "terminating connection due to administrator command"),
            (DatabaseErrorKind::Unknown, "database or disk is full"),
            (
                DatabaseErrorKind::ReadOnlyTransaction,
                "cannot execute INSERT in a read-only transaction",
            ),
            (DatabaseErrorKind::Unknown, "canceling statement due to conflict with recovery"),
        ] {
            assert!(matches!(broken(kind, text), Error::Unavailable { .. }), "{text}");
        }
    }
}

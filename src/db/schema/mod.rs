//! The tables for diesel: the registry of gateways in `registry`, sandboxes in `sandboxes`, governance in `governance`,
//! webhooks in `webhook_tables`, all others here.
//!
//! Invariants
//! - the schema is the same for both engines; a test compares it with the result of the migrations on an empty
//!   database;
//! - the resource that owns a column documents its meaning.
#![expect(missing_docs, reason = "table! makes items that cannot carry a comment each")]

mod governance;
mod registry;
mod sandboxes;
mod webhook_tables;

pub use governance::*;
pub use registry::*;
pub use sandboxes::*;
pub use webhook_tables::*;

diesel::table! {
    users (id) {
        id -> BigInt,
        email -> Text,
        hashed_password -> Nullable<Text>,
        role -> Text,
        is_active -> Bool,
        invite_token_hash -> Nullable<Text>,
        created_at -> Timestamp,
        oidc_provider -> Nullable<Text>,
        oidc_sub -> Nullable<Text>,
        password_version -> BigInt,
        version -> BigInt,
        invite_expires_at -> Nullable<Timestamp>,
        oidc_issuer -> Nullable<Text>,
    }
}

diesel::table! {
    service_principals (id) {
        id -> BigInt,
        name -> Text,
        key_hash -> Text,
        key_prefix -> Nullable<Text>,
        role -> Text,
        created_by -> Nullable<BigInt>,
        created_at -> Timestamp,
        last_used -> Nullable<Timestamp>,
        expires_at -> Nullable<Timestamp>,
        key_version -> BigInt,
        previous_key_hash -> Nullable<Text>,
        previous_key_expires_at -> Nullable<Timestamp>,
        version -> BigInt,
        maker -> Nullable<Text>,
        rotated_by -> Nullable<Text>,
    }
}

diesel::table! {
    groups (id) {
        id -> BigInt,
        name -> Text,
        description -> Nullable<Text>,
        role -> Text,
        created_at -> Timestamp,
        version -> BigInt,
    }
}

diesel::table! {
    group_members (id) {
        id -> BigInt,
        group_id -> BigInt,
        user_id -> BigInt,
        joined_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    user_gateway_roles (id) {
        id -> BigInt,
        user_id -> BigInt,
        gateway_id -> BigInt,
        role -> Text,
        version -> BigInt,
    }
}

diesel::table! {
    sp_gateway_roles (id) {
        id -> BigInt,
        sp_id -> BigInt,
        gateway_id -> BigInt,
        role -> Text,
        version -> BigInt,
    }
}

diesel::table! {
    group_gateway_roles (id) {
        id -> BigInt,
        group_id -> BigInt,
        gateway_id -> BigInt,
        role -> Text,
        version -> BigInt,
    }
}

diesel::table! {
    selector_bindings (id) {
        id -> BigInt,
        subject_kind -> Text,
        user_id -> Nullable<BigInt>,
        sp_id -> Nullable<BigInt>,
        group_id -> Nullable<BigInt>,
        selector -> Text,
        role -> Text,
        created_at -> Timestamp,
        version -> BigInt,
    }
}

diesel::table! {
    audit_log (id) {
        id -> BigInt,
        timestamp -> Timestamp,
        actor -> Text,
        actor_role -> Text,
        action -> Text,
        resource_type -> Text,
        resource_id -> Text,
        gateway_name -> Nullable<Text>,
        gateway_id -> Nullable<BigInt>,
        detail -> Nullable<Text>,
        client_ip -> Nullable<Text>,
        principal -> Nullable<Text>,
        request_id -> Text,
        method -> Text,
        digest -> Nullable<Binary>,
        digest_key_id -> Nullable<Text>,
        owner -> Text,
        closed_at -> Nullable<Timestamp>,
        outcome -> Nullable<Text>,
        code -> Nullable<Integer>,
        outcome_detail -> Nullable<Text>,
        duration_us -> Nullable<BigInt>,
        bytes_in -> Nullable<BigInt>,
        bytes_out -> Nullable<BigInt>,
        intent_link -> Nullable<BigInt>,
        outcome_link -> Nullable<BigInt>,
        outcome_target -> Nullable<Text>,
    }
}

diesel::table! {
    events (id) {
        id -> BigInt,
        sequence -> Nullable<BigInt>,
        name -> Text,
        gateway_id -> Nullable<BigInt>,
        gateway_name -> Nullable<Text>,
        actor -> Nullable<Text>,
        payload_json -> Text,
        occurred_at -> Timestamp,
    }
}

diesel::table! {
    event_head (id) {
        id -> BigInt,
        sequence -> BigInt,
        oldest -> BigInt,
    }
}

diesel::table! {
    leases (name) {
        name -> Text,
        owner -> Text,
        fence -> BigInt,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    replicas (id) {
        id -> Text,
        started_at -> Timestamp,
        heartbeat_at -> Timestamp,
    }
}

diesel::table! {
    access_changes (revision) {
        revision -> BigInt,
        subject_kind -> Text,
        subject_id -> BigInt,
        changed_at -> Timestamp,
        transaction_id -> BigInt,
    }
}

diesel::table! {
    access_change_retention (id) {
        id -> BigInt,
        deleted_place -> BigInt,
    }
}

diesel::table! {
    idempotency_keys (id) {
        id -> BigInt,
        principal -> Text,
        method -> Text,
        request_id -> Text,
        digest -> Binary,
        state -> Text,
        response -> Nullable<Binary>,
        secret -> Bool,
        credential -> Nullable<Text>,
        created_at -> Timestamp,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    signing_keys (id) {
        id -> BigInt,
        purpose -> Text,
        key_id -> Text,
        sealed -> Binary,
        created_at -> Timestamp,
        retired_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    setup_tokens (id) {
        id -> BigInt,
        token_hash -> Text,
        created_at -> Timestamp,
    }
}

diesel::table! {
    sessions (id) {
        id -> BigInt,
        user_id -> BigInt,
        kind -> Text,
        gateway_id -> Nullable<BigInt>,
        family_hash -> Text,
        refresh_hash -> Text,
        password_version -> BigInt,
        client_ip -> Nullable<Text>,
        authenticated_at -> Timestamp,
        created_at -> Timestamp,
        refreshed_at -> Timestamp,
        expires_at -> Timestamp,
        revoked_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    login_budgets (id) {
        id -> BigInt,
        subject -> Text,
        account -> Nullable<Text>,
        milli_failures -> BigInt,
        counted_at -> Timestamp,
        forget_at -> Timestamp,
    }
}

diesel::table! {
    known_addresses (id) {
        id -> BigInt,
        user_id -> BigInt,
        address -> Text,
        seen_at -> Timestamp,
    }
}

diesel::table! {
    device_codes (id) {
        id -> BigInt,
        device_hash -> Text,
        user_hash -> Text,
        gateway -> Nullable<Text>,
        client_ip -> Nullable<Text>,
        network -> Text,
        state -> Text,
        gateway_id -> Nullable<BigInt>,
        user_id -> Nullable<BigInt>,
        session_id -> Nullable<BigInt>,
        created_at -> Timestamp,
        expires_at -> Timestamp,
        polled_at -> Nullable<Timestamp>,
        site -> Text,
    }
}

diesel::table! {
    device_tries (id) {
        id -> BigInt,
        user_id -> BigInt,
        tries -> BigInt,
        since -> Timestamp,
    }
}

diesel::joinable!(service_principals -> users (created_by));
diesel::joinable!(group_members -> groups (group_id));
diesel::joinable!(group_members -> users (user_id));
diesel::joinable!(user_gateway_roles -> users (user_id));
diesel::joinable!(user_gateway_roles -> gateways (gateway_id));
diesel::joinable!(sp_gateway_roles -> service_principals (sp_id));
diesel::joinable!(sp_gateway_roles -> gateways (gateway_id));
diesel::joinable!(group_gateway_roles -> groups (group_id));
diesel::joinable!(group_gateway_roles -> gateways (gateway_id));
diesel::joinable!(selector_bindings -> users (user_id));
diesel::joinable!(selector_bindings -> service_principals (sp_id));
diesel::joinable!(selector_bindings -> groups (group_id));
diesel::joinable!(sessions -> users (user_id));
diesel::joinable!(sessions -> gateways (gateway_id));
diesel::joinable!(known_addresses -> users (user_id));
diesel::joinable!(device_codes -> gateways (gateway_id));
diesel::joinable!(device_codes -> users (user_id));
diesel::joinable!(device_codes -> sessions (session_id));
diesel::joinable!(device_tries -> users (user_id));
diesel::joinable!(sandbox_labels -> sandbox_meta (meta_id));
diesel::joinable!(sbom_components -> sbom_snapshots (snapshot_id));
diesel::joinable!(sbom_vulnerabilities -> sbom_snapshots (snapshot_id));
diesel::joinable!(sbom_affects -> sbom_snapshots (snapshot_id));
diesel::joinable!(sbom_rules -> sbom_snapshots (snapshot_id));

diesel::allow_tables_to_appear_in_same_query!(
    access_change_retention,
    access_changes,
    audit_log,
    device_codes,
    device_tries,
    event_head,
    events,
    gateway_certificates,
    gateway_discovery_runs,
    gateway_labels,
    gateway_probe_hours,
    gateway_states,
    gateways,
    group_gateway_roles,
    group_members,
    groups,
    idempotency_keys,
    known_addresses,
    leases,
    login_budgets,
    operations,
    replicas,
    sandbox_boot_hooks,
    sandbox_labels,
    sandbox_meta,
    sbom_affects,
    sbom_components,
    sbom_rules,
    sbom_snapshots,
    sbom_vulnerabilities,
    selector_bindings,
    service_principals,
    sessions,
    setup_tokens,
    signing_keys,
    sp_gateway_roles,
    ssh_sessions,
    user_gateway_roles,
    users,
);

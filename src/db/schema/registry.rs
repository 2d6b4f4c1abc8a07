//! The tables of the registry of gateways.

diesel::table! {
    gateways (id) {
        id -> BigInt,
        name -> Text,
        endpoint -> Text,
        scheme -> Text,
        auth_mode -> Nullable<Text>,
        ca_cert -> Nullable<Binary>,
        client_cert -> Nullable<Binary>,
        client_key -> Nullable<Binary>,
        bearer_token -> Nullable<Binary>,
        metadata_json -> Nullable<Text>,
        description -> Nullable<Text>,
        labels_json -> Nullable<Text>,
        registered_at -> Timestamp,
        last_seen -> Nullable<Timestamp>,
        last_status -> Text,
        wire_generation -> Text,
        gateway_version -> Nullable<Text>,
        latency_us -> Nullable<BigInt>,
        last_error -> Nullable<Text>,
        probed_at -> Nullable<Timestamp>,
        version -> BigInt,
        oidc_token_url -> Nullable<Text>,
        oidc_scope -> Nullable<Text>,
        oidc_audience -> Nullable<Text>,
        oidc_client_id -> Nullable<Text>,
        oidc_client_secret -> Nullable<Binary>,
        server_cert_ends_at -> Nullable<Timestamp>,
        pinned_generation -> Nullable<Text>,
        automatic_approvals_since -> Nullable<Timestamp>,
        credential_unusable_since -> Nullable<Timestamp>,
        marks_lost_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    gateway_certificates (id) {
        id -> BigInt,
        gateway_id -> BigInt,
        kind -> Text,
        expires_at -> Timestamp,
        told_days -> Nullable<BigInt>,
    }
}

diesel::table! {
    gateway_discovery_runs (id) {
        id -> BigInt,
        began_at -> Timestamp,
        ended_at -> Timestamp,
        actor -> Text,
        found -> BigInt,
        registered -> BigInt,
        skipped -> BigInt,
        failed -> BigInt,
        domains_json -> Text,
    }
}

diesel::table! {
    gateway_budgets (id) {
        id -> BigInt,
        gateway_id -> BigInt,
        sent -> Text,
        most -> BigInt,
        until_at -> Timestamp,
    }
}

diesel::table! {
    gateway_labels (id) {
        id -> BigInt,
        gateway_id -> BigInt,
        key -> Text,
        value -> Text,
    }
}

diesel::table! {
    gateway_former_endpoints (gateway_id, endpoint) {
        gateway_id -> BigInt,
        endpoint -> Text,
    }
}

diesel::table! {
    gateway_states (id) {
        id -> BigInt,
        gateway_id -> BigInt,
        began_at -> Timestamp,
        status -> Text,
        gateway_version -> Nullable<Text>,
        error -> Nullable<Text>,
    }
}

diesel::table! {
    gateway_probe_hours (id) {
        id -> BigInt,
        gateway_id -> BigInt,
        hour_at -> Timestamp,
        probes -> BigInt,
        failures -> BigInt,
        latencies -> Binary,
    }
}

diesel::joinable!(gateway_probe_hours -> gateways (gateway_id));
diesel::joinable!(gateway_budgets -> gateways (gateway_id));
diesel::joinable!(gateway_states -> gateways (gateway_id));
diesel::joinable!(gateway_certificates -> gateways (gateway_id));
diesel::joinable!(gateway_labels -> gateways (gateway_id));
diesel::allow_tables_to_appear_in_same_query!(gateways, gateway_former_endpoints);

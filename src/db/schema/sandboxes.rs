//! The tables of sandboxes: metadata, data that belongs to their names, and operations.

diesel::table! {
    operations (id) {
        id -> Text,
        status -> Text,
        resource_type -> Text,
        resource_key -> Text,
        idempotency_key -> Nullable<Text>,
        progress_pct -> Integer,
        progress_msg -> Nullable<Text>,
        result_json -> Nullable<Binary>,
        error_message -> Nullable<Text>,
        error_code -> Nullable<Text>,
        actor -> Text,
        gateway_name -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        completed_at -> Nullable<Timestamp>,
        workspace -> Text,
        sandbox_name -> Text,
        principal -> Nullable<Text>,
        actor_role -> Text,
        gateway_id -> BigInt,
        request_id -> Text,
        owner -> Nullable<Text>,
        lease_expires_at -> Nullable<Timestamp>,
        fence -> BigInt,
        step -> Text,
        input -> Nullable<Binary>,
        keeps_output -> Bool,
        version -> BigInt,
    }
}

diesel::table! {
    sandbox_boot_hooks (id) {
        id -> BigInt,
        gateway_name -> Text,
        workspace -> Text,
        sandbox_name -> Text,
        name -> Text,
        phase -> Text,
        command -> Text,
        workdir -> Text,
        env_json -> Nullable<Binary>,
        env_names -> Text,
        timeout_seconds -> BigInt,
        order -> BigInt,
        enabled -> Bool,
        continue_on_failure -> Bool,
        created_by -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        last_run_at -> Nullable<Timestamp>,
        last_status -> Nullable<Text>,
        last_output -> Nullable<Text>,
        version -> BigInt,
    }
}

diesel::table! {
    sandbox_meta (id) {
        id -> BigInt,
        gateway_name -> Text,
        workspace -> Text,
        sandbox_name -> Text,
        sandbox_id -> Nullable<Text>,
        description -> Nullable<Text>,
        labels_json -> Nullable<Text>,
        created_at -> Timestamp,
        updated_at -> Nullable<Timestamp>,
        missing_since -> Nullable<Timestamp>,
        version -> BigInt,
        owner -> Nullable<Text>,
    }
}

diesel::table! {
    sandbox_labels (id) {
        id -> BigInt,
        meta_id -> BigInt,
        key -> Text,
        value -> Text,
    }
}

diesel::table! {
    ssh_sessions (id) {
        id -> BigInt,
        gateway_name -> Text,
        workspace -> Text,
        sandbox_name -> Text,
        token_hash -> Text,
        created_at -> Timestamp,
        expires_at -> Timestamp,
    }
}

diesel::table! {
    sbom_snapshots (id) {
        id -> BigInt,
        gateway_name -> Text,
        workspace -> Text,
        sandbox_name -> Text,
        bom_format -> Text,
        spec_version -> Text,
        serial_number -> Nullable<Text>,
        uploaded_by -> Text,
        uploaded_at -> Timestamp,
        component_count -> BigInt,
        vulnerability_count -> BigInt,
        max_severity -> Nullable<Text>,
        sha256 -> Text,
        size_bytes -> BigInt,
        raw_json -> Binary,
    }
}

diesel::table! {
    sbom_components (id) {
        id -> BigInt,
        snapshot_id -> BigInt,
        position -> BigInt,
        bom_ref -> Nullable<Text>,
        name -> Text,
        group_name -> Nullable<Text>,
        version -> Nullable<Text>,
        purl -> Nullable<Text>,
        #[sql_name = "type"]
        kind -> Nullable<Text>,
        licenses -> Nullable<Text>,
        vuln_count -> Integer,
        max_severity -> Nullable<Text>,
        name_key -> Text,
        version_key -> Text,
        purl_key -> Text,
        search_key -> Text,
    }
}

diesel::table! {
    sbom_vulnerabilities (id) {
        id -> BigInt,
        snapshot_id -> BigInt,
        position -> BigInt,
        vulnerability -> Text,
        severity -> Text,
        cvss_score -> Nullable<Double>,
        description -> Nullable<Text>,
        affects_count -> Integer,
        references_json -> Text,
        analysis_state -> Nullable<Text>,
        counts -> Bool,
    }
}

diesel::table! {
    sbom_names (snapshot_id, part) {
        snapshot_id -> BigInt,
        part -> Integer,
        names -> Text,
    }
}

diesel::table! {
    sbom_rules (snapshot_id) {
        snapshot_id -> BigInt,
        rules -> Integer,
    }
}

diesel::table! {
    sbom_affects (id) {
        id -> BigInt,
        snapshot_id -> BigInt,
        vulnerability_position -> BigInt,
        position -> BigInt,
        bom_ref -> Text,
    }
}

diesel::table! {
    followed_gateways (gateway_id) {
        gateway_id -> BigInt,
        since -> Timestamp,
        global_policy_since -> Nullable<Timestamp>,
    }
}

diesel::table! {
    follow_positions (gateway_id, workspace, sandbox_name) {
        gateway_id -> BigInt,
        workspace -> Text,
        sandbox_name -> Text,
        sandbox_uid -> Text,
        phase -> Text,
        log_time -> Nullable<Timestamp>,
        log_gaps -> BigInt,
        bypass_dropped -> BigInt,
    }
}

diesel::table! {
    bypass_events (id) {
        id -> BigInt,
        gateway_id -> BigInt,
        gateway_name -> Text,
        workspace -> Text,
        sandbox_name -> Text,
        sandbox_uid -> Text,
        at -> Timestamp,
        severity -> Text,
        technique -> Text,
        mitre_id -> Text,
        binary -> Nullable<Text>,
        summary -> Text,
        fields_json -> Text,
        raw_class -> Text,
        raw_disposition -> Nullable<Text>,
        line_hash -> Text,
        created_at -> Timestamp,
    }
}

diesel::table! {
    bypass_notices (id) {
        id -> BigInt,
        gateway_id -> BigInt,
        workspace -> Text,
        sandbox_name -> Text,
        sandbox_uid -> Text,
        technique -> Text,
        announced_at -> Timestamp,
        waiting -> BigInt,
    }
}

diesel::table! {
    refused_connections (id) {
        id -> BigInt,
        gateway_id -> BigInt,
        sandbox_uid -> Text,
        at -> Timestamp,
        binary -> Text,
        host -> Text,
        line -> Text,
        line_hash -> Text,
        created_at -> Timestamp,
    }
}

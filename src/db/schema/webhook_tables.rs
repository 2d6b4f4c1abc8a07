//! The tables of webhooks: receivers, messages, and the position up to which events are queued.

diesel::table! {
    webhooks (id) {
        id -> BigInt,
        url -> Binary,
        secret -> Nullable<Binary>,
        event_types -> Text,
        is_active -> Bool,
        channel_type -> Text,
        extra_config -> Nullable<Binary>,
        created_by -> Text,
        created_at -> Timestamp,
        uid -> Text,
        description -> Text,
        principal -> Nullable<Text>,
        secret_before -> Nullable<Binary>,
        secret_before_until -> Nullable<Timestamp>,
        max_in_flight -> Integer,
        rate_per_second -> Nullable<Integer>,
        gateways_json -> Text,
        failing_since -> Nullable<Timestamp>,
        failures -> Integer,
        disabled_at -> Nullable<Timestamp>,
        disabled_reason -> Nullable<Text>,
        stopped_sequence -> Nullable<BigInt>,
        queued_after -> BigInt,
        updated_at -> Timestamp,
        version -> BigInt,
    }
}

diesel::table! {
    webhook_deliveries (id) {
        id -> BigInt,
        webhook_id -> BigInt,
        event_type -> Text,
        payload_json -> Text,
        status -> Text,
        response_code -> Nullable<Integer>,
        error_message -> Nullable<Text>,
        attempt -> Integer,
        created_at -> Timestamp,
        delivered_at -> Nullable<Timestamp>,
        message_id -> Text,
        event_sequence -> BigInt,
        next_attempt_at -> Nullable<Timestamp>,
        last_attempt_at -> Nullable<Timestamp>,
        duration_ms -> Nullable<Integer>,
        response_snippet -> Nullable<Text>,
        attempts_json -> Text,
    }
}

diesel::allow_tables_to_appear_in_same_query!(webhooks, webhook_deliveries);

diesel::table! {
    webhook_cursor (id) {
        id -> BigInt,
        sequence -> BigInt,
    }
}

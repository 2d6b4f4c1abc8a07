//! The tables of governance: pins, approval workflows, rounds, votes, proposals, drafts, and writes in progress.

use super::{gateways, sandbox_meta};

diesel::table! {
    policy_pins (id) {
        id -> BigInt,
        gateway_name -> Text,
        workspace -> Text,
        sandbox_name -> Text,
        pinned_version -> BigInt,
        pinned_by -> Text,
        reason -> Nullable<Text>,
        pinned_at -> Timestamp,
        expires_at -> Nullable<Timestamp>,
        principal -> Nullable<Text>,
        setter_role -> Text,
        sandbox_id -> Nullable<Text>,
        pinned_hash -> Nullable<Text>,
        version -> BigInt,
        drift_version -> Nullable<BigInt>,
        drift_hash -> Nullable<Text>,
        drift_since -> Nullable<Timestamp>,
    }
}

diesel::table! {
    approval_workflows (id) {
        id -> BigInt,
        selector -> Nullable<Text>,
        gateway_name -> Nullable<Text>,
        workspace -> Nullable<Text>,
        sandbox_name -> Nullable<Text>,
        required_approvals -> Integer,
        required_roles_json -> Text,
        distinct_actors -> Bool,
        escalation_timeout_minutes -> Nullable<Integer>,
        created_by -> Text,
        created_at -> Timestamp,
        updated_at -> Timestamp,
        rule_json -> Nullable<Text>,
        principal -> Nullable<Text>,
        broken_since -> Nullable<Timestamp>,
        version -> BigInt,
        auto_since -> Nullable<Timestamp>,
    }
}

// The first columns of approval_rounds: diesel has tables of at most 32 columns without slower builds.
diesel::table! {
    #[sql_name = "approval_rounds"]
    approval_round_outcomes (id) {
        id -> BigInt,
        decided_at -> Nullable<Timestamp>,
        apply_by -> Nullable<Timestamp>,
        close_reason -> Nullable<Text>,
        gateway_told -> Bool,
        operation_id -> Nullable<Text>,
        attempts -> Integer,
        written_version -> Nullable<BigInt>,
        written_hash -> Nullable<Text>,
        previous_id -> Nullable<BigInt>,
        override_id -> Nullable<BigInt>,
        removed_version -> Nullable<BigInt>,
    }
}

// The other columns.
diesel::table! {
    approval_rounds (id) {
        id -> BigInt,
        action -> Text,
        gateway_id -> BigInt,
        gateway_name -> Text,
        workspace -> Text,
        sandbox_name -> Text,
        sandbox_id -> Nullable<Text>,
        chunk_id -> Text,
        state -> Text,
        digest -> Text,
        generation -> Nullable<Text>,
        base_version -> Nullable<BigInt>,
        base_digest -> Nullable<Text>,
        effective_hash -> Nullable<Text>,
        authors_json -> Text,
        owner -> Nullable<Text>,
        summary_json -> Text,
        grant_minutes -> Nullable<Integer>,
        opened_at -> Timestamp,
        escalates_at -> Nullable<Timestamp>,
        escalated_at -> Nullable<Timestamp>,
        expires_at -> Nullable<Timestamp>,
        due_at -> Nullable<Timestamp>,
        closed_at -> Nullable<Timestamp>,
        version -> BigInt,
        content -> Binary,
        rules_json -> Nullable<Text>,
        remind_at -> Nullable<Timestamp>,
        proposer -> Nullable<Text>,
    }
}

diesel::table! {
    approval_decisions (id) {
        id -> BigInt,
        workflow_id -> Nullable<BigInt>,
        gateway_name -> Text,
        workspace -> Text,
        sandbox_name -> Text,
        chunk_id -> Text,
        actor -> Text,
        role -> Text,
        decision -> Text,
        comment -> Nullable<Text>,
        created_at -> Timestamp,
        round_id -> Nullable<BigInt>,
        principal -> Nullable<Text>,
        digest -> Nullable<Text>,
        grant_minutes -> Nullable<Integer>,
        cleared_at -> Nullable<Timestamp>,
    }
}

diesel::table! {
    policy_apply_proposals (id) {
        id -> BigInt,
        gateway_name -> Text,
        workspace -> Text,
        sandbox_name -> Text,
        chunk_id -> Text,
        yaml_text -> Text,
        expected_hash -> Nullable<Text>,
        proposed_by -> Text,
        proposed_at -> Timestamp,
        round_id -> Nullable<BigInt>,
        mode -> Text,
        principal -> Nullable<Text>,
        cleared_at -> Nullable<Timestamp>,
        change_json -> Nullable<Text>,
    }
}

diesel::table! {
    draft_rejections (round_id) {
        round_id -> BigInt,
        gateway_id -> BigInt,
        workspace -> Text,
        sandbox_name -> Text,
        sandbox_id -> Nullable<Text>,
        chunk_id -> Text,
        reason -> Text,
        sent_version -> Nullable<BigInt>,
    }
}

diesel::table! {
    draft_editors (gateway_id, workspace, sandbox_name, chunk_id, principal) {
        gateway_id -> BigInt,
        workspace -> Text,
        sandbox_name -> Text,
        chunk_id -> Text,
        principal -> Text,
        edited_at -> Timestamp,
    }
}

diesel::table! {
    draft_states (gateway_id, workspace, sandbox_name) {
        gateway_id -> BigInt,
        workspace -> Text,
        sandbox_name -> Text,
        waiting -> Integer,
        unreadable -> Integer,
        overflowing -> Bool,
        announced_at -> Nullable<Timestamp>,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    write_intents (id) {
        id -> BigInt,
        gateway_id -> BigInt,
        workspace -> Text,
        sandbox_name -> Text,
        kind -> Text,
        round_id -> Nullable<BigInt>,
        owner -> Text,
        principal -> Nullable<Text>,
        base_version -> Nullable<BigInt>,
        want_digest -> Nullable<Text>,
        deadline -> Timestamp,
        sent_at -> Nullable<Timestamp>,
        audit_id -> Nullable<BigInt>,
    }
}

diesel::allow_tables_to_appear_in_same_query!(policy_pins, sandbox_meta);
diesel::allow_tables_to_appear_in_same_query!(gateways, policy_pins);
diesel::allow_tables_to_appear_in_same_query!(gateways, approval_workflows);

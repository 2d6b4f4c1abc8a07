//! gRPC implementation of `AuditService`.

use std::sync::Arc;

use serde_json::{Map, Value};
use tonic::Request;

use super::domain::{self, Filter, StateFilter};
use super::store::{AuditEntry, ColumnFilter};
use crate::app::App;
use crate::audit::Ending;
use crate::clock::Timestamp;
use crate::db::page::PageSize;
use crate::error::Error;
use crate::pb::v1 as pb;
use crate::pb::v1::audit_service_server::{AuditService, AuditServiceServer};
use crate::rpc::call::{Reply, handle_read};
use crate::rpc::wire;

/// The `AuditService` implementation.
#[derive(Debug)]
pub struct Audit(Arc<App>);

/// Returns the service, ready to be mounted.
pub fn service(app: &Arc<App>) -> AuditServiceServer<Audit> {
    let limit = app.config.server.message_bytes_max();
    AuditServiceServer::new(Audit(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_audit_entries(
        &self,
        request: Request<pb::ListAuditEntriesRequest>,
    ) -> Reply<pb::ListAuditEntriesResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let (size, token) = (PageSize::parse(req.page_size)?, req.page_token.clone());
            let filter = Filter::try_from(req)?;
            let (page, next_page_token) = domain::list(ctx, &filter, size, &token).await?;
            let audit_entries = page.into_iter().map(Into::into).collect();
            Ok(pb::ListAuditEntriesResponse { audit_entries, next_page_token })
        })
        .await
    }
}

impl TryFrom<pb::ListAuditEntriesRequest> for Filter {
    type Error = Error;

    fn try_from(req: pb::ListAuditEntriesRequest) -> Result<Self, Error> {
        let said = |text: String| (!text.is_empty()).then_some(text);
        let micros = |field, at: Option<prost_types::Timestamp>| {
            at.map(|at| wire::parse_timestamp(field, at).map(Timestamp::unix_micros)).transpose()
        };
        let state = match pb::AuditOutcome::try_from(req.outcome) {
            Ok(pb::AuditOutcome::Unspecified) => StateFilter::Any,
            Ok(pb::AuditOutcome::Open) => StateFilter::Open,
            Ok(pb::AuditOutcome::Ok) => StateFilter::Ended(Ending::Ok),
            Ok(pb::AuditOutcome::Denied) => StateFilter::Ended(Ending::Denied),
            Ok(pb::AuditOutcome::Failed) => StateFilter::Ended(Ending::Failed),
            Ok(pb::AuditOutcome::Unauthenticated) => StateFilter::Ended(Ending::Unauthenticated),
            Ok(pb::AuditOutcome::Unknown) => StateFilter::Ended(Ending::Unknown),
            Err(_) => return Err(Error::invalid("outcome", "is unknown to this server")),
        };
        Ok(Self {
            same: ColumnFilter {
                actor: said(req.actor),
                action: said(req.action),
                resource_type: said(req.resource_type),
                resource_id: said(req.resource_id),
                gateway: said(req.gateway),
                request_id: said(req.request_id.to_ascii_lowercase()),
            },
            state,
            since_us: micros("since_time", req.since_time)?,
            until_us: micros("until_time", req.until_time)?,
        })
    }
}

impl From<AuditEntry> for pb::AuditEntry {
    fn from(row: AuditEntry) -> Self {
        let outcome = outcome(row.outcome);
        Self {
            id: row.id.get(),
            create_time: Some(wire::to_timestamp(row.timestamp)),
            actor: row.actor,
            principal: row.principal.unwrap_or_default(),
            actor_role: row.actor_role,
            action: row.action,
            resource_type: row.resource_type,
            resource_id: Some(row.resource_id)
                .filter(|id| !id.is_empty())
                .or(row.outcome_target)
                .unwrap_or_default(),
            gateway: row.gateway_name.unwrap_or_default(),
            detail_json: merge_details(row.detail, row.outcome_detail),
            client_ip: row.client_ip.unwrap_or_default(),
            request_id: row.request_id,
            method: row.method,
            outcome: outcome.into(),
            code: row.code.unwrap_or_default(),
            close_time: row.closed_at.map(wire::to_timestamp),
            duration: row.duration_us.map(wire::to_duration),
            request_digest: row.digest.unwrap_or_default().into(),
            digest_key_id: row.digest_key_id.unwrap_or_default(),
            bytes_in: row.bytes_in.unwrap_or_default(),
            bytes_out: row.bytes_out.unwrap_or_default(),
        }
    }
}

fn outcome(ending: Option<Ending>) -> pb::AuditOutcome {
    match ending {
        None => pb::AuditOutcome::Open,
        Some(Ending::Ok) => pb::AuditOutcome::Ok,
        Some(Ending::Denied) => pb::AuditOutcome::Denied,
        Some(Ending::Failed) => pb::AuditOutcome::Failed,
        Some(Ending::Unauthenticated) => pb::AuditOutcome::Unauthenticated,
        Some(Ending::Unknown) => pb::AuditOutcome::Unknown,
    }
}

/// Merges the details recorded at the beginning and at the end of a call into one JSON object.
fn merge_details(before: Option<String>, after: Option<String>) -> String {
    let (before, after) = match (before, after) {
        (None, None) => return String::new(),
        (Some(one), None) | (None, Some(one)) => return one,
        (Some(before), Some(after)) => (before, after),
    };
    let object = |text: &str| serde_json::from_str::<Map<String, Value>>(text).unwrap_or_default();
    let mut both = object(&before);
    both.extend(object(&after));
    Value::Object(both).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_before_and_after_the_call_are_merged_into_one_object() {
        let text = |text: &str| Some(text.to_owned());
        for (before, after, both) in [
            (None, None, ""),
            (text(r#"{"a":1}"#), None, r#"{"a":1}"#),
            (None, text(r#"{"a":1}"#), r#"{"a":1}"#),
            (text(r#"{"a":1,"b":1}"#), text(r#"{"b":2}"#), r#"{"a":1,"b":2}"#),
        ] {
            assert_eq!(merge_details(before, after), both);
        }
    }

    #[test]
    fn every_outcome_has_a_proto_value() {
        for ending in Ending::ALL.iter().copied() {
            let wire = outcome(Some(ending));
            let req = pb::ListAuditEntriesRequest { outcome: wire.into(), ..Default::default() };
            assert_eq!(Filter::try_from(req).unwrap().state, StateFilter::Ended(ending));
        }
    }
}

//! gRPC implementation of `OperationService`.

use std::sync::Arc;

use prost_types::value::Kind as WireKind;
use serde_json::Value;
use tonic::Request;

use super::domain::{self, Filter, OperationView};
use super::follow::Follower;
use super::state::Status;
use super::store::Operation;
use super::{FailureCode, OperationKind};
use crate::app::App;
use crate::db::page::PageSize;
use crate::error::Error;
use crate::pb::v1 as pb;
use crate::pb::v1::operation_service_server::{OperationService, OperationServiceServer};
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::streams::{ResponseStream, handle_stream};
use crate::rpc::wire;

/// Longest gateway name in a filter, in characters.
const GATEWAY_CHARS_MAX: usize = 253;

/// The service.
#[derive(Debug)]
pub struct Operations(Arc<App>);

/// Creates the service for the gRPC router.
pub fn service(app: &Arc<App>) -> OperationServiceServer<Operations> {
    let limit = app.config.server.message_bytes_max();
    OperationServiceServer::new(Operations(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl OperationService for Operations {
    async fn get_operation(
        &self,
        request: Request<pb::GetOperationRequest>,
    ) -> Reply<pb::GetOperationResponse> {
        handle_read(&self.0, request, async |pending, req| {
            let id = domain::parse_id("operation", &req.operation)?;
            let shown = domain::get(pending, &id).await?;
            Ok(pb::GetOperationResponse { operation: Some(shown.into()) })
        })
        .await
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Reply<pb::ListOperationsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let (size, token) = (PageSize::parse(req.page_size)?, req.page_token.clone());
            let (page, next_page_token) = domain::list(ctx, &req.try_into()?, size, &token).await?;
            let operations = page.into_iter().map(Into::into).collect();
            Ok(pb::ListOperationsResponse { operations, next_page_token })
        })
        .await
    }

    async fn wait_operation(
        &self,
        request: Request<pb::WaitOperationRequest>,
    ) -> Reply<pb::WaitOperationResponse> {
        handle_read(&self.0, request, async |pending, req| {
            let id = domain::parse_id("operation", &req.operation)?;
            let given =
                req.timeout.map(|span| wire::parse_duration("timeout", span)).transpose()?;
            let timeout = domain::check_timeout("timeout", given)?;
            let shown = domain::wait(pending, &id, timeout).await?;
            Ok(pb::WaitOperationResponse { operation: Some(shown.into()) })
        })
        .await
    }

    type WatchOperationStream = ResponseStream<pb::WatchOperationResponse>;

    async fn watch_operation(
        &self,
        request: Request<pb::WatchOperationRequest>,
    ) -> Reply<Self::WatchOperationStream> {
        let prepare = async move |pending, req: pb::WatchOperationRequest| {
            let id = domain::parse_id("operation", &req.operation)?;
            Follower::start(&pending, &id).await
        };
        handle_stream(&self.0, request, prepare, async move |mut follower: Follower, sink| {
            while let Some(shown) = follower.next().await? {
                let needs = follower.required_access(&shown);
                let shown = pb::WatchOperationResponse { operation: Some(shown.into()) };
                sink.send_if_allowed(needs, shown).await?;
            }
            Ok(())
        })
        .await
    }

    async fn cancel_operation(
        &self,
        request: Request<pb::CancelOperationRequest>,
    ) -> Reply<pb::CancelOperationResponse> {
        handle_write(&self.0, request, async move |pending, req| {
            let id = domain::parse_id("operation", &req.operation)?;
            let shown = domain::cancel(&pending, &id).await?;
            Ok(pb::CancelOperationResponse { operation: Some(shown.into()) })
        })
        .await
    }
}

impl TryFrom<pb::ListOperationsRequest> for Filter {
    type Error = Error;

    fn try_from(req: pb::ListOperationsRequest) -> Result<Self, Error> {
        let unknown = |field: &str| Error::invalid(field, "is unknown to this server");
        let status = match pb::OperationStatus::try_from(req.status) {
            Ok(pb::OperationStatus::Unspecified) => None,
            Ok(pb::OperationStatus::Pending) => Some(Status::Pending),
            Ok(pb::OperationStatus::Running) => Some(Status::Running),
            Ok(pb::OperationStatus::Cancelling) => Some(Status::Cancelling),
            Ok(pb::OperationStatus::Succeeded) => Some(Status::Succeeded),
            Ok(pb::OperationStatus::Failed) => Some(Status::Failed),
            Err(_) => return Err(unknown("status")),
        };
        let kind = match pb::OperationType::try_from(req.r#type) {
            Ok(pb::OperationType::Unspecified) => None,
            Ok(pb::OperationType::Sandbox) => Some(OperationKind::Sandbox),
            Ok(pb::OperationType::Exec) => Some(OperationKind::Exec),
            Ok(pb::OperationType::Policy) => Some(OperationKind::Policy),
            Err(_) => return Err(unknown("type")),
        };
        let plain = !req.gateway.contains(char::is_control);
        if !plain || req.gateway.chars().count() > GATEWAY_CHARS_MAX {
            let why = format!(
                "must be at most {GATEWAY_CHARS_MAX} characters, without control characters"
            );
            return Err(Error::invalid("gateway", why));
        }
        let gateway = (!req.gateway.is_empty()).then_some(req.gateway);
        Ok(Self { gateway, status, kind, mine_only: req.mine_only })
    }
}

impl From<OperationView> for pb::Operation {
    fn from(shown: OperationView) -> Self {
        Self {
            result: shown.result.map(structure),
            result_withheld: shown.withheld,
            ..shown.operation.into()
        }
    }
}

impl From<Operation> for pb::Operation {
    fn from(row: Operation) -> Self {
        let kind: pb::OperationType = row.kind.into();
        let status: pb::OperationStatus = row.status.into();
        let error_code = row.error_code.map_or(pb::OperationErrorCode::Unspecified, Into::into);
        Self {
            id: row.id,
            r#type: kind.into(),
            status: status.into(),
            gateway: row.gateway_name,
            workspace: row.workspace,
            sandbox: row.sandbox,
            progress_percent: row.percent,
            progress_message: row.message.unwrap_or_default(),
            result: None,
            result_withheld: false,
            error_code: error_code.into(),
            error_message: row.error_message.unwrap_or_default(),
            actor: row.actor,
            create_time: Some(wire::to_timestamp(row.created_at)),
            update_time: Some(wire::to_timestamp(row.updated_at)),
            complete_time: row.completed_at.map(wire::to_timestamp),
        }
    }
}

impl From<OperationKind> for pb::OperationType {
    fn from(kind: OperationKind) -> Self {
        match kind {
            OperationKind::Sandbox => Self::Sandbox,
            OperationKind::Exec => Self::Exec,
            OperationKind::Policy => Self::Policy,
        }
    }
}

impl From<Status> for pb::OperationStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Running => Self::Running,
            Status::Cancelling => Self::Cancelling,
            Status::Succeeded => Self::Succeeded,
            Status::Failed => Self::Failed,
        }
    }
}

impl From<FailureCode> for pb::OperationErrorCode {
    fn from(code: FailureCode) -> Self {
        match code {
            FailureCode::Internal => Self::Internal,
            FailureCode::Timeout => Self::Timeout,
            FailureCode::Cancelled => Self::Cancelled,
            FailureCode::Orphaned => Self::Orphaned,
            FailureCode::GatewayUnreachable => Self::GatewayUnreachable,
            FailureCode::Refused => Self::Refused,
            FailureCode::ConcurrentChange => Self::ConcurrentChange,
        }
    }
}

/// Converts a result for the response. A stored result is an object.
fn structure(result: Value) -> prost_types::Struct {
    let Value::Object(object) = result else { return prost_types::Struct::default() };
    let fields = object.into_iter().map(|(key, value)| (key, value_of(value))).collect();
    prost_types::Struct { fields }
}

fn value_of(value: Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => WireKind::NullValue(0),
        Value::Bool(value) => WireKind::BoolValue(value),
        Value::Number(number) => WireKind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => WireKind::StringValue(text),
        Value::Array(values) => WireKind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(value_of).collect(),
        }),
        object @ Value::Object(_) => WireKind::StructValue(structure(object)),
    };
    prost_types::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_type_and_error_code_has_a_proto_value() {
        for status in Status::ALL.iter().copied() {
            let wire = pb::OperationStatus::from(status);
            let req = pb::ListOperationsRequest { status: wire.into(), ..Default::default() };
            assert_eq!(Filter::try_from(req).unwrap().status, Some(status));
        }
        for kind in OperationKind::ALL.iter().copied() {
            let wire = pb::OperationType::from(kind);
            let req = pb::ListOperationsRequest { r#type: wire.into(), ..Default::default() };
            assert_eq!(Filter::try_from(req).unwrap().kind, Some(kind));
        }
        for code in FailureCode::ALL.iter().copied() {
            let name = format!("OPERATION_ERROR_CODE_{}", code.as_str().to_ascii_uppercase());
            assert_eq!(pb::OperationErrorCode::from(code).as_str_name(), name);
        }
    }

    #[test]
    fn a_filter_is_validated() {
        let of = |gateway: String| pb::ListOperationsRequest { gateway, ..Default::default() };
        assert!(Filter::try_from(of("g".repeat(GATEWAY_CHARS_MAX))).is_ok());
        for bad in ["g".repeat(GATEWAY_CHARS_MAX + 1), "a\0b".to_owned()] {
            assert!(Filter::try_from(of(bad)).is_err());
        }
        let unknown = pb::ListOperationsRequest { status: 99, ..Default::default() };
        assert!(Filter::try_from(unknown).is_err());
        let unknown = pb::ListOperationsRequest { r#type: 99, ..Default::default() };
        assert!(Filter::try_from(unknown).is_err());
    }
}

//! Operations that are started as calls start them: with the same access check and audit entry, by `handle_write`. The
//! method is one whose message names only a gateway, and the test supplies the handler.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use http::HeaderMap;
use serde_json::Value;
use shoreguard::access::principal::Caller as Known;
use shoreguard::app::App;
use shoreguard::ctx::Call;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::operations::{
    self, Failure, NewOperation, OperationKind, RunningOperation,
};
use shoreguard::rpc::call::handle_write;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Status};

use super::eventually;
use super::server::{Caller, TestServer};

const METHOD: &str = "/shoreguard.v1.AccessService/SetGatewayRole";
/// Action of the call in the audit log.
pub(crate) const ACTION: &str = "gateway_role.set";

/// An operation to start.
#[derive(Clone, Default)]
pub(crate) struct OperationSpec {
    pub(crate) key: String,
    pub(crate) gateway: String,
    pub(crate) workspace: String,
    pub(crate) sandbox: String,
    pub(crate) exec: bool,
    pub(crate) exclusive: bool,
    pub(crate) request_id: String,
    pub(crate) input: Option<Vec<u8>>,
}

impl OperationSpec {
    fn to_begin(&self) -> NewOperation<'_> {
        NewOperation {
            kind: if self.exec { OperationKind::Exec } else { OperationKind::Sandbox },
            workspace: &self.workspace,
            sandbox: &self.sandbox,
            exclusive: self.exclusive,
            key: None,
            keeps_output: self.exec,
            input: self.input.clone(),
        }
    }
}

/// Work that is controlled by a test.
pub(crate) struct HeldOperation {
    pub(crate) id: String,
    pub(crate) running: RunningOperation,
    finish: oneshot::Sender<Result<Value, Failure>>,
}

impl HeldOperation {
    /// Ends the work with this result.
    pub(crate) fn finish(self, result: Result<Value, Failure>) {
        self.finish.send(result).unwrap();
    }
}

/// Authenticates an API key or a token.
pub(crate) fn authenticate(app: &App, credential: &str) -> Option<Known> {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {credential}").parse().unwrap());
    app.authn.authenticate(&headers, None, &app.snapshot, None).unwrap()
}

/// Builds the call that starts an operation, as the layers pass it to a handler.
pub(crate) fn start_request(
    app: &App,
    begin: &OperationSpec,
) -> Request<pb::SetGatewayRoleRequest> {
    let (gateway, request_id) = (begin.gateway.clone(), begin.request_id.clone());
    let message = pb::SetGatewayRoleRequest { gateway, request_id, ..Default::default() };
    let mut request = Request::new(message);
    request.extensions_mut().insert(Call {
        request_id: app.new_id(),
        at: app.clock.now(),
        started: Instant::now(),
        deadline: None,
        client_ip: None,
        caller: authenticate(app, &begin.key),
        method: METHOD,
        note: Arc::default(),
        traceparent: None,
        memory: None,
        read_tracker: None,
    });
    request
}

/// Starts an operation with this work. Returns the response of the call.
pub(crate) async fn start_operation<F, Fut>(
    app: &Arc<App>,
    begin: &OperationSpec,
    work: F,
) -> Result<pb::Operation, Status>
where
    F: FnOnce(RunningOperation) -> Fut + Send + 'static,
    Fut: Future<Output = Result<Value, Failure>> + Send,
{
    let asked = begin.clone();
    let answer = handle_write(app, start_request(app, begin), async move |ctx, _| {
        let started = operations::start(&ctx, asked.to_begin(), work).await?;
        Ok(pb::GetOperationResponse { operation: Some(started.into()) })
    });
    Ok(answer.await?.into_inner().operation.unwrap())
}

/// Starts an operation whose work the test does itself.
pub(crate) async fn begin_operation(app: &Arc<App>, begin: &OperationSpec) -> RunningOperation {
    let asked = begin.clone();
    let (sender, running) = oneshot::channel();
    let answer = handle_write(app, start_request(app, begin), async move |ctx, _| {
        drop(sender.send(operations::begin(&ctx, asked.to_begin()).await?));
        Ok(pb::GetOperationResponse::default())
    });
    answer.await.unwrap();
    running.await.unwrap()
}

/// Starts an operation that runs until the test ends it or until it is stopped.
pub(crate) async fn start_held(
    app: &Arc<App>,
    begin: &OperationSpec,
) -> Result<HeldOperation, Status> {
    let (sender, mut running) = mpsc::channel(1);
    let (finish, finished) = oneshot::channel();
    let started = start_operation(app, begin, async move |running| {
        let token = running.cancel().clone();
        sender.send(running).await.unwrap();
        tokio::select! {
            result = finished => result.unwrap_or_else(|_| Err(Failure::cancelled())),
            () = token.cancelled() => Err(Failure::cancelled()),
        }
    });
    let id = started.await?.id;
    Ok(HeldOperation { id, running: running.recv().await.unwrap(), finish })
}

impl TestServer {
    /// Returns an operation to start on a gateway as the admin.
    pub(crate) fn operation_spec(&self, gateway: &str, sandbox: &str) -> OperationSpec {
        OperationSpec {
            key: self.admin_key.clone(),
            gateway: gateway.to_owned(),
            sandbox: sandbox.to_owned(),
            ..OperationSpec::default()
        }
    }

    /// Starts an operation that runs until the test ends it.
    pub(crate) async fn start_held(&self, begin: &OperationSpec) -> HeldOperation {
        start_held(&self.app, begin).await.unwrap()
    }

    /// Waits until no operation runs. If its gateway stops before, an operation waits for it, and the end of the server
    /// waits for the operation as long as a drain takes.
    pub(crate) async fn operations_ended(&self) {
        eventually("no operation runs", || async {
            self.app.operations_running.load(Ordering::SeqCst) == 0
        })
        .await;
    }

    /// Registers a gateway on an address where nothing listens, for operations that do not call it.
    pub(crate) async fn register_unreachable(&self, name: &str) {
        self.register_gateway(name, ([127, 0, 0, 1], 1).into()).await;
    }
}

impl Caller {
    /// Gets an operation.
    pub(crate) async fn operation(&self, id: &str) -> Result<pb::Operation, Status> {
        let get = pb::GetOperationRequest { operation: id.to_owned() };
        Ok(self.operations().get_operation(get).await?.into_inner().operation.unwrap())
    }

    /// Waits until an operation has ended. Returns its last state.
    pub(crate) async fn wait_operation(&self, id: &str) -> pb::Operation {
        let wait = pb::WaitOperationRequest { operation: id.to_owned(), timeout: None };
        let waited = self.operations().wait_operation(wait).await.unwrap();
        waited.into_inner().operation.unwrap()
    }

    /// Cancels an operation.
    pub(crate) async fn cancel_operation(&self, id: &str) -> Result<pb::Operation, Status> {
        let cancel = pb::CancelOperationRequest { operation: id.to_owned(), ..Default::default() };
        Ok(self.operations().cancel_operation(cancel).await?.into_inner().operation.unwrap())
    }

    /// Returns the audit entries of a resource and an action.
    pub(crate) async fn audit_entries(&self, resource: &str, action: &str) -> Vec<pb::AuditEntry> {
        let list = pb::ListAuditEntriesRequest {
            resource_id: resource.to_owned(),
            action: action.to_owned(),
            ..Default::default()
        };
        self.audit().list_audit_entries(list).await.unwrap().into_inner().audit_entries
    }
}

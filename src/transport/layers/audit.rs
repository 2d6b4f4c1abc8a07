//! Refused calls, recorded. Outside authn, so that it sees its refusals; outside the panic catch, so that a panic is
//! an outcome like any other.
//!
//! A refused call of a known caller is one closed entry; those of nobody are counted and written once a minute (T16).
//! What was let through is recorded by `call_write` and the proxy themselves, before it happens.

use std::sync::Arc;

use crate::access::policy::Method;
use crate::access::roles::Role;
use crate::app::App;
use crate::ctx::{Call, Refusal};
use crate::error::Error;
use crate::resources::audit::{Ending, Intent, Outcome};
use crate::transport::layers::gate::Route;
use crate::transport::status::code_of;
use tonic::Code;

/// Codes that say that the caller may not; what else kept a call from being let through is a failure.
const DENIALS: [Code; 3] = [Code::PermissionDenied, Code::Unauthenticated, Code::NotFound];

/// Notes that a call was refused before it reached its handler: by authentication, by the gate, or by a limit.
pub fn refused(app: &App, call: &Call, route: Option<&Route>, error: &Error) {
    if call.caller.is_none() {
        let (_, reason) = code_of(error);
        app.audit.count_anonymous(call.client_ip, call.method, reason.as_str());
        return;
    }
    let (action, resource) = match route {
        Some(Route::Own(Method { action, resource, .. })) => (*action, *resource),
        Some(Route::Proxied { v0_0, v0_1, .. }) => {
            let guards = [v0_1, v0_0].into_iter().filter_map(|row| row.as_ref()?.guard.as_ref());
            guards
                .map(|guard| (guard.action, guard.resource))
                .next()
                .unwrap_or(("auth.forbidden", "method"))
        }
        Some(Route::Open(_)) | None => ("auth.forbidden", "method"),
    };
    let refusal =
        Refusal { action, resource, target: String::new(), gateway: None, role: Role::None };
    call.note.lock().refused.get_or_insert(refusal);
}

/// Records what was noted as refused, once the call is over. Runs on main, so that the answer need not wait for it:
/// nothing has happened that could be lost.
pub fn finish(app: &Arc<App>, call: &Call, error_code: i32) {
    let Some(refusal) = call.note.lock().refused.take() else { return };
    let Some(caller) = call.caller.clone() else { return };
    let known = Some(refusal.role).filter(|role| *role > Role::None);
    let role = known.unwrap_or_else(|| app.snapshot.best_role(caller.principal()));
    let intent = Intent {
        at: call.at,
        actor: Arc::clone(caller.actor()),
        principal: Some(caller.principal()),
        role,
        action: refusal.action,
        resource_type: refusal.resource,
        resource_id: refusal.target,
        gateway: refusal.gateway,
        client_ip: call.client_ip,
        request_id: call.request_id,
        method: call.method.into(),
        digest: None,
        detail: None,
    };
    let outcome = Outcome {
        at: app.clock.now(),
        ending: if DENIALS.contains(&Code::from_i32(error_code)) {
            Ending::Denied
        } else {
            Ending::Failed
        },
        code: error_code,
        took: call.started.elapsed(),
        detail: None,
        bytes: None,
        target: None,
    };
    let task_app = Arc::clone(app);
    app.spawn(async move {
        if let Err(error) = task_app.audit.record(intent, outcome).await {
            tracing::error!(error = &error as &dyn std::error::Error, "a refusal was not recorded");
        }
    });
}

//! Refused calls, recorded. Outside authn, so that it sees its refusals; outside the panic catch, so that a panic is
//! an outcome like any other.
//!
//! A refused call of a known caller is one closed entry, and its repeats within a minute are one more with their count;
//! those of nobody are counted and written once a minute (T16). What was let through is recorded by `call_write` and
//! the proxy themselves, before it happens. The record belongs to the call's note: it is made when the note is dropped,
//! also if the caller hangs up and nobody is there to finish the call.

use std::sync::Arc;

use super::gate::Route;
use crate::access::policy::Method;
use crate::app::App;
use crate::ctx::{Call, Refusal};
use crate::error::Error;
use crate::role::Role;
use crate::status::code_of;

/// Notes who calls, so that a refusal of this call is recorded however the call ends.
pub fn begin(app: &Arc<App>, call: &Call) {
    call.guard_refusals(app);
}

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
    let (target, gateway, role) = (String::new(), None, Role::None);
    let refusal = Refusal { action, resource, target, gateway, role, why: error.into() };
    call.note.lock().refused.get_or_insert(refusal);
}

/// Records what was noted as refused, once the call is over.
pub fn finish(call: &Call) {
    call.note.record_refusal();
}

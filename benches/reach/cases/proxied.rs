//! Compares a proxied read with a minimal tonic forwarder in front of the same upstream.

use shoreguard::db::Engine;
use shoreguard::pb::v0_1::openshell::v1 as upstream;

use super::{Subject, run_rounds};
use crate::child::Child;
use crate::figure::{Figure, Target};
use crate::fleet::{self, Fleet};
use crate::load::{Call, MANY_CONNECTIONS, ONE_CALLER, ONE_CONNECTION};
use crate::{Bench, BoxError};

const RATIO_MIN: f64 = 0.9;
const ADDED_US_MAX: f64 = 30.0;

/// A call whose request is forwarded without being parsed.
pub(super) fn unparsed_call(fleet: &Fleet) -> Result<Call, BoxError> {
    let message = upstream::GetCurrentUserRequest::default();
    let path = "/openshell.v1.OpenShell/GetCurrentUser";
    Call::new(path, &message, Some(&fleet.caller_key))?.for_gateway(&fleet::gateway_name(0))
}

/// A call whose request names a sandbox and is therefore parsed.
fn parsed_call(fleet: &Fleet) -> Result<Call, BoxError> {
    let message = upstream::GetSandboxRequest { name: "coder".to_owned(), ..Default::default() };
    let path = "/openshell.v1.OpenShell/GetSandbox";
    Call::new(path, &message, Some(&fleet.caller_key))?.for_gateway(&fleet::gateway_name(0))
}

/// Measures calls per second with 64 callers.
pub(super) fn busy(bench: &Bench) -> Result<(), BoxError> {
    let Some(fleet) = Fleet::start(bench, Engine::Sqlite)? else { return Ok(()) };
    let forwarder = Child::start("forward", &[&fleet.upstream.address.to_string()])?;
    let (unread, named) = (vec![unparsed_call(&fleet)?], vec![parsed_call(&fleet)?]);
    for shape in [ONE_CONNECTION, MANY_CONNECTIONS] {
        let mut subjects = [
            Subject::new("direct", &fleet.upstream, unread.clone()),
            Subject::new("bare forwarder", &forwarder, unread.clone()),
            Subject::new("proxied", &fleet.server, unread.clone()),
            Subject::new("bare forwarder, sandbox named", &forwarder, named.clone()),
            Subject::new("proxied, sandbox named", &fleet.server, named.clone()),
        ];
        run_rounds(bench, &mut subjects, shape)?;
        for subject in &subjects {
            subject.print(shape, Target::None)?;
        }
        let [_, bare, proxied, bare_named, proxied_named] = &subjects;
        for (proxied, bare) in [(proxied, bare), (proxied_named, bare_named)] {
            let name = format!("{} by {}, {shape}", proxied.name, bare.name);
            let ratio = proxied.per_second.divided_by(&bare.per_second);
            ratio.print(&name, "times", Target::AtLeast(RATIO_MIN))?;
        }
    }
    Ok(())
}

/// Measures the added latency with one caller.
pub(super) fn unloaded(bench: &Bench) -> Result<(), BoxError> {
    let Some(fleet) = Fleet::start(bench, Engine::Sqlite)? else { return Ok(()) };
    let forwarder = Child::start("forward", &[&fleet.upstream.address.to_string()])?;
    let call = vec![unparsed_call(&fleet)?];
    let mut subjects = [
        Subject::new("direct", &fleet.upstream, call.clone()),
        Subject::new("bare forwarder", &forwarder, call.clone()),
        Subject::new("proxied", &fleet.server, call),
    ];
    run_rounds(bench, &mut subjects, ONE_CALLER)?;
    let [direct, bare, proxied] = &subjects;
    for subject in [direct, bare, proxied] {
        subject.p50.print(&format!("{}, p50", subject.name), "us", Target::None)?;
        let cost = format!("{}, processor time a call", subject.name);
        subject.cost.print(&cost, "us", Target::None)?;
    }
    let added: Figure = proxied.p50.minus(&bare.p50);
    added.print("proxied less bare forwarder, p50", "us", Target::AtMost(ADDED_US_MAX))
}

//! Compares a proxied read with a minimal tonic forwarder in front of the same upstream.

use shoreguard::db::Engine;
use shoreguard::pb::v0_1::openshell::v1 as upstream;

use super::{Subject, rounds};
use crate::child::Child;
use crate::figure::{Figure, Target};
use crate::fleet::{self, Fleet};
use crate::load::{ALONE, Call, MANY, ONE};
use crate::{Bench, Fault};

const RATIO_MIN: f64 = 0.9;
const ADDED_US_MAX: f64 = 30.0;

/// A call whose request is forwarded without being parsed.
pub(super) fn unread(fleet: &Fleet) -> Result<Call, Fault> {
    let message = upstream::GetCurrentUserRequest::default();
    let path = "/openshell.v1.OpenShell/GetCurrentUser";
    Call::new(path, &message, Some(&fleet.caller_key))?.to(&fleet::gateway(0))
}

/// A call whose request names a sandbox and is therefore parsed.
fn named(fleet: &Fleet) -> Result<Call, Fault> {
    let message = upstream::GetSandboxRequest { name: "coder".to_owned(), ..Default::default() };
    let path = "/openshell.v1.OpenShell/GetSandbox";
    Call::new(path, &message, Some(&fleet.caller_key))?.to(&fleet::gateway(0))
}

/// Measures calls per second with 64 callers.
pub(super) fn busy(bench: &Bench) -> Result<(), Fault> {
    let Some(fleet) = Fleet::start(bench, Engine::Sqlite)? else { return Ok(()) };
    let forwarder = Child::start("forward", &[&fleet.upstream.address.to_string()])?;
    let (unread, named) = (vec![unread(&fleet)?], vec![named(&fleet)?]);
    for shape in [ONE, MANY] {
        let mut subjects = [
            Subject::new("direct", &fleet.upstream, unread.clone()),
            Subject::new("bare forwarder", &forwarder, unread.clone()),
            Subject::new("proxied", &fleet.server, unread.clone()),
            Subject::new("bare forwarder, sandbox named", &forwarder, named.clone()),
            Subject::new("proxied, sandbox named", &fleet.server, named.clone()),
        ];
        rounds(bench, &mut subjects, shape)?;
        for subject in &subjects {
            subject.show(shape, Target::None)?;
        }
        let [_, bare, proxied, bare_named, proxied_named] = &subjects;
        for (proxied, bare) in [(proxied, bare), (proxied_named, bare_named)] {
            let name = format!("{} by {}, {shape}", proxied.name, bare.name);
            let ratio = proxied.per_second.by(&bare.per_second);
            ratio.show(&name, "times", Target::AtLeast(RATIO_MIN))?;
        }
    }
    Ok(())
}

/// Measures the added latency with one caller.
pub(super) fn unloaded(bench: &Bench) -> Result<(), Fault> {
    let Some(fleet) = Fleet::start(bench, Engine::Sqlite)? else { return Ok(()) };
    let forwarder = Child::start("forward", &[&fleet.upstream.address.to_string()])?;
    let call = vec![unread(&fleet)?];
    let mut subjects = [
        Subject::new("direct", &fleet.upstream, call.clone()),
        Subject::new("bare forwarder", &forwarder, call.clone()),
        Subject::new("proxied", &fleet.server, call),
    ];
    rounds(bench, &mut subjects, ALONE)?;
    let [direct, bare, proxied] = &subjects;
    for subject in [direct, bare, proxied] {
        subject.p50.show(&format!("{}, p50", subject.name), "us", Target::None)?;
        let cost = format!("{}, processor time a call", subject.name);
        subject.cost.show(&cost, "us", Target::None)?;
    }
    let added: Figure = proxied.p50.less(&bare.p50);
    added.show("proxied less bare forwarder, p50", "us", Target::AtMost(ADDED_US_MAX))
}

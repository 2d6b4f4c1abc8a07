//! Measures audited writes: an audit entry that is durable before the write, and its outcome afterwards.

use shoreguard::db::Engine;
use shoreguard::pb::v0_1::openshell::v1 as upstream;

use super::{Subject, run_rounds};
use crate::figure::Target;
use crate::fleet::{self, Fleet, GATEWAYS};
use crate::load::{Call, MANY_CONNECTIONS, ONE_CONNECTION};
use crate::place::{self, ENGINES};
use crate::{Bench, BoxError};

const PROXIED_PER_SECOND_MIN: f64 = 10_000.0;
const OWN_PER_SECOND_MIN_SQLITE: f64 = 5_000.0;
const OWN_PER_SECOND_MIN_POSTGRES: f64 = 3_000.0;

/// Measures forwarded writes. Their audit entries and outcomes share commits.
pub(super) fn proxied(bench: &Bench) -> Result<(), BoxError> {
    run_both_engines(bench, "StopSandbox", |_| PROXIED_PER_SECOND_MIN, proxied_calls)
}

/// Returns the forwarded write.
pub(super) fn proxied_calls(fleet: &Fleet) -> Result<Vec<Call>, BoxError> {
    let path = "/openshell.v1.OpenShell/StopSandbox";
    let message = upstream::StopSandboxRequest { name: "coder".to_owned(), ..Default::default() };
    let call = Call::new(path, &message, Some(&fleet.caller_key))?;
    Ok(vec![call.for_gateway(&fleet::gateway_name(0))?])
}

/// Measures Shoreguard's own writes: one transaction each. The calls are spread over all gateways.
pub(super) fn own(bench: &Bench) -> Result<(), BoxError> {
    let least = |engine: Engine| match engine {
        Engine::Sqlite => OWN_PER_SECOND_MIN_SQLITE,
        Engine::Postgres => OWN_PER_SECOND_MIN_POSTGRES,
    };
    run_both_engines(bench, "UpdateGateway", least, own_calls)
}

/// Returns one update per gateway.
pub(super) fn own_calls(fleet: &Fleet) -> Result<Vec<Call>, BoxError> {
    let update = |number| {
        let text = "answers constants, still".to_owned();
        let message = fleet::describe_request(fleet::gateway_name(number), text);
        let path = "/shoreguard.v1.GatewayService/UpdateGateway";
        Call::new(path, &message, Some(&fleet.admin_key))
    };
    (0..GATEWAYS).map(update).collect()
}

/// Measures both engines in turn. `least` returns the required calls per second.
fn run_both_engines(
    bench: &Bench,
    name: &str,
    least: impl Fn(Engine) -> f64,
    calls: impl Fn(&Fleet) -> Result<Vec<Call>, BoxError>,
) -> Result<(), BoxError> {
    let mut fleets = Vec::new();
    for engine in ENGINES {
        fleets.extend(Fleet::start(bench, engine)?);
    }
    for shape in [ONE_CONNECTION, MANY_CONNECTIONS] {
        let subject = |fleet| -> Result<Subject<'_>, BoxError> {
            let fleet: &Fleet = fleet;
            let name = format!("{name}, {}", place::engine_name(fleet.setup.engine));
            Ok(Subject::new(name, &fleet.server, calls(fleet)?))
        };
        let mut subjects = fleets.iter().map(subject).collect::<Result<Vec<_>, _>>()?;
        run_rounds(bench, &mut subjects, shape)?;
        for (fleet, subject) in fleets.iter().zip(&subjects) {
            subject.print(shape, Target::AtLeast(least(fleet.setup.engine)))?;
        }
    }
    Ok(())
}

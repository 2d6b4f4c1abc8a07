//! Measures audited writes: an audit entry that is durable before the write, and its outcome afterwards.

use shoreguard::pb::v0_1::openshell::v1 as upstream;
use shoreguard::pb::v1 as pb;

use super::{Subject, run_rounds};
use crate::figure::Target;
use crate::fleet::{self, Fleet, GATEWAYS};
use crate::load::{Call, MANY_CONNECTIONS, ONE_CONNECTION};
use crate::place::{self, ENGINES};
use crate::{Bench, BoxError};

const PROXIED_PER_SECOND_MIN: f64 = 10_000.0;
const OWN_PER_SECOND_MIN: f64 = 2_500.0;

/// Measures forwarded writes. Their audit entries and outcomes share commits.
pub(super) fn proxied(bench: &Bench) -> Result<(), BoxError> {
    let path = "/openshell.v1.OpenShell/StopSandbox";
    let message = upstream::StopSandboxRequest { name: "coder".to_owned(), ..Default::default() };
    run_both_engines(bench, "StopSandbox", PROXIED_PER_SECOND_MIN, |fleet| {
        Ok(vec![
            Call::new(path, &message, Some(&fleet.caller_key))?
                .for_gateway(&fleet::gateway_name(0))?,
        ])
    })
}

/// Measures Shoreguard's own writes: one transaction each. The calls are spread over all gateways.
pub(super) fn own(bench: &Bench) -> Result<(), BoxError> {
    let path = "/shoreguard.v1.GatewayService/UpdateGateway";
    run_both_engines(bench, "UpdateGateway", OWN_PER_SECOND_MIN, |fleet| {
        let update = |number| {
            let message = pb::UpdateGatewayRequest {
                gateway: fleet::gateway_name(number),
                update_mask: Some(prost_types::FieldMask { paths: vec!["description".to_owned()] }),
                description: "answers constants, still".to_owned(),
                ..Default::default()
            };
            Call::new(path, &message, Some(&fleet.admin_key))
        };
        (0..GATEWAYS).map(update).collect()
    })
}

/// Measures both engines in turn.
fn run_both_engines(
    bench: &Bench,
    name: &str,
    least: f64,
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
        for subject in &subjects {
            subject.print(shape, Target::AtLeast(least))?;
        }
    }
    Ok(())
}

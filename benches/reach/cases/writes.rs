//! Measures audited writes: an audit entry that is durable before the write, and its outcome afterwards.

use shoreguard::pb::v0_1::openshell::v1 as upstream;
use shoreguard::pb::v1 as pb;

use super::{Subject, rounds};
use crate::figure::Target;
use crate::fleet::{self, Fleet, GATEWAYS};
use crate::load::{Call, MANY, ONE};
use crate::place::{self, ENGINES};
use crate::{Bench, Fault};

const PROXIED_PER_SECOND_MIN: f64 = 10_000.0;
const OWN_PER_SECOND_MIN: f64 = 2_500.0;

/// Measures forwarded writes. Their audit entries and outcomes share commits.
pub(super) fn proxied(bench: &Bench) -> Result<(), Fault> {
    let path = "/openshell.v1.OpenShell/StopSandbox";
    let message = upstream::StopSandboxRequest { name: "coder".to_owned(), ..Default::default() };
    both(bench, "StopSandbox", PROXIED_PER_SECOND_MIN, |fleet| {
        Ok(vec![Call::new(path, &message, Some(&fleet.caller_key))?.to(&fleet::gateway(0))?])
    })
}

/// Measures Shoreguard's own writes: one transaction each. The calls are spread over all gateways.
pub(super) fn own(bench: &Bench) -> Result<(), Fault> {
    let path = "/shoreguard.v1.GatewayService/UpdateGateway";
    both(bench, "UpdateGateway", OWN_PER_SECOND_MIN, |fleet| {
        let update = |number| {
            let message = pb::UpdateGatewayRequest {
                gateway: fleet::gateway(number),
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
fn both(
    bench: &Bench,
    name: &str,
    least: f64,
    calls: impl Fn(&Fleet) -> Result<Vec<Call>, Fault>,
) -> Result<(), Fault> {
    let mut fleets = Vec::new();
    for engine in ENGINES {
        fleets.extend(Fleet::start(bench, engine)?);
    }
    for shape in [ONE, MANY] {
        let subject = |fleet| -> Result<Subject<'_>, Fault> {
            let fleet: &Fleet = fleet;
            let name = format!("{name}, {}", place::name(fleet.place.engine));
            Ok(Subject::new(name, &fleet.server, calls(fleet)?))
        };
        let mut subjects = fleets.iter().map(subject).collect::<Result<Vec<_>, _>>()?;
        rounds(bench, &mut subjects, shape)?;
        for subject in &subjects {
            subject.show(shape, Target::AtLeast(least))?;
        }
    }
    Ok(())
}

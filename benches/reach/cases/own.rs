//! Compares Shoreguard's own reads with a tonic service that does only the same work.

use shoreguard::pb::v1 as pb;

use super::{Subject, rounds};
use crate::child::Child;
use crate::figure::Target;
use crate::fleet::{self, Fleet};
use crate::load::{Call, MANY, ONE};
use crate::place::{self, ENGINES, Place};
use crate::{Bench, Fault};

const MEMORY_RATIO_MIN: f64 = 0.7;
const SELECT_RATIO_MIN: f64 = 0.8;

/// Measures a read from memory, then a read with one select on each engine.
pub(super) fn run(bench: &Bench) -> Result<(), Fault> {
    for engine in ENGINES {
        let Some(fleet) = Fleet::start(bench, engine)? else { continue };
        if engine == ENGINES[0] {
            from_memory(bench, &fleet)?;
        }
        with_select(bench, &fleet)?;
    }
    Ok(())
}

fn from_memory(bench: &Bench, fleet: &Fleet) -> Result<(), Fault> {
    let message = pb::GetCurrentIdentityRequest::default();
    let path = "/shoreguard.v1.AuthService/GetCurrentIdentity";
    let call = vec![Call::new(path, &message, Some(&fleet.caller_key))?];
    for shape in [ONE, MANY] {
        let mut subjects = [
            Subject::new("constant", &fleet.upstream, call.clone()),
            Subject::new("GetCurrentIdentity", &fleet.server, call.clone()),
        ];
        rounds(bench, &mut subjects, shape)?;
        compare(&subjects, shape, MEMORY_RATIO_MIN)?;
    }
    Ok(())
}

fn with_select(bench: &Bench, fleet: &Fleet) -> Result<(), Fault> {
    let engine = fleet.place.engine;
    let Some(place) = copy(bench, fleet)? else { return Ok(()) };
    let select = Child::start("select", &[&place.url()])?;
    let message = pb::GetGatewayRequest { gateway: fleet::gateway(0) };
    let path = "/shoreguard.v1.GatewayService/GetGateway";
    let call = vec![Call::new(path, &message, Some(&fleet.caller_key))?];
    let named = |name: &str| format!("{name}, {}", place::name(engine));
    for shape in [ONE, MANY] {
        let mut subjects = [
            Subject::new(named("one select"), &select, call.clone()),
            Subject::new(named("GetGateway"), &fleet.server, call.clone()),
        ];
        rounds(bench, &mut subjects, shape)?;
        compare(&subjects, shape, SELECT_RATIO_MIN)?;
    }
    Ok(())
}

/// Creates a database with the same gateways, since only one process can open a SQLite file.
fn copy(bench: &Bench, fleet: &Fleet) -> Result<Option<Place>, Fault> {
    let Some(other) = Fleet::start(bench, fleet.place.engine)? else { return Ok(None) };
    let Fleet { place, server, .. } = other;
    drop(server);
    Ok(Some(place))
}

fn compare(
    subjects: &[Subject<'_>; 2],
    shape: crate::load::Shape,
    least: f64,
) -> Result<(), Fault> {
    let [other, own] = subjects;
    other.show(shape, Target::None)?;
    own.show(shape, Target::None)?;
    let name = format!("{} by {}, {shape}", own.name, other.name);
    own.per_second.by(&other.per_second).show(&name, "times", Target::AtLeast(least))
}

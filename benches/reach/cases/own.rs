//! Compares Shoreguard's own reads with a tonic service that does only the same work.

use shoreguard::pb::v1 as pb;

use super::{Subject, run_rounds};
use crate::child::Child;
use crate::figure::Target;
use crate::fleet::{self, Fleet};
use crate::load::{Call, MANY_CONNECTIONS, ONE_CONNECTION};
use crate::place::{self, ENGINES, ServerSetup};
use crate::{Bench, BoxError};

const MEMORY_RATIO_MIN: f64 = 1.0;
const SELECT_RATIO_MIN: f64 = 0.8;

/// Measures a read from memory, then a read with one select on each engine.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    for engine in ENGINES {
        let Some(fleet) = Fleet::start(bench, engine)? else { continue };
        if engine == ENGINES[0] {
            from_memory(bench, &fleet)?;
        }
        with_select(bench, &fleet)?;
    }
    Ok(())
}

fn from_memory(bench: &Bench, fleet: &Fleet) -> Result<(), BoxError> {
    let message = pb::GetCurrentIdentityRequest::default();
    let path = "/shoreguard.v1.AuthService/GetCurrentIdentity";
    let call = vec![Call::new(path, &message, Some(&fleet.caller_key))?];
    for shape in [ONE_CONNECTION, MANY_CONNECTIONS] {
        let mut subjects = [
            Subject::new("constant", &fleet.upstream, call.clone()),
            Subject::new("GetCurrentIdentity", &fleet.server, call.clone()),
        ];
        run_rounds(bench, &mut subjects, shape)?;
        compare(&subjects, shape, MEMORY_RATIO_MIN)?;
    }
    Ok(())
}

fn with_select(bench: &Bench, fleet: &Fleet) -> Result<(), BoxError> {
    let engine = fleet.setup.engine;
    let Some(setup) = another_database(bench, fleet)? else { return Ok(()) };
    let select = Child::start("select", &[&setup.url()])?;
    let message = pb::GetGatewayRequest { gateway: fleet::gateway_name(0) };
    let path = "/shoreguard.v1.GatewayService/GetGateway";
    let call = vec![Call::new(path, &message, Some(&fleet.caller_key))?];
    let named = |name: &str| format!("{name}, {}", place::engine_name(engine));
    for shape in [ONE_CONNECTION, MANY_CONNECTIONS] {
        let mut subjects = [
            Subject::new(named("one select"), &select, call.clone()),
            Subject::new(named("GetGateway"), &fleet.server, call.clone()),
        ];
        run_rounds(bench, &mut subjects, shape)?;
        compare(&subjects, shape, SELECT_RATIO_MIN)?;
    }
    Ok(())
}

/// Creates a database with the same gateways, since only one process can open a SQLite file.
fn another_database(bench: &Bench, fleet: &Fleet) -> Result<Option<ServerSetup>, BoxError> {
    let Some(other) = Fleet::start(bench, fleet.setup.engine)? else { return Ok(None) };
    let Fleet { setup, server, .. } = other;
    drop(server);
    Ok(Some(setup))
}

fn compare(
    subjects: &[Subject<'_>; 2],
    shape: crate::load::LoadShape,
    least: f64,
) -> Result<(), BoxError> {
    let [other, own] = subjects;
    other.print(shape, Target::None)?;
    own.print(shape, Target::None)?;
    let name = format!("{} by {}, {shape}", own.name, other.name);
    own.per_second.divided_by(&other.per_second).print(&name, "times", Target::AtLeast(least))
}

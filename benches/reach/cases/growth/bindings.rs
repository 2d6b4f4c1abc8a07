//! Roles on gateways: a check, the first check after a change, and the load at a start.

use super::{Cost, Topic};
use crate::cases::{access, access_load};
use crate::place::{self, ENGINES, ServerSetup};
use crate::{Bench, BoxError};

/// Numbers of users, which have about ten bindings each.
const USERS: [u32; 3] = [100, 1_000, 10_000];

/// Measures fleets of increasing size.
pub(super) fn measure(bench: &Bench) -> Result<Topic, BoxError> {
    let mut check = Cost::new("a check of a role on a named gateway", "us");
    let mut first = Cost::new("the first check after a change", "us");
    for users in USERS {
        let total = u32::try_from(access::bindings_of(users.into()))?;
        check.add(total, access::measure_named(bench, users.into())?);
        first.add(total, access::first_check(bench, users.into())?);
    }
    let mut costs = vec![check, first];
    for engine in ENGINES {
        let name = format!("{}, loading a binding", place::engine_name(engine));
        let mut load = Cost::new(name, "us");
        for users in USERS {
            let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
            let (total, took_ms) = access_load::measure(bench, &setup, users)?;
            load.add(total, took_ms.scaled(1e3 / f64::from(total)));
        }
        costs.push(load);
    }
    Ok(Topic { units: "bindings", costs })
}

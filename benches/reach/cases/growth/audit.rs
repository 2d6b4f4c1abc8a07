//! The audit log: its pages, and writes that add to it.

use super::{Cost, Topic};
use crate::cases::audit_list;
use crate::cases::{Subject, run_rounds};
use crate::fleet::{self, Admin};
use crate::load::{Call, ONE_CALLER};
use crate::place::{self, ENGINES, ServerSetup};
use crate::{Bench, BoxError};

/// Smallest total. Each further one is ten times as large, up to that of `--audit-rows`.
const FIRST_TOTAL: u32 = 10_000;

/// Fills the log step by step, on both engines. The server is stopped meanwhile.
pub(super) fn measure(bench: &Bench) -> Result<Topic, BoxError> {
    let mut costs = Vec::new();
    for engine in ENGINES {
        let Some(setup) = ServerSetup::new(bench, engine)? else { continue };
        costs.extend(measure_engine(bench, &setup)?);
    }
    Ok(Topic { units: "audit entries", costs })
}

fn measure_engine(bench: &Bench, setup: &ServerSetup) -> Result<[Cost; 3], BoxError> {
    let engine = place::engine_name(setup.engine);
    let mut costs = ["first page, p50", "last page, p50", "an audited write, p50"]
        .map(|name| Cost::new(format!("{engine}, {name}"), "us"));
    let key = setup.create_admin_key()?;
    let (rows, mut filled) = (bench.options.audit_rows, 0);
    for total in totals(rows) {
        bench.runtime.block_on(audit_list::fill(setup, filled + 1..=total, rows))?;
        filled = total;
        let (server, _) = fleet::start_server(bench, setup)?;
        bench.runtime.block_on(async {
            let admin = Admin::connect(server.address, &key).await?;
            // A gateway for the writes. Its address is never called.
            admin.register(format!("gateway-{total}"), server.address).await
        })?;
        let last = bench.runtime.block_on(audit_list::last_page(server.address, &key))?;
        let text = "changed".to_owned();
        let write = fleet::describe_request(format!("gateway-{total}"), text);
        let path = "/shoreguard.v1.GatewayService/UpdateGateway";
        let mut subjects = [
            Subject::new("first", &server, audit_list::page_call(&key, String::new())?),
            Subject::new("last", &server, audit_list::page_call(&key, last)?),
            Subject::new("write", &server, vec![Call::new(path, &write, Some(&key))?]),
        ];
        run_rounds(bench, &mut subjects, ONE_CALLER)?;
        for (cost, subject) in costs.iter_mut().zip(subjects) {
            cost.add(total, subject.p50);
        }
    }
    Ok(costs)
}

/// Returns the totals up to a number of rows.
fn totals(rows: u32) -> Vec<u32> {
    let tenfold = |total: &u32| total.checked_mul(10);
    let below = std::iter::successors(Some(FIRST_TOTAL), tenfold).take_while(|total| *total < rows);
    below.chain([rows]).collect()
}

//! Gateways: calls to one of them, pages of their list, their registration and their memory.

use std::ops::Range;
use std::time::Instant;

use shoreguard::db::Engine;
use shoreguard::pb::v0_1::openshell::v1 as upstream;
use shoreguard::pb::v1 as pb;

use super::{Cost, Topic};
use crate::cases::{Subject, run_rounds};
use crate::child::Child;
use crate::figure::Figure;
use crate::fleet::{self, Admin};
use crate::load::{self, Call, MANY_CONNECTIONS, ONE_CALLER};
use crate::place::ServerSetup;
use crate::{Bench, BoxError};

const TOTALS: [u32; 3] = [1, 100, 1_000];
/// Totals from which a page of the list is full.
const PAGE_ROWS: u32 = 50;
/// Registrations per value.
const REGISTRATIONS: u32 = 10;

/// Registers gateways step by step, and opens a connection to each.
pub(super) fn measure(bench: &Bench) -> Result<Topic, BoxError> {
    let setup =
        ServerSetup::new(bench, Engine::Sqlite)?.ok_or("a server on SQLite cannot be started")?;
    let constant = Child::start("constant", &[])?;
    let key = setup.create_admin_key()?;
    let (server, _) = fleet::start_server(bench, &setup)?;
    let mut call = Cost::new("a proxied read, processor time", "us");
    let mut page = Cost::new("a page of 50 gateways, p50", "us");
    let mut registration = Cost::new("a registration", "ms");
    let mut memory = Cost::new("memory of a gateway and its connections", "KB");
    let mut before = (0, 0.0);
    for total in TOTALS {
        let registered = register(bench, &server, &key, &constant, before.0..total)?;
        for number in before.0..total {
            let call = proxied_call(&key, number)?;
            bench.runtime.block_on(load::send_once(server.address, &call))?;
        }
        let mut subjects = [Subject::new("proxied", &server, vec![proxied_call(&key, 0)?])];
        run_rounds(bench, &mut subjects, MANY_CONNECTIONS)?;
        let [proxied] = subjects;
        call.add(total, proxied.cost);
        let resident = server.resident_mb()?;
        if total >= PAGE_ROWS {
            registration.add(total, registered);
            let mut grown = Figure::default();
            grown.add((resident - before.1) * 1e3 / f64::from(total - before.0));
            memory.add(total, grown);
            let path = "/shoreguard.v1.GatewayService/ListGateways";
            let list = Call::new(path, &pb::ListGatewaysRequest::default(), Some(&key))?;
            let mut subjects = [Subject::new("list", &server, vec![list])];
            run_rounds(bench, &mut subjects, ONE_CALLER)?;
            let [listed] = subjects;
            page.add(total, listed.p50);
        }
        before = (total, resident);
    }
    Ok(Topic { units: "gateways", costs: vec![call, page, registration, memory] })
}

fn name(number: u32) -> String {
    format!("gateway-{number:04}")
}

fn proxied_call(key: &str, number: u32) -> Result<Call, BoxError> {
    let message = upstream::GetCurrentUserRequest::default();
    let path = "/openshell.v1.OpenShell/GetCurrentUser";
    Call::new(path, &message, Some(key))?.for_gateway(&name(number))
}

/// Registers the gateways with these numbers. Returns the time of a registration, in milliseconds.
fn register(
    bench: &Bench,
    server: &Child,
    key: &str,
    constant: &Child,
    numbers: Range<u32>,
) -> Result<Figure, BoxError> {
    bench.runtime.block_on(async {
        let admin = Admin::connect(server.address, key).await?;
        let mut figure = Figure::default();
        let (mut begun, mut count) = (Instant::now(), 0);
        for number in numbers {
            admin.register(name(number), constant.address).await?;
            count += 1;
            if count == REGISTRATIONS {
                figure.add(begun.elapsed().as_secs_f64() * 1e3 / f64::from(REGISTRATIONS));
                (begun, count) = (Instant::now(), 0);
            }
        }
        Ok::<_, BoxError>(figure)
    })
}

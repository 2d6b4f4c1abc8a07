//! Compares a proxied read with other proxies in front of the same upstream.

use std::cell::RefCell;

use shoreguard::db::Engine;
use shoreguard::pb::v0_1::openshell::v1 as upstream;
use shoreguard::pb::v1 as pb;

use super::lineup::{DIRECT, Lineup, SHOREGUARD};
use super::{Subject, run_rounds, run_rounds_with};
use crate::child::Child;
use crate::figure::{Figure, Target};
use crate::fleet::{self, Admin, Fleet, GATEWAYS};
use crate::load::{Call, MANY_CONNECTIONS, ONE_CALLER, ONE_CONNECTION};
use crate::roles::RESPONSE_BYTES;
use crate::{Bench, BoxError, open_load};

const RATIO_MIN: f64 = 1.0;
const ADDED_US_MAX: f64 = 30.0;

/// Rate of the open load.
const OPEN_PER_SECOND: f64 = 3_000.0;
/// Size of the responses to the open load.
const OPEN_BYTES: usize = RESPONSE_BYTES[1];
const OPEN_P99_US_MAX: f64 = 440.0;
const OPEN_ADDED_P99_US_MAX: f64 = 250.0;
/// Number of roles that change during the open load, over all rounds.
const CHANGES: f64 = 10_000.0;
/// Name of Shoreguard while roles change.
const CHANGING: &str = "Shoreguard while roles change";
/// Principal whose roles change.
const CHANGED: &str = "changed";

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

/// Measures calls per second: all shapes with the smallest response, then larger responses.
pub(super) fn busy(bench: &Bench) -> Result<(), BoxError> {
    let Some(fleet) = Fleet::start(bench, Engine::Sqlite)? else { return Ok(()) };
    let lineup = Lineup::start(bench, fleet)?.with_h2load()?;
    let [smallest, larger @ ..] = RESPONSE_BYTES;
    for shape in &bench.options.shapes {
        lineup.measure(bench, *shape, smallest)?;
    }
    for bytes in larger {
        lineup.measure(bench, MANY_CONNECTIONS, bytes)?;
    }
    Ok(())
}

/// Measures latencies at a fixed rate.
pub(super) fn open(bench: &Bench) -> Result<(), BoxError> {
    let Some(fleet) = Fleet::start(bench, Engine::Sqlite)? else { return Ok(()) };
    let changes = role_changes(bench, &fleet)?;
    let lineup = Lineup::start(bench, fleet)?;
    let mut subjects = lineup.subjects(OPEN_BYTES)?;
    let Some(own) = subjects.iter().position(|subject| subject.name == SHOREGUARD) else {
        return Ok(());
    };
    let changing = Subject::new(CHANGING, &lineup.fleet.server, subjects[own].calls.clone());
    subjects.insert(own + 1, changing);
    let lateness = RefCell::new(Figure::default());
    run_rounds_with(bench, &mut subjects, &|subject| {
        let changes = (subject.name == CHANGING).then_some(changes.as_slice());
        let outcome = send_open(bench, subject, changes)?;
        lateness.borrow_mut().add(outcome.lateness_us);
        Ok(outcome.load)
    })?;
    lineup.print("3,000 calls per second", &subjects, false)?;
    lateness.borrow().print("lateness of the load, p99", "us", Target::None)?;
    let find = |name: &str| subjects.iter().find(|subject| subject.name == name);
    let Some(direct) = find(DIRECT) else { return Ok(()) };
    for own in [SHOREGUARD, CHANGING].into_iter().filter_map(find) {
        let target = Target::AtMost(OPEN_P99_US_MAX);
        own.p99.print(&format!("{}, p99", own.name), "us", target)?;
        let added = own.p99.minus(&direct.p99);
        let target = Target::AtMost(OPEN_ADDED_P99_US_MAX);
        added.print(&format!("{}, p99 less direct", own.name), "us", target)?;
    }
    Ok(())
}

/// Sends the open load, and changes of roles at the same time.
fn send_open(
    bench: &Bench,
    subject: &Subject<'_>,
    changes: Option<&[Call]>,
) -> Result<open_load::OpenResult, BoxError> {
    let (address, time) = (subject.process.address, bench.options.open_duration());
    std::thread::scope(|scope| {
        let per_second = CHANGES / bench.options.open_seconds;
        let changing = changes
            .map(|calls| scope.spawn(move || open_load::run(address, calls, per_second, time)));
        let outcome = open_load::run(address, &subject.calls, OPEN_PER_SECOND, time);
        if let Some(changing) = changing {
            changing.join().map_err(|_| "the changes panicked")??;
        }
        outcome
    })
}

/// Returns calls that change the roles of a principal on all gateways. Each call has an effect.
fn role_changes(bench: &Bench, fleet: &Fleet) -> Result<Vec<Call>, BoxError> {
    bench.runtime.block_on(async {
        let admin = Admin::connect(fleet.server.address, &fleet.admin_key).await?;
        admin.create_principal(CHANGED).await
    })?;
    let mut calls = Vec::new();
    for role in [pb::Role::Viewer, pb::Role::Operator] {
        for gateway in 0..GATEWAYS {
            let message = fleet::role_request(CHANGED, fleet::gateway_name(gateway), role);
            let path = "/shoreguard.v1.AccessService/SetGatewayRole";
            calls.push(Call::new(path, &message, Some(&fleet.admin_key))?);
        }
    }
    Ok(calls)
}

/// Compares requests that are parsed with a minimal forwarder.
pub(super) fn named(bench: &Bench) -> Result<(), BoxError> {
    let Some(fleet) = Fleet::start(bench, Engine::Sqlite)? else { return Ok(()) };
    let forwarder = Child::start("forward", &[&fleet.upstream.address.to_string()])?;
    let call = vec![parsed_call(&fleet)?];
    for shape in [ONE_CONNECTION, MANY_CONNECTIONS] {
        let mut subjects = [
            Subject::new("bare forwarder, sandbox named", &forwarder, call.clone()),
            Subject::new("proxied, sandbox named", &fleet.server, call.clone()),
        ];
        run_rounds(bench, &mut subjects, shape)?;
        let [bare, proxied] = &subjects;
        bare.print(shape, Target::None)?;
        proxied.print(shape, Target::None)?;
        let name = format!("{} by {}, {shape}", proxied.name, bare.name);
        let ratio = proxied.per_second.divided_by(&bare.per_second);
        ratio.print(&name, "times", Target::AtLeast(RATIO_MIN))?;
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

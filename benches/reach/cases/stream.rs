//! Measures the throughput of one server stream with large messages, without a proxy and through two.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use shoreguard::db::Engine;
use shoreguard::pb::v0_1::openshell::v1 as upstream;
use tokio::time::timeout;

use super::lineup::{BARE, DIRECT, SHOREGUARD};
use super::{Subject, run_rounds_with};
use crate::child::Child;
use crate::figure::Target;
use crate::fleet::{self, Fleet};
use crate::load::{self, Call, LoadResult};
use crate::{Bench, BoxError};

/// Bytes of a MiB.
const MIB: usize = 1 << 20;
/// Required ratio of Shoreguard's throughput to that without a proxy.
const RATIO_MIN: f64 = 0.7;
/// Longest time without data.
const DATA_TIMEOUT: Duration = Duration::from_secs(10);

/// Measures all subjects in turn: each reads a stream of its own in each round.
pub(super) fn run(bench: &Bench) -> Result<(), BoxError> {
    let Some(fleet) = Fleet::start(bench, Engine::Sqlite)? else { return Ok(()) };
    let forwarder = Child::start("forward", &[&fleet.upstream.address.to_string()])?;
    let (call, time) = (output_call(&fleet)?, bench.options.load_duration());
    let mut subjects = [
        Subject::new(DIRECT, &fleet.upstream, vec![call.clone()]),
        Subject::new(BARE, &forwarder, vec![call.clone()]),
        Subject::new(SHOREGUARD, &fleet.server, vec![call]),
    ];
    run_rounds_with(bench, &mut subjects, &|subject| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(read_stream(subject.process.address, &subject.calls[0], time))
    })?;
    for subject in &subjects {
        let name = format!("one stream, {}", subject.name);
        // What is counted as a call is a MiB.
        subject.per_second.print(&name, "MiB/s", Target::None)?;
        subject.cost.print(&format!("{name}, processor time a MiB"), "us", Target::None)?;
    }
    let [direct, bare, own] = &subjects;
    for (subject, target) in [(bare, Target::None), (own, Target::AtLeast(RATIO_MIN))] {
        let name = format!("one stream, {} by {}", subject.name, direct.name);
        subject.per_second.divided_by(&direct.per_second).print(&name, "times", target)?;
    }
    Ok(())
}

/// A call whose response is a stream of the output of a command.
fn output_call(fleet: &Fleet) -> Result<Call, BoxError> {
    let message = upstream::ExecSandboxRequest {
        sandbox: "coder".to_owned(),
        command: vec!["cat".to_owned(), "/dev/zero".to_owned()],
        ..Default::default()
    };
    let path = "/openshell.v1.OpenShell/ExecSandbox";
    Call::new(path, &message, Some(&fleet.caller_key))?.for_gateway(&fleet::gateway_name(0))
}

/// Reads a stream for the given time, after a warm-up of a tenth of it that is not counted. The result has the time of
/// each MiB in place of that of a call. The stream is canceled afterwards.
async fn read_stream(
    address: SocketAddr,
    call: &Call,
    time: Duration,
) -> Result<LoadResult, BoxError> {
    let mut opened = load::open_streams(address, call, (1, 1)).await?;
    let (_, body) = opened.bodies.first_mut().ok_or("no stream was opened")?;
    let from = Instant::now() + time / 10;
    let (until, mut last) = (from + time, from);
    let (mut durations, mut bytes) = (Vec::new(), 0);
    while let Some(data) = timeout(DATA_TIMEOUT, body.data()).await? {
        let length = data?.len();
        body.flow_control().release_capacity(length)?;
        let now = Instant::now();
        if now >= until {
            return Ok(LoadResult::new(durations, time));
        }
        if now < from {
            continue;
        }
        bytes += length;
        while bytes >= MIB {
            bytes -= MIB;
            durations.push(u32::try_from((now - last).as_nanos()).unwrap_or(u32::MAX));
            last = now;
        }
    }
    Err(format!("a stream has ended: {:?}", body.trailers().await?).into())
}

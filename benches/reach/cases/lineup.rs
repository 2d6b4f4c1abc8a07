//! The lineup: Shoreguard, a minimal forwarder and other proxies in front of the same upstream, and the upstream alone.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Subject, proxied, run_rounds_with};
use crate::child::Child;
use crate::figure::{Figure, Target};
use crate::fleet::Fleet;
use crate::h2load::H2load;
use crate::load::{self, Call, LoadResult, LoadShape};
use crate::peers::{Peer, RunningPeer, TOKEN};
use crate::report::{self, Comparison, Row};
use crate::roles::{BYTES_HEADER, RESPONSE_BYTES};
use crate::{Bench, BoxError};

/// Name of the upstream without a proxy.
pub(super) const DIRECT: &str = "direct";
/// Name of the minimal forwarder.
pub(super) const BARE: &str = "bare tonic forwarder";
/// Name of Shoreguard.
pub(super) const SHOREGUARD: &str = "Shoreguard";

/// Name of the peer that does the same work as Shoreguard.
const CHECKED: &str = Peer::EnvoyChecked.name();
/// Required ratio of Shoreguard's calls per second to those of another subject.
const RATIOS: [(&str, f64); 4] =
    [(BARE, 1.0), (Peer::HaProxy.name(), 1.1), (Peer::Nginx.name(), 1.0), (CHECKED, 3.0)];
/// Calls in progress above which a shape is large.
const LARGE: usize = 10_000;
/// Required ratio of Shoreguard's memory to that of the peer that does the same work.
const MEMORY_RATIO_MAX: f64 = 0.5;

/// The running subjects.
pub(super) struct Lineup {
    pub(super) fleet: Fleet,
    forwarder: Child,
    peers: Vec<(Peer, Result<RunningPeer, BoxError>)>,
    /// The load generator. `None` if it is not installed.
    h2load: Option<H2load>,
}

impl Lineup {
    /// Starts the subjects beside a server and its upstream. A peer that cannot be started is reported as missing.
    pub(super) fn start(bench: &Bench, fleet: Fleet) -> Result<Self, BoxError> {
        let upstream = fleet.upstream.address;
        let forwarder = Child::start("forward", &[&upstream.to_string()])?;
        let mut peers = Vec::new();
        for peer in Peer::ALL {
            let call = call(&fleet, Some(peer), RESPONSE_BYTES[0])?;
            peers.push((peer, peer.start(bench, upstream, &call)));
        }
        Ok(Self { fleet, forwarder, peers, h2load: None })
    }

    /// Uses h2load for the load, if it is installed.
    pub(super) fn with_h2load(mut self) -> Result<Self, BoxError> {
        match H2load::find() {
            Ok(found) => self.h2load = Some(found),
            Err(why) => report::note(format!("{why}; the bench sends the load itself"))?,
        }
        Ok(self)
    }

    /// Returns all subjects that run, with calls whose responses have the given size.
    pub(super) fn subjects(&self, bytes: usize) -> Result<Vec<Subject<'_>>, BoxError> {
        let own = vec![call(&self.fleet, None, bytes)?];
        let mut subjects = vec![
            Subject::new(DIRECT, &self.fleet.upstream, own.clone()),
            Subject::new(BARE, &self.forwarder, own.clone()),
            Subject::new(SHOREGUARD, &self.fleet.server, own),
        ];
        for (peer, running) in &self.peers {
            if let Ok(running) = running {
                let calls = vec![call(&self.fleet, Some(*peer), bytes)?];
                subjects.push(Subject::new(peer.name(), &running.process, calls).that_may_fail());
            }
        }
        Ok(subjects)
    }

    /// Measures one shape and size of response, and prints the comparison and the required ratios. With a large shape, a
    /// subject that fails is named in the table with the reason, and does not end the other measurements.
    pub(super) fn measure(
        &self,
        bench: &Bench,
        shape: LoadShape,
        bytes: usize,
    ) -> Result<(), BoxError> {
        let time = bench.options.load_duration();
        let is_large = shape.connections * shape.streams > LARGE;
        let subjects = self.subjects(bytes)?.into_iter();
        let mut subjects: Vec<_> = subjects
            .map(|subject| if is_large { subject.that_may_fail() } else { subject })
            .collect();
        run_rounds_with(bench, &mut subjects, &|subject| {
            self.send(subject.process.address, &subject.calls, bytes, shape, time)
        })?;
        let title = format!("{shape}, responses of {bytes} bytes");
        self.print(&title, &subjects, true)?;
        let find = |name: &str| {
            subjects.iter().find(|subject| subject.name == name && subject.fault.is_none())
        };
        let Some(own) = find(SHOREGUARD) else {
            return report::note(format!(
                "{title}: Shoreguard was not measured, so no target is checked"
            ));
        };
        for (name, least) in RATIOS {
            let Some(other) = find(name) else { continue };
            let ratio = own.per_second.divided_by(&other.per_second);
            let name = format!("Shoreguard by {name}, {title}");
            ratio.print(&name, "times", Target::AtLeast(least))?;
        }
        let Some(checked) = find(CHECKED) else { return Ok(()) };
        let memory = own.memory.divided_by(&checked.memory);
        let name = format!("memory of Shoreguard by {CHECKED}, {title}");
        memory.print(&name, "times", Target::AtMost(MEMORY_RATIO_MAX))
    }

    fn send(
        &self,
        address: SocketAddr,
        calls: &[Call],
        bytes: usize,
        shape: LoadShape,
        time: Duration,
    ) -> Result<LoadResult, BoxError> {
        match (&self.h2load, calls) {
            (Some(h2load), [call]) => h2load.run(address, call, bytes, shape, time),
            _ => load::run(address, calls, shape, time),
        }
    }

    /// Prints subjects as a table, with the reasons why others are missing. The table of an open load has no calls per
    /// second, since they are given.
    pub(super) fn print(
        &self,
        title: &str,
        subjects: &[Subject<'_>],
        with_rate: bool,
    ) -> Result<(), BoxError> {
        let mut columns = vec!["p50 us", "p99 us", "processor us/call", "memory MB"];
        if with_rate {
            columns.insert(0, "calls/s");
        }
        let row = |subject: &Subject<'_>| {
            let Subject { name, per_second, p50, p99, cost, memory, fault, .. } = subject;
            let rate = with_rate.then_some(per_second);
            let figures = rate.into_iter().chain([p50, p99, cost, memory]);
            let cells = figures.filter(|_| fault.is_none()).filter_map(Figure::summary).collect();
            Row { name: name.clone(), cells, missing: fault.clone() }
        };
        let mut rows: Vec<Row> = subjects.iter().map(row).collect();
        for (peer, running) in &self.peers {
            if let Err(why) = running {
                let (name, missing) = (peer.name().to_owned(), Some(why.to_string()));
                rows.push(Row { name, cells: Vec::new(), missing });
            }
        }
        Comparison { title: title.to_owned(), columns, rows }.print()
    }
}

/// Returns the call of a peer, or of the other subjects. The bearer of Envoy's form with checks is a token.
fn call(fleet: &Fleet, peer: Option<Peer>, bytes: usize) -> Result<Call, BoxError> {
    let call = proxied::unparsed_call(fleet)?.with_header(BYTES_HEADER, &bytes.to_string())?;
    if peer == Some(Peer::EnvoyChecked) {
        return call.with_header("authorization", &format!("Bearer {}", TOKEN.trim()));
    }
    Ok(call)
}

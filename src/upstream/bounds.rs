//! Limits on the calls and on the connections for streams that are open to a gateway, for the whole process.
//!
//! Invariants
//! - every count is held by a value whose drop releases it;
//! - no entry is kept for a gateway without open streams or connections, or for a caller without open streams;
//! - unary calls share no lock: they are counted in shards. Shoreguard's own unary calls are not counted.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::lane::Lane;
use crate::access::principal::PrincipalId;
use crate::config::Gateways;
use crate::db::types::GatewayId;
use crate::error::{Error, Reason};
use crate::fair::{Holder, Limit, Share};

/// Retry delay for a caller at a limit. Streams have no planned end, so this only sets a pace.
const RETRY_IN: Duration = Duration::from_secs(2);

/// Open calls and connections to all gateways.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// Unary calls of one caller to one gateway.
    unary: Arc<Limit>,
    streams_per_caller: u32,
    uploads_per_caller: u32,
    streams_per_gateway: u32,
    connections_per_gateway: u32,
    open: Mutex<HashMap<GatewayId, Open>>,
}

/// Open streams and connections of one gateway.
#[derive(Debug, Default)]
struct Open {
    streams: u32,
    connections: u32,
    callers: HashMap<PrincipalId, Held>,
}

/// Open streams of one caller on one gateway.
#[derive(Debug, Default)]
struct Held {
    streams: u32,
    uploads: u32,
}

/// Permit for one open stream.
#[derive(Debug)]
pub(crate) struct Permit {
    bounds: Arc<Bounds>,
    gateway: GatewayId,
    caller: Option<PrincipalId>,
    upload: bool,
}

/// Permit for one open connection for streams.
#[derive(Debug)]
pub(crate) struct Seat {
    bounds: Arc<Bounds>,
    gateway: GatewayId,
}

/// Returns the error for a caller or gateway at its limit.
pub(crate) fn busy() -> Error {
    Error::Exhausted { reason: Reason::GatewayBusy, retry_in: RETRY_IN }
}

impl Bounds {
    /// Creates the limits with nothing open.
    pub(crate) fn new(config: &Gateways) -> Self {
        Self {
            unary: Limit::new(0, config.unary_calls_per_caller.into()),
            streams_per_caller: config.streams_per_caller,
            uploads_per_caller: config.uploads_per_caller,
            streams_per_gateway: config.streams_per_gateway,
            connections_per_gateway: config.stream_connections_per_gateway,
            open: Mutex::default(),
        }
    }

    /// Counts a unary call of a caller.
    ///
    /// # Errors
    /// `GATEWAY_BUSY` if the limit is reached.
    pub(crate) fn admit_unary(
        &self,
        gateway: GatewayId,
        caller: PrincipalId,
    ) -> Result<Share, Error> {
        self.unary.take(Holder::OnGateway(caller, gateway), 1).map_err(|_| busy())
    }

    /// Counts a stream. `caller` is `None` for Shoreguard's own streams, which have no limit per caller.
    ///
    /// # Errors
    /// `GATEWAY_BUSY` if a limit is reached.
    pub(crate) fn admit(
        self: &Arc<Self>,
        gateway: GatewayId,
        caller: Option<PrincipalId>,
        lane: Lane,
    ) -> Result<Permit, Error> {
        let upload = lane == Lane::Exclusive;
        let mut all = self.open.lock();
        let open = all.entry(gateway).or_default();
        let (streams, uploads) = caller
            .and_then(|caller| open.callers.get(&caller))
            .map_or((0, 0), |held| (held.streams, held.uploads));
        if open.streams >= self.streams_per_gateway
            || streams >= self.streams_per_caller
            || (upload && uploads >= self.uploads_per_caller)
        {
            return Err(busy());
        }
        open.streams += 1;
        if let Some(caller) = caller {
            let held = open.callers.entry(caller).or_default();
            held.streams += 1;
            held.uploads += u32::from(upload);
        }
        drop(all);
        Ok(Permit { bounds: Arc::clone(self), gateway, caller, upload })
    }

    /// Counts a connection for streams.
    ///
    /// # Errors
    /// `GATEWAY_BUSY` if the limit is reached.
    pub(crate) fn connect(self: &Arc<Self>, gateway: GatewayId) -> Result<Seat, Error> {
        let mut all = self.open.lock();
        let open = all.entry(gateway).or_default();
        if open.connections >= self.connections_per_gateway {
            return Err(busy());
        }
        open.connections += 1;
        drop(all);
        Ok(Seat { bounds: Arc::clone(self), gateway })
    }

    fn release(&self, gateway: GatewayId, release: impl FnOnce(&mut Open)) {
        let mut all = self.open.lock();
        let Some(open) = all.get_mut(&gateway) else { return };
        release(open);
        if open.streams == 0 && open.connections == 0 {
            all.remove(&gateway);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.bounds.release(self.gateway, |open| {
            open.streams -= 1;
            let Some(caller) = self.caller else { return };
            let Some(held) = open.callers.get_mut(&caller) else { return };
            held.streams -= 1;
            held.uploads -= u32::from(self.upload);
            if held.streams == 0 {
                open.callers.remove(&caller);
            }
        });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.bounds.release(self.gateway, |open| open.connections -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::types::UserId;

    const GATEWAY: GatewayId = GatewayId(1);

    fn bounds() -> Arc<Bounds> {
        let mut config = crate::config::Config::from_toml("").unwrap().gateways;
        (config.streams_per_caller, config.uploads_per_caller) = (3, 2);
        (config.streams_per_gateway, config.stream_connections_per_gateway) = (5, 2);
        Arc::new(Bounds::new(&config))
    }

    const ANA: Option<PrincipalId> = Some(PrincipalId::User(UserId(1)));
    const BEN: Option<PrincipalId> = Some(PrincipalId::User(UserId(2)));

    fn is_busy<T>(admitted: &Result<T, Error>) -> bool {
        matches!(admitted, Err(Error::Exhausted { reason: Reason::GatewayBusy, .. }))
    }

    #[test]
    fn streams_are_limited_per_caller_and_per_gateway() {
        let bounds = bounds();
        let admit = |caller, lane| bounds.admit(GATEWAY, caller, lane);
        let mut held =
            vec![admit(ANA, Lane::Exclusive).unwrap(), admit(ANA, Lane::Exclusive).unwrap()];
        assert!(is_busy(&admit(ANA, Lane::Exclusive)), "uploads of a caller");
        held.push(admit(ANA, Lane::Streams).unwrap());
        assert!(is_busy(&admit(ANA, Lane::Streams)), "streams of a caller");
        held.push(admit(BEN, Lane::Streams).unwrap());
        held.push(admit(None, Lane::Exclusive).unwrap());
        assert!(is_busy(&admit(BEN, Lane::Streams)), "streams of a gateway");
        assert!(bounds.admit(GatewayId(2), ANA, Lane::Streams).is_ok(), "another gateway");
        held.remove(0);
        admit(ANA, Lane::Exclusive).unwrap();
        drop(held);
        assert!(bounds.open.lock().is_empty(), "nothing is kept");
    }

    #[test]
    fn t16_unary_calls_are_limited_per_caller_and_gateway() {
        let mut config = crate::config::Config::from_toml("").unwrap().gateways;
        config.unary_calls_per_caller = 2;
        let bounds = Bounds::new(&config);
        let (ana, ben) = (ANA.unwrap(), BEN.unwrap());
        let held = [(); 2].map(|()| bounds.admit_unary(GATEWAY, ana).unwrap());
        assert!(is_busy(&bounds.admit_unary(GATEWAY, ana)));
        bounds.admit_unary(GATEWAY, ben).unwrap();
        bounds.admit_unary(GatewayId(2), ana).unwrap();
        drop(held);
        bounds.admit_unary(GATEWAY, ana).unwrap();
    }

    #[test]
    fn stream_connections_are_limited_per_gateway() {
        let bounds = bounds();
        let seats = [bounds.connect(GATEWAY).unwrap(), bounds.connect(GATEWAY).unwrap()];
        assert!(is_busy(&bounds.connect(GATEWAY)));
        drop(seats);
        bounds.connect(GATEWAY).unwrap();
        assert!(bounds.open.lock().is_empty(), "nothing is kept");
    }
}

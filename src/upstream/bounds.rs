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
use crate::fair::{FairLimit, LimitHolder, LimitShare};

/// Retry delay for a caller at a limit. Streams have no planned end, so this only sets a pace.
const RETRY_IN: Duration = Duration::from_secs(2);

/// Open calls and connections to all gateways.
#[derive(Debug)]
pub(crate) struct CallLimits {
    /// Unary calls of one caller to one gateway.
    unary: Arc<FairLimit>,
    streams_per_caller: u32,
    uploads_per_caller: u32,
    streams_per_gateway: u32,
    connections_per_gateway: u32,
    usage: Mutex<HashMap<GatewayId, GatewayUsage>>,
}

/// Open streams and connections of one gateway.
#[derive(Debug, Default)]
struct GatewayUsage {
    streams: u32,
    connections: u32,
    callers: HashMap<PrincipalId, CallerUsage>,
}

/// Open streams of one caller on one gateway.
#[derive(Debug, Default)]
struct CallerUsage {
    streams: u32,
    uploads: u32,
}

/// Permit for one open stream.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    limits: Arc<CallLimits>,
    gateway: GatewayId,
    caller: Option<PrincipalId>,
    upload: bool,
}

/// Permit for one open connection for streams.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limits: Arc<CallLimits>,
    gateway: GatewayId,
}

/// Returns the error for a caller or gateway at its limit.
pub(crate) fn busy() -> Error {
    Error::Exhausted { reason: Reason::GatewayBusy, retry_in: RETRY_IN }
}

impl CallLimits {
    /// Creates the limits with nothing open.
    pub(crate) fn new(config: &Gateways) -> Self {
        Self {
            unary: FairLimit::new(0, config.unary_calls_per_caller.into()),
            streams_per_caller: config.streams_per_caller,
            uploads_per_caller: config.uploads_per_caller,
            streams_per_gateway: config.streams_per_gateway,
            connections_per_gateway: config.stream_connections_per_gateway,
            usage: Mutex::default(),
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
    ) -> Result<LimitShare, Error> {
        self.unary.acquire(LimitHolder::OnGateway(caller, gateway), 1).map_err(|_| busy())
    }

    /// Counts a stream. `caller` is `None` for Shoreguard's own streams, which have no limit per caller.
    ///
    /// # Errors
    /// `GATEWAY_BUSY` if a limit is reached.
    pub(crate) fn admit_stream(
        self: &Arc<Self>,
        gateway: GatewayId,
        caller: Option<PrincipalId>,
        lane: Lane,
    ) -> Result<StreamPermit, Error> {
        let upload = lane == Lane::Exclusive;
        let mut usage = self.usage.lock();
        let gateway_usage = usage.entry(gateway).or_default();
        let (streams, uploads) = caller
            .and_then(|caller| gateway_usage.callers.get(&caller))
            .map_or((0, 0), |caller_usage| (caller_usage.streams, caller_usage.uploads));
        if gateway_usage.streams >= self.streams_per_gateway
            || streams >= self.streams_per_caller
            || (upload && uploads >= self.uploads_per_caller)
        {
            return Err(busy());
        }
        gateway_usage.streams += 1;
        if let Some(caller) = caller {
            let caller_usage = gateway_usage.callers.entry(caller).or_default();
            caller_usage.streams += 1;
            caller_usage.uploads += u32::from(upload);
        }
        drop(usage);
        Ok(StreamPermit { limits: Arc::clone(self), gateway, caller, upload })
    }

    /// Counts a connection for streams.
    ///
    /// # Errors
    /// `GATEWAY_BUSY` if the limit is reached.
    pub(crate) fn admit_connection(
        self: &Arc<Self>,
        gateway: GatewayId,
    ) -> Result<ConnectionPermit, Error> {
        let mut usage = self.usage.lock();
        let gateway_usage = usage.entry(gateway).or_default();
        if gateway_usage.connections >= self.connections_per_gateway {
            return Err(busy());
        }
        gateway_usage.connections += 1;
        drop(usage);
        Ok(ConnectionPermit { limits: Arc::clone(self), gateway })
    }

    fn release(&self, gateway: GatewayId, release: impl FnOnce(&mut GatewayUsage)) {
        let mut usage = self.usage.lock();
        let Some(gateway_usage) = usage.get_mut(&gateway) else { return };
        release(gateway_usage);
        if gateway_usage.streams == 0 && gateway_usage.connections == 0 {
            usage.remove(&gateway);
        }
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.limits.release(self.gateway, |gateway_usage| {
            gateway_usage.streams -= 1;
            let Some(caller) = self.caller else { return };
            let Some(caller_usage) = gateway_usage.callers.get_mut(&caller) else { return };
            caller_usage.streams -= 1;
            caller_usage.uploads -= u32::from(self.upload);
            if caller_usage.streams == 0 {
                gateway_usage.callers.remove(&caller);
            }
        });
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limits.release(self.gateway, |gateway_usage| gateway_usage.connections -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::types::UserId;

    const GATEWAY: GatewayId = GatewayId(1);

    fn limits() -> Arc<CallLimits> {
        let mut config = crate::config::Config::from_toml("").unwrap().gateways;
        (config.streams_per_caller, config.uploads_per_caller) = (3, 2);
        (config.streams_per_gateway, config.stream_connections_per_gateway) = (5, 2);
        Arc::new(CallLimits::new(&config))
    }

    const ANA: Option<PrincipalId> = Some(PrincipalId::User(UserId(1)));
    const BEN: Option<PrincipalId> = Some(PrincipalId::User(UserId(2)));

    fn is_busy<T>(admitted: &Result<T, Error>) -> bool {
        matches!(admitted, Err(Error::Exhausted { reason: Reason::GatewayBusy, .. }))
    }

    #[test]
    fn streams_are_limited_per_caller_and_per_gateway() {
        let limits = limits();
        let admit = |caller, lane| limits.admit_stream(GATEWAY, caller, lane);
        let mut permits =
            vec![admit(ANA, Lane::Exclusive).unwrap(), admit(ANA, Lane::Exclusive).unwrap()];
        assert!(is_busy(&admit(ANA, Lane::Exclusive)), "uploads of a caller");
        permits.push(admit(ANA, Lane::Streams).unwrap());
        assert!(is_busy(&admit(ANA, Lane::Streams)), "streams of a caller");
        permits.push(admit(BEN, Lane::Streams).unwrap());
        permits.push(admit(None, Lane::Exclusive).unwrap());
        assert!(is_busy(&admit(BEN, Lane::Streams)), "streams of a gateway");
        assert!(limits.admit_stream(GatewayId(2), ANA, Lane::Streams).is_ok(), "another gateway");
        permits.remove(0);
        admit(ANA, Lane::Exclusive).unwrap();
        drop(permits);
        assert!(limits.usage.lock().is_empty(), "nothing is kept");
    }

    #[test]
    fn t16_unary_calls_are_limited_per_caller_and_gateway() {
        let mut config = crate::config::Config::from_toml("").unwrap().gateways;
        config.unary_calls_per_caller = 2;
        let limits = CallLimits::new(&config);
        let (ana, ben) = (ANA.unwrap(), BEN.unwrap());
        let shares = [(); 2].map(|()| limits.admit_unary(GATEWAY, ana).unwrap());
        assert!(is_busy(&limits.admit_unary(GATEWAY, ana)));
        limits.admit_unary(GATEWAY, ben).unwrap();
        limits.admit_unary(GatewayId(2), ana).unwrap();
        drop(shares);
        limits.admit_unary(GATEWAY, ana).unwrap();
    }

    #[test]
    fn stream_connections_are_limited_per_gateway() {
        let limits = limits();
        let permits =
            [limits.admit_connection(GATEWAY).unwrap(), limits.admit_connection(GATEWAY).unwrap()];
        assert!(is_busy(&limits.admit_connection(GATEWAY)));
        drop(permits);
        limits.admit_connection(GATEWAY).unwrap();
        assert!(limits.usage.lock().is_empty(), "nothing is kept");
    }
}

//! Maps sandbox ids to names: many calls of generation 0.0 identify sandboxes by id.
//!
//! Invariants
//! - an id is known only on the gateway that reported it (T08); an id of another gateway gets the same response as one
//!   without a sandbox;
//! - what is stored of a gateway's responses is bounded, in number and in length;
//! - the ids of a gateway are discarded when its address or credentials change (T04).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::app::App;
use crate::db::types::{DEFAULT_WORKSPACE, GatewayId, SandboxName};
use crate::error::{Error, Reason};
use crate::fair::LimitShare;
use crate::pb::wire::{self, FieldReader, FieldValue};
use crate::upstream::budget::BudgetClass;
use crate::upstream::connection::Connection;
use crate::upstream::credential;
use crate::upstream::message;
use crate::upstream::unary::CallError;
use crate::upstream::unreachable::error_from_http_status;

/// Maximum number of stored ids per gateway; at the limit, all of them are discarded.
const IDS_MAX: usize = 20_000;
/// Maximum length of a stored id, workspace or name, in bytes.
const TEXT_BYTES_MAX: usize = 253;
/// Maximum size of a forwarded response that is searched for ids, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Sandboxes per page.
const PAGE: u64 = 200;
/// Maximum number of pages that are requested.
const PAGES_MAX: usize = 100;
/// Timeout of one page.
const PAGE_TIME: Duration = Duration::from_secs(5);

const LIST: &str = "/openshell.v1.OpenShell/ListSandboxes";

/// The known ids of all gateways.
#[derive(Debug, Default)]
pub struct SandboxIds {
    gateways: Mutex<HashMap<GatewayId, GatewayIds>>,
}

#[derive(Debug)]
struct GatewayIds {
    connection_version: u64,
    names: HashMap<Box<str>, Arc<SandboxName>>,
    /// Held while the sandboxes are listed; contains the start time of the last listing.
    listing: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

impl GatewayIds {
    fn new(connection_version: u64) -> Self {
        Self { connection_version, names: HashMap::new(), listing: Arc::default() }
    }
}

impl SandboxIds {
    fn gateways(&self) -> MutexGuard<'_, HashMap<GatewayId, GatewayIds>> {
        self.gateways.lock()
    }

    fn get(&self, gateway: GatewayId, version: u64, id: &str) -> Option<Arc<SandboxName>> {
        let gateways = self.gateways();
        let ids = gateways.get(&gateway).filter(|ids| ids.connection_version == version)?;
        ids.names.get(id).cloned()
    }

    fn listing(
        &self,
        gateway: GatewayId,
        version: u64,
    ) -> Arc<tokio::sync::Mutex<Option<Instant>>> {
        let mut gateways = self.gateways();
        Arc::clone(&entry(&mut gateways, gateway, version).listing)
    }

    /// Stores the ids in a response. Returns the number of sandboxes in it.
    pub(crate) fn learn(&self, gateway: GatewayId, version: u64, answer: &[u8]) -> usize {
        // Parsed before the lock is taken, since all cores share it.
        let (names, count) = parse_sandboxes(answer);
        let mut gateways = self.gateways();
        let ids = entry(&mut gateways, gateway, version);
        for (id, name) in names {
            if ids.names.len() >= IDS_MAX {
                ids.names.clear();
            }
            ids.names.insert(id, name);
        }
        count
    }

    /// Returns the sandbox of an id. Lists the gateway's sandboxes if the id is not known.
    ///
    /// # Errors
    /// `SANDBOX_UNPLACED` if the gateway has no such sandbox, whether or not another gateway has it.
    /// `GATEWAY_UNREACHABLE`, `GATEWAY_CREDENTIAL_REFUSED` or `GATEWAY_OVER_BUDGET` if the sandboxes cannot be listed.
    pub(crate) async fn resolve(
        &self,
        gateway: GatewayId,
        connection: &Connection,
        id: &str,
    ) -> Result<Arc<SandboxName>, Error> {
        let version = connection.version();
        if let Some(name) = self.get(gateway, version, id) {
            return Ok(name);
        }
        let unknown_id = || {
            let why = "the sandbox id is not known on the gateway";
            Error::refused(Reason::SandboxUnplaced, why)
        };
        if id.is_empty() || id.len() > TEXT_BYTES_MAX {
            return Err(unknown_id());
        }
        let arrived = Instant::now();
        let listing = self.listing(gateway, version);
        // One listing at a time: a flood of unknown ids causes listings one after the other, not many at once.
        let mut last_listed = listing.lock().await;
        if last_listed.is_none_or(|at| at < arrived) {
            *last_listed = Some(Instant::now());
            self.list(gateway, connection).await?;
        }
        drop(last_listed);
        self.get(gateway, version, id).ok_or_else(unknown_id)
    }

    async fn list(&self, gateway: GatewayId, connection: &Connection) -> Result<(), Error> {
        let mut offset = 0;
        for _ in 0..PAGES_MAX {
            connection.budget().check(BudgetClass::Single)?;
            let mut request = Vec::new();
            wire::put_number(&mut request, 1, PAGE);
            wire::put_number(&mut request, 2, offset);
            wire::put_number(&mut request, 5, 1);
            let answer = timeout(PAGE_TIME, connection.call_unary(LIST, &request)).await;
            let late = |_| Err(CallError::Broken("no answer in time".to_owned()));
            let answer = answer.unwrap_or_else(late);
            let answer = answer.map_err(|why| {
                let gateway = connection.gateway();
                connection.log_failure(format_args!("it does not list its sandboxes: {why}"));
                match why {
                    CallError::Status(Code::Unauthenticated, message) => {
                        credential::unauthenticated_error(gateway, &message)
                    }
                    CallError::FrontEnd(status) => error_from_http_status(gateway, status),
                    CallError::Status(..) | CallError::Broken(_) => {
                        Connection::unreachable(gateway)
                    }
                }
            })?;
            // A gateway may return fewer than requested, so only an empty page is the last.
            match self.learn(gateway, connection.version(), &answer) {
                0 => break,
                count => offset += count as u64,
            }
        }
        Ok(())
    }
}

/// A sandbox id and the sandbox's name.
type IdAndName = (Box<str>, Arc<SandboxName>);

/// Returns the ids and names of the sandboxes in a response, and the number of sandboxes.
fn parse_sandboxes(answer: &[u8]) -> (Vec<IdAndName>, usize) {
    let (mut fields, mut names, mut count) = (FieldReader::new(answer), Vec::new(), 0);
    // `sandbox` and `sandboxes` are field 1 of their response messages, `metadata` is field 1 of a sandbox.
    while let Ok(Some((number, value))) = fields.next_field() {
        let (1, FieldValue::Bytes(sandbox)) = (number, value) else { continue };
        count += 1;
        let text = |number| {
            wire::text_at(sandbox, &[1, number]).filter(|text| text.len() <= TEXT_BYTES_MAX)
        };
        let (Some(id), Some(name)) = (text(1), text(2)) else { continue };
        let workspace = text(7).unwrap_or(DEFAULT_WORKSPACE);
        let name = SandboxName { workspace: workspace.to_owned(), name: name.to_owned() };
        names.push((id.into(), Arc::new(name)));
    }
    (names, count)
}

fn entry(
    gateways: &mut HashMap<GatewayId, GatewayIds>,
    gateway: GatewayId,
    version: u64,
) -> &mut GatewayIds {
    let ids = gateways.entry(gateway).or_insert_with(|| GatewayIds::new(version));
    if ids.connection_version != version {
        *ids = GatewayIds::new(version);
    }
    ids
}

/// Collects a forwarded response, to learn the sandbox ids in it.
pub(crate) struct IdCollector {
    app: Arc<App>,
    gateway: GatewayId,
    version: u64,
    chunks: Option<Vec<Bytes>>,
    bytes: usize,
    /// Counts the collected bytes against the caller, separately from what the call itself holds.
    share: Option<LimitShare>,
}

impl IdCollector {
    /// Creates a collector for a response on a connection of this version.
    pub(crate) fn new(
        app: &Arc<App>,
        gateway: GatewayId,
        version: u64,
        share: Option<LimitShare>,
    ) -> Self {
        Self { app: Arc::clone(app), gateway, version, chunks: Some(Vec::new()), bytes: 0, share }
    }

    /// Adds a chunk, without copying it. Discards everything if the response is too long or the caller holds too much:
    /// the gateway is then called when an id is needed.
    pub(crate) fn push(&mut self, data: &Bytes) {
        let Some(chunks) = &mut self.chunks else { return };
        self.bytes += data.len();
        chunks.push(data.clone());
        let bytes = (data.len() + size_of::<Bytes>()) as u64;
        let counts = |share: &mut LimitShare| share.grow(bytes).is_ok();
        if self.bytes > ANSWER_BYTES_MAX || !self.share.as_mut().is_none_or(counts) {
            self.chunks = None;
            self.share = None;
        }
    }

    /// Learns the ids of the complete response.
    pub(crate) fn finish(self) {
        // A response from a previous address of the gateway is ignored.
        let current =
            self.app.fleet.targets.get(self.gateway).map(|target| target.connection_version);
        let Some(chunks) = self.chunks.filter(|_| current == Some(self.version)) else { return };
        let answer = match <[Bytes; 1]>::try_from(chunks) {
            Ok([one]) => one,
            Err(many) => {
                let mut all = BytesMut::with_capacity(self.bytes);
                for chunk in many {
                    all.extend_from_slice(&chunk);
                }
                all.freeze()
            }
        };
        if let Some(answer) = message::decode_single(answer) {
            self.app.part::<SandboxIds>().learn(self.gateway, self.version, &answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(id: &str, name: &str, workspace: &str) -> Vec<u8> {
        let (mut metadata, mut sandbox, mut answer) = (Vec::new(), Vec::new(), Vec::new());
        wire::put_bytes(&mut metadata, 1, id.as_bytes());
        wire::put_bytes(&mut metadata, 2, name.as_bytes());
        wire::put_bytes(&mut metadata, 7, workspace.as_bytes());
        wire::put_bytes(&mut sandbox, 1, &metadata);
        wire::put_bytes(&mut answer, 1, &sandbox);
        answer
    }

    #[test]
    fn t08_a_sandbox_id_is_known_only_for_the_gateway_that_returned_it() {
        let ids = SandboxIds::default();
        let (a, b) = (GatewayId(1), GatewayId(2));
        ids.learn(a, 1, &[sandbox("x", "demo", "team"), sandbox("y", "other", "")].concat());
        let name = ids.get(a, 1, "x").unwrap();
        assert_eq!((name.workspace.as_str(), name.name.as_str()), ("team", "demo"));
        assert_eq!(ids.get(a, 1, "y").unwrap().workspace, "default");
        assert!(ids.get(b, 1, "x").is_none());
        assert!(ids.get(a, 2, "x").is_none(), "t04: no id is known at a changed destination");
    }

    #[test]
    fn t20_the_number_of_sandbox_ids_learned_from_a_gateway_is_limited() {
        let ids = SandboxIds::default();
        let gateway = GatewayId(1);
        ids.learn(gateway, 1, &sandbox(&"x".repeat(254), "demo", ""));
        ids.learn(gateway, 1, &[0xff, 0xff, 0xff]);
        for i in 0..=IDS_MAX {
            ids.learn(gateway, 1, &sandbox(&i.to_string(), "demo", ""));
        }
        assert!(ids.gateways()[&gateway].names.len() <= IDS_MAX);
    }
}

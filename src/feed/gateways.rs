//! Loads gateways into memory, at startup and after each change, on every replica.

use std::collections::HashMap;

use crate::access::live::EndReason;
use crate::access::snapshot::GatewayFacts;
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::labels::Labels;
use crate::upstream::row::GatewayRow;
use crate::upstream::store;
use crate::upstream::targets;

/// Loads all targets from the database, at startup.
pub async fn load_targets(app: &App) -> Result<(), Error> {
    for row in store::all(&mut app.db.read_as_server().await?).await? {
        match targets::from_row(&app.target_context(), &row) {
            Ok(target) => {
                app.fleet.targets.put(GatewayId(row.id), Some(target));
            }
            // A gateway whose secrets cannot be opened must not prevent the others from being served.
            Err(error) => {
                tracing::error!(
                    gateway = row.name,
                    error = &error as &dyn std::error::Error,
                    "a gateway can't be used"
                );
            }
        }
    }
    Ok(())
}

/// Reloads gateways that were changed on any replica. Returns the facts that access checks need; `None` for a gateway
/// that no longer exists.
pub async fn refresh_targets(
    app: &App,
    ids: &[GatewayId],
) -> Result<Vec<(GatewayId, Option<GatewayFacts>)>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = store::by_ids(&mut app.db.read_as_server().await?, ids).await?;
    let mut rows: HashMap<GatewayId, GatewayRow> =
        rows.into_iter().map(|row| (GatewayId(row.id), row)).collect();
    let refreshed = ids.iter().map(|id| {
        let row = rows.remove(id);
        refresh_target(app, *id, row.as_ref());
        let labels = |row: &GatewayRow| Labels::from_json(row.labels_json.as_deref());
        (*id, row.map(|row| GatewayFacts { labels: labels(&row), name: row.name.into() }))
    });
    Ok(refreshed.collect())
}

fn refresh_target(app: &App, id: GatewayId, row: Option<&GatewayRow>) {
    let target = match row.map(|row| targets::from_row(&app.target_context(), row)).transpose() {
        Ok(target) => target,
        Err(error) => {
            tracing::error!(gateway = %id, error = &error as &dyn std::error::Error, "a gateway can't be used");
            None
        }
    };
    let endpoint = target.as_ref().map(targets::Target::address);
    let before = app.fleet.targets.put(id, target);
    if let Some(before) = before
        && Some(before.address()) != endpoint
    {
        // Streams to the old address must not continue as streams of this gateway (T04).
        let reason =
            if row.is_some() { EndReason::GatewayChanged } else { EndReason::GatewayRemoved };
        app.live.end_gateway_streams(id, reason);
    }
}

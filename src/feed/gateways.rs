//! The gateways in memory are read here, at start and after each change, on every replica.

use std::collections::HashMap;

use crate::access::snapshot::GatewayFacts;
use crate::app::App;
use crate::db::types::GatewayId;
use crate::error::Error;
use crate::labels::Labels;
use crate::upstream::row::Row;
use crate::upstream::store;
use crate::upstream::targets;

/// Fills the targets from the database, at start.
pub async fn load_targets(app: &App) -> Result<(), Error> {
    for row in store::all(&mut app.db.read().await?).await? {
        match targets::from_row(&app.reach(), &row) {
            Ok(target) => {
                app.fleet.targets.put(GatewayId(row.id), Some(target));
            }
            // One gateway whose secrets don't open must not keep the others from being served.
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

/// Reads gateways anew after they have changed, here or on another replica. Answers what access needs to know of them;
/// of one that is gone that is nothing.
pub async fn refresh_targets(
    app: &App,
    ids: &[GatewayId],
) -> Result<Vec<(GatewayId, Option<GatewayFacts>)>, Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = store::by_ids(&mut app.db.read().await?, ids).await?;
    let mut rows: HashMap<GatewayId, Row> =
        rows.into_iter().map(|row| (GatewayId(row.id), row)).collect();
    let refreshed = ids.iter().map(|id| {
        let row = rows.remove(id);
        refresh_target(app, *id, row.as_ref());
        let labels = |row: &Row| Labels::from_json(row.labels_json.as_deref());
        (*id, row.map(|row| GatewayFacts { labels: labels(&row), name: row.name.into() }))
    });
    Ok(refreshed.collect())
}

fn refresh_target(app: &App, id: GatewayId, row: Option<&Row>) {
    let target = match row.map(|row| targets::from_row(&app.reach(), row)).transpose() {
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
        // What was opened to another address must not go on as if it were this gateway's (T04).
        app.live.end_gateway(id, crate::access::live::Ended::GatewayChanged);
    }
}

//! A server that is killed while it writes an approved draft: the next one continues, and nothing is written twice.

use std::sync::Arc;

use shoreguard::app::App;
use shoreguard::ctx::Ctx;
use shoreguard::db::Engine;
use shoreguard::db::types::{ApprovalRoundId, SandboxName, SandboxRef};
use shoreguard::error::Error;
use shoreguard::governance::Decision;
use shoreguard::openshell::Gateway;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::apply::fail_points::FailPoint;
use shoreguard::resources::approvals::drafts::current::CurrentDrafts;
use shoreguard::resources::approvals::votes::{self, Ballot, BallotDecision};
use shoreguard::rpc::call::handle_write;
use shoreguard_simulator::Generation;
use tokio::sync::oneshot;

use super::crashes::{Scene, each_point, kills};
use crate::support::gateways::propose_host;
use crate::support::limit;
use crate::support::server::{build, config};
use crate::support::work::{OperationSpec, start_request};

/// Opens the round of a chunk of `coder`, and approves it.
async fn approve(ctx: &Ctx, chunk: &str) -> Result<ApprovalRoundId, Error> {
    let on = ctx.required_gateway()?.clone();
    let gateway = Gateway::connect(ctx.app(), &on).await?;
    let name = SandboxName { workspace: "default".to_owned(), name: "coder".to_owned() };
    let place = SandboxRef { gateway: on, name };
    let current = CurrentDrafts::read(&gateway, &place).await?;
    let found = current.chunk(chunk)?;
    let content = current.base.content(found)?;
    let round =
        ctx.transaction(async |tx| current.open(ctx, tx, &place, (found, &content)).await).await?;
    let ballot = Ballot {
        approval: round.id,
        digest: round.digest,
        decision: BallotDecision::Cast(Decision::Approve),
        comment: None,
    };
    votes::cast(ctx, &[ballot]).await?;
    Ok(round.id)
}

/// Lets the agent ask for a host, and approves that, while no server runs. Returns the round and the chunk.
async fn approve_draft(scene: &Scene, host: &str) -> (ApprovalRoundId, String) {
    let chunk = propose_host(&scene.simulator, "coder", host);
    scene.place.wait_closed().await;
    let app: Arc<App> = build(config(&scene.place, scene.folder(), |_| {})).await;
    let spec = OperationSpec {
        key: scene.key().to_owned(),
        gateway: "edge".to_owned(),
        sandbox: "coder".to_owned(),
        ..OperationSpec::default()
    };
    let (sender, approved) = oneshot::channel();
    let asked = chunk.clone();
    let answer = handle_write(&app, start_request(&app, &spec), async move |ctx, _| {
        let _ = sender.send(approve(&ctx, &asked).await?);
        Ok(pb::GetOperationResponse::default())
    });
    answer.await.unwrap();
    let id = approved.await.unwrap();
    app.stop.cancel();
    app.drain().await;
    drop(app);
    (id, chunk)
}

/// Kills servers at a point while they write a draft.
async fn killed_at(engine: Engine, point: FailPoint) {
    let Some(scene) = Scene::start(engine, Generation::V0_1).await else { return };
    for count in 1..=kills() {
        let before = scene.written();
        let (id, chunk) = approve_draft(&scene, &format!("h{count}.example")).await;
        scene.kill_and_finish(point, (id, count), before).await;
        let (status, _) = scene.simulator.proposal("default", "coder", &chunk).unwrap().unwrap();
        assert_eq!(status, "approved", "{point}");
    }
    scene.place.remove();
}

mod g02_killed_during_the_approval_of_a_draft_writes_it_once {
    use super::*;

    each_point! {
        killed_at,
        intent_stored: IntentStored,
        apply_sent: ApplySent,
        apply_answered: ApplyAnswered,
        written_stored: WrittenStored,
    }
}

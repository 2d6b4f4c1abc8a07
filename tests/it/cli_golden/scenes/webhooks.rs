//! A webhook with a receiver, from its creation to its end. The jobs that send messages run.

use shoreguard::pb::v1 as pb;
use shoreguard::resources::events::worker::SEQUENCER;
use shoreguard::resources::webhooks::delivery::DELIVERY;
use shoreguard::resources::webhooks::worker::FANOUT;
use shoreguard::workers::{self, keyed};

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::support::server::TestServer;
use crate::webhooks::all_in;
use crate::webhooks::receiver::Receiver;

const SUCCESS: pb::WebhookDeliveryStatus = pb::WebhookDeliveryStatus::Success;

pub(super) async fn play(sg: &TestServer, scene: &mut Scene) {
    for job in [SEQUENCER, FANOUT] {
        workers::spawn(&sg.app, job);
    }
    keyed::spawn(&sg.app, DELIVERY);
    let receiver = Receiver::start().await;
    scene.set("receiver", receiver.url());
    for form in FORMS {
        let create = "webhook create --url - --channel generic \
                      --event-types service_principal.created --description pager";
        scene.ok_with(form, ADMIN, create, &receiver.url()).await;
        let id = newest(sg).await;
        scene.set("webhook", id.to_string());
        scene.ok(form, ADMIN, "webhook list").await;
        scene.ok(form, ADMIN, "webhook get {webhook}").await;
        scene.ok(form, ADMIN, "webhook test {webhook}").await;
        sg.admin().create_key(&format!("one-{}", form.1), pb::Role::None).await;
        let sent = all_in(sg, id, 1, SUCCESS).await;
        scene.set("delivery", sent[0].id.to_string());
        scene.ok(form, ADMIN, "webhook deliveries {webhook}").await;
        scene.ok(form, ADMIN, "webhook redeliver {webhook} --delivery-ids {delivery}").await;
        // Without a message on its way, the webhook does not change by itself.
        all_in(sg, id, 1, SUCCESS).await;
        scene.ok(form, ADMIN, "webhook update {webhook} --description chat").await;
        scene.ok(form, ADMIN, "webhook rotate-secret {webhook} --overlap 1h").await;
        scene.ok(form, ADMIN, "webhook delete {webhook}").await;
    }
}

/// Returns the id of the newest webhook.
async fn newest(sg: &TestServer) -> i64 {
    let request = pb::ListWebhooksRequest::default();
    let listed = sg.admin().webhooks().list_webhooks(request).await.unwrap().into_inner();
    listed.webhooks[0].id
}

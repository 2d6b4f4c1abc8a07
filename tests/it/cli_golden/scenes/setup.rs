//! The first admin of a server, which is another server in each form.

use shoreguard::db::Engine;
use shoreguard::resources::auth::setup;

use super::super::FORMS;
use super::scene::{ADMIN, Scene};
use crate::support::DbLocation;
use crate::support::server::{ADMIN_PASSWORD, TestServer};

pub(super) async fn play(_: &TestServer, scene: &mut Scene) {
    scene.write("password", ADMIN_PASSWORD);
    for form in FORMS {
        let place = DbLocation::new(Engine::Sqlite).await.unwrap();
        let empty = TestServer::start_empty(place, Engine::Sqlite, |_| {}).await;
        scene.move_to(&empty);
        let token = setup::ensure_token(&empty.app).await.unwrap().unwrap();
        let arguments = "server setup ana@example.com --setup-token - --password @{password}";
        scene.ok_with(form, ADMIN, arguments, token.expose()).await;
        empty.finish().await;
    }
}

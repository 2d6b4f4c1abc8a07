//! Connections for streaming calls: their limits, and when they are reused.

use std::time::Duration;

use shoreguard::config::Config;
use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use tonic::Status;
use tonic_types::StatusExt;

use super::raw::{RawClient, encode_framed};
use super::starved::{Scene, scene};
use super::*;

const STREAMS_MAX: u32 = 4;
const UPLOADS_MAX: u32 = 2;
const STREAMS_OF_GATEWAY_MAX: u32 = 6;

fn few(config: &mut Config) {
    config.gateways.streams_per_caller = STREAMS_MAX;
    config.gateways.uploads_per_caller = UPLOADS_MAX;
    config.gateways.streams_per_gateway = STREAMS_OF_GATEWAY_MAX;
}

/// A port that echoes data.
const ECHO: u32 = 80;

/// A tunnel of generation 0.0. Its sender keeps it open.
struct Tunnel {
    typed: tokio::sync::mpsc::Sender<old::TcpForwardFrame>,
    echo: tonic::Streaming<old::TcpForwardFrame>,
}

impl Tunnel {
    async fn open(caller: &Caller, scene: &Scene<'_>) -> Result<Self, Status> {
        use prost::Message as _;
        let (typed, frames) = tokio::sync::mpsc::channel(4);
        let init = old::TcpForwardFrame::decode(scene.init(ECHO).slice(5..)).unwrap();
        typed.send(init).await.unwrap();
        let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
        let echo =
            caller.openshell_v0_0().forward_tcp(for_gateway("alpha", frames)).await?.into_inner();
        let mut tunnel = Self { typed, echo };
        tunnel.echoes().await?;
        Ok(tunnel)
    }

    /// Checks that data is echoed.
    async fn echoes(&mut self) -> Result<(), Status> {
        let payload = Some(old::tcp_forward_frame::Payload::Data("hello".into()));
        self.typed.send(old::TcpForwardFrame { payload: payload.clone() }).await.unwrap();
        let back = self.echo.message().await?.unwrap();
        assert_eq!(back.payload, payload);
        Ok(())
    }

    /// Closes it in both directions.
    async fn close(mut self) {
        drop(self.typed);
        assert!(self.echo.message().await.unwrap().is_none());
    }
}

async fn watching(
    caller: &Caller,
    id: &str,
) -> Result<tonic::Streaming<old::SandboxStreamEvent>, Status> {
    let mut events = caller
        .openshell_v0_0()
        .watch_sandbox(for_gateway("alpha", watch_request(id)))
        .await?
        .into_inner();
    events.message().await?;
    Ok(events)
}

fn assert_busy<T>(answer: Result<T, Status>) {
    let Err(status) = answer else { panic!("a stream past the bound") };
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    assert_eq!(crate::support::server::reason(&status), "GATEWAY_BUSY");
    let retry = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    assert_eq!(retry, Some(Duration::from_secs(2)));
}

#[test]
fn proxied_streams_are_limited_per_caller_and_gateway() {
    run(Engine::Sqlite, few, |sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        let scene = Scene::new(&sg, Generation::V0_0, &gateway).await;
        let admin = sg.admin();
        let mut tunnels = Vec::new();
        for _ in 0..UPLOADS_MAX {
            tunnels.push(Tunnel::open(&admin, &scene).await.unwrap());
        }
        assert_busy(Tunnel::open(&admin, &scene).await);
        let mut watches = Vec::new();
        for _ in UPLOADS_MAX..STREAMS_MAX {
            watches.push(watching(&admin, scene.id()).await.unwrap());
        }
        assert_busy(watching(&admin, scene.id()).await);
        // Shoreguard's own method counts for the same caller.
        let own = pb::WatchSandboxRequest {
            gateway: "alpha".to_owned(),
            sandbox: "one".to_owned(),
            ..Default::default()
        };
        let refused = async {
            let mut seen = admin.sandboxes().watch_sandbox(own.clone()).await?.into_inner();
            seen.message().await
        };
        assert_busy(refused.await);
        // Another caller has its own limit, within the limit of the gateway.
        let other = sg.with_token(&admin.create_key("other", pb::Role::Operator).await);
        for _ in STREAMS_MAX..STREAMS_OF_GATEWAY_MAX {
            watches.push(watching(&other, scene.id()).await.unwrap());
        }
        assert_busy(watching(&other, scene.id()).await);
        // Unary calls are not counted, and a stream that ends makes room.
        admin.openshell_v0_0().get_sandbox(for_gateway("alpha", get_request("one"))).await.unwrap();
        for tunnel in &mut tunnels {
            tunnel.echoes().await.unwrap();
        }
        tunnels.pop().unwrap().close().await;
        wait_until("there is room again", || async { Tunnel::open(&other, &scene).await.is_ok() })
            .await;
        drop((tunnels, watches));
        wait_until("every stream is closed", || async { sg.app.live.count() == 0 }).await;
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn the_connection_of_a_closed_tunnel_is_reused() {
    scene(Generation::V0_0, async |scene, _, gateway| {
        let admin = scene.sg.admin();
        Tunnel::open(&admin, scene).await.unwrap().close().await;
        // The connection is reused after it was verified, which takes a call.
        wait_until("a tunnel opens no connection", || async {
            let accepted = gateway.connections_accepted();
            Tunnel::open(&admin, scene).await.unwrap().close().await;
            gateway.connections_accepted() == accepted
        })
        .await;
    });
}

#[test]
fn connections_of_cancelled_uploads_are_closed() {
    const UPLOADS: usize = 10;
    scene(Generation::V0_0, async |scene, _, gateway| {
        let mut raw = RawClient::connect(scene.sg).await;
        // Opens the connection that unary calls need.
        raw.call(raw.request("GetSandbox", "alpha"), &[encode_framed(&get_request("one"))]).await;
        let (accepted, open) = (gateway.connections_accepted(), gateway.connections_open());
        let mut uploads = Vec::new();
        for _ in 0..UPLOADS / 2 {
            uploads.push(scene.stall(&mut raw).await);
        }
        let mut raw = RawClient::connect(scene.sg).await;
        for _ in UPLOADS / 2..UPLOADS {
            uploads.push(scene.stall(&mut raw).await);
        }
        assert!(gateway.connections_accepted() >= accepted + UPLOADS, "each has its own");
        drop(uploads);
        wait_until("they are closed", || async { gateway.connections_open() <= open + 1 }).await;
    });
}

#[test]
fn server_streams_share_connections() {
    scene(Generation::V0_0, async |scene, _, gateway| {
        let admin = scene.sg.admin();
        let mut watches = vec![watching(&admin, scene.id()).await.unwrap()];
        let before = gateway.connections_accepted();
        for _ in 0..60 {
            watches.push(watching(&admin, scene.id()).await.unwrap());
        }
        assert!(gateway.connections_accepted() <= before + 2, "at most one is opened for them");
    });
}

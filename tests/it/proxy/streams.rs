//! Streams: both directions, how they end, and neighbors that are canceled.

use std::time::Instant;

use bytes::Bytes;
use old::exec_sandbox_event::Payload as Out;
use old::exec_sandbox_input::Payload as In;
use shoreguard::pb::v1 as pb;
use shoreguard_simulator::Generation;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::raw::{RawClient, encode_framed};
use super::*;

fn exec(sandbox_id: &str, words: &[&str]) -> old::ExecSandboxRequest {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    old::ExecSandboxRequest { sandbox_id: sandbox_id.to_owned(), command, ..Default::default() }
}

#[test]
fn a_server_stream_is_forwarded_to_its_end() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let id = create_sandbox(&admin, "alpha", "one").await;
        let ask = for_gateway("alpha", exec(&id, &["seq", "200000"]));
        let mut events = admin.openshell_v0_0().exec_sandbox(ask).await.unwrap().into_inner();
        let (mut bytes, mut code) = (0, None);
        while let Some(event) = events.message().await.unwrap() {
            match event.payload.unwrap() {
                Out::Stdout(part) => bytes += part.data.len(),
                Out::Stderr(_) => {}
                Out::Exit(exit) => code = Some(exit.exit_code),
            }
        }
        assert_eq!((bytes, code), (1_288_895, Some(0)));
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn either_side_of_a_bidirectional_stream_can_send_and_end_first() {
    run_on_sqlite(|sg| async move {
        use new::exec_sandbox_event::Payload as Out;
        use new::exec_sandbox_input::Payload as In;
        let gateway = start_simulator(Generation::V0_1).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let mut client = admin.openshell_v0_1();
        client.create_sandbox(for_gateway("alpha", create_request_v0_1("one"))).await.unwrap();
        let (typed, input) = tokio::sync::mpsc::channel(4);
        let say = |payload| new::ExecSandboxInput { payload: Some(payload) };
        let start = new::ExecSandboxRequest {
            sandbox: "one".to_owned(),
            command: vec!["cat".to_owned()],
            ..Default::default()
        };
        typed.send(say(In::Start(start))).await.unwrap();
        let ask = for_gateway("alpha", ReceiverStream::new(input));
        let mut events = client.exec_sandbox_interactive(ask).await.unwrap().into_inner();
        for word in ["one\n", "two\n"] {
            typed.send(say(In::Stdin(Bytes::from_static(word.as_bytes())))).await.unwrap();
            let event = events.message().await.unwrap().unwrap().payload.unwrap();
            assert!(matches!(event, Out::Stdout(part) if part.data == word));
        }
        // Half-close: the other direction continues until it has sent the exit code.
        drop(typed);
        let event = events.message().await.unwrap().unwrap().payload.unwrap();
        assert!(matches!(event, Out::Exit(exit) if exit.exit_code == 0), "{event:?}");
        assert!(events.message().await.unwrap().is_none());
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_tunnel_carries_more_data_than_any_flow_control_window() {
    run_on_sqlite(|sg| async move {
        use old::tcp_forward_frame::Payload;
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let sandbox_id = create_sandbox(&admin, "alpha", "one").await;
        let ask = old::CreateSshSessionRequest { sandbox_id: sandbox_id.clone() };
        let mut client = admin.openshell_v0_0();
        let session =
            client.create_ssh_session(for_gateway("alpha", ask)).await.unwrap().into_inner();
        let target = Some(old::tcp_forward_init::Target::Ssh(old::SshRelayTarget {}));
        let authorization_token = session.token;
        let init =
            old::TcpForwardInit { sandbox_id, authorization_token, target, ..Default::default() };
        let data = Bytes::from(vec![7; 32 << 10]);
        let frames = std::iter::once(Payload::Init(init))
            .chain((0..256).map(move |_| Payload::Data(data.clone())))
            .map(|payload| old::TcpForwardFrame { payload: Some(payload) });
        let ask = for_gateway("alpha", tokio_stream::iter(frames));
        let mut echo = client.forward_tcp(ask).await.unwrap().into_inner();
        let mut bytes = 0;
        while let Some(frame) = echo.message().await.unwrap() {
            if let Some(Payload::Data(data)) = frame.payload {
                bytes += data.len();
            }
        }
        assert_eq!(bytes, 8 << 20);
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn the_end_of_input_of_a_stock_client_is_forwarded_to_generation_0_0() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let id = create_sandbox(&admin, "alpha", "one").await;
        let (typed, input) = tokio::sync::mpsc::channel(4);
        let say = |payload| old::ExecSandboxInput { payload: Some(payload) };
        typed.send(say(In::Start(exec(&id, &["cat"])))).await.unwrap();
        let ask = for_gateway("alpha", ReceiverStream::new(input));
        let mut client = admin.openshell_v0_0();
        let mut events = client.exec_sandbox_interactive(ask).await.unwrap().into_inner();
        typed.send(say(In::Stdin(Bytes::from_static(b"one\n")))).await.unwrap();
        let event = events.message().await.unwrap().unwrap().payload.unwrap();
        assert!(matches!(event, Out::Stdout(part) if part.data == "one\n"));
        drop(typed);
        let aborted = events.message().await.unwrap_err();
        assert_eq!(aborted.code(), Code::Internal, "{aborted:?}");
        wait_until("the command has ended", || async { gateway.running_commands() == 0 }).await;
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn a_proxied_stream_ends_soon_after_its_caller_loses_the_right_to_it() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let id = create_sandbox(&admin, "alpha", "one").await;
        let key = admin.create_key("ci", pb::Role::Viewer).await;
        let ask = for_gateway("alpha", watch_request(&id));
        let mut events =
            sg.with_token(&key).openshell_v0_0().watch_sandbox(ask).await.unwrap().into_inner();
        events.message().await.unwrap().unwrap();
        admin.bind("ci", "alpha", pb::Role::None).await;
        let begun = Instant::now();
        let ended = loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended as if all were well"),
                Err(status) => break status,
            }
        };
        assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
        assert!(begun.elapsed() < CONDITION_TIME_MAX, "a second, and more on a busy machine");
        sg.finish().await;
        gateway.stop().await;
    });
}

#[test]
fn hundreds_of_cancelled_watches_do_not_affect_another_stream() {
    run_on_sqlite(|sg| async move {
        let gateway = start_simulator(Generation::V0_0).await;
        sg.register_gateway("alpha", gateway.addr()).await;
        let admin = sg.admin();
        let id = create_sandbox(&admin, "alpha", "one").await;
        let mut neighbour = admin
            .openshell_v0_0()
            .watch_sandbox(for_gateway("alpha", watch_request(&id)))
            .await
            .unwrap()
            .into_inner();
        neighbour.message().await.unwrap().unwrap();
        let mut raw = RawClient::connect(&sg).await;
        // A gateway closes a connection after twenty resets at once, and more than a hundred would be sent at once.
        for _ in 0..4 {
            let mut open = Vec::new();
            for _ in 0..100 {
                let (response, mut request) = raw.open(raw.request("WatchSandbox", "alpha"));
                request.send_data(encode_framed(&watch_request(&id)), true).unwrap();
                open.push((response, request));
            }
            // Half of them are canceled before their response has begun, half of them after.
            for (response, request) in open.drain(..).skip(50) {
                let answer = response.await.unwrap();
                assert_eq!(answer.status(), 200);
                drop((answer, request));
            }
            let health = for_gateway("alpha", old::HealthRequest {});
            admin.openshell_v0_0().health(health).await.unwrap();
        }
        // The neighbor still gets events.
        let stop = old::StopSandboxRequest { name: "one".to_owned(), ..Default::default() };
        admin.openshell_v0_0().stop_sandbox(for_gateway("alpha", stop)).await.unwrap();
        let heard = tokio::time::timeout(CONDITION_TIME_MAX, neighbour.next()).await;
        heard.expect("heard in time").unwrap().unwrap();
        drop(neighbour);
        wait_until("every stream is closed", || async { sg.app.live.count() == 0 }).await;
        sg.finish().await;
        gateway.stop().await;
    });
}

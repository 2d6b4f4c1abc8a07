//! Streams of public services, opened with a credential: health and reflection.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use shoreguard::pb::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use crate::support::CONDITION_TIME_MAX;
use crate::support::server::{Bearer, Caller, TestServer};

/// Time for a stream to end: one second, plus the delay of a busy machine.
const ENDS_WITHIN: Duration = CONDITION_TIME_MAX;

fn asks() -> ServerReflectionRequest {
    let message_request = Some(MessageRequest::ListServices(String::new()));
    ServerReflectionRequest { message_request, ..Default::default() }
}

/// The name and the end of a stream, and the sender that keeps its request open.
type Open = (
    &'static str,
    BoxFuture<'static, Option<Status>>,
    Option<mpsc::Sender<ServerReflectionRequest>>,
);

/// Opens streams and reads their first message: health, reflection with one request, and reflection with endless
/// requests.
async fn streams(caller: &Caller) -> Vec<Open> {
    let (channel, bearer) = (&caller.channel, &caller.bearer);
    let mut health = HealthClient::with_interceptor(channel.clone(), bearer.clone());
    let mut health = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    health.message().await.unwrap().unwrap();
    let health = async move {
        loop {
            match health.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    };
    let mut client = ServerReflectionClient::with_interceptor(channel.clone(), bearer.clone());
    let mut begun = vec![("health", Box::pin(health) as BoxFuture<'static, _>, None)];
    let (sender, receiver) = mpsc::channel(1);
    sender.try_send(asks()).unwrap();
    let asked = ReceiverStream::new(receiver).boxed();
    let always = futures_util::stream::repeat_with(asks).boxed();
    for (name, input, sender) in
        [("reflection", asked, Some(sender)), ("reflection without a pause", always, None)]
    {
        let mut answers = client.server_reflection_info(input).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap();
        let end = async move {
            loop {
                match answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return None,
                    Err(status) => return Some(status),
                }
            }
        };
        begun.push((name, Box::pin(end), sender));
    }
    begun
}

sqlite_tests! { t14_health_and_reflection_streams_end_with_their_credential }

async fn t14_health_and_reflection_streams_end_with_their_credential(sg: TestServer) {
    for way in ["deleted", "rotated", "deactivated"] {
        // On connections of their own, since one stream never ends its requests.
        let caller = if way == "deactivated" {
            sg.connect_as(&sg.create_user("ana@example.com", pb::Role::Viewer).await)
        } else {
            sg.connect_as(&sg.admin().create_key(way, pb::Role::Viewer).await)
        };
        let mut begun = streams(&caller).await;
        let anonymous = Caller { bearer: Bearer::default(), ..sg.connect_admin() };
        let (_, mut nobodys, kept) = streams(&anonymous).await.remove(1);
        let admin = sg.admin();
        match way {
            "deleted" => {
                let request = pb::DeleteServicePrincipalRequest {
                    service_principal: way.into(),
                    ..Default::default()
                };
                admin
                    .service_principals()
                    .delete_service_principal(request)
                    .await
                    .map(drop)
                    .unwrap();
            }
            "rotated" => {
                let request = pb::RotateServicePrincipalRequest {
                    service_principal: way.into(),
                    ..Default::default()
                };
                admin
                    .service_principals()
                    .rotate_service_principal(request)
                    .await
                    .map(drop)
                    .unwrap();
            }
            _ => sg.deactivate("ana@example.com").await,
        }
        for (name, end, _input) in &mut begun {
            let end = tokio::time::timeout(ENDS_WITHIN, end).await;
            let end = end.unwrap_or_else(|_| panic!("{name} has not ended: {way}"));
            let end: Result<(), Status> = end.map_or(Ok(()), Err);
            assert_refused!(end, Unauthenticated, "CREDENTIAL_INVALID");
        }
        // The stream without a credential continues.
        let kept = kept.unwrap();
        kept.send(asks()).await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(300), &mut nobodys).await;
        assert!(more.is_err(), "it has no credential to end with: {more:?}");
    }
    sg.finish().await;
}

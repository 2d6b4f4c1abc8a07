//! Tests of calls with a fake server that is unavailable at first.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prost_reflect::{DynamicMessage, MethodDescriptor};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tonic_types::{ErrorDetails, StatusExt as _};

use super::super::CliError;
use super::*;
use crate::pb::descriptors;
use crate::pb::v1::group_service_client::GroupServiceClient;
use crate::pb::v1::{CreateGroupRequest, CreateGroupResponse};

/// Calls that the server has received, and how many it fails.
#[derive(Clone, Default)]
struct Fake {
    request_ids: Arc<Mutex<Vec<String>>>,
    credentials: Arc<Mutex<Vec<bool>>>,
    failures: usize,
}

/// Answers every method alike: the requests of these tests have no other field than `request_id`, and an empty message
/// is a response of every type.
impl UnaryService<CreateGroupRequest> for Fake {
    type Response = CreateGroupResponse;
    type Future = Ready<Result<Response<CreateGroupResponse>, Status>>;

    fn call(&mut self, request: Request<CreateGroupRequest>) -> Self::Future {
        let mut request_ids = self.request_ids.lock();
        self.credentials.lock().push(request.metadata().contains_key("authorization"));
        request_ids.push(request.into_inner().request_id);
        if request_ids.len() > self.failures {
            return ready(Ok(Response::new(CreateGroupResponse::default())));
        }
        let details = ErrorDetails::with_retry_info(Some(Duration::from_millis(1)));
        ready(Err(Status::with_error_details(Code::Unavailable, "starting", details)))
    }
}

/// One of two services.
#[derive(Clone)]
struct Service<const IS_AUTH: bool>(Fake);

impl<const IS_AUTH: bool> NamedService for Service<IS_AUTH> {
    const NAME: &'static str =
        if IS_AUTH { "shoreguard.v1.AuthService" } else { "shoreguard.v1.GroupService" };
}

impl<const IS_AUTH: bool> tower::Service<http::Request<Body>> for Service<IS_AUTH> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fake = self.0.clone();
        Box::pin(async move {
            let codec = ProstCodec::<CreateGroupResponse, CreateGroupRequest>::default();
            Ok(Grpc::new(codec).unary(fake, request).await)
        })
    }
}

/// Starts a server that fails this many calls, and connects to it with a key.
async fn connect(failures: usize) -> (Client, Fake, JoinSet<()>) {
    let fake = Fake { failures, ..Fake::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = Server::builder()
        .add_service(Service::<false>(fake.clone()))
        .add_service(Service::<true>(fake.clone()));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
    });
    let server = ServerArgs { endpoint: Some(endpoint), ..ServerArgs::default() };
    let args = ConnectArgs { server, key: Some(Secret::new("sg_x")) };
    (Client::connect(&args, None).await.unwrap(), fake, tasks)
}

fn method(service: &str, name: &str) -> MethodDescriptor {
    let service = descriptors::OWN.pool().get_service_by_name(service).unwrap();
    service.methods().find(|method| method.name() == name).unwrap()
}

async fn call(client: &mut Client, service: &str, name: &str) -> Result<DynamicMessage, CliError> {
    let method = method(&format!("shoreguard.v1.{service}"), name);
    client.unary(&method, DynamicMessage::new(method.input())).await
}

#[tokio::test]
async fn a_write_is_repeated_with_one_request_id() {
    let (mut client, fake, _tasks) = connect(4).await;
    call(&mut client, "GroupService", "CreateGroup").await.unwrap();
    let ids = fake.request_ids.lock().clone();
    assert_eq!(ids.len(), 5);
    assert!(!ids[0].is_empty() && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(*fake.credentials.lock(), [true; 5]);
}

#[tokio::test]
async fn a_call_of_a_generated_client_is_repeated() {
    let (client, fake, _tasks) = connect(4).await;
    let request = CreateGroupRequest { request_id: "r".to_owned(), ..Default::default() };
    let created = client.repeat(&request, |request| {
        let mut groups = GroupServiceClient::new(client.channel());
        async move { groups.create_group(request).await }
    });
    created.await.unwrap();
    assert_eq!(*fake.request_ids.lock(), ["r"; 5]);
    assert_eq!(*fake.credentials.lock(), [true; 5]);
}

#[tokio::test]
async fn a_stream_resumes_only_if_its_session_expires_after_it_was_accepted() {
    let (client, _, _tasks) = connect(0).await;
    let expired = || CliError::from(Status::new(Code::Unauthenticated, "expired"));
    let mut stream = StreamAttempts::begin();
    assert_eq!(stream.wait_after(&client, expired()).await.unwrap_err().exit_code(), 4);
    stream.accept();
    stream.wait_after(&client, expired()).await.unwrap();
    stream.wait_after(&client, expired()).await.unwrap_err();
    let refused = CliError::from(Status::new(Code::NotFound, "unknown"));
    stream.wait_after(&client, refused).await.unwrap_err();
}

#[tokio::test]
async fn a_call_is_given_up_after_five_attempts() {
    let (mut client, fake, _tasks) = connect(9).await;
    let Err(CliError::Call(status)) = call(&mut client, "GroupService", "CreateGroup").await else {
        panic!("it is refused by the server")
    };
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "starting"));
    assert_eq!(fake.request_ids.lock().len(), 5);
}

#[tokio::test]
async fn a_write_without_a_request_id_is_not_repeated() {
    let (mut client, fake, _tasks) = connect(1).await;
    call(&mut client, "AuthService", "Login").await.unwrap_err();
    assert_eq!(fake.request_ids.lock().len(), 1);
}

#[tokio::test]
async fn a_public_method_is_called_without_a_credential() {
    let (mut client, fake, _tasks) = connect(1).await;
    call(&mut client, "AuthService", "GetServerInfo").await.unwrap();
    assert_eq!(*fake.credentials.lock(), [false, false]);
}

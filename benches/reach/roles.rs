//! The roles of the child processes.
//!
//! - `constant`: a tonic service that returns constants and streams of them, used as the upstream and as the reference
//!   for Shoreguard's own rpcs;
//! - `forward ADDRESS`: a minimal tonic forwarder;
//! - `select DATABASE`: a tonic service that does one select;
//! - `simulators COUNT`: simulated gateways of both generations, each on its own address;
//! - `shoreguard ARGS`: the released command line.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{Read as _, Write as _};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use http::{Request, Response};
use prost::Message;
use shoreguard::cli;
use shoreguard::db::types::GatewayId;
use shoreguard::db::{Db, DbOptions};
use shoreguard::pb::v0_1::openshell::v1 as upstream;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::gateways::store;
use shoreguard_simulator::{Generation, Simulator, SimulatorOptions};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::body::Body;
use tonic::server::{ServerStreamingService, UnaryService};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_prost::ProstCodec;
use tower::{ServiceExt as _, service_fn};

use crate::BoxError;

/// Version that the upstream reports: generation 0.1.
const UPSTREAM_VERSION: &str = "0.1.5";

/// Request header with the size of the response to `GetCurrentUser`.
pub(crate) const BYTES_HEADER: &str = "x-reach-bytes";
/// Sizes of the response that a caller can request.
pub(crate) const RESPONSE_BYTES: [usize; 4] = [50, 300, 1_000, 10_000];

/// Size of the output in each message of a stream.
const OUTPUT_BYTES: usize = 64 * 1024;
/// Longest time of a stream that no caller ends.
const OUTPUT_TIME_MAX: Duration = Duration::from_mins(10);

/// Runs the role in the arguments until standard input is closed.
pub(crate) fn run(args: Vec<String>) -> ExitCode {
    let mut args = args.into_iter();
    let (role, rest) = (args.next().unwrap_or_default(), args);
    if role == "shoreguard" {
        std::thread::spawn(|| at_end_of_input(terminate));
        let program = std::iter::once("shoreguard".to_owned());
        return cli::run(program.chain(rest));
    }
    std::thread::spawn(|| at_end_of_input(|| std::process::exit(0)));
    let served = if role == "simulators" {
        run_simulators(&rest.collect::<Vec<_>>())
    } else {
        serve_role(&role, rest.collect())
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "reach {role}: {fault}");
            ExitCode::FAILURE
        }
    }
}

fn at_end_of_input(end: impl FnOnce()) {
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    end();
}

/// Sends SIGTERM to this process, as an operator stops a server.
fn terminate() {
    let own = std::process::id().to_string();
    let _ = Command::new("kill").args(["-TERM", &own]).status();
}

/// Returns the listen address of a simulated gateway. All use the same port, so the port of the first one determines
/// all addresses.
pub(crate) fn simulated_address(number: u16, port: u16) -> SocketAddr {
    let [high, low] = number.to_be_bytes();
    // The last byte is never 0 or 255, which a host may treat as network and broadcast addresses.
    SocketAddr::from(([127, 1 + high, low / 128, 1 + low % 128], port))
}

/// Starts the gateways and prints the address of the first one.
fn run_simulators(args: &[String]) -> Result<(), BoxError> {
    let count: u16 = args.first().ok_or("how many?")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut gateways, mut port) = (Vec::new(), 0);
        for number in 0..count {
            let generation = if number % 2 == 0 { Generation::V0_0 } else { Generation::V0_1 };
            let listen = simulated_address(number, port);
            let options = SimulatorOptions { listen, ..SimulatorOptions::new(generation) };
            let gateway = Simulator::start(options).await?;
            gateway.seed_demo()?;
            port = gateway.addr().port();
            gateways.push(gateway);
        }
        writeln!(std::io::stdout(), "{}", simulated_address(0, port))?;
        // Wait until the input is closed, which ends the process.
        std::future::pending().await
    })
}

fn serve_role(role: &str, args: Vec<String>) -> Result<(), BoxError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let argument = args.into_iter().next();
    runtime.block_on(async {
        let router = axum::Router::new();
        let router = match (role, argument) {
            ("constant", None) => router.fallback_service(service_fn(constant)),
            ("forward", Some(to)) => {
                let channel = Endpoint::new(format!("http://{to}"))?.connect().await?;
                router
                    .fallback_service(service_fn(move |request| forward(channel.clone(), request)))
            }
            ("select", Some(url)) => {
                let db = Db::open(&DbOptions::new(url)).await?;
                router.fallback_service(service_fn(move |request| select(db.clone(), request)))
            }
            _ => return Err("no such role".into()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        let incoming = TcpListenerStream::new(listener).filter_nodelay();
        Ok(Server::builder().add_routes(Routes::from(router)).serve_with_incoming(incoming).await?)
    })
}

/// Disables Nagle's algorithm on accepted sockets, as tonic does when it binds itself.
trait FilterNodelay {
    /// Returns the same sockets with `TCP_NODELAY` set.
    fn filter_nodelay(self) -> impl Stream<Item = std::io::Result<tokio::net::TcpStream>>;
}

impl FilterNodelay for TcpListenerStream {
    fn filter_nodelay(self) -> impl Stream<Item = std::io::Result<tokio::net::TcpStream>> {
        tokio_stream::StreamExt::map(self, |socket| {
            let socket = socket?;
            socket.set_nodelay(true)?;
            Ok(socket)
        })
    }
}

type HttpResult = Result<Response<Body>, Infallible>;

async fn constant(request: Request<axum::body::Body>) -> HttpResult {
    Ok(match request.uri().path() {
        "/openshell.v1.OpenShell/Health" => {
            let status = upstream::ServiceStatus::Healthy.into();
            let answer = upstream::HealthResponse { status, version: UPSTREAM_VERSION.to_owned() };
            unary(FixedService::<upstream::HealthRequest, _>::new(answer), request).await
        }
        "/openshell.v1.OpenShell/GetCurrentUser" => {
            let requested = request.headers().get(BYTES_HEADER).and_then(|of| of.to_str().ok());
            let bytes = requested.and_then(|bytes| bytes.parse().ok()).unwrap_or_default();
            let answer = user(bytes);
            unary(FixedService::<upstream::GetCurrentUserRequest, _>::new(answer), request).await
        }
        "/openshell.v1.OpenShell/GetSandbox" => {
            unary(FixedService::<upstream::GetSandboxRequest, _>::new(sandbox()), request).await
        }
        "/openshell.v1.OpenShell/StopSandbox" => {
            unary(FixedService::<upstream::StopSandboxRequest, _>::new(sandbox()), request).await
        }
        "/openshell.v1.OpenShell/ExecSandbox" => stream_output(request).await,
        "/shoreguard.v1.AuthService/GetCurrentIdentity" => {
            let answer = pb::GetCurrentIdentityResponse {
                actor: "sp:caller".to_owned(),
                principal: "service_principal:2".to_owned(),
                gateways: vec![pb::GatewayAccess { gateway: "edge-00".to_owned(), role: 3 }],
                ..Default::default()
            };
            unary(FixedService::<pb::GetCurrentIdentityRequest, _>::new(answer), request).await
        }
        _ => Status::unimplemented("").into_http(),
    })
}

/// Returns a user whose message has one of the sizes, or a small one for any other size.
fn user(bytes: usize) -> upstream::GetCurrentUserResponse {
    static USERS: LazyLock<[upstream::GetCurrentUserResponse; 4]> =
        LazyLock::new(|| RESPONSE_BYTES.map(padded_user));
    let sized = RESPONSE_BYTES.iter().position(|size| *size == bytes);
    sized.map_or_else(small_user, |at| USERS[at].clone())
}

fn small_user() -> upstream::GetCurrentUserResponse {
    upstream::GetCurrentUserResponse {
        subject: "user:ana".to_owned(),
        display_name: "Ana".to_owned(),
        roles: vec!["operator".to_owned()],
        ..Default::default()
    }
}

/// Returns a user whose name fills its message to the given size.
fn padded_user(bytes: usize) -> upstream::GetCurrentUserResponse {
    let mut user = small_user();
    user.display_name = "A".repeat(bytes);
    while user.encoded_len() > bytes && user.display_name.pop().is_some() {}
    user
}

fn sandbox() -> upstream::SandboxResponse {
    let sandbox = upstream::Sandbox {
        host_key_fingerprint: "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU".to_owned(),
        ..Default::default()
    };
    upstream::SandboxResponse { sandbox: Some(sandbox), ..Default::default() }
}

async fn stream_output(request: Request<axum::body::Body>) -> Response<Body> {
    let codec = ProstCodec::<upstream::ExecSandboxEvent, upstream::ExecSandboxRequest>::default();
    tonic::server::Grpc::new(codec).server_streaming(OutputService, request.map(Body::new)).await
}

/// Streams the same output until the caller ends the stream.
struct OutputService;

impl ServerStreamingService<upstream::ExecSandboxRequest> for OutputService {
    type Response = upstream::ExecSandboxEvent;
    type ResponseStream = BoxStream<'static, Result<Self::Response, Status>>;
    type Future = Ready<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _: tonic::Request<upstream::ExecSandboxRequest>) -> Self::Future {
        let data = Bytes::from(vec![b'A'; OUTPUT_BYTES]);
        let output =
            upstream::exec_sandbox_event::Payload::Stdout(upstream::ExecSandboxStdout { data });
        let event = upstream::ExecSandboxEvent { payload: Some(output) };
        let until = Instant::now() + OUTPUT_TIME_MAX;
        let events = std::iter::repeat_with(move || Ok::<_, Status>(event.clone()));
        let events = events.take_while(move |_| Instant::now() < until);
        let events: Self::ResponseStream = Box::pin(futures_util::stream::iter(events));
        ready(Ok(tonic::Response::new(events)))
    }
}

async fn unary<S, Q>(service: S, request: Request<axum::body::Body>) -> Response<Body>
where
    S: UnaryService<Q>,
    S::Response: Message + Send + 'static,
    Q: Message + Default + Send + 'static,
{
    let codec = ProstCodec::<S::Response, Q>::default();
    tonic::server::Grpc::new(codec).unary(service, request.map(Body::new)).await
}

/// Returns the same response to each call.
struct FixedService<Q, A> {
    answer: A,
    request: PhantomData<fn(Q)>,
}

impl<Q, A> FixedService<Q, A> {
    fn new(answer: A) -> Self {
        Self { answer, request: PhantomData }
    }
}

impl<Q, A: Clone> UnaryService<Q> for FixedService<Q, A> {
    type Response = A;
    type Future = Ready<Result<tonic::Response<A>, Status>>;

    fn call(&mut self, _: tonic::Request<Q>) -> Self::Future {
        ready(Ok(tonic::Response::new(self.answer.clone())))
    }
}

/// Forwards a call and its response unchanged.
async fn forward(channel: Channel, request: Request<axum::body::Body>) -> HttpResult {
    Ok(match channel.oneshot(request.map(Body::new)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => Status::unavailable(error.to_string()).into_http(),
    })
}

/// Does the select of `GetGateway` with the same storage code.
#[derive(Clone)]
struct SelectService(Db);

impl UnaryService<pb::GetGatewayRequest> for SelectService {
    type Response = pb::GetGatewayResponse;
    type Future =
        futures_util::future::BoxFuture<'static, Result<tonic::Response<Self::Response>, Status>>;

    fn call(&mut self, _: tonic::Request<pb::GetGatewayRequest>) -> Self::Future {
        let db = self.0.clone();
        Box::pin(async move {
            let found = async { store::by_id(&mut db.read().await?, GatewayId(1)).await }.await;
            match found {
                Ok(Some(row)) => {
                    Ok(tonic::Response::new(pb::GetGatewayResponse { gateway: Some(row.into()) }))
                }
                Ok(None) => Err(Status::not_found("no gateway")),
                Err(error) => Err(Status::unavailable(error.to_string())),
            }
        })
    }
}

async fn select(db: Db, request: Request<axum::body::Body>) -> HttpResult {
    Ok(unary(SelectService(db), request).await)
}

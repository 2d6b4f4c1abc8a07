//! The provider process: HTTP on loopback, with an issuer under every path, until its input is closed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::tenant::{Tenant, TenantResponse, parse_form};
use super::{Behavior, LISTENING, MARK};

#[derive(Clone)]
struct Server {
    base: String,
    tenants: Arc<Mutex<HashMap<String, Tenant>>>,
}

/// Not a test of its own, but the entry point of the provider process.
#[test]
fn runs_the_provider_process() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The parent process holds the other end of the pipe, and closes it only by exiting.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    runtime.block_on(serve());
}

#[expect(clippy::print_stdout, reason = "the process that started this one reads the line")]
async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    println!("{LISTENING}{address}");
    let server = Server { base: format!("http://{address}"), tenants: Arc::default() };
    let mut connections = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let server = server.clone();
        connections.spawn(async move {
            let answer = service_fn(|request| server.answer(request));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}

impl Server {
    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let (name, path) = head.uri.path()[1..].split_once('/').unwrap();
        let mut how = self.tenant(name, |tenant| tenant.count_request(path));
        while how == Behavior::Late {
            tokio::time::sleep(Duration::from_millis(5)).await;
            how = self.tenant(name, |tenant| tenant.behavior(path));
        }
        let answer = match how {
            Behavior::Hang | Behavior::Late => std::future::pending().await,
            Behavior::Redirect => TenantResponse::Redirect("http://0.0.0.0/elsewhere".to_owned()),
            Behavior::Fail => TenantResponse::Json(500, json!({})),
            Behavior::Normal => {
                let authorization = head.headers.get(AUTHORIZATION).map(|v| v.to_str().unwrap());
                let query = parse_form(head.uri.query().unwrap_or_default());
                self.tenant(name, |tenant| match path {
                    ".well-known/openid-configuration" => {
                        TenantResponse::Json(200, tenant.discovery())
                    }
                    "keys" => TenantResponse::Json(200, tenant.keys()),
                    "authorize" => tenant.authorize(&query, now()),
                    "token" => tenant.token(authorization, &parse_form(&body)),
                    "control" => {
                        let control = serde_json::from_str(&body).unwrap();
                        TenantResponse::Json(200, tenant.control(control, now()))
                    }
                    _ => TenantResponse::Json(404, json!({})),
                })
            }
        };
        let content_type = self.tenant(name, |tenant| tenant.content_type(path));
        Ok(response(answer, &content_type))
    }

    fn tenant<T>(&self, name: &str, work: impl FnOnce(&mut Tenant) -> T) -> T {
        // A panic caused by one test must not affect the others.
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        let issuer = format!("{}/{name}", self.base);
        work(tenants.entry(name.to_owned()).or_insert_with(|| Tenant::new(issuer)))
    }
}

fn response(answer: TenantResponse, content_type: &str) -> Response<Full<Bytes>> {
    let full = |body: &Value| Full::new(Bytes::from(body.to_string()));
    match answer {
        TenantResponse::Json(status, body) => Response::builder()
            .status(status)
            .header(CONTENT_TYPE, content_type)
            .body(full(&body))
            .unwrap(),
        TenantResponse::Redirect(location) => {
            let builder = Response::builder().status(302).header(LOCATION, location);
            builder.body(Full::default()).unwrap()
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a process of its own keeps its own time")]
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

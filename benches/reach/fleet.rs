//! A running server with gateways that return constants, and keys of callers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use shoreguard::db::Engine;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::access_service_client::AccessServiceClient;
use shoreguard::pb::v1::audit_service_client::AuditServiceClient;
use shoreguard::pb::v1::gateway_service_client::GatewayServiceClient;
use shoreguard::pb::v1::sandbox_service_client::SandboxServiceClient;
use shoreguard::pb::v1::sbom_service_client::SbomServiceClient;
use shoreguard::pb::v1::service_principal_service_client::ServicePrincipalServiceClient;
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use crate::child::{Child, START_TIMEOUT};
use crate::load::{self, Call};
use crate::place::{self, ServerSetup};
use crate::{Bench, BoxError};

/// Number of registered gateways, which all have the same upstream. The callers that change gateways are spread over
/// them.
pub(crate) const GATEWAYS: usize = 64;
/// Bytes per message of an upload.
const SBOM_CHUNK_BYTES: usize = 256 * 1024;

/// A server, its upstream, and keys of callers.
pub(crate) struct Fleet {
    pub(crate) server: Child,
    pub(crate) upstream: Child,
    /// Key of a caller with the global role admin.
    pub(crate) admin_key: String,
    /// Key of a caller whose only role is operator on `edge-00`.
    pub(crate) caller_key: String,
    pub(crate) setup: ServerSetup,
}

impl Fleet {
    /// Starts a server on a fresh database. Returns `None` if this host has no PostgreSQL.
    pub(crate) fn start(bench: &Bench, engine: Engine) -> Result<Option<Self>, BoxError> {
        let Some(setup) = ServerSetup::new(bench, engine)? else {
            crate::figure::print_line(&format!(
                "  no {} on this host",
                place::engine_name(engine)
            ))?;
            return Ok(None);
        };
        let upstream = Child::start("constant", &[])?;
        let admin_key = setup.create_admin_key()?;
        let server = start_server(bench, &setup)?.0;
        let caller_key = bench.runtime.block_on(async {
            let admin = Admin::connect(server.address, &admin_key).await?;
            admin.seed(upstream.address).await
        })?;
        Ok(Some(Self { server, upstream, admin_key, caller_key, setup }))
    }
}

/// Returns the name of a gateway.
pub(crate) fn gateway_name(number: usize) -> String {
    format!("edge-{number:02}")
}

/// Returns a request that gives a service principal a role on a gateway.
pub(crate) fn role_request(
    principal: &str,
    gateway: String,
    role: pb::Role,
) -> pb::SetGatewayRoleRequest {
    let subject = pb::subject::Subject::ServicePrincipal(principal.to_owned());
    pb::SetGatewayRoleRequest {
        subject: Some(pb::Subject { subject: Some(subject) }),
        gateway,
        role: role.into(),
        ..Default::default()
    }
}

/// Returns a request that changes the description of a gateway.
pub(crate) fn describe_request(gateway: String, text: String) -> pb::UpdateGatewayRequest {
    pb::UpdateGatewayRequest {
        gateway,
        update_mask: Some(prost_types::FieldMask { paths: vec!["description".to_owned()] }),
        description: text,
        ..Default::default()
    }
}

/// Starts a server on a database. Returns the time until it served.
pub(crate) fn start_server(
    bench: &Bench,
    setup: &ServerSetup,
) -> Result<(Child, Duration), BoxError> {
    let config = setup.write_config()?;
    let begun = Instant::now();
    let mut server = Child::serve(&config, &setup.log_path())?;
    let path = "/shoreguard.v1.AuthService/GetServerInfo";
    let call = Call::new(path, &pb::GetServerInfoRequest::default(), None)?;
    while let Err(fault) = bench.runtime.block_on(load::send_once(server.address, &call)) {
        if begun.elapsed() > START_TIMEOUT || server.has_ended() {
            let log = std::fs::read_to_string(setup.log_path()).unwrap_or_default();
            return Err(format!("the server does not start: {fault}\n{log}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((server, begun.elapsed()))
}

/// A client with the key of an admin.
pub(crate) struct Admin {
    channel: Channel,
    bearer: MetadataValue<Ascii>,
}

impl Admin {
    /// Connects with a key.
    pub(crate) async fn connect(address: SocketAddr, key: &str) -> Result<Self, BoxError> {
        let endpoint = Endpoint::new(format!("http://{address}"))?.timeout(Duration::from_secs(30));
        Ok(Self { channel: endpoint.connect().await?, bearer: format!("Bearer {key}").parse()? })
    }

    /// Returns its connection, for a client of another service.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns a request with its key.
    pub(crate) fn with_bearer<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }

    /// Registers the gateways and creates a caller that is operator of the first one. Returns its key.
    async fn seed(&self, upstream: SocketAddr) -> Result<String, BoxError> {
        let mut gateways = GatewayServiceClient::new(self.channel.clone());
        for number in 0..GATEWAYS {
            let request = pb::RegisterGatewayRequest {
                name: gateway_name(number),
                endpoint: upstream.to_string(),
                scheme: pb::GatewayScheme::Http.into(),
                description: "answers constants".to_owned(),
                ..Default::default()
            };
            gateways.register_gateway(self.with_bearer(request)).await?;
        }
        let key = self.create_principal("caller").await?;
        let request = role_request("caller", gateway_name(0), pb::Role::Operator);
        let mut access = AccessServiceClient::new(self.channel.clone());
        access.set_gateway_role(self.with_bearer(request)).await?;
        Ok(key)
    }

    /// Creates a service principal without a role. Returns its key.
    pub(crate) async fn create_principal(&self, name: &str) -> Result<String, BoxError> {
        let mut principals = ServicePrincipalServiceClient::new(self.channel.clone());
        let request = pb::CreateServicePrincipalRequest {
            name: name.to_owned(),
            role: pb::Role::None.into(),
            ..Default::default()
        };
        let created = principals.create_service_principal(self.with_bearer(request)).await?;
        Ok(created.into_inner().key)
    }

    /// Changes the description of a gateway.
    pub(crate) async fn describe(&self, gateway: String, text: String) -> Result<(), BoxError> {
        let mut gateways = GatewayServiceClient::new(self.channel.clone());
        gateways.update_gateway(self.with_bearer(describe_request(gateway, text))).await?;
        Ok(())
    }

    /// Uploads an SBOM for a sandbox of the first gateway. Returns its number of components.
    pub(crate) async fn upload_sbom(
        &self,
        sandbox: &str,
        document: &[u8],
    ) -> Result<i64, BoxError> {
        let first = pb::UploadSbomRequest {
            gateway: gateway_name(0),
            sandbox: sandbox.to_owned(),
            ..Default::default()
        };
        let chunk = |bytes: &[u8]| pb::UploadSbomRequest {
            chunk: bytes.to_vec().into(),
            ..Default::default()
        };
        let chunks = document.chunks(SBOM_CHUNK_BYTES).map(chunk);
        let messages: Vec<_> = std::iter::once(first).chain(chunks).collect();
        let mut sboms = SbomServiceClient::new(self.channel.clone());
        let request = self.with_bearer(tokio_stream::iter(messages));
        let stored = sboms.upload_sbom(request).await?.into_inner().sbom;
        Ok(stored.ok_or("an upload without an SBOM")?.component_count)
    }

    /// Registers a gateway without TLS.
    pub(crate) async fn register(
        &self,
        name: String,
        endpoint: SocketAddr,
    ) -> Result<(), BoxError> {
        let request = pb::RegisterGatewayRequest {
            name,
            endpoint: endpoint.to_string(),
            scheme: pb::GatewayScheme::Http.into(),
            ..Default::default()
        };
        let mut gateways = GatewayServiceClient::new(self.channel.clone());
        gateways.register_gateway(self.with_bearer(request)).await?;
        Ok(())
    }

    /// Lists all sandboxes of all gateways, in pages of the maximum size. Returns the number of sandboxes and the
    /// number of gateways that could not be listed.
    pub(crate) async fn list_fleet(&self) -> Result<(usize, usize), BoxError> {
        let mut sandboxes =
            SandboxServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        let (mut listed, mut unreachable, mut page_token) = (0, 0, String::new());
        loop {
            let request =
                pb::ListSandboxesRequest { page_size: 1_000, page_token, ..Default::default() };
            let page = sandboxes.list_sandboxes(self.with_bearer(request)).await?.into_inner();
            listed += page.sandboxes.len();
            unreachable += page.unreachable.len();
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok((listed, unreachable));
            }
        }
    }

    /// Reads one page of the audit log. Returns the token of the next page.
    pub(crate) async fn audit_page(&self, size: i32, token: &str) -> Result<String, BoxError> {
        let request = pb::ListAuditEntriesRequest {
            page_size: size,
            page_token: token.to_owned(),
            ..Default::default()
        };
        let mut audit =
            AuditServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        let page = audit.list_audit_entries(self.with_bearer(request)).await?.into_inner();
        Ok(page.next_page_token)
    }
}

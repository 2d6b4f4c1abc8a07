//! A server that serves, with gateways that answer constants, and keys of callers.

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

use crate::child::Child;
use crate::load::{self, Call};
use crate::place::{self, Place};
use crate::{Bench, Fault};

/// Gateways that are registered, all of them the same upstream: what 64 callers change one each.
pub(crate) const GATEWAYS: usize = 64;
/// Bytes of a message of an upload.
const SBOM_CHUNK_BYTES: usize = 256 * 1024;
/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);

/// A server, its upstream, and keys.
pub(crate) struct Fleet {
    pub(crate) server: Child,
    pub(crate) upstream: Child,
    /// Of a caller that is admin everywhere.
    pub(crate) admin_key: String,
    /// Of a caller that is operator of `edge-00` and nothing else.
    pub(crate) caller_key: String,
    pub(crate) place: Place,
}

impl Fleet {
    /// On a fresh database; none where this host has no PostgreSQL.
    pub(crate) fn start(bench: &Bench, engine: Engine) -> Result<Option<Self>, Fault> {
        let Some(place) = Place::new(bench, engine)? else {
            crate::figure::say(&format!("  no {} on this host", place::name(engine)))?;
            return Ok(None);
        };
        let upstream = Child::start("constant", &[])?;
        let admin_key = place.admin_key()?;
        let server = serve(bench, &place)?.0;
        let caller_key = bench.runtime.block_on(async {
            let admin = Admin::connect(server.address, &admin_key).await?;
            admin.seed(upstream.address).await
        })?;
        Ok(Some(Self { server, upstream, admin_key, caller_key, place }))
    }
}

/// Name of a gateway.
pub(crate) fn gateway(number: usize) -> String {
    format!("edge-{number:02}")
}

/// Starts a server on a database; answers how long it took to serve.
pub(crate) fn serve(bench: &Bench, place: &Place) -> Result<(Child, Duration), Fault> {
    let address = place::free_address()?;
    let config = place.config(address)?;
    let begun = Instant::now();
    let mut server = Child::serve(&config, &place.log(), address)?;
    let path = "/shoreguard.v1.AuthService/GetServerInfo";
    let call = Call::new(path, &pb::GetServerInfoRequest::default(), None)?;
    while let Err(fault) = bench.runtime.block_on(load::ask(address, &call)) {
        if begun.elapsed() > START || server.has_ended() {
            let log = std::fs::read_to_string(place.log()).unwrap_or_default();
            return Err(format!("the server does not start: {fault}\n{log}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok((server, begun.elapsed()))
}

/// What an admin asks for.
pub(crate) struct Admin {
    channel: Channel,
    bearer: MetadataValue<Ascii>,
}

impl Admin {
    /// With a key.
    pub(crate) async fn connect(address: SocketAddr, key: &str) -> Result<Self, Fault> {
        let endpoint = Endpoint::new(format!("http://{address}"))?.timeout(Duration::from_secs(30));
        Ok(Self { channel: endpoint.connect().await?, bearer: format!("Bearer {key}").parse()? })
    }

    fn signed<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }

    /// Registers the gateways, and makes a caller that is operator of the first. Answers its key.
    async fn seed(&self, upstream: SocketAddr) -> Result<String, Fault> {
        let mut gateways = GatewayServiceClient::new(self.channel.clone());
        for number in 0..GATEWAYS {
            let request = pb::RegisterGatewayRequest {
                name: gateway(number),
                endpoint: upstream.to_string(),
                scheme: pb::GatewayScheme::Http.into(),
                description: "answers constants".to_owned(),
                ..Default::default()
            };
            gateways.register_gateway(self.signed(request)).await?;
        }
        let mut principals = ServicePrincipalServiceClient::new(self.channel.clone());
        let request = pb::CreateServicePrincipalRequest {
            name: "caller".to_owned(),
            role: pb::Role::None.into(),
            ..Default::default()
        };
        let created = principals.create_service_principal(self.signed(request)).await?;
        let subject = pb::subject::Subject::ServicePrincipal("caller".to_owned());
        let request = pb::SetGatewayRoleRequest {
            subject: Some(pb::Subject { subject: Some(subject) }),
            gateway: gateway(0),
            role: pb::Role::Operator.into(),
            ..Default::default()
        };
        let mut access = AccessServiceClient::new(self.channel.clone());
        access.set_gateway_role(self.signed(request)).await?;
        Ok(created.into_inner().key)
    }

    /// Uploads an SBOM for a sandbox of the first gateway; answers how many components it has.
    pub(crate) async fn upload_sbom(&self, sandbox: &str, document: &[u8]) -> Result<i64, Fault> {
        let first = pb::UploadSbomRequest {
            gateway: gateway(0),
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
        let request = self.signed(tokio_stream::iter(messages));
        let stored = sboms.upload_sbom(request).await?.into_inner().sbom;
        Ok(stored.ok_or("an upload without an SBOM")?.component_count)
    }

    /// Registers a gateway that speaks without TLS.
    pub(crate) async fn register(&self, name: String, endpoint: SocketAddr) -> Result<(), Fault> {
        let request = pb::RegisterGatewayRequest {
            name,
            endpoint: endpoint.to_string(),
            scheme: pb::GatewayScheme::Http.into(),
            ..Default::default()
        };
        let mut gateways = GatewayServiceClient::new(self.channel.clone());
        gateways.register_gateway(self.signed(request)).await?;
        Ok(())
    }

    /// Every sandbox of every gateway, in the largest pages; answers how many there are, and how many gateways did not
    /// tell theirs.
    pub(crate) async fn list_fleet(&self) -> Result<(usize, usize), Fault> {
        let mut sandboxes =
            SandboxServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        let (mut listed, mut unreachable, mut page_token) = (0, 0, String::new());
        loop {
            let request =
                pb::ListSandboxesRequest { page_size: 1_000, page_token, ..Default::default() };
            let page = sandboxes.list_sandboxes(self.signed(request)).await?.into_inner();
            listed += page.sandboxes.len();
            unreachable += page.unreachable.len();
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok((listed, unreachable));
            }
        }
    }

    /// One page of the audit log; answers the token of the next.
    pub(crate) async fn audit_page(&self, size: i32, token: &str) -> Result<String, Fault> {
        let request = pb::ListAuditEntriesRequest {
            page_size: size,
            page_token: token.to_owned(),
            ..Default::default()
        };
        let mut audit =
            AuditServiceClient::new(self.channel.clone()).max_decoding_message_size(64 << 20);
        let page = audit.list_audit_entries(self.signed(request)).await?.into_inner();
        Ok(page.next_page_token)
    }
}

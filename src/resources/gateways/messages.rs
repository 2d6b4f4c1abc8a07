//! Conversion between the messages of `GatewayService` and the domain types.

use super::certificates;
use super::change::GatewayUpdate;
use super::domain::NewGateway;
use super::findings;
use super::health::GatewayHealth;
use super::health::store::HealthState;
use super::input;
use super::rotate::CredentialRotation;
use super::settings::SettingTarget;
use super::unregister::GatewayDependents;
use super::watch::GatewayChange;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::etag;
use crate::labels::Labels;
use crate::net::x509;
use crate::openshell::settings::{Scope, Setting, SettingKey, Value};
use crate::pb::v1 as pb;
use crate::rpc::wire;
use crate::secret::Secret;
use crate::upstream::capability::{self, Capability};
use crate::upstream::credentials::{AuthMode, Credentials, check_oidc_client};
use crate::upstream::endpoint::{Endpoint, OidcClient, Scheme};
use crate::upstream::generation::{DetectedGeneration, Generation};
use crate::upstream::row::{GatewayRow, GatewayStatus};

fn scheme(wire: i32) -> Result<Option<Scheme>, Error> {
    match pb::GatewayScheme::try_from(wire) {
        Ok(pb::GatewayScheme::Unspecified) => Ok(None),
        Ok(pb::GatewayScheme::Http) => Ok(Some(Scheme::Http)),
        Ok(pb::GatewayScheme::Https) => Ok(Some(Scheme::Https)),
        Err(_) => Err(Error::invalid("scheme", "must be http or https")),
    }
}

fn auth_mode(wire: i32) -> Result<Option<AuthMode>, Error> {
    match pb::GatewayAuthMode::try_from(wire) {
        Ok(pb::GatewayAuthMode::Unspecified) => Ok(None),
        Ok(pb::GatewayAuthMode::None) => Ok(Some(AuthMode::None)),
        Ok(pb::GatewayAuthMode::Mtls) => Ok(Some(AuthMode::Mtls)),
        Ok(pb::GatewayAuthMode::Bearer) => Ok(Some(AuthMode::Bearer)),
        Ok(pb::GatewayAuthMode::OidcClient) => Ok(Some(AuthMode::OidcClient)),
        Err(_) => Err(Error::invalid("auth_mode", "must be none, mtls, bearer or oidc_client")),
    }
}

fn credentials(given: Option<pb::GatewayCredentials>) -> Result<Credentials, Error> {
    let given = given.unwrap_or_default();
    let some = |bytes: bytes::Bytes| (!bytes.is_empty()).then(|| bytes.to_vec());
    let credentials = Credentials {
        client_key: input::secret("credentials.client_key", &given.client_key)?,
        client_cert: some(given.client_cert),
        bearer_token: (!given.bearer_token.is_empty()).then(|| Secret::new(given.bearer_token)),
        oidc_client_id: (!given.oidc_client_id.is_empty()).then_some(given.oidc_client_id),
        oidc_client_secret: (!given.oidc_client_secret.is_empty())
            .then(|| Secret::new(given.oidc_client_secret)),
    };
    credentials.check()?;
    Ok(credentials)
}

fn oidc_client(given: Option<pb::GatewayOidcClient>) -> Result<Option<OidcClient>, Error> {
    let parse = |g: pb::GatewayOidcClient| OidcClient::parse(&g.token_url, &g.scope, &g.audience);
    given.map(parse).transpose()
}

fn pinned_generation(wire: i32) -> Result<Option<Generation>, Error> {
    match pb::WireGeneration::try_from(wire) {
        Ok(pb::WireGeneration::Unspecified) => Ok(None),
        Ok(pb::WireGeneration::V00) => Ok(Some(Generation::V0_0)),
        Ok(pb::WireGeneration::V01) => Ok(Some(Generation::V0_1)),
        _ => Err(Error::invalid("pinned_generation", "must be V0_0, V0_1 or unspecified")),
    }
}

fn ca_cert(pem: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    if pem.is_empty() {
        return Ok(None);
    }
    x509::parse_certificates("ca_cert", pem)?;
    Ok(Some(pem.to_vec()))
}

impl TryFrom<pb::RegisterGatewayRequest> for NewGateway {
    type Error = Error;

    fn try_from(req: pb::RegisterGatewayRequest) -> Result<Self, Error> {
        let credentials = credentials(req.credentials)?;
        let scheme = scheme(req.scheme)?.unwrap_or(Scheme::Https);
        let auth_mode = auth_mode(req.auth_mode)?.unwrap_or_else(|| credentials.implied_mode());
        credentials.check_mode(auth_mode, scheme)?;
        let oidc_client = oidc_client(req.oidc_client)?;
        check_oidc_client(auth_mode, oidc_client.as_ref())?;
        let ca_cert = ca_cert(&req.ca_cert)?;
        if ca_cert.is_some() && scheme == Scheme::Http {
            return Err(Error::invalid("ca_cert", "can only be set with scheme `https`"));
        }
        Ok(Self {
            name: input::name("name", &req.name)?,
            endpoint: Endpoint::parse("endpoint", &req.endpoint)?,
            scheme,
            auth_mode,
            oidc_client,
            ca_cert,
            credentials,
            metadata_json: input::metadata("metadata_json", &req.metadata_json)?,
            description: input::description("description", &req.description)?,
            labels: Labels::parse("labels", req.labels)?,
        })
    }
}

impl TryFrom<pb::UpdateGatewayRequest> for GatewayUpdate {
    type Error = Error;

    fn try_from(mut req: pb::UpdateGatewayRequest) -> Result<Self, Error> {
        let said = |field: &str| {
            Error::invalid(field.to_owned(), "is required, since `update_mask` names it")
        };
        let mut change = Self::default();
        for path in wire::mask_paths(req.update_mask.take())? {
            match path.as_str() {
                "endpoint" => change.endpoint = Some(Endpoint::parse("endpoint", &req.endpoint)?),
                "scheme" => {
                    change.scheme = Some(scheme(req.scheme)?.ok_or_else(|| said("scheme"))?);
                }
                "auth_mode" => {
                    change.auth_mode =
                        Some(auth_mode(req.auth_mode)?.ok_or_else(|| said("auth_mode"))?);
                }
                "ca_cert" => change.ca_cert = Some(ca_cert(&req.ca_cert)?),
                "credentials" => change.credentials = Some(credentials(req.credentials.take())?),
                "oidc_client" => change.oidc_client = Some(oidc_client(req.oidc_client.take())?),
                "pinned_generation" => {
                    change.pinned_generation = Some(pinned_generation(req.pinned_generation)?);
                }
                "metadata_json" => {
                    change.metadata_json =
                        Some(input::metadata("metadata_json", &req.metadata_json)?);
                }
                "description" => {
                    change.description = Some(input::description("description", &req.description)?);
                }
                "labels" => {
                    change.labels = Some(Labels::parse("labels", std::mem::take(&mut req.labels))?);
                }
                other => return Err(wire::unchangeable_path(other)),
            }
        }
        Ok(change)
    }
}

impl From<GatewayStatus> for pb::GatewayStatus {
    fn from(status: GatewayStatus) -> Self {
        match status {
            GatewayStatus::Unknown => Self::Unknown,
            GatewayStatus::Healthy => Self::Healthy,
            GatewayStatus::Degraded => Self::Degraded,
            GatewayStatus::Unhealthy => Self::Unhealthy,
            GatewayStatus::Unspecified => Self::Unstated,
            GatewayStatus::Unreachable => Self::Unreachable,
        }
    }
}

impl From<AuthMode> for pb::GatewayAuthMode {
    fn from(mode: AuthMode) -> Self {
        match mode {
            AuthMode::None => Self::None,
            AuthMode::Mtls => Self::Mtls,
            AuthMode::Bearer => Self::Bearer,
            AuthMode::OidcClient => Self::OidcClient,
        }
    }
}

impl From<Scheme> for pb::GatewayScheme {
    fn from(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Http => Self::Http,
            Scheme::Https => Self::Https,
        }
    }
}

impl From<DetectedGeneration> for pb::WireGeneration {
    fn from(generation: DetectedGeneration) -> Self {
        match generation {
            DetectedGeneration::Unknown => Self::Unknown,
            DetectedGeneration::Unsupported => Self::Unsupported,
            DetectedGeneration::Known(Generation::V0_0) => Self::V00,
            DetectedGeneration::Known(Generation::V0_1) => Self::V01,
        }
    }
}

fn to_pb_certificates(row: &GatewayRow) -> Vec<pb::GatewayCertificate> {
    let shown = |(kind, ends): (certificates::CertificateKind, Option<Timestamp>)| {
        let kind = match kind {
            certificates::CertificateKind::Ca => pb::GatewayCertificateKind::Ca,
            certificates::CertificateKind::Client => pb::GatewayCertificateKind::Client,
            certificates::CertificateKind::Server => pb::GatewayCertificateKind::Server,
        };
        let expire_time = Some(wire::to_timestamp(ends?));
        Some(pb::GatewayCertificate { kind: kind.into(), expire_time })
    };
    certificates::expiries(row).into_iter().filter_map(shown).collect()
}

impl TryFrom<pb::RotateGatewayCredentialsRequest> for CredentialRotation {
    type Error = Error;

    fn try_from(req: pb::RotateGatewayCredentialsRequest) -> Result<Self, Error> {
        Ok(Self { credentials: credentials(req.credentials)?, skip_check: req.unproven })
    }
}

impl From<GatewayChange> for pb::watch_gateways_response::Change {
    fn from(change: GatewayChange) -> Self {
        match change {
            GatewayChange::Current(row) => Self::Gateway((*row).into()),
            GatewayChange::Removed(name) => Self::RemovedGateway(name),
            GatewayChange::Names(names) => Self::Present(pb::GatewayNames { names }),
        }
    }
}

impl From<GatewayDependents> for pb::UnregisterGatewayResponse {
    fn from(gone: GatewayDependents) -> Self {
        let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            gateway_roles_removed: count(gone.roles),
            sandbox_metadata_removed: count(gone.sandboxes),
            ssh_sessions_removed: count(gone.ssh_sessions),
            boot_hooks_removed: count(gone.boot_hooks),
            sboms_removed: count(gone.sboms),
            operations_canceled: count(gone.operations),
            streams_ended: count(gone.streams),
        }
    }
}

impl From<HealthState> for pb::GatewayState {
    fn from(state: HealthState) -> Self {
        Self {
            begin_time: Some(wire::to_timestamp(state.began_at)),
            status: pb::GatewayStatus::from(state.status).into(),
            version: state.gateway_version.unwrap_or_default(),
            error: state.error.unwrap_or_default(),
        }
    }
}

impl From<GatewayHealth> for pb::GetGatewayHealthResponse {
    fn from(health: GatewayHealth) -> Self {
        let latency = |percent| health.percentile(percent).map(wire::to_duration);
        Self {
            latency_p50: latency(50),
            latency_p90: latency(90),
            latency_p99: latency(99),
            status: pb::GatewayStatus::from(health.gateway.observed.last_status).into(),
            probe_time: health.gateway.observed.probed_at.map(wire::to_timestamp),
            last_seen_time: health.gateway.observed.last_seen.map(wire::to_timestamp),
            probe_count: health.probes,
            failure_count: health.failures,
            states: health.states.into_iter().map(Into::into).collect(),
            version: health.gateway.observed.gateway_version.unwrap_or_default(),
        }
    }
}

impl From<Capability> for pb::GatewayCapability {
    fn from(capability: Capability) -> Self {
        match capability {
            Capability::InferenceRoutes => Self::InferenceRoutes,
            Capability::CurrentUser => Self::CurrentUser,
            Capability::StartStop => Self::StartStop,
            Capability::MainProcessExit => Self::MainProcessExit,
            Capability::SubjectTokens => Self::SubjectTokens,
            Capability::SandboxTemplates => Self::SandboxTemplates,
            Capability::RootfsStaging => Self::RootfsStaging,
            Capability::ProviderStatus => Self::ProviderStatus,
            Capability::RequestIds => Self::RequestIds,
            Capability::SandboxNames => Self::SandboxNames,
            Capability::ProviderCredentials => Self::ProviderCredentials,
        }
    }
}

fn to_pb_capabilities(generation: DetectedGeneration, version: &str) -> Vec<i32> {
    let supported =
        |one: &Capability| generation.known().is_some_and(|known| one.is_supported(known, version));
    let held = Capability::ALL.into_iter().filter(supported);
    held.map(|one| pb::GatewayCapability::from(one).into()).collect()
}

/// Parses the key and the value of a setting to change.
pub(super) fn parse_setting(
    key: &str,
    value: Option<pb::GatewaySettingValue>,
) -> Result<(SettingKey, Value), Error> {
    use pb::gateway_setting_value::Kind;
    let key = SettingKey::parse("key", key)?;
    let value = match value.and_then(|value| value.kind) {
        Some(Kind::Switch(switch)) => Value::Bool(switch),
        Some(Kind::Text(word)) => Value::Text(word),
        Some(Kind::Number(number)) => Value::Int(number),
        None => return Err(Error::invalid("value", "is required")),
    };
    key.check("value", &value)?;
    Ok((key, value))
}

/// Converts a setting of the gateway or of the sandbox in `of`.
pub(super) fn to_pb_setting(setting: Setting, of: &SettingTarget) -> pb::GatewaySetting {
    use pb::gateway_setting_value::Kind;
    let kind = setting.value.and_then(|value| match value {
        Value::Bool(switch) => Some(Kind::Switch(switch)),
        Value::Text(word) => Some(Kind::Text(word)),
        Value::Int(number) => Some(Kind::Number(number)),
        Value::Opaque => None,
    });
    let scope = match setting.scope {
        Scope::Unset => pb::GatewaySettingScope::Unspecified,
        Scope::Sandbox => pb::GatewaySettingScope::Sandbox,
        Scope::Gateway => pb::GatewaySettingScope::Gateway,
    };
    let place = of.0.clone();
    let (workspace, sandbox) = place.map(|of| (of.workspace, of.name)).unwrap_or_default();
    pb::GatewaySetting {
        key: setting.key,
        value: kind.map(|kind| pb::GatewaySettingValue { kind: Some(kind) }),
        scope: scope.into(),
        workspace,
        sandbox,
        managed_by_gateway: setting.scope == Scope::Gateway,
    }
}

fn to_pb_findings(row: &GatewayRow) -> Vec<pb::GatewayFinding> {
    let shown = |(kind, since): (findings::FindingKind, Timestamp)| pb::GatewayFinding {
        kind: match kind {
            findings::FindingKind::AutomaticApprovals => pb::GatewayFindingKind::AutomaticApprovals,
            findings::FindingKind::CredentialUnusable => pb::GatewayFindingKind::CredentialUnusable,
        }
        .into(),
        since_time: Some(wire::to_timestamp(since)),
        description: kind.description().to_owned(),
    };
    findings::open_findings(row).into_iter().map(shown).collect()
}

impl From<GatewayRow> for pb::Gateway {
    fn from(row: GatewayRow) -> Self {
        let (certificates, findings) = (to_pb_certificates(&row), to_pb_findings(&row));
        let oidc_client = row.oidc_client().map(|client| pb::GatewayOidcClient {
            token_url: client.token_url,
            scope: client.scope.unwrap_or_default(),
            audience: client.audience.unwrap_or_default(),
        });
        let (auth_mode, generation) = (row.auth_mode(), row.effective_generation());
        let pinned = row.pinned_generation.map(|pinned| DetectedGeneration::Known(pinned.0));
        let version = row.observed.gateway_version.unwrap_or_default();
        Self {
            id: row.id,
            name: row.name,
            endpoint: row.endpoint,
            scheme: pb::GatewayScheme::from(row.scheme).into(),
            auth_mode: pb::GatewayAuthMode::from(auth_mode).into(),
            ca_cert: row.ca_cert.unwrap_or_default().into(),
            client_cert: row.client_cert.unwrap_or_default().into(),
            has_client_key: row.client_key.is_some(),
            has_bearer_token: row.bearer_token.is_some(),
            metadata_json: row.metadata_json.unwrap_or_default(),
            description: row.description.unwrap_or_default(),
            labels: Labels::from_json(row.labels_json.as_deref()).into_map().into_iter().collect(),
            register_time: Some(wire::to_timestamp(row.registered_at)),
            last_seen_time: row.observed.last_seen.map(wire::to_timestamp),
            status: pb::GatewayStatus::from(row.observed.last_status).into(),
            latency: row.observed.latency_us.map(wire::to_duration),
            capabilities: to_pb_capabilities(generation, &version),
            wire_note: capability::generation_note(generation, &version),
            version,
            wire_generation: pb::WireGeneration::from(row.observed.wire_generation).into(),
            last_error: row.observed.last_error.unwrap_or_default(),
            probe_time: row.observed.probed_at.map(wire::to_timestamp),
            etag: etag::from_version(row.version),
            oidc_client,
            oidc_client_id: row.oidc_client_id.unwrap_or_default(),
            has_oidc_client_secret: row.oidc_client_secret.is_some(),
            pinned_generation: pinned.map_or(0, |pinned| pb::WireGeneration::from(pinned).into()),
            certificates,
            findings,
        }
    }
}

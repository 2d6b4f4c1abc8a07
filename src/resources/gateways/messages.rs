//! The messages of `GatewayService`, to and from what the domain works with.

use super::change::Change;
use super::credentials::{AuthMode, Credentials};
use super::domain::NewGateway;
use super::input::{self, Endpoint, Scheme};
use super::store::Row;
use super::targets::Generation;
use crate::error::Error;
use crate::etag;
use crate::labels::Labels;
use crate::pb::v1 as pb;
use crate::secret::Secret;
use crate::transport::wire;

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
        Err(_) => Err(Error::invalid("auth_mode", "must be none, mtls or bearer")),
    }
}

fn credentials(given: Option<pb::GatewayCredentials>) -> Result<Credentials, Error> {
    let given = given.unwrap_or_default();
    let some = |bytes: bytes::Bytes| (!bytes.is_empty()).then(|| bytes.to_vec());
    let credentials = Credentials {
        client_key: input::secret("credentials.client_key", &given.client_key)?,
        client_cert: some(given.client_cert),
        bearer_token: (!given.bearer_token.is_empty()).then(|| Secret::new(given.bearer_token)),
    };
    credentials.check()?;
    Ok(credentials)
}

fn ca_cert(pem: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    if pem.is_empty() {
        return Ok(None);
    }
    input::certificates("ca_cert", pem)?;
    Ok(Some(pem.to_vec()))
}

impl TryFrom<pb::RegisterGatewayRequest> for NewGateway {
    type Error = Error;

    fn try_from(req: pb::RegisterGatewayRequest) -> Result<Self, Error> {
        let credentials = credentials(req.credentials)?;
        let scheme = scheme(req.scheme)?.unwrap_or(Scheme::Https);
        let auth_mode = auth_mode(req.auth_mode)?.unwrap_or_else(|| credentials.implied_mode());
        credentials.fit(auth_mode, scheme)?;
        let ca_cert = ca_cert(&req.ca_cert)?;
        if ca_cert.is_some() && scheme == Scheme::Http {
            return Err(Error::invalid("ca_cert", "goes with the scheme `https`"));
        }
        Ok(Self {
            name: input::name("name", &req.name)?,
            endpoint: Endpoint::parse("endpoint", &req.endpoint)?,
            scheme,
            auth_mode,
            ca_cert,
            credentials,
            metadata_json: input::metadata("metadata_json", &req.metadata_json)?,
            description: input::description("description", &req.description)?,
            labels: Labels::parse("labels", req.labels)?,
        })
    }
}

impl TryFrom<pb::UpdateGatewayRequest> for Change {
    type Error = Error;

    fn try_from(mut req: pb::UpdateGatewayRequest) -> Result<Self, Error> {
        let said =
            |field: &str| Error::invalid(field.to_owned(), "must be said when the mask names it");
        let mut change = Self::default();
        for path in wire::paths(req.update_mask.take())? {
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
                other => return Err(wire::unchangeable(other)),
            }
        }
        Ok(change)
    }
}

pub(super) fn status(stored: &str) -> pb::GatewayStatus {
    match stored {
        "healthy" => pb::GatewayStatus::Healthy,
        "degraded" => pb::GatewayStatus::Degraded,
        "unhealthy" => pb::GatewayStatus::Unhealthy,
        "unspecified" => pb::GatewayStatus::Unstated,
        "unreachable" => pb::GatewayStatus::Unreachable,
        _ => pb::GatewayStatus::Unknown,
    }
}

impl From<Generation> for pb::WireGeneration {
    fn from(generation: Generation) -> Self {
        match generation {
            Generation::Unknown => Self::Unknown,
            Generation::V0_0 => Self::V00,
            Generation::V0_1 => Self::V01,
            Generation::Unsupported => Self::Unsupported,
        }
    }
}

impl From<Row> for pb::Gateway {
    fn from(row: Row) -> Self {
        let auth_mode = match row.auth_mode.as_deref() {
            Some("mtls") => pb::GatewayAuthMode::Mtls,
            Some("bearer") => pb::GatewayAuthMode::Bearer,
            _ => pb::GatewayAuthMode::None,
        };
        let scheme =
            if row.scheme == "http" { pb::GatewayScheme::Http } else { pb::GatewayScheme::Https };
        let generation = Generation::parse(&row.wire_generation).unwrap_or(Generation::Unknown);
        Self {
            id: row.id,
            name: row.name,
            endpoint: row.endpoint,
            scheme: scheme.into(),
            auth_mode: auth_mode.into(),
            ca_cert: row.ca_cert.unwrap_or_default().into(),
            client_cert: row.client_cert.unwrap_or_default().into(),
            has_client_key: row.client_key.is_some(),
            has_bearer_token: row.bearer_token.is_some(),
            metadata_json: row.metadata_json.unwrap_or_default(),
            description: row.description.unwrap_or_default(),
            labels: Labels::from_json(row.labels_json.as_deref()).into_map().into_iter().collect(),
            register_time: Some(wire::time(row.registered_at)),
            last_seen_time: row.last_seen.map(wire::time),
            status: status(&row.last_status).into(),
            latency: row.latency_us.map(wire::span),
            version: row.gateway_version.unwrap_or_default(),
            wire_generation: pb::WireGeneration::from(generation).into(),
            last_error: row.last_error.unwrap_or_default(),
            probe_time: row.probed_at.map(wire::time),
            etag: etag::of(row.version),
        }
    }
}

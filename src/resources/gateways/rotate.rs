//! Replaces the credentials of a gateway in place: its roles, streams and all other data are unchanged.
//!
//! Invariants
//! - new credentials are proven against the gateway before they are stored, unless the request sets `unproven`;
//! - credentials equal to the stored ones are not a change: nothing is written, no event is emitted, and the audit
//!   entry has `rotated: false`;
//! - open streams continue with the credentials they were opened with; new connections use the new ones.

use std::sync::Arc;

use serde_json::json;

use super::store;
use super::{certificates, domain, findings, worker};
use crate::ctx::Ctx;
use crate::db::types::GatewayRef;
use crate::error::{Error, Reason, ResourceKind};
use crate::etag;
use crate::outbox::AccessSubject;
use crate::outbox::event_types;
use crate::upstream::connection::Connection;
use crate::upstream::credentials::{AuthMode, Credentials};
use crate::upstream::probe;
use crate::upstream::row::GatewayRow;
use crate::upstream::sealed;
use crate::upstream::targets;

/// Request of a rotation.
#[derive(Debug)]
pub struct CredentialRotation {
    /// All credentials that the auth mode needs.
    pub credentials: Credentials,
    /// Whether to store the credentials without proving them against the gateway.
    pub skip_check: bool,
}

/// Replaces the credentials of the gateway of the call. Returns the gateway, and whether the credentials differ from
/// the stored ones.
pub async fn rotate(
    ctx: &Ctx,
    rotation: &CredentialRotation,
    given_etag: &str,
) -> Result<(GatewayRow, bool), Error> {
    let GatewayRef { id, name } = ctx.required_gateway()?.clone();
    let missing = || Error::not_found(ResourceKind::Gateway, &name);
    let app = ctx.app();
    let before = store::by_id(&mut ctx.db().read().await?, id).await?.ok_or_else(missing)?;
    etag::check(given_etag, before.version, ResourceKind::Gateway, &name)?;
    let mode = before.auth_mode();
    ctx.add_audit_detail("auth_mode", mode.as_str());
    if mode == AuthMode::None {
        return Err(Error::invalid(
            "credentials",
            "cannot be rotated: the gateway has auth mode `none`",
        ));
    }
    rotation.credentials.check_mode(mode, before.scheme)?;
    if sealed::open_credentials(&app.master, &before)? == rotation.credentials {
        ctx.add_audit_detail("rotated", false);
        return Ok((domain::get(ctx).await?, false));
    }
    rotation.credentials.check_not_expired(ctx.now())?;
    let mut sealed = before.clone();
    sealed::seal_credentials(&app.master, &mut sealed, &rotation.credentials)?;
    if !rotation.skip_check {
        check_credentials(ctx, &sealed).await?;
    }
    let ends = |row: &GatewayRow| {
        let client = certificates::expiries(row)
            .into_iter()
            .find(|(kind, _)| *kind == certificates::CertificateKind::Client);
        client.and_then(|(_, ends)| ends).map(|at| at.to_string())
    };
    let (was, is) = (ends(&before), ends(&sealed));
    let rotated = ctx.transaction(async |tx| {
            // Read again: proving takes time, and results that probes stored meanwhile must be preserved.
            let mut row = store::lock(tx, id).await?.ok_or_else(missing)?;
            etag::check(&etag::from_version(before.version), row.version, ResourceKind::Gateway, &name)?;
            row.copy_credentials(&sealed);
            row.version += 1;
            findings::close_credential_finding(ctx, tx, &mut row).await?;
            certificates::record(ctx, tx, &row).await?;
            if !store::update(tx, &row, None).await? {
                return Err(Error::conflict(ResourceKind::Gateway, &name));
            }
            let payload = json!({
                "gateway": &*name, "auth_mode": mode.as_str(), "expire_time": is, "proven": !rotation.skip_check,
            });
            let on = GatewayRef { id, name: Arc::clone(&name) };
            let event = ctx.new_event(event_types::GATEWAY_CREDENTIALS_ROTATED, payload).with_gateway(on);
            tx.emit(event).await?;
            tx.log_access_change(AccessSubject::Gateway(id)).await?;
            Ok(row)
        })
        .await?;
    ctx.add_audit_detail("rotated", true);
    ctx.add_audit_detail("proven", !rotation.skip_check);
    ctx.add_audit_detail("certificate_ended", was);
    ctx.add_audit_detail("certificate_ends", is);
    worker::probe_changed(ctx, id).await;
    Ok((domain::reload_changed(ctx, rotated).await, true))
}

/// Connects with the new credentials and checks that the gateway accepts them and grants them access.
async fn check_credentials(ctx: &Ctx, row: &GatewayRow) -> Result<(), Error> {
    let target = targets::from_row(&ctx.app().target_context(), row)?;
    let config = &ctx.app().config.gateways;
    let unproven = |why: &str| {
        let name = &row.name;
        let why = format!(
            "the new credentials of gateway `{name}` are not proven ({why}); nothing was changed"
        );
        Error::refused(Reason::CredentialsUnproven, why)
    };
    let connection = match Connection::open(&target, config).await {
        Ok(connection) => connection,
        Err(error) => {
            let error = error.into_error(&row.name);
            if let Error::Refused { reason: Reason::AddressForbidden, .. } = error {
                return Err(error);
            }
            return Err(unproven(&probe::display_error(&error)));
        }
    };
    let check = connection.check_credential(config.probe_timeout()).await;
    check.problem().map_or(Ok(()), |why| Err(unproven(why)))
}

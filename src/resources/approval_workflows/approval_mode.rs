//! The approval mode that a gateway has in force, read in a bounded time.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::debug;

use crate::ctx::Ctx;
use crate::error::Error;
use crate::governance::RuleScope;
use crate::openshell::Gateway;
use crate::openshell::settings::{APPROVAL_AUTO, APPROVAL_MODE, Setting, Value};

/// How long the gateway may take.
const READ_TIME: Duration = Duration::from_secs(5);

/// What a gateway reports of its approval mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalMode {
    /// Proposals wait for a decision.
    Manual,
    /// The gateway approves them by itself.
    Auto,
    /// It did not report the mode in time, or the mode is not known.
    Unknown,
}

/// Reads the approval mode of the gateway, or of the sandbox of the scope if it exists. A failure is
/// [`ApprovalMode::Unknown`].
pub fn read<'a>(ctx: &'a Ctx, scope: &'a RuleScope) -> BoxFuture<'a, ApprovalMode> {
    Box::pin(async move {
        match ctx.app().clock.timeout(READ_TIME, Box::pin(settings(ctx, scope))).await {
            Some(Ok(settings)) => mode_of(&settings),
            Some(Err(error)) => {
                debug!(%error, "the approval mode could not be read");
                ApprovalMode::Unknown
            }
            None => ApprovalMode::Unknown,
        }
    })
}

async fn settings(ctx: &Ctx, scope: &RuleScope) -> Result<Vec<Setting>, Error> {
    let gateway = Gateway::connect(ctx.app(), ctx.required_gateway()?).await?.on_behalf_of(ctx);
    if let RuleScope::Sandbox(sandbox) = scope {
        match gateway.settings(Some(sandbox)).await {
            Ok((settings, _)) => return Ok(settings),
            // The rule is for the next sandbox of this name.
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(gateway.settings(None).await?.0)
}

fn mode_of(settings: &[Setting]) -> ApprovalMode {
    let found = settings.iter().find(|setting| setting.key == APPROVAL_MODE);
    match found.and_then(|setting| setting.value.as_ref()) {
        None => ApprovalMode::Manual,
        Some(Value::Text(mode)) if mode == APPROVAL_AUTO => ApprovalMode::Auto,
        Some(Value::Text(mode)) if mode == "manual" => ApprovalMode::Manual,
        Some(Value::Text(_) | Value::Bool(_) | Value::Int(_) | Value::Opaque) => {
            ApprovalMode::Unknown
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openshell::settings::Scope;

    #[test]
    fn g08_an_unknown_mode_is_not_taken_as_manual() {
        let set = |value| {
            let (key, scope) = (APPROVAL_MODE.to_owned(), Scope::Gateway);
            mode_of(&[Setting { key, value, scope }])
        };
        let text = |mode: &str| Some(Value::Text(mode.to_owned()));
        assert_eq!(mode_of(&[]), ApprovalMode::Manual);
        assert_eq!(set(None), ApprovalMode::Manual);
        assert_eq!(set(text("manual")), ApprovalMode::Manual);
        assert_eq!(set(text("auto")), ApprovalMode::Auto);
        assert_eq!(set(text("sometimes")), ApprovalMode::Unknown);
        assert_eq!(set(Some(Value::Bool(true))), ApprovalMode::Unknown);
    }
}

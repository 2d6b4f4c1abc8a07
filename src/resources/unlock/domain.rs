//! The rules of one scope, and their removal.

use std::fmt;

use crate::access::action::Action;
use crate::ctx::Ctx;
use crate::db::types::{DEFAULT_WORKSPACE, GatewayRef, SandboxName, SandboxRef};
use crate::error::{Error, ResourceKind};
use crate::governance::RuleScope;
use crate::resources::approval_workflows::domain as workflows;
use crate::resources::policy_pins::domain as pins;
use crate::resources::write_intents::domain as write_intents;

/// A gateway, one of its workspaces, or one of its sandboxes. Workspace and sandbox need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnlockScope {
    gateway: GatewayRef,
    workspace: Option<String>,
    sandbox: Option<String>,
}

/// A rule of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeRule {
    /// The pin of a sandbox.
    Pin,
    /// The approval workflow.
    Workflow,
}

impl ScopeRule {
    /// Returns the audit action of the removal, which is that of the same removal through the API.
    #[must_use]
    pub fn removal(self) -> Action {
        match self {
            Self::Pin => Action::POLICY_UNPIN,
            Self::Workflow => Action::APPROVAL_WORKFLOW_DELETE,
        }
    }

    /// Returns the name for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pin => "the pin",
            Self::Workflow => "the approval workflow",
        }
    }
}

impl UnlockScope {
    /// Returns the scope of these names. The workspace of a sandbox is `default` unless it is given.
    ///
    /// # Errors
    /// `NOT_FOUND` if the gateway does not exist.
    pub fn new(
        ctx: &Ctx,
        gateway: &str,
        workspace: Option<String>,
        sandbox: Option<String>,
    ) -> Result<Self, Error> {
        let id = ctx.app().snapshot.gateway_id(gateway);
        let id = id.ok_or_else(|| Error::not_found(ResourceKind::Gateway, gateway))?;
        let gateway = GatewayRef { id, name: gateway.into() };
        let default = sandbox.is_some().then(|| DEFAULT_WORKSPACE.to_owned());
        Ok(Self { gateway, workspace: workspace.or(default), sandbox })
    }

    /// Returns the gateway.
    #[must_use]
    pub fn gateway(&self) -> &GatewayRef {
        &self.gateway
    }

    /// Returns the name that the audit log records: of the sandbox, the workspace or the gateway.
    #[must_use]
    pub fn target(&self) -> String {
        match (self.place(), &self.workspace) {
            (Some(place), _) => place.name.to_string(),
            (None, Some(workspace)) => workspace.clone(),
            (None, None) => self.gateway.name.to_string(),
        }
    }

    fn place(&self) -> Option<SandboxRef> {
        let (workspace, name) = (self.workspace.clone()?, self.sandbox.clone()?);
        Some(SandboxRef { gateway: self.gateway.clone(), name: SandboxName { workspace, name } })
    }

    fn rule_scope(&self) -> RuleScope {
        match (self.place(), &self.workspace) {
            (Some(place), _) => RuleScope::Sandbox(place.name),
            (None, Some(workspace)) => RuleScope::Workspace(workspace.clone()),
            (None, None) => RuleScope::Gateway,
        }
    }
}

impl fmt::Display for UnlockScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(sandbox) = &self.sandbox {
            write!(f, "sandbox `{sandbox}` in ")?;
        }
        if let Some(workspace) = &self.workspace {
            write!(f, "workspace `{workspace}` of ")?;
        }
        write!(f, "gateway `{}`", self.gateway.name)
    }
}

/// Returns the rules whose scope is exactly this one.
pub async fn rules_of(ctx: &Ctx, scope: &UnlockScope) -> Result<Vec<ScopeRule>, Error> {
    let mut found = Vec::new();
    if let Some(place) = scope.place() {
        match pins::get(ctx, &place).await {
            Ok(_) => found.push(ScopeRule::Pin),
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match workflows::get(ctx, &scope.rule_scope()).await {
        Ok(_) => found.push(ScopeRule::Workflow),
        Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    Ok(found)
}

/// Removes rules of a scope: all of them or none. No role is checked. The context is about the gateway of the scope.
pub async fn remove(
    ctx: &Ctx,
    scope: &UnlockScope,
    rules: &[ScopeRule],
    reason: &str,
) -> Result<(), Error> {
    ctx.transaction(async |tx| {
        write_intents::lock_exclusive(tx, scope.gateway.id).await?;
        for rule in rules {
            match rule {
                ScopeRule::Pin => {
                    let missing = || Error::internal("a pin without a sandbox");
                    let place = scope.place().ok_or_else(missing)?;
                    pins::remove_on_host(ctx, tx, &place).await?;
                }
                ScopeRule::Workflow => {
                    workflows::remove_on_host(ctx, tx, &scope.rule_scope(), reason).await?;
                }
            }
        }
        Ok(())
    })
    .await
}

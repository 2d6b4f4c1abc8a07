//! Templates for sandboxes: first this server's, then the gateway's.

use super::create::SandboxCreation;
use super::domain::connect;
use super::input;
use crate::ctx::{Ctx, ListKey};
use crate::db::page::PageSize;
use crate::error::Error;
use crate::openshell::templates::WorkloadTemplate;
use crate::templates::{self, Templates};
use crate::upstream::probe;

/// A template of this server or of a gateway.
#[derive(Debug, Clone)]
pub enum ListedTemplate {
    /// A template of this server.
    Server(templates::Template),
    /// A template of the gateway.
    Gateway(WorkloadTemplate),
}

impl ListedTemplate {
    /// Returns the sort key. This server's templates come first.
    fn key(&self) -> (bool, String, String) {
        match self {
            Self::Server(ours) => (false, String::new(), ours.name.clone()),
            Self::Gateway(theirs) => (true, theirs.workspace.clone(), theirs.name.clone()),
        }
    }
}

/// Fills in the template's values where the request has none.
pub(super) fn apply(ctx: &Ctx, create: &mut SandboxCreation, name: &str) -> Result<(), Error> {
    let template = templates::find(&ctx.app().part::<Templates>().0, name).ok_or_else(|| {
        Error::invalid("template", format!("`{name}` is not a template of this server"))
    })?;
    ctx.add_audit_detail("template", name);
    let new = &mut create.new;
    if new.image.is_empty() {
        new.image.clone_from(&template.image);
    }
    new.gpu |= template.gpu;
    for provider in &template.providers {
        if !new.providers.contains(provider) {
            new.providers.push(provider.clone());
        }
    }
    for (key, value) in &template.environment {
        new.environment.entry(key.clone()).or_insert_with(|| value.clone());
    }
    create.presets.clone_from(&template.presets);
    // The merged values must satisfy the same limits as the values of a request.
    input::providers(&new.providers)?;
    new.environment = input::environment(std::mem::take(&mut new.environment))?;
    Ok(())
}

/// A page of templates.
#[derive(Debug)]
pub struct TemplatePage {
    /// The templates.
    pub page: Vec<ListedTemplate>,
    /// Token of the next page. Empty on the last page.
    pub next: String,
    /// Why templates of the gateway are missing.
    pub missing: Option<String>,
}

/// Returns a page of templates. This server's templates are listed even if the gateway is unreachable.
pub async fn list(ctx: &Ctx, size: PageSize, token: &str) -> Result<TemplatePage, Error> {
    let gateway = &ctx.required_gateway()?.name;
    let list = ListKey {
        method: "ListSandboxTemplates",
        filter: gateway.as_bytes(),
        order: "of_gateway, workspace, name",
    };
    let page = ctx.page_request::<(bool, String, String)>(list, size, token)?;
    let (theirs, missing) = match gateway_templates(ctx).await {
        Ok((theirs, true)) => (theirs, None),
        Ok((theirs, false)) => {
            (theirs, Some(format!("gateway `{gateway}` has more templates than are read")))
        }
        Err(error) => (Vec::new(), Some(probe::display_error(&error))),
    };
    let ours = ctx.app().part::<Templates>().0.iter().cloned().map(ListedTemplate::Server);
    let mut all: Vec<ListedTemplate> =
        ours.chain(theirs.into_iter().map(ListedTemplate::Gateway)).collect();
    all.sort_by_key(ListedTemplate::key);
    all.retain(|template| page.after().is_none_or(|after| template.key() > *after));
    let (page, next) = page.finish(all, ListedTemplate::key)?;
    Ok(TemplatePage { page, next, missing })
}

async fn gateway_templates(ctx: &Ctx) -> Result<(Vec<WorkloadTemplate>, bool), Error> {
    connect(ctx).await?.list_templates().await
}

//! Templates for sandboxes: this server's, then the gateway's own.

use super::domain::reach;
use crate::ctx::{Ctx, List};
use crate::db::page::PageSize;
use crate::error::Error;
use crate::openshell::templates::WorkloadTemplate;
use crate::templates::{self, Templates};
use crate::upstream::probe;

/// A template, wherever it is kept.
#[derive(Debug, Clone)]
pub enum Template {
    /// This server's.
    Ours(templates::Template),
    /// The gateway's own.
    OfGateway(WorkloadTemplate),
}

impl Template {
    /// What it is listed by: ours come first.
    fn key(&self) -> (bool, String, String) {
        match self {
            Self::Ours(ours) => (false, String::new(), ours.name.clone()),
            Self::OfGateway(theirs) => (true, theirs.workspace.clone(), theirs.name.clone()),
        }
    }
}

/// A page of templates.
#[derive(Debug)]
pub struct Listed {
    /// The page.
    pub page: Vec<Template>,
    /// Asks for the next one; empty on the last.
    pub next: String,
    /// Why the gateway's own are not among these, or not all of them.
    pub missing: Option<String>,
}

/// A page of templates. Ours are there whether or not the gateway is.
pub async fn templates(ctx: &Ctx, size: PageSize, token: &str) -> Result<Listed, Error> {
    let gateway = &ctx.on_gateway()?.name;
    let list = List {
        method: "ListSandboxTemplates",
        filter: gateway.as_bytes(),
        order: "of_gateway, workspace, name",
    };
    let page = ctx.page::<(bool, String, String)>(list, size, token)?;
    let (theirs, missing) = match of_gateway(ctx).await {
        Ok((theirs, true)) => (theirs, None),
        Ok((theirs, false)) => {
            (theirs, Some(format!("gateway `{gateway}` has more templates than are read")))
        }
        Err(error) => (Vec::new(), Some(probe::display_error(&error))),
    };
    let ours = ctx.app().part::<Templates>().0.iter().cloned().map(Template::Ours);
    let mut all: Vec<Template> = ours.chain(theirs.into_iter().map(Template::OfGateway)).collect();
    all.sort_by_key(Template::key);
    all.retain(|template| page.after().is_none_or(|after| template.key() > *after));
    let (page, next) = page.finish(all, Template::key)?;
    Ok(Listed { page, next, missing })
}

async fn of_gateway(ctx: &Ctx) -> Result<(Vec<WorkloadTemplate>, bool), Error> {
    reach(ctx).await?.list_templates().await
}

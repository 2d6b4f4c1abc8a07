//! Templates for sandboxes: first this server's, then the gateway's.

use super::domain::reach;
use crate::ctx::{Ctx, List};
use crate::db::page::PageSize;
use crate::error::Error;
use crate::openshell::templates::WorkloadTemplate;
use crate::templates::{self, Templates};
use crate::upstream::probe;

/// A template of this server or of a gateway.
#[derive(Debug, Clone)]
pub enum Template {
    /// A template of this server.
    Ours(templates::Template),
    /// A template of the gateway.
    OfGateway(WorkloadTemplate),
}

impl Template {
    /// Returns the sort key. This server's templates come first.
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
    /// The templates.
    pub page: Vec<Template>,
    /// Token of the next page. Empty on the last page.
    pub next: String,
    /// Why templates of the gateway are missing.
    pub missing: Option<String>,
}

/// Returns a page of templates. This server's templates are listed even if the gateway is unreachable.
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

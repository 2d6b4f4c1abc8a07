//! The gateway's own templates for sandboxes, which generation 0.1 has.

use super::gateway::{CALL_TIME, Gateway, Wire};
use super::sandbox::ITEMS_MAX;
use super::v0_1;
use crate::error::Error;

const LIST: &str = "/openshell.v1.OpenShell/ListSandboxTemplates";
/// Pages that are asked for: empty ones that name a next one must not keep us asking.
const PAGES_MAX: usize = 20;

/// A template of a gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadTemplate {
    /// Its name.
    pub name: String,
    /// Its workspace.
    pub workspace: String,
    /// Its image.
    pub image: String,
}

impl Gateway {
    /// The gateway's own templates; generation 0.0 has none.
    pub async fn list_templates(&self) -> Result<Vec<WorkloadTemplate>, Error> {
        let Wire::V0_1 = self.wire() else { return Ok(Vec::new()) };
        let (mut all, mut from, mut asked) = (Vec::new(), String::new(), 0);
        while all.len() < ITEMS_MAX && asked < PAGES_MAX {
            asked += 1;
            let answer = self.unary(LIST, &v0_1::list_templates(&from), CALL_TIME).await?;
            let (page, next) = v0_1::templates(&answer).ok_or_else(|| self.unreadable(LIST))?;
            all.extend(page);
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        all.truncate(ITEMS_MAX);
        Ok(all)
    }
}

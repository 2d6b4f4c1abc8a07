//! Sandbox templates stored on a gateway. Only in generation 0.1.

use super::Generation;
use super::gateway::{CALL_TIME, Gateway};
use super::v0_1;
use crate::error::Error;

const LIST: &str = "/openshell.v1.OpenShell/ListSandboxTemplates";
const GET: &str = "/openshell.v1.OpenShell/GetSandboxTemplate";
/// Maximum number of templates that are read per gateway.
const TEMPLATES_MAX: usize = 1_000;
/// Maximum number of requested pages: empty pages that name a next one must not cause endless requests.
const PAGES_MAX: usize = 50;

/// A template stored on a gateway.
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
    /// Returns the templates of the gateway and whether the list is complete. Generation 0.0 has no templates.
    pub async fn list_templates(&self) -> Result<(Vec<WorkloadTemplate>, bool), Error> {
        let Generation::V0_1 = self.generation() else { return Ok((Vec::new(), true)) };
        let (mut all, mut from, mut pages) = (Vec::new(), String::new(), 0);
        while all.len() <= TEMPLATES_MAX && pages < PAGES_MAX {
            pages += 1;
            let answer = self.unary(LIST, &v0_1::encode_list_templates(&from), CALL_TIME).await?;
            let (page, next) =
                v0_1::decode_templates(&answer).ok_or_else(|| self.unreadable(LIST))?;
            all.extend(page);
            let Some(next) = next else {
                let whole = all.len() <= TEMPLATES_MAX;
                all.truncate(TEMPLATES_MAX);
                return Ok((all, whole));
            };
            from = next;
        }
        all.truncate(TEMPLATES_MAX);
        Ok((all, false))
    }

    /// Returns one template, by workspace and name.
    pub async fn get_template(
        &self,
        workspace: &str,
        name: &str,
    ) -> Result<WorkloadTemplate, Error> {
        if self.generation() == Generation::V0_0 {
            let why = "must be empty: a gateway of generation 0.0 has no templates";
            return Err(Error::invalid("gateway_template", why));
        }
        let answer =
            self.unary(GET, &v0_1::encode_get_template(workspace, name), CALL_TIME).await?;
        v0_1::decode_template(&answer).ok_or_else(|| self.unreadable(GET))
    }
}

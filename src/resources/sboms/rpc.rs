//! gRPC implementation of `SbomService`.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tonic::{Request, Streaming};

use super::cyclonedx::{AnalysisState, Severity};
use super::diff::{ChangeCounts, ChangeKind, Difference, SbomChange};
use super::domain::{self, CHANGES_SHOWN_MAX, Download, IncomingDocument, UploadResult};
use super::lists::{self, ComponentFilter, SeverityFilter, VulnerabilityFilter};
use super::place::SandboxPlace;
use super::rows::{ComponentRow, Snapshot, VulnerabilityRow};
use super::search::condition::SearchBy;
use super::search::store::FoundComponent;
use super::search::{self, SearchQuery};
use crate::app::App;
use crate::db::page::PageSize;
use crate::error::Error;
use crate::etag;
use crate::pb::v1 as pb;
use crate::pb::v1::sbom_service_server::{SbomService, SbomServiceServer};
use crate::resources::sboms::intake::SbomLimits;
use crate::rpc::call::{Reply, handle_read, handle_write};
use crate::rpc::streams::{RequestStream, ResponseStream, handle_stream, handle_upload};
use crate::rpc::wire;

/// How long a document may take to arrive: meanwhile it occupies a slot that other calls wait for.
const RECEIVE_TIME_MAX: Duration = Duration::from_mins(5);
/// Bytes per message of a download.
const CHUNK_BYTES: usize = 64 * 1024;

/// The service.
#[derive(Debug)]
pub struct Sboms(Arc<App>);

/// Creates the service for the gRPC router.
pub fn service(app: &Arc<App>) -> SbomServiceServer<Sboms> {
    let limit = app.config.server.message_bytes_max();
    SbomServiceServer::new(Sboms(Arc::clone(app))).max_decoding_message_size(limit)
}

#[tonic::async_trait]
impl SbomService for Sboms {
    async fn upload_sbom(
        &self,
        request: Request<Streaming<pb::UploadSbomRequest>>,
    ) -> Reply<pb::UploadSbomResponse> {
        handle_upload(&self.0, request, async move |ctx, req: pb::UploadSbomRequest, rest| {
            domain::check_only(&[("chunk", req.chunk.is_empty())], "the first message")?;
            let sha256 = domain::parse_sha256(&req.sha256)?;
            let place = SandboxPlace::parse(req.gateway, req.workspace, req.sandbox)?;
            let _turn =
                ctx.app().part::<SbomLimits>().acquire_receive(&ctx.principal_text()).await?;
            let late = |_| Error::DeadlineExceeded {
                why: "the document took too long to arrive".to_owned(),
            };
            let incoming = timeout(RECEIVE_TIME_MAX, receive(rest)).await.map_err(late)??;
            ctx.count_bytes(incoming.size(), 0);
            Ok(domain::upload(&ctx, &place, incoming, sha256).await?.into())
        })
        .await
    }

    async fn delete_sbom(
        &self,
        request: Request<pb::DeleteSbomRequest>,
    ) -> Reply<pb::DeleteSbomResponse> {
        handle_write(&self.0, request, async move |ctx, req| {
            let place = SandboxPlace::parse(req.gateway, req.workspace, req.sandbox)?;
            domain::delete(&ctx, &place, &req.etag).await?;
            Ok(pb::DeleteSbomResponse {})
        })
        .await
    }

    async fn get_sbom(&self, request: Request<pb::GetSbomRequest>) -> Reply<pb::GetSbomResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let place = SandboxPlace::parse(req.gateway, req.workspace, req.sandbox)?;
            Ok(pb::GetSbomResponse { sbom: Some(domain::get(ctx, &place).await?.into()) })
        })
        .await
    }

    async fn list_sbom_components(
        &self,
        request: Request<pb::ListSbomComponentsRequest>,
    ) -> Reply<pb::ListSbomComponentsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let place = SandboxPlace::parse(req.gateway, req.workspace, req.sandbox)?;
            let filter = ComponentFilter::parse(&req.search, severity_filter(req.severity)?)?;
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) =
                lists::components(ctx, &place, &filter, size, &req.page_token).await?;
            let components = page.into_iter().map(Into::into).collect();
            Ok(pb::ListSbomComponentsResponse { sbom_components: components, next_page_token })
        })
        .await
    }

    async fn list_sbom_vulnerabilities(
        &self,
        request: Request<pb::ListSbomVulnerabilitiesRequest>,
    ) -> Reply<pb::ListSbomVulnerabilitiesResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let place = SandboxPlace::parse(req.gateway, req.workspace, req.sandbox)?;
            let filter = VulnerabilityFilter::parse(severity_filter(req.severity)?, req.bom_ref)?;
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) =
                lists::vulnerabilities(ctx, &place, &filter, size, &req.page_token).await?;
            let vulnerabilities =
                page.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?;
            Ok(pb::ListSbomVulnerabilitiesResponse {
                sbom_vulnerabilities: vulnerabilities,
                next_page_token,
            })
        })
        .await
    }

    type DownloadSbomStream = ResponseStream<pb::DownloadSbomResponse>;

    async fn download_sbom(
        &self,
        request: Request<pb::DownloadSbomRequest>,
    ) -> Reply<Self::DownloadSbomStream> {
        let prepare = async move |ctx, req: pb::DownloadSbomRequest| {
            let place = SandboxPlace::parse(req.gateway, req.workspace, req.sandbox)?;
            let document = Download::begin(&ctx, place).await?;
            Ok((ctx, document))
        };
        handle_stream(&self.0, request, prepare, async move |(ctx, mut document), sink| {
            while let Some(piece) = document.next_piece(&ctx).await? {
                let mut piece = bytes::Bytes::from(piece);
                while !piece.is_empty() {
                    let chunk = piece.split_to(piece.len().min(CHUNK_BYTES));
                    sink.send(pb::DownloadSbomResponse { chunk }).await?;
                }
            }
            Ok(())
        })
        .await
    }

    async fn search_components(
        &self,
        request: Request<pb::SearchComponentsRequest>,
    ) -> Reply<pb::SearchComponentsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let size = PageSize::parse(req.page_size)?;
            let (page, next_page_token) =
                search::page(ctx, &search_query(&req)?, size, &req.page_token).await?;
            let components = page.into_iter().map(Into::into).collect();
            Ok(pb::SearchComponentsResponse { found_components: components, next_page_token })
        })
        .await
    }

    async fn diff_sboms(
        &self,
        request: Request<pb::DiffSbomsRequest>,
    ) -> Reply<pb::DiffSbomsResponse> {
        handle_read(&self.0, request, async |ctx, req| {
            let place = SandboxPlace::parse(req.gateway, req.workspace, req.sandbox)?;
            let other = (req.other_gateway, req.other_workspace, req.other_sandbox);
            let other = SandboxPlace::parse_prefixed("other_", other.0, other.1, other.2)?;
            let size = PageSize::parse(req.page_size)?;
            let (found, next_page_token) =
                domain::diff(ctx, &place, &other, size, &req.page_token).await?;
            let counts = Some(counts(&found));
            let changes = found.changes.into_iter().map(Into::into).collect();
            Ok(pb::DiffSbomsResponse { counts, changes, next_page_token })
        })
        .await
    }
}

/// Receives the document that follows the first message.
async fn receive(
    mut rest: RequestStream<pb::UploadSbomRequest>,
) -> Result<IncomingDocument, Error> {
    let mut incoming = IncomingDocument::default();
    while let Some(next) = rest.next_in_time().await? {
        let others = [
            ("gateway", next.gateway.is_empty()),
            ("workspace", next.workspace.is_empty()),
            ("sandbox", next.sandbox.is_empty()),
            ("sha256", next.sha256.is_empty()),
            ("request_id", next.request_id.is_empty()),
        ];
        domain::check_only(&others, "a message after the first")?;
        incoming.append(&next.chunk)?;
    }
    Ok(incoming)
}

fn severity_filter(wire: i32) -> Result<SeverityFilter, Error> {
    match pb::SbomSeverity::try_from(wire) {
        Ok(pb::SbomSeverity::Unspecified) => Ok(SeverityFilter::Any),
        Ok(pb::SbomSeverity::Critical) => Ok(SeverityFilter::Exactly(Severity::Critical)),
        Ok(pb::SbomSeverity::High) => Ok(SeverityFilter::Exactly(Severity::High)),
        Ok(pb::SbomSeverity::Medium) => Ok(SeverityFilter::Exactly(Severity::Medium)),
        Ok(pb::SbomSeverity::Low) => Ok(SeverityFilter::Exactly(Severity::Low)),
        Ok(pb::SbomSeverity::Info) => Ok(SeverityFilter::Exactly(Severity::Info)),
        Ok(pb::SbomSeverity::None) => Ok(SeverityFilter::Exactly(Severity::None)),
        Ok(pb::SbomSeverity::Unknown) => Ok(SeverityFilter::Exactly(Severity::Unknown)),
        Ok(pb::SbomSeverity::Clean) => Ok(SeverityFilter::Clean),
        Err(_) => Err(Error::invalid("severity", "must be one of the severities")),
    }
}

impl From<Severity> for pb::SbomSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Critical => Self::Critical,
            Severity::High => Self::High,
            Severity::Medium => Self::Medium,
            Severity::Low => Self::Low,
            Severity::Info => Self::Info,
            Severity::None => Self::None,
            Severity::Unknown => Self::Unknown,
        }
    }
}

/// Converts the state of an analysis. `None` is unspecified.
fn analysis_state(state: Option<AnalysisState>) -> pb::SbomAnalysisState {
    match state {
        None => pb::SbomAnalysisState::Unspecified,
        Some(AnalysisState::Exploitable) => pb::SbomAnalysisState::Exploitable,
        Some(AnalysisState::InTriage) => pb::SbomAnalysisState::InTriage,
        Some(AnalysisState::FalsePositive) => pb::SbomAnalysisState::FalsePositive,
        Some(AnalysisState::NotAffected) => pb::SbomAnalysisState::NotAffected,
        Some(AnalysisState::Resolved) => pb::SbomAnalysisState::Resolved,
        Some(AnalysisState::ResolvedWithPedigree) => pb::SbomAnalysisState::ResolvedWithPedigree,
    }
}

/// Converts the worst severity of an SBOM or component. `None` is `CLEAN`: no vulnerability.
fn worst(severity: Option<Severity>) -> i32 {
    severity.map_or(pb::SbomSeverity::Clean, Into::into).into()
}

/// Converts the severity of a vulnerability. `None`, if the SBOM does not contain it, is unspecified.
fn vulnerability_severity(severity: Option<Severity>) -> i32 {
    severity.map_or(pb::SbomSeverity::Unspecified, Into::into).into()
}

fn search_query(req: &pb::SearchComponentsRequest) -> Result<SearchQuery, Error> {
    use pb::search_components_request::By as Asked;
    let by: (&str, &str, fn(&str) -> SearchBy) = match &req.by {
        Some(Asked::Name(text)) => ("name", text, SearchBy::name),
        Some(Asked::NameContains(text)) => ("name_contains", text, SearchBy::name_part),
        Some(Asked::PurlPrefix(text)) => ("purl_prefix", text, SearchBy::purl),
        Some(Asked::PurlContains(text)) => ("purl_contains", text, SearchBy::purl_part),
        None => {
            let why = "is required, or `name_contains`, `purl_prefix` or `purl_contains`";
            return Err(Error::invalid("name", why));
        }
    };
    let versions = (req.version_from.as_str(), req.version_below.as_str());
    SearchQuery::parse(by, versions, severity_filter(req.severity)?, req.gateway.clone())
}

impl From<Snapshot> for pb::Sbom {
    fn from(row: Snapshot) -> Self {
        Self {
            gateway: row.gateway_name,
            workspace: row.workspace,
            sandbox: row.sandbox_name,
            bom_format: row.bom_format,
            spec_version: row.spec_version,
            serial_number: row.serial_number.unwrap_or_default(),
            uploaded_by: row.uploaded_by,
            upload_time: Some(wire::to_timestamp(row.uploaded_at)),
            component_count: row.component_count,
            vulnerability_count: row.vulnerability_count,
            max_severity: worst(row.max_severity),
            size_bytes: row.size_bytes,
            sha256: row.sha256,
            etag: etag::from_version(row.id),
        }
    }
}

impl From<ComponentRow> for pb::SbomComponent {
    fn from(row: ComponentRow) -> Self {
        Self {
            bom_ref: row.bom_ref.unwrap_or_default(),
            name: row.name,
            group: row.group_name.unwrap_or_default(),
            version: row.version.unwrap_or_default(),
            purl: row.purl.unwrap_or_default(),
            r#type: row.kind.unwrap_or_default(),
            licenses: row.licenses.unwrap_or_default(),
            vulnerability_count: row.vuln_count,
            max_severity: worst(row.max_severity),
        }
    }
}

impl From<FoundComponent> for pb::FoundComponent {
    fn from(found: FoundComponent) -> Self {
        let FoundComponent { gateway, workspace, sandbox, component, .. } = found;
        Self { gateway, workspace, sandbox, component: Some(component.into()) }
    }
}

impl TryFrom<VulnerabilityRow> for pb::SbomVulnerability {
    type Error = Error;

    fn try_from(row: VulnerabilityRow) -> Result<Self, Error> {
        let references = serde_json::from_str(&row.references_json).map_err(Error::internal)?;
        Ok(Self {
            id: row.vulnerability,
            severity: pb::SbomSeverity::from(row.severity).into(),
            cvss_score: row.cvss_score,
            description: row.description.unwrap_or_default(),
            affects: row.affects,
            affects_count: row.affects_count,
            references,
            analysis_state: analysis_state(row.state).into(),
            counts: row.counts,
        })
    }
}

fn counts(found: &Difference) -> pb::SbomChangeCounts {
    let Difference { components, vulnerabilities, .. } = found;
    let ChangeCounts { added, removed, changed } = *components;
    pb::SbomChangeCounts {
        components_added: added,
        components_removed: removed,
        components_changed: changed,
        vulnerabilities_added: vulnerabilities.added,
        vulnerabilities_removed: vulnerabilities.removed,
        vulnerabilities_changed: vulnerabilities.changed,
    }
}

impl From<SbomChange> for pb::SbomChange {
    fn from(change: SbomChange) -> Self {
        use pb::sbom_change::Subject;
        let kind = match change.kind() {
            ChangeKind::Added => pb::SbomChangeKind::Added,
            ChangeKind::Removed => pb::SbomChangeKind::Removed,
            ChangeKind::Changed => pb::SbomChangeKind::Changed,
        };
        let subject = match change {
            SbomChange::Vulnerability { id, before, after } => {
                let (severity_before, severity) =
                    (vulnerability_severity(before), vulnerability_severity(after));
                Subject::Vulnerability(pb::SbomVulnerabilityChange {
                    id,
                    severity_before,
                    severity,
                })
            }
            SbomChange::Component { name, group, purl, removed, added, .. } => {
                Subject::Component(pb::SbomComponentChange {
                    name,
                    group: group.unwrap_or_default(),
                    purl: purl.unwrap_or_default(),
                    versions_removed: removed,
                    versions_added: added,
                })
            }
        };
        Self { kind: kind.into(), subject: Some(subject) }
    }
}

impl From<UploadResult> for pb::UploadSbomResponse {
    fn from(uploaded: UploadResult) -> Self {
        let UploadResult { snapshot, replaced, difference, skipped, cut, cut_paths } = uploaded;
        let count = |many: usize| i32::try_from(many).unwrap_or(i32::MAX);
        let counts = Some(counts(&difference));
        let changes_cut = difference.changes.len() > CHANGES_SHOWN_MAX;
        let shown = difference.changes.into_iter().take(CHANGES_SHOWN_MAX);
        Self {
            sbom: Some(snapshot.into()),
            replaced,
            counts,
            changes: shown.map(Into::into).collect(),
            changes_cut,
            entries_skipped: count(skipped),
            texts_cut: count(cut),
            cut_paths,
        }
    }
}

//! `shoreguard sbom upload`: stores the CycloneDX document of a sandbox, with a progress bar.

use std::path::PathBuf;

use bytes::Bytes;
use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use futures_util::future::BoxFuture;
use futures_util::{Stream, stream};
use sha2::{Digest as _, Sha256};

use super::super::connect::{Client, interruptible};
use super::super::globals::Globals;
use super::super::{CliError, input, usage};
use super::answer;
use super::place::SandboxPlace;
use super::progress::Progress;
use super::terminal::{Look, Page};
use crate::app::new_id;
use crate::pb::v1::sbom_service_client::SbomServiceClient;
use crate::pb::v1::{Sbom, SbomChangeCounts, UploadSbomRequest, UploadSbomResponse};
use crate::seal::hex;

/// Maximum size of a document that is read. The server accepts less, and names its limit.
const DOCUMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Size of a message, in bytes.
const CHUNK_BYTES: usize = 64 * 1024;

/// The sandbox and the document.
#[derive(Debug, Args)]
struct UploadArgs {
    /// The sandbox. It need not exist.
    #[arg(value_name = "GATEWAY/[WORKSPACE/]SANDBOX")]
    place: SandboxPlace,
    /// CycloneDX document as JSON; `-` reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Returns the definition.
pub(in crate::cli) fn command() -> Command {
    UploadArgs::augment_args(Command::new("upload"))
        .about("Stores the SBOM of a sandbox, and prints how it differs from the previous one")
}

/// Runs the command.
pub(in crate::cli) fn run(
    matches: ArgMatches,
    globals: Globals,
) -> BoxFuture<'static, Result<(), CliError>> {
    Box::pin(async move {
        let args = UploadArgs::from_arg_matches(&matches).map_err(|error| usage(&error))?;
        let file = args.file.clone();
        let read = input::on_thread(move || input::read_document(&file, DOCUMENT_BYTES_MAX));
        let document = interruptible(read).await??;
        let client = interruptible(Client::connect_renewed(&globals.connect)).await?;
        let upload = upload(&client, &args.place, document.into(), globals.quiet);
        let stored = interruptible(upload).await?;
        let mut page = Page::new();
        describe(&mut page, &args.place, &stored);
        let name = args.place.full_name();
        answer::print(globals.output, "UploadSbomResponse", &stored, &name, &page)
    })
}

async fn upload(
    client: &Client,
    place: &SandboxPlace,
    document: Bytes,
    is_quiet: bool,
) -> Result<UploadSbomResponse, CliError> {
    let first = UploadSbomRequest {
        gateway: place.gateway.clone(),
        workspace: place.workspace.clone(),
        sandbox: place.sandbox.clone(),
        sha256: hex(&Sha256::digest(&document)),
        request_id: new_id().to_string(),
        chunk: Bytes::new(),
    };
    let bar = Progress::bytes(document.len() as u64, is_quiet);
    let of_attempt = || {
        bar.reset();
        messages(first.clone(), document.clone(), bar.clone())
    };
    let stored = client.repeat_upload(of_attempt, |request| {
        let mut sboms = SbomServiceClient::new(client.channel());
        async move { sboms.upload_sbom(request).await }
    });
    let stored = stored.await;
    bar.clear();
    stored
}

/// Returns the messages of an upload. Each moves the bar when it is sent.
fn messages(
    first: UploadSbomRequest,
    document: Bytes,
    bar: Progress,
) -> impl Stream<Item = UploadSbomRequest> + Send + 'static {
    stream::unfold((Some(first), document), move |(first, mut rest)| {
        let bar = bar.clone();
        async move {
            if let Some(first) = first {
                return Some((first, (None, rest)));
            }
            if rest.is_empty() {
                return None;
            }
            let chunk = rest.split_to(rest.len().min(CHUNK_BYTES));
            bar.add(chunk.len());
            Some((UploadSbomRequest { chunk, ..Default::default() }, (None, rest)))
        }
    })
}

fn describe(page: &mut Page, place: &SandboxPlace, stored: &UploadSbomResponse) {
    let (unset_sbom, unset_counts) = (Sbom::default(), SbomChangeCounts::default());
    let sbom = stored.sbom.as_ref().unwrap_or(&unset_sbom);
    let counts = stored.counts.as_ref().unwrap_or(&unset_counts);
    let severity = answer::word(sbom.max_severity().as_str_name(), "SBOM_SEVERITY_");
    let done = if stored.replaced { "replaced" } else { "stored" };
    page.line(
        Look::Plain,
        &format!(
            "{done} the SBOM of {place}: {} components, {} vulnerabilities, highest severity {severity}",
            sbom.component_count, sbom.vulnerability_count
        ),
    );
    for (what, added, removed, changed) in [
        (
            "components",
            counts.components_added,
            counts.components_removed,
            counts.components_changed,
        ),
        (
            "vulnerabilities",
            counts.vulnerabilities_added,
            counts.vulnerabilities_removed,
            counts.vulnerabilities_changed,
        ),
    ] {
        let text = format!("{what}: {added} added, {removed} removed, {changed} changed");
        page.line(Look::Plain, &text);
    }
    if stored.entries_skipped > 0 {
        let text = format!("{} entries without a name were skipped", stored.entries_skipped);
        page.line(Look::Warning, &text);
    }
    if stored.texts_cut > 0 {
        let paths = stored.cut_paths.join(", ");
        page.line(Look::Warning, &format!("{} texts were cut: {paths}", stored.texts_cut));
    }
}

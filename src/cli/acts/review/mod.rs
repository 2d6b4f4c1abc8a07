//! `shoreguard approval review`: goes through what waits for an approval, and casts votes.
//!
//! Invariants
//! - a vote carries the digest that was shown, and a change whose differences are not all shown is not approved;
//! - an approval that was replaced or has changed is shown again, and asked about again;
//! - needs a terminal: a vote is never read from a pipe.

mod show;

use std::collections::HashSet;

use clap::{ArgMatches, Args, Command, FromArgMatches as _};
use futures_util::future::BoxFuture;

use super::super::connect::{Client, interruptible, reason};
use super::super::globals::Globals;
use super::super::{CliError, usage};
use super::answer;
use super::terminal::{self, Look, Page};
use crate::app::new_id;
use crate::pb::v1::approval_service_client::ApprovalServiceClient;
use crate::pb::v1::gateway_service_client::GatewayServiceClient;
use crate::pb::v1::{
    Approval, ApprovalDecision, ApprovalDetail, ApprovalFilter, ApprovalState, GetApprovalRequest,
    ListApprovalDecisionsRequest, ListApprovalsRequest, ListGatewaysRequest, VoteDecision,
    VoteRequest,
};

/// Size of the pages that are read.
const PAGE_SIZE: i32 = 200;
/// Votes of one approval that are shown.
const VOTES_MAX: i32 = 100;

/// Which approvals.
#[derive(Debug, Args)]
struct ReviewArgs {
    /// Only approvals of this gateway.
    #[arg(value_name = "GATEWAY")]
    gateway: Option<String>,
    /// Only approvals of gateways with these labels, such as `env=prod`.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
    /// Also approvals for which your approval would not count.
    #[arg(long)]
    all: bool,
}

/// Returns the definition.
pub(in crate::cli) fn command() -> Command {
    ReviewArgs::augment_args(Command::new("review"))
        .about("Shows each change that waits for you, and asks for your vote; needs a terminal")
}

/// Runs the command.
pub(in crate::cli) fn run(
    matches: ArgMatches,
    globals: Globals,
) -> BoxFuture<'static, Result<(), CliError>> {
    Box::pin(async move {
        let args = ReviewArgs::from_arg_matches(&matches).map_err(|error| usage(&error))?;
        if globals.yes {
            let why = "a review asks for each vote, which `--yes` does not answer: use `approval approve`";
            return Err(CliError::Usage(why.to_owned()));
        }
        if !terminal::is_interactive() {
            let why = "a review needs a terminal; use `approval approve` and `approval reject` in scripts";
            return Err(CliError::Usage(why.to_owned()));
        }
        let mut client = interruptible(Client::connect_renewed(&globals.connect)).await?;
        interruptible(review_all(&mut client, &args)).await
    })
}

/// Whether the review continues with the next approval.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Quit,
}

async fn review_all(client: &mut Client, args: &ReviewArgs) -> Result<(), CliError> {
    let waiting = list(client, args).await?;
    if waiting.is_empty() {
        return say(Look::Plain, "nothing waits for you");
    }
    for (at, approval) in waiting.iter().enumerate() {
        let position = format!("{} of {}", at + 1, waiting.len());
        if review(client, approval.id, &position).await? == Next::Quit {
            break;
        }
    }
    Ok(())
}

/// Returns the approvals that wait.
async fn list(client: &Client, args: &ReviewArgs) -> Result<Vec<Approval>, CliError> {
    let labeled = match &args.selector {
        Some(selector) => Some(labeled_gateways(client, selector).await?),
        None => None,
    };
    let filter = ApprovalFilter {
        gateway: args.gateway.clone().unwrap_or_default(),
        state: ApprovalState::Open.into(),
        awaiting_me: !args.all,
        ..Default::default()
    };
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            ListApprovalsRequest { page_size: PAGE_SIZE, page_token, filter: Some(filter.clone()) };
        let page = client.repeat(&request, |request| {
            let mut approvals = ApprovalServiceClient::new(client.channel());
            async move { approvals.list_approvals(request).await }
        });
        let page = page.await?;
        let is_labeled = |approval: &Approval| {
            labeled.as_ref().is_none_or(|gateways| gateways.contains(&approval.gateway))
        };
        found.extend(page.approvals.into_iter().filter(is_labeled));
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        page_token = page.next_page_token;
    }
}

/// Returns the names of the gateways that a label selector selects.
async fn labeled_gateways(client: &Client, selector: &str) -> Result<HashSet<String>, CliError> {
    let (mut names, mut page_token) = (HashSet::new(), String::new());
    loop {
        let request = ListGatewaysRequest {
            page_size: PAGE_SIZE,
            page_token,
            label_selector: selector.to_owned(),
        };
        let page = client.repeat(&request, |request| {
            let mut gateways = GatewayServiceClient::new(client.channel());
            async move { gateways.list_gateways(request).await }
        });
        let page = page.await?;
        names.extend(page.gateways.into_iter().map(|gateway| gateway.name));
        if page.next_page_token.is_empty() {
            return Ok(names);
        }
        page_token = page.next_page_token;
    }
}

/// Shows an approval, and those that replace it, until it is voted on or skipped.
async fn review(client: &mut Client, mut id: i64, position: &str) -> Result<Next, CliError> {
    loop {
        client.renew_credential().await?;
        let detail = get(client, id).await?;
        let approval = detail.approval.clone().unwrap_or_default();
        if approval.state() != ApprovalState::Open {
            let state = answer::word(approval.state().as_str_name(), "APPROVAL_STATE_");
            if detail.successor_approval_id == 0 {
                say(Look::Warning, &format!("approval {id} is {state} by now"))?;
                return Ok(Next::Continue);
            }
            let successor = detail.successor_approval_id;
            say(
                Look::Warning,
                &format!("approval {id} is {state}: approval {successor} replaces it"),
            )?;
            id = successor;
            continue;
        }
        let votes = list_votes(client, id).await?;
        show::page(&detail, &approval, &votes, position).print()?;
        let refusal = show::cannot_approve(&detail);
        let vote = match ask_vote(&approval, refusal.as_deref()).await? {
            Answer::Vote(vote) => vote,
            Answer::Skip => return Ok(Next::Continue),
            Answer::Quit => return Ok(Next::Quit),
        };
        // The reviewer may have thought for longer than a session token is valid.
        client.renew_credential().await?;
        if let Some(next) = cast(client, &vote).await? {
            return Ok(next);
        }
    }
}

/// Returns an approval.
pub(super) async fn get(client: &Client, approval_id: i64) -> Result<ApprovalDetail, CliError> {
    let request = GetApprovalRequest { approval_id };
    let found = client.repeat(&request, |request| {
        let mut approvals = ApprovalServiceClient::new(client.channel());
        async move { approvals.get_approval(request).await }
    });
    let detail = found.await?.approval_detail;
    detail.ok_or_else(|| CliError::Io("the answer has no approval".to_owned()))
}

/// Returns the votes that count.
async fn list_votes(client: &Client, approval_id: i64) -> Result<Vec<ApprovalDecision>, CliError> {
    let request = ListApprovalDecisionsRequest {
        approval_id,
        page_size: VOTES_MAX,
        page_token: String::new(),
    };
    let listed = client.repeat(&request, |request| {
        let mut approvals = ApprovalServiceClient::new(client.channel());
        async move { approvals.list_approval_decisions(request).await }
    });
    let mut votes = listed.await?.approval_decisions;
    votes.retain(|vote| vote.clear_time.is_none());
    Ok(votes)
}

/// Answer of a reviewer.
enum Answer {
    Vote(VoteRequest),
    Skip,
    Quit,
}

/// Asks for a vote on what was shown. `refusal` says why it cannot be an approval.
async fn ask_vote(shown: &Approval, refusal: Option<&str>) -> Result<Answer, CliError> {
    loop {
        let question = "[a]pprove, [r]eject, [s]kip or [q]uit?";
        let Some(said) = terminal::ask(question).await? else { return Ok(Answer::Quit) };
        let (decision, comment) = match said.to_lowercase().as_str() {
            "a" | "approve" => {
                if let Some(why) = refusal {
                    say(Look::Warning, why)?;
                    continue;
                }
                (VoteDecision::Approve, String::new())
            }
            "r" | "reject" => {
                let Some(why) = terminal::ask("Why? (empty: no vote)").await? else {
                    return Ok(Answer::Quit);
                };
                if why.is_empty() {
                    continue;
                }
                (VoteDecision::Reject, why)
            }
            "s" | "skip" => return Ok(Answer::Skip),
            "q" | "quit" => return Ok(Answer::Quit),
            _ => continue,
        };
        return Ok(Answer::Vote(VoteRequest {
            approval_id: shown.id,
            digest: shown.digest.clone(),
            decision: decision.into(),
            comment,
            request_id: new_id().to_string(),
            grant_duration: None,
        }));
    }
}

/// Casts a vote. Returns `None` if the approval has changed and must be shown again.
async fn cast(client: &Client, vote: &VoteRequest) -> Result<Option<Next>, CliError> {
    let sent = client.repeat(vote, |request| {
        let mut approvals = ApprovalServiceClient::new(client.channel());
        async move { approvals.vote(request).await }
    });
    let status = match sent.await {
        Ok(answer) => {
            let approval = answer.approval.unwrap_or_default();
            say(Look::Plain, &show::state_after_vote(&approval))?;
            return Ok(Some(Next::Continue));
        }
        Err(CliError::Call(status)) => status,
        Err(error) => return Err(error),
    };
    match reason(&status).as_str() {
        "REVIEW_STALE" | "ROUND_CLOSED" => {
            say(Look::Warning, "the approval has changed meanwhile, and your vote was not cast")?;
            Ok(None)
        }
        "NOT_A_VOTER" | "OWN_CHANGE" | "POLICY_PINNED" | "GOVERNED" | "LIMIT_REACHED"
        | "INVALID_FIELD" => {
            say(Look::Warning, &format!("your vote was not cast: {}", status.message()))?;
            Ok(Some(Next::Continue))
        }
        _ => Err(CliError::Call(status)),
    }
}

fn say(look: Look, text: &str) -> Result<(), CliError> {
    let mut page = Page::new();
    page.line(look, text);
    page.print()
}

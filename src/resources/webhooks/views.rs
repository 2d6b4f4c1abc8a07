//! Webhooks as readers see them: without their secrets, and marked if they cannot be read.
//!
//! Invariant: a webhook that cannot be read hides no other one, and can be deleted.

use tracing::warn;

use super::email_settings::EmailSettings;
use super::sealed::{self, Target};
use super::store::{Stored, Webhook};
use crate::ctx::Ctx;
use crate::db::types::WebhookId;
use crate::error::{Error, Reason};

/// A webhook as readers see it, without secrets.
#[derive(Debug, Clone)]
pub struct View {
    /// The row.
    pub webhook: Webhook,
    /// URL, without its secret part. Empty if it cannot be opened.
    pub url: String,
    /// Settings of mails, without the password.
    pub email: Option<EmailSettings>,
    /// Whether a sealed value of the row cannot be opened. Then nothing is sent.
    pub is_unreadable: bool,
}

/// A webhook that may be unreadable.
#[derive(Debug, Clone)]
pub enum Found {
    /// Its row can be read.
    Shown(Box<View>),
    /// Its row has a value that this version does not know.
    Unreadable(WebhookId),
}

/// Returns the view of a row.
pub(super) fn view(ctx: &Ctx, webhook: Webhook) -> View {
    let target = match sealed::open_all(ctx.app(), &webhook) {
        Ok(target) => target,
        Err(error) => {
            log(webhook.id, &error);
            return View { webhook, url: String::new(), email: None, is_unreadable: true };
        }
    };
    let url = target.shown_url();
    let email = match target {
        Target::Http(..) => None,
        Target::Email(settings) => Some(EmailSettings { smtp_pass: String::new(), ..settings }),
    };
    View { webhook, url, email, is_unreadable: false }
}

/// Returns the view of a stored webhook.
pub(super) fn found(ctx: &Ctx, stored: Stored) -> Found {
    match stored {
        Stored::Readable(webhook) => Found::Shown(Box::new(view(ctx, *webhook))),
        Stored::Unreadable(id) => Found::Unreadable(id),
    }
}

/// Returns the error for a change of a webhook that cannot be read.
pub(super) fn unreadable(id: WebhookId) -> Error {
    let why = format!("webhook `{id}` cannot be read: delete it, and create it again");
    Error::refused(Reason::WebhookUnreadable, why)
}

/// Returns the error for a change of a webhook of which a sealed value cannot be opened, and logs why.
pub(super) fn not_opened(id: WebhookId, error: &Error) -> Error {
    log(id, error);
    unreadable(id)
}

fn log(id: WebhookId, error: &Error) {
    let error = error as &dyn std::error::Error;
    warn!(webhook = id.get(), error, "a sealed value of a webhook cannot be opened");
}

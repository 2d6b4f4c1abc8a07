//! A webhook with its secrets in memory, ready to send messages.
//!
//! Invariant: an attempt ends within 15 seconds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::connection::Turn;
use super::post::{ATTEMPT_TIME, Receiver};
use super::sign;
use crate::app::App;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::resources::webhooks::channels::{
    self, Channel, Outcome, Rendered, Smtp, Verdict, email, generic,
};
use crate::resources::webhooks::input::effective_rate;
use crate::resources::webhooks::outbound::Outbound;
use crate::resources::webhooks::sealed::{self, SecretColumn, SigningSecret, Target};
use crate::resources::webhooks::store::Webhook;

/// A webhook that can send messages.
pub(in crate::resources::webhooks) struct Recipient {
    app: Arc<App>,
    /// Version of the row.
    pub(super) version: i64,
    /// Maximum number of messages that are sent at once.
    pub(super) max_in_flight: usize,
    /// Maximum number of messages per second; `None` means no limit.
    pub(super) rate_per_second: Option<i32>,
    route: Route,
}

enum Route {
    Http { channel: Channel, receiver: Box<Receiver>, secrets: Box<Secrets> },
    Email(Smtp),
}

/// The secrets that sign messages.
struct Secrets {
    present: Option<SigningSecret>,
    /// The previous one, with its expiry.
    before: Option<(SigningSecret, Timestamp)>,
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient").field("version", &self.version).finish_non_exhaustive()
    }
}

/// One attempt that has ended.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When it began, by the database's clock.
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Its result.
    pub outcome: Outcome,
}

impl Recipient {
    /// Opens the secrets of a webhook.
    pub(in crate::resources::webhooks) fn open(
        app: &Arc<App>,
        webhook: &Webhook,
    ) -> Result<Self, Error> {
        let target = sealed::open_target(app, webhook)?;
        let secret = |column| sealed::open_secret(app, column, webhook, &target);
        let secrets = Secrets {
            present: secret(SecretColumn::Present)?,
            before: secret(SecretColumn::Before)?.zip(webhook.secret_before_until),
        };
        let route = match target {
            Target::Email(settings) => Route::Email(settings.to_smtp()),
            Target::Http(channel, url) => {
                let secret_url = matches!(channel, Channel::Slack | Channel::Discord);
                let outbound = app.part::<Outbound>().clone();
                let receiver = Receiver::new(outbound, url, secret_url)?;
                let (receiver, secrets) = (Box::new(receiver), Box::new(secrets));
                Route::Http { channel, receiver, secrets }
            }
        };
        Ok(Self {
            app: Arc::clone(app),
            version: webhook.version,
            max_in_flight: usize::try_from(webhook.max_in_flight).unwrap_or(1).max(1),
            rate_per_second: effective_rate(webhook.channel_type, webhook.rate_per_second),
            route,
        })
    }

    /// Returns a turn with a kept connection. `None` if there is no such connection: a new one requires a slot.
    pub(super) fn take_kept(&self) -> Option<Turn> {
        match &self.route {
            Route::Http { receiver, .. } => receiver.take_kept(),
            Route::Email(_) => None,
        }
    }

    /// Sends a message once. `payload` is its stored form. `ahead_us` is by how much the database's clock is ahead of
    /// this replica's: receivers refuse messages whose time is wrong, and secrets expire by the database's clock.
    pub(super) async fn attempt(
        &self,
        turn: Turn,
        id: &str,
        payload: String,
        ahead_us: i64,
    ) -> Attempt {
        let now = self.app.clock.now().unix_micros();
        let started_at = Timestamp::from_unix_micros(now.saturating_add(ahead_us));
        let begun = Instant::now();
        let sending = Box::pin(self.send(turn, id, payload, started_at));
        let sent = self.app.clock.timeout(ATTEMPT_TIME, sending).await;
        let outcome = match sent {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a message is not sent");
                Outcome::not_delivered(Verdict::Failed, None, "the message cannot be rendered")
            }
            None => {
                let why = format!("no complete response within {} s", ATTEMPT_TIME.as_secs());
                Outcome::not_delivered(Verdict::Retry, None, why)
            }
        };
        Attempt { started_at, took: begun.elapsed(), outcome }
    }

    async fn send(
        &self,
        turn: Turn,
        id: &str,
        payload: String,
        now: Timestamp,
    ) -> Result<Outcome, Error> {
        match &self.route {
            Route::Email(smtp) => {
                let message = generic::parse(id.to_owned(), &payload)?;
                Ok(email::send(self.app.part::<Outbound>(), &turn.slot, smtp, &message).await)
            }
            Route::Http { channel, receiver, secrets } => {
                let rendered = render(*channel, id, payload)?;
                let secrets = secrets.live(now);
                let headers = sign::headers(&secrets, id, now.unix_seconds(), &rendered.bytes)?;
                Ok(receiver.post(turn, &headers, rendered, now).await)
            }
        }
    }
}

/// Renders a stored message. The stored form itself is the body of channel generic, so that its bytes never change.
fn render(channel: Channel, id: &str, payload: String) -> Result<Rendered, Error> {
    match channel {
        Channel::Generic => {
            Ok(Rendered { content_type: "application/json", bytes: payload.into_bytes() })
        }
        Channel::Slack | Channel::Discord | Channel::Email => {
            Ok(channels::body(channel, &generic::parse(id.to_owned(), &payload)?))
        }
    }
}

impl Secrets {
    /// Returns the secrets that are valid now, the newest first.
    fn live(&self, now: Timestamp) -> Vec<SigningSecret> {
        let before = self.before.as_ref().filter(|(_, until)| now < *until);
        self.present.iter().chain(before.map(|(secret, _)| secret)).cloned().collect()
    }
}

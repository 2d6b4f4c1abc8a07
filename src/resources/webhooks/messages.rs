//! Translates messages of `WebhookService`.

use super::channels::{Channel, SmtpTls, Verdict};
use super::deliveries::redelivery::Redelivered;
use super::deliveries::store::{Delivery, PastAttempt};
use super::deliveries::{DeliveryStatus, last_attempt};
use super::delivery::recipient::Attempt;
use super::domain::{NewWebhook, WebhookUpdate};
use super::email_settings::EmailSettings;
use super::target_change::TargetChange;
use super::views::{Found, View};
use super::{input, subscriptions};
use crate::clock::Timestamp;
use crate::error::Error;
use crate::etag;
use crate::pb::v1 as pb;
use crate::rpc::wire;

/// Maximum length of the name of a gateway, in characters.
const GATEWAY_CHARS_MAX: usize = 253;

pub(super) fn parse_channel(wire: i32) -> Result<Option<Channel>, Error> {
    match pb::WebhookChannel::try_from(wire) {
        Ok(pb::WebhookChannel::Unspecified) => Ok(None),
        Ok(pb::WebhookChannel::Generic) => Ok(Some(Channel::Generic)),
        Ok(pb::WebhookChannel::Slack) => Ok(Some(Channel::Slack)),
        Ok(pb::WebhookChannel::Discord) => Ok(Some(Channel::Discord)),
        Ok(pb::WebhookChannel::Email) => Ok(Some(Channel::Email)),
        Err(_) => Err(Error::invalid("channel", "must be generic, slack, discord or email")),
    }
}

pub(super) fn parse_status(wire: i32) -> Result<Option<DeliveryStatus>, Error> {
    match pb::WebhookDeliveryStatus::try_from(wire) {
        Ok(pb::WebhookDeliveryStatus::Unspecified) => Ok(None),
        Ok(pb::WebhookDeliveryStatus::Pending) => Ok(Some(DeliveryStatus::Pending)),
        Ok(pb::WebhookDeliveryStatus::Success) => Ok(Some(DeliveryStatus::Success)),
        Ok(pb::WebhookDeliveryStatus::Failed) => Ok(Some(DeliveryStatus::Failed)),
        Err(_) => Err(Error::invalid("status", "must be pending, success or failed")),
    }
}

/// Reads settings of mails. They are checked together with the URL.
fn email(email: pb::WebhookEmailSettings) -> Result<EmailSettings, Error> {
    let tls = match pb::SmtpTlsMode::try_from(email.tls) {
        Ok(pb::SmtpTlsMode::Unspecified | pb::SmtpTlsMode::Starttls) => SmtpTls::Starttls,
        Ok(pb::SmtpTlsMode::Implicit) => SmtpTls::Implicit,
        Err(_) => return Err(Error::invalid("email.tls", "must be starttls or implicit")),
    };
    let smtp_port = u16::try_from(email.smtp_port)
        .map_err(|_| Error::invalid("email.smtp_port", "must be 0 to 65535"))?;
    Ok(EmailSettings {
        smtp_host: email.smtp_host,
        smtp_port,
        tls: tls.as_str().to_owned(),
        smtp_user: email.smtp_user,
        smtp_pass: email.smtp_pass,
        from_addr: email.from_addr,
        to_addrs: email.to_addrs,
    })
}

fn gateways(names: Vec<String>) -> Result<Vec<String>, Error> {
    if names.len() > input::GATEWAYS_MAX {
        let why = format!("must have at most {} names, got {}", input::GATEWAYS_MAX, names.len());
        return Err(Error::invalid("gateways", why));
    }
    let fits = |name: &String| (1..=GATEWAY_CHARS_MAX).contains(&name.chars().count());
    if !names.iter().all(fits) {
        let why = format!("must each have 1 to {GATEWAY_CHARS_MAX} characters");
        return Err(Error::invalid("gateways", why));
    }
    let mut names = names;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

impl TryFrom<pb::CreateWebhookRequest> for NewWebhook {
    type Error = Error;

    fn try_from(req: pb::CreateWebhookRequest) -> Result<Self, Error> {
        let target = TargetChange {
            url: Some(req.url),
            channel: parse_channel(req.channel)?,
            email: req.email.map(email).transpose()?,
        };
        Ok(Self {
            target: target.into_target()?,
            description: input::description(req.description)?,
            event_types: subscriptions::parse("event_types", req.event_types)?,
            gateways: gateways(req.gateways)?,
            active: req.active.unwrap_or(true),
            max_in_flight: input::max_in_flight(req.max_in_flight)?,
            rate_per_second: input::rate_per_second(req.rate_per_second)?,
        })
    }
}

impl TryFrom<pb::UpdateWebhookRequest> for WebhookUpdate {
    type Error = Error;

    fn try_from(mut req: pb::UpdateWebhookRequest) -> Result<Self, Error> {
        let paths = wire::mask_paths(req.update_mask.take())?;
        let mut change = Self::default();
        for path in &paths {
            match path.as_str() {
                "url" => change.target.url = Some(std::mem::take(&mut req.url)),
                "channel" => {
                    let unset = || Error::invalid("channel", "is required if it is changed");
                    change.target.channel = Some(parse_channel(req.channel)?.ok_or_else(unset)?);
                }
                "email" => {
                    let given = req.email.take().unwrap_or_default();
                    change.target.email = Some(email(given)?);
                }
                "description" => {
                    let text = std::mem::take(&mut req.description);
                    change.description = Some(input::description(text)?);
                }
                "event_types" => {
                    let entries = std::mem::take(&mut req.event_types);
                    change.event_types = Some(subscriptions::parse("event_types", entries)?);
                }
                "gateways" => {
                    change.gateways = Some(gateways(std::mem::take(&mut req.gateways))?);
                }
                "active" => change.active = Some(req.active),
                "max_in_flight" => {
                    change.max_in_flight = Some(input::max_in_flight(req.max_in_flight)?);
                }
                "rate_per_second" => {
                    change.rate_per_second = Some(input::rate_per_second(req.rate_per_second)?);
                }
                other => return Err(wire::unchangeable_path(other)),
            }
        }
        change.fields = paths;
        Ok(change)
    }
}

impl From<Channel> for pb::WebhookChannel {
    fn from(channel: Channel) -> Self {
        match channel {
            Channel::Generic => Self::Generic,
            Channel::Slack => Self::Slack,
            Channel::Discord => Self::Discord,
            Channel::Email => Self::Email,
        }
    }
}

impl From<DeliveryStatus> for pb::WebhookDeliveryStatus {
    fn from(status: DeliveryStatus) -> Self {
        match status {
            DeliveryStatus::Pending => Self::Pending,
            DeliveryStatus::Success => Self::Success,
            DeliveryStatus::Failed => Self::Failed,
        }
    }
}

impl From<EmailSettings> for pb::WebhookEmail {
    fn from(settings: EmailSettings) -> Self {
        let tls = match SmtpTls::from_word(&settings.tls) {
            Some(SmtpTls::Implicit) => pb::SmtpTlsMode::Implicit,
            Some(SmtpTls::Starttls) | None => pb::SmtpTlsMode::Starttls,
        };
        Self {
            smtp_host: settings.smtp_host,
            smtp_port: i32::from(settings.smtp_port),
            tls: tls.into(),
            smtp_user: settings.smtp_user,
            from_addr: settings.from_addr,
            to_addrs: settings.to_addrs,
        }
    }
}

impl From<View> for pb::Webhook {
    fn from(view: View) -> Self {
        let webhook = view.webhook;
        let rate = input::effective_rate(webhook.channel_type, webhook.rate_per_second);
        Self {
            id: webhook.id.get(),
            url: view.url,
            channel: pb::WebhookChannel::from(webhook.channel_type).into(),
            description: webhook.description,
            event_types: webhook.event_types.0,
            gateways: webhook.gateways_json.0,
            active: webhook.is_active,
            email: view.email.map(Into::into),
            max_in_flight: webhook.max_in_flight,
            rate_per_second: rate.unwrap_or_default(),
            created_by: webhook.created_by,
            create_time: Some(wire::to_timestamp(webhook.created_at)),
            update_time: Some(wire::to_timestamp(webhook.updated_at)),
            failing_since_time: webhook.failing_since.map(wire::to_timestamp),
            failures: webhook.failures,
            disable_time: webhook.disabled_at.map(wire::to_timestamp),
            disabled_reason: webhook.disabled_reason.unwrap_or_default(),
            stopped_sequence: webhook.stopped_sequence.unwrap_or_default(),
            previous_secret_expire_time: webhook.secret_before_until.map(wire::to_timestamp),
            etag: etag::from_version(webhook.version),
            unreadable: view.is_unreadable,
        }
    }
}

impl From<Found> for pb::Webhook {
    fn from(found: Found) -> Self {
        match found {
            Found::Shown(view) => (*view).into(),
            Found::Unreadable(id) => Self { id: id.get(), unreadable: true, ..Self::default() },
        }
    }
}

impl From<PastAttempt> for pb::WebhookAttempt {
    fn from(attempt: PastAttempt) -> Self {
        Self {
            start_time: Some(wire::to_timestamp(Timestamp::from_unix_micros(attempt.at_us))),
            duration: Some(wire::to_duration(i64::from(attempt.duration_ms) * 1_000)),
            response_code: attempt.code.unwrap_or_default(),
            error: attempt.error.unwrap_or_default(),
            response_snippet: attempt.snippet.unwrap_or_default(),
        }
    }
}

impl From<Delivery> for pb::WebhookDelivery {
    fn from(row: Delivery) -> Self {
        let last = last_attempt(&row);
        Self {
            id: row.id.get(),
            webhook_id: row.webhook_id.get(),
            message_id: row.message_id,
            event_type: row.event_type,
            event_sequence: row.event_sequence,
            status: pb::WebhookDeliveryStatus::from(row.status).into(),
            attempt: row.attempt,
            create_time: Some(wire::to_timestamp(row.created_at)),
            next_attempt_time: row.next_attempt_at.map(wire::to_timestamp),
            delivered_time: row.delivered_at.map(wire::to_timestamp),
            last_attempt: last.map(Into::into),
            earlier_attempts: row.attempts_json.0.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Redelivered> for pb::RedeliverWebhookResponse {
    fn from(again: Redelivered) -> Self {
        Self {
            redelivered: i64::try_from(again.count).unwrap_or(i64::MAX),
            more: again.next_after.is_some(),
            next_after_delivery_id: again.next_after.unwrap_or_default(),
        }
    }
}

impl From<Attempt> for pb::TestWebhookResponse {
    fn from(attempt: Attempt) -> Self {
        let outcome = attempt.outcome;
        let micros = i64::try_from(attempt.took.as_micros()).unwrap_or(i64::MAX);
        Self {
            delivered: outcome.verdict == Verdict::Delivered,
            attempt: Some(pb::WebhookAttempt {
                start_time: Some(wire::to_timestamp(attempt.started_at)),
                duration: Some(wire::to_duration(micros)),
                response_code: outcome.code.map_or(0, i32::from),
                error: outcome.error.unwrap_or_default(),
                response_snippet: outcome.snippet.unwrap_or_default(),
            }),
        }
    }
}

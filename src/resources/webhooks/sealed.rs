//! The secrets of webhooks at rest: sealed, bound to their webhook and destination (T04, T18).
//!
//! The settings of mails are one sealed value, so a password cannot be separated from its server. A signing secret is
//! bound to channel and URL: a database in which the URL was replaced opens no secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::channels::Channel;
use super::email_settings::EmailSettings;
use super::input::ReceiverUrl;
use super::store::Webhook;
use crate::app::App;
use crate::error::Error;
use crate::seal::{Aad, fill_random, hex, join_parts};
use crate::secret::Secret;

/// Random bytes of a signing secret.
const SECRET_BYTES: usize = 32;
/// Prefix of a secret in the form of Standard Webhooks.
const PREFIX: &str = "whsec_";

/// Where messages are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A receiver by HTTP.
    Http(Channel, ReceiverUrl),
    /// A mail server.
    Email(EmailSettings),
}

impl Target {
    /// Returns the channel.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match self {
            Self::Http(channel, _) => *channel,
            Self::Email(_) => Channel::Email,
        }
    }

    /// Returns the host, without brackets, and whether TLS is used.
    #[must_use]
    pub fn host(&self) -> (&str, bool) {
        match self {
            Self::Http(_, url) => (&url.host, url.secure),
            Self::Email(settings) => (&settings.smtp_host, true),
        }
    }

    /// Returns the URL as it is stored.
    fn url(&self) -> String {
        match self {
            Self::Http(_, url) => url.text().to_owned(),
            Self::Email(settings) => settings.url(),
        }
    }

    /// Returns the URL as readers see it: URLs of slack and discord are secrets.
    #[must_use]
    pub fn shown_url(&self) -> String {
        match self {
            Self::Http(Channel::Slack | Channel::Discord, url) => url.origin(),
            Self::Http(Channel::Generic | Channel::Email, _) | Self::Email(_) => self.url(),
        }
    }

    /// Whether the URL is a secret.
    #[must_use]
    pub fn has_secret_url(&self) -> bool {
        matches!(self.channel(), Channel::Slack | Channel::Discord)
    }

    /// Whether messages are signed.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        matches!(self, Self::Http(..))
    }

    /// Returns whether a signing secret for the other target is valid for this one: T04, a secret is bound to its
    /// destination.
    #[must_use]
    pub fn has_destination_of(&self, other: &Self) -> bool {
        self.channel() == other.channel() && self.url() == other.url()
    }

    /// Returns the destination that signing secrets are bound to.
    fn destination(&self) -> String {
        hex(&join_parts(&[self.channel().as_str().as_bytes(), self.url().as_bytes()]))
    }
}

/// A new signing secret, in both spellings. Shown once.
#[derive(Debug, Clone)]
pub struct SigningSecret(Secret);

impl SigningSecret {
    /// Generates a secret.
    ///
    /// # Errors
    /// `Internal` if the system has no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = [0; SECRET_BYTES];
        fill_random(&mut bytes)?;
        Ok(Self(Secret::new(hex(&bytes))))
    }

    /// Returns 64 hexadecimal digits. Their ASCII characters are the key of the HMAC.
    #[must_use]
    pub fn legacy(&self) -> &str {
        self.0.expose()
    }

    /// Returns the form of Standard Webhooks.
    #[must_use]
    pub fn standard(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(self.legacy()))
    }
}

/// A column with a signing secret.
#[derive(Debug, Clone, Copy)]
pub(super) enum SecretColumn {
    /// The present one.
    Present,
    /// The previous one.
    Before,
}

impl SecretColumn {
    fn name(self) -> &'static str {
        match self {
            Self::Present => "secret",
            Self::Before => "secret_before",
        }
    }
}

fn aad<'a>(column: &'a str, row: &'a str, destination: &'a str) -> Aad<'a> {
    Aad { table: "webhooks", column, row, destination }
}

/// Seals the target into a webhook.
pub(super) fn seal_target(app: &App, webhook: &mut Webhook, target: &Target) -> Result<(), Error> {
    let (uid, channel) = (&webhook.uid, target.channel().as_str());
    let url = app.master.seal(&aad("url", uid, channel), target.url().as_bytes())?;
    let extra_config = match target {
        Target::Http(..) => None,
        Target::Email(settings) => {
            let json = serde_json::to_vec(settings).map_err(Error::internal)?;
            Some(app.master.seal(&aad("extra_config", uid, channel), &json)?)
        }
    };
    webhook.channel_type = target.channel();
    webhook.url = url;
    webhook.extra_config = extra_config;
    Ok(())
}

/// Opens the target of a webhook.
pub(super) fn open_target(app: &App, webhook: &Webhook) -> Result<Target, Error> {
    let (uid, channel) = (&webhook.uid, webhook.channel_type.as_str());
    if webhook.channel_type == Channel::Email {
        let missing = || Error::internal("a webhook for mails has no settings");
        let sealed = webhook.extra_config.as_ref().ok_or_else(missing)?;
        let json = app.master.open(&aad("extra_config", uid, channel), sealed)?;
        return Ok(Target::Email(serde_json::from_slice(&json).map_err(Error::internal)?));
    }
    let url = app.master.open(&aad("url", uid, channel), &webhook.url)?;
    let url = std::str::from_utf8(&url).map_err(Error::internal)?;
    Ok(Target::Http(webhook.channel_type, ReceiverUrl::parse("url", url)?))
}

/// Opens all sealed values of a webhook. Returns its target.
pub(super) fn open_all(app: &App, webhook: &Webhook) -> Result<Target, Error> {
    let target = open_target(app, webhook)?;
    for column in [SecretColumn::Present, SecretColumn::Before] {
        open_secret(app, column, webhook, &target)?;
    }
    Ok(target)
}

/// Seals a signing secret for a webhook and its target.
pub(super) fn seal_secret(
    app: &App,
    column: SecretColumn,
    uid: &str,
    target: &Target,
    secret: &SigningSecret,
) -> Result<Vec<u8>, Error> {
    let destination = target.destination();
    app.master.seal(&aad(column.name(), uid, &destination), secret.legacy().as_bytes())
}

/// Opens a signing secret of a webhook.
pub(super) fn open_secret(
    app: &App,
    column: SecretColumn,
    webhook: &Webhook,
    target: &Target,
) -> Result<Option<SigningSecret>, Error> {
    let sealed = match column {
        SecretColumn::Present => &webhook.secret,
        SecretColumn::Before => &webhook.secret_before,
    };
    let Some(sealed) = sealed else { return Ok(None) };
    let destination = target.destination();
    let bytes = app.master.open(&aad(column.name(), &webhook.uid, &destination), sealed)?;
    let text = std::str::from_utf8(&bytes).map_err(Error::internal)?;
    Ok(Some(SigningSecret(Secret::new(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_secret_has_both_documented_forms() {
        let secret = SigningSecret::generate().unwrap();
        assert_eq!(secret.legacy().len(), 64);
        let standard = secret.standard();
        let decoded = STANDARD.decode(standard.strip_prefix(PREFIX).unwrap()).unwrap();
        assert_eq!(decoded, secret.legacy().as_bytes());
        assert_eq!(format!("{secret:?}"), "SigningSecret(Secret(..))");
    }

    #[test]
    fn t04_another_channel_or_url_is_another_destination() {
        let url = |text| ReceiverUrl::parse("url", text).unwrap();
        let target = Target::Http(Channel::Generic, url("https://a.example/x"));
        assert!(target.has_destination_of(&target.clone()));
        for other in [
            Target::Http(Channel::Slack, url("https://a.example/x")),
            Target::Http(Channel::Generic, url("https://a.example/y")),
            Target::Http(Channel::Generic, url("http://a.example/x")),
        ] {
            assert!(!target.has_destination_of(&other), "{other:?}");
            assert_ne!(target.destination(), other.destination());
        }
    }

    #[test]
    fn e15_urls_of_slack_and_discord_are_shown_without_their_path() {
        let url = ReceiverUrl::parse("url", "https://hooks.slack.com/services/T/B/x?y").unwrap();
        for channel in [Channel::Slack, Channel::Discord] {
            let shown = Target::Http(channel, url.clone()).shown_url();
            assert_eq!(shown, "https://hooks.slack.com");
        }
    }
}

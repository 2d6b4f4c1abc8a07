//! How an update changes the target of a webhook, and which secrets it drops (T04). Pure.

use std::fmt;

use super::channels::Channel;
use super::email_settings::EmailSettings;
use super::input::ReceiverUrl;
use super::sealed::Target;
use crate::error::Error;

/// The parts of a target that an update gives. `None` leaves the part unchanged.
#[derive(Clone, Default)]
pub struct TargetChange {
    /// New URL.
    pub url: Option<String>,
    /// New channel.
    pub channel: Option<Channel>,
    /// New settings of mails, not yet checked.
    pub email: Option<EmailSettings>,
}

// Without the URL, which may be a secret.
impl fmt::Debug for TargetChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetChange").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl TargetChange {
    /// Whether a part is given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.url.is_some() || self.channel.is_some() || self.email.is_some()
    }

    /// Returns the target of a new webhook.
    ///
    /// # Errors
    /// `Invalid` with the field.
    pub fn into_target(self) -> Result<Target, Error> {
        let url = self.url.unwrap_or_default();
        match self.channel.unwrap_or(Channel::Generic) {
            Channel::Email => {
                let settings = self.email.ok_or_else(missing_settings)?.parse(&url)?;
                settings.check_login()?;
                Ok(Target::Email(settings))
            }
            channel @ (Channel::Generic | Channel::Slack | Channel::Discord) => {
                if self.email.is_some() {
                    return Err(unwanted_settings());
                }
                Ok(Target::Http(channel, ReceiverUrl::parse("url", &url)?))
            }
        }
    }

    /// Returns the changed target. The password of mails is taken from `before` only if its destination is the same.
    ///
    /// # Errors
    /// `Invalid` with the field.
    pub fn apply(self, before: &Target) -> Result<Target, Error> {
        if !self.is_given() {
            return Ok(before.clone());
        }
        match (self.channel.unwrap_or(before.channel()), before) {
            (Channel::Email, Target::Email(before)) => {
                let given = self.email.unwrap_or_else(|| EmailSettings {
                    // A new URL names another server.
                    smtp_host: host_unless(self.url.is_some(), before),
                    smtp_port: if self.url.is_some() { 0 } else { before.smtp_port },
                    smtp_pass: String::new(),
                    ..before.clone()
                });
                let mut settings = given.parse(&self.url.unwrap_or_default())?;
                if settings.smtp_pass.is_empty() && settings.has_destination_of(before) {
                    settings.smtp_pass.clone_from(&before.smtp_pass);
                }
                settings.check_login()?;
                Ok(Target::Email(settings))
            }
            (channel @ Channel::Email, Target::Http(..)) => {
                Self { channel: Some(channel), ..self }.into_target()
            }
            (channel, before @ Target::Http(_, url)) => {
                if self.email.is_some() {
                    return Err(unwanted_settings());
                }
                let url = match self.url {
                    Some(url) => ReceiverUrl::parse("url", &url)?,
                    // T04: the URL itself is a secret, which reads of another channel would show.
                    None if before.has_secret_url() && channel != before.channel() => {
                        return Err(missing_url());
                    }
                    None => url.clone(),
                };
                Ok(Target::Http(channel, url))
            }
            (channel, Target::Email(_)) => Self { channel: Some(channel), ..self }.into_target(),
        }
    }
}

fn host_unless(is_new: bool, before: &EmailSettings) -> String {
    if is_new { String::new() } else { before.smtp_host.clone() }
}

fn missing_url() -> Error {
    let why = "is required if the channel was slack or discord: their URLs are secrets";
    Error::invalid("url", why)
}

fn missing_settings() -> Error {
    Error::invalid("email", "is required for channel email")
}

fn unwanted_settings() -> Error {
    Error::invalid("email", "must be unset unless the channel is email")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> EmailSettings {
        EmailSettings {
            smtp_host: "mail.example.com".to_owned(),
            smtp_port: 587,
            tls: "starttls".to_owned(),
            smtp_user: "kim".to_owned(),
            smtp_pass: "hunter2".to_owned(),
            from_addr: "a@example.com".to_owned(),
            to_addrs: vec!["b@example.com".to_owned()],
        }
    }

    fn with_email(email: EmailSettings) -> TargetChange {
        TargetChange { email: Some(email), ..TargetChange::default() }
    }

    #[test]
    fn t04_the_password_of_a_mail_server_is_kept_only_for_the_same_server_and_user() {
        let before = Target::Email(settings());
        let without = || EmailSettings { smtp_pass: String::new(), ..settings() };
        let more = EmailSettings { to_addrs: vec!["c@example.com".to_owned()], ..without() };
        let Target::Email(kept) = with_email(more).apply(&before).unwrap() else { panic!() };
        assert_eq!(kept.smtp_pass, "hunter2");
        for moved in [
            EmailSettings { smtp_host: "other.example.com".to_owned(), ..without() },
            EmailSettings { smtp_port: 588, ..without() },
            EmailSettings { tls: "implicit".to_owned(), ..without() },
            EmailSettings { smtp_user: "mallory".to_owned(), ..without() },
        ] {
            let refused = with_email(moved.clone()).apply(&before).unwrap_err().to_string();
            assert!(refused.contains("email.smtp_pass"), "{refused}");
            let again = EmailSettings { smtp_pass: "again".to_owned(), ..moved };
            with_email(again).apply(&before).unwrap();
        }
        let by_url = TargetChange {
            url: Some("smtp://other.example.com:587".to_owned()),
            ..TargetChange::default()
        };
        assert!(by_url.apply(&before).is_err());
        let without_login =
            EmailSettings { smtp_user: String::new(), smtp_pass: String::new(), ..settings() };
        let Target::Email(dropped) = with_email(without_login).apply(&before).unwrap() else {
            panic!()
        };
        assert_eq!(dropped.smtp_pass, "");
    }

    #[test]
    fn t04_a_secret_url_is_not_carried_over_to_another_channel() {
        let to = |channel| TargetChange { channel: Some(channel), ..TargetChange::default() };
        let url = "https://hooks.example/services/token";
        let parsed = ReceiverUrl::parse("url", url).unwrap();
        for (before, after) in [
            (Channel::Slack, Channel::Generic),
            (Channel::Slack, Channel::Discord),
            (Channel::Discord, Channel::Generic),
        ] {
            let before = Target::Http(before, parsed.clone());
            let refused = to(after).apply(&before).unwrap_err().to_string();
            assert!(refused.contains("`url`"), "{refused}");
            let anew = TargetChange { url: Some(url.to_owned()), ..to(after) };
            assert_eq!(anew.apply(&before).unwrap(), Target::Http(after, parsed.clone()));
            let same = to(before.channel()).apply(&before).unwrap();
            assert_eq!(same, before);
        }
    }

    #[test]
    fn a_change_to_or_from_email_requires_its_destination() {
        let to = |channel| TargetChange { channel: Some(channel), ..TargetChange::default() };
        let url = ReceiverUrl::parse("url", "https://a.example").unwrap();
        let http = Target::Http(Channel::Generic, url.clone());
        assert!(to(Channel::Email).apply(&http).is_err());
        let whole = TargetChange { email: Some(settings()), ..to(Channel::Email) };
        assert_eq!(whole.apply(&http).unwrap(), Target::Email(settings()));
        assert!(to(Channel::Slack).apply(&Target::Email(settings())).is_err());
        assert_eq!(to(Channel::Slack).apply(&http).unwrap(), Target::Http(Channel::Slack, url));
        assert!(with_email(settings()).apply(&http).is_err());
    }
}

//! `[auth]`: sessions, invitations and self-registration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{ConfigKey, Section, ValueKind};
use crate::role::Role;

/// Sessions, invitations and self-registration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Lifetime of a session token until it must be refreshed, in minutes. Range 1 to 60. Default 15: short enough that
    /// a stolen token is of little use, long enough that refreshing is rare.
    #[serde(default = "session_minutes")]
    pub session_minutes: u64,
    /// Time after which an invitation expires, in hours. Range 1 to 720. Default 168, a week: long enough for a short
    /// absence.
    #[serde(default = "invite_hours")]
    pub invite_hours: u64,
    /// Allows anyone who can reach the server to create an account. Default false: an admin decides who belongs to the
    /// fleet, and e-mail addresses are not verified.
    #[serde(default)]
    pub self_registration: bool,
    /// Global role of an account that was created by self-registration: `none`, `viewer` or `operator`. Default
    /// `viewer`: can read.
    #[serde(default = "registration_role")]
    pub registration_role: String,
    /// Allows people to log in a command line by approving the code that it shows, for a session with all of their
    /// access (RFC 8628). Default false: a person who is tricked into approving another person's code gives away their
    /// access, so turn it on only if people work on hosts without a browser.
    #[serde(default = "device_login")]
    pub device_login: bool,
}

fn session_minutes() -> u64 {
    15
}

fn invite_hours() -> u64 {
    168
}

fn registration_role() -> String {
    "viewer".to_owned()
}

fn device_login() -> bool {
    false
}

impl Section for Auth {
    const KEYS: &'static [ConfigKey] = &[
        ConfigKey::new("session_minutes", ValueKind::Number),
        ConfigKey::new("invite_hours", ValueKind::Number),
        ConfigKey::new("self_registration", ValueKind::Flag),
        ConfigKey::new("registration_role", ValueKind::Text),
        ConfigKey::new("device_login", ValueKind::Flag),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.check_range("auth.session_minutes", self.session_minutes, &(1..=60));
        faults.check_range("auth.invite_hours", self.invite_hours, &(1..=720));
        if self.registration_role_value().is_none() {
            faults.add("auth.registration_role", "must be none, viewer or operator");
        }
    }
}

impl Auth {
    /// Returns the lifetime of a session token.
    #[must_use]
    pub fn session(&self) -> Duration {
        Duration::from_secs(60 * self.session_minutes)
    }

    /// Returns the time after which an invitation expires.
    #[must_use]
    pub fn invite(&self) -> Duration {
        Duration::from_secs(60 * 60 * self.invite_hours)
    }

    /// Returns the role of an account that was created by self-registration, or `None` if the text is not a role below
    /// admin.
    #[must_use]
    pub fn registration_role_value(&self) -> Option<Role> {
        self.registration_role.parse().ok().filter(|role| *role < Role::Admin)
    }
}

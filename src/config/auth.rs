//! `[auth]`: how sessions behave, and how people come to an account.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::Faults;
use super::read::{Key, Kind, Section};
use crate::role::Role;

/// How sessions behave, and how people come to an account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// How long a session token lives before it must be refreshed, in minutes. Default 15: short enough that a stolen
    /// one is of little use, long enough that refreshing is rare.
    #[serde(default = "session_minutes")]
    pub session_minutes: u64,
    /// How long an invitation may wait, in hours. Default 168: a week, so that a holiday does not outlast it by much.
    #[serde(default = "invite_hours")]
    pub invite_hours: u64,
    /// Whether whoever reaches the server may make an account. Default false: who belongs to the fleet is an admin's
    /// to say, and an address is not proved.
    #[serde(default)]
    pub self_registration: bool,
    /// The global role of such an account: none, viewer or operator. Default viewer: may look.
    #[serde(default = "registration_role")]
    pub registration_role: String,
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

impl Section for Auth {
    const KEYS: &'static [Key] = &[
        Key::new("session_minutes", Kind::Number),
        Key::new("invite_hours", Kind::Number),
        Key::new("self_registration", Kind::Flag),
        Key::new("registration_role", Kind::Text),
    ];

    fn check(&self, faults: &mut Faults) {
        faults.range("auth.session_minutes", self.session_minutes, &(1..=60));
        faults.range("auth.invite_hours", self.invite_hours, &(1..=720));
        if self.role_of_registered().is_none() {
            faults.add("auth.registration_role", "must be none, viewer or operator");
        }
    }
}

impl Auth {
    /// How long a session token lives.
    #[must_use]
    pub fn session(&self) -> Duration {
        Duration::from_secs(60 * self.session_minutes)
    }

    /// How long an invitation may wait.
    #[must_use]
    pub fn invite(&self) -> Duration {
        Duration::from_secs(60 * 60 * self.invite_hours)
    }

    /// The role of whoever registers; never admin, whatever the text says.
    #[must_use]
    pub fn role_of_registered(&self) -> Option<Role> {
        self.registration_role.parse().ok().filter(|role| *role < Role::Admin)
    }
}

//! Repeated refusals of known callers: the first one in a minute is written at once. The others are counted in memory
//! and written as one entry at the end of the minute and when the process stops (T16).
//!
//! Invariants
//! - refusals with the same principal, method and reason within a minute are repeats;
//! - memory and rows are bounded, per principal and in total: refusals beyond the bound are added to one count, none is
//!   lost;
//! - a crash loses only the counts of the last minute: the first refusal of each key was written.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;
use uuid::Uuid;

use super::batch::{self, AuditRow};
use super::{Ending, Intent, Outcome};
use crate::access::action::Action;
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::role::Role;

/// Maximum number of distinct refusals of one principal per minute.
pub(super) const KEYS_PER_PRINCIPAL_MAX: usize = 64;
/// Maximum number of distinct refusals of all principals per minute.
pub(super) const KEYS_MAX: usize = 10_000;
/// The reason of a count of refusals beyond the bounds.
const OTHER: &str = "other";

/// Refusals with the same key are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct RefusalKey {
    principal: Option<PrincipalId>,
    method: Arc<str>,
    reason: &'static str,
}

/// The refusals of one key.
#[derive(Debug)]
struct RepeatCount {
    /// Number of refusals that are not written yet.
    count: u64,
    /// The fields that they have in common.
    intent: Intent,
    ending: Ending,
    code: i32,
}

/// A refusal that must be written at once.
#[derive(Debug)]
pub(super) struct NewRefusal {
    reason: &'static str,
    intent: Intent,
    outcome: Outcome,
}

impl NewRefusal {
    /// Builds the entry to store.
    pub(super) fn entry(&self, owner: &str) -> AuditRow {
        AuditRow::new(self.intent.clone(), Some(self.outcome.clone()), owner)
    }
}

/// The refusals of the current minute.
#[derive(Debug, Default)]
pub(super) struct RepeatedRefusals {
    minute: Mutex<Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    keys: HashMap<RefusalKey, RepeatCount>,
    /// Number of keys of each principal.
    principals: HashMap<Option<PrincipalId>, usize>,
}

impl RepeatedRefusals {
    /// Counts a refusal. Returns it if it is the first one with its key, which must be written now.
    pub(super) fn count(
        &self,
        reason: &'static str,
        intent: Intent,
        outcome: Outcome,
    ) -> Option<NewRefusal> {
        let mut minute = self.minute.lock();
        let key =
            RefusalKey { principal: intent.principal, method: Arc::clone(&intent.method), reason };
        if let Some(known) = minute.keys.get_mut(&key) {
            known.add(&intent);
            return None;
        }
        if minute.has_room(key.principal) {
            minute.keys.insert(key, RepeatCount::new(0, intent.clone(), &outcome));
            return Some(NewRefusal { reason, intent, outcome });
        }
        minute.add_to_other(intent, &outcome);
        None
    }

    /// Counts a first refusal that could not be written.
    pub(super) fn count_unwritten(&self, first: NewRefusal) {
        let NewRefusal { reason, intent, outcome } = first;
        let key =
            RefusalKey { principal: intent.principal, method: Arc::clone(&intent.method), reason };
        let mut minute = self.minute.lock();
        if let Some(known) = minute.keys.get_mut(&key) {
            known.add(&intent);
        } else if minute.has_room(key.principal) {
            // Its minute has ended.
            minute.keys.insert(key, RepeatCount::new(1, intent, &outcome));
        } else {
            minute.add_to_other(intent, &outcome);
        }
    }

    /// Returns an entry for each key that was repeated, and begins a new minute.
    pub(super) fn take(&self, at: Timestamp, owner: &str) -> Vec<AuditRow> {
        let taken = std::mem::take(&mut *self.minute.lock());
        let repeated = taken.keys.into_iter().filter(|(_, repeat)| repeat.count > 0);
        repeated.map(|(key, repeat)| repeat.entry(key.reason, at, owner)).collect()
    }
}

impl Minute {
    /// Returns whether the principal may have one more key, and counts that key.
    fn has_room(&mut self, principal: Option<PrincipalId>) -> bool {
        if self.keys.len() >= KEYS_MAX {
            return false;
        }
        let keys = self.principals.entry(principal).or_default();
        *keys += 1;
        *keys <= KEYS_PER_PRINCIPAL_MAX
    }

    /// Counts a refusal beyond the bounds: with its principal if there is room for that, otherwise without.
    fn add_to_other(&mut self, intent: Intent, outcome: &Outcome) {
        let principal = intent.principal.filter(|_| self.keys.len() < 2 * KEYS_MAX);
        let key = RefusalKey { principal, method: "".into(), reason: OTHER };
        if let Some(known) = self.keys.get_mut(&key) {
            known.add(&intent);
            return;
        }
        let actor = if principal.is_some() { intent.actor } else { OTHER.into() };
        let other = Intent {
            actor,
            principal,
            role: if principal.is_some() { intent.role } else { Role::None },
            action: Action::AUTH_REFUSE,
            resource_id: String::new(),
            gateway: None,
            client_ip: None,
            method: "".into(),
            ..intent
        };
        self.keys.insert(key, RepeatCount::new(1, other, outcome));
    }
}

impl RepeatCount {
    fn new(count: u64, mut intent: Intent, outcome: &Outcome) -> Self {
        intent.resource_id = batch::truncate_name(&intent.resource_id);
        if let Some(gateway) = &mut intent.gateway {
            gateway.name = batch::truncate_name(&gateway.name).into();
        }
        Self { count, intent, ending: outcome.ending, code: outcome.code }
    }

    /// Counts one more refusal. Clears the fields that differ.
    fn add(&mut self, intent: &Intent) {
        self.count += 1;
        let common = &mut self.intent;
        if common.resource_id != batch::truncate_name(&intent.resource_id) {
            common.resource_id.clear();
        }
        let name =
            |of: &Intent| of.gateway.as_ref().map(|gateway| batch::truncate_name(&gateway.name));
        if name(common) != name(intent) {
            common.gateway = None;
        }
        if common.client_ip != intent.client_ip {
            common.client_ip = None;
        }
    }

    fn entry(self, reason: &'static str, at: Timestamp, owner: &str) -> AuditRow {
        // The entry has no request id, since it counts many calls.
        let intent = Intent { at, request_id: Uuid::nil(), ..self.intent };
        let outcome = Outcome {
            detail: Some(json!({ "count": self.count, "reason": reason })),
            ..Outcome::new(at, self.ending, self.code)
        };
        AuditRow::new(intent, Some(outcome), owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::policy::AuditSubject;
    use crate::db::types::UserId;

    fn at() -> Timestamp {
        Timestamp::from_unix_micros(0)
    }

    fn refuse(repeats: &RepeatedRefusals, user: i64, method: &str) -> bool {
        let about = AuditSubject::new(Action::GATEWAY_GET, "edge");
        let intent = Intent {
            actor: "ana@example.com".into(),
            principal: Some(PrincipalId::User(UserId(user))),
            request_id: Uuid::from_u128(1),
            method: method.into(),
            ..Intent::new(at(), about)
        };
        let outcome = Outcome::new(at(), Ending::Denied, 7);
        repeats.count("ROLE_TOO_LOW", intent, outcome).is_some()
    }

    fn counts(repeats: &RepeatedRefusals) -> Vec<u64> {
        let minute = repeats.minute.lock();
        let mut counts: Vec<u64> = minute.keys.values().map(|repeat| repeat.count).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn the_first_refusal_is_recorded_and_repeats_are_counted_until_the_minute_ends() {
        let repeats = RepeatedRefusals::default();
        assert!(
            refuse(&repeats, 1, "/a") && refuse(&repeats, 1, "/b") && refuse(&repeats, 2, "/a")
        );
        assert!(!refuse(&repeats, 1, "/a") && !refuse(&repeats, 1, "/a"));
        assert_eq!(counts(&repeats), [0, 0, 2]);
        assert_eq!(repeats.take(at(), "replica").len(), 1);
        assert!(refuse(&repeats, 1, "/a"), "a new minute");
    }

    #[test]
    fn refusals_beyond_the_limit_of_a_principal_share_one_counter_of_it() {
        let repeats = RepeatedRefusals::default();
        let first = |n: usize| refuse(&repeats, 1, &format!("/{n}"));
        assert!((0..KEYS_PER_PRINCIPAL_MAX).all(first));
        assert!(!first(KEYS_PER_PRINCIPAL_MAX) && !first(KEYS_PER_PRINCIPAL_MAX + 1));
        assert!(refuse(&repeats, 2, "/0"), "another principal has room of its own");
        let entries = repeats.take(at(), "replica");
        assert_eq!(entries.len(), 1);
        let entry = format!("{entries:?}");
        assert!(entry.contains("user:1") && entry.contains(r#"\"count\":2"#), "{entry}");
    }

    #[test]
    fn the_total_number_of_distinct_refusals_is_limited() {
        let repeats = RepeatedRefusals::default();
        for user in 0..i64::try_from(KEYS_MAX).unwrap() {
            assert!(refuse(&repeats, user, "/a"));
        }
        for user in 0..i64::try_from(2 * KEYS_MAX).unwrap() {
            assert!(!refuse(&repeats, user, "/b"));
        }
        let counts = counts(&repeats);
        assert!(counts.len() <= 2 * KEYS_MAX + 1, "{}", counts.len());
        assert_eq!(counts.iter().sum::<u64>(), 2 * KEYS_MAX as u64, "none is lost");
    }
}

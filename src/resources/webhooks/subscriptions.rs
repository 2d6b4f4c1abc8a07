//! Which events a webhook subscribes to. Pure functions.
//!
//! Invariant: a stored subscription matches only known names, so that a typo is an error and not silence.

use std::collections::BTreeSet;

use crate::characters::excerpt;
use crate::error::Error;
use crate::outbox::event_types;

/// Maximum number of entries of a subscription.
pub const ENTRIES_MAX: usize = 50;
/// Maximum length of an entry, in characters.
const ENTRY_CHARS_MAX: usize = 100;
/// The subscription to all events.
const ALL: &str = "*";
/// Ends a subscription to all events of a resource.
const OF_RESOURCE: &str = ".*";
/// The message that tests a webhook.
pub const TEST_EVENT: &str = "webhook.test";

/// Names that subscriptions of the previous generation of Shoreguard contain, besides those of events. They are
/// accepted, so that these subscriptions can be imported.
const PREDECESSOR: &[&str] = &["gateway.cert_rotation_failed", TEST_EVENT];

fn names() -> impl Iterator<Item = &'static str> {
    let known = event_types::ALL.iter().map(|(event_type, _)| event_type.name());
    known.chain(PREDECESSOR.iter().copied())
}

/// Parses the entries of a subscription: names of events, `resource.*`, or `*`. Duplicates are removed.
///
/// # Errors
/// `Invalid` for more than 50 entries and for an unknown event.
pub fn parse(field: &str, entries: Vec<String>) -> Result<Vec<String>, Error> {
    if entries.len() > ENTRIES_MAX {
        let why = format!("must have at most {ENTRIES_MAX} entries, got {}", entries.len());
        return Err(Error::invalid(field, why));
    }
    for (at, entry) in entries.iter().enumerate() {
        if entry.is_empty() || entry.chars().count() > ENTRY_CHARS_MAX {
            let why = format!("must have 1 to {ENTRY_CHARS_MAX} characters");
            return Err(Error::invalid(format!("{field}[{at}]"), why));
        }
        if !is_known(entry) {
            let shown = excerpt(entry, ENTRY_CHARS_MAX);
            let why = format!(
                "`{shown}` is not an event: use a name of ListEventTypes, `resource.*` or `*`"
            );
            return Err(Error::invalid(format!("{field}[{at}]"), why));
        }
    }
    let mut seen = BTreeSet::new();
    Ok(entries.into_iter().filter(|entry| seen.insert(entry.clone())).collect())
}

fn is_known(entry: &str) -> bool {
    if entry == ALL {
        return true;
    }
    match entry.strip_suffix(OF_RESOURCE) {
        Some(resource) => names().any(|name| resource_of(name) == resource),
        None => names().any(|name| name == entry),
    }
}

fn resource_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(resource, _)| resource)
}

/// Returns whether an event is sent: its name matches one of the entries, and its gateway is one of `gateways`, if
/// those are given.
#[must_use]
pub fn matches(entries: &[String], gateways: &[String], name: &str, gateway: Option<&str>) -> bool {
    let of_gateway =
        gateways.is_empty() || gateway.is_some_and(|of| gateways.iter().any(|given| given == of));
    of_gateway && entries.iter().any(|entry| is_match(entry, name))
}

fn is_match(entry: &str, name: &str) -> bool {
    match entry.strip_suffix(OF_RESOURCE) {
        Some(resource) => resource_of(name) == resource,
        None => entry == ALL || entry == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn a_subscription_matches_names_resources_and_all() {
        for (entry, name, is) in [
            ("*", "sandbox.created", true),
            ("sandbox.*", "sandbox.created", true),
            ("sandbox.*", "sandbox_provider.attached", false),
            ("sandbox.created", "sandbox.created", true),
            ("sandbox.created", "sandbox.deleted", false),
        ] {
            assert_eq!(matches(&texts(&[entry]), &[], name, None), is, "{entry} {name}");
        }
        assert!(!matches(&[], &[], "sandbox.created", None));
    }

    #[test]
    fn a_subscription_to_gateways_excludes_other_gateways_and_events_without_one() {
        let (all, edge) = (texts(&["*"]), texts(&["edge"]));
        assert!(matches(&all, &edge, "sandbox.created", Some("edge")));
        assert!(!matches(&all, &edge, "sandbox.created", Some("other")));
        assert!(!matches(&all, &edge, "user.updated", None));
    }

    #[test]
    fn only_events_of_the_catalogue_can_be_subscribed_to() {
        for (event_type, _) in event_types::ALL {
            assert!(parse("event_types", texts(&[event_type.name()])).is_ok());
        }
        for entry in PREDECESSOR.iter().copied().chain(["*", "sandbox.*", "approval.*"]) {
            assert!(parse("event_types", texts(&[entry])).is_ok(), "{entry}");
        }
        for entry in ["", "sandbox", "sandbox.creatd", "nothing.*", "**", ".*", "audit.entry"] {
            assert!(parse("event_types", texts(&[entry])).is_err(), "{entry}");
        }
        let unknown = parse("event_types", texts(&["*", "sandbox.creatd"])).unwrap_err();
        let shown = unknown.to_string();
        assert!(shown.contains("event_types[1]") && shown.contains("ListEventTypes"), "{shown}");
    }

    #[test]
    fn a_subscription_has_at_most_50_entries() {
        assert_eq!(parse("event_types", vec!["*".to_owned(); ENTRIES_MAX]).unwrap(), ["*"]);
        assert!(parse("event_types", vec!["*".to_owned(); ENTRIES_MAX + 1]).is_err());
    }
}

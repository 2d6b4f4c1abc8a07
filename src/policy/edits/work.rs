//! A limit on the work of one change, so that no policy keeps a thread of the server busy.
//!
//! Endpoints of the same host and path are compared with each other, and so is what they list. Policies and documents
//! of the maximum size can have thousands of them.

use std::collections::HashMap;

use super::endpoint::Endpoint;
use super::rules::Rule;

/// Maximum number of comparisons that a change needs. One takes about a microsecond.
pub(super) const COMPARISONS_MAX: usize = 1_000_000;

/// The comparisons that a change can still make.
#[derive(Debug)]
pub(super) struct Work {
    left: usize,
}

/// The endpoints of one host and path.
#[derive(Debug, Default)]
struct Extent {
    /// How many.
    endpoints: usize,
    /// How many, with all that they list.
    parts: usize,
}

impl Work {
    /// Returns the work that a whole change may need.
    pub(super) fn of_change() -> Self {
        Self { left: COMPARISONS_MAX }
    }

    /// Counts the merge of a rule into another one.
    ///
    /// # Errors
    /// The change needs too many comparisons.
    pub(super) fn count_merge(&mut self, kept: &Rule, given: &Rule) -> Result<(), String> {
        let mut extents: HashMap<(&str, &str), Extent> = HashMap::new();
        for endpoint in &given.endpoints {
            extents.entry(endpoint.place()).or_default().add(endpoint);
        }
        // Endpoints at other places are not compared.
        for endpoint in &kept.endpoints {
            if let Some(extent) = extents.get_mut(&endpoint.place()) {
                extent.add(endpoint);
            }
        }
        let needed = extents.values().map(|extent| extent.parts.saturating_mul(extent.endpoints));
        self.take(needed.fold(0, usize::saturating_add)).map_err(|()| {
            format!(
                "needs more than {COMPARISONS_MAX} comparisons of endpoints that have the same host and path: give an \
                 endpoint all of its `ports`, or use several rules"
            )
        })
    }

    /// Counts the addition of items to a list of an endpoint.
    ///
    /// # Errors
    /// The change needs too many comparisons.
    pub(super) fn count_addition(&mut self, endpoint: &Endpoint) -> Result<(), String> {
        self.take(endpoint.parts()).map_err(|()| {
            format!(
                "needs more than {COMPARISONS_MAX} comparisons with the rules of the endpoint: add them with fewer \
                 edits"
            )
        })
    }

    fn take(&mut self, needed: usize) -> Result<(), ()> {
        self.left = self.left.checked_sub(needed).ok_or(())?;
        Ok(())
    }
}

impl Extent {
    fn add(&mut self, endpoint: &Endpoint) {
        self.endpoints += 1;
        self.parts += endpoint.parts();
    }
}

#[cfg(test)]
mod tests {
    use shoreguard_proto::release::Generation;

    use super::super::super::Policy;
    use super::super::rules::{Rule, Rules};
    use super::Work;

    fn rule(endpoints: &str) -> Rule {
        let text = format!("version: 1\nnetwork_policies: {{web: {{endpoints: [{endpoints}]}}}}\n");
        let policy = Policy::from_yaml(Generation::V0_1, "yaml", &text).unwrap();
        Rules::of(&policy.message).by_name.remove("web").unwrap()
    }

    #[test]
    fn t16_additions_to_an_endpoint_count_all_that_it_lists() {
        let listed =
            "rules: [{allow: {method: GET, path: /a}}], deny_rules: [{method: PUT, path: /a}]";
        let rule = rule(&format!("{{host: a, ports: [1, 2], protocol: rest, {listed}}}"));
        let mut work = Work { left: 10 };
        work.count_addition(&rule.endpoints[0]).unwrap();
        work.count_addition(&rule.endpoints[0]).unwrap();
        let refused = work.count_addition(&rule.endpoints[0]).unwrap_err();
        assert!(refused.contains("comparisons with the rules of the endpoint"), "{refused}");
    }

    #[test]
    fn t16_only_endpoints_at_a_place_of_the_new_rule_are_compared() {
        let kept = rule("{host: a, port: 1}, {host: b, port: 1}, {host: a, port: 1, path: /x}");
        let given = rule("{host: A, port: 2}");
        // Two endpoints at the place, each with a port.
        let needed = 4 * 2;
        assert!(Work { left: needed - 1 }.count_merge(&kept, &given).is_err());
        let mut work = Work { left: needed };
        work.count_merge(&kept, &given).unwrap();
        assert_eq!(work.left, 0);
    }
}

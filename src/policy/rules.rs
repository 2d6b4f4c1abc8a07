//! Single rules of a policy, as policies that have nothing else: what a proposed rule leads to is reviewed by them.

use std::collections::{BTreeSet, HashMap};

use prost_reflect::{DynamicMessage, MapKey, Value};
use shoreguard_proto::release::Generation;
use shoreguard_proto::wire;

use super::{Policy, schema};
use crate::error::Error;

/// Name and number of the field of the rules in a policy. Both generations have it.
const RULES: &str = "network_policies";
const RULES_FIELD: u32 = 5;
/// Numbers of the fields of an entry.
const KEY: u32 = 1;
const VALUE: u32 = 2;

impl Policy {
    /// Returns the policy that has one encoded rule of a gateway, under this name.
    ///
    /// # Errors
    /// `POLICY_UNREADABLE` if it is too large, malformed, or has a part that this build does not know.
    pub fn of_rule(generation: Generation, name: &str, rule: &[u8]) -> Result<Self, Error> {
        let (mut entry, mut policy) = (Vec::new(), Vec::new());
        wire::put_bytes(&mut entry, KEY, name.as_bytes());
        wire::put_bytes(&mut entry, VALUE, rule);
        wire::put_bytes(&mut policy, RULES_FIELD, &entry);
        Self::decode(generation, &policy)?.require_known()
    }

    /// Returns the policy that has only the rules that `base` does not have like this. Rules that only `base` has are
    /// not part of it.
    ///
    /// # Errors
    /// `Internal`, which a policy in its canonical form does not cause.
    pub fn rules_changed_from(&self, base: &Self) -> Result<Self, Error> {
        let before = base.rules();
        self.with_rules(|name, rule| before.get(name) != Some(rule))
    }

    /// Returns this policy with only the rule of this name; without rules if it has no such rule.
    ///
    /// # Errors
    /// `Internal`, which a policy in its canonical form does not cause.
    pub fn only_rule(&self, name: &str) -> Result<Self, Error> {
        self.with_rules(|key, _| matches!(key, MapKey::String(key) if key == name))
    }

    /// Returns the policy that has only the rules of this one whose names `other` has.
    ///
    /// # Errors
    /// `Internal`, which a policy in its canonical form does not cause.
    pub fn rules_named_in(&self, other: &Self) -> Result<Self, Error> {
        let named = other.rules();
        self.with_rules(|name, _| named.contains_key(name))
    }

    /// Returns its only rule, encoded for its generation. `None` if it has none.
    #[must_use]
    pub fn encoded_rule(&self) -> Option<&[u8]> {
        let entry = wire::bytes_field(&self.encoded, RULES_FIELD)?;
        wire::bytes_field(entry, VALUE)
    }

    /// Returns whether it has a rule.
    #[must_use]
    pub fn has_rules(&self) -> bool {
        !self.rules().is_empty()
    }

    /// Returns the hosts of the endpoints of its rules.
    #[must_use]
    pub fn rule_hosts(&self) -> BTreeSet<String> {
        self.texts_of_rules("endpoints", "host")
    }

    /// Returns the paths of the programs of its rules.
    #[must_use]
    pub fn rule_binaries(&self) -> BTreeSet<String> {
        self.texts_of_rules("binaries", "path")
    }

    /// Returns the texts of a field in the items of a list in each rule. Both generations have these fields.
    fn texts_of_rules(&self, list: &str, field: &str) -> BTreeSet<String> {
        let mut texts = BTreeSet::new();
        for rule in self.rules().values().filter_map(Value::as_message) {
            let Some(items) = rule.get_field_by_name(list) else { continue };
            let items = items.as_list().unwrap_or_default();
            for item in items.iter().filter_map(Value::as_message) {
                let text = item.get_field_by_name(field);
                texts.extend(text.and_then(|text| text.as_str().map(str::to_owned)));
            }
        }
        texts
    }

    fn rules(&self) -> HashMap<MapKey, Value> {
        let found = self.message.get_field_by_name(RULES);
        found.and_then(|rules| rules.as_map().cloned()).unwrap_or_default()
    }

    fn with_rules(&self, is_kept: impl Fn(&MapKey, &Value) -> bool) -> Result<Self, Error> {
        let mut kept = self.rules();
        kept.retain(|name, rule| is_kept(name, rule));
        let mut message = DynamicMessage::new(schema::policy(self.generation));
        if !kept.is_empty() {
            let set = message.try_set_field_by_name(RULES, Value::Map(kept));
            set.map_err(|_| Error::internal("a policy without a field for its rules"))?;
        }
        Self::canonical(self.generation, message).map_err(Error::internal)
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use shoreguard_proto::v0_0::openshell::sandbox::v1 as proto;

    use super::*;
    use crate::policy::Edit;

    fn rule(host: &str, binary: &str) -> Vec<u8> {
        let endpoint = proto::NetworkEndpoint {
            host: host.to_owned(),
            port: 443,
            advisor_proposed: true,
            ..Default::default()
        };
        let binary = proto::NetworkBinary { path: binary.to_owned(), harness: true };
        let rule = proto::NetworkPolicyRule {
            endpoints: vec![endpoint],
            binaries: vec![binary],
            ..Default::default()
        };
        rule.encode_to_vec()
    }

    #[test]
    fn the_result_of_a_proposed_rule_is_the_rule_that_it_is_merged_into() {
        let generation = Generation::V0_0;
        let add = |base: &Policy, name: &str, host: &str, binary: &str| {
            let edit = Edit::add_proposed_rule(generation, name, &rule(host, binary)).unwrap();
            base.edited(&[edit]).unwrap()
        };
        let empty = Policy::decode(generation, &[]).unwrap();
        let base = add(&empty, "a", "a.example", "/bin/a");
        let propose = |name: &str, host: &str, binary: &str| {
            add(&base, name, host, binary).rules_changed_from(&base).unwrap()
        };
        // Another rule with the same endpoint: the program is added to the rule that exists.
        let merged = propose("other", "a.example", "/bin/b");
        assert!(merged.has_rules() && merged.only_rule("other").unwrap().encoded().is_empty());
        let yaml = merged.to_yaml();
        assert!(yaml.contains("/bin/a") && yaml.contains("/bin/b"), "{yaml}");
        // A rule of its own, with the marks with which it was proposed.
        let own = propose("b", "b.example", "/bin/b");
        assert_eq!(own.only_rule("b").unwrap().encoded(), own.encoded());
        assert_eq!(own.marks().len(), 2, "{:?}", own.marks());
        let approved = add(&base, "b", "b.example", "/bin/b");
        assert_eq!(approved.rules_named_in(&own).unwrap().encoded(), own.encoded());
        assert!(!base.rules_named_in(&own).unwrap().has_rules());
        // Nothing new.
        assert!(!propose("a", "a.example", "/bin/a").has_rules());
        let (hosts, binaries) = (merged.rule_hosts(), merged.rule_binaries());
        assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["a.example"]);
        assert_eq!(binaries.into_iter().collect::<Vec<_>>(), ["/bin/a", "/bin/b"]);
        assert!(empty.rule_hosts().is_empty() && empty.rule_binaries().is_empty());
    }

    #[test]
    fn g08_a_rule_with_a_part_that_is_not_known_is_refused() {
        let mut unknown = rule("a.example", "/bin/a");
        wire::put_bytes(&mut unknown, 99, b"x");
        assert!(Policy::of_rule(Generation::V0_0, "a", &unknown).is_err());
        assert!(Policy::of_rule(Generation::V0_0, "a", &[0x0b]).is_err());
    }
}

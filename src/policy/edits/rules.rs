//! The network rules of a policy, taken apart: what identifies an endpoint or a binary is read once per rule.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost_reflect::{DynamicMessage, MapKey, Value};

use super::endpoint::Endpoint;
use super::parts;

/// The field of the rules in a policy.
const RULES: &str = "network_policies";
/// The field of the endpoints in a rule.
const ENDPOINTS: &str = "endpoints";
/// The field of the binaries in a rule.
const BINARIES: &str = "binaries";
/// The mark of a binary in generation 0.0.
const HARNESS: &str = "harness";

/// A policy whose rules are taken apart.
#[derive(Debug)]
pub(super) struct Rules {
    /// The policy without rules.
    pub(super) policy: DynamicMessage,
    /// The rules by their key.
    pub(super) by_name: BTreeMap<String, Rule>,
}

/// A rule.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// The rule without endpoints and binaries.
    message: DynamicMessage,
    /// Its endpoints.
    pub(super) endpoints: Vec<Endpoint>,
    /// Its binaries; none means every program.
    pub(super) binaries: Vec<Binary>,
}

/// A program that a rule applies to.
#[derive(Debug, Clone)]
pub(super) struct Binary {
    message: DynamicMessage,
    /// Its path.
    pub(super) path: String,
}

impl Rules {
    /// Takes the rules of a policy apart.
    pub(super) fn of(policy: &DynamicMessage) -> Self {
        let mut policy = policy.clone();
        let mut by_name = BTreeMap::new();
        if let Some(Value::Map(entries)) = policy.take_field_by_name(RULES) {
            for (key, value) in entries {
                if let (MapKey::String(name), Value::Message(rule)) = (key, value) {
                    by_name.insert(name, Rule::read(rule));
                }
            }
        }
        Self { policy, by_name }
    }

    /// Returns the policy.
    pub(super) fn into_policy(self) -> DynamicMessage {
        let Self { mut policy, by_name } = self;
        let entry = |(name, rule): (String, Rule)| {
            (MapKey::String(name), Value::Message(rule.into_message()))
        };
        let entries: HashMap<MapKey, Value> = by_name.into_iter().map(entry).collect();
        if !entries.is_empty() {
            parts::set(&mut policy, RULES, Value::Map(entries));
        }
        policy
    }
}

impl Rule {
    /// Takes a rule apart.
    pub(super) fn read(mut message: DynamicMessage) -> Self {
        let endpoints = parts::take_messages(&mut message, ENDPOINTS);
        let binaries = parts::take_messages(&mut message, BINARIES);
        Self {
            message,
            endpoints: endpoints.into_iter().map(Endpoint::read).collect(),
            binaries: binaries.into_iter().map(Binary::read).collect(),
        }
    }

    fn into_message(self) -> DynamicMessage {
        let Self { mut message, endpoints, binaries } = self;
        let endpoints = endpoints.into_iter().map(Endpoint::into_message).collect();
        let binaries = binaries.into_iter().map(|binary| binary.message).collect();
        parts::put_messages(&mut message, ENDPOINTS, endpoints);
        parts::put_messages(&mut message, BINARIES, binaries);
        message
    }

    /// Sets the name, unless the rule has one.
    pub(super) fn set_default_name(&mut self, name: &str) {
        if parts::value(&self.message, "name").is_none() {
            parts::set(&mut self.message, "name", Value::String(name.to_owned()));
        }
    }

    /// Brings the rule into the form in which a gateway stores it.
    pub(super) fn normalize(&mut self) {
        self.endpoints.iter_mut().for_each(Endpoint::normalize);
        let given = std::mem::take(&mut self.binaries);
        self.append_binaries(&given);
    }

    /// Adds the binaries that are new. In the gateway's merge, a binary without the mark lifts that of a known one.
    pub(super) fn append_binaries(&mut self, given: &[Binary]) {
        let mut positions: HashMap<String, usize> = HashMap::new();
        for (at, known) in self.binaries.iter().enumerate() {
            positions.entry(known.path.clone()).or_insert(at);
        }
        for binary in given {
            let known = positions.get(&binary.path).and_then(|at| self.binaries.get_mut(*at));
            if let Some(known) = known {
                parts::lower(&mut known.message, &binary.message, HARNESS);
            } else {
                positions.insert(binary.path.clone(), self.binaries.len());
                self.binaries.push(binary.clone());
            }
        }
    }

    /// Returns the paths of the binaries.
    pub(super) fn binary_paths(&self) -> HashSet<&str> {
        self.binaries.iter().map(|binary| binary.path.as_str()).collect()
    }
}

impl Binary {
    fn read(message: DynamicMessage) -> Self {
        let path = parts::text(&message, "path");
        Self { message, path }
    }
}

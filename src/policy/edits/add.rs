//! Adds a rule: as a rule of its own, or merged into the rule of the same name or into a rule with the same endpoint.

use prost_reflect::DynamicMessage;
use shoreguard_proto::release::Generation;

use super::check::is_reserved;
use super::endpoint::MARK;
use super::rules::{Rule, Rules};
use super::widening::check_declared;
use super::work::Work;

/// Why a rule cannot be merged into another one.
enum MergeFault {
    /// Only the merge would grant more than the edit declares.
    Widens(String),
    /// Any other reason.
    Other(String),
}

impl MergeFault {
    fn into_text(self) -> String {
        match self {
            Self::Widens(why) | Self::Other(why) => why,
        }
    }
}

/// Adds a rule, or adds its new parts to another one.
///
/// # Errors
/// Why it cannot be merged.
pub(super) fn add_rule(
    rules: &mut Rules,
    name: &str,
    rule: &DynamicMessage,
    generation: Generation,
    work: &mut Work,
) -> Result<(), String> {
    let mut given = Rule::read(rule.clone());
    given.normalize();
    given.set_default_name(name);
    if let Some(kept) = rules.by_name.get_mut(name) {
        *kept = merged(kept, &given, generation, work).map_err(MergeFault::into_text)?;
        return Ok(());
    }
    if let Some((_, kept)) = overlapping_rule(rules, &given, generation) {
        match merged(kept, &given, generation, work) {
            Ok(merged) => {
                *kept = merged;
                return Ok(());
            }
            // Generation 0.1 keeps the rule on its own then.
            Err(MergeFault::Widens(_)) if generation == Generation::V0_1 => {}
            Err(fault) => return Err(fault.into_text()),
        }
    }
    rules.by_name.insert(name.to_owned(), given);
    Ok(())
}

/// Returns the first rule with an endpoint of a new rule. In generation 0.1, what an agent proposed is not merged into
/// other rules, which would lift its marks.
fn overlapping_rule<'a>(
    rules: &'a mut Rules,
    given: &Rule,
    generation: Generation,
) -> Option<(&'a String, &'a mut Rule)> {
    if generation == Generation::V0_1 && given.endpoints.iter().any(|new| new.flag(MARK)) {
        return None;
    }
    let overlaps = |rule: &Rule| {
        let mut endpoints = rule.endpoints.iter();
        endpoints.any(|kept| given.endpoints.iter().any(|new| kept.overlaps(new)))
    };
    let mut own = rules.by_name.iter_mut().filter(|(name, _)| !is_reserved(name));
    own.find(|(_, rule)| overlaps(rule))
}

/// Returns a rule with the new parts of another one.
fn merged(
    kept: &Rule,
    given: &Rule,
    generation: Generation,
    work: &mut Work,
) -> Result<Rule, MergeFault> {
    work.count_merge(kept, given).map_err(MergeFault::Other)?;
    let mut endpoints = kept.endpoints.clone();
    for new in &given.endpoints {
        match endpoints.iter_mut().find(|known| known.overlaps(new)) {
            Some(known) => known.merge(new, generation).map_err(MergeFault::Other)?,
            None => endpoints.push(new.clone()),
        }
    }
    check_declared(kept, given, &endpoints, generation).map_err(MergeFault::Widens)?;
    let mut merged = kept.clone();
    merged.endpoints = endpoints;
    merge_binaries(&mut merged, given, generation);
    Ok(merged)
}

/// Merges the binaries of two rules. None means every program, which generation 0.0 does not observe.
fn merge_binaries(kept: &mut Rule, given: &Rule, generation: Generation) {
    match (generation, kept.binaries.is_empty(), given.binaries.is_empty()) {
        (Generation::V0_1, true, _) => {}
        (Generation::V0_1, false, true) => kept.binaries.clear(),
        (Generation::V0_1, false, false) | (Generation::V0_0, _, _) => {
            kept.append_binaries(&given.binaries);
        }
    }
}

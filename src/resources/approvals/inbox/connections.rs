//! Log lines about the connections that a proposed rule would allow, and that were refused.

use std::collections::BTreeSet;

use crate::db::Conn;
use crate::error::Error;
use crate::resources::approvals::drafts::content::DraftContent;
use crate::resources::approvals::rounds::Round;
use crate::resources::bypass_events::refused::{self, RefusedConnection, folded_host};

/// Maximum number of lines of a round.
pub const LINES_MAX: usize = 20;
/// Maximum number of programs of a rule whose lines are looked for.
const BINARIES_MAX: usize = 8;
/// Maximum number of hosts with a wildcard whose lines are looked for.
const WILDCARDS_MAX: usize = 100;

/// Returns the newest lines about connections of the programs of a proposed rule to its hosts, newest first.
///
/// # Errors
/// Those of the database.
pub async fn read(
    conn: &mut Conn,
    round: &Round,
    content: &DraftContent,
) -> Result<Vec<RefusedConnection>, Error> {
    let Some(sandbox_id) = &round.sandbox_id else { return Ok(Vec::new()) };
    let refused_program = round.summary.draft.as_ref().map_or("", |draft| draft.binary.as_str());
    let binaries = programs(refused_program, content.proposed.rule_binaries());
    let hosts = Hosts::of(&content.proposed.rule_hosts());
    let gateway = round.place.gateway.id;
    let limit = i64::try_from(refused::LINES_OF_SANDBOX_MAX).unwrap_or(i64::MAX);
    // Most lines can be about other hosts, so their texts are not read.
    let newest = refused::newest_hosts(conn, gateway, sandbox_id, &binaries, limit).await?;
    let shown = newest.into_iter().filter(|(_, host)| hosts.contain(host));
    let ids: Vec<i64> = shown.take(LINES_MAX).map(|(id, _)| id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    refused::by_ids(conn, ids).await
}

/// Returns the programs whose lines are looked for: the refused one, even if the rule names others, then those of the
/// rule.
fn programs(refused_program: &str, of_rule: BTreeSet<String>) -> Vec<String> {
    let others = of_rule.into_iter().filter(|path| path != refused_program);
    let all = std::iter::once(refused_program.to_owned()).chain(others);
    all.filter(|path| !path.is_empty()).take(BINARIES_MAX).collect()
}

/// Hosts of a rule, as a log line is compared with them.
#[derive(Debug, Default)]
struct Hosts {
    exact: BTreeSet<String>,
    /// Rest of each host after the wildcard at its beginning.
    suffixes: Vec<String>,
}

impl Hosts {
    fn of(hosts: &BTreeSet<String>) -> Self {
        let mut found = Self::default();
        for host in hosts {
            let host = folded_host(host);
            let suffix = host.trim_start_matches('*');
            if suffix.len() == host.len() {
                found.exact.insert(host);
            } else if found.suffixes.len() < WILDCARDS_MAX {
                found.suffixes.push(suffix.to_owned());
            }
        }
        found
    }

    fn contain(&self, host: &str) -> bool {
        let mut suffixes = self.suffixes.iter();
        self.exact.contains(host) || suffixes.any(|suffix| host.ends_with(suffix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refused_program_is_looked_for_first() {
        let of_rule = |count: usize| (0..count).map(|n| format!("/bin/{n}")).collect();
        let found = programs("/usr/bin/curl", of_rule(BINARIES_MAX));
        assert_eq!((found.len(), found[0].as_str()), (BINARIES_MAX, "/usr/bin/curl"));
        assert_eq!(programs("/bin/1", of_rule(3)), ["/bin/1", "/bin/0", "/bin/2"]);
        assert_eq!(programs("", BTreeSet::from([String::new(), "/bin/0".to_owned()])), ["/bin/0"]);
    }

    #[test]
    fn a_host_is_compared_without_regard_to_case_and_with_wildcards() {
        let hosts = ["A.example.", "*.b.example", "**.c.example"];
        let hosts = Hosts::of(&hosts.into_iter().map(str::to_owned).collect());
        for good in ["a.example", "x.b.example", "x.y.c.example"] {
            assert!(hosts.contain(good), "{good}");
        }
        for bad in ["x.a.example", "b.example", "a.example.com", ""] {
            assert!(!hosts.contain(bad), "{bad}");
        }
        let any = Hosts::of(&BTreeSet::from(["*".to_owned()]));
        assert!(any.contain("a.example"));
        let many = (0..=WILDCARDS_MAX).map(|n| format!("*.h{n}.example"));
        assert_eq!(Hosts::of(&many.collect()).suffixes.len(), WILDCARDS_MAX);
    }
}

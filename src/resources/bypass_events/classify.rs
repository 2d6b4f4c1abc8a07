//! Which security events show an attempt to bypass the policy of a sandbox, and by which technique.
//!
//! Invariants
//! - the technique depends on the line alone. If several keywords match, the first one of [`Technique::ALL`] counts;
//! - texts are returned without what of a URL can be a credential, which does not change the technique.

use sha2::{Digest, Sha256};

use super::ocsf::{self, Class, Disposition, OcsfLine, Severity, SplitLine};
use crate::characters::replace_invisible;
use crate::clock::Timestamp;
use crate::seal::hex;
use crate::upstream::errors::without_credentials;
use crate::words;

words! {
    /// How the policy was to be bypassed, in the order in which keywords are matched.
    pub enum Technique {
        /// Entering the namespaces of another process.
        Nsenter = "nsenter",
        /// Creating namespaces.
        Unshare = "unshare",
        /// Leaving the network namespace.
        Netns = "netns",
        /// Changing the packet filter.
        Nftables = "nftables",
        /// Changing the packet filter, or a connection that it has refused.
        Iptables = "iptables",
        /// Changing routes.
        IpRoute = "ip_route",
        /// Another one.
        Bypass = "bypass",
    }
}

impl Technique {
    /// Returns the id of the technique in MITRE ATT&CK: Escape to Host, or Disable or Modify System Firewall.
    #[must_use]
    pub fn mitre_id(self) -> &'static str {
        match self {
            Self::Nsenter | Self::Unshare | Self::Netns => "T1611",
            Self::Nftables | Self::Iptables | Self::IpRoute | Self::Bypass => "T1562.004",
        }
    }
}

/// A log line that shows an attempt to bypass the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BypassLine {
    /// Time of the line.
    pub at: Timestamp,
    /// Class of the line.
    pub class: Class,
    /// Severity.
    pub severity: Severity,
    /// Technique.
    pub technique: Technique,
    /// The parsed line, without credentials of URLs.
    pub line: OcsfLine,
    /// SHA-256 of the line, in hexadecimal.
    pub line_hash: String,
}

/// Returns the event that a log line at this time is about, or `None` if it shows no attempt to bypass the policy.
#[must_use]
pub fn classify(message: &str, at: Timestamp) -> Option<BypassLine> {
    let text = ocsf::beginning(message);
    let whole = ocsf::split(&text);
    let class = whole.class?;
    let technique = technique_of(class, &whole)?;
    let severity = whole.severity.unwrap_or(Severity::High);
    let line = whole.cut();
    let line_hash = hex(&Sha256::digest(message.as_bytes()));
    // The technique is that of the whole line, of which no credential is stored. Credentials are removed before the
    // line is split: part of a password that contains a bracket, or that is cut, would remain.
    let OcsfLine { summary, fields, .. } = ocsf::parse(&without_credentials(message));
    let visible = |text: &str| replace_invisible(text).collect::<String>();
    let line = OcsfLine {
        summary: visible(&summary),
        fields: fields.iter().map(|(key, value)| (visible(key), visible(value))).collect(),
        binary: line.binary.as_deref().map(visible),
        ..line
    };
    Some(BypassLine { at, class, severity, technique, line, line_hash })
}

fn technique_of(class: Class, line: &SplitLine<'_>) -> Option<Technique> {
    match class {
        Class::Finding | Class::Net | Class::Proc => {}
        // A loaded option or an address can have such a name.
        Class::Http | Class::Ssh | Class::Config | Class::Lifecycle | Class::Event => return None,
    }
    let by_keyword = keyword_of(line);
    by_keyword.or_else(|| is_grave_finding(line).then_some(Technique::Bypass))
}

/// Returns the first technique whose name the summary or the value of a field contains. A connection that the packet
/// filter has refused has `iptables` in the field `engine`.
fn keyword_of(line: &SplitLine<'_>) -> Option<Technique> {
    let values = line.fields().map(|(_, value)| value);
    let texts: Vec<String> =
        std::iter::once(line.summary).chain(values).map(str::to_ascii_lowercase).collect();
    let mut techniques = Technique::ALL.iter().copied();
    techniques.find(|technique| texts.iter().any(|text| text.contains(technique.as_str())))
}

fn is_refused(line: &SplitLine<'_>) -> bool {
    matches!(line.disposition, Some(Disposition::Blocked | Disposition::Denied))
}

fn is_grave_finding(line: &SplitLine<'_>) -> bool {
    line.class == Some(Class::Finding)
        && is_refused(line)
        && line.severity.is_some_and(|severity| severity >= Severity::High)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(message: &str) -> Option<(Severity, Technique)> {
        classify(message, Timestamp::EPOCH).map(|found| (found.severity, found.technique))
    }

    #[test]
    fn each_keyword_is_its_technique_with_its_mitre_id() {
        for (keyword, technique, mitre) in [
            ("nsenter", Technique::Nsenter, "T1611"),
            ("unshare", Technique::Unshare, "T1611"),
            ("netns", Technique::Netns, "T1611"),
            ("nftables", Technique::Nftables, "T1562.004"),
            ("iptables", Technique::Iptables, "T1562.004"),
            ("ip_route", Technique::IpRoute, "T1562.004"),
            ("bypass", Technique::Bypass, "T1562.004"),
        ] {
            assert_eq!(technique.mitre_id(), mitre);
            for keyword in [keyword.to_owned(), keyword.to_ascii_uppercase()] {
                for line in [
                    format!("PROC:LAUNCH [LOW] /bin/x(1) {keyword} -t 1"),
                    format!("NET:OPEN [LOW] DENIED x [rule:a-{keyword}]"),
                    format!("FINDING:CREATE [LOW] an attempt by {keyword}"),
                ] {
                    assert_eq!(found(&line), Some((Severity::Low, technique)), "{line}");
                }
            }
        }
    }

    #[test]
    fn if_two_keywords_match_the_first_technique_of_the_list_counts() {
        for (index, first) in Technique::ALL.iter().enumerate() {
            for second in &Technique::ALL[index..] {
                for text in [format!("{first} {second}"), format!("{second} {first}")] {
                    let line = format!("PROC:LAUNCH [HIGH] {text}");
                    assert_eq!(found(&line), Some((Severity::High, *first)), "{line}");
                }
                let line = format!("PROC:LAUNCH [HIGH] {second} [by:{first}]");
                assert_eq!(found(&line), Some((Severity::High, *first)), "{line}");
            }
        }
    }

    #[test]
    fn only_findings_connections_and_processes_are_classified() {
        for line in [
            "CONFIG:LOADED [INFO] the option bypass_proxy is off",
            "HTTP:GET [HIGH] DENIED https://bypass.example.com/",
            "SSH:OPEN [HIGH] nsenter",
            "LIFECYCLE:START [HIGH] unshare",
            "EVENT [HIGH] iptables",
            "OTHER:THING [HIGH] iptables",
            "iptables was changed",
            "",
        ] {
            assert_eq!(found(line), None, "{line}");
        }
    }

    #[test]
    fn a_grave_refused_finding_is_a_bypass_without_a_keyword() {
        for (line, severity) in [
            ("FINDING:BLOCKED [HIGH] x", Some(Severity::High)),
            ("FINDING:DENIED [CRIT] x", Some(Severity::Crit)),
            ("FINDING:CREATE [FATAL] BLOCKED x", Some(Severity::Fatal)),
            ("FINDING:BLOCKED [MED] x", None),
            ("FINDING:ALLOWED [HIGH] x", None),
            ("FINDING:BLOCKED x", None),
            ("NET:OPEN [HIGH] BLOCKED x", None),
        ] {
            let expected = severity.map(|severity| (severity, Technique::Bypass));
            assert_eq!(found(line), expected, "{line}");
        }
    }

    #[test]
    fn a_connection_that_the_packet_filter_refused_is_a_bypass() {
        for disposition in ["DENIED", "BLOCKED"] {
            let line = format!("NET:OPEN {disposition} 10.0.0.1:53 [engine:iptables]");
            assert_eq!(found(&line), Some((Severity::High, Technique::Iptables)), "{line}");
        }
        assert_eq!(found("NET:OPEN [LOW] DENIED 10.0.0.1:53 [engine:opa]"), None);
    }

    #[test]
    fn what_of_a_url_can_be_a_credential_is_not_stored_but_classified() {
        for (text, summary) in [
            ("curl https://me:hidden@a.example/x", "curl https://a.example/x"),
            ("curl https://a.example/x?token=hidden", "curl https://a.example/x"),
            ("curl https://a.example/#hidden -v", "curl https://a.example/ -v"),
            ("a.example:443 GET /x?token=hidden", "a.example:443 GET /x"),
            ("a.example:443?token=hidden", "a.example:443"),
        ] {
            let urls = "url:https://me:hidden@b.example/?q=hidden next:/y?token=hidden";
            let line = format!("PROC:LAUNCH [LOW] DENIED /bin/x(1) unshare {text} [{urls}]");
            let found = classify(&line, Timestamp::EPOCH).unwrap();
            assert_eq!(found.technique, Technique::Unshare);
            assert_eq!(found.line.disposition, Some(Disposition::Denied));
            assert_eq!(found.line.binary.as_deref(), Some("/bin/x"));
            assert_eq!(found.line.summary, format!("/bin/x(1) unshare {summary}"));
            let fields = [("next", "/y"), ("url", "https://b.example/")];
            let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned()));
            assert_eq!(found.line.fields, std::collections::BTreeMap::from(fields));
        }
        // A keyword counts even where it is not stored: after a long text, in a field after many, and in a field whose
        // key occurs again.
        let fields: Vec<String> =
            (0..ocsf::FIELDS_MAX).map(|number| format!("a{number}:b")).collect();
        for line in [
            format!("PROC:LAUNCH [LOW] {} nsenter", "x".repeat(ocsf::SUMMARY_CHARACTERS_MAX)),
            format!("PROC:LAUNCH [LOW] x [a:{}nsenter]", "x".repeat(ocsf::FIELD_CHARACTERS_MAX)),
            format!("PROC:LAUNCH [LOW] x [{} z:nsenter]", fields.join(" ")),
            "PROC:LAUNCH [LOW] x [a:nsenter a:b]".to_owned(),
        ] {
            assert_eq!(found(&line), Some((Severity::Low, Technique::Nsenter)), "{line}");
        }
        let line = "PROC:LAUNCH [LOW] curl https://a.example/?x=nsenter";
        let found = classify(line, Timestamp::EPOCH).unwrap();
        assert_eq!(found.technique, Technique::Nsenter);
        assert_eq!(found.line.summary, "curl https://a.example/");
        // A password that is longer than a summary, or a line, is removed, not cut.
        for characters in [ocsf::SUMMARY_CHARACTERS_MAX, ocsf::LINE_BYTES_MAX] {
            let long = "x".repeat(characters);
            let line = format!("PROC:LAUNCH [LOW] unshare https://me:{long}@a.example/");
            let found = classify(&line, Timestamp::EPOCH).unwrap();
            assert_eq!(found.line.summary, "unshare https://a.example/");
        }
        // The fields do not begin within a password.
        let line = "PROC:LAUNCH [LOW] unshare [url:https://me:hid[den@a.example/]";
        let found = classify(line, Timestamp::EPOCH).unwrap();
        assert_eq!(found.line.summary, "unshare");
        assert_eq!(found.line.fields["url"], "https://a.example/");
    }

    #[test]
    fn t20_what_is_stored_has_no_invisible_characters() {
        let line = "PROC:LAUNCH [LOW] /bin/s\u{ad}h(1) nsenter a\u{3164}\u{e0041}\u{61c}b [k\u{2800}:\u{ad}v]";
        let OcsfLine { summary, fields, binary, .. } =
            classify(line, Timestamp::EPOCH).unwrap().line;
        assert_eq!(summary, "/bin/s h(1) nsenter a   b");
        assert_eq!(fields, std::collections::BTreeMap::from([("k ".to_owned(), " v".to_owned())]));
        assert_eq!(binary.as_deref(), Some("/bin/s h"));
    }

    #[test]
    fn the_hash_is_that_of_the_whole_line() {
        let hash = |line: &str| classify(line, Timestamp::EPOCH).unwrap().line_hash;
        let long = format!("PROC:LAUNCH [LOW] bypass {}", "x".repeat(ocsf::LINE_BYTES_MAX));
        assert_ne!(hash(&long), hash(&format!("{long}y")));
        assert_eq!(hash(&long).len(), 64);
    }
}

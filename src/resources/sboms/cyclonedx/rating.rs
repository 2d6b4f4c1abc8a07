//! Reads the ratings of a vulnerability: the worst severity, and its score.

use serde::de::MapAccess;

use super::Severity;
use super::lenient::{Number, Record, Seed, Text, skip};

/// Highest score of CVSS.
const CVSS_MAX: f64 = 10.0;

/// The worst rating so far. The first of equal ratings wins.
#[derive(Default)]
pub(super) struct WorstRating(Option<(Severity, Option<f64>)>);

impl WorstRating {
    pub(super) fn add(&mut self, rating: &Rating) {
        if let Some(severity) = rating.severity()
            && severity.outranks(self.0.map(|(severity, _)| severity))
        {
            self.0 = Some((severity, rating.score.filter(|score| score.is_finite())));
        }
    }

    /// Returns severity and score. `Unknown` without a usable rating.
    pub(super) fn get(&self) -> (Severity, Option<f64>) {
        self.0.unwrap_or((Severity::Unknown, None))
    }
}

/// An entry of `ratings`.
#[derive(Default)]
pub(super) struct Rating {
    severity: Option<String>,
    score: Option<f64>,
    method: Option<String>,
    vector: Option<String>,
}

impl Rating {
    /// Returns the severity that it states or, since that is optional, the severity of its score.
    fn severity(&self) -> Option<Severity> {
        let stated = self.severity.as_deref().and_then(Severity::parse);
        match stated {
            None | Some(Severity::Unknown) => self.severity_of_score().or(stated),
            Some(_) => stated,
        }
    }

    /// Returns the severity of a CVSS score. `None` for other methods, whose scales are not known.
    fn severity_of_score(&self) -> Option<Severity> {
        let score = self.score.filter(|score| (0.0..=CVSS_MAX).contains(score))?;
        let method = self.method.as_deref().unwrap_or_default().trim().to_lowercase();
        let vector = self.vector.as_deref().unwrap_or_default().trim_start();
        match method.as_str() {
            "cvssv2" => Some(of_cvss_2(score)),
            "cvssv3" | "cvssv31" | "cvssv4" => Some(of_cvss_3(score)),
            "" if vector.starts_with("CVSS:3.") || vector.starts_with("CVSS:4.") => {
                Some(of_cvss_3(score))
            }
            _ => None,
        }
    }
}

/// Returns the severity of a score of CVSS 3.0, 3.1 or 4.0, whose specifications have the same qualitative scale.
fn of_cvss_3(score: f64) -> Severity {
    match score {
        9.0.. => Severity::Critical,
        7.0.. => Severity::High,
        4.0.. => Severity::Medium,
        score if score > 0.0 => Severity::Low,
        _ => Severity::None,
    }
}

/// Returns the severity of a score of CVSS 2.0, as the National Vulnerability Database rates it: the specification
/// has no scale.
fn of_cvss_2(score: f64) -> Severity {
    match score {
        7.0.. => Severity::High,
        4.0.. => Severity::Medium,
        _ => Severity::Low,
    }
}

impl Record for Rating {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "severity" => self.severity = object.next_value_seed(Seed(Text))?,
            "score" => self.score = object.next_value_seed(Seed(Number))?,
            "method" => self.method = object.next_value_seed(Seed(Text))?,
            "vector" => self.vector = object.next_value_seed(Seed(Text))?,
            _ => skip(object)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(method: &str, vector: &str, score: f64) -> (Severity, Option<f64>) {
        let (method, vector) = (Some(method.to_owned()), Some(vector.to_owned()));
        let mut worst = WorstRating::default();
        worst.add(&Rating { severity: None, score: Some(score), method, vector });
        worst.get()
    }

    // The qualitative severity rating scales of CVSS 3.1 (section 5) and 4.0 (section 6).
    #[test]
    fn a_cvss_score_without_a_severity_gives_the_severity() {
        for (score, severity) in [
            (0.0, Severity::None),
            (0.1, Severity::Low),
            (3.9, Severity::Low),
            (4.0, Severity::Medium),
            (6.9, Severity::Medium),
            (7.0, Severity::High),
            (8.9, Severity::High),
            (9.0, Severity::Critical),
            (10.0, Severity::Critical),
        ] {
            for method in ["CVSSv3", "CVSSv31", "CVSSv4", "cvssv31"] {
                assert_eq!(rated(method, "", score), (severity, Some(score)), "{method} {score}");
            }
            assert_eq!(rated("", "CVSS:3.1/AV:N/AC:L", score), (severity, Some(score)));
        }
        assert_eq!(rated("CVSSv2", "", 10.0).0, Severity::High);
        assert_eq!(rated("CVSSv2", "", 6.9).0, Severity::Medium);
        assert_eq!(rated("CVSSv2", "", 0.0).0, Severity::Low);
        for (method, score) in
            [("OWASP", 9.8), ("SSVC", 1.0), ("other", 9.8), ("", 9.8), ("CVSSv31", 10.1)]
        {
            assert_eq!(rated(method, "", score), (Severity::Unknown, None), "{method} {score}");
        }
        assert_eq!(rated("CVSSv31", "", -0.1), (Severity::Unknown, None));
        assert_eq!(rated("CVSSv31", "", f64::NAN), (Severity::Unknown, None));
    }

    #[test]
    fn a_stated_severity_is_kept_and_an_unknown_one_is_replaced() {
        let stated = |severity: &str| {
            let mut worst = WorstRating::default();
            let method = Some("CVSSv31".to_owned());
            let severity = Some(severity.to_owned());
            worst.add(&Rating { severity, score: Some(9.8), method, vector: None });
            worst.get().0
        };
        assert_eq!(stated("low"), Severity::Low);
        for unstated in ["unknown", "", " ", "dire"] {
            assert_eq!(stated(unstated), Severity::Critical, "{unstated}");
        }
    }
}

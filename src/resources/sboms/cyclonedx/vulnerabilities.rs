//! Reads the vulnerabilities of a CycloneDX document.

use std::collections::HashSet;

use serde::de::{self, MapAccess, SeqAccess};

use super::lenient::{EachRecord, Fields, Number, ReadJson, Record, Seed, Text, skip};
use super::read::{Parser, lines, read_each};
use super::{
    AFFECTS_MAX, DESCRIPTION_CHARACTERS_MAX, ID_CHARACTERS_MAX, REFERENCE_CHARACTERS_MAX,
    REFERENCES_MAX, Severity, VULNERABILITIES_MAX, Vulnerability, shorten,
};

/// Reads the list of vulnerabilities.
pub(super) struct Vulnerabilities<'a>(pub(super) &'a mut Parser);

impl<'de> ReadJson<'de> for Vulnerabilities<'_> {
    type Out = ();

    fn other<E: de::Error>(self) -> Result<(), E> {
        Err(self.0.refuse("vulnerabilities", "must be a list".to_owned()))
    }

    fn null<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        read_each(self.0, "vulnerabilities", &mut list, |reading, list| {
            list.next_element_seed(Seed(VulnerabilityObject(reading)))
        })
    }
}

/// Reads one vulnerability.
struct VulnerabilityObject<'a>(&'a mut Parser);

impl<'de> ReadJson<'de> for VulnerabilityObject<'_> {
    type Out = ();

    fn other<E: de::Error>(self) -> Result<(), E> {
        self.0.document.skipped += 1;
        Ok(())
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Self(reading) = self;
        let (mut id, mut description, mut worst) = (None, None, WorstRating::default());
        let (mut affects, mut advisories, mut references) =
            (None, Urls::default(), Urls::default());
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                "id" => id = object.next_value_seed(Seed(Text))?,
                "description" => description = object.next_value_seed(Seed(Text))?,
                "ratings" => {
                    object.next_value_seed(EachRecord::seed(|rating| worst.add(&rating)))?
                }
                "affects" => affects = Some(object.next_value_seed(Seed(Affects(reading)))?),
                "advisories" => {
                    object.next_value_seed(EachRecord::seed(|link| advisories.add(link)))?
                }
                "references" => {
                    object.next_value_seed(EachRecord::seed(|link| references.add(link)))?
                }
                _ => skip(&mut object)?,
            }
        }
        let id = id.unwrap_or_default();
        if id.trim().is_empty() {
            reading.document.skipped += 1;
            return Ok(());
        }
        if reading.document.vulnerabilities.len() >= VULNERABILITIES_MAX {
            let why = format!("must be at most {VULNERABILITIES_MAX}");
            return Err(reading.refuse("vulnerabilities", why));
        }
        let id = reading.required("id", &id, ID_CHARACTERS_MAX)?;
        let (severity, score) = worst.0.unwrap_or((Severity::Unknown, None));
        let mut links = advisories.0;
        links.extend(references.0);
        links.truncate(REFERENCES_MAX);
        let kept = |link| reading.optional("references", Some(link), REFERENCE_CHARACTERS_MAX);
        let references = links.into_iter().filter_map(kept).collect();
        let description = description.map(|text| {
            let mut text = lines(&text);
            if shorten(&mut text, DESCRIPTION_CHARACTERS_MAX) {
                reading.record_cut("description");
            }
            text
        });
        let description = description.filter(|text| !text.is_empty());
        let affects = affects.unwrap_or_default();
        let found = Vulnerability { id, severity, score, description, affects, references };
        reading.document.vulnerabilities.push(found);
        Ok(())
    }
}

/// The worst rating so far. The first of equal ratings wins.
#[derive(Default)]
struct WorstRating(Option<(Severity, Option<f64>)>);

impl WorstRating {
    fn add(&mut self, rating: &Rating) {
        let severity = rating.severity.as_deref().and_then(Severity::parse);
        if let Some(severity) = severity
            && severity.outranks(self.0.map(|(severity, _)| severity))
        {
            self.0 = Some((severity, rating.score.filter(|score| score.is_finite())));
        }
    }
}

/// An entry of `ratings`.
#[derive(Default)]
struct Rating {
    severity: Option<String>,
    score: Option<f64>,
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
            _ => skip(object)?,
        }
        Ok(())
    }
}

/// Reads `affects`, without duplicates.
struct Affects<'a>(&'a mut Parser);

impl<'de> ReadJson<'de> for Affects<'_> {
    type Out = Vec<String>;

    fn other<E: de::Error>(self) -> Result<Vec<String>, E> {
        Ok(Vec::new())
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
        let Self(reading) = self;
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        while let Some(entry) = list.next_element_seed(Fields::<AffectsEntry>::seed())? {
            reading.affects += 1;
            if reading.affects > AFFECTS_MAX {
                let why = format!("must be at most {AFFECTS_MAX} in all vulnerabilities");
                return Err(reading.refuse("affects", why));
            }
            if let Some(reference) = reading.reference("affects", entry.reference)
                && seen.insert(reference.clone())
            {
                found.push(reference);
            }
        }
        Ok(found)
    }
}

/// An entry of `affects`.
#[derive(Default)]
struct AffectsEntry {
    reference: Option<String>,
}

impl Record for AffectsEntry {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "ref" => self.reference = object.next_value_seed(Seed(Text))?,
            _ => skip(object)?,
        }
        Ok(())
    }
}

/// URLs of more information, up to [`REFERENCES_MAX`].
#[derive(Default)]
struct Urls(Vec<String>);

impl Urls {
    fn add(&mut self, link: Link) {
        let found = link.url.or(link.source.url);
        if self.0.len() < REFERENCES_MAX {
            self.0.extend(found.filter(|url| !url.trim().is_empty()));
        }
    }
}

/// An entry of `advisories` or `references`.
#[derive(Default)]
struct Link {
    url: Option<String>,
    source: Source,
}

/// Publisher of a link.
#[derive(Default)]
struct Source {
    url: Option<String>,
}

impl Record for Source {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "url" => self.url = object.next_value_seed(Seed(Text))?,
            _ => skip(object)?,
        }
        Ok(())
    }
}

impl Record for Link {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "url" => self.url = object.next_value_seed(Seed(Text))?,
            "source" => self.source = object.next_value_seed(Fields::seed())?,
            _ => skip(object)?,
        }
        Ok(())
    }
}

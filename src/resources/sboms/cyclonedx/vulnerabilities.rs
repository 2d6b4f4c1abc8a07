//! Reads the vulnerabilities of a CycloneDX document.

use serde::de::{self, MapAccess, SeqAccess};

use super::affected::VersionEntry;
use super::count::AffectsEntry;
use super::lenient::{EachRecord, Fields, ReadJson, Record, Seed, Text, skip};
use super::rating::WorstRating;
use super::read::{Parser, lines, read_each};
use super::{
    AFFECTED_VERSIONS_MAX, AFFECTS_MAX, AnalysisState, DESCRIPTION_CHARACTERS_MAX,
    ID_CHARACTERS_MAX, REFERENCE_CHARACTERS_MAX, REFERENCES_MAX, VULNERABILITIES_MAX,
    Vulnerability,
};
use crate::characters::shorten;

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
        let mut analysis = Analysis::default();
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                "id" => id = object.next_value_seed(Seed(Text))?,
                "description" => description = object.next_value_seed(Seed(Text))?,
                "ratings" => {
                    object.next_value_seed(EachRecord::seed(|rating| worst.add(&rating)))?;
                }
                "affects" => affects = Some(object.next_value_seed(Seed(Affects(reading)))?),
                "analysis" => analysis = object.next_value_seed(Fields::seed())?,
                "advisories" => {
                    object.next_value_seed(EachRecord::seed(|link| advisories.add(link)))?;
                }
                "references" => {
                    object.next_value_seed(EachRecord::seed(|link| references.add(link)))?;
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
        let (severity, score) = worst.get();
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
        reading.document.vulnerabilities.push(Vulnerability {
            id,
            severity,
            score,
            description,
            affects: Vec::new(),
            references,
            state: analysis.state(),
            counts: true,
            entries: affects.unwrap_or_default(),
        });
        Ok(())
    }
}

/// `analysis`: what the author of the document found out about the vulnerability.
#[derive(Default)]
struct Analysis {
    state: Option<String>,
}

impl Analysis {
    /// Returns the state. `None` if it is missing or not one of the format, since an unknown word proves nothing.
    fn state(&self) -> Option<AnalysisState> {
        AnalysisState::from_word(self.state.as_deref()?.trim())
    }
}

impl Record for Analysis {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "state" => self.state = object.next_value_seed(Seed(Text))?,
            _ => skip(object)?,
        }
        Ok(())
    }
}

/// Reads `affects`.
struct Affects<'a>(&'a mut Parser);

impl<'de> ReadJson<'de> for Affects<'_> {
    type Out = Vec<AffectsEntry>;

    fn other<E: de::Error>(self) -> Result<Vec<AffectsEntry>, E> {
        Ok(Vec::new())
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<AffectsEntry>, A::Error> {
        let Self(reading) = self;
        let mut found = Vec::new();
        while let Some(entry) = list.next_element_seed(Fields::<Affected>::seed())? {
            reading.affects += 1;
            if reading.affects > AFFECTS_MAX {
                let why = format!("must be at most {AFFECTS_MAX} in all vulnerabilities");
                return Err(reading.refuse("affects", why));
            }
            reading.affected_versions += entry.versions.len();
            if reading.affected_versions > AFFECTED_VERSIONS_MAX {
                let why = format!("must be at most {AFFECTED_VERSIONS_MAX} in all vulnerabilities");
                return Err(reading.refuse("affects.versions", why));
            }
            if let Some(reference) = reading.reference("affects", entry.reference) {
                found.push(AffectsEntry { reference, versions: entry.versions });
            }
        }
        Ok(found)
    }
}

/// An entry of `affects`.
#[derive(Default)]
struct Affected {
    reference: Option<String>,
    versions: Vec<VersionEntry>,
}

impl Record for Affected {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "ref" => self.reference = object.next_value_seed(Seed(Text))?,
            "versions" => {
                object.next_value_seed(EachRecord::seed(|entry| self.add_version(entry)))?;
            }
            _ => skip(object)?,
        }
        Ok(())
    }
}

impl Affected {
    /// Adds a version. One more than the limit is enough to reject the document.
    fn add_version(&mut self, entry: VersionEntry) {
        if self.versions.len() <= AFFECTED_VERSIONS_MAX {
            self.versions.push(entry);
        }
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

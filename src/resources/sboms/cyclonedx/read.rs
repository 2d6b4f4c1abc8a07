//! Reads the fields of a CycloneDX document and tracks the path for error messages.

use std::fmt::Write;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess};

use super::count::bom_link;
use super::lenient::{EachRecord, Fields, Number, ReadJson, Record, Seed, Text, skip};
use super::vulnerabilities::Vulnerabilities;
use super::{
    BOM_FORMAT, BOM_REF_CHARACTERS_MAX, COMPONENTS_MAX, CUT_PATHS_MAX, Component, DEPTH_MAX,
    Document, GROUP_CHARACTERS_MAX, KIND_CHARACTERS_MAX, LICENSES_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX, PURL_CHARACTERS_MAX, SERIAL_CHARACTERS_MAX, VERSION_CHARACTERS_MAX,
    check_version,
};
use crate::characters::shorten;
use crate::error::Error;
use crate::resources::sboms::purl;

/// State of the parser.
#[derive(Default)]
pub(super) struct Parser {
    pub(super) document: Document,
    format: Option<String>,
    version: Option<String>,
    is_object: bool,
    /// Current path, such as `components[3].components[0]`.
    path: String,
    depth: usize,
    /// Number of references from vulnerabilities to components so far.
    pub(super) affects: usize,
    /// Number of versions at these references so far.
    pub(super) affected_versions: usize,
    /// Version of the document itself.
    document_version: Option<f64>,
    /// Error that ended the parsing. Stored here because a serde error cannot carry it.
    refusal: Option<Error>,
}

impl Parser {
    /// Parses a whole document.
    pub(super) fn parse(text: &str) -> Result<Document, Error> {
        let mut reading = Self::default();
        let mut json = serde_json::Deserializer::from_str(text);
        let read = Seed(Root(&mut reading)).deserialize(&mut json).and_then(|()| json.end());
        if let Some(refusal) = reading.refusal.take() {
            return Err(refusal);
        }
        if let Err(error) = read {
            let why = format!(
                "is not JSON that can be read: line {}, column {}",
                error.line(),
                error.column()
            );
            return Err(Error::invalid("chunk", why));
        }
        if !reading.is_object {
            return Err(Error::invalid("chunk", "must be a JSON object"));
        }
        if reading.format.as_deref() != Some(BOM_FORMAT) {
            return Err(Error::invalid("bomFormat", format!("must be `{BOM_FORMAT}`")));
        }
        reading.document.spec_version = check_version(reading.version.take())?;
        let serial = reading.document.serial_number.as_deref();
        reading.document.bom_link = bom_link(serial, reading.document_version);
        Ok(reading.document)
    }

    /// Stops the parsing with an error.
    pub(super) fn refuse<E: de::Error>(&mut self, field: &str, why: String) -> E {
        self.refusal = Some(Error::invalid(field, why));
        E::custom("refused")
    }

    pub(super) fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    /// Runs `read` with `step` applied to the path.
    fn with_path<T>(
        &mut self,
        step: impl FnOnce(&mut String),
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let length = self.path.len();
        step(&mut self.path);
        let read = read(self);
        self.path.truncate(length);
        read
    }

    /// Cleans and cuts an optional text of one line. `None` if it is empty.
    pub(super) fn optional(
        &mut self,
        field: &str,
        text: Option<String>,
        max: usize,
    ) -> Option<String> {
        let mut text = line(&text?);
        if shorten(&mut text, max) {
            self.record_cut(field);
        }
        (!text.is_empty()).then_some(text)
    }

    pub(super) fn record_cut(&mut self, field: &str) {
        self.document.cut += 1;
        if self.document.cut_paths.len() < CUT_PATHS_MAX {
            let path = self.path_of(field);
            self.document.cut_paths.push(path);
        }
    }

    /// Cleans a name or id. It is rejected if too long, since cutting could make two of them equal.
    pub(super) fn required<E: de::Error>(
        &mut self,
        field: &str,
        text: &str,
        max: usize,
    ) -> Result<String, E> {
        let text = line(text);
        let count = text.chars().count();
        if count > max {
            let path = self.path_of(field);
            return Err(
                self.refuse(&path, format!("must be at most {max} characters, got {count}"))
            );
        }
        Ok(text)
    }

    /// Cleans a reference to a component. A long one is only counted here: it stays whole until it has been matched
    /// with its component.
    pub(super) fn reference(&mut self, field: &str, text: Option<String>) -> Option<String> {
        let text = line(&text?);
        if text.chars().nth(BOM_REF_CHARACTERS_MAX).is_some() {
            self.record_cut(field);
        }
        (!text.is_empty()).then_some(text)
    }
}

/// Trims a text and replaces control characters, which terminals interpret and some of which PostgreSQL rejects.
fn line(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// As `line`, but keeps line breaks and tabs.
pub(super) fn lines(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
    text.trim().replace("\r\n", "\n").chars().map(shown).collect()
}

/// Reads the document.
struct Root<'a>(&'a mut Parser);

impl<'de> ReadJson<'de> for Root<'_> {
    type Out = ();

    fn other<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Self(reading) = self;
        reading.is_object = true;
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                "bomFormat" => reading.format = object.next_value_seed(Seed(Text))?,
                "specVersion" => reading.version = object.next_value_seed(Seed(Text))?,
                "version" => {
                    reading.document_version = object.next_value_seed(Seed(Number))?;
                }
                "serialNumber" => {
                    let serial = object.next_value_seed(Seed(Text))?;
                    let serial = reading.optional("serialNumber", serial, SERIAL_CHARACTERS_MAX);
                    reading.document.serial_number = serial;
                }
                "metadata" => reading.with_path(
                    |path| path.push_str("metadata"),
                    |reading| object.next_value_seed(Seed(Metadata(reading))),
                )?,
                "components" => object.next_value_seed(Seed(Components(reading)))?,
                "vulnerabilities" => object.next_value_seed(Seed(Vulnerabilities(reading)))?,
                _ => skip(&mut object)?,
            }
        }
        Ok(())
    }
}

/// Reads `metadata`.
struct Metadata<'a>(&'a mut Parser);

impl<'de> ReadJson<'de> for Metadata<'_> {
    type Out = ();

    fn other<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Self(reading) = self;
        while let Some(key) = object.next_key::<String>()? {
            if key == "component" {
                reading.with_path(
                    |path| path.push_str(".component"),
                    |reading| object.next_value_seed(Seed(ComponentObject(reading))),
                )?;
            } else {
                skip(&mut object)?;
            }
        }
        Ok(())
    }
}

/// Reads a list of components.
struct Components<'a>(&'a mut Parser);

impl<'de> ReadJson<'de> for Components<'_> {
    type Out = ();

    fn other<E: de::Error>(self) -> Result<(), E> {
        let path = self.0.path_of("components");
        Err(self.0.refuse(&path, "must be a list".to_owned()))
    }

    fn null<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn list<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self(reading) = self;
        reading.depth += 1;
        if reading.depth > DEPTH_MAX {
            let path = reading.path_of("components");
            let why = format!("is nested deeper than {DEPTH_MAX} levels");
            return Err(reading.refuse(&path, why));
        }
        let read = read_each(reading, "components", &mut list, |reading, list| {
            list.next_element_seed(Seed(ComponentObject(reading)))
        });
        reading.depth -= 1;
        read
    }
}

/// Reads the entries of a list, each with its index in the path.
pub(super) fn read_each<'de, A: SeqAccess<'de>>(
    reading: &mut Parser,
    name: &str,
    list: &mut A,
    read: impl Fn(&mut Parser, &mut A) -> Result<Option<()>, A::Error>,
) -> Result<(), A::Error> {
    let dot = if reading.path.is_empty() { "" } else { "." };
    for at in 0.. {
        // Writing to a String cannot fail.
        let step = |path: &mut String| _ = write!(path, "{dot}{name}[{at}]");
        if reading.with_path(step, |reading| read(reading, list))?.is_none() {
            break;
        }
    }
    Ok(())
}

/// Reads one component and its nested components.
struct ComponentObject<'a>(&'a mut Parser);

impl<'de> ReadJson<'de> for ComponentObject<'_> {
    type Out = ();

    fn other<E: de::Error>(self) -> Result<(), E> {
        self.0.document.skipped += 1;
        Ok(())
    }

    fn object<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let Self(reading) = self;
        let (mut found, mut name, mut licenses) = (Component::default(), None, Licenses::default());
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                "bom-ref" => found.bom_ref = object.next_value_seed(Seed(Text))?,
                "name" => name = object.next_value_seed(Seed(Text))?,
                "group" => found.group = object.next_value_seed(Seed(Text))?,
                "version" => found.version = object.next_value_seed(Seed(Text))?,
                "purl" => found.purl = object.next_value_seed(Seed(Text))?,
                "type" => found.kind = object.next_value_seed(Seed(Text))?,
                "licenses" => {
                    object.next_value_seed(EachRecord::seed(|license| licenses.add(license)))?;
                }
                "components" => object.next_value_seed(Seed(Components(reading)))?,
                _ => skip(&mut object)?,
            }
        }
        let name = name.unwrap_or_default();
        if name.trim().is_empty() {
            reading.document.skipped += 1;
            return Ok(());
        }
        if reading.document.components.len() >= COMPONENTS_MAX {
            let why = format!("must be at most {COMPONENTS_MAX}, nested ones included");
            return Err(reading.refuse("components", why));
        }
        found.name = reading.required("name", &name, NAME_CHARACTERS_MAX)?;
        found.bom_ref = reading.reference("bom-ref", found.bom_ref.take());
        found.group = reading.optional("group", found.group.take(), GROUP_CHARACTERS_MAX);
        found.version = reading.optional("version", found.version.take(), VERSION_CHARACTERS_MAX);
        found.purl = reading.optional("purl", found.purl.take(), PURL_CHARACTERS_MAX);
        found.version = found.version.take().or_else(|| purl::version(found.purl.as_deref()?));
        found.kind = reading.optional("type", found.kind.take(), KIND_CHARACTERS_MAX);
        found.licenses = reading.optional("licenses", licenses.join(), LICENSES_CHARACTERS_MAX);
        reading.document.components.push(found);
        Ok(())
    }
}

/// Names of the licenses of a component.
#[derive(Default)]
struct Licenses(Vec<String>);

impl Licenses {
    fn add(&mut self, entry: License) {
        let License { id, name, expression } = entry;
        let texts = [id, name, expression].into_iter().flatten();
        self.0.extend(texts.map(|text| text.trim().to_owned()).find(|text| !text.is_empty()));
    }

    fn join(self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join(", "))
    }
}

/// An entry of `licenses`: a license or an expression.
#[derive(Default)]
struct License {
    id: Option<String>,
    name: Option<String>,
    expression: Option<String>,
}

/// `id` and `name` in a `license` object.
#[derive(Default)]
struct IdAndName {
    id: Option<String>,
    name: Option<String>,
}

impl Record for IdAndName {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "id" => self.id = object.next_value_seed(Seed(Text))?,
            "name" => self.name = object.next_value_seed(Seed(Text))?,
            _ => skip(object)?,
        }
        Ok(())
    }
}

impl Record for License {
    fn field<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        object: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "license" => {
                let IdAndName { id, name } = object.next_value_seed(Fields::seed())?;
                (self.id, self.name) = (id, name);
            }
            "expression" => self.expression = object.next_value_seed(Seed(Text))?,
            _ => skip(object)?,
        }
        Ok(())
    }
}

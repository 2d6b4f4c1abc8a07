//! Distinguished names of certificates: their text form, and their comparison (RFC 4514; RFC 5280, section 7.1).
//!
//! Names are never compared as texts: a separator inside a value looks like a separator between two values, so two
//! issuers can have the same text.
//!
//! Invariants
//! - two names are equal only if they have the same attributes with the same values, in the same order; only the
//!   attributes of one relative name have no order;
//! - a value with characters is compared by its characters, since issuers choose different string types for the same
//!   text; any other value is compared by type and encoding;
//! - case and spaces of values count. RFC 5280 would ignore them, so no two issuers are confused here that differ
//!   there.

use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Keywords of attribute types, in upper case: those of RFC 4514, section 3, and those that OpenSSL prints.
const KEYWORDS: &[(&str, &str)] = &[
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("TITLE", "2.5.4.12"),
    ("BUSINESSCATEGORY", "2.5.4.15"),
    ("POSTALCODE", "2.5.4.17"),
    ("GN", "2.5.4.42"),
    ("GIVENNAME", "2.5.4.42"),
    ("INITIALS", "2.5.4.43"),
    ("GENERATIONQUALIFIER", "2.5.4.44"),
    ("DNQUALIFIER", "2.5.4.46"),
    ("PSEUDONYM", "2.5.4.65"),
    ("ORGANIZATIONIDENTIFIER", "2.5.4.97"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
];

/// A distinguished name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DistinguishedName(Vec<RelativeName>);

/// The attributes of one relative name, sorted.
type RelativeName = Vec<Attribute>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Attribute {
    /// Type, as a dotted object identifier.
    kind: String,
    value: AttributeValue,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum AttributeValue {
    Text(String),
    Encoded { class: u8, tag: u32, content: Vec<u8> },
}

impl DistinguishedName {
    /// Parses the text form of RFC 4514, such as `CN=callers,O=Example`: the last relative name of the certificate is
    /// the first in the text. Spaces beside separators are ignored.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let relative_name =
            |text| split(text, '+').into_iter().map(Attribute::parse).collect::<Result<_, _>>();
        let mut names: Vec<RelativeName> =
            split(text, ',').into_iter().map(relative_name).collect::<Result<_, _>>()?;
        names.reverse();
        Ok(Self::from_parts(names))
    }

    fn from_parts(mut names: Vec<RelativeName>) -> Self {
        for name in &mut names {
            name.sort();
        }
        Self(names)
    }
}

impl From<&X509Name<'_>> for DistinguishedName {
    fn from(name: &X509Name<'_>) -> Self {
        Self::from_parts(
            name.iter_rdn().map(|part| part.iter().map(Attribute::from).collect()).collect(),
        )
    }
}

impl From<&AttributeTypeAndValue<'_>> for Attribute {
    fn from(given: &AttributeTypeAndValue<'_>) -> Self {
        Self {
            kind: given.attr_type().to_id_string(),
            value: AttributeValue::from_asn1(given.attr_value()),
        }
    }
}

impl Attribute {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (kind, value) =
            text.split_once('=').ok_or("each part must have a type and a value, as in `CN=a`")?;
        let kind = parse_kind(kind.trim_matches(' '))
            .ok_or("it has an attribute type that is neither a known keyword nor an OID")?;
        let value = value.trim_start_matches(' ');
        let value = match value.strip_prefix('#') {
            Some(digits) => AttributeValue::from_hex(digits.trim_end_matches(' '))
                .ok_or("the value after `#` must be a hexadecimal DER encoding")?,
            None => AttributeValue::Text(unescape(value)?),
        };
        Ok(Self { kind, value })
    }
}

impl AttributeValue {
    fn from_asn1(value: &Any<'_>) -> Self {
        let (class, tag) = (value.class(), value.tag());
        let text = if class == Class::Universal { decode_text(tag, value.data) } else { None };
        let encoded =
            || Self::Encoded { class: class as u8, tag: tag.0, content: value.data.to_vec() };
        text.map_or_else(encoded, Self::Text)
    }

    fn from_hex(digits: &str) -> Option<Self> {
        let digits: Vec<u32> = digits.chars().map(|c| c.to_digit(16)).collect::<Option<_>>()?;
        let (pairs, rest) = digits.as_chunks::<2>();
        let byte = |pair: &[u32; 2]| u8::try_from(pair[0] * 16 + pair[1]).ok();
        let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
        let (after, value) = Any::from_der(&bytes).ok()?;
        (rest.is_empty() && after.is_empty()).then(|| Self::from_asn1(&value))
    }
}

/// Returns the characters of a value; `None` if its type has none, or if they cannot be decoded for certain.
fn decode_text(tag: Tag, content: &[u8]) -> Option<String> {
    match tag {
        Tag::Utf8String => std::str::from_utf8(content).ok().map(str::to_owned),
        // The character set of a TeletexString is only certain for ASCII.
        Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString
        | Tag::TeletexString => {
            std::str::from_utf8(content).ok().filter(|text| text.is_ascii()).map(str::to_owned)
        }
        Tag::BmpString => {
            let (units, rest) = content.as_chunks::<2>();
            let units = units.iter().map(|unit| u16::from_be_bytes(*unit));
            let text = char::decode_utf16(units).collect::<Result<String, _>>().ok();
            text.filter(|_| rest.is_empty())
        }
        Tag::UniversalString => {
            let (units, rest) = content.as_chunks::<4>();
            let character = |unit: &[u8; 4]| char::from_u32(u32::from_be_bytes(*unit));
            units.iter().map(character).collect::<Option<String>>().filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

fn parse_kind(text: &str) -> Option<String> {
    let keyword = text.to_ascii_uppercase();
    if let Some((_, oid)) = KEYWORDS.iter().find(|(known, _)| *known == keyword) {
        return Some((*oid).to_owned());
    }
    let is_number = |part: &str| {
        part.bytes().all(|b| b.is_ascii_digit())
            && !part.is_empty()
            && (part == "0" || !part.starts_with('0'))
    };
    (text.contains('.') && text.split('.').all(is_number)).then(|| text.to_owned())
}

/// Splits a text at the separators that are not escaped.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == separator {
            parts.push(&text[start..at]);
            start = at + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Resolves the escapes of a value, and removes trailing spaces that are not escaped.
fn unescape(text: &str) -> Result<String, &'static str> {
    let (mut bytes, mut kept) = (Vec::with_capacity(text.len()), 0);
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => bytes.push(
                unescape_one(&mut rest)
                    .ok_or("a `\\` must be followed by a special character or two digits")?,
            ),
            '"' | ';' | '<' | '>' | '\0' => {
                return Err("write `\\` before each `\"`, `;`, `<` and `>` of a value");
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        if c != ' ' {
            kept = bytes.len();
        }
    }
    bytes.truncate(kept);
    String::from_utf8(bytes).map_err(|_| "the escaped bytes of a value must be UTF-8")
}

fn unescape_one(rest: &mut std::str::Chars<'_>) -> Option<u8> {
    let first = rest.next()?;
    if " \"#+,;<=>\\".contains(first) {
        return u8::try_from(first).ok();
    }
    let (high, low) = (first.to_digit(16)?, rest.next()?.to_digit(16)?);
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
#[path = "dn_tests.rs"]
mod tests;

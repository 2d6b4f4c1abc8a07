//! Names that are equal, and names that only look equal.

use x509_parser::asn1_rs::Oid;
use x509_parser::x509::RelativeDistinguishedName;

use super::*;

const CN: &str = "2.5.4.3";
const O: &str = "2.5.4.10";
const DC: &str = "0.9.2342.19200300.100.1.25";

/// Type, tag and content of an attribute.
type Part = (&'static str, Tag, &'static [u8]);

/// Returns the name of a certificate: relative names in the order of the certificate.
fn certified(names: &[&[Part]]) -> X509Name<'static> {
    let attribute = |(oid, tag, content): &Part| {
        let oid: Oid<'static> = oid.parse().unwrap();
        AttributeTypeAndValue::new(oid, Any::from_tag_and_data(*tag, content))
    };
    let relative =
        |parts: &&[Part]| RelativeDistinguishedName::new(parts.iter().map(attribute).collect());
    X509Name::new(names.iter().map(relative).collect(), &[])
}

fn utf8(oid: &'static str, text: &'static str) -> Part {
    (oid, Tag::Utf8String, text.as_bytes())
}

#[test]
fn a_name_is_recognized_by_its_text_of_rfc_4514() {
    let table: [(X509Name<'_>, &[&str]); 9] = [
        (
            certified(&[&[utf8(O, "Example")], &[utf8(CN, "callers")]]),
            &["CN=callers,O=Example", "cn = callers , o=Example", "2.5.4.3=callers,O=Example"],
        ),
        (
            certified(&[&[utf8(O, "Example, Inc.")], &[utf8(CN, "callers")]]),
            &["CN=callers,O=Example\\, Inc.", "CN=callers,O=Example\\2C Inc."],
        ),
        (
            certified(&[&[utf8(DC, "org")], &[utf8(DC, "example")], &[utf8(CN, "Case CA")]]),
            &["CN=Case CA,DC=example,DC=org"],
        ),
        (
            certified(&[&[utf8(O, "Example")], &[utf8("2.5.4.11", "a"), utf8(CN, "callers")]]),
            &["OU=a+CN=callers,O=Example", "CN=callers + OU=a, O=Example"],
        ),
        (certified(&[&[utf8(CN, " a#\"<b>;=\\ ")]]), &["CN=\\ a#\\\"\\<b\\>\\;\\=\\\\\\ "]),
        (certified(&[&[utf8(CN, "L\u{fc}beck")]]), &["CN=L\\C3\\BCbeck", "CN=L\u{fc}beck"]),
        (certified(&[&[utf8(CN, "")]]), &["CN=", "CN= "]),
        (certified(&[&[(CN, Tag::OctetString, b"Hi")]]), &["CN=#04024869"]),
        (certified(&[&[utf8(CN, "Hi")]]), &["CN=#0C024869", "CN=#13024869", "CN=Hi"]),
    ];
    for (name, texts) in &table {
        for text in *texts {
            let parsed = DistinguishedName::parse(text);
            assert_eq!(parsed, Ok(DistinguishedName::from(name)), "{text}");
        }
    }
}

#[test]
fn the_string_type_of_a_value_does_not_matter() {
    let ascii = DistinguishedName::parse("CN=ab").unwrap();
    let encodings: [(Tag, &[u8]); 5] = [
        (Tag::PrintableString, b"ab"),
        (Tag::Ia5String, b"ab"),
        (Tag::TeletexString, b"ab"),
        (Tag::BmpString, b"\0a\0b"),
        (Tag::UniversalString, b"\0\0\0a\0\0\0b"),
    ];
    for (tag, content) in encodings {
        assert_eq!(DistinguishedName::from(&certified(&[&[(CN, tag, content)]])), ascii, "{tag:?}");
    }
}

#[test]
fn t19_issuers_that_print_alike_are_different() {
    let two = certified(&[&[utf8(O, "Example")], &[utf8(CN, "callers")]]);
    let alike = [
        certified(&[&[utf8(O, "Example, CN=callers")]]),
        certified(&[&[utf8(O, "Example"), utf8(CN, "callers")]]),
        certified(&[&[utf8(O, "Example + CN=callers")]]),
        certified(&[&[utf8(CN, "callers")], &[utf8(O, "Example")]]),
        certified(&[&[utf8(O, "example")], &[utf8(CN, "callers")]]),
        certified(&[&[utf8(O, "Example ")], &[utf8(CN, "callers")]]),
        certified(&[&[utf8(O, "Example")]]),
    ];
    assert_eq!(alike[0].to_string(), two.to_string(), "their texts are equal");
    for other in &alike {
        assert_ne!(DistinguishedName::from(other), DistinguishedName::from(&two), "{other}");
    }
    // Bytes that a library displays as hexadecimal digits, and the text of those digits.
    let bytes = certified(&[&[(CN, Tag::OctetString, b"Hi")]]);
    let digits = certified(&[&[utf8(CN, "4869")]]);
    assert_eq!(bytes.to_string(), digits.to_string());
    assert_ne!(DistinguishedName::from(&bytes), DistinguishedName::from(&digits));
    // Characters of an uncertain character set.
    let teletex = certified(&[&[(CN, Tag::TeletexString, b"\xc3\xbc")]]);
    let text = certified(&[&[utf8(CN, "\u{fc}")]]);
    assert_ne!(DistinguishedName::from(&teletex), DistinguishedName::from(&text));
}

#[test]
fn a_text_that_is_no_distinguished_name_is_refused() {
    for bad in [
        "",
        "callers",
        "CN=a,",
        "CN=a,,O=b",
        "CN=a+",
        "=a",
        "XX=a",
        "2.05=a",
        "2.=a",
        "CN=a\\",
        "CN=a\\z",
        "CN=a\\c3",
        "CN=\"a\"",
        "CN=a;O=b",
        "CN=#",
        "CN=#0",
        "CN=#0402",
        "CN=#0402486900",
        "CN=#+402",
    ] {
        assert!(DistinguishedName::parse(bad).is_err(), "{bad}");
    }
}

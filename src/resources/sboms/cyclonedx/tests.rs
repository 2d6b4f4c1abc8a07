//! Tests of the parser with valid, malformed and hostile documents.

use serde_json::{Value, json};

use super::*;

pub(super) fn document(fields: &Value) -> Vec<u8> {
    let mut whole = json!({ "bomFormat": "CycloneDX", "specVersion": "1.6" });
    let fields = fields.as_object().unwrap().clone();
    whole.as_object_mut().unwrap().extend(fields);
    whole.to_string().into_bytes()
}

pub(super) fn read(fields: &Value) -> Document {
    parse(&document(fields)).unwrap()
}

/// Returns field and reason of the error.
pub(super) fn refusal(bytes: &[u8]) -> (String, String) {
    match parse(bytes) {
        Err(Error::Invalid { field, why }) => (field, why),
        other => panic!("{other:?}"),
    }
}

fn names(document: &Document) -> Vec<&str> {
    let mut names: Vec<_> = document.components.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn nested_components_and_the_main_component_are_read() {
    let read = read(&json!({
        "metadata": { "component": { "name": "app", "components": [{ "name": "part" }] }, "tools": { "components": [{ "name": "tool" }] } },
        "components": [
            { "components": [{ "name": "c", "components": [{ "name": "d" }] }], "name": "b" },
            { "name": " ", "components": [{ "name": "orphan" }] },
            { "name": "last", "components": null },
        ],
    }));
    assert_eq!(names(&read), ["app", "b", "c", "d", "last", "orphan", "part"]);
    assert_eq!(read.skipped, 1);
}

#[test]
fn values_of_the_wrong_type_are_skipped() {
    let read = read(&json!({
        "metadata": [1],
        "serialNumber": 7,
        "components": [
            null, 1, "x", [], {}, { "name": 3 },
            { "name": " a ", "version": 1, "purl": {}, "type": null, "group": [], "bom-ref": true, "licenses": "MIT" },
        ],
        "vulnerabilities": [
            null, {}, { "id": "" }, { "id": 1 },
            { "id": "V", "ratings": [1, null, { "severity": 3, "score": "9" }], "affects": { "ref": "a" }, "advisories": 1, "references": [[]] },
        ],
        "services": [{ "name": "x" }],
    }));
    assert_eq!((names(&read), read.skipped), (vec!["a"], 10));
    let component = Component { name: "a".into(), ..Component::default() };
    assert_eq!(read.components, [component]);
    let [one] = read.vulnerabilities.as_slice() else { panic!("{read:?}") };
    assert_eq!((one.severity, one.score), (Severity::Unknown, None));
    assert!(one.affects.is_empty() && one.references.is_empty());
}

#[test]
fn license_names_are_joined() {
    let of = |licenses: Value| {
        read(&json!({ "components": [{ "name": "a", "licenses": licenses }] })).components[0]
            .licenses
            .clone()
    };
    for (licenses, expected) in [
        (
            json!([{ "license": { "id": "MIT", "name": "other" } }, { "license": { "name": "Own" } }]),
            Some("MIT, Own"),
        ),
        (json!([{ "expression": "MIT OR Apache-2.0" }]), Some("MIT OR Apache-2.0")),
        (json!([{ "license": { "id": "" } }, {}, 3]), None),
        (json!([]), None),
        (json!(null), None),
    ] {
        assert_eq!(of(licenses).as_deref(), expected);
    }
}

#[test]
fn the_severity_and_score_are_those_of_the_highest_rating() {
    let of = |ratings: Value| {
        let read = read(&json!({ "vulnerabilities": [{ "id": "V", "ratings": ratings }] }));
        (read.vulnerabilities[0].severity, read.vulnerabilities[0].score)
    };
    for (ratings, expected) in [
        (json!(null), (Severity::Unknown, None)),
        (json!([]), (Severity::Unknown, None)),
        (json!([{ "score": 9.8 }]), (Severity::Unknown, None)),
        (json!([{ "severity": " ", "score": 1 }]), (Severity::Unknown, None)),
        (json!([{ "severity": "dire", "score": 3 }]), (Severity::Unknown, Some(3.0))),
        (
            json!([{ "severity": " High ", "score": 7.5 }, { "severity": "high", "score": 8 }]),
            (Severity::High, Some(7.5)),
        ),
        (
            json!([{ "severity": "low", "score": 9 }, { "severity": "CRITICAL" }]),
            (Severity::Critical, None),
        ),
        (
            json!([{ "severity": "none", "score": 0 }, { "severity": "info", "score": 1 }]),
            (Severity::None, Some(0.0)),
        ),
        (
            json!([{ "severity": "unknown" }, { "severity": "info", "score": 1 }]),
            (Severity::Info, Some(1.0)),
        ),
    ] {
        assert_eq!(of(ratings.clone()), expected, "{ratings}");
    }
}

#[test]
fn vulnerabilities_are_sorted_by_severity_and_counted_per_component() {
    let one = |id: &str, severity: &str, refs: &[&str]| {
        let refs: Vec<Value> = refs.iter().map(|to| json!({ "ref": to })).collect();
        json!({ "id": id, "ratings": [{ "severity": severity }], "affects": refs })
    };
    let read = read(&json!({
        "components": [{ "name": "a", "bom-ref": "a" }, { "name": "b", "bom-ref": "b" }, { "name": "b2", "bom-ref": "b" }, { "name": "c" }],
        "vulnerabilities": [
            one("2", "low", &["a", "a", "b", "nowhere"]), one("1", "low", &["b"]), one("3", "critical", &["a"]),
            one("0", "unknown", &[]), one("5", "none", &[]), one("4", "info", &[]),
        ],
    }));
    let ids: Vec<&str> = read.vulnerabilities.iter().map(|v| v.id.as_str()).collect();
    assert_eq!(ids, ["3", "1", "2", "4", "5", "0"]);
    let told: Vec<_> =
        read.components.iter().map(|c| (c.name.as_str(), c.vuln_count, c.max_severity)).collect();
    assert_eq!(
        told,
        [
            ("a", 2, Some(Severity::Critical)),
            ("b", 2, Some(Severity::Low)),
            ("b2", 2, Some(Severity::Low)),
            ("c", 0, None)
        ]
    );
    assert_eq!(read.vulnerabilities[2].affects, ["a", "b", "nowhere"]);
    assert_eq!(read.max_severity, Some(Severity::Critical));
}

#[test]
fn references_list_advisories_first() {
    let read = read(&json!({ "vulnerabilities": [{
        "id": "V",
        "references": [{ "url": "https://r" }, { "id": "X", "source": { "url": "https://s" } }],
        "advisories": [{ "url": "https://a" }, { "title": "none" }],
    }] }));
    assert_eq!(read.vulnerabilities[0].references, ["https://a", "https://r", "https://s"]);
}

#[test]
fn only_versions_1_2_to_1_7_of_the_format_are_accepted() {
    for version in ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"] {
        assert_eq!(read(&json!({ "specVersion": version })).spec_version, version);
    }
    for version in [json!("1.1"), json!("1.8"), json!("2.0"), json!(""), json!(1.6), json!(null)] {
        let (field, _) = refusal(&document(&json!({ "specVersion": version })));
        assert_eq!(field, "specVersion", "{version}");
    }
}

#[test]
fn an_invalid_document_is_refused_with_the_field() {
    for (bytes, field) in [
        (b"".as_slice(), "chunk"),
        (b" \n", "chunk"),
        (b"\xff\xfe", "chunk"),
        (b"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"x\":\"\xff\"}", "chunk"),
        (b"{", "chunk"),
        (b"[]", "chunk"),
        (b"\"CycloneDX\"", "chunk"),
        (b"{}{}", "chunk"),
        (b"{}", "bomFormat"),
        (b"{\"bomFormat\":\"SPDX\"}", "bomFormat"),
        (b"{\"bomFormat\":\"CycloneDX\"}", "specVersion"),
        (b"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"components\":{}}", "components"),
        (
            b"{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"vulnerabilities\":\"x\"}",
            "vulnerabilities",
        ),
        (
            b"{\"components\":[{\"components\":[{\"components\":3}]}]}",
            "components[0].components[0].components",
        ),
        (b"{\"metadata\":{\"component\":{\"components\":3}}}", "metadata.component.components"),
    ] {
        assert_eq!(refusal(bytes).0, field, "{}", String::from_utf8_lossy(bytes));
    }
    let (_, why) = refusal(b"{\n  \"bomFormat\": }");
    assert_eq!(why, "is not JSON that can be read: line 2, column 16");
    // Some editors write a byte order mark.
    let marked = [b"\xef\xbb\xbf".as_slice(), &document(&json!({}))].concat();
    assert!(parse(&marked).is_ok());
}

#[test]
fn a_name_or_id_that_is_too_long_is_refused_with_its_path() {
    let named = |length: usize| {
        document(
            &json!({ "components": [{ "name": "x" }, { "name": "y", "components": [{ "name": "n".repeat(length) }] }] }),
        )
    };
    assert!(parse(&named(NAME_CHARACTERS_MAX)).is_ok());
    assert_eq!(
        refusal(&named(NAME_CHARACTERS_MAX + 1)),
        (
            "components[1].components[0].name".into(),
            "must be at most 512 characters, got 513".into()
        )
    );
    let id =
        |length: usize| document(&json!({ "vulnerabilities": [{ "id": "i".repeat(length) }] }));
    assert!(parse(&id(ID_CHARACTERS_MAX)).is_ok());
    assert_eq!(refusal(&id(ID_CHARACTERS_MAX + 1)).0, "vulnerabilities[0].id");
}

#[test]
fn optional_texts_that_are_too_long_are_truncated_and_reported() {
    let long = "\u{e4}".repeat(5_000);
    let read = read(&json!({
        "serialNumber": long,
        "components": [{ "name": "a", "bom-ref": long, "group": long, "version": long, "purl": long, "type": long, "licenses": [{ "expression": long }] }],
        "vulnerabilities": [{ "id": "V", "description": long, "affects": [{ "ref": long }], "advisories": [{ "url": long }] }],
    }));
    assert_eq!(read.cut, 10);
    for path in ["serialNumber", "components[0].purl", "vulnerabilities[0].affects"] {
        assert!(read.cut_paths.iter().any(|told| told == path), "{path}: {:?}", read.cut_paths);
    }
    let length = |text: &Option<String>| text.as_ref().map_or(0, |text| text.chars().count());
    let one = &read.components[0];
    let lengths =
        [&one.bom_ref, &one.group, &one.version, &one.purl, &one.kind, &one.licenses].map(length);
    assert_eq!(lengths, [512, 512, 128, 1_024, 32, 1_024]);
    // The reference was matched with the component before it was cut.
    assert_eq!((one.vuln_count, one.max_severity), (1, Some(Severity::Unknown)));
    let vulnerability = &read.vulnerabilities[0];
    assert_eq!(length(&vulnerability.description), DESCRIPTION_CHARACTERS_MAX);
    assert_eq!(vulnerability.references[0].chars().count(), REFERENCE_CHARACTERS_MAX);
    let many: Vec<Value> = (0..30).map(|_| json!({ "name": "a", "type": long })).collect();
    let read = parse(&document(&json!({ "components": many }))).unwrap();
    assert_eq!((read.cut, read.cut_paths.len()), (30, CUT_PATHS_MAX));
}

#[test]
fn control_characters_are_replaced() {
    let read = read(&json!({
        "components": [{ "name": "a\0b\u{1b}[31m", "version": "1\n2", "purl": "\0" }],
        "vulnerabilities": [{ "id": "V\u{7}", "description": "one\r\ntwo\u{1b}\0", "affects": [{ "ref": "\0" }] }],
    }));
    assert_eq!(read.components[0].name, "a\u{fffd}b\u{fffd}[31m");
    assert_eq!(read.components[0].version.as_deref(), Some("1\u{fffd}2"));
    assert_eq!(read.components[0].purl.as_deref(), Some("\u{fffd}"));
    assert_eq!(read.vulnerabilities[0].id, "V\u{fffd}");
    assert_eq!(read.vulnerabilities[0].description.as_deref(), Some("one\ntwo\u{fffd}\u{fffd}"));
}

fn nested(depth: usize) -> Vec<u8> {
    let open = "{\"name\":\"n\",\"components\":[".repeat(depth);
    let close = "]}".repeat(depth);
    format!(
        "{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"components\":[{open}{close}]}}"
    )
    .into_bytes()
}

#[test]
fn nesting_depth_and_entry_counts_are_limited() {
    assert_eq!(parse(&nested(DEPTH_MAX - 1)).unwrap().components.len(), DEPTH_MAX - 1);
    assert!(refusal(&nested(DEPTH_MAX)).1.contains("32 levels"));
    // Far deeper than the limit: rejected without a stack overflow.
    assert_eq!(refusal(&nested(100_000)).0, refusal(&nested(DEPTH_MAX)).0);
    let deep = format!("{{\"x\":{}", "[".repeat(1_000_000));
    assert_eq!(refusal(deep.as_bytes()).0, "chunk");

    let list = |name: &str, entry: &str, count: usize| {
        let entries = vec![entry; count].join(",");
        format!("{{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.6\",\"{name}\":[{entries}]}}")
            .into_bytes()
    };
    let components = |count| list("components", "{\"name\":\"a\"}", count);
    assert_eq!(parse(&components(COMPONENTS_MAX)).unwrap().components.len(), COMPONENTS_MAX);
    assert_eq!(refusal(&components(COMPONENTS_MAX + 1)).0, "components");
    let vulnerabilities = |count| list("vulnerabilities", "{\"id\":\"a\"}", count);
    assert_eq!(
        parse(&vulnerabilities(VULNERABILITIES_MAX)).unwrap().vulnerabilities.len(),
        VULNERABILITIES_MAX
    );
    assert_eq!(refusal(&vulnerabilities(VULNERABILITIES_MAX + 1)).0, "vulnerabilities");
    let affects = |count: usize| {
        let refs = vec!["{\"ref\":\"a\"}"; count].join(",");
        list("vulnerabilities", &format!("{{\"id\":\"a\",\"affects\":[{refs}]}}"), 2)
    };
    assert!(parse(&affects(AFFECTS_MAX / 2)).is_ok());
    assert_eq!(refusal(&affects(AFFECTS_MAX / 2 + 1)).0, "affects");
}

#[test]
fn counting_vulnerabilities_takes_linear_time_with_shared_references() {
    // As many components with one reference as vulnerabilities that name it: counting all pairs would take billions of
    // steps.
    let components: Vec<Value> =
        (0..50_000).map(|_| json!({ "name": "a", "bom-ref": "r" })).collect();
    let vulnerabilities: Vec<Value> = (0..VULNERABILITIES_MAX)
        .map(|n| json!({ "id": n.to_string(), "affects": [{ "ref": "r" }] }))
        .collect();
    let read = read(&json!({ "components": components, "vulnerabilities": vulnerabilities }));
    assert_eq!(read.components[49_999].vuln_count, 50_000);
}

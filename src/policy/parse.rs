//! Parses the text of a YAML document.
//!
//! Invariants
//! - a key that is given twice, an anchor that expands the document beyond its maximum size, and values that nest too
//!   deep are refused with their path;
//! - merge keys, unknown tags and a second document are refused;
//! - nothing is guessed: `yes` and `0755` are text.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Options;
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy};

use super::tree::{Node, Path};
use crate::yaml_files::error_line;

/// Maximum size of a document, in bytes, before and after its aliases are expanded: the limit of the gateways.
pub const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// Maximum number of mappings and lists around a value.
pub const DEPTH_MAX: usize = 16;
/// Maximum number of anchors in a document, and of aliases.
const ANCHORS_MAX: usize = 1_000;
/// Maximum number of parts of a document that are kept for its aliases.
const ANCHORED_PARTS_MAX: usize = 100_000;

/// Parses a document.
///
/// # Errors
/// What is wrong with it, in one line.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    if text.len() > DOCUMENT_BYTES_MAX {
        return Err(format!("must be at most {DOCUMENT_BYTES_MAX} bytes, got {}", text.len()));
    }
    let parsed = serde_saphyr::from_str_with_options::<Document>(text, options());
    parsed
        .map(|Document(node)| node)
        .map_err(|error| format!("is not valid: {}", error_line(&error)))
}

fn options() -> Options {
    let budget = serde_saphyr::budget! {
        max_documents: 1,
        max_anchors: ANCHORS_MAX,
        max_aliases: ANCHORS_MAX,
        max_recorded_anchor_events: ANCHORED_PARTS_MAX,
        max_recorded_anchor_bytes: 16 * DOCUMENT_BYTES_MAX,
        // The visitor below limits what aliases expand to.
        enforce_alias_anchor_ratio: false,
        // The visitor below refuses what nests deeper than `DEPTH_MAX`, with its path.
        max_depth: DEPTH_MAX + 2,
    };
    serde_saphyr::options! {
        budget: budget,
        // The visitor below refuses duplicate keys, with their path.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
    }
}

struct Document(Node);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (root, spent) = (Path::ROOT, Cell::new(0));
        NodeSeed { path: &root, depth: 0, spent: &spent }.deserialize(deserializer).map(Self)
    }
}

/// Reads the value at a place.
#[derive(Clone, Copy)]
struct NodeSeed<'a> {
    path: &'a Path<'a>,
    /// Number of mappings and lists around it.
    depth: usize,
    /// Size of the document so far, with its aliases expanded.
    spent: &'a Cell<usize>,
}

impl NodeSeed<'_> {
    /// Counts the bytes of a scalar or key, and one for what separates it from the next.
    fn spend<E: Error>(self, bytes: usize) -> Result<(), E> {
        let spent = self.spent.get().saturating_add(bytes).saturating_add(1);
        self.spent.set(spent);
        if spent > DOCUMENT_BYTES_MAX {
            return Err(E::custom(format_args!(
                "`{}` expands the document to more than {DOCUMENT_BYTES_MAX} bytes",
                self.path
            )));
        }
        Ok(())
    }

    /// Enters a mapping or list.
    fn enter<E: Error>(self) -> Result<(), E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!(
                "`{}` nests deeper than {DEPTH_MAX} levels",
                self.path
            )));
        }
        // The outermost one takes no byte.
        if self.depth == 0 { Ok(()) } else { self.spend(0) }
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping, a list, text, a number, true, false or null")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.spend::<E>(0)?;
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.spend::<E>(0)?;
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.spend::<E>(0)?;
        Ok(Node::Integer(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.spend::<E>(0)?;
        Ok(Node::Float(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        self.spend::<E>(value.len())?;
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.spend::<E>(0)?;
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        self.enter::<A::Error>()?;
        let mut items = Vec::new();
        loop {
            let path = self.path.index(items.len());
            let seed = NodeSeed { path: &path, depth: self.depth + 1, spent: self.spent };
            let Some(item) = list.next_element_seed(seed)? else { return Ok(Node::List(items)) };
            items.push(item);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        self.enter::<A::Error>()?;
        let (mut entries, mut seen) = (Vec::new(), HashSet::new());
        while let Some(key) = map.next_key::<String>()? {
            self.spend::<A::Error>(key.len())?;
            let path = self.path.key(&key);
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("`{path}` is given twice")));
            }
            let below = NodeSeed { path: &path, depth: self.depth + 1, spent: self.spent };
            let value = map.next_value_seed(below)?;
            entries.push((key, value));
        }
        Ok(Node::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn refused(text: &str) -> String {
        let why = parse(text).unwrap_err();
        assert_eq!(why.lines().count(), 1, "{why}");
        why
    }

    #[test]
    fn scalars_have_the_types_of_yaml_1_2() {
        let Node::Map(entries) = parse(
            "{a: true, b: yes, c: 0755, d: 12, e: -3, f: 1.5, g: null, h: '7', i: 1_000, j: [x]}",
        )
        .unwrap() else {
            panic!("it is a mapping");
        };
        let text = |text: &str| Node::Text(text.to_owned());
        let values: Vec<Node> = entries.into_iter().map(|(_, value)| value).collect();
        assert_eq!(
            values,
            [
                Node::Bool(true),
                text("yes"),
                text("0755"),
                Node::Integer(12),
                Node::Integer(-3),
                Node::Float(1.5),
                Node::Null,
                text("7"),
                text("1_000"),
                Node::List(vec![text("x")]),
            ]
        );
    }

    #[test]
    fn duplicate_keys_are_refused_with_their_path() {
        for (text, path) in [
            ("a: 1\na: 2", "`a` is given twice"),
            ("a: {b: {c: 1, d: 2, c: 3}}", "`a.b.c` is given twice"),
            ("a: [{b: 1}, {b: 1, 'b': 2}]", "`a[1].b` is given twice"),
        ] {
            assert!(refused(text).contains(path), "{text}: {}", refused(text));
        }
    }

    #[test]
    fn nesting_is_limited_with_the_path() {
        let nested = |levels: usize| format!("a: {}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(&nested(DEPTH_MAX - 1)).is_ok());
        let why = refused(&nested(DEPTH_MAX));
        assert!(why.contains("`a[0][0]") && why.contains("deeper than 16 levels"), "{why}");
        refused(&nested(10_000));
    }

    #[test]
    fn a_document_is_limited_to_256_kib_before_and_after_its_aliases_are_expanded() {
        let text = |bytes: usize| format!("a: {}", "x".repeat(bytes - 3));
        assert!(parse(&text(DOCUMENT_BYTES_MAX)).is_ok());
        assert!(refused(&text(DOCUMENT_BYTES_MAX + 1)).contains("at most 262144 bytes"));
        let long = "x".repeat(1_000);
        let shared = |times: usize| format!("a: &a {long}\nb: [{}]", vec!["*a"; times].join(", "));
        assert!(parse(&shared(200)).is_ok());
        let why = refused(&shared(300));
        assert!(why.contains("`b[") && why.contains("expands the document"), "{why}");
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..10 {
            let aliases = vec![format!("*a{}", n - 1); 8].join(", ");
            writeln!(bomb, "a{n}: &a{n} [{aliases}]").unwrap();
        }
        refused(&bomb);
    }

    #[test]
    fn other_constructs_of_yaml_are_refused() {
        for text in [
            "a: 1\n---\nb: 2",
            "<<: {a: 1}",
            "a: !custom x",
            "a: &a [*a]",
            "a: .nan",
            "? [a]\n: b",
            "a: b: c",
            "a: [",
            "a: *b",
        ] {
            refused(text);
        }
    }
}

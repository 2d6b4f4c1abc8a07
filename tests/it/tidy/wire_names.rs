//! Names in `proto/shoreguard/v1/`, besides those that `buf lint` checks: times end in `_time`, and a request refers to
//! a resource by its type.

use super::{Faults, read_files};

/// Requests with a field `name` that does not name a new resource.
const OTHER_NAMES: [(&str, &str); 2] = [
    ("SearchComponentsRequest", "the name of a component, which is not a resource"),
    ("UpdateGroupRequest", "the new name of the group"),
];

/// Returns the type and the name of the field that a line defines.
fn field(line: &str) -> Option<(&str, &str)> {
    let (left, _) = line.trim().split_once(" = ")?;
    let words: Vec<&str> = left.split_whitespace().collect();
    match words.as_slice() {
        ["//" | "option", ..] => None,
        [.., kind, name] => Some((*kind, *name)),
        _ => None,
    }
}

#[test]
fn times_and_resources_are_named_alike_in_all_messages() {
    let mut faults = Faults::default();
    let mut unused: Vec<&str> = OTHER_NAMES.iter().map(|(request, _)| *request).collect();
    let mut times = 0;
    for file in read_files(&["proto/shoreguard/v1"]) {
        let mut message = "";
        for (at, line) in file.lines() {
            if let Some(rest) = line.strip_prefix("message ") {
                message = rest.split(' ').next().unwrap();
            }
            let Some((kind, name)) = field(line) else { continue };
            let is_time = kind == "google.protobuf.Timestamp";
            times += usize::from(is_time);
            if is_time != name.ends_with("_time") {
                let rule = format!("`{name}`: exactly the times end in `_time`");
                faults.add(&file.path, at, &rule);
            }
            let is_reference = name == "name"
                && message.ends_with("Request")
                && !["Create", "Register"].iter().any(|verb| message.starts_with(verb));
            let exempt = unused.len();
            unused.retain(|request| !is_reference || *request != message);
            if is_reference && unused.len() == exempt {
                faults.add(&file.path, at, "name the resource by its type, such as `gateway`");
            }
        }
    }
    assert!(times > 0, "fields are found");
    assert!(unused.is_empty(), "requests without a field `name`: {unused:?}");
    faults.assert_none();
}

//! Help out of the comments in the proto.

use std::collections::HashMap;
use std::sync::OnceLock;

use parking_lot::Mutex;
use prost_reflect::{FieldDescriptor, FileDescriptor, MethodDescriptor};

/// The positions of the declarations of each file in its list of locations. The descriptors are never freed, so the
/// address of a list identifies it.
type Index = HashMap<(usize, usize), HashMap<Vec<i32>, usize>>;

/// Lines of the comment of a method that begin a part of it.
const PARTS: [&str; 4] = ["- ", "Role: ", "Errors: ", "Limits: "];

/// Returns the comment of a method, its paragraphs on a line each.
pub(in crate::cli) fn of_method(method: &MethodDescriptor) -> String {
    paragraphs(&leading(&method.parent_file(), method.path()))
}

/// Returns the comment of a field on one line.
pub(in crate::cli) fn of_field(field: &FieldDescriptor) -> String {
    let comment = paragraphs(&leading(&field.parent_file(), field.path()));
    let line = comment.replace("\n\n", " ").replace('\n', " ");
    line.strip_suffix('.').unwrap_or(&line).to_owned()
}

/// Whether the comment of a field says that it must be given.
pub(in crate::cli) fn is_required(field: &FieldDescriptor) -> bool {
    let comment = leading(&field.parent_file(), field.path());
    comment.split_whitespace().any(|word| word == "Required.")
}

/// Whether the comment of a field says that it must not be used yet.
pub(in crate::cli) fn is_unavailable(field: &FieldDescriptor) -> bool {
    let comment = leading(&field.parent_file(), field.path());
    comment.contains("not available yet") || comment.contains("not supported yet")
}

/// Whether the comment of a field says when it is empty.
pub(in crate::cli) fn may_be_empty(field: &FieldDescriptor) -> bool {
    leading(&field.parent_file(), field.path()).to_lowercase().contains("empty")
}

/// Returns the first sentence of a comment, without its full stop.
pub(in crate::cli) fn first_sentence(comment: &str) -> String {
    let line = comment.lines().next().unwrap_or_default();
    let end = line.find(". ").map_or(line, |at| &line[..at]);
    end.strip_suffix('.').unwrap_or(end).to_owned()
}

/// Joins the lines of each paragraph. Items of a list, and role, errors and limits, stay on their own lines.
fn paragraphs(comment: &str) -> String {
    let mut text = String::new();
    for line in comment.lines().map(str::trim) {
        let is_new = text.is_empty() || text.ends_with('\n');
        if line.is_empty() {
            text.push_str(if text.ends_with("\n\n") { "" } else { "\n\n" });
            continue;
        }
        if !is_new {
            let is_part = PARTS.iter().any(|part| line.starts_with(part));
            text.push(if is_part { '\n' } else { ' ' });
        }
        text.push_str(line);
    }
    text.trim_end().to_owned()
}

/// Returns the comment above a declaration.
fn leading(file: &FileDescriptor, path: &[i32]) -> String {
    static INDEX: OnceLock<Mutex<Index>> = OnceLock::new();
    let Some(info) = &file.file_descriptor_proto().source_code_info else { return String::new() };
    let key = (info.location.as_ptr().addr(), info.location.len());
    let mut files = INDEX.get_or_init(Mutex::default).lock();
    let index = files.entry(key).or_insert_with(|| {
        let places = info.location.iter().enumerate();
        places.map(|(at, location)| (location.path.clone(), at)).collect()
    });
    let found = index.get(path).and_then(|at| info.location.get(*at));
    found.map(|location| location.leading_comments().trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pb::descriptors;

    #[test]
    fn paragraphs_are_lines_and_the_first_sentence_is_short() {
        let comment = " Returns one. Or two,\n or three.\n\n Errors:\n - none\n - some\n";
        let text = paragraphs(comment);
        assert_eq!(text, "Returns one. Or two, or three.\n\nErrors:\n- none\n- some");
        assert_eq!(first_sentence(&text), "Returns one");
        let comment = " Returns one.\n Role: viewer\n on it.\n Errors: NOT_FOUND.\n Limits: 10.\n";
        let text = paragraphs(comment);
        assert_eq!(text, "Returns one.\nRole: viewer on it.\nErrors: NOT_FOUND.\nLimits: 10.");
    }

    #[test]
    fn help_is_the_comment_of_the_field() {
        let pool = descriptors::OWN.documented_pool();
        let request = pool.get_message_by_name("shoreguard.v1.GetGatewayRequest").unwrap();
        let field = request.get_field_by_name("gateway").unwrap();
        assert_eq!(of_field(&field), "Name of the gateway. Required");
        assert!(is_required(&field));
        let request = pool.get_message_by_name("shoreguard.v1.ListGatewaysRequest").unwrap();
        let selector = request.get_field_by_name("label_selector").unwrap();
        assert!(!is_required(&selector) && !is_unavailable(&selector));
        let request = pool.get_message_by_name("shoreguard.v1.SetWorkflowRequest").unwrap();
        assert!(is_unavailable(&request.get_field_by_name("selector").unwrap()));
    }
}

//! Differences between policies, as people read them.

use super::terminal::{Look, Page};
use crate::pb::v1::{PolicyDifference, PolicyDifferenceKind};

/// Adds the differences to a page, and how many the server has left out.
pub(super) fn add_differences(page: &mut Page, differences: &[PolicyDifference], omitted: u32) {
    for difference in differences {
        let (mark, look) = match difference.kind() {
            PolicyDifferenceKind::Added => ('+', Look::Added),
            PolicyDifferenceKind::Removed => ('-', Look::Removed),
            PolicyDifferenceKind::Changed | PolicyDifferenceKind::Unspecified => {
                ('~', Look::Changed)
            }
        };
        page.line(look, &format!("{mark} {}", difference.path));
        page.block(Look::Removed, "-     ", &difference.old);
        page.block(Look::Added, "+     ", &difference.new);
    }
    if omitted > 0 {
        page.line(Look::Warning, &format!("! {omitted} more differences are not shown"));
    }
}

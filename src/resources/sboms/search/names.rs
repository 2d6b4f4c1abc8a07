//! Finds components by a part of their name, without reading all components.
//!
//! The names of each SBOM are also stored in blocks, each name once. A search for a part reads the blocks, then the
//! components whose keys the found names can have. If the part is in so many names that this would be slower, the
//! components are read in the order of the results, of which a page is found soon.
//!
//! Invariants
//! - the name of every stored component is in a block of its SBOM;
//! - a name in a block is a hint: the pattern decides on the component.

use super::keys::{cut, own_name};
use super::store::{self, FoundComponent, SearchFilter};
use crate::db::Conn;
use crate::error::Error;

/// Maximum size of a block with more than one name, in bytes: PostgreSQL stores such a text in the row itself.
const BLOCK_BYTES_MAX: usize = 1_900;
/// Maximum number of blocks that a search uses.
const BLOCKS_MAX: usize = 500;
/// Growth of the number of keys from one query to the next. It begins with one key, which fills a page if many SBOMs
/// contain it.
const KEYS_GROWTH: usize = 5;
/// Maximum number of keys of one query.
const KEYS_MAX: usize = 1_000;

/// Returns the blocks of these names.
pub(in crate::resources::sboms) fn to_blocks<'a>(
    names: impl Iterator<Item = &'a str>,
) -> Vec<String> {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    let mut blocks: Vec<String> = Vec::new();
    for name in names {
        match blocks.last_mut() {
            Some(block) if block.len() + 1 + name.len() <= BLOCK_BYTES_MAX => {
                block.push('\n');
                block.push_str(name);
            }
            Some(_) | None => blocks.push(name.to_owned()),
        }
    }
    blocks
}

/// Returns the keys that components with a name in these blocks can have, if the name contains one of `texts`. Sorted,
/// starting at `from`.
fn keys(blocks: &[String], texts: &[String], from: &str) -> Vec<String> {
    let names = blocks.iter().flat_map(|block| block.split('\n'));
    let found = names.filter(|name| texts.iter().any(|text| name.contains(text.as_str())));
    // The key of a file is its whole path, that of another component is the name without its group.
    let keys = found.flat_map(|name| [cut(own_name(name)), cut(name)]);
    let mut keys: Vec<String> = keys.filter(|key| *key >= from).map(str::to_owned).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Returns a page of the components whose name contains one of `texts`, sorted by key.
pub(super) async fn page(
    conn: &mut Conn,
    wanted: &SearchFilter<'_>,
    texts: &[String],
    limit: i64,
) -> Result<Vec<FoundComponent>, Error> {
    let blocks = store::blocks_with(conn, texts, BLOCKS_MAX + 1).await?;
    if blocks.len() > BLOCKS_MAX {
        return store::page(conn, wanted, &[], limit).await;
    }
    let from = wanted.after.map_or("", |after| after.key.as_str());
    let keys = keys(&blocks, texts, from);
    let (mut rest, mut count) = (keys.as_slice(), 1);
    let (mut rows, mut missing) = (Vec::new(), limit);
    while !rest.is_empty() && missing > 0 {
        let (some, later) = rest.split_at(count.min(rest.len()));
        let found = store::page(conn, wanted, some, missing).await?;
        missing -= i64::try_from(found.len()).map_err(Error::internal)?;
        rows.extend(found);
        (rest, count) = (later, (count * KEYS_GROWTH).min(KEYS_MAX));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_in_one_block_and_blocks_are_filled_up_to_their_limit() {
        let long = "x".repeat(BLOCK_BYTES_MAX + 1);
        let blocks = to_blocks(["b", long.as_str(), "a", "y", "b"].into_iter());
        assert_eq!(blocks, ["a\nb", long.as_str(), "y"]);
        let count = |bytes: usize| to_blocks(["a", "b".repeat(bytes).as_str()].into_iter()).len();
        assert_eq!((count(BLOCK_BYTES_MAX - 2), count(BLOCK_BYTES_MAX - 1)), (1, 2));
        assert!(to_blocks(std::iter::empty()).is_empty());
    }

    #[test]
    fn the_keys_of_a_name_are_those_of_a_package_and_of_a_file() {
        let blocks = ["@case/left\nleft-pad".to_owned(), "/usr/lib/left\nright".to_owned()];
        let texts = ["left".to_owned()];
        let all = ["/usr/lib/left", "@case/left", "left", "left-pad"];
        assert_eq!(keys(&blocks, &texts, ""), all);
        assert_eq!(keys(&blocks, &texts, "left"), all[2..]);
        assert_eq!(keys(&blocks, &["case/l".to_owned()], ""), ["@case/left", "left"]);
        assert!(keys(&blocks, &["none".to_owned()], "").is_empty());
    }
}

//! Reviews of policy changes: counting votes, the canonical form of a policy, the inbox, idle reviews, and the time from
//! the last vote to the write and to the message of a webhook.

mod canonical;
mod inbox;
mod people;
mod post;
mod scene;
mod tally;
mod write;

pub(super) use self::inbox::{first_page, idle};
pub(super) use self::post::run as time_posts;
pub(super) use self::scene::percentile;
pub(super) use self::write::run as time_writes;
use crate::{Bench, BoxError};

/// Measures what a decision costs in memory: the votes, and the form of a policy that they are for.
pub(super) fn count_votes(bench: &Bench) -> Result<(), BoxError> {
    tally::run(bench)?;
    canonical::run(bench)
}

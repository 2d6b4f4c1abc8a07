//! Reviews of policy changes: counting votes, the inbox, idle reviews, and the time from the last vote to the write.

mod inbox;
mod people;
mod tally;
mod write;

pub(super) use self::inbox::{first_page, idle};
pub(super) use self::tally::run as count_votes;
pub(super) use self::write::run as time_writes;

//! Reviews of policy changes: counting votes, the inbox, idle reviews, and the time from the last vote to the write and
//! to the message of a webhook.

mod inbox;
mod people;
mod post;
mod scene;
mod tally;
mod write;

pub(super) use self::inbox::{first_page, idle};
pub(super) use self::post::run as time_posts;
pub(super) use self::tally::run as count_votes;
pub(super) use self::write::run as time_writes;

//! Rounds of draft chunks: network rules that the agent of a sandbox asks for.
//!
//! `read` reads the chunks of a sandbox and what a decision about them would lead to, `open` opens their rounds and
//! brings them up to date, and `current` ends those whose chunk was decided elsewhere. `edit`, `undo` and `own` are the
//! changes of chunks that people make, `proxied` the decisions of stock clients, `awaited` waits for their writes, and
//! `rejections` stores rejections and sends them to the gateway. `opening` has what the drafts of a sandbox have in
//! common that are opened together, `hints` the sandboxes that may have changed, and `store` the editors of chunks
//! without a round, and what was last seen. `quoting` bounds the words of agents.
//!
//! Invariants
//! - one pending chunk has at most one round that has not ended. Its content is what the chunk would lead to when the
//!   gateway was last asked;
//! - a repeated ask, with another id and the same content, keeps its round and its votes. Any other content, and any
//!   new finding of the gateway, is another round;
//! - an editor of a chunk stays an author of every later round of it, even if the round of the edit has ended (g04);
//! - a rejection is stored with the end of its round, and until its gateway knows it, the chunk gets no other round.

pub mod awaited;
pub mod content;
pub mod current;
pub mod edit;
pub mod hints;
mod messages;
pub mod open;
pub mod opening;
pub mod own;
pub mod proxied;
pub mod quoting;
pub mod read;
pub mod rejections;
#[cfg(test)]
pub(super) mod samples;
pub mod store;
pub mod undo;

pub use self::content::{DraftContent, DraftFacts, UndoContent};
pub use self::open::{
    DraftRound, SeenDraft, Waiting, add_author, open_or_refresh, open_or_refresh_next,
};
pub use self::opening::Opening;

//! The messages of one webhook that wait in memory, limited in bytes. Pure functions.

use std::collections::VecDeque;

use crate::resources::webhooks::deliveries::attempt_bytes;
use crate::resources::webhooks::deliveries::store::Delivery;

/// Bytes of messages that wait in the memory of one webhook. There can be 200 webhooks.
pub(super) const QUEUE_BYTES_MAX: usize = 1 << 20;

/// Results in one transaction. Twice as many messages can be sent without a stored result: those in flight, those whose
/// results wait, and those whose results are being written.
pub(super) const RESULTS_MAX: usize = 200;

/// A message that waits to be sent, and its payload.
pub(super) type Waiting = (Delivery, String);

/// Returns about how many bytes of memory a message has.
pub(super) fn size_of((row, payload): &Waiting) -> usize {
    attempt_bytes(row) + payload.len()
}

/// Returns about how many bytes of memory a queue has.
pub(super) fn bytes_of(queue: &VecDeque<Waiting>) -> usize {
    queue.iter().map(size_of).sum()
}

/// Takes items until their sizes reach a limit. Returns them, and whether others may be left.
pub(super) fn within<T>(
    items: impl Iterator<Item = T>,
    bytes_max: usize,
    size: impl Fn(&T) -> usize,
) -> (Vec<T>, bool) {
    let (mut kept, mut bytes) = (Vec::new(), 0);
    for item in items {
        bytes += size(&item);
        kept.push(item);
        if bytes >= bytes_max {
            return (kept, true);
        }
    }
    (kept, false)
}

/// Whether another message may be started: `held` are those that wait and those without a stored result.
pub(super) fn may_start(waiting: usize, held: usize) -> bool {
    waiting > 0 && held.saturating_sub(waiting) < 2 * RESULTS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_without_a_stored_result_are_bounded() {
        for (waiting, unstored, expected) in [
            (0, 0, false),
            (1, 0, true),
            (1, 399, true),
            (1, 400, false),
            (500, 399, true),
            (500, 400, false),
            (500, 464, false),
        ] {
            assert_eq!(may_start(waiting, waiting + unstored), expected, "{waiting} {unstored}");
        }
    }

    #[test]
    fn what_waits_in_memory_is_limited_in_bytes() {
        let take = |sizes: &[usize]| {
            let (kept, is_full) = within(sizes.iter().copied(), 10, |size| *size);
            (kept.len(), is_full)
        };
        assert_eq!(take(&[]), (0, false));
        assert_eq!(take(&[1, 2, 3]), (3, false));
        assert_eq!(take(&[5, 5, 5]), (2, true));
        assert_eq!(take(&[50, 1]), (1, true), "a large message is sent, too");
    }
}

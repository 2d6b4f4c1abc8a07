//! Chunks of a request, in order. Most requests are one chunk, which is stored without an allocation.

use std::collections::VecDeque;

use bytes::Bytes;

/// A queue of chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    /// The front of the queue; `None` if it was removed.
    first: Option<Bytes>,
    rest: VecDeque<Bytes>,
}

impl Chunks {
    /// Creates a queue of at most one chunk.
    pub(super) fn new(first: Option<Bytes>) -> Self {
        Self { first, rest: VecDeque::new() }
    }

    /// Whether it contains no chunk.
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.rest.is_empty()
    }

    /// Returns the number of chunks.
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    /// Adds a chunk at the end.
    pub(super) fn push(&mut self, chunk: Bytes) {
        if self.is_empty() {
            self.first = Some(chunk);
        } else {
            self.rest.push_back(chunk);
        }
    }

    /// Removes and returns the first chunk.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.first.take().or_else(|| self.rest.pop_front())
    }

    /// Moves all chunks of another queue to the end of this one.
    pub(super) fn append(&mut self, mut other: Self) {
        while let Some(chunk) = other.pop() {
            self.push(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_returned_in_the_order_in_which_they_were_added() {
        let mut chunks = Chunks::new(Some(Bytes::from_static(b"a")));
        chunks.push(Bytes::from_static(b"b"));
        assert_eq!((chunks.pop().unwrap(), chunks.len()), (Bytes::from_static(b"a"), 1));
        chunks.push(Bytes::from_static(b"c"));
        let mut more = Chunks::default();
        more.push(Bytes::from_static(b"d"));
        chunks.append(more);
        let rest: Vec<Bytes> = std::iter::from_fn(|| chunks.pop()).collect();
        assert_eq!(rest, ["b", "c", "d"]);
        assert!(chunks.is_empty());
    }
}

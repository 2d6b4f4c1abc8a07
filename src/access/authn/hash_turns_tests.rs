//! The order of turns, and the limits of the waiting room.

use std::pin::Pin;
use std::task::Poll;

use futures_util::poll;

use super::*;

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<HashSlot, Error>> + 'a>>;

#[expect(clippy::unnecessary_wraps, reason = "the shape of a caller's address")]
fn address(last: u8) -> Option<IpAddr> {
    Some([192, 0, 2, last].into())
}

fn turns() -> Arc<HashTurns> {
    HashTurns::new(1, Duration::from_mins(1))
}

/// Starts to wait. The attempt must not get a slot at once.
async fn wait(turns: &Arc<HashTurns>, caller: HashCaller) -> Attempt<'_> {
    let mut attempt: Attempt<'_> = Box::pin(turns.acquire(caller));
    assert!(poll!(&mut attempt).is_pending());
    attempt
}

fn is_busy(polled: &Poll<Result<HashSlot, Error>>) -> bool {
    matches!(polled, Poll::Ready(Err(Error::Exhausted { reason: Reason::Busy, .. })))
}

/// Returns the slot, and the names of the attempts in the order in which they get it.
async fn order(held: HashSlot, mut waiting: Vec<(&'static str, Attempt<'_>)>) -> Vec<&'static str> {
    let mut names = Vec::new();
    let mut slot = Some(held);
    while !waiting.is_empty() {
        drop(slot.take());
        let mut next = None;
        for (at, (_, attempt)) in waiting.iter_mut().enumerate() {
            if let Poll::Ready(got) = poll!(attempt) {
                assert!(next.is_none(), "two attempts have the only slot");
                next = Some((at, got.unwrap()));
            }
        }
        let (at, got) = next.expect("an attempt gets the slot");
        names.push(waiting.remove(at).0);
        slot = Some(got);
    }
    names
}

#[tokio::test]
async fn addresses_take_turns() {
    let turns = turns();
    let held = turns.acquire(HashCaller::stranger(None)).await.unwrap();
    let mut waiting = Vec::new();
    for (name, last) in [("a1", 1), ("a2", 1), ("a3", 1), ("b1", 2), ("c1", 3), ("b2", 2)] {
        waiting.push((name, wait(&turns, HashCaller::stranger(address(last))).await));
    }
    assert_eq!(order(held, waiting).await, ["a1", "b1", "c1", "a2", "b2", "a3"]);
}

#[tokio::test]
async fn familiar_callers_get_three_of_four_turns() {
    let turns = turns();
    let held = turns.acquire(HashCaller::stranger(None)).await.unwrap();
    let mut waiting = Vec::new();
    for last in 1..=4 {
        waiting.push(("stranger", wait(&turns, HashCaller::stranger(address(last))).await));
    }
    for _ in 0..5 {
        waiting.push(("familiar", wait(&turns, HashCaller::familiar(address(9))).await));
    }
    let got = order(held, waiting).await;
    let expected = [
        "familiar", "familiar", "familiar", "stranger", "familiar", "familiar", "stranger",
        "stranger", "stranger",
    ];
    assert_eq!(got, expected);
}

#[tokio::test]
async fn the_number_of_waiting_calls_is_limited_per_address_and_in_total() {
    let turns = turns();
    let held = turns.acquire(HashCaller::stranger(None)).await.unwrap();
    let mut waiting = Vec::new();
    for last in 1..=8 {
        for _ in 0..STRANGERS_PER_ADDRESS_MAX {
            waiting.push(wait(&turns, HashCaller::stranger(address(last))).await);
        }
        let mut more = Box::pin(turns.acquire(HashCaller::stranger(address(last))));
        assert!(is_busy(&poll!(&mut more)), "{last}");
    }
    assert_eq!(waiting.len(), STRANGERS_MAX);
    // A new address takes the last place of an address with more places.
    let mut newcomer = wait(&turns, HashCaller::stranger(address(100))).await;
    let mut displaced = 0;
    for attempt in &mut waiting {
        displaced += usize::from(is_busy(&poll!(attempt)));
    }
    assert_eq!(displaced, 1);
    drop(waiting);
    drop(held);
    assert!(poll!(&mut newcomer).is_ready());
}

#[tokio::test]
async fn a_full_room_of_single_calls_makes_no_room() {
    let turns = turns();
    let held = turns.acquire(HashCaller::stranger(None)).await.unwrap();
    let mut waiting = Vec::new();
    for last in 1..=u8::try_from(STRANGERS_MAX).unwrap() {
        waiting.push(wait(&turns, HashCaller::stranger(address(last))).await);
    }
    let mut more = Box::pin(turns.acquire(HashCaller::stranger(address(200))));
    assert!(is_busy(&poll!(&mut more)));
    // It is not full for familiar callers.
    drop(wait(&turns, HashCaller::familiar(address(200))).await);
    drop((held, waiting));
}

#[tokio::test]
async fn a_wait_ends_in_time_and_a_slot_of_an_abandoned_call_is_not_lost() {
    let turns = HashTurns::new(1, Duration::from_millis(20));
    let held = turns.acquire(HashCaller::stranger(None)).await.unwrap();
    let late = turns.acquire(HashCaller::stranger(address(1))).await;
    assert!(matches!(late, Err(Error::Exhausted { reason: Reason::Busy, .. })));
    // One call is dropped while it waits, another after the slot was granted.
    let (first, second) = (
        wait(&turns, HashCaller::stranger(address(1))).await,
        wait(&turns, HashCaller::stranger(address(2))).await,
    );
    drop(first);
    drop(held);
    drop(second);
    let slot = turns.acquire(HashCaller::stranger(address(3))).await.unwrap();
    assert!(turns.state.lock().strangers.places.is_empty());
    drop(slot);
    assert_eq!(turns.state.lock().free, 1);
}

//! Shares of webhooks, the limit on all connections, and turns.

use std::collections::VecDeque;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::*;

fn webhook(id: i64) -> SlotHolder {
    SlotHolder::Webhook(WebhookId(id))
}

/// Creates connections with a limit, and a number of active webhooks.
fn connections(total_max: usize, webhooks: usize) -> Arc<ReceiverConnections> {
    let connections = ReceiverConnections::new(total_max);
    connections.set_webhooks(webhooks);
    connections
}

/// Returns the slots that a webhook gets without waiting.
fn take_all(connections: &Arc<ReceiverConnections>, holder: SlotHolder) -> Vec<Arc<Slot>> {
    std::iter::from_fn(|| connections.request(holder).ok()).collect()
}

/// Begins to wait for a slot.
fn wait(
    connections: &Arc<ReceiverConnections>,
    holder: SlotHolder,
) -> BoxFuture<'static, Arc<Slot>> {
    connections.request(holder).unwrap_err().granted().boxed()
}

/// Returns the slot if it was granted.
fn granted(waiting: &mut BoxFuture<'static, Arc<Slot>>) -> Option<Arc<Slot>> {
    waiting.now_or_never()
}

fn is_asked_to_close(slot: &Slot) -> bool {
    slot.close_token().is_cancelled()
}

#[test]
fn e13_no_webhook_uses_the_share_of_another_one() {
    let connections = connections(11, 4);
    assert_eq!(connections.share(), 2);
    let held: Vec<_> = (1..=4).map(|id| take_all(&connections, webhook(id))).collect();
    assert!(held.iter().all(|slots| slots.len() == 2));
    assert_eq!(take_all(&connections, SlotHolder::Tests).len(), 2);
    assert_eq!(connections.open(), 8, "the slots of the tests are free again");
}

#[test]
fn e13_each_webhook_gets_one_connection_while_the_others_hold_all_that_they_can() {
    for (total, webhooks) in [(2, 1), (3, 2), (201, 200), (1_024, 200)] {
        let connections = connections(total, webhooks);
        let mut held = Vec::new();
        for id in 1..=webhooks {
            let slots = take_all(&connections, webhook(i64::try_from(id).unwrap()));
            assert!(!slots.is_empty(), "{total} {webhooks}");
            held.extend(slots);
        }
        assert!(!take_all(&connections, SlotHolder::Tests).is_empty(), "{total} {webhooks}");
        assert!(connections.open() <= total);
    }
}

#[test]
fn the_share_follows_the_number_of_webhooks_and_is_never_zero() {
    let connections = ReceiverConnections::new(10);
    for (webhooks, share) in [(0, 10), (1, 5), (4, 2), (9, 1), (10, 1), (200, 1)] {
        connections.set_webhooks(webhooks);
        assert_eq!(connections.share(), share, "{webhooks}");
    }
    let limits = [20, 3, 5, 0].map(|room| connections.lower_limit(room));
    assert_eq!(limits, [10, 3, 3, 1]);
}

#[test]
fn a_larger_share_is_granted_to_a_request_that_waits() {
    let connections = connections(4, 3);
    let first = take_all(&connections, webhook(1));
    let mut second = wait(&connections, webhook(1));
    assert!(granted(&mut second).is_none());
    connections.set_webhooks(1);
    assert!(granted(&mut second).is_some());
    drop(first);
    assert_eq!(connections.open(), 0);
}

#[test]
fn a_limit_of_one_is_never_passed_and_the_longest_wait_ends_first() {
    let connections = connections(1, 3);
    let mut slot = connections.request(webhook(1)).unwrap();
    let mut waiting: VecDeque<_> = [2, 3, 1].map(|id| wait(&connections, webhook(id))).into();
    while let Some(mut next) = waiting.pop_front() {
        assert!(granted(&mut next).is_none());
        drop(slot);
        slot = granted(&mut next).unwrap();
        assert!(waiting.iter_mut().all(|request| granted(request).is_none()));
        assert_eq!(connections.open(), 1);
    }
    drop(slot);
    assert_eq!(connections.open(), 0);
}

#[test]
fn the_webhook_with_the_fewest_connections_is_next() {
    let connections = connections(4, 1);
    let mut first = take_all(&connections, webhook(1));
    let mut others = vec![connections.request(webhook(2)).unwrap()];
    others.push(connections.request(webhook(3)).unwrap());
    let mut second_of_2 = wait(&connections, webhook(2));
    let mut first_of_4 = wait(&connections, webhook(4));
    first.pop();
    assert!(granted(&mut second_of_2).is_none());
    others.push(granted(&mut first_of_4).unwrap());
    first.pop();
    assert!(granted(&mut second_of_2).is_some());
}

#[test]
fn e13_more_webhooks_than_connections_take_turns() {
    const WEBHOOKS: i64 = 10;
    let connections = connections(3, 10);
    let mut used = VecDeque::new();
    let mut waiting: Vec<(i64, BoxFuture<'static, Arc<Slot>>)> = Vec::new();
    for id in 1..=WEBHOOKS {
        match connections.request(webhook(id)) {
            Ok(slot) => used.push_back((id, slot)),
            Err(request) => waiting.push((id, request.granted().boxed())),
        }
    }
    let mut turns: HashMap<i64, usize> = HashMap::new();
    for _ in 0..100 {
        assert_eq!((used.len(), connections.open()), (3, 3));
        let (id, slot) = used.pop_front().unwrap();
        *turns.entry(id).or_default() += 1;
        waiting.push((id, wait(&connections, webhook(id))));
        drop(slot);
        waiting.retain_mut(|(id, request)| {
            let slot = granted(request);
            let is_waiting = slot.is_none();
            used.extend(slot.map(|slot| (*id, slot)));
            is_waiting
        });
    }
    assert!((1..=WEBHOOKS).all(|id| turns[&id] == 10), "{turns:?}");
}

#[test]
fn a_kept_connection_is_closed_only_for_another_webhook() {
    let connections = connections(2, 0);
    let mut slots = take_all(&connections, webhook(1));
    let (second, first) = (slots.pop().unwrap(), slots.pop().unwrap());
    let mut own = wait(&connections, webhook(1));
    first.mark_idle();
    assert!(!is_asked_to_close(&first), "the webhook uses it itself");
    assert!(first.mark_busy());
    assert!(!first.mark_busy(), "it is not idle");
    first.mark_idle();

    let mut other = wait(&connections, webhook(2));
    assert!(is_asked_to_close(&first) && !first.mark_busy());
    second.mark_idle();
    assert!(!is_asked_to_close(&second), "no more are closed than are needed");
    assert!(granted(&mut other).is_none(), "its socket is open");
    drop(first);
    assert!(granted(&mut other).is_some());
    assert!(granted(&mut own).is_some(), "the other slot is free again");
    drop(second);

    let kept = take_all(&connections, webhook(3));
    let mut late = wait(&connections, webhook(4));
    kept[0].mark_idle();
    assert!(is_asked_to_close(&kept[0]), "a connection that becomes idle is closed, too");
    drop(kept);
    assert!(granted(&mut late).is_some());
}

#[test]
fn a_request_that_is_dropped_leaves_nothing() {
    let connections = connections(1, 0);
    for is_granted in [false, true] {
        let slot = connections.request(webhook(1)).unwrap();
        let request = connections.request(webhook(2)).unwrap_err();
        if is_granted {
            drop(slot);
            assert_eq!(connections.open(), 1);
            drop(request);
        } else {
            drop(request);
            drop(slot);
        }
        let state = connections.state.lock();
        assert_eq!((state.open, state.closing), (0, 0));
        assert!(state.held.is_empty() && state.idle.is_empty() && state.waiting.is_empty());
    }
}

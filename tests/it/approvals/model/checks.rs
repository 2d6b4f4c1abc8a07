//! What must hold after each step.

use std::collections::BTreeSet;

use shoreguard::openshell::annotation;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::ApprovalState as State;
use tonic::Code;

use super::cast::parse_name;
use super::reference::{Effect, Review};
use super::scene::Scene;
use crate::policies::get_version;
use crate::support::pause;

/// Attempts to read a policy after a connection to the gateway was lost.
const READS_MAX: u32 = 100;

/// What was last seen of a review.
pub(super) struct Seen {
    state: State,
    attempts: u32,
    pub(super) digest: String,
    yaml: String,
    /// End of the time for the write, in microseconds.
    apply_by: Option<i64>,
}

impl Seen {
    pub(super) fn has_ended(&self) -> bool {
        !matches!(self.state, State::Open | State::Approved | State::Sending | State::Written)
    }

    pub(super) fn is_waiting_for_write(&self) -> bool {
        matches!(self.state, State::Approved | State::Sending | State::Written)
    }

    /// Returns whether its votes are still there.
    fn has_votes(&self) -> bool {
        matches!(self.state, State::Open | State::Approved | State::Sending)
    }

    /// Returns whether its votes can change.
    pub(super) fn is_voting(&self) -> bool {
        matches!(self.state, State::Open | State::Approved)
    }
}

/// Returns a time in microseconds.
pub(super) fn micros(time: &prost_types::Timestamp) -> i64 {
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
}

impl Scene<'_> {
    /// Checks all reviews and revisions at the end of a step that began at a time of the database.
    pub(super) async fn observe(&mut self, started: i64) {
        let filter = pb::ApprovalFilter { gateway: self.gateway.to_owned(), ..Default::default() };
        let request = pb::ListApprovalsRequest {
            page_size: 1_000,
            filter: Some(filter),
            ..Default::default()
        };
        let listed = self.admin.approvals().list_approvals(request).await.unwrap().into_inner();
        let listed = listed.approvals;
        let ids: BTreeSet<i64> = listed.iter().map(|found| found.id).collect();
        let open = self.model.reviews.keys().copied().filter(|id| !ids.contains(id));
        let open = open.filter(|id| self.seen.get(id).is_none_or(|seen| !seen.has_ended()));
        let missing: Vec<i64> = open.collect();
        for found in listed {
            self.check(&found, started).await;
        }
        for id in missing {
            let found = self.admin.approval(id).await.approval.unwrap();
            self.check(&found, started).await;
        }
        self.check_revisions(started).await;
    }

    /// Adds a review to the model. `votes` are those that it has from the beginning.
    pub(super) async fn register(&mut self, id: i64, effect: Effect, votes: Vec<usize>) {
        if self.model.reviews.contains_key(&id) {
            return;
        }
        let detail = self.admin.approval(id).await;
        let (found, content) = (detail.approval.unwrap(), detail.content.unwrap());
        let authors = found.authors.iter().map(String::as_str);
        let concerned = authors.chain([found.owner.as_str()]).filter_map(parse_name).collect();
        self.model.reviews.insert(id, Review { effect, concerned, opened: self.at, votes });
        let first = Seen {
            state: State::Open,
            attempts: 0,
            digest: found.digest,
            yaml: content.yaml,
            apply_by: None,
        };
        self.seen.insert(id, first);
    }

    /// Checks the state of a review.
    async fn check(&mut self, found: &pb::Approval, started: i64) {
        let id = found.id;
        if !self.model.reviews.contains_key(&id) {
            // The server has replaced a review whose base had moved. Without a rule, its proposer has decided.
            let proposer = found.authors.first().and_then(|author| parse_name(author)).unwrap();
            let is_decided = found.state() != State::Open;
            let votes = if is_decided { vec![proposer] } else { Vec::new() };
            assert_ne!(found.previous_approval_id, 0, "opened by no one: {found:?}");
            self.register(id, Effect::Policy, votes).await;
        }
        let (seen, review) = (&self.seen[&id], &self.model.reviews[&id]);
        assert!(!seen.has_ended(), "it had ended as {:?}: {found:?}", seen.state);
        assert_eq!(seen.digest, found.digest, "another content: {found:?}");
        let is_before = seen.is_voting();
        let is_after = matches!(found.state(), State::Sending | State::Written | State::Applied);
        let is_policy = matches!(review.effect, Effect::Policy);
        if found.attempts > seen.attempts || (is_policy && is_before && is_after) {
            assert!(self.model.is_approved(review), "below quorum: {found:?} {review:?}");
            // A write can begin in the step that sets the pin, before it.
            let is_pinned = self.pinned_in < self.at && self.was_pinned(self.now().await);
            assert!(!is_pinned, "written in spite of a pin: {found:?}");
            let is_late = seen.apply_by.is_some_and(|until| until <= started);
            assert!(!is_late, "written after its time: {found:?}");
        }
        let is_approved = self.model.is_approved(review);
        match (seen.state, found.state()) {
            (State::Open, State::Approved) => {
                assert!(is_approved, "below quorum: {found:?} {review:?}");
            }
            (State::Approved, State::Open) => {
                assert!(!is_approved, "a decision was lost: {found:?} {review:?}");
            }
            (State::Written, state) => {
                assert!(matches!(state, State::Written | State::Applied), "{found:?}");
            }
            _ => {}
        }
        let state = found.state();
        let seen = self.seen.get_mut(&id).unwrap();
        seen.attempts = found.attempts;
        seen.state = state;
        seen.apply_by = found.apply_deadline_time.as_ref().map(micros).or(seen.apply_by);
    }

    /// Returns a revision of the policy. 0 is the newest.
    pub(super) async fn policy(&self, version: u32) -> pb::Policy {
        for _ in 0..READS_MAX {
            match get_version(&self.admin, self.gateway, version).await {
                Ok(policy) => return policy,
                // The connection was that of a call whose answer was lost.
                Err(error) if error.code() == Code::Unavailable => pause().await,
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("the gateway does not respond");
    }

    /// Checks the revisions that are new on the gateway.
    async fn check_revisions(&mut self, started: i64) {
        let newest = self.policy(0).await.revision.unwrap().version;
        for version in self.version + 1..=newest {
            let policy = self.policy(version).await;
            let provenance = policy.revision.unwrap().provenance;
            let Some(id) = provenance.get(annotation::ROUND) else {
                let (hosts, count) = &mut self.unreviewed;
                let is_known = hosts.iter().any(|host| policy.yaml.contains(host.as_str()));
                assert!(is_known && *count > 0, "written without a review: {}", policy.yaml);
                *count -= 1;
                continue;
            };
            let id: i64 = id.parse().unwrap();
            if !self.seen.contains_key(&id) {
                let found = self.admin.approval(id).await.approval.unwrap();
                self.check(&found, started).await;
            }
            let seen = &self.seen[&id];
            assert!(seen.attempts > 0, "written before it was begun: {id}");
            assert_eq!(policy.yaml, seen.yaml, "another content than that of review {id}");
            assert!(self.written.insert(id), "review {id} was written twice");
        }
        self.version = newest;
    }

    /// Checks that the votes of a review are those that were acknowledged.
    pub(super) async fn check_votes(&self, id: i64) {
        let stored = self.admin.votes(id).await;
        let counting = stored.iter().filter(|vote| vote.clear_time.is_none());
        let stored: Vec<usize> = counting.filter_map(|vote| parse_name(&vote.voter)).collect();
        assert_eq!(stored, self.model.reviews[&id].votes, "votes of review {id}");
    }

    /// Does the same for all reviews that have votes.
    pub(super) async fn check_all_votes(&self) {
        let open = self.seen.iter().filter(|(_, seen)| seen.has_votes());
        let open: Vec<i64> = open.map(|(id, _)| *id).collect();
        for id in open {
            self.check_votes(id).await;
        }
    }
}

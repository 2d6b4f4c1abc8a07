//! The steps of a run.

use std::time::{Duration, Instant};

use bytes::Bytes;
use shoreguard::pb::v1 as pb;
use shoreguard::pb::v1::ApprovalState as State;
use shoreguard::pb::v1::PolicyChangeOutcome as Outcome;
use shoreguard::pb::v1::VoteDecision as Decision;
use shoreguard::resources::approvals::apply::settle::GRACE;
use shoreguard::resources::approvals::apply::{CALL_TIME, DISPATCH};
use shoreguard::resources::approvals::worker::CLOCK;
use shoreguard::workers;
use shoreguard_simulator::{Script, Times};
use tonic::{Code, Status};

use super::cast::{EVE, NAMES, PROGRAMS, RULES, name, request};
use super::checks::micros;
use super::reference::Effect;
use super::scene::{Scene, set_active, set_member, set_role};
use crate::approvals::fact;
use crate::approved_writes::revisions;
use crate::policies::{endpoint, with_rule};
use crate::policy_writes::merge;
use crate::proposals::update;
use crate::support::server::{Caller, reason};

/// Steps between two checks of all votes.
const VOTES_CHECKED_EVERY: u64 = 8;
/// Time after which a write without an answer gets its deadline, before it passes by itself.
const STUCK_MAX: Duration = Duration::from_secs(10);
/// An hour, in microseconds.
const HOUR: i64 = 3_600_000_000;

/// Returns the number of the review that a refused change needs.
fn needed_review(refused: &Status) -> Option<i64> {
    let is_needed = reason(refused) == "APPROVAL_REQUIRED";
    is_needed.then(|| fact(refused, "approval").parse().unwrap())
}

/// Returns a fault of the gateway, and whether it can leave a write without an answer and without an effect.
fn fault(number: usize) -> (Script, bool) {
    let message = || "busy".to_owned();
    let only = |code| (Script::TrailersOnly { code, message: message() }, false);
    match number {
        0 => (Script::Disconnect, false),
        1 => (Script::DisconnectBefore, true),
        2 => (Script::Reset, false),
        3 => only(Code::ResourceExhausted),
        4 => only(Code::Aborted),
        5 => only(Code::InvalidArgument),
        6 => {
            let (code, details) = (Code::Unavailable, Bytes::new());
            (Script::Fail { code, message: message(), details }, true)
        }
        7 => {
            let (code, details) = (Code::Internal, Bytes::new());
            (Script::ReplaceAnswer { code, message: message(), details }, false)
        }
        _ => (Script::Delay(Duration::from_millis(30)), false),
    }
}

impl Scene<'_> {
    /// Makes a step and checks what it has led to.
    pub(super) async fn step(&mut self) {
        self.at += 1;
        // Two steps are not at the same time.
        self.sg.app.db.advance_clock(Duration::from_secs(1));
        let started = self.now().await;
        let is_stuck = self.stuck.is_some_and(|since| since.elapsed() > STUCK_MAX);
        match self.random.below(100) {
            _ if is_stuck => Box::pin(self.pass_time()).await,
            0..15 => Box::pin(self.propose()).await,
            15..23 => Box::pin(self.propose_by_proxy()).await,
            23..55 => Box::pin(self.vote()).await,
            55..63 => Box::pin(self.set_rule()).await,
            63..66 => Box::pin(self.set_pin()).await,
            66..69 => self.remove_pin().await,
            69..77 => Box::pin(self.change_people()).await,
            77..84 => self.set_fault(),
            84..87 => self.move_base(),
            87..94 => {
                self.note("the dispatcher runs");
                Box::pin(self.dispatch(Duration::ZERO)).await;
                Box::pin(self.dispatch(Duration::from_secs(6))).await;
            }
            _ => Box::pin(self.pass_time()).await,
        }
        self.wait_quiet(0).await;
        Box::pin(self.observe(started)).await;
        if self.at.is_multiple_of(VOTES_CHECKED_EVERY) {
            self.check_all_votes().await;
        }
    }

    fn note(&mut self, what: &str) {
        self.trace.steps.push(format!("{}: {what}", self.at));
    }

    fn principal(&mut self) -> usize {
        self.random.below(NAMES.len())
    }

    /// Logs a user in again whose session has ended.
    async fn refresh(&mut self, principal: usize, error: &Status) {
        let is_over = error.code() == Code::Unauthenticated;
        if is_over && principal < PROGRAMS && self.model.people[principal].is_active {
            self.callers[principal] = self.sg.login(&name(principal)).await;
        }
    }

    fn has_rule(&self) -> bool {
        self.model.rules.iter().any(Option::is_some)
    }

    /// Returns whether the pin was in force at a time.
    pub(super) fn was_pinned(&self, at: i64) -> bool {
        self.model.pin.is_some_and(|until| until > at)
    }

    async fn propose(&mut self) {
        let (by, host) = (self.principal(), format!("h{}.example", self.at));
        let answer = merge(&self.callers[by], self.gateway, &host).await;
        let now = self.now().await;
        let change = match answer {
            Ok(change) => change,
            Err(error) => {
                self.note(&format!("{} proposes {host}: {}", NAMES[by], reason(&error)));
                return self.refresh(by, &error).await;
            }
        };
        let id = change.approval_id;
        self.note(&format!("{} proposes {host}: review {id}, {:?}", NAMES[by], change.outcome()));
        assert!(!self.was_pinned(now), "accepted in spite of a pin");
        let is_reviewed = change.outcome() == Outcome::Proposed;
        assert!(is_reviewed || change.outcome() == Outcome::Applying, "{change:?}");
        assert_eq!(is_reviewed, self.has_rule(), "{change:?}");
        let votes = if is_reviewed { Vec::new() } else { vec![by] };
        self.register(id, Effect::Policy, votes).await;
    }

    async fn propose_by_proxy(&mut self) {
        let (by, host) = (self.principal(), format!("h{}.example", self.at));
        let to = (self.gateway, self.generation);
        let answer = update(&self.callers[by], to, &host).await;
        let now = self.now().await;
        let is_governed = self.has_rule() || self.was_pinned(now);
        let ended = answer.as_ref().map_or_else(reason, ToString::to_string);
        self.note(&format!("{} updates to {host}: {ended}", NAMES[by]));
        let is_denied =
            |error: &Status| matches!(error.code(), Code::PermissionDenied | Code::Unauthenticated);
        if !is_governed && !answer.as_ref().is_err_and(is_denied) {
            // Even if its answer was lost.
            self.unreviewed.0.push(host);
            self.unreviewed.1 += 1;
        }
        match answer {
            Ok(_) => assert!(!is_governed, "written in spite of a rule"),
            Err(error) => {
                if let Some(id) = needed_review(&error) {
                    assert!(self.has_rule());
                    self.register(id, Effect::Policy, Vec::new()).await;
                }
                self.refresh(by, &error).await;
            }
        }
    }

    async fn vote(&mut self) {
        let is_stale = self.random.below(12) == 0;
        let voting = self.seen.iter().filter(|(_, seen)| seen.is_voting() || is_stale);
        let ids: Vec<i64> = voting.map(|(id, _)| *id).collect();
        if ids.is_empty() {
            return self.note("no review is open");
        }
        let (by, id) = (self.principal(), self.random.pick(&ids));
        let decisions =
            [Decision::Approve, Decision::Approve, Decision::Approve, Decision::Withdraw];
        let is_rejected = self.random.below(25) == 0;
        let decision = if is_rejected { Decision::Reject } else { self.random.pick(&decisions) };
        let other = self.random.pick(&ids);
        let digest = self.seen[if is_stale { &other } else { &id }].digest.clone();
        let vote = pb::VoteRequest {
            approval_id: id,
            digest: digest.clone(),
            decision: decision.into(),
            comment: if is_rejected { "a reason".to_owned() } else { String::new() },
            ..Default::default()
        };
        let answer = self.callers[by].approvals().vote(vote).await;
        let now = self.now().await;
        let found = match answer {
            Ok(found) => found.into_inner().approval.unwrap(),
            Err(error) => {
                self.note(&format!("{} {decision:?} {id}: {}", NAMES[by], reason(&error)));
                return self.refresh(by, &error).await;
            }
        };
        self.note(&format!("{} {decision:?} {id}: {:?}", NAMES[by], found.state()));
        let is_right = decision == Decision::Withdraw || digest == self.seen[&id].digest;
        assert!(is_right, "a vote for another content: {found:?}");
        self.count_vote(by, id, decision, now);
        let review = &self.model.reviews[&id];
        if decision == Decision::Approve && self.seen[&id].is_voting() {
            let is_open = found.state() == State::Open;
            let is_approved = self.model.is_approved(review);
            assert_eq!(!is_open, is_approved, "{found:?} {review:?}");
        }
        if found.state() == State::Applied {
            self.make(id);
        }
        if found.state() == State::Open || found.state() == State::Approved {
            self.check_votes(id).await;
        }
    }

    /// Changes the votes of the model.
    fn count_vote(&mut self, by: usize, id: i64, decision: Decision, now: i64) {
        let review = self.model.reviews.get_mut(&id).unwrap();
        let is_policy = matches!(review.effect, Effect::Policy);
        match decision {
            Decision::Approve => {
                if !review.votes.contains(&by) {
                    review.votes.push(by);
                }
                let review = &self.model.reviews[&id];
                assert!(self.model.counts(review, by), "{} approves: {review:?}", NAMES[by]);
                assert!(!is_policy || !self.was_pinned(now), "approved in spite of a pin");
            }
            Decision::Withdraw | Decision::Reject | Decision::Unspecified => {
                review.votes.retain(|voter| *voter != by);
            }
        }
    }

    /// Makes what a review has approved.
    fn make(&mut self, id: i64) {
        match self.model.reviews[&id].effect {
            Effect::Policy => {}
            Effect::Rule(of_sandbox, rule) => self.model.rules[usize::from(of_sandbox)] = rule,
            Effect::Pin(until) => self.model.pin = until,
        }
    }

    async fn set_rule(&mut self) {
        let of_sandbox = self.random.below(4) == 0;
        let sandbox = if of_sandbox { "coder" } else { "" }.to_owned();
        let rule = Some(self.random.below(RULES.len())).filter(|_| self.random.below(5) > 0);
        let (gateway, caller) = (self.gateway.to_owned(), self.callers[EVE].clone());
        let answer = if let Some(rule) = rule {
            let rule = Some(request(&RULES[rule]));
            let request = pb::SetWorkflowRequest { gateway, sandbox, rule, ..Default::default() };
            let set = async move { set_workflow(&caller, request).await };
            self.while_time_passes(set).await
        } else {
            let request = pb::DeleteWorkflowRequest { gateway, sandbox, ..Default::default() };
            caller.approval_workflows().delete_workflow(request).await.map(drop)
        };
        let effect = Effect::Rule(of_sandbox, rule);
        self.change_rule(effect, answer).await;
    }

    /// Changes a rule or the pin of the model after a call that is answered, or opens its review.
    async fn change_rule(&mut self, effect: Effect, answer: Result<(), Status>) {
        let ended = answer.as_ref().map_or_else(reason, |()| "done".to_owned());
        self.note(&format!("{effect:?}: {ended}"));
        match answer {
            Ok(()) => match effect {
                Effect::Policy => {}
                Effect::Rule(of_sandbox, rule) => self.model.rules[usize::from(of_sandbox)] = rule,
                Effect::Pin(until) => self.model.pin = until,
            },
            Err(error) => {
                if let Some(id) = needed_review(&error) {
                    self.register(id, effect, Vec::new()).await;
                }
                self.refresh(EVE, &error).await;
            }
        }
    }

    /// Pins the sandbox, half of the time while approved changes begin to be written.
    async fn set_pin(&mut self) {
        let hours = 1 + i64::try_from(self.random.below(3)).unwrap();
        // Whole seconds, as the request has them.
        let until = (self.now().await + hours * HOUR) / 1_000_000;
        let request = pb::PinPolicyRequest {
            gateway: self.gateway.to_owned(),
            sandbox: "coder".to_owned(),
            expire_time: Some(prost_types::Timestamp { seconds: until, nanos: 0 }),
            ..Default::default()
        };
        if self.random.below(2) == 0 {
            self.note("the dispatcher runs at the same time");
            workers::run_once(&self.sg.app, &DISPATCH).await.unwrap();
        }
        let caller = self.callers[EVE].clone();
        let set = async move { caller.policies().pin_policy(request).await };
        let answer = self.while_time_passes(set).await;
        let before = revisions(&self.simulator);
        self.wait_quiet(0).await;
        let set = answer.as_ref().ok().map(tonic::Response::get_ref);
        if set.is_some_and(|set| set.in_flight.is_empty()) {
            assert_eq!(
                revisions(&self.simulator),
                before,
                "written after the pin, and not named by it"
            );
        }
        // A pin that is already longer stays as it is.
        let stored = set.and_then(|set| set.policy_pin.as_ref()?.expire_time.as_ref()).map(micros);
        let effect = Effect::Pin(Some(stored.unwrap_or(until * 1_000_000)));
        if set.is_some() {
            self.pinned_in = self.at;
        }
        self.change_rule(effect, answer.map(drop)).await;
    }

    async fn remove_pin(&mut self) {
        let (gateway, sandbox) = (self.gateway.to_owned(), "coder".to_owned());
        let request = pb::UnpinPolicyRequest { gateway, sandbox, ..Default::default() };
        let answer = self.callers[EVE].policies().unpin_policy(request).await.map(drop);
        self.change_rule(Effect::Pin(None), answer).await;
    }

    async fn change_people(&mut self) {
        let of = self.random.below(EVE);
        let (kind, is_more) = (self.random.below(3), self.random.below(2) == 0);
        let answer = match kind {
            0 => {
                let role = if is_more { pb::Role::Operator } else { pb::Role::Viewer };
                set_role(&self.admin, of, role).await
            }
            1 => set_active(&self.admin, of, is_more).await,
            _ => set_member(&self.admin, of, is_more).await,
        };
        let ended = answer.as_ref().map_or_else(reason, |()| "done".to_owned());
        let what = ["the role", "the account", "the membership"][kind];
        self.note(&format!("{what} of {}, more {is_more}: {ended}", NAMES[of]));
        if answer.is_err() {
            return;
        }
        let (at, person) = (self.at, &mut self.model.people[of]);
        match kind {
            0 => person.role = if is_more { pb::Role::Operator } else { pb::Role::Viewer },
            1 => {
                person.is_active = is_more;
                if is_more {
                    self.callers[of] = self.sg.login(&name(of)).await;
                }
            }
            _ if !is_more => person.joined = None,
            // A member who is added again has joined before.
            _ => person.joined = person.joined.or(Some(at)),
        }
    }

    fn set_fault(&mut self) {
        let number = self.random.below(9);
        let (script, is_stuck) = fault(number);
        self.note(&format!("a fault: {script:?}"));
        self.simulator.script("UpdateConfig", script, Times::Next(1));
        if is_stuck {
            self.stuck = Some(Instant::now());
        }
    }

    /// Writes another policy to the gateway, without Shoreguard.
    fn move_base(&mut self) {
        let host = format!("moved{}.example", self.at);
        let moved = with_rule("moved", endpoint(&host, 443));
        self.simulator.change_policy("", "coder", |policy| *policy = moved).unwrap();
        self.note(&format!("the base moves to {host}"));
        self.unreviewed.0.push(host);
        self.unreviewed.1 += 1;
    }

    /// Lets time pass for reviews, pins and writes without an answer.
    async fn pass_time(&mut self) {
        let hours = Duration::from_hours;
        let time = self.random.pick(&[
            CALL_TIME + GRACE,
            CALL_TIME + GRACE,
            hours(2),
            hours(30),
            hours(200),
        ]);
        self.note(&format!("{time:?} pass"));
        self.simulator.clear_scripts();
        self.sg.app.db.advance_clock(time);
        self.wait_quiet(40).await;
        self.stuck = None;
        workers::run_once(&self.sg.app, &CLOCK).await.unwrap();
    }
}

async fn set_workflow(caller: &Caller, request: pb::SetWorkflowRequest) -> Result<(), Status> {
    caller.approval_workflows().set_workflow(request).await.map(drop)
}

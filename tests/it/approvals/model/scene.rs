//! A gateway with people, and how a step ends: when nothing is in progress that can end by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use shoreguard::boot::TAKEOVER;
use shoreguard::db::types::ApprovalRoundId;
use shoreguard::pb::v1 as pb;
use shoreguard::resources::approvals::RoundState;
use shoreguard::resources::approvals::apply::{DISPATCH, operation_key};
use shoreguard::resources::operations::{OperationKind, domain as operations};
use shoreguard::workers;
use shoreguard_simulator::{Generation, Simulator};
use tokio::task::JoinSet;
use tonic::Status;

use super::cast::{EVE, GROUP, NAMES, PROGRAMS, name};
use super::checks::Seen;
use super::reference::{Person, Reference};
use super::{Random, Trace};
use crate::approvals::user;
use crate::approved_writes::round;
use crate::policies::seeded;
use crate::support::pause;
use crate::support::server::{Caller, TestServer};

/// Longest time for what is in progress to end. It is reached only if something hangs.
const QUIET_TIME_MAX: Duration = Duration::from_mins(2);
/// Polls in which a write without an answer is given the time to find its effect.
const STUCK_POLLS: u32 = 40;
/// Interval of polls at which lost operations are taken over.
const TAKEOVER_POLLS: u32 = 200;
/// Time after which pins of a run have ended.
const PINS_END: Duration = Duration::from_hours(4);
/// Passes of the dispatcher until everything that was approved has ended.
const PASSES_MAX: u32 = 60;
/// Longest delay between two operations of a review.
const BACK_OFF_MAX: Duration = Duration::from_secs(301);

/// One run.
pub(super) struct Scene<'a> {
    pub(super) sg: &'a TestServer,
    pub(super) gateway: &'a str,
    pub(super) generation: Generation,
    pub(super) simulator: Simulator,
    /// The principals, by their position.
    pub(super) callers: Vec<Caller>,
    /// The key of another admin, who takes no part.
    pub(super) admin: Caller,
    pub(super) random: Random,
    pub(super) model: Reference,
    /// What was seen of each review, and of the gateway.
    pub(super) seen: BTreeMap<i64, Seen>,
    pub(super) version: u32,
    pub(super) written: BTreeSet<i64>,
    /// Hosts of policies that are written without a review, and the number of revisions without one.
    pub(super) unreviewed: (Vec<String>, usize),
    /// When a fault was set that can leave a write without an answer and without an effect.
    pub(super) stuck: Option<Instant>,
    /// Reviews whose write waits for its deadline.
    pub(super) parked: Vec<i64>,
    /// Number of the step, and of the step that set the pin.
    pub(super) at: u64,
    pub(super) pinned_in: u64,
    pub(super) trace: Trace,
}

fn first_role(principal: usize) -> pb::Role {
    if principal == EVE { pb::Role::Admin } else { pb::Role::Operator }
}

/// Creates the users and their group.
pub(super) async fn hire(sg: &TestServer) {
    for principal in 0..PROGRAMS {
        sg.create_user(&name(principal), first_role(principal)).await;
    }
    sg.create_group(GROUP, pb::Role::None, &[]).await;
}

impl<'a> Scene<'a> {
    /// Registers a gateway whose sandbox `coder` belongs to ana.
    pub(super) async fn open(
        sg: &'a TestServer,
        gateway: &'a str,
        generation: Generation,
        seed: u64,
    ) -> Self {
        let simulator = seeded(sg, gateway, generation).await;
        let admin = sg.admin();
        own(sg, &admin, gateway).await;
        let mut callers = Vec::new();
        for principal in 0..PROGRAMS {
            set_role(&admin, principal, first_role(principal)).await.unwrap();
            set_active(&admin, principal, true).await.unwrap();
            callers.push(sg.login(&name(principal)).await);
        }
        for program in &NAMES[PROGRAMS..] {
            let key = callers[EVE].make_key(program).await;
            callers.push(sg.with_token(&key));
        }
        let mut people = Vec::new();
        for principal in 0..NAMES.len() {
            let role = first_role(principal);
            let is_member = [0, 2].contains(&principal);
            if principal < PROGRAMS {
                // The previous run may have left it a member, or not.
                let _ = set_member(&admin, principal, is_member).await;
            }
            people.push(Person { role, is_active: true, joined: is_member.then_some(0) });
        }
        let model = Reference { people, rules: [None; 2], pin: None, reviews: BTreeMap::new() };
        let mut scene = Self {
            sg,
            gateway,
            generation,
            simulator,
            callers,
            admin,
            random: Random::new(seed),
            model,
            seen: BTreeMap::new(),
            version: 0,
            written: BTreeSet::new(),
            unreviewed: (Vec::new(), 0),
            stuck: None,
            parked: Vec::new(),
            at: 1,
            pinned_in: 0,
            trace: Trace { seed, steps: Vec::new() },
        };
        scene.version = scene.policy(0).await.revision.unwrap().version;
        scene
    }

    /// Returns the time of the database, in microseconds.
    pub(super) async fn now(&self) -> i64 {
        let db = &self.sg.app.db;
        db.now(&mut db.read().await.unwrap()).await.unwrap().unix_micros()
    }

    /// Returns the reviews that have an active operation, each with its state.
    async fn active(&self) -> Vec<(i64, RoundState)> {
        let mut ids: Vec<ApprovalRoundId> =
            self.model.reviews.keys().map(|id| (*id).into()).collect();
        ids.retain(|id| self.seen.get(&id.get()).is_none_or(|seen| !seen.has_ended()));
        let keys: Vec<String> = ids.iter().map(|id| operation_key(*id)).collect();
        if keys.is_empty() {
            return Vec::new();
        }
        let mut conn = self.sg.app.db.read().await.unwrap();
        let kind = OperationKind::Policy;
        let active = operations::active_keys(&mut conn, kind, &keys).await.unwrap();
        drop(conn);
        let mut states = Vec::new();
        for id in ids.into_iter().filter(|id| active.contains(&operation_key(*id))) {
            states.push((id.get(), round(&self.sg.app, id).await.state));
        }
        states
    }

    /// Waits until no operation runs, except for those that wait for the deadline of a write without an answer.
    /// `advances` is the number of times that their pauses are cut short.
    pub(super) async fn wait_quiet(&mut self, mut advances: u32) {
        let begun = Instant::now();
        let mut polls: u32 = 0;
        loop {
            let active = self.active().await;
            let ids: Vec<i64> = active.iter().map(|(id, _)| *id).collect();
            let is_stuck = self.stuck.is_some()
                && advances == 0
                && (polls >= STUCK_POLLS || ids == self.parked)
                && active.iter().all(|(_, state)| *state == RoundState::Sending);
            if ids.is_empty() || is_stuck {
                self.parked = ids;
                return;
            }
            assert!(begun.elapsed() < QUIET_TIME_MAX, "operations do not end: {active:?}");
            polls += 1;
            if advances > 0 && polls.is_multiple_of(4) {
                advances -= 1;
                self.sg.app.clock.advance(Duration::from_millis(500));
            }
            if polls.is_multiple_of(TAKEOVER_POLLS) {
                workers::run_once(&self.sg.app, &TAKEOVER).await.unwrap();
            }
            pause().await;
        }
    }

    /// Runs the dispatcher once, after a delay.
    pub(super) async fn dispatch(&mut self, delay: Duration) {
        self.sg.app.clock.advance(delay);
        let started = self.now().await;
        workers::run_once(&self.sg.app, &DISPATCH).await.unwrap();
        self.wait_quiet(0).await;
        self.observe(started).await;
    }

    /// Makes a call that waits up to 5 seconds of the clock for writes in progress.
    pub(super) async fn while_time_passes<T: Send + 'static>(
        &self,
        call: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let mut calls = JoinSet::new();
        calls.spawn(call);
        let mut polls: u32 = 0;
        loop {
            if let Some(ended) = calls.try_join_next() {
                return ended.unwrap();
            }
            polls += 1;
            if polls.is_multiple_of(8) && polls <= 64 {
                self.sg.app.clock.advance(Duration::from_secs(1));
            }
            pause().await;
        }
    }

    /// Ends a run: everything that was approved is written or ends otherwise, and no vote was lost. Returns the gateway:
    /// while it listens, no other one has its address, which has a rule.
    pub(super) async fn close(mut self) -> Simulator {
        self.trace.steps.push("the end".to_owned());
        self.simulator.clear_scripts();
        self.sg.app.db.advance_clock(PINS_END);
        self.wait_quiet(200).await;
        self.stuck = None;
        let mut delay = Duration::ZERO;
        for pass in 0.. {
            self.dispatch(delay).await;
            let waiting = self.seen.iter().filter(|(_, seen)| seen.is_waiting_for_write());
            let waiting: Vec<i64> = waiting.map(|(id, _)| *id).collect();
            if waiting.is_empty() {
                break;
            }
            assert!(pass < PASSES_MAX, "approved and never written: {waiting:?}");
            delay = (delay * 2).clamp(Duration::from_secs(6), BACK_OFF_MAX);
        }
        self.check_all_votes().await;
        self.simulator
    }
}

impl Caller {
    /// Makes a service principal, or another key of it if it exists. Returns the key.
    async fn make_key(&self, program: &str) -> String {
        let request = pb::RotateServicePrincipalRequest {
            service_principal: program.to_owned(),
            ..Default::default()
        };
        match self.service_principals().rotate_service_principal(request).await {
            Ok(rotated) => rotated.into_inner().key,
            Err(_) => self.create_key(program, pb::Role::Operator).await,
        }
    }
}

/// Stores that ana owns `coder`.
async fn own(sg: &TestServer, admin: &Caller, gateway: &str) {
    let request = pb::GetSandboxRequest {
        gateway: gateway.to_owned(),
        sandbox: "coder".to_owned(),
        ..Default::default()
    };
    let found = admin.sandboxes().get_sandbox(request).await.unwrap().into_inner();
    let (id, owner) = (found.sandbox.unwrap().id, user(sg, "ana"));
    sg.sql(&format!("DELETE FROM sandbox_meta WHERE gateway_name = '{gateway}'")).await;
    sg.sql(&format!(
        "INSERT INTO sandbox_meta (gateway_name, workspace, sandbox_name, sandbox_id, created_at, owner) \
         VALUES ('{gateway}', 'default', 'coder', '{id}', '2026-01-01 00:00:00.000000', 'user:{owner}')"
    ))
    .await;
}

fn update(principal: usize, path: &str) -> pb::UpdateUserRequest {
    pb::UpdateUserRequest {
        user: name(principal),
        update_mask: Some(prost_types::FieldMask { paths: vec![path.to_owned()] }),
        ..Default::default()
    }
}

/// Gives a user a role.
pub(super) async fn set_role(
    admin: &Caller,
    principal: usize,
    role: pb::Role,
) -> Result<(), Status> {
    let request = pb::UpdateUserRequest { role: role.into(), ..update(principal, "role") };
    admin.users().update_user(request).await.map(drop)
}

/// Activates or deactivates a user.
pub(super) async fn set_active(
    admin: &Caller,
    principal: usize,
    is_active: bool,
) -> Result<(), Status> {
    let request = pb::UpdateUserRequest { is_active, ..update(principal, "is_active") };
    admin.users().update_user(request).await.map(drop)
}

/// Adds a user to the group, or removes it.
pub(super) async fn set_member(
    admin: &Caller,
    principal: usize,
    is_member: bool,
) -> Result<(), Status> {
    let (group, user, request_id) = (GROUP.to_owned(), name(principal), String::new());
    let mut groups = admin.groups();
    if is_member {
        groups
            .add_group_member(pb::AddGroupMemberRequest { group, user, request_id })
            .await
            .map(drop)
    } else {
        let request = pb::RemoveGroupMemberRequest { group, user, request_id };
        groups.remove_group_member(request).await.map(drop)
    }
}

//! Data of the subjects in the snapshot.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::bindings::{Bindings, GatewayFacts};
use crate::access::principal::PrincipalId;
use crate::clock::Timestamp;
use crate::db::types::{GatewayId, GroupId, ServicePrincipalId, SessionId, UserId};
use crate::role::Role;

/// Data of a user that access checks need.
#[derive(Debug, Clone)]
pub struct UserFacts {
    /// E-mail address.
    pub email: Arc<str>,
    /// Own global role.
    pub role: Role,
    /// Whether the account is active.
    pub active: bool,
    /// Incremented with each change of the password; tokens of an older version are invalid.
    pub password_version: i64,
    /// Groups of the user.
    pub groups: Vec<Membership>,
    /// Own roles on gateways.
    pub bindings: Bindings,
    /// Sessions that were ended while one of their tokens may not have expired.
    pub revoked: Vec<SessionId>,
    /// Issuer and subject of the linked identity.
    pub identity: Option<(Arc<str>, Arc<str>)>,
}

/// A user's membership in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group: GroupId,
    /// When the user joined; `None` for members from before this was stored.
    pub joined_at: Option<Timestamp>,
}

/// Data of a service principal that access checks need.
#[derive(Debug, Clone)]
pub struct ServicePrincipalFacts {
    /// Name.
    pub name: Arc<str>,
    /// Global role.
    pub role: Role,
    /// SHA-256 of the key.
    pub key_hash: [u8; 32],
    /// Incremented with each rotation.
    pub key_version: i64,
    /// The previous key, while both are valid.
    pub previous: Option<PreviousKey>,
    /// When the keys expire.
    pub expires_at: Option<Timestamp>,
    /// Roles on gateways.
    pub bindings: Bindings,
    /// Set when the key is used, until [`super::Snapshot::take_used_keys`].
    pub used: Arc<AtomicBool>,
    /// The principal that created it; `None` if it is not known.
    pub maker: Option<PrincipalId>,
    /// The principal that last rotated its key; `None` if it is not known.
    pub rotated_by: Option<PrincipalId>,
}

/// A replaced key that is still valid for some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviousKey {
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// When it expires.
    pub ends_at: Timestamp,
}

/// Data of a group that access checks need.
#[derive(Debug, Clone)]
pub struct GroupFacts {
    /// Name.
    pub name: Arc<str>,
    /// Global role of each member.
    pub role: Role,
    /// Roles of each member on gateways.
    pub bindings: Bindings,
}

/// Current data of one subject; `None` if it was deleted.
#[derive(Debug)]
pub enum AccessUpdate {
    /// A user.
    User(UserId, Option<UserFacts>),
    /// A service principal.
    ServicePrincipal(ServicePrincipalId, Option<ServicePrincipalFacts>),
    /// A group.
    Group(GroupId, Option<GroupFacts>),
    /// A gateway.
    Gateway(GatewayId, Option<GatewayFacts>),
}

//! Who can vote: the principals of one gateway, as a tally needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::access::principal::PrincipalId;
pub use crate::access::snapshot::Membership;
use crate::access::snapshot::Snapshot;
use crate::db::types::{GatewayId, UserId};
use crate::role::Role;

/// The principals and their roles on one gateway, at one revision of the access data.
#[derive(Debug, Clone, Default)]
pub struct People {
    principals: BTreeMap<PrincipalId, Person>,
}

/// Facts about one principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Name, for people: an e-mail address, or `sp:` and a name.
    pub name: Arc<str>,
    /// Role on the gateway.
    pub role: Role,
    /// Whether it can call: an account that is active, a key that has not expired.
    pub is_active: bool,
    /// Groups of a user.
    pub groups: Vec<Membership>,
    /// Maker and last rotator of a service principal, each `None` if not known or, for the rotator, if the key was
    /// never rotated; empty for a user.
    pub makers: Makers,
}

/// Who holds the key of a service principal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Makers {
    /// Its creator.
    pub maker: Option<PrincipalId>,
    /// Who rotated its key last.
    pub rotated_by: Option<PrincipalId>,
}

impl People {
    /// Reads the principals and their roles on a gateway from the access data.
    #[must_use]
    pub fn on_gateway(snapshot: &Snapshot, gateway: GatewayId) -> Self {
        Self::new(snapshot.principals_on(gateway).into_iter().map(|of| {
            let makers = Makers { maker: of.maker, rotated_by: of.rotated_by };
            let (name, role, is_active, groups) = (of.actor, of.role, of.can_call, of.groups);
            (of.principal, Person { name, role, is_active, groups, makers })
        }))
    }

    /// Creates it from the facts of each principal.
    #[must_use]
    pub fn new(principals: impl IntoIterator<Item = (PrincipalId, Person)>) -> Self {
        Self { principals: principals.into_iter().collect() }
    }

    /// Returns the facts of a principal, or `None` if it does not exist.
    #[must_use]
    pub fn get(&self, principal: PrincipalId) -> Option<&Person> {
        self.principals.get(&principal)
    }

    /// Returns all principals, users first, by id.
    pub fn all(&self) -> impl Iterator<Item = (PrincipalId, &Person)> {
        self.principals.iter().map(|(id, person)| (*id, person))
    }

    /// Returns the users behind a principal: the user itself, or the makers and last rotators of a service principal,
    /// through service principals that made others. `None` if it is not known who holds the key, since it could be any
    /// user. A deleted user is known, by its id.
    #[must_use]
    pub fn roots(&self, principal: PrincipalId) -> Option<BTreeSet<UserId>> {
        self.is_holder_known(principal).then(|| self.known_roots(principal))
    }

    /// Returns whether it is known who holds the key of a principal: its last rotator or, without a rotation, its maker
    /// leads to a user. A service principal that has rotated its own key leads to none.
    #[must_use]
    pub fn is_holder_known(&self, principal: PrincipalId) -> bool {
        let mut seen = BTreeSet::new();
        let mut next = Some(principal);
        while let Some(PrincipalId::ServicePrincipal(id)) = next {
            let person = self.get(PrincipalId::ServicePrincipal(id));
            let Some(Makers { maker, rotated_by }) = person.map(|person| person.makers) else {
                return false;
            };
            if !seen.insert(id) {
                return false;
            }
            next = rotated_by.or(maker);
        }
        next.is_some()
    }

    /// Returns the users behind a principal that are known, even if others are not.
    #[must_use]
    pub fn known_roots(&self, principal: PrincipalId) -> BTreeSet<UserId> {
        let mut roots = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut next = vec![principal];
        while let Some(principal) = next.pop() {
            match principal {
                PrincipalId::User(user) => {
                    roots.insert(user);
                }
                PrincipalId::ServicePrincipal(id) if seen.insert(id) => {
                    let makers = self.get(principal).map(|person| person.makers);
                    next.extend(
                        makers.into_iter().flat_map(|of| [of.maker, of.rotated_by]).flatten(),
                    );
                }
                PrincipalId::ServicePrincipal(_) => {}
            }
        }
        roots
    }
}

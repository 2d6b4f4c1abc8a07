//! Reads the facts that the snapshot holds.
//!
//! Invariant: the facts of any number of subjects of one kind are read by the same few queries.

mod store;

use std::collections::HashMap;
use std::hash::Hash;

use crate::access::snapshot::AccessUpdate;
use crate::clock::Timestamp;
use crate::db::Conn;
use crate::error::Error;
use crate::outbox::AccessSubject;

/// Reads all facts, with the sessions that were revoked since `ended_since`.
pub(super) async fn read_all(
    conn: &mut Conn,
    ended_since: Timestamp,
) -> Result<Vec<AccessUpdate>, Error> {
    let mut facts = Vec::new();
    for (id, found) in store::gateway_facts(conn).await? {
        facts.push(AccessUpdate::Gateway(id, Some(found)));
    }
    for (id, found) in store::group_facts(conn, None).await? {
        facts.push(AccessUpdate::Group(id, Some(found)));
    }
    for (id, found) in store::user_facts(conn, None, ended_since).await? {
        facts.push(AccessUpdate::User(id, Some(found)));
    }
    for (id, found) in store::service_principal_facts(conn, None).await? {
        facts.push(AccessUpdate::ServicePrincipal(id, Some(found)));
    }
    Ok(facts)
}

/// Reads the facts of these subjects except gateways, which are read with the data that the proxy needs.
pub(super) async fn read(
    conn: &mut Conn,
    subjects: &[AccessSubject],
    ended_since: Timestamp,
) -> Result<Vec<AccessUpdate>, Error> {
    let (mut users, mut service_principals, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for subject in subjects {
        match subject {
            AccessSubject::User(id) => users.push(id.get()),
            AccessSubject::ServicePrincipal(id) => service_principals.push(id.get()),
            AccessSubject::Group(id) => groups.push(id.get()),
            AccessSubject::Gateway(_) => {}
        }
    }
    let mut facts = Vec::with_capacity(subjects.len());
    if !users.is_empty() {
        let found = store::user_facts(conn, Some(users.as_slice()), ended_since).await?;
        facts.extend(with_missing(users, found, AccessUpdate::User));
    }
    if !service_principals.is_empty() {
        let found =
            store::service_principal_facts(conn, Some(service_principals.as_slice())).await?;
        facts.extend(with_missing(service_principals, found, AccessUpdate::ServicePrincipal));
    }
    if !groups.is_empty() {
        let found = store::group_facts(conn, Some(groups.as_slice())).await?;
        facts.extend(with_missing(groups, found, AccessUpdate::Group));
    }
    Ok(facts)
}

/// Returns the update of each id: its facts, or its deletion if none were found.
fn with_missing<Id: From<i64> + Eq + Hash + Copy, Facts>(
    ids: Vec<i64>,
    found: Vec<(Id, Facts)>,
    update: fn(Id, Option<Facts>) -> AccessUpdate,
) -> impl Iterator<Item = AccessUpdate> {
    let mut found: HashMap<Id, Facts> = found.into_iter().collect();
    ids.into_iter().map(move |id| {
        let id = Id::from(id);
        update(id, found.remove(&id))
    })
}

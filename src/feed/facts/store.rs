//! Database access for the facts of the snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;

use crate::access::principal::PrincipalId;
use crate::access::snapshot::{
    Bindings, GatewayFacts, GroupFacts, Membership, PreviousKey, SelectorRole,
    ServicePrincipalFacts, UserFacts,
};
use crate::clock::Timestamp;
use crate::db::schema::{
    gateways, group_gateway_roles, group_members, groups, selector_bindings, service_principals,
    sp_gateway_roles, user_gateway_roles, users,
};
use crate::db::types::{GatewayId, GroupId, ServicePrincipalId, SessionId, UserId};
use crate::db::{Conn, on_conn};
use crate::error::Error;
use crate::feed::store::parse_role;
use crate::labels::{Labels, Selector};
use crate::seal::decode_hex;

/// Returns the facts of all gateways.
pub(super) async fn gateway_facts(
    conn: &mut Conn,
) -> Result<Vec<(GatewayId, GatewayFacts)>, Error> {
    let rows: Vec<(i64, String, Option<String>)> = on_conn!(conn, |c| gateways::table
        .select((gateways::id, gateways::name, gateways::labels_json))
        .load(c)
        .await)?;
    let facts = |(id, name, labels): (i64, String, Option<String>)| {
        let labels = Labels::from_json(labels.as_deref());
        (id.into(), GatewayFacts { name: name.into(), labels })
    };
    Ok(rows.into_iter().map(facts).collect())
}

/// Restricts a query to these ids; `None` is all. A single id has a text of its own, since SQLite keeps no statement
/// with a list.
macro_rules! only {
    ($query:ident, $ids:expr, $column:expr) => {
        match $ids {
            None => {}
            Some([id]) => $query = $query.filter($column.eq(*id)),
            Some(ids) => $query = $query.filter($column.eq_any(ids.to_vec())),
        }
    };
}

/// Reads the bindings of holders of one kind: bindings on gateways from the table of that kind, bindings by selector
/// from the rows in which the column of that kind is not null.
macro_rules! bindings {
    ($conn:expr, $only:expr, $table:ident.$holder:ident, $by_selector:ident) => {{
        let direct: Vec<(i64, i64, String)> = on_conn!($conn, |c| {
            use $table as t;
            let mut query = t::table.select((t::$holder, t::gateway_id, t::role)).into_boxed();
            only!(query, $only, t::$holder);
            query.load(c).await
        })?;
        let by_selector: Vec<(i64, String, String)> = on_conn!($conn, |c| {
            use selector_bindings as t;
            let mut query = t::table
                .filter(t::$by_selector.is_not_null())
                .select((t::$by_selector.assume_not_null(), t::selector, t::role))
                .order(t::selector)
                .into_boxed();
            only!(query, $only, t::$by_selector);
            query.load(c).await
        })?;
        group_by_holder(direct, by_selector)?
    }};
}

fn group_by_holder(
    direct: Vec<(i64, i64, String)>,
    by_selector: Vec<(i64, String, String)>,
) -> Result<HashMap<i64, Bindings>, Error> {
    let mut all: HashMap<i64, Bindings> = HashMap::new();
    for (holder, gateway, text) in direct {
        all.entry(holder).or_default().direct.insert(gateway.into(), parse_role(&text)?);
    }
    for (holder, selector, text) in by_selector {
        let selector = Selector::parse_access("selector", &selector).map_err(Error::internal)?;
        let by = SelectorRole { selector, role: parse_role(&text)? };
        all.entry(holder).or_default().by_selector.push(by);
    }
    Ok(all)
}

/// Returns the facts of these groups, or of all groups.
pub(super) async fn group_facts(
    conn: &mut Conn,
    only: Option<&[i64]>,
) -> Result<Vec<(GroupId, GroupFacts)>, Error> {
    let rows: Vec<(i64, String, String)> = on_conn!(conn, |c| {
        let columns = (groups::id, groups::name, groups::role);
        let mut query = groups::table.select(columns).into_boxed();
        only!(query, only, groups::id);
        query.load(c).await
    })?;
    let mut bound = bindings!(conn, only, group_gateway_roles.group_id, group_id);
    let facts = |(id, name, text): (i64, String, String)| {
        let bindings = bound.remove(&id).unwrap_or_default();
        Ok((id.into(), GroupFacts { name: name.into(), role: parse_role(&text)?, bindings }))
    };
    rows.into_iter().map(facts).collect()
}

/// Returns the sessions that were revoked since, of these users or of all users.
async fn ended_sessions(
    conn: &mut Conn,
    only: Option<&[i64]>,
    since: Timestamp,
) -> Result<Vec<(UserId, SessionId)>, Error> {
    use crate::db::schema::sessions as t;
    let rows: Vec<(i64, i64)> = on_conn!(conn, |c| {
        let mut query =
            t::table.select((t::user_id, t::id)).filter(t::revoked_at.ge(since)).into_boxed();
        only!(query, only, t::user_id);
        query.load(c).await
    })?;
    Ok(rows.into_iter().map(|(user, id)| (UserId(user), SessionId(id))).collect())
}

/// Returns the facts of these users or of all users, with the sessions that were revoked since.
pub(super) async fn user_facts(
    conn: &mut Conn,
    only: Option<&[i64]>,
    ended_since: Timestamp,
) -> Result<Vec<(UserId, UserFacts)>, Error> {
    let rows: Vec<UserRow> = on_conn!(conn, |c| {
        use users as t;
        let identity = (t::oidc_issuer, t::oidc_sub);
        let columns = (t::id, t::email, t::role, t::is_active, t::password_version, identity);
        let mut query = t::table.select(columns).into_boxed();
        only!(query, only, t::id);
        query.load(c).await
    })?;
    let memberships: Vec<(i64, i64, Option<Timestamp>)> = on_conn!(conn, |c| {
        use group_members as t;
        let mut query = t::table.select((t::user_id, t::group_id, t::joined_at)).into_boxed();
        only!(query, only, t::user_id);
        query.load(c).await
    })?;
    let mut bound = bindings!(conn, only, user_gateway_roles.user_id, user_id);
    let mut groups: HashMap<i64, Vec<Membership>> = HashMap::new();
    for (user, group, joined_at) in memberships {
        let member = Membership { group: group.into(), joined_at };
        groups.entry(user).or_default().push(member);
    }
    let mut revoked: HashMap<i64, Vec<SessionId>> = HashMap::new();
    for (user, session) in ended_sessions(conn, only, ended_since).await? {
        revoked.entry(user.get()).or_default().push(session);
    }
    let facts = |(id, email, text, active, password_version, identity): UserRow| {
        let (issuer, subject) = identity;
        let facts = UserFacts {
            revoked: revoked.remove(&id).unwrap_or_default(),
            email: email.into(),
            role: parse_role(&text)?,
            active,
            password_version,
            identity: issuer.zip(subject).map(|(issuer, sub)| (issuer.into(), sub.into())),
            groups: groups.remove(&id).unwrap_or_default(),
            bindings: bound.remove(&id).unwrap_or_default(),
        };
        Ok((id.into(), facts))
    };
    rows.into_iter().map(facts).collect()
}

type UserRow = (i64, String, String, bool, i64, (Option<String>, Option<String>));
type PreviousRow = (Option<String>, Option<Timestamp>);
type MakerRow = (Option<String>, Option<String>);
type PrincipalRow = (i64, String, String, String, i64, Option<Timestamp>, PreviousRow, MakerRow);

fn previous_key((hash, ends_at): PreviousRow) -> Result<Option<PreviousKey>, Error> {
    let (Some(hash), Some(ends_at)) = (hash, ends_at) else { return Ok(None) };
    Ok(Some(PreviousKey { hash: from_hex(&hash)?, ends_at }))
}

/// Returns the facts of these service principals or of all.
pub(super) async fn service_principal_facts(
    conn: &mut Conn,
    only: Option<&[i64]>,
) -> Result<Vec<(ServicePrincipalId, ServicePrincipalFacts)>, Error> {
    let rows: Vec<PrincipalRow> = on_conn!(conn, |c| {
        use service_principals as t;
        let before = (t::previous_key_hash, t::previous_key_expires_at);
        let makers = (t::maker, t::rotated_by);
        let columns =
            (t::id, t::name, t::role, t::key_hash, t::key_version, t::expires_at, before, makers);
        let mut query = t::table.select(columns).into_boxed();
        only!(query, only, t::id);
        query.load(c).await
    })?;
    let mut bound = bindings!(conn, only, sp_gateway_roles.sp_id, sp_id);
    let facts = |row: PrincipalRow| {
        let (id, name, text, hash, key_version, expires_at, before, (maker, rotated_by)) = row;
        let facts = ServicePrincipalFacts {
            name: name.into(),
            role: parse_role(&text)?,
            key_hash: from_hex(&hash)?,
            key_version,
            previous: previous_key(before)?,
            expires_at,
            used: Arc::default(),
            maker: parse_principal(maker)?,
            rotated_by: parse_principal(rotated_by)?,
            bindings: bound.remove(&id).unwrap_or_default(),
        };
        Ok((id.into(), facts))
    };
    rows.into_iter().map(facts).collect()
}

fn parse_principal(text: Option<String>) -> Result<Option<PrincipalId>, Error> {
    let parse = |text: String| {
        PrincipalId::parse(&text)
            .ok_or_else(|| Error::internal("a stored principal has another form"))
    };
    text.map(parse).transpose()
}

fn from_hex(text: &str) -> Result<[u8; 32], Error> {
    let hash = decode_hex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    hash.ok_or_else(|| Error::internal("a stored key hash is not 64 hexadecimal digits"))
}

//! Column types besides times: ids, words and JSON, each with one type on both engines.
//!
//! Invariants
//! - the ids of different tables have different types;
//! - a word that this build does not know is an error when it is read, never a default.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types;
use diesel::sqlite::{Sqlite, SqliteValue};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::characters::is_ascii_name;
use crate::error::Error;

/// A registered gateway: its id, and its name when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayRef {
    /// Id, which is never reused.
    pub id: GatewayId,
    /// Name, which another gateway can get after this one is unregistered.
    pub name: Arc<str>,
}

/// A gateway as a call names it, registered or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedGateway {
    /// Id; `None` if no registered gateway has the name.
    pub id: Option<GatewayId>,
    /// The name.
    pub name: Arc<str>,
}

impl From<GatewayRef> for NamedGateway {
    fn from(gateway: GatewayRef) -> Self {
        Self { id: Some(gateway.id), name: gateway.name }
    }
}

/// Workspace of a request that names none.
pub const DEFAULT_WORKSPACE: &str = "default";

/// Name of a sandbox on its gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxName {
    /// Workspace; empty means [`DEFAULT_WORKSPACE`].
    pub workspace: String,
    /// Name; empty if the request names no sandbox.
    pub name: String,
}

/// Maximum length of the name of a workspace or a sandbox in a request, in characters.
pub const PLACE_CHARACTERS_MAX: usize = 253;

impl SandboxName {
    /// Parses the fields `workspace` and `sandbox` of a request, whose names begin with `prefix`. An empty workspace is
    /// [`DEFAULT_WORKSPACE`].
    ///
    /// # Errors
    /// `Invalid` for a name that is missing, too long or has other characters.
    pub fn parse(prefix: &str, workspace: String, sandbox: String) -> Result<Self, Error> {
        let workspace = if workspace.is_empty() { DEFAULT_WORKSPACE.to_owned() } else { workspace };
        for (field, name) in [("workspace", &workspace), ("sandbox", &sandbox)] {
            if name.len() > PLACE_CHARACTERS_MAX || !is_ascii_name(name) {
                let why = format!(
                    "must be 1 to {PLACE_CHARACTERS_MAX} letters, digits, `.`, `_` and `-`, and begin with a letter or digit"
                );
                return Err(Error::invalid(format!("{prefix}{field}"), why));
            }
        }
        Ok(Self { workspace, name: sandbox })
    }
}

/// Returns the workspace, or [`DEFAULT_WORKSPACE`] if it is empty.
#[must_use]
pub fn workspace_or_default(given: &str) -> &str {
    if given.is_empty() { DEFAULT_WORKSPACE } else { given }
}

impl fmt::Display for SandboxName {
    /// Formats the name for the audit log: without the default workspace, and empty without a name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.workspace.as_str(), self.name.as_str()) {
            (_, "") => Ok(()),
            ("" | DEFAULT_WORKSPACE, name) => f.write_str(name),
            (workspace, name) => write!(f, "{workspace}/{name}"),
        }
    }
}

/// A sandbox on a registered gateway. The sandbox need not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxRef {
    /// The gateway.
    pub gateway: GatewayRef,
    /// Name on the gateway.
    pub name: SandboxName,
}

impl SandboxRef {
    /// Returns the workspace.
    #[must_use]
    pub fn workspace(&self) -> &str {
        &self.name.workspace
    }

    /// Returns the name.
    #[must_use]
    pub fn sandbox(&self) -> &str {
        &self.name.name
    }
}

/// A value that is stored as JSON text: diesel cannot read JSONB on both engines.
#[derive(Debug, Clone, PartialEq, Eq, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql_types::Text)]
pub struct Json<T>(pub T)
where
    T: Serialize + DeserializeOwned + fmt::Debug;

impl<T: Serialize + DeserializeOwned + fmt::Debug> ToSql<sql_types::Text, Pg> for Json<T> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&serde_json::to_vec(&self.0)?)?;
        Ok(IsNull::No)
    }
}

impl<T: Serialize + DeserializeOwned + fmt::Debug> FromSql<sql_types::Text, Pg> for Json<T> {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(serde_json::from_slice(value.as_bytes())?))
    }
}

impl<T: Serialize + DeserializeOwned + fmt::Debug> ToSql<sql_types::Text, Sqlite> for Json<T> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        out.set_value(serde_json::to_string(&self.0)?);
        Ok(IsNull::No)
    }
}

impl<T: Serialize + DeserializeOwned + fmt::Debug> FromSql<sql_types::Text, Sqlite> for Json<T> {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let text = <String as FromSql<sql_types::Text, Sqlite>>::from_sql(value)?;
        Ok(Self(serde_json::from_str(&text)?))
    }
}

/// Defines a newtype of `i64` for the ids of one table.
#[macro_export]
macro_rules! id {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            diesel::expression::AsExpression, diesel::deserialize::FromSqlRow,
        )]
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        pub struct $name(pub i64);

        impl $name {
            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<i64> for $name {
            fn from(id: i64) -> Self {
                Self(id)
            }
        }

        impl<DB> diesel::deserialize::FromSql<diesel::sql_types::BigInt, DB> for $name
        where
            DB: diesel::backend::Backend,
            i64: diesel::deserialize::FromSql<diesel::sql_types::BigInt, DB>,
        {
            fn from_sql(value: DB::RawValue<'_>) -> diesel::deserialize::Result<Self> {
                i64::from_sql(value).map(Self)
            }
        }

        impl<DB> diesel::serialize::ToSql<diesel::sql_types::BigInt, DB> for $name
        where
            DB: diesel::backend::Backend,
            i64: diesel::serialize::ToSql<diesel::sql_types::BigInt, DB>,
        {
            fn to_sql<'b>(
                &'b self,
                out: &mut diesel::serialize::Output<'b, '_, DB>,
            ) -> diesel::serialize::Result {
                self.0.to_sql(out)
            }
        }
    )+};
}

/// Stores a type as the word that its `as_str` returns, and reads it with its `from_word`.
#[macro_export]
macro_rules! stored_as_word {
    ($name:ident) => {
        impl<DB> diesel::deserialize::FromSql<diesel::sql_types::Text, DB> for $name
        where
            DB: diesel::backend::Backend,
            String: diesel::deserialize::FromSql<diesel::sql_types::Text, DB>,
        {
            fn from_sql(value: DB::RawValue<'_>) -> diesel::deserialize::Result<Self> {
                let word = String::from_sql(value)?;
                Self::from_word(&word)
                    .ok_or_else(|| format!("unknown {}: `{word}`", stringify!($name)).into())
            }
        }

        impl<DB> diesel::serialize::ToSql<diesel::sql_types::Text, DB> for $name
        where
            DB: diesel::backend::Backend,
            str: diesel::serialize::ToSql<diesel::sql_types::Text, DB>,
        {
            fn to_sql<'b>(
                &'b self,
                out: &mut diesel::serialize::Output<'b, '_, DB>,
            ) -> diesel::serialize::Result {
                self.as_str().to_sql(out)
            }
        }
    };
}

/// Defines an enum that is stored as one of a few words.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            diesel::expression::AsExpression, diesel::deserialize::FromSqlRow,
        )]
        #[diesel(sql_type = diesel::sql_types::Text)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the stored word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Returns the value of a word, or `None` if this build does not know the word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        $crate::stored_as_word!($name);
    };
}

id! {
    /// The id of a user.
    UserId;
    /// The id of a session.
    SessionId;
    /// The id of a device code.
    DeviceCodeId;
    /// The id of a service principal.
    ServicePrincipalId;
    /// The id of a group.
    GroupId;
    /// The id of a membership in a group.
    GroupMemberId;
    /// The id of a role of a subject on one gateway.
    GatewayRoleId;
    /// The id of a role of a subject on all gateways of a selector.
    SelectorBindingId;
    /// The id of a gateway.
    GatewayId;
    /// The id of an entry of the audit log.
    AuditId;
    /// The id of an event, assigned when it is written; its position in the stream is its sequence.
    EventId;
    /// The position of a change in the log of access changes.
    AccessRevision;
    /// The id of an idempotency key.
    IdempotencyId;
    /// The id of a signing key.
    SigningKeyId;
    /// The id of a boot hook.
    BootHookId;
    /// The id of a pin of a policy.
    PolicyPinId;
    /// The id of an approval workflow.
    ApprovalWorkflowId;
    /// The id of an approval round.
    ApprovalRoundId;
    /// The id of a write to a gateway in progress.
    WriteIntentId;
    /// The id of a webhook.
    WebhookId;
    /// The id of a message of a webhook.
    WebhookDeliveryId;
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_unknown_word_does_not_parse() {
        words! {
            /// For this test.
            pub enum Colour { /** red */ Red = "red", /** blue */ Blue = "blue", }
        }
        assert_eq!(Colour::from_word("red"), Some(Colour::Red));
        assert_eq!(Colour::from_word("Red"), None);
        assert_eq!(Colour::ALL.len(), 2);
    }
}

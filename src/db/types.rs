//! What columns hold: times, ids, words and JSON, each one type on both engines.
//!
//! Invariants
//! - a time is UTC, in whole microseconds, and its text on SQLite has a fixed width, so that order by text is order by
//!   time;
//! - an id of one table is never taken for an id of another;
//! - a word that this build does not know is an error when it is read, never a default.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::expression::AsExpression;
use diesel::pg::data_types::PgTimestamp;
use diesel::pg::{Pg, PgValue};
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types;
use diesel::sqlite::{Sqlite, SqliteValue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// PostgreSQL counts from 2000-01-01, Unix from 1970-01-01.
const POSTGRES_EPOCH_UNIX_MICROS: i64 = 946_684_800_000_000;

const SQLITE_FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:6]");
const RFC3339_FORMAT: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// A moment in UTC, to the microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, AsExpression, FromSqlRow)]
#[diesel(sql_type = sql_types::Timestamp)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The start of Unix time: before everything that is stored.
    pub const EPOCH: Self = Self(0);

    /// From microseconds since 1970-01-01.
    #[must_use]
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01.
    #[must_use]
    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// From whole seconds since 1970-01-01, as tokens hold them.
    #[must_use]
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since 1970-01-01, rounded down.
    #[must_use]
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Later by this much; the end of time instead of an overflow.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }

    /// Earlier by this much; the start of time instead of an overflow.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros(by)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// As the time crate has it; none beyond the years -9999 to 9999.
    #[must_use]
    pub fn to_offset(self) -> Option<OffsetDateTime> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).ok()
    }
}

fn micros(by: Duration) -> i64 {
    i64::try_from(by.as_micros()).unwrap_or(i64::MAX)
}

impl From<OffsetDateTime> for Timestamp {
    fn from(at: OffsetDateTime) -> Self {
        // The time crate ends at the year 9999, which is far inside the range.
        Self(i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_offset().and_then(|at| at.format(RFC3339_FORMAT).ok()) {
            Some(text) => f.write_str(&text),
            None => write!(f, "{} us after 1970", self.0),
        }
    }
}

impl ToSql<sql_types::Timestamp, Pg> for Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        let micros = self.0.saturating_sub(POSTGRES_EPOCH_UNIX_MICROS);
        ToSql::<sql_types::Timestamp, Pg>::to_sql(&PgTimestamp(micros), &mut out.reborrow())
    }
}

impl FromSql<sql_types::Timestamp, Pg> for Timestamp {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        let PgTimestamp(micros) = FromSql::<sql_types::Timestamp, Pg>::from_sql(value)?;
        Ok(Self(micros.saturating_add(POSTGRES_EPOCH_UNIX_MICROS)))
    }
}

impl ToSql<sql_types::Timestamp, Sqlite> for Timestamp {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> serialize::Result {
        let at = self.to_offset().ok_or("a time beyond the year 9999")?;
        out.set_value(at.format(SQLITE_FORMAT)?);
        Ok(IsNull::No)
    }
}

impl FromSql<sql_types::Timestamp, Sqlite> for Timestamp {
    fn from_sql(value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let at: PrimitiveDateTime = FromSql::<sql_types::Timestamp, Sqlite>::from_sql(value)?;
        Ok(at.assume_utc().into())
    }
}

/// A value kept as JSON text: JSONB under diesel fails on read through one of the two engines.
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

/// Makes a newtype of `i64` for the ids of one table.
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
            /// The number itself.
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

/// Makes an enum that is stored as one of a few words.
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
            /// Every value there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word that is stored.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value of a word; none for a word that this build does not know.
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
    /// The id of an event, given when it is written; its place in the stream is its sequence.
    EventId;
    /// The place of a change in the log of access changes.
    AccessRevision;
    /// The id of a remembered request.
    IdempotencyId;
    /// The id of a signing key.
    SigningKeyId;
    /// The id of a boot hook.
    BootHookId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_shows_as_rfc3339_with_microseconds() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1_700_000_000_000_001, "2023-11-14T22:13:20.000001Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp::from_unix_micros(micros).to_string(), text);
        }
    }

    #[test]
    fn adding_and_taking_away_saturate() {
        let late = Timestamp::from_unix_micros(i64::MAX);
        assert_eq!(late.plus(Duration::MAX), late);
        assert_eq!(Timestamp::EPOCH.plus(Duration::from_secs(1)).unix_seconds(), 1);
        assert_eq!(Timestamp::EPOCH.minus(Duration::from_micros(1)).unix_seconds(), -1);
        assert_eq!(Timestamp::EPOCH.since(late), Duration::ZERO);
    }

    #[test]
    fn an_unknown_word_is_no_value() {
        words! {
            /// For this test.
            pub enum Colour { /** red */ Red = "red", /** blue */ Blue = "blue", }
        }
        assert_eq!(Colour::from_word("red"), Some(Colour::Red));
        assert_eq!(Colour::from_word("Red"), None);
        assert_eq!(Colour::ALL.len(), 2);
    }
}

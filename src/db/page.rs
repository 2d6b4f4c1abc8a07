//! Pages of a list: a size, and a token with the position after which the next page begins.
//!
//! Lists use keyset pagination: the token contains the sort key of the last row, and the next page begins after it.
//!
//! Invariants
//! - a token is sealed and bound to caller, method, filter and order: it reveals nothing about rows, and a token that
//!   was changed, or was created for another list or caller, is rejected;
//! - a list is always bounded.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::seal::{SealKey, join_parts};

/// Page size if the request sets none.
pub const PAGE_SIZE_DEFAULT: u32 = 50;
/// Maximum page size. Larger sizes are clamped, not rejected (AIP-158).
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Maximum length of a page token, in bytes; longer than any issued token.
pub const PAGE_TOKEN_BYTES_MAX: usize = 4 * 1024;

const FIELD: &str = "page_token";

/// Maximum number of rows of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// Parses the request's `page_size`.
    ///
    /// # Errors
    /// `Invalid` if it is negative.
    pub fn parse(size: i32) -> Result<Self, Error> {
        let size = u32::try_from(size).map_err(|_| {
            Error::invalid("page_size", format!("must be 0 to {PAGE_SIZE_MAX}, got {size}"))
        })?;
        Ok(Self(if size == 0 { PAGE_SIZE_DEFAULT } else { size.min(PAGE_SIZE_MAX) }))
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn get(self) -> usize {
        self.0 as usize
    }

    /// Returns the limit of the query: one more row than the page, to find out whether there is a next page.
    #[must_use]
    pub fn limit(self) -> i64 {
        i64::from(self.0) + 1
    }

    /// Truncates rows that were read with [`PageSize::limit`] to the page; the flag says whether more follow.
    #[must_use]
    pub fn truncate<T>(self, mut rows: Vec<T>) -> (Vec<T>, bool) {
        let more = rows.len() > self.get();
        rows.truncate(self.get());
        (rows, more)
    }
}

/// The list and the caller that a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageScope<'a> {
    /// Path of the method.
    pub method: &'a str,
    /// The caller.
    pub principal: &'a str,
    /// All parts of the request that select rows, or a digest of them.
    pub filter: &'a [u8],
    /// Order of the rows.
    pub order: &'a str,
}

impl PageScope<'_> {
    fn bytes(&self) -> Vec<u8> {
        join_parts(&[
            b"page token",
            self.method.as_bytes(),
            self.principal.as_bytes(),
            self.filter,
            self.order.as_bytes(),
        ])
    }
}

/// Position of a list: the sort key of the last returned row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken<P> {
    position: P,
}

impl<P: Serialize + DeserializeOwned> PageToken<P> {
    /// Creates a token for the rows after this position.
    pub fn new(position: P) -> Self {
        Self { position }
    }

    /// Returns the position.
    #[must_use]
    pub fn position(&self) -> &P {
        &self.position
    }

    /// Returns the token in the form that the caller receives.
    pub fn seal(&self, key: &SealKey, scope: &PageScope<'_>) -> Result<String, Error> {
        let position = serde_json::to_vec(&self.position).map_err(Error::internal)?;
        Ok(URL_SAFE_NO_PAD.encode(key.seal(&scope.bytes(), &position)?))
    }

    /// Reads the request's `page_token`. `None` if it is empty, which requests the first page.
    ///
    /// # Errors
    /// `Invalid` for a token that was changed, or was created for another list, filter, order or caller.
    pub fn open(key: &SealKey, scope: &PageScope<'_>, token: &str) -> Result<Option<Self>, Error> {
        if token.is_empty() {
            return Ok(None);
        }
        if token.len() > PAGE_TOKEN_BYTES_MAX {
            let why = format!("must be at most {PAGE_TOKEN_BYTES_MAX} bytes");
            return Err(Error::invalid(FIELD, why));
        }
        let position = URL_SAFE_NO_PAD
            .decode(token)
            .ok()
            .and_then(|sealed| key.open(&scope.bytes(), &sealed))
            .and_then(|position| serde_json::from_slice(&position).ok())
            .ok_or_else(|| {
                let why = "was not issued for this list, filter, order and caller: start again with an empty token";
                Error::invalid(FIELD, why)
            })?;
        Ok(Some(Self { position }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: PageScope<'_> = PageScope {
        method: "/shoreguard.v1.GatewayService/ListGateways",
        principal: "user:1",
        filter: b"env=prod",
        order: "name",
    };

    fn key() -> SealKey {
        SealKey::from_bytes(&[7; 32])
    }

    fn token() -> String {
        PageToken::new(("edge".to_owned(), 7_i64)).seal(&key(), &SCOPE).unwrap()
    }

    fn open(scope: &PageScope<'_>, token: &str) -> Result<Option<PageToken<(String, i64)>>, Error> {
        PageToken::open(&key(), scope, token)
    }

    #[test]
    fn page_sizes_are_defaulted_and_capped() {
        for (asked, got) in [(0, 50), (1, 1), (1_000, 1_000), (1_001, 1_000), (i32::MAX, 1_000)] {
            assert_eq!(PageSize::parse(asked).unwrap().get(), got);
        }
        assert!(
            matches!(PageSize::parse(-1), Err(Error::Invalid { field, .. }) if field == "page_size")
        );
    }

    #[test]
    fn an_extra_row_means_that_another_page_follows() {
        let size = PageSize::parse(2).unwrap();
        assert_eq!(size.limit(), 3);
        assert_eq!(size.truncate(vec![1, 2, 3]), (vec![1, 2], true));
        assert_eq!(size.truncate(vec![1, 2]), (vec![1, 2], false));
    }

    #[test]
    fn a_page_token_restores_its_position() {
        let opened = open(&SCOPE, &token()).unwrap().unwrap();
        assert_eq!(opened.position(), &("edge".to_owned(), 7));
        assert_eq!(open(&SCOPE, "").unwrap(), None);
    }

    #[test]
    fn a_page_token_of_another_query_or_caller_is_refused() {
        for scope in [
            PageScope { method: "/x", ..SCOPE },
            PageScope { principal: "user:2", ..SCOPE },
            PageScope { filter: b"", ..SCOPE },
            PageScope { order: "id", ..SCOPE },
        ] {
            let error = open(&scope, &token()).unwrap_err();
            assert!(matches!(error, Error::Invalid { field, .. } if field == "page_token"));
        }
    }

    #[test]
    fn a_modified_page_token_is_refused() {
        let token = token();
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(open(&SCOPE, &String::from_utf8(changed).unwrap()).is_err(), "byte {at}");
        }
        assert!(open(&SCOPE, &"A".repeat(PAGE_TOKEN_BYTES_MAX + 1)).is_err());
        assert!(open(&SCOPE, "no base64!").is_err());
    }
}

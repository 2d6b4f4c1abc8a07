//! Pages of a list: a size, and a token that says where the last page ended.
//!
//! Lists are read by keyset: the token holds the last row's sort key, the next page is what comes after it.
//!
//! Invariants
//! - a token is sealed and bound to caller, method, filter and order: it tells nothing of rows, and one that was made
//!   for another question or another caller is refused, as is a changed one;
//! - a list is always bounded.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::seal::{SealKey, joined};

/// What a caller gets who asks for no size.
pub const PAGE_SIZE_DEFAULT: u32 = 50;
/// Larger requests are clamped, not refused (AIP-158).
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// Longer than any token that was given out.
pub const PAGE_TOKEN_BYTES_MAX: usize = 4 * 1024;

const FIELD: &str = "page_token";

/// How many rows a page has at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize(u32);

impl PageSize {
    /// From the request's `page_size`.
    ///
    /// # Errors
    /// `Invalid` when it is negative.
    pub fn parse(size: i32) -> Result<Self, Error> {
        let size = u32::try_from(size).map_err(|_| {
            Error::invalid("page_size", format!("must be 0..={PAGE_SIZE_MAX}, got {size}"))
        })?;
        Ok(Self(if size == 0 { PAGE_SIZE_DEFAULT } else { size.min(PAGE_SIZE_MAX) }))
    }

    /// How many rows.
    #[must_use]
    pub fn get(self) -> usize {
        self.0 as usize
    }

    /// The query's limit: one row more than the page has, so that it is known whether there is a next one.
    #[must_use]
    pub fn limit(self) -> i64 {
        i64::from(self.0) + 1
    }

    /// Cuts rows read with [`PageSize::limit`] to the page; the flag says whether more follow.
    #[must_use]
    pub fn cut<T>(self, mut rows: Vec<T>) -> (Vec<T>, bool) {
        let more = rows.len() > self.get();
        rows.truncate(self.get());
        (rows, more)
    }
}

/// Which list a token belongs to, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageScope<'a> {
    /// The path of the method.
    pub method: &'a str,
    /// Who asks.
    pub principal: &'a str,
    /// Everything of the request that chooses rows, or a digest of it.
    pub filter: &'a [u8],
    /// The order of the rows.
    pub order: &'a str,
}

impl PageScope<'_> {
    fn bytes(&self) -> Vec<u8> {
        joined(&[
            b"page token",
            self.method.as_bytes(),
            self.principal.as_bytes(),
            self.filter,
            self.order.as_bytes(),
        ])
    }
}

/// Where a list goes on: the sort key of the last row that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken<P> {
    position: P,
}

impl<P: Serialize + DeserializeOwned> PageToken<P> {
    /// A list goes on after this position.
    pub fn after(position: P) -> Self {
        Self { position }
    }

    /// The position itself.
    #[must_use]
    pub fn position(&self) -> &P {
        &self.position
    }

    /// The token, as it is given to the caller.
    pub fn seal(&self, key: &SealKey, scope: &PageScope<'_>) -> Result<String, Error> {
        let position = serde_json::to_vec(&self.position).map_err(Error::internal)?;
        Ok(URL_SAFE_NO_PAD.encode(key.seal(&scope.bytes(), &position)?))
    }

    /// Reads the request's `page_token`; none for an empty one, which asks for the first page.
    ///
    /// # Errors
    /// `Invalid` for a token that was changed, or was made for another list, filter, order or caller.
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
                Error::invalid(FIELD, "is not one of this list, filter, order and caller")
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
        PageToken::after(("edge".to_owned(), 7_i64)).seal(&key(), &SCOPE).unwrap()
    }

    fn open(scope: &PageScope<'_>, token: &str) -> Result<Option<PageToken<(String, i64)>>, Error> {
        PageToken::open(&key(), scope, token)
    }

    #[test]
    fn sizes() {
        for (asked, got) in [(0, 50), (1, 1), (1_000, 1_000), (1_001, 1_000), (i32::MAX, 1_000)] {
            assert_eq!(PageSize::parse(asked).unwrap().get(), got);
        }
        assert!(
            matches!(PageSize::parse(-1), Err(Error::Invalid { field, .. }) if field == "page_size")
        );
    }

    #[test]
    fn one_row_too_many_means_that_more_follow() {
        let size = PageSize::parse(2).unwrap();
        assert_eq!(size.limit(), 3);
        assert_eq!(size.cut(vec![1, 2, 3]), (vec![1, 2], true));
        assert_eq!(size.cut(vec![1, 2]), (vec![1, 2], false));
    }

    #[test]
    fn a_token_leads_back_to_its_position() {
        let opened = open(&SCOPE, &token()).unwrap().unwrap();
        assert_eq!(opened.position(), &("edge".to_owned(), 7));
        assert_eq!(open(&SCOPE, "").unwrap(), None);
    }

    #[test]
    fn a_token_of_another_question_or_caller_is_refused() {
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
    fn a_changed_token_is_refused() {
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

//! Pages of a list, for one caller.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Ctx;
use crate::db::page::{PageScope, PageSize, PageToken};
use crate::error::Error;
use crate::seal::SealKey;

/// The list that page tokens are bound to.
#[derive(Debug, Clone, Copy)]
pub struct ListKey<'a> {
    /// Name of the method.
    pub method: &'static str,
    /// All request fields that select rows, or a digest of them.
    pub filter: &'a [u8],
    /// The order of the rows.
    pub order: &'static str,
}

/// A page that a caller requests. Its rows have positions of type `P`.
#[derive(Debug)]
pub struct PageRequest<'a, P> {
    key: &'a SealKey,
    principal: String,
    list: ListKey<'a>,
    size: PageSize,
    after: Option<PageToken<P>>,
}

impl Ctx {
    /// Reads the `page_token` of a request for a page of a list.
    ///
    /// # Errors
    /// `INVALID_FIELD` if the token was modified, or belongs to another list, filter, order or caller.
    pub fn page_request<'a, P>(
        &'a self,
        list: ListKey<'a>,
        size: PageSize,
        token: &str,
    ) -> Result<PageRequest<'a, P>, Error>
    where
        P: Serialize + DeserializeOwned,
    {
        let (key, principal) = (&self.app.page_key, self.principal_text());
        let mut page = PageRequest { key, principal, list, size, after: None };
        page.after = PageToken::open(key, &page.scope(), token)?;
        Ok(page)
    }
}

impl<P> PageRequest<'_, P> {
    fn scope(&self) -> PageScope<'_> {
        let ListKey { method, filter, order } = self.list;
        PageScope { method, principal: &self.principal, filter, order }
    }

    /// The limit of the query: one row more than the page size, to find out whether there is a next page.
    #[must_use]
    pub fn limit(&self) -> i64 {
        self.size.limit()
    }
}

impl<P: Serialize + DeserializeOwned> PageRequest<'_, P> {
    /// The position of the last row of the previous page; `None` for the first page.
    #[must_use]
    pub fn after(&self) -> Option<&P> {
        self.after.as_ref().map(PageToken::position)
    }

    /// Returns the token of the page after a position.
    ///
    /// # Errors
    /// `Internal` if the token cannot be sealed.
    pub fn next_token(&self, position: P) -> Result<String, Error> {
        PageToken::new(position).seal(self.key, &self.scope())
    }

    /// Cuts rows that were read with [`PageRequest::limit`] to the page size. Returns them with the token of the next
    /// page, which is empty on the last page.
    ///
    /// `Internal` if the token cannot be sealed.
    /// A fault of the server.
    pub fn finish<T>(
        &self,
        rows: Vec<T>,
        position: impl FnOnce(&T) -> P,
    ) -> Result<(Vec<T>, String), Error> {
        self.finish_truncated(self.size.truncate(rows), position)
    }

    /// Returns rows that are already cut, with the token of the next page. The flag says whether more rows follow.
    ///
    /// # Errors
    /// `Internal` if the token cannot be sealed.
    pub fn finish_truncated<T>(
        &self,
        (rows, more): (Vec<T>, bool),
        position: impl FnOnce(&T) -> P,
    ) -> Result<(Vec<T>, String), Error> {
        let next = match rows.last().filter(|_| more) {
            None => String::new(),
            Some(last) => self.next_token(position(last))?,
        };
        Ok((rows, next))
    }
}

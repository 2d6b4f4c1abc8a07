//! Pages of a list, for one caller.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Ctx;
use crate::db::page::{PageScope, PageSize, PageToken};
use crate::error::Error;
use crate::seal::SealKey;

/// The list that page tokens are bound to.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    /// Name of the method.
    pub method: &'static str,
    /// All request fields that select rows, or a digest of them.
    pub filter: &'a [u8],
    /// The order of the rows.
    pub order: &'static str,
}

/// A page that a caller requests. Its rows have positions of type `P`.
#[derive(Debug)]
pub struct Page<'a, P> {
    key: &'a SealKey,
    principal: String,
    list: List<'a>,
    size: PageSize,
    after: Option<PageToken<P>>,
}

impl Ctx {
    /// Reads the `page_token` of a request for a page of a list.
    ///
    /// # Errors
    /// `INVALID_FIELD` if the token was modified, or belongs to another list, filter, order or caller.
    pub fn page<'a, P>(
        &'a self,
        list: List<'a>,
        size: PageSize,
        token: &str,
    ) -> Result<Page<'a, P>, Error>
    where
        P: Serialize + DeserializeOwned,
    {
        let (key, principal) = (&self.app.page_key, self.principal_text());
        let mut page = Page { key, principal, list, size, after: None };
        page.after = PageToken::open(key, &page.scope(), token)?;
        Ok(page)
    }
}

impl<P> Page<'_, P> {
    fn scope(&self) -> PageScope<'_> {
        let List { method, filter, order } = self.list;
        PageScope { method, principal: &self.principal, filter, order }
    }

    /// The limit of the query: one row more than the page size, to find out whether there is a next page.
    #[must_use]
    pub fn limit(&self) -> i64 {
        self.size.limit()
    }
}

impl<P: Serialize + DeserializeOwned> Page<'_, P> {
    /// The position of the last row of the previous page; `None` for the first page.
    #[must_use]
    pub fn after(&self) -> Option<&P> {
        self.after.as_ref().map(PageToken::position)
    }

    /// Returns the token of the page after a position.
    ///
    /// # Errors
    /// `Internal` if the token cannot be sealed.
    pub fn next(&self, position: P) -> Result<String, Error> {
        PageToken::after(position).seal(self.key, &self.scope())
    }

    /// Cuts rows that were read with [`Page::limit`] to the page size. Returns them with the token of the next page,
    /// which is empty on the last page.
    ///
    /// `Internal` if the token cannot be sealed.
    /// A fault of the server.
    pub fn finish<T>(
        &self,
        rows: Vec<T>,
        position: impl FnOnce(&T) -> P,
    ) -> Result<(Vec<T>, String), Error> {
        self.end(self.size.cut(rows), position)
    }

    /// Returns rows that are already cut, with the token of the next page. The flag says whether more rows follow.
    ///
    /// # Errors
    /// `Internal` if the token cannot be sealed.
    pub fn end<T>(
        &self,
        (rows, more): (Vec<T>, bool),
        position: impl FnOnce(&T) -> P,
    ) -> Result<(Vec<T>, String), Error> {
        let next = match rows.last().filter(|_| more) {
            None => String::new(),
            Some(last) => self.next(position(last))?,
        };
        Ok((rows, next))
    }
}

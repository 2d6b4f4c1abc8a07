//! Placeholder.
#![allow(missing_docs)]
pub mod store {
    pub async fn delete_of(
        _: &mut crate::db::Conn,
        _: &str,
        _: &str,
        _: &str,
    ) -> Result<usize, crate::error::Error> {
        Ok(0)
    }
    pub async fn count_of(
        _: &mut crate::db::Conn,
        _: &str,
        _: &str,
        _: &str,
    ) -> Result<usize, crate::error::Error> {
        Ok(0)
    }
}

//! Header fields, borrowed: the form in which the core reads them, whichever codec parsed them.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields of a head, wherever they are stored.
pub trait Fields {
    /// The values of all lines of one field, in order.
    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]>;

    /// The value of the first line of a field.
    fn first<'a>(&'a self, name: &HeaderName) -> Option<&'a [u8]> {
        self.values(name).next()
    }
}

impl Fields for HeaderMap {
    fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        self.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }
}

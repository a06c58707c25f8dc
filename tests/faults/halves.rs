//! halves

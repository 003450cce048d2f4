//! PTX text to a syntax tree.

pub(crate) mod ast;

//! PTX text to a syntax tree.

mod alias;
pub(crate) mod ast;
mod cursor;
mod expression;
mod initial;
mod lexer;
mod module;
mod number;
mod operands;
mod statements;
mod variables;

#[cfg(test)]
mod tests;

pub(crate) use module::parse;

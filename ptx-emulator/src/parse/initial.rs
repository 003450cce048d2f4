//! Initial values of variables.

use super::ast::{Initial, Operand};
use super::cursor::Cursor;
use super::expression::{expression, is_constant, offsets};
use super::lexer::Token;
use crate::error::{Error, Result};

/// What follows the `=`: one value, or braces as deep as the array and vector are. Gives an unsized array its extent.
pub(super) fn initialiser(cursor: &mut Cursor, dims: &mut [u64], vector: u32) -> Result<Vec<Initial>> {
    let mut extents = dims.to_vec();
    if vector > 1 {
        extents.push(vector.into());
    }
    let mut found = Vec::new();
    let given = fill(cursor, &extents, &mut found)?;
    if let Some(first) = dims.first_mut().filter(|extent| **extent == 0) {
        *first = given;
    }
    Ok(found)
}

/// One level of braces, or a value at the innermost; the number of elements given on this level.
fn fill(cursor: &mut Cursor, extents: &[u64], found: &mut Vec<Initial>) -> Result<u64> {
    let Some((&extent, inner)) = extents.split_first() else {
        if cursor.at("{") {
            return Err(cursor.unexpected("a value"));
        }
        found.push(value(cursor)?);
        return Ok(1);
    };
    cursor.expect("{")?;
    if cursor.eat("}")? {
        return Ok(0);
    }
    let stride = inner.iter().fold(1_u64, |product, &extent| product.saturating_mul(extent));
    let start = found.len();
    let mut given = 0_u64;
    loop {
        if extent != 0 && given == extent {
            let what = format!("more than {extent} initial values");
            return Err(Error::Invalid { line: cursor.line(), what });
        }
        pad(cursor, found, start, given.saturating_mul(stride))?;
        cursor.nested(|cursor| fill(cursor, inner, found))?;
        given += 1;
        if cursor.eat("}")? {
            return Ok(given);
        }
        if !cursor.eat(",")? {
            return Err(cursor.unexpected("`,` or `}`"));
        }
    }
}

/// Zeros up to an element of the level that began at `start`, for what inner braces left out.
fn pad(cursor: &mut Cursor, found: &mut Vec<Initial>, start: usize, element: u64) -> Result<()> {
    let missing = element.saturating_sub((found.len() - start) as u64);
    cursor.count_zeros(missing)?;
    found.extend((0..missing).map(|_| Initial::Literal(Operand::Integer(0))));
    Ok(())
}

/// A constant, or the address of a symbol.
fn value(cursor: &mut Cursor) -> Result<Initial> {
    match cursor.peek() {
        Token::Word(word) if !is_constant(word) => {
            cursor.advance()?;
            if word == "generic" && cursor.eat("(")? {
                let symbol = cursor.word("a symbol")?.into();
                let mut offset = offsets(cursor)?;
                cursor.expect(")")?;
                offset = offset.wrapping_add(offsets(cursor)?);
                return Ok(Initial::Address { symbol, offset, generic: true });
            }
            Ok(Initial::Address { symbol: word.into(), offset: offsets(cursor)?, generic: false })
        }
        _ => {
            let literal = expression(cursor)?;
            if cursor.at("(") {
                return Err(cursor.unsupported("a mask operator in an initial value"));
            }
            Ok(Initial::Literal(literal.operand()))
        }
    }
}

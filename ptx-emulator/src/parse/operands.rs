//! Operands of instructions.

use super::ast::Operand;
use super::cursor::Cursor;
use super::expression::{after_not, expression, is_constant, offsets};
use super::lexer::Token;
use super::number::Constant;
use crate::error::Result;

/// Special registers of several elements.
const VECTORS: [&str; 8] =
    ["%tid", "%ntid", "%ctaid", "%nctaid", "%clusterid", "%nclusterid", "%cluster_ctaid", "%cluster_nctaid"];

/// Operands up to the `;`, which is taken too. Calls have lists in parentheses, which elsewhere enclose constants.
pub(super) fn operands(cursor: &mut Cursor, call: bool) -> Result<Vec<Operand>> {
    let mut found = Vec::new();
    if cursor.eat(";")? {
        return Ok(found);
    }
    loop {
        found.push(if call && cursor.eat("(")? { Operand::List(sequence(cursor, ")")?) } else { operand(cursor)? });
        if cursor.eat(";")? {
            return Ok(found);
        }
        separator(cursor, ";")?;
    }
}

/// A comma, where the list could also have ended.
fn separator(cursor: &mut Cursor, close: &str) -> Result<()> {
    if cursor.eat(",")? { Ok(()) } else { Err(cursor.unexpected(&format!("`,` or `{close}`"))) }
}

/// Operands between commas up to a closing mark, which is taken too; there may be none.
fn sequence(cursor: &mut Cursor, close: &str) -> Result<Vec<Operand>> {
    let mut found = Vec::new();
    if cursor.eat(close)? {
        return Ok(found);
    }
    loop {
        found.push(cursor.nested(operand)?);
        if cursor.eat(close)? {
            return Ok(found);
        }
        separator(cursor, close)?;
    }
}

fn operand(cursor: &mut Cursor) -> Result<Operand> {
    match cursor.peek() {
        Token::Word(word) if !is_constant(word) => named(cursor),
        Token::Mark("!") => {
            cursor.advance()?;
            match cursor.peek() {
                Token::Word(word) if word != "_" && !is_constant(word) => {
                    cursor.advance()?;
                    Ok(Operand::Not(word.into()))
                }
                _ => Ok(after_not(cursor)?.operand()),
            }
        }
        Token::Mark("{") => {
            cursor.advance()?;
            if cursor.at("}") {
                return Err(cursor.unexpected("an element"));
            }
            Ok(Operand::Vector(sequence(cursor, "}")?))
        }
        Token::Mark("[") => address(cursor),
        Token::Word(_) | Token::Number(_) | Token::Mark("(" | "+" | "-" | "~") => Ok(expression(cursor)?.operand()),
        _ => Err(cursor.unexpected("an operand")),
    }
}

/// An operand that begins with a name.
fn named(cursor: &mut Cursor) -> Result<Operand> {
    let first = name(cursor)?;
    match cursor.peek() {
        Token::Mark("|") => {
            cursor.advance()?;
            let second = name(cursor)?;
            Ok(Operand::Pair(Box::new(name_or_sink(first)), Box::new(name_or_sink(second))))
        }
        Token::Mark("+" | "-") if first != "_" => Ok(Operand::Offset(first, offsets(cursor)?)),
        Token::Mark("[") => Err(cursor.unsupported(&format!("an array element `{first}[...]`"))),
        _ => Ok(name_or_sink(first)),
    }
}

fn name_or_sink(name: String) -> Operand {
    if name == "_" { Operand::Sink } else { Operand::Name(name) }
}

/// A name, with its element if it is a special register.
fn name(cursor: &mut Cursor) -> Result<String> {
    let name = cursor.word("a name")?;
    let Token::Dot(element) = cursor.peek() else { return Ok(name.into()) };
    if VECTORS.contains(&name) && matches!(element, "x" | "y" | "z" | "w") {
        cursor.advance()?;
        return Ok(format!("{name}.{element}"));
    }
    // Elements of vectors, and parts that video instructions select.
    match element {
        "x" | "y" | "z" | "w" | "r" | "g" | "b" | "a" | "b0" | "b1" | "b2" | "b3" | "h0" | "h1" => {
            Err(cursor.unsupported(&format!("the element `{name}.{element}`")))
        }
        _ => Ok(name.into()),
    }
}

/// `[base+offset]`
fn address(cursor: &mut Cursor) -> Result<Operand> {
    cursor.expect("[")?;
    let (base, offset) = match cursor.peek() {
        Token::Word("_") => return Err(cursor.unexpected("an address")),
        Token::Word(word) if !is_constant(word) => (Some(name(cursor)?), offsets(cursor)?),
        _ => match expression(cursor)? {
            Constant::Integer { bits, .. } => (None, bits as i64),
            _ => return Err(cursor.invalid("a float as an address")),
        },
    };
    match cursor.peek() {
        Token::Mark(",") => Err(cursor.unsupported("an address of several parts `[..., ...]`")),
        Token::Mark("[") => Err(cursor.unsupported("an array element in an address")),
        _ => {
            cursor.expect("]")?;
            Ok(Operand::Address { base, offset })
        }
    }
}

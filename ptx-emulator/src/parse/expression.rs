//! Constant expressions, folded as they are read.

use super::cursor::Cursor;
use super::lexer::Token;
use super::number::{Constant, constant};
use crate::error::Result;

/// Threads of a warp, by its predefined name.
const WARP_SIZE: (&str, i64) = ("WARP_SZ", 32);

/// The word names a constant.
pub(super) fn is_constant(word: &str) -> bool {
    word == WARP_SIZE.0
}

/// A constant expression.
pub(super) fn expression(cursor: &mut Cursor) -> Result<Constant> {
    cursor.nested(|cursor| {
        let condition = binary(cursor, 0)?;
        conditional(cursor, condition)
    })
}

/// A constant expression whose `!` has been read.
pub(super) fn after_not(cursor: &mut Cursor) -> Result<Constant> {
    let inner = cursor.nested(unary)?;
    let first = not(cursor, inner)?;
    let condition = rest(cursor, first, 0)?;
    conditional(cursor, condition)
}

/// A sum's term: what may follow the `+` or `-` after a name, as bits.
pub(super) fn term(cursor: &mut Cursor) -> Result<i64> {
    let value = binary(cursor, precedence("*"))?;
    Ok(integer(cursor, value)?.0 as i64)
}

/// Sums after a name: `+4`, `+-24`, `+4-8`. The total wraps, as addresses do.
pub(super) fn offsets(cursor: &mut Cursor) -> Result<i64> {
    let mut total = 0_i64;
    loop {
        if cursor.eat("+")? {
            total = total.wrapping_add(term(cursor)?);
        } else if cursor.eat("-")? {
            total = total.wrapping_sub(term(cursor)?);
        } else {
            return Ok(total);
        }
    }
}

/// How tightly an operator binds; 0 for none.
fn precedence(operator: &str) -> u8 {
    match operator {
        "||" => 1,
        "&&" => 2,
        "|" => 3,
        "^" => 4,
        "&" => 5,
        "==" | "!=" => 6,
        "<" | "<=" | ">" | ">=" => 7,
        "<<" | ">>" => 8,
        "+" | "-" => 9,
        "*" | "/" | "%" => 10,
        _ => 0,
    }
}

fn conditional(cursor: &mut Cursor, condition: Constant) -> Result<Constant> {
    if !cursor.eat("?")? {
        return Ok(condition);
    }
    let chosen = integer(cursor, condition)?.0 != 0;
    let yes = expression(cursor)?;
    cursor.expect(":")?;
    let no = expression(cursor)?;
    Ok(if chosen { yes } else { no })
}

/// Operators that bind at least as tightly as `least`.
fn binary(cursor: &mut Cursor, least: u8) -> Result<Constant> {
    let first = unary(cursor)?;
    rest(cursor, first, least)
}

fn rest(cursor: &mut Cursor, mut left: Constant, least: u8) -> Result<Constant> {
    loop {
        let Token::Mark(operator) = cursor.peek() else { return Ok(left) };
        let binding = precedence(operator);
        if binding == 0 || binding < least {
            return Ok(left);
        }
        cursor.advance()?;
        // All operators group to the left.
        let right = binary(cursor, binding + 1)?;
        left = apply(cursor, operator, left, right)?;
    }
}

fn unary(cursor: &mut Cursor) -> Result<Constant> {
    match cursor.peek() {
        Token::Number(text) => {
            let value = constant(text, cursor.line())?;
            cursor.advance()?;
            Ok(value)
        }
        Token::Word(word) if is_constant(word) => {
            cursor.advance()?;
            Ok(Constant::signed(WARP_SIZE.1))
        }
        Token::Mark(mark @ ("+" | "-" | "~" | "!")) => {
            cursor.advance()?;
            let value = cursor.nested(unary)?;
            match mark {
                "+" => Ok(value),
                "-" => Ok(negate(value)),
                "~" => Ok(Constant::Integer { bits: !integer(cursor, value)?.0, unsigned: true }),
                _ => not(cursor, value),
            }
        }
        Token::Mark("(") => {
            cursor.advance()?;
            if let Token::Dot(cast @ ("s64" | "u64")) = cursor.peek() {
                cursor.advance()?;
                cursor.expect(")")?;
                let value = cursor.nested(unary)?;
                return Ok(Constant::Integer { bits: integer(cursor, value)?.0, unsigned: cast == "u64" });
            }
            let value = expression(cursor)?;
            cursor.expect(")")?;
            Ok(value)
        }
        _ => Err(cursor.unexpected("a constant")),
    }
}

fn negate(value: Constant) -> Constant {
    match value {
        Constant::Integer { bits, unsigned } => Constant::Integer { bits: bits.wrapping_neg(), unsigned },
        Constant::Float32(bits) => Constant::Float32(bits ^ 1 << 31),
        Constant::Float64(value) => Constant::Float64(-value),
    }
}

fn not(cursor: &Cursor, value: Constant) -> Result<Constant> {
    Ok(Constant::signed((integer(cursor, value)?.0 == 0).into()))
}

/// Bits and signedness of an integer.
fn integer(cursor: &Cursor, value: Constant) -> Result<(u64, bool)> {
    match value {
        Constant::Integer { bits, unsigned } => Ok((bits, unsigned)),
        _ => Err(cursor.invalid("a float where a constant expression needs an integer")),
    }
}

fn apply(cursor: &Cursor, operator: &str, left: Constant, right: Constant) -> Result<Constant> {
    match (left, right) {
        (Constant::Float32(_), _) | (_, Constant::Float32(_)) => {
            Err(cursor.unsupported("arithmetic on a constant of 32-bit float bits"))
        }
        (Constant::Float64(a), Constant::Float64(b)) => floats(cursor, operator, a, b),
        _ => integers(cursor, operator, integer(cursor, left)?, integer(cursor, right)?),
    }
}

fn floats(cursor: &Cursor, operator: &str, a: f64, b: f64) -> Result<Constant> {
    let truth = |value: bool| Constant::signed(value.into());
    Ok(match operator {
        "+" => Constant::Float64(a + b),
        "-" => Constant::Float64(a - b),
        "*" => Constant::Float64(a * b),
        "/" => Constant::Float64(a / b),
        "==" => truth(a == b),
        "!=" => truth(a != b),
        "<" => truth(a < b),
        "<=" => truth(a <= b),
        ">" => truth(a > b),
        ">=" => truth(a >= b),
        _ => return Err(cursor.invalid(format!("`{operator}` between floats"))),
    })
}

/// Unsigned if either side is; shifts keep the left side's kind, and remainders are unsigned, as `ptxas` has it.
fn integers(cursor: &Cursor, operator: &str, left: (u64, bool), right: (u64, bool)) -> Result<Constant> {
    let ((a, a_unsigned), (b, b_unsigned)) = (left, right);
    let (signed_a, signed_b) = (a as i64, b as i64);
    let unsigned = a_unsigned || b_unsigned;
    let truth = |value: bool| Ok(Constant::signed(value.into()));
    let less = if unsigned { a < b } else { signed_a < signed_b };
    if matches!(operator, "/" | "%") && b == 0 {
        return Err(cursor.invalid("division by zero in a constant expression"));
    }
    let (bits, unsigned) = match operator {
        "||" => return truth(a != 0 || b != 0),
        "&&" => return truth(a != 0 && b != 0),
        "==" => return truth(a == b),
        "!=" => return truth(a != b),
        "<" => return truth(less),
        ">=" => return truth(!less),
        ">" => return truth(!less && a != b),
        "<=" => return truth(less || a == b),
        "|" => (a | b, unsigned),
        "^" => (a ^ b, unsigned),
        "&" => (a & b, unsigned),
        "<<" => (a.wrapping_shl(b as u32), a_unsigned),
        ">>" if a_unsigned => (a.wrapping_shr(b as u32), true),
        ">>" => (signed_a.wrapping_shr(b as u32) as u64, false),
        "+" => (a.wrapping_add(b), unsigned),
        "-" => (a.wrapping_sub(b), unsigned),
        "*" => (a.wrapping_mul(b), unsigned),
        "/" if unsigned => (a.wrapping_div(b), true),
        "/" => (signed_a.wrapping_div(signed_b) as u64, false),
        "%" => (a.wrapping_rem(b), true),
        _ => return Err(cursor.syntax(format!("`{operator}` in a constant expression"))),
    };
    Ok(Constant::Integer { bits, unsigned })
}

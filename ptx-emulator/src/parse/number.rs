//! Literals.

use super::ast::Operand;
use super::cursor::Cursor;
use super::lexer::{Token, cut};
use crate::error::{Error, Result};

/// A constant, with what its arithmetic depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Constant {
    /// `.u64` if unsigned, else `.s64`.
    Integer { bits: u64, unsigned: bool },
    /// `0f...`: bits of a 32-bit float.
    Float32(u32),
    /// `0d...` or decimal.
    Float64(f64),
}

impl Constant {
    /// A signed integer.
    pub fn signed(value: i64) -> Self {
        Self::Integer { bits: value as u64, unsigned: false }
    }

    pub fn operand(self) -> Operand {
        match self {
            Self::Integer { bits, .. } => Operand::Integer(bits),
            Self::Float32(bits) => Operand::Float32(bits),
            Self::Float64(value) => Operand::Float64(value.to_bits()),
        }
    }
}

/// The value of a number token.
pub(super) fn constant(text: &str, line: u32) -> Result<Constant> {
    let malformed = || Error::Syntax { line, what: format!("`{}` is not a number", cut(text)) };
    match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => digits_of(text, &text[2..], 16, line),
        [b'0', b'b' | b'B', ..] => digits_of(text, &text[2..], 2, line),
        [b'0', b'f' | b'F', digits @ ..] if digits.len() == 8 => {
            let bits = u32::try_from(hexadecimal(&text[2..]).ok_or_else(malformed)?).map_err(|_| malformed())?;
            Ok(Constant::Float32(bits))
        }
        [b'0', b'd' | b'D', digits @ ..] if digits.len() == 16 => {
            Ok(Constant::Float64(f64::from_bits(hexadecimal(&text[2..]).ok_or_else(malformed)?)))
        }
        [b'0', b'f' | b'F' | b'd' | b'D', ..] => Err(malformed()),
        bytes if bytes.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => decimal_float(text, line),
        [b'0', b'0'..=b'9', ..] => digits_of(text, &text[1..], 8, line),
        _ => digits_of(text, text, 10, line),
    }
}

/// A literal integer, such as a line or a count of threads, where no expression may stand.
pub(super) fn integer(cursor: &mut Cursor) -> Result<u64> {
    let Token::Number(text) = cursor.peek() else { return Err(cursor.unexpected("an integer")) };
    let Constant::Integer { bits, .. } = constant(text, cursor.line())? else {
        return Err(cursor.unexpected("an integer"));
    };
    cursor.advance()?;
    Ok(bits)
}

/// A literal integer of 32 bits.
pub(super) fn small_integer(cursor: &mut Cursor) -> Result<u32> {
    let token = cursor.peek();
    u32::try_from(integer(cursor)?).map_err(|_| cursor.invalid(format!("{token} does not fit 32 bits")))
}

/// Digits only: the standard parsers would take a sign too.
fn hexadecimal(digits: &str) -> Option<u64> {
    if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) { u64::from_str_radix(digits, 16).ok() } else { None }
}

fn digits_of(text: &str, digits: &str, radix: u32, line: u32) -> Result<Constant> {
    let (digits, suffix) = digits.strip_suffix('U').map_or((digits, false), |digits| (digits, true));
    if digits.is_empty() || !digits.bytes().all(|byte| char::from(byte).is_digit(radix)) {
        return Err(Error::Syntax { line, what: format!("`{}` is not a number", cut(text)) });
    }
    let bits = u64::from_str_radix(digits, radix)
        .map_err(|_| Error::Invalid { line, what: format!("`{}` does not fit 64 bits", cut(text)) })?;
    Ok(Constant::Integer { bits, unsigned: suffix || bits > i64::MAX as u64 })
}

fn decimal_float(text: &str, line: u32) -> Result<Constant> {
    // Rust's parser also knows names such as `inf`, which no number token begins with.
    let value: f64 =
        text.parse().map_err(|_| Error::Syntax { line, what: format!("`{}` is not a number", cut(text)) })?;
    if value.is_infinite() {
        return Err(Error::Invalid { line, what: format!("`{}` does not fit a 64-bit float", cut(text)) });
    }
    Ok(Constant::Float64(value))
}

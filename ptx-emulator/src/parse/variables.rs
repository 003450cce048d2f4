//! Declarations of variables and parameters.

use super::ast::{Space, Variable};
use super::cursor::Cursor;
use super::expression::expression;
use super::initial::initialiser;
use super::lexer::Token;
use super::number::{Constant, integer};
use crate::error::Result;
use crate::types::Type;

/// The alignment that `.ptr` promises without `.align`.
const POINTER_ALIGN: u32 = 4;

/// What stands before the names of a declaration.
struct Head {
    ty: Type,
    vector: u32,
    align: Option<u32>,
    pointer: Option<(Space, u32)>,
}

/// The state space that a directive names; registers are none.
pub(super) fn space(name: &str) -> Option<Space> {
    Some(match name {
        "global" => Space::Global,
        "shared" => Space::Shared,
        "local" => Space::Local,
        "const" => Space::Const,
        "param" => Space::Param,
        _ => return None,
    })
}

/// Names of kinds that only textures and surfaces need.
pub(super) fn is_opaque(name: &str) -> bool {
    matches!(name, "tex" | "texref" | "samplerref" | "surfref")
}

/// A declaration of memory from behind its state space to the `;`, which is taken too.
pub(super) fn variables(cursor: &mut Cursor, space: Space, external: bool) -> Result<Vec<Variable>> {
    let head = head(cursor)?;
    if head.pointer.is_some() {
        return Err(cursor.syntax("`.ptr` belongs to parameters of kernels"));
    }
    let mut found = Vec::new();
    loop {
        let mut variable = declarator(cursor, &head, space)?;
        variable.external = external;
        if cursor.at("=") {
            if !matches!(space, Space::Global | Space::Const) || external {
                return Err(cursor.invalid(format!("`{}` cannot have an initial value", variable.name)));
            }
            cursor.advance()?;
            variable.initial = initialiser(cursor, &mut variable.dims, head.vector)?;
            check_size(cursor, &variable)?;
        }
        found.push(variable);
        if cursor.eat(";")? {
            return Ok(found);
        }
        if !cursor.eat(",")? {
            return Err(cursor.unexpected("`,`, `=` or `;`"));
        }
    }
}

/// Parameters between parentheses, both of which are taken.
pub(super) fn parameters(cursor: &mut Cursor) -> Result<Vec<Variable>> {
    cursor.expect("(")?;
    let mut found = Vec::new();
    if cursor.eat(")")? {
        return Ok(found);
    }
    loop {
        let register = cursor.eat_dot("reg")?;
        if !register && !cursor.eat_dot("param")? {
            return Err(cursor.unexpected("`.param`"));
        }
        let head = head(cursor)?;
        if register && head.ty == Type::Pred {
            return Err(cursor.unsupported("a predicate as a parameter"));
        }
        let mut variable = declarator(cursor, &head, Space::Param)?;
        variable.register = register;
        found.push(variable);
        if cursor.eat(")")? {
            return Ok(found);
        }
        if !cursor.eat(",")? {
            return Err(cursor.unexpected("`,` or `)`"));
        }
    }
}

/// Type, vector, alignment and pointer, up to the name.
fn head(cursor: &mut Cursor) -> Result<Head> {
    let (mut ty, mut vector, mut align, mut pointer) = (None, None, None, None);
    while let Token::Dot(word) = cursor.peek() {
        let twice = match word {
            "align" => align.is_some(),
            "v2" | "v4" => vector.is_some(),
            "ptr" => pointer.is_some(),
            "attribute" => false,
            _ if is_opaque(word) => return Err(cursor.unsupported(&format!(".{word}"))),
            _ if Type::from_name(word).is_some() => ty.is_some(),
            _ => return Err(cursor.unsupported(&format!("`.{word}` in a declaration"))),
        };
        if twice {
            return Err(cursor.syntax(format!("a second `.{word}` in a declaration")));
        }
        match word {
            "align" => align = Some(alignment(cursor)?),
            "v2" | "v4" => {
                vector = Some(if word == "v2" { 2 } else { 4 });
                cursor.advance()?;
            }
            "ptr" => pointer = Some(promise(cursor)?),
            "attribute" => attribute(cursor)?,
            _ => {
                ty = Type::from_name(word);
                cursor.advance()?;
            }
        }
    }
    let Some(ty) = ty else { return Err(cursor.unexpected("a type")) };
    Ok(Head { ty, vector: vector.unwrap_or(1), align, pointer })
}

/// `.align 16`
fn alignment(cursor: &mut Cursor) -> Result<u32> {
    cursor.advance()?;
    let align = integer(cursor)?;
    match u32::try_from(align) {
        Ok(align) if align.is_power_of_two() => Ok(align),
        _ => Err(cursor.invalid(format!("an alignment of {align}, which is no 32-bit power of two"))),
    }
}

/// `.ptr .global .align 16`
fn promise(cursor: &mut Cursor) -> Result<(Space, u32)> {
    cursor.advance()?;
    let mut to = Space::Generic;
    if let Token::Dot(word) = cursor.peek()
        && let Some(named) = space(word)
    {
        to = named;
        cursor.advance()?;
    }
    let align = if cursor.peek() == Token::Dot("align") { alignment(cursor)? } else { POINTER_ALIGN };
    Ok((to, align))
}

/// `.attribute(.managed)`: memory that the host shares is memory like any other here.
pub(super) fn attribute(cursor: &mut Cursor) -> Result<()> {
    cursor.advance()?;
    cursor.expect("(")?;
    if !cursor.eat_dot("managed")? {
        return Err(cursor.unsupported(&format!(".attribute({})", cursor.peek())));
    }
    cursor.expect(")")
}

/// A name with the extents of its array.
fn declarator(cursor: &mut Cursor, head: &Head, space: Space) -> Result<Variable> {
    let line = cursor.line();
    // A parameter of a prototype needs no name.
    let name = if space == Space::Param { cursor.word("a name")? } else { cursor.new_name("a name")? };
    if head.ty == Type::Pred {
        return Err(cursor.invalid(format!("the predicate `{name}` outside registers")));
    }
    if cursor.at("<") {
        return Err(cursor.unsupported("a range of names in memory"));
    }
    let natural = head.ty.bytes().saturating_mul(head.vector);
    if natural > 16 {
        return Err(cursor.invalid(format!("`{name}` is a vector of more than 128 bits")));
    }
    let mut dims = Vec::new();
    while cursor.eat("[")? {
        dims.push(if cursor.at("]") { 0 } else { extent(cursor)? });
        if dims.len() > 1 && dims.last() == Some(&0) {
            return Err(cursor.invalid(format!("`{name}` has an extent of nothing behind its first")));
        }
        cursor.expect("]")?;
    }
    let variable = Variable {
        space,
        external: false,
        align: head.align.unwrap_or(natural),
        ty: head.ty,
        vector: head.vector,
        name: name.into(),
        dims,
        initial: Vec::new(),
        register: false,
        pointer: head.pointer,
        line,
    };
    check_size(cursor, &variable)?;
    Ok(variable)
}

fn extent(cursor: &mut Cursor) -> Result<u64> {
    match expression(cursor)? {
        Constant::Integer { bits, .. } => Ok(bits),
        _ => Err(cursor.invalid("a float as an extent")),
    }
}

/// Bytes fit 62 bits, so that no one after the parser overflows in computing them.
fn check_size(cursor: &Cursor, variable: &Variable) -> Result<()> {
    let element = u64::from(variable.ty.bytes().saturating_mul(variable.vector));
    let bytes = variable.dims.iter().try_fold(element, |bytes, &extent| bytes.checked_mul(extent.max(1)));
    if bytes.is_some_and(|bytes| bytes < 1 << 62) {
        Ok(())
    } else {
        Err(cursor.invalid(format!("`{}` is too large", variable.name)))
    }
}

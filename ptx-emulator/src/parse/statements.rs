//! Bodies of functions.

use super::ast::{Block, Instruction, Location, Statement};
use super::cursor::Cursor;
use super::lexer::Token;
use super::module::{pragma, prototype};
use super::number::{integer, small_integer};
use super::operands::operands;
use super::variables::{is_opaque, space, variables};
use crate::error::Result;
use crate::types::Type;

/// What a body carries from statement to statement.
#[derive(Default)]
struct Body {
    location: Option<Location>,
}

/// The body of a function, from its `{` on.
pub(super) fn body(cursor: &mut Cursor) -> Result<Block> {
    block(cursor, &mut Body::default())
}

fn block(cursor: &mut Cursor, body: &mut Body) -> Result<Block> {
    cursor.nested(|cursor| {
        let opened = cursor.line();
        cursor.expect("{")?;
        let mut statements = Vec::new();
        while !cursor.eat("}")? {
            match cursor.peek() {
                Token::Word(word) => word_statement(cursor, body, word, &mut statements)?,
                Token::Dot(name) => directive(cursor, body, name, &mut statements)?,
                Token::Mark("{") => statements.push(Statement::Block(block(cursor, body)?)),
                Token::Mark("@") => {
                    let guard = Some(guard(cursor)?);
                    let line = cursor.line();
                    let opcode = cursor.word("an instruction")?;
                    statements.push(instruction(cursor, body, guard, opcode, line)?);
                }
                Token::End => {
                    return Err(cursor.syntax(format!("the text ends inside the `{{` of line {opened}")));
                }
                _ => return Err(cursor.unexpected("a statement or `}`")),
            }
        }
        Ok(Block { statements })
    })
}

/// A label or an instruction.
fn word_statement(cursor: &mut Cursor, body: &Body, word: &str, found: &mut Vec<Statement>) -> Result<()> {
    let line = cursor.line();
    cursor.advance()?;
    if !cursor.eat(":")? {
        found.push(instruction(cursor, body, None, word, line)?);
        return Ok(());
    }
    match cursor.peek() {
        Token::Dot("branchtargets") => {
            cursor.advance()?;
            let mut targets = vec![cursor.word("a label")?.into()];
            while cursor.eat(",")? {
                targets.push(cursor.word("a label")?.into());
            }
            cursor.expect(";")?;
            found.push(Statement::BranchTargets { name: word.into(), targets, line });
        }
        // Only an indirect call names a prototype, and no indirect call resolves.
        Token::Dot("callprototype") => prototype(cursor)?,
        Token::Dot("calltargets") => return Err(cursor.unsupported(".calltargets")),
        _ if word == "_" => return Err(cursor.syntax("`_` as a label")),
        _ => found.push(Statement::Label(word.into())),
    }
    Ok(())
}

/// `@p` or `@!p`
fn guard(cursor: &mut Cursor) -> Result<(String, bool)> {
    cursor.expect("@")?;
    let negated = cursor.eat("!")?;
    Ok((cursor.word("a predicate")?.into(), negated))
}

/// From behind the opcode on.
fn instruction(
    cursor: &mut Cursor,
    body: &Body,
    guard: Option<(String, bool)>,
    opcode: &str,
    line: u32,
) -> Result<Statement> {
    let mut modifiers = Vec::new();
    while let Token::Dot(modifier) = cursor.peek() {
        modifiers.push(modifier.into());
        cursor.advance()?;
    }
    let operands = operands(cursor, opcode == "call")?;
    Ok(Statement::Instruction(Instruction {
        guard,
        opcode: opcode.into(),
        modifiers,
        operands,
        line,
        location: body.location,
    }))
}

fn directive(cursor: &mut Cursor, body: &mut Body, name: &str, found: &mut Vec<Statement>) -> Result<()> {
    match name {
        "reg" => found.push(registers(cursor)?),
        "loc" => body.location = Some(location(cursor)?),
        "pragma" => pragma(cursor)?,
        _ if is_opaque(name) => return Err(cursor.unsupported(&format!(".{name}"))),
        "branchtargets" | "callprototype" | "calltargets" => {
            return Err(cursor.syntax(format!("`.{name}` without a label before it")));
        }
        _ => {
            let external = cursor.eat_dot("extern")?;
            let Some(space) = (match cursor.peek() {
                Token::Dot(name) => space(name),
                _ => return Err(cursor.unexpected("a state space")),
            }) else {
                return Err(cursor.unsupported(&format!("the directive {} in a body", cursor.peek())));
            };
            cursor.advance()?;
            found.extend(variables(cursor, space, external)?.into_iter().map(Statement::Variable));
        }
    }
    Ok(())
}

/// `.reg .b32 %r<12>, a;`
fn registers(cursor: &mut Cursor) -> Result<Statement> {
    let line = cursor.line();
    cursor.advance()?;
    let Token::Dot(word) = cursor.peek() else { return Err(cursor.unexpected("a type")) };
    let ty = match (word, Type::from_name(word)) {
        ("v2" | "v4", _) => return Err(cursor.unsupported(&format!("a declaration of `.{word}` registers"))),
        (_, None) => return Err(cursor.unsupported(&format!("`.{word}` in a declaration of registers"))),
        (_, Some(ty)) => ty,
    };
    cursor.advance()?;
    let mut names = Vec::new();
    loop {
        let name: String = cursor.new_name("a register")?.into();
        let mut count = None;
        if cursor.eat("<")? {
            count = Some(u32::try_from(integer(cursor)?).unwrap_or(u32::MAX));
        }
        cursor.count_registers(count.unwrap_or(1))?;
        if count.is_some() {
            cursor.expect(">")?;
        }
        names.push((name, count));
        if cursor.eat(";")? {
            return Ok(Statement::Registers { ty, vector: 1, names, line });
        }
        if !cursor.eat(",")? {
            return Err(cursor.unexpected("`,` or `;`"));
        }
    }
}

/// `.loc 1 20 3, function_name $L__info_string0, inlined_at 1 25 3`
fn location(cursor: &mut Cursor) -> Result<Location> {
    cursor.advance()?;
    let mut found = place(cursor)?;
    while cursor.eat(",")? {
        if cursor.eat_word("function_name")? {
            cursor.word("a label")?;
            if cursor.eat("+")? {
                integer(cursor)?;
            }
        } else if cursor.eat_word("inlined_at")? {
            let at = place(cursor)?;
            found.inlined_at = Some((at.file, at.line));
        } else {
            return Err(cursor.unexpected("`function_name` or `inlined_at`"));
        }
    }
    Ok(found)
}

/// File, line and column.
fn place(cursor: &mut Cursor) -> Result<Location> {
    let file = small_integer(cursor)?;
    let line = small_integer(cursor)?;
    small_integer(cursor)?;
    Ok(Location { file, line, inlined_at: None })
}

//! Tests of the parser: exact trees, errors with their lines, the repository's kernels, and text of every kind.

mod declarations;
mod errors;
mod expressions;
mod functions;
mod fuzz;
mod kernels;
mod operands;
mod statements;

use super::ast::*;
use super::parse;
use crate::error::Error;
use crate::types::Type;

/// Three lines.
const HEADER: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";
/// The line that `in_body` begins at.
const BODY: u32 = 6;

/// A module with text behind its header, which begins at line 4.
fn module(text: &str) -> Result<Module, Error> {
    parse(&format!("{HEADER}{text}"))
}

/// The statements of a kernel's body, which begin at line 6.
fn in_body(text: &str) -> Result<Vec<Statement>, Error> {
    let mut module = module(&format!(".visible .entry k()\n{{\n{text}\n}}\n"))?;
    assert_eq!(module.functions.len(), 1);
    Ok(module.functions.remove(0).body.expect("a body").statements)
}

/// The one instruction's operands.
fn operands(text: &str) -> Result<Vec<Operand>, Error> {
    let mut statements = in_body(text)?;
    assert_eq!(statements.len(), 1, "{text}");
    match statements.remove(0) {
        Statement::Instruction(instruction) => Ok(instruction.operands),
        other => panic!("{other:?}"),
    }
}

fn name(text: &str) -> Operand {
    Operand::Name(text.into())
}

fn address(base: &str, offset: i64) -> Operand {
    Operand::Address { base: Some(base.into()), offset }
}

/// An instruction without guard and location; modifiers split at dots.
fn instruction(line: u32, opcode: &str, operands: Vec<Operand>) -> Instruction {
    let mut parts = opcode.split('.').map(String::from);
    Instruction {
        guard: None,
        opcode: parts.next().unwrap(),
        modifiers: parts.collect(),
        operands,
        line,
        location: None,
    }
}

/// A scalar of a type.
fn variable(line: u32, space: Space, ty: Type, align: u32, name: &str) -> Variable {
    Variable {
        space,
        external: false,
        align,
        ty,
        vector: 1,
        name: name.into(),
        dims: vec![],
        initial: vec![],
        register: false,
        pointer: None,
        line,
    }
}

/// A function without anything.
fn function(line: u32, entry: bool, name: &str) -> Function {
    Function {
        entry,
        external: false,
        name: name.into(),
        returns: vec![],
        params: vec![],
        directives: vec![],
        body: None,
        line,
    }
}

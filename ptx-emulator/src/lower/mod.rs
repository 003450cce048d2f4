//! Lowering: a kernel and the functions it calls become one [`Program`].
//!
//! Calls are inlined, so that every instruction has one address and groups of lanes meet again by it alone. Names
//! become rows, labels indices; immediates and special registers are rows like registers.

mod analysis;
mod calls;
mod compute;
mod contract;
mod control;
mod exchange;
pub(crate) mod known;
#[cfg(test)]
mod known_tests;
mod memory;
mod moves;
mod operands;
mod scopes;
mod words;

use crate::error::{Error, Result};
use crate::forms::{Form, Level};
use crate::parse::ast::{self, Statement};
use crate::program::{Code, Info, Instruction, Kind, NONE, Param, Program, Row};
use crate::registers::Operands;
use crate::types::Width;
use scopes::{Scope, Symbol};
use std::collections::HashMap;

/// Instructions after inlining; more is taken for runaway inlining.
const MOST_INSTRUCTIONS: usize = 1 << 20;

/// Addresses of the module's variables in global and constant memory. Those of bodies are known by [`inner_name`].
pub(crate) type Globals = HashMap<String, u64>;

/// A variable of a body, whose name others may have: no name holds an `@`.
pub(crate) fn inner_name(variable: &ast::Variable) -> String {
    format!("{}@{}", variable.name, variable.line)
}

/// Lowers one entry. `contraction` seeds which `mul` and `add` are fused; absent: none.
pub(crate) fn lower(
    module: &ast::Module,
    globals: &Globals,
    entry: &ast::Function,
    level: Level,
    contraction: Option<u64>,
) -> Result<Program> {
    let mut lowering = Lowering {
        module,
        globals,
        level,
        program: Program { name: entry.name.clone(), granule: 4, ..Default::default() },
        scopes: Vec::new(),
        labels: Vec::new(),
        constants: HashMap::new(),
        specials: HashMap::new(),
        placed: HashMap::new(),
        dynamic: Vec::new(),
        calls: Vec::new(),
        guard: (NONE, false),
        at: At::default(),
    };
    lowering.entry(entry)?;
    lowering.finish(contraction)
}

/// Where the lowering is in the text.
#[derive(Clone, Debug, Default)]
struct At {
    line: u32,
    location: Option<ast::Location>,
    text: String,
}

/// A function being inlined.
#[derive(Debug)]
struct Call {
    name: String,
    /// Label behind the body.
    end: Option<u32>,
}

/// Where the start of `extern` shared memory, which is known last, is to be added: indices into the tables of [`Program`].
#[derive(Clone, Copy, Debug)]
enum Dynamic {
    Constant(usize),
    Access(usize),
    Atomic(usize),
    /// Its destination.
    Copy(usize),
}

struct Lowering<'m> {
    module: &'m ast::Module,
    globals: &'m Globals,
    level: Level,
    program: Program,
    scopes: Vec<Scope>,
    /// Label to instruction.
    labels: Vec<u32>,
    constants: HashMap<(Width, u64, bool), Row>,
    specials: HashMap<crate::program::Special, u32>,
    /// Shared variables by name and line.
    placed: HashMap<(String, u32), u32>,
    /// To which the start of `extern` shared memory must be added.
    dynamic: Vec<Dynamic>,
    calls: Vec<Call>,
    guard: (u32, bool),
    at: At,
}

impl<'m> Lowering<'m> {
    fn entry(&mut self, entry: &'m ast::Function) -> Result<()> {
        self.at.line = entry.line;
        let Some(body) = &entry.body else {
            return Err(self.invalid(format!("entry `{}` has no body", entry.name)));
        };
        self.directives(entry)?;
        let mut scope = Scope::default();
        let mut offset = 0u32;
        for param in &entry.params {
            let bytes = self.variable_bytes(param)?;
            offset = align_up(offset, param.align).ok_or_else(|| self.invalid("parameters too large".into()))?;
            self.program.params.push(Param { name: param.name.clone(), offset, bytes });
            scope.symbols.insert(param.name.clone(), Symbol::Param(offset));
            offset = offset.checked_add(bytes).ok_or_else(|| self.invalid("parameters too large".into()))?;
        }
        self.program.param_bytes = offset;
        self.scopes.push(scope);
        self.calls.push(Call { name: entry.name.clone(), end: None });
        self.block(body)?;
        // Of all lanes, whatever guarded the last instruction.
        self.guard = (NONE, false);
        self.at.text = "exit".into();
        self.emit(Code::Exit, Operands::default(), Kind::Control);
        Ok(())
    }

    fn directives(&mut self, entry: &ast::Function) -> Result<()> {
        for (name, numbers) in &entry.directives {
            let dims = || std::array::from_fn(|i| numbers.get(i).map_or(1, |&n| u32::try_from(n).unwrap_or(u32::MAX)));
            match name.as_str() {
                "reqntid" => self.program.required_block = Some(dims()),
                "maxntid" => self.program.most_threads = Some(numbers.iter().fold(1, |a, &b| a.saturating_mul(b))),
                "minnctapersm" | "maxnreg" | "maxclusterrank" | "noreturn" | "pragma" => {}
                _ => return Err(self.unsupported(format!("directive .{name}"))),
            }
        }
        Ok(())
    }

    /// A scope: labels and variables first, for both may be used before they stand.
    fn block(&mut self, block: &'m ast::Block) -> Result<()> {
        let mut scope = Scope::default();
        for statement in &block.statements {
            match statement {
                Statement::Label(name) => {
                    scope.labels.insert(name.clone(), self.labels.len() as u32);
                    self.labels.push(NONE);
                }
                Statement::BranchTargets { name, targets, .. } => {
                    scope.symbols.insert(name.clone(), Symbol::Targets(targets.clone()));
                }
                _ => {}
            }
        }
        self.scopes.push(scope);
        for statement in &block.statements {
            self.statement(statement)?;
        }
        self.scopes.pop();
        Ok(())
    }

    fn statement(&mut self, statement: &'m Statement) -> Result<()> {
        match statement {
            Statement::Registers { ty, vector, names, line } => self.registers(*ty, *vector, names, *line),
            Statement::Variable(variable) => self.variable(variable),
            Statement::Label(name) => {
                let here = self.program.code.len() as u32;
                if let Some(label) = self.scopes.last().and_then(|scope| scope.labels.get(name)) {
                    self.labels[*label as usize] = here;
                }
                Ok(())
            }
            Statement::BranchTargets { .. } => Ok(()),
            Statement::Block(block) => self.block(block),
            Statement::Instruction(instruction) => self.instruction(instruction),
        }
    }

    fn instruction(&mut self, instruction: &'m ast::Instruction) -> Result<()> {
        // Inlining multiplies: empty functions make labels alone.
        if self.program.code.len().max(self.labels.len()) > MOST_INSTRUCTIONS {
            return Err(self.unsupported(format!("a kernel of more than {MOST_INSTRUCTIONS} instructions")));
        }
        self.at = At { line: instruction.line, location: instruction.location, text: full_name(instruction) };
        self.guard = match &instruction.guard {
            None => (NONE, false),
            Some((name, negated)) => (self.register_of(name, Width::Predicate)?.index, *negated),
        };
        let modifiers: Vec<&str> = instruction.modifiers.iter().map(String::as_str).collect();
        let operands = &instruction.operands[..];
        match instruction.opcode.as_str() {
            "ld" | "ldu" | "st" => self.load_or_store(&instruction.opcode, &modifiers, operands),
            "atom" | "red" => self.atomic(&instruction.opcode, &modifiers, operands),
            "cp" => self.copy_async(&modifiers, operands),
            "bra" | "brx" | "ret" | "exit" | "trap" => self.control(&instruction.opcode, &modifiers, operands),
            "call" => self.call(&modifiers, operands),
            "bar" | "barrier" => self.barrier(&modifiers, operands),
            "shfl" | "vote" | "match" | "redux" | "activemask" => {
                self.exchange(&instruction.opcode, &modifiers, operands)
            }
            "membar" | "fence" => self.fence(&modifiers, operands),
            "nanosleep" | "prefetch" | "prefetchu" | "pmevent" => self.hint(&instruction.opcode, &modifiers, operands),
            "mov" => self.mov(&modifiers, operands),
            "cvta" | "isspacep" => self.address_conversion(&instruction.opcode, &modifiers, operands),
            _ => self.compute(&instruction.opcode, &modifiers, operands),
        }
    }

    /// Appends an instruction under the guard in force. Uses and definitions follow through [`Self::touches`].
    fn emit(&mut self, code: Code, operands: Operands, class: Kind) -> &mut Info {
        let (guard, negated) = self.guard;
        self.program.code.push(Instruction { code, operands, guard, negated, tracked: false, touched: 0 });
        let uses = match guard {
            NONE => Vec::new(),
            index => vec![Row { width: Width::Predicate, index }],
        };
        self.program.info.push(Info {
            line: self.at.line,
            location: self.at.location,
            text: self.at.text.clone(),
            class,
            flops: 0,
            exponential: false,
            contractable: false,
            uses,
            defs: Vec::new(),
            moves: false,
        });
        let last = self.program.info.len() - 1;
        &mut self.program.info[last]
    }

    /// Appends a computing instruction on rows that are known.
    fn emit_form(&mut self, form: &Form, dst: Row, dst2: Row, src: &[Row]) {
        let mut rows = [0; 4];
        for (row, source) in rows.iter_mut().zip(src) {
            *row = source.index;
        }
        let operands = Operands { dst: dst.index, dst2: if dst2.is_some() { dst2.index } else { 0 }, src: rows };
        let (flops, exponential, contractable) = (form.flops, form.exponential, form.contractable);
        let uses: Vec<Row> = src.to_vec();
        let info = self.emit(Code::Compute(form.exec), operands, Kind::Compute(form.class));
        (info.flops, info.exponential, info.contractable) = (flops, exponential, contractable);
        info.uses.extend(uses);
        info.defs.extend([dst, dst2].into_iter().filter(|row| row.is_some()));
    }

    fn unsupported(&self, what: String) -> Error {
        Error::Unsupported { line: self.at.line, what }
    }

    /// The instruction in hand is unknown.
    fn unknown(&self) -> Error {
        self.unsupported(format!("`{}`", self.at.text))
    }

    fn invalid(&self, what: String) -> Error {
        Error::Invalid { line: self.at.line, what }
    }

    /// A wrong number or kind of operands.
    fn bad_operands(&self) -> Error {
        self.invalid(format!("operands of `{}` are not those of the instruction", self.at.text))
    }
}

/// Opcode with its modifiers.
fn full_name(instruction: &ast::Instruction) -> String {
    let mut name = instruction.opcode.clone();
    for modifier in &instruction.modifiers {
        name.push('.');
        name.push_str(modifier);
    }
    name
}

/// The next multiple of a power of two.
fn align_up(offset: u32, align: u32) -> Option<u32> {
    offset.checked_next_multiple_of(align.max(1))
}

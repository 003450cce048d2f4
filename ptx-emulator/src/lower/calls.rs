//! Calls, inlined.

use super::scopes::{Scope, Symbol};
use super::{Call, Lowering};
use crate::error::Result;
use crate::parse::ast::{Function, Operand, Variable};
use crate::program::{Code, Kind, NONE, Row};
use crate::registers::Operands;
use crate::types::Width;

/// Calls inside each other that are inlined; deeper ones would use up the host's stack.
const MOST_CALLS: usize = 256;

impl<'m> Lowering<'m> {
    pub(super) fn call(&mut self, modifiers: &[&str], operands: &[Operand]) -> Result<()> {
        if !matches!(modifiers, [] | ["uni"]) {
            return Err(self.unknown());
        }
        let (returns, name, arguments): (&[Operand], &str, &[Operand]) = match operands {
            [Operand::Name(name)] => (&[], name, &[]),
            [Operand::Name(name), Operand::List(arguments)] => (&[], name, arguments),
            [Operand::List(returns), Operand::Name(name)] => (returns, name, &[]),
            [Operand::List(returns), Operand::Name(name), Operand::List(arguments)] => (returns, name, arguments),
            _ => return Err(self.unsupported("an indirect call".into())),
        };
        let module = self.module;
        let named = || module.functions.iter().filter(|function| function.name == name && !function.entry);
        let Some(function) = named().find(|function| function.body.is_some()) else {
            if name == "__assertfail" {
                self.emit(Code::Trap, Operands::default(), Kind::Control);
                return Ok(());
            }
            let what = if named().next().is_some() { "which has no body here" } else { "which is no function" };
            return Err(self.unsupported(format!("a call of `{name}`, {what}")));
        };
        if self.calls.iter().any(|call| call.name == name) {
            return Err(self.unsupported(format!("the recursive function `{name}`")));
        }
        // The kernel is the first.
        if self.calls.len() > MOST_CALLS {
            return Err(self.unsupported(format!("a call of `{name}` more than {MOST_CALLS} calls deep")));
        }
        if function.params.len() != arguments.len() || function.returns.len() != returns.len() {
            return Err(self.bad_operands());
        }
        self.inline(function, returns, arguments)
    }

    fn inline(&mut self, function: &'m Function, returns: &[Operand], arguments: &[Operand]) -> Result<()> {
        let (guard, at) = (self.guard, self.at.clone());
        let end = self.new_label();
        if guard.0 != NONE {
            // Lanes without the guard go round.
            self.guard = (guard.0, !guard.1);
            self.emit(Code::Branch(end), Operands::default(), Kind::Control);
            self.guard = (NONE, false);
        }
        let mut scope = Scope { function: true, ..Default::default() };
        let mut results = Vec::new();
        for (param, argument) in function.params.iter().zip(arguments) {
            let symbol = self.bind(param, argument, true)?;
            scope.symbols.insert(param.name.clone(), symbol);
        }
        for (param, result) in function.returns.iter().zip(returns) {
            let symbol = self.bind(param, result, false)?;
            if let Symbol::Register(row, _) = symbol {
                results.push((row, result));
            }
            scope.symbols.insert(param.name.clone(), symbol);
        }
        self.scopes.push(scope);
        // Returns inside the body come to its own end: results in registers are moved behind it.
        let body_end = self.new_label();
        self.calls.push(Call { name: function.name.clone(), end: Some(body_end) });
        if let Some(body) = &function.body {
            self.block(body)?;
        }
        self.place_label(body_end);
        self.calls.pop();
        self.scopes.pop();
        (self.at, self.guard) = (at, (NONE, false));
        for (row, result) in results {
            let dst = self.destination_of(result, row.width)?;
            self.copy_row(row, dst)?;
        }
        self.place_label(end);
        Ok(())
    }

    /// What a parameter stands for inside: the caller's variable, or a register of its own.
    fn bind(&mut self, param: &Variable, argument: &Operand, input: bool) -> Result<Symbol> {
        if param.register {
            let width = param.ty.width().ok_or_else(|| self.bad_operands())?;
            let row = self.new_row(width);
            if input {
                let source = self.source(argument, param.ty)?;
                self.copy_row(source, row)?;
            }
            return Ok(Symbol::Register(row, param.ty));
        }
        match argument {
            Operand::Name(name) => match self.lookup(name)? {
                symbol @ Symbol::Local(_) => Ok(symbol),
                _ => Err(self.bad_operands()),
            },
            _ => Err(self.bad_operands()),
        }
    }

    fn copy_row(&mut self, from: Row, to: Row) -> Result<()> {
        let ty = match from.width {
            Width::Predicate => "pred",
            Width::Word => "b32",
            Width::Long => "b64",
        };
        let form = self.form("mov", &[ty])?;
        self.emit_form(&form, to, Row::NONE, &[from]);
        self.program.info.last_mut().into_iter().for_each(|info| info.moves = true);
        Ok(())
    }

    fn new_label(&mut self) -> u32 {
        self.labels.push(NONE);
        self.labels.len() as u32 - 1
    }

    fn place_label(&mut self, label: u32) {
        self.labels[label as usize] = self.program.code.len() as u32;
    }
}

//! Names: registers, variables and labels of nested scopes.

use super::{Lowering, align_up, inner_name};
use crate::error::Result;
use crate::parse::ast::{self, Space};
use crate::program::{Row, SharedVariable};
use crate::types::{Type, Width};
use std::collections::HashMap;

/// Between shared variables: an index that is off by a little hits nothing. A multiple of the width of all banks.
const RED_ZONE: u32 = 128;
/// Shared memory of any device, and local memory of a thread that is taken for a mistake beyond.
const MOST_BYTES: u32 = 1 << 20;

/// Bytes of each reserved place.
const RESERVED: u64 = 512;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Symbol {
    Register(Row, Type),
    Shared(u32),
    /// `extern` shared memory, behind all other.
    DynamicShared,
    Local(u32),
    /// Offset in the kernel's parameters.
    Param(u32),
    /// Global or constant memory: an address.
    Global(u64),
    /// Labels of a branch table.
    Targets(Vec<String>),
}

/// One `{ }`.
#[derive(Debug, Default)]
pub(super) struct Scope {
    pub symbols: HashMap<String, Symbol>,
    /// `%r<12>`: how many and of which type. A row is made for those that are used, which may be few.
    pub families: HashMap<String, (u32, Type)>,
    pub labels: HashMap<String, u32>,
    /// Names of callers are not seen from here.
    pub function: bool,
}

impl Lowering<'_> {
    pub(super) fn new_row(&mut self, width: Width) -> Row {
        let rows = &mut self.program.rows;
        let next = match width {
            Width::Predicate => &mut rows.predicates,
            Width::Word => &mut rows.words,
            Width::Long => &mut rows.longs,
        };
        let index = *next;
        *next += 1;
        Row { width, index }
    }

    /// `.reg`.
    pub(super) fn registers(
        &mut self,
        ty: Type,
        vector: u32,
        names: &[(String, Option<u32>)],
        line: u32,
    ) -> Result<()> {
        self.at.line = line;
        let Some(width) = ty.width().filter(|_| vector == 1) else {
            return Err(self.unsupported("registers of vectors or of 128 bits".into()));
        };
        for (name, count) in names {
            match (count, self.scopes.last_mut()) {
                (Some(count), Some(scope)) => {
                    scope.families.insert(name.clone(), (*count, ty));
                }
                _ => {
                    let row = self.new_row(width);
                    self.define(name.clone(), Symbol::Register(row, ty));
                }
            }
        }
        Ok(())
    }

    /// The register that a family of this scope has of this name: `%r` and a number, in decimal.
    fn member(&mut self, scope: usize, name: &str) -> Option<Symbol> {
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let families = &self.scopes[scope].families;
        let ty = (1..=digits).find_map(|length| {
            let (family, number) = name.split_at(name.len() - length);
            let &(count, ty) = families.get(family)?;
            let number: u32 = Some(number).filter(|number| !number.starts_with('0') || *number == "0")?.parse().ok()?;
            (number < count).then_some(ty)
        })?;
        let symbol = Symbol::Register(self.new_row(ty.width()?), ty);
        self.scopes[scope].symbols.insert(name.to_string(), symbol.clone());
        Some(symbol)
    }

    pub(super) fn define(&mut self, name: String, symbol: Symbol) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.symbols.insert(name, symbol);
        }
    }

    /// A variable of a body.
    pub(super) fn variable(&mut self, variable: &ast::Variable) -> Result<()> {
        self.at.line = variable.line;
        let symbol = match variable.space {
            Space::Shared => self.shared(variable)?,
            Space::Local | Space::Param => Symbol::Local(self.local(variable)?),
            _ => match self.globals.get(&inner_name(variable)) {
                Some(&address) => Symbol::Global(address),
                None => return Err(self.unsupported(format!("variable `{}` of this space in a body", variable.name))),
            },
        };
        self.define(variable.name.clone(), symbol);
        Ok(())
    }

    fn local(&mut self, variable: &ast::Variable) -> Result<u32> {
        let bytes = self.variable_bytes(variable)?;
        let offset = align_up(self.program.local_bytes, variable.align).unwrap_or(u32::MAX);
        let end = offset.saturating_add(bytes);
        if end > MOST_BYTES {
            return Err(self.unsupported(format!("more than {MOST_BYTES} bytes of local memory")));
        }
        self.program.local_bytes = end;
        Ok(offset)
    }

    fn shared(&mut self, variable: &ast::Variable) -> Result<Symbol> {
        if variable.external {
            return Ok(Symbol::DynamicShared);
        }
        // A function that is inlined twice has its variables once.
        let place = (variable.name.clone(), variable.line);
        if let Some(&offset) = self.placed.get(&place) {
            return Ok(Symbol::Shared(offset));
        }
        let bytes = self.variable_bytes(variable)?;
        let layout = &mut self.program.shared;
        let end = layout.variables.last().map_or(0, |last| last.offset + last.bytes + RED_ZONE);
        // As far into the banks as without the red zones.
        let packed = align_up(layout.bytes, variable.align).unwrap_or(u32::MAX);
        let total = packed.saturating_add(bytes);
        let mut offset = end / RED_ZONE * RED_ZONE + packed % RED_ZONE;
        while offset < end || !offset.is_multiple_of(variable.align.max(1)) {
            offset += RED_ZONE;
        }
        if total > MOST_BYTES || offset > 4 * MOST_BYTES {
            return Err(self.unsupported(format!("more than {MOST_BYTES} bytes of shared memory")));
        }
        let layout = &mut self.program.shared;
        layout.bytes = total;
        layout.variables.push(SharedVariable { name: variable.name.clone(), offset, bytes });
        self.placed.insert(place, offset);
        Ok(Symbol::Shared(offset))
    }

    pub(super) fn variable_bytes(&self, variable: &ast::Variable) -> Result<u32> {
        let element = u64::from(variable.ty.bytes()) * u64::from(variable.vector);
        let bytes = variable.dims.iter().try_fold(element, |bytes, &extent| bytes.checked_mul(extent));
        bytes
            .and_then(|bytes| u32::try_from(bytes).ok())
            .filter(|&bytes| bytes <= 1 << 30)
            .ok_or_else(|| self.unsupported(format!("variable `{}` of more than 1 GiB", variable.name)))
    }

    /// What a name stands for, from the innermost scope outwards, then in the module.
    pub(super) fn lookup(&mut self, name: &str) -> Result<Symbol> {
        for scope in (0..self.scopes.len()).rev() {
            if let Some(symbol) = self.scopes[scope].symbols.get(name) {
                return Ok(symbol.clone());
            }
            if let Some(symbol) = self.member(scope, name) {
                return Ok(symbol);
            }
            if self.scopes[scope].function {
                break;
            }
        }
        if let Some(&address) = self.globals.get(name) {
            return Ok(Symbol::Global(address));
        }
        let module = self.module;
        if let Some(variable) = module.variables.iter().find(|variable| variable.name == name)
            && variable.space == Space::Shared
        {
            // One place per kernel: known from now on in the outermost scope, that of the kernel.
            if let Some(symbol) = self.scopes.first().and_then(|scope| scope.symbols.get(name)) {
                return Ok(symbol.clone());
            }
            let symbol = self.shared(variable)?;
            if let Some(scope) = self.scopes.first_mut() {
                scope.symbols.insert(name.to_string(), symbol.clone());
            }
            return Ok(symbol);
        }
        if let Some(symbol) = self.reserved_shared(name)? {
            return Ok(symbol);
        }
        if module.functions.iter().any(|function| function.name == name) {
            return Err(self.unsupported(format!("the address of the function `{name}`")));
        }
        Err(self.invalid(format!("unknown name `{name}`")))
    }

    /// `%reserved_smem_offset_0`, `_1`: a place of its own in shared memory, where cooperative groups of several warps
    /// keep their barriers. Devices give them 1 KiB together.
    fn reserved_shared(&mut self, name: &str) -> Result<Option<Symbol>> {
        if !matches!(name, "%reserved_smem_offset_0" | "%reserved_smem_offset_1") {
            return Ok(None);
        }
        if let Some(symbol) = self.scopes.first().and_then(|scope| scope.symbols.get(name)) {
            return Ok(Some(symbol.clone()));
        }
        let layout = &mut self.program.shared;
        let used = layout.bytes;
        let symbol = self.shared(&ast::Variable {
            space: Space::Shared,
            external: false,
            align: 16,
            ty: Type::B8,
            vector: 1,
            name: name.to_string(),
            dims: vec![RESERVED],
            initial: Vec::new(),
            register: false,
            pointer: None,
            line: self.at.line,
        })?;
        // It is not taken from what the kernel may have.
        self.program.shared.bytes = used;
        if let Some(scope) = self.scopes.first_mut() {
            scope.symbols.insert(name.to_string(), symbol.clone());
        }
        Ok(Some(symbol))
    }

    /// The label's number.
    pub(super) fn label(&self, name: &str) -> Result<u32> {
        for scope in self.scopes.iter().rev() {
            if let Some(&label) = scope.labels.get(name) {
                return Ok(label);
            }
            if scope.function {
                break;
            }
        }
        Err(self.invalid(format!("unknown label `{name}`")))
    }

    /// Bits of a declared register; 0 for anything else.
    pub(super) fn register_bits(&mut self, operand: &ast::Operand) -> Result<u32> {
        match operand {
            ast::Operand::Name(name) => match self.lookup(name)? {
                Symbol::Register(_, ty) => Ok(8 * ty.bytes()),
                _ => Ok(0),
            },
            _ => Ok(0),
        }
    }

    /// A declared register of this width.
    pub(super) fn register_of(&mut self, name: &str, width: Width) -> Result<Row> {
        match self.lookup(name)? {
            Symbol::Register(row, _) if row.width == width => Ok(row),
            _ => Err(self.invalid(format!("`{name}` is no register of the width that `{}` needs", self.at.text))),
        }
    }
}

//! The parsed module: names as written, nothing resolved.

use crate::types::Type;

/// A PTX module.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Module {
    /// `.version`, major and minor.
    pub version: (u32, u32),
    /// `.target`, without further words: "sm_80".
    pub target: String,
    /// `.address_size`.
    pub address_size: u32,
    /// `.file` index and path.
    pub files: Vec<(u32, String)>,
    /// Module-scope variables.
    pub variables: Vec<Variable>,
    /// Entries and device functions, in order; a declaration without a body has `body: None`.
    pub functions: Vec<Function>,
}

/// A state space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    Generic,
    Global,
    Shared,
    Local,
    Const,
    Param,
}

/// A variable or parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variable {
    pub space: Space,
    /// `.extern`: shared memory whose size the launch gives, if unsized; otherwise defined elsewhere.
    pub external: bool,
    /// `.align`, or the type's size (times the vector's).
    pub align: u32,
    pub ty: Type,
    /// 1, 2 or 4 (`.v2`, `.v4`).
    pub vector: u32,
    pub name: String,
    /// Extents of an array; 0 for `[]`. Empty for a scalar.
    pub dims: Vec<u64>,
    pub initial: Vec<Initial>,
    /// A parameter or variable of registers (`.reg` parameters of functions in old dialects).
    pub register: bool,
    /// `.ptr` parameters: the space and alignment promised. None without `.ptr`.
    pub pointer: Option<(Space, u32)>,
    pub line: u32,
}

/// One initialiser, flattened in row-major order (missing trailing ones are zero).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Initial {
    /// Integer or float bits, as the literal stands.
    Literal(Operand),
    /// Address of a symbol plus offset; `generic(...)` makes it generic.
    Address { symbol: String, offset: i64, generic: bool },
}

/// An entry or device function.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Function {
    pub entry: bool,
    /// `.extern`: no body anywhere in the module.
    pub external: bool,
    pub name: String,
    pub returns: Vec<Variable>,
    pub params: Vec<Variable>,
    /// Performance and other directives: (".maxntid", [128, 1, 1]); names without the dot.
    pub directives: Vec<(String, Vec<u64>)>,
    pub body: Option<Block>,
    pub line: u32,
}

/// `{ ... }`: a scope.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Block {
    pub statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    /// `.reg .f32 %f<12>, a, b;`: each name with its count (None: a single register of exactly that name).
    Registers {
        ty: Type,
        vector: u32,
        names: Vec<(String, Option<u32>)>,
        line: u32,
    },
    Variable(Variable),
    Label(String),
    /// `name: .branchtargets a, b, c;`
    BranchTargets {
        name: String,
        targets: Vec<String>,
        line: u32,
    },
    Block(Block),
    Instruction(Instruction),
}

/// `@!p opcode.mod.mod a, b, c;`
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Instruction {
    /// Predicate name, and whether negated.
    pub guard: Option<(String, bool)>,
    /// "ld" of `ld.param.v2.u32`.
    pub opcode: String,
    /// "param", "v2", "u32". `::` stays inside a modifier ("shared::cta", "L2::128B").
    pub modifiers: Vec<String>,
    pub operands: Vec<Operand>,
    pub line: u32,
    /// The `.loc` in force.
    pub location: Option<Location>,
}

/// `.loc file line column, function_name l, inlined_at f l c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub file: u32,
    pub line: u32,
    /// File and line into which the function was inlined.
    pub inlined_at: Option<(u32, u32)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    /// Register, variable, label, function or special register; "%tid.x" is one name with its suffix.
    Name(String),
    /// `!p`
    Not(String),
    /// `_`
    Sink,
    /// Integer literal as 64 bits, two's complement (`-1`, `0xFFU`, `07`, `0b11`, and constant expressions folded).
    Integer(u64),
    /// `0f3F800000`
    Float32(u32),
    /// `0d3FF0000000000000`, or a decimal literal with a point or exponent.
    Float64(u64),
    /// `{a, b, _, 1}`
    Vector(Vec<Operand>),
    /// `[base+offset]`; base None for an absolute address.
    Address { base: Option<String>, offset: i64 },
    /// `symbol+4` outside brackets.
    Offset(String, i64),
    /// `p|q`, either side may be a sink.
    Pair(Box<Operand>, Box<Operand>),
    /// `(a, b)` of calls.
    List(Vec<Operand>),
}

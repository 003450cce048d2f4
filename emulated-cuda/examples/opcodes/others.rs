//! Forms that do more than compute and give a value: packing, atomics, what lanes of a warp and warps of a block exchange,
//! special registers.

use super::forms::{Form, Rule, rule};
use super::types::Type;
use ptx_emulator::expand;

/// Instructions, braces holding alternatives, with sources, destinations and text. `{i}` is the instruction; a type `T`
/// is that which its name ends with.
type Row = (&'static str, &'static [&'static str], &'static [&'static str], &'static str);

const ROWS: &[Row] = &[
    ("mov.b16", &["b8", "b8"], &["b16"], "{i} d0, {a0, a1};"),
    ("mov.b32", &["b16", "b16"], &["b32"], "{i} d0, {a0, a1};"),
    ("mov.b32", &["b8", "b8", "b8", "b8"], &["b32"], "{i} d0, {a0, a1, a2, a3};"),
    ("mov.b64", &["b32", "b32"], &["b64"], "{i} d0, {a0, a1};"),
    ("mov.b64", &["b16", "b16", "b16", "b16"], &["b64"], "{i} d0, {a0, a1, a2, a3};"),
    ("mov.b16", &["b16"], &["b8", "b8"], "{i} {d0, d1}, a0;"),
    ("mov.b32", &["b32"], &["b16", "b16"], "{i} {d0, d1}, a0;"),
    ("mov.b32", &["b32"], &["b8", "b8", "b8", "b8"], "{i} {d0, d1, d2, d3}, a0;"),
    ("mov.b64", &["b64"], &["b32", "b32"], "{i} {d0, d1}, a0;"),
    ("mov.b64", &["b64"], &["b16", "b16", "b16", "b16"], "{i} {d0, d1, d2, d3}, a0;"),
    ("shfl.sync.{up,down,bfly,idx}.b32", &["b32", "u32", "u32"], &["b32"], "{i} d0, a0, a1, a2, -1;"),
    ("shfl.sync.{up,down,bfly,idx}.b32", &["b32", "u32", "u32"], &["b32", "pred"], "{i} d0|d1, a0, a1, a2, -1;"),
    ("vote.sync.{all,any,uni}.pred", &["pred"], &["pred"], "{i} d0, a0, -1;"),
    ("vote.sync.{all,any,uni}.pred", &["pred"], &["pred"], "{i} d0, !a0, -1;"),
    ("vote.sync.ballot.b32", &["pred"], &["b32"], "{i} d0, a0, -1;"),
    // Few values, one in some warps: that some match.
    (
        "match.any.sync.{b32,b64}",
        &["T", "pred"],
        &["b32"],
        ".reg .T few; and.T few, a0, 3; @!a1 mov.T few, 1; {i} d0, few, -1;",
    ),
    (
        "match.all.sync.{b32,b64}",
        &["T", "pred"],
        &["b32", "pred"],
        ".reg .T few; and.T few, a0, 3; @!a1 mov.T few, 1; {i} d0|d1, few, -1;",
    ),
    ("redux.sync.{add,min,max}.{u32,s32}", &["T"], &["T"], "{i} d0, a0, -1;"),
    ("redux.sync.{and,or,xor}.b32", &["T"], &["T"], "{i} d0, a0, -1;"),
    ("bar{,.cta}.red.popc.u32", &["pred"], &["u32"], "{i} d0, 0, a0;"),
    ("bar{,.cta}.red.{and,or}.pred", &["pred"], &["pred"], "{i} d0, 0, a0;"),
    ("barrier{,.cta}.red.popc{,.aligned}.u32", &["pred"], &["u32"], "{i} d0, 0, a0;"),
    ("barrier{,.cta}.red.{and,or}{,.aligned}.pred", &["pred"], &["pred"], "{i} d0, 0, a0;"),
];

/// Special registers that are the same on every device, for `mov.u32`.
const SPECIAL: &[&str] = &["%{tid,ntid,ctaid,nctaid}.{x,y,z}", "%laneid", "%lanemask_{eq,lt,le,gt,ge}"];

/// Atomic operations and the number of operands beside the memory's. Sums of halves must say `.noftz`.
const ATOMICS: &[(&str, usize)] = &[
    ("atom{,.global,.shared}.add.{u32,s32,u64,f32,f64}", 1),
    ("atom{,.global,.shared}.add.noftz.{f16,bf16,f16x2,bf16x2}", 1),
    ("atom{,.global,.shared}.{min,max}.{u32,s32,u64,s64}", 1),
    ("atom{,.global,.shared}.{and,or,xor,exch}.{b32,b64}", 1),
    ("atom{,.global,.shared}.{inc,dec}.u32", 1),
    ("atom{,.global,.shared}.cas.{b16,b32,b64}", 2),
    ("red{,.global,.shared}.add.{u32,s32,u64,f32,f64}", 1),
    ("red{,.global,.shared}.add.noftz.{f16,bf16,f16x2,bf16x2}", 1),
    ("red{,.global,.shared}.{min,max}.{u32,s32,u64,s64}", 1),
    ("red{,.global,.shared}.{and,or,xor}.{b32,b64}", 1),
    ("red{,.global,.shared}.{inc,dec}.u32", 1),
];

pub fn forms() -> Vec<Form> {
    let rows = ROWS.iter().flat_map(|row| expand(row.0).into_iter().map(move |name| of_row(name, row)));
    let atomics =
        ATOMICS.iter().flat_map(|&(group, operands)| expand(group).into_iter().map(move |name| atomic(name, operands)));
    let special = SPECIAL.iter().flat_map(|group| expand(group)).map(|register| {
        let text = format!("mov.u32 d0, {register};");
        Form { label: format!("mov.u32 {register}"), text, ..blank("mov.u32", vec![], vec![Type::named("u32")]) }
    });
    rows.chain(atomics).chain(special).collect()
}

fn blank(instruction: &str, sources: Vec<Type>, destinations: Vec<Type>) -> Form {
    let (label, text) = (instruction.to_owned(), String::new());
    Form { label, instruction: instruction.into(), sources, destinations, memory: false, text, rule: Rule::Bits }
}

/// The type that a name ends with.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}

fn of_row(name: String, &(_, sources, destinations, text): &Row) -> Form {
    let ty = last(&name);
    let types = |names: &[&str]| -> Vec<Type> {
        names.iter().map(|&name| Type::named(if name == "T" { ty } else { name })).collect()
    };
    let whole = text.replace(".T ", &format!(".{ty} ")).replace("{i}", &name);
    // What it looks like: with its operands, where more than one form has the name.
    let shown = text.rsplit("{i} ").next().unwrap_or_default().trim_end_matches(';');
    Form { label: format!("{name} {shown}"), text: whole, ..blank(&name, types(sources), types(destinations)) }
}

/// On a cell of the thread's own, which holds the first source before: the second destination is what it holds then.
fn atomic(name: String, operands: usize) -> Form {
    let ty = Type::named(last(&name));
    let returns = name.starts_with("atom");
    let listed = (1..=operands).map(|index| format!(", a{index}")).collect::<String>();
    let shared = name.contains(".shared");
    let cell = if shared { "[mine]" } else { "{cell}" };
    let (space, bits) = (if shared { "shared" } else { "global" }, ty.bits);
    let result = if returns { "d0, " } else { "" };
    let mut text = format!("st.{space}.b{bits} {cell}, a0; {name} {result}{cell}{listed};");
    if shared {
        text += &format!(" .reg .b{bits} after; ld.shared.b{bits} after, [mine]; st.global.b{bits} {{cell}}, after;");
    }
    let destinations = vec![ty; if returns { 2 } else { 1 }];
    let swaps = name.contains(".exch") || name.contains(".cas");
    let rule = if swaps { Rule::Bits } else { rule(&name, &destinations) };
    Form { memory: true, text, rule, ..blank(&name, vec![ty; operands + 1], destinations) }
}

use super::*;

fn variables(text: &str) -> Result<Vec<Variable>, Error> {
    module(text).map(|module| module.variables)
}

fn literal(value: u64) -> Initial {
    Initial::Literal(Operand::Integer(value))
}

fn symbol(symbol: &str, offset: i64, generic: bool) -> Initial {
    Initial::Address { symbol: symbol.into(), offset, generic }
}

#[test]
fn scalars_and_their_alignment() {
    let expected = vec![
        variable(4, Space::Global, Type::U32, 4, "a"),
        Variable { align: 16, ..variable(5, Space::Const, Type::F32, 16, "b") },
        variable(6, Space::Shared, Type::B64, 8, "c"),
        Variable { vector: 4, ..variable(7, Space::Global, Type::F32, 16, "d") },
        Variable { vector: 2, ..variable(8, Space::Global, Type::B16, 4, "e") },
        Variable { external: true, ..variable(9, Space::Global, Type::S8, 1, "f") },
        variable(10, Space::Global, Type::B8, 8, "g"),
    ];
    let text = ".global .u32 a;\n.visible .const .align 16 .f32 b;\n.weak .shared .b64 c;\n.common .global .v4 .f32 d;
.global .v2 .b16 e;\n.extern .global .s8 f;\n.global .b8 .align 8 g;";
    assert_eq!(variables(text), Ok(expected));
}

#[test]
fn arrays() {
    let array = |line, ty, name: &str, dims: &[u64]| Variable {
        dims: dims.to_vec(),
        ..variable(line, Space::Shared, ty, 16, name)
    };
    let expected = vec![
        Variable { external: true, ..array(4, Type::B8, "smem", &[0]) },
        array(5, Type::B8, "a", &[16]),
        array(6, Type::F32, "b", &[2, 3, 6]),
        array(6, Type::F32, "c", &[]),
    ];
    let text = ".extern .shared .align 16 .b8 smem[];\n.shared .align 16 .b8 a[16];
.shared .align 16 .f32 b[2][3][2*3], c;";
    assert_eq!(variables(text), Ok(expected));
}

#[test]
fn managed_memory_is_global() {
    let expected = vec![variable(4, Space::Global, Type::F32, 4, "m")];
    assert_eq!(variables(".global .attribute(.managed) .align 4 .f32 m;"), Ok(expected.clone()));
    assert_eq!(variables(".visible .attribute(.managed) .global .f32 m;"), Ok(expected));
}

fn initial(text: &str) -> Vec<Initial> {
    let mut found = variables(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    found.pop().unwrap().initial
}

#[test]
fn initial_values() {
    assert_eq!(initial(".global .align 4 .u32 counter = 5;"), [literal(5)]);
    assert_eq!(initial(".const .f32 f = 0f3FC00000;"), [Initial::Literal(Operand::Float32(0x3fc0_0000))]);
    let floats = [1.0_f64, -1.0].map(|value| Initial::Literal(Operand::Float64(value.to_bits())));
    assert_eq!(initial(".const .f32 f[] = {1.0, -1.0};"), floats);
    let double = Initial::Literal(Operand::Float64(0x4000_0000_0000_0000));
    assert_eq!(initial(".global .f64 d[3] = {0d4000000000000000};"), [double]);
    let names = [symbol("$str", 0, true), symbol("$str$1", 8, true), symbol("s", -4, true), literal(0)];
    assert_eq!(initial(".global .u64 n[4] = {generic($str), generic($str$1)+8, generic(s-4), 0};"), names);
    let plain = [symbol("f", 0, false), symbol("f", 4, false), symbol("generic", 0, false)];
    assert_eq!(initial(".global .u64 n[3] = {f, f+4, generic};"), plain);
    assert_eq!(initial(".global .u32 a[3] = {};"), []);
}

#[test]
fn nested_initial_values_are_flattened() {
    assert_eq!(initial(".global .u32 a[2][3] = {{1,2,3},{4,5,6}};"), [1, 2, 3, 4, 5, 6].map(literal));
    assert_eq!(initial(".global .u32 a[2][3] = {{1},{2, 3}};"), [1, 0, 0, 2, 3].map(literal));
    assert_eq!(initial(".global .u32 a[2][3] = {{},{2}};"), [0, 0, 0, 2].map(literal));
    assert_eq!(
        initial(".global .u32 a[2][2][2] = {{{1}},{{2},{3}}};"),
        [1, 0, 0, 0, 2, 0, 3].map(literal),
        "three levels"
    );
    assert_eq!(initial(".global .v2 .u32 a = {1, 2};"), [1, 2].map(literal));
    assert_eq!(initial(".global .v4 .u32 a[2] = {{1, 2}, {5}};"), [1, 2, 0, 0, 5].map(literal));
}

#[test]
fn an_initial_value_gives_the_extent() {
    let dims = |text: &str| variables(text).unwrap()[0].dims.clone();
    assert_eq!(dims(".global .u32 a[] = {1, 2, 3};"), [3]);
    assert_eq!(dims(".global .u32 a[][4] = {{1}, {2}};"), [2, 4]);
    assert_eq!(dims(".global .v2 .u32 a[] = {{1}, {2}, {3}};"), [3]);
}

#[test]
fn several_names_in_one_declaration() {
    let expected = vec![
        Variable { initial: vec![literal(1)], ..variable(4, Space::Global, Type::U32, 4, "a") },
        Variable { initial: vec![literal(2)], dims: vec![2], ..variable(4, Space::Global, Type::U32, 4, "b") },
        variable(5, Space::Global, Type::U32, 4, "c"),
    ];
    assert_eq!(variables(".global .u32 a = 1, b[2] = {2},\nc;"), Ok(expected));
}

#[test]
fn what_contradicts_itself() {
    for (text, line) in [
        (".global .u32 a[2] = {1,\n2,\n3};", 6),
        (".global .u32 a[2][2] = {1, {2}};", 4),
        (".global .u32 a[2][2] = {1, 2, 3, 4};", 4),
        (".global .u32 a = {1};", 4),
        (".global .u32 a[2] = 1;", 4),
        (".global .u32 a[2] = {1,};", 4),
        ("\n.shared .u32 a = 1;", 5),
        (".extern .global .u32 a = 1;", 4),
        (".global .align 3 .u32 a;", 4),
        (".global .align 0 .u32 a;", 4),
        (".global .pred a;", 4),
        (".global .v4 .u64 a;", 4),
        (".global .u32 .u32 a;", 4),
        (".global .align 4 .align 4 .u32 a;", 4),
        (".global a;", 4),
        (".global .u32 a[2][];", 4),
        (".global .u32 a[4294967296][4294967296];", 4),
        (".global .u32 a[0x4000000000000000];", 4),
        (".global .u32 a[1.5];", 4),
        (".visible .visible .global .u32 a;", 4),
        (".global .u32 _;", 4),
        (".global .u32 WARP_SZ;", 4),
        (".global .u32 .ptr a;", 4),
        (".global .v4 .u64 a\n;", 4),
        // Far more zeros than values.
        (".global .u32 a[2][1048578] = {{1}, {2}};", 4),
    ] {
        match variables(text) {
            Err(Error::Syntax { line: found, .. } | Error::Invalid { line: found, .. }) => {
                assert_eq!(found, line, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

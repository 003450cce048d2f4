use super::*;

fn functions(text: &str) -> Result<Vec<Function>, Error> {
    module(text).map(|module| module.functions)
}

fn parameter(line: u32, ty: Type, name: &str) -> Variable {
    variable(line, Space::Param, ty, ty.bytes(), name)
}

#[test]
fn the_header() {
    let text = "// made by hand\n.version 7.8\n.target sm_90a, texmode_unified, debug\n.address_size 64\n";
    let expected = Module { version: (7, 8), target: "sm_90a".into(), address_size: 64, ..Module::default() };
    assert_eq!(parse(text), Ok(expected.clone()));
    assert_eq!(parse(".version 7.8 .target sm_90a"), Ok(expected), "an address size is not needed");
}

#[test]
fn files() {
    let text = "\t.file\t1 \"/a/b.cu\"\n.file 2 \"c \\\"d\\\" \\\\ \\n\", 1700000000, 4096\n.pragma \"a\", \"b\";";
    let expected = vec![(1, "/a/b.cu".to_owned()), (2, "c \"d\" \\ \\n".to_owned())];
    assert_eq!(module(text).map(|module| module.files), Ok(expected));
}

#[test]
fn a_kernel_as_nvcc_writes_it() {
    let text = ".visible .entry add(\n\t.param .u64 .ptr .global .align 16 add_param_0,
\t.param .align 8 .b8 add_param_1[616],\n.param .u64 .ptr .align 1 p2, .param .u64 .ptr p3\n)\n.maxntid 128, 1, 1
.minnctapersm 4\n.pragma \"nounroll\";\n{\n\tret;\n}\n";
    let expected = Function {
        params: vec![
            Variable { pointer: Some((Space::Global, 16)), ..parameter(5, Type::U64, "add_param_0") },
            Variable { align: 8, dims: vec![616], ..parameter(6, Type::B8, "add_param_1") },
            Variable { pointer: Some((Space::Generic, 1)), ..parameter(7, Type::U64, "p2") },
            Variable { pointer: Some((Space::Generic, 4)), ..parameter(7, Type::U64, "p3") },
        ],
        directives: vec![("maxntid".into(), vec![128, 1, 1]), ("minnctapersm".into(), vec![4])],
        body: Some(Block { statements: vec![Statement::Instruction(instruction(13, "ret", vec![]))] }),
        ..function(4, true, "add")
    };
    assert_eq!(functions(text), Ok(vec![expected]));
}

#[test]
fn device_functions() {
    let text = ".func (.param .b32 r) f(.reg .u32 a, .param .b8 rest[]) .noreturn\n{}
.extern .func (.param .b32 r) vprintf\n(\n.param .b64 v0,\n.param .b64 v1\n)\n;
.weak .func g;\n.visible .func () h()\n.abi_preserve 8\n;\n.entry e .maxnreg 32 {}";
    let returns = |line| vec![parameter(line, Type::B32, "r")];
    let register = Variable { register: true, ..parameter(4, Type::U32, "a") };
    let rest = Variable { dims: vec![0], ..parameter(4, Type::B8, "rest") };
    let expected = vec![
        Function {
            returns: returns(4),
            params: vec![register, rest],
            directives: vec![("noreturn".into(), vec![])],
            body: Some(Block::default()),
            ..function(4, false, "f")
        },
        Function {
            external: true,
            returns: returns(6),
            params: vec![parameter(8, Type::B64, "v0"), parameter(9, Type::B64, "v1")],
            ..function(6, false, "vprintf")
        },
        function(12, false, "g"),
        Function { directives: vec![("abi_preserve".into(), vec![8])], ..function(13, false, "h") },
        Function {
            directives: vec![("maxnreg".into(), vec![32])],
            body: Some(Block::default()),
            ..function(16, true, "e")
        },
    ];
    assert_eq!(functions(text), Ok(expected));
}

#[test]
fn directives_of_kernels() {
    let text = ".entry k() .maxntid 32 .reqntid 8,4 .maxnctapersm 2 .maxclusterrank 8 .reqnctapercluster 2, 1, 1
.explicitcluster .blocksareclusters {}";
    let found = functions(text).unwrap().remove(0).directives;
    let expected: [(&str, &[u64]); 7] = [
        ("maxntid", &[32]),
        ("reqntid", &[8, 4]),
        ("maxnctapersm", &[2]),
        ("maxclusterrank", &[8]),
        ("reqnctapercluster", &[2, 1, 1]),
        ("explicitcluster", &[]),
        ("blocksareclusters", &[]),
    ];
    assert_eq!(found, expected.map(|(name, values)| (name.to_owned(), values.to_vec())));
}

#[test]
fn names_of_opcodes_and_directives_are_free() {
    let text = ".visible .entry add(.param .u64 ld) { .reg .b32 mov, call; mov.b32 mov, call; bra: bra bra; }
.global .u32 reg;";
    let found = module(text).unwrap();
    let body = vec![
        Statement::Registers {
            ty: Type::B32,
            vector: 1,
            names: vec![("mov".into(), None), ("call".into(), None)],
            line: 4,
        },
        Statement::Instruction(instruction(4, "mov.b32", vec![name("mov"), name("call")])),
        Statement::Label("bra".into()),
        Statement::Instruction(instruction(4, "bra", vec![name("bra")])),
    ];
    assert_eq!(found.functions[0].name, "add");
    assert_eq!(found.functions[0].params[0].name, "ld");
    assert_eq!(found.functions[0].body, Some(Block { statements: body }));
    assert_eq!(found.variables[0].name, "reg");
}

#[test]
fn sections_carry_no_code() {
    let text = ".entry k() {}\n\t.section\t.debug_loc\n\t{\n$L__debug_loc0:\n.b64 $L__tmp21\n.b8 5 // }\n
.b32 .debug_abbrev+4\n.b32 $L__end-$L__start\n\t}\n.section .debug_str { }\n.global .u32 a;";
    let found = module(text).unwrap();
    assert_eq!(found.functions.len(), 1);
    assert_eq!(found.variables, [variable(15, Space::Global, Type::U32, 4, "a")]);
}

#[test]
fn an_alias_is_the_function_under_another_name() {
    let text = ".func (.param .b32 r) f(.param .b32 a) { ret; }\n.func (.param .b32 r) g(.param .b32 b);
.func h();\n.alias g, f;\n.alias h, g;";
    let found = functions(text).unwrap();
    assert_eq!(found.len(), 3);
    for (function, (name, line)) in found.iter().zip([("f", 4), ("g", 5), ("h", 6)]) {
        assert_eq!(*function, Function { name: name.into(), line, ..found[0].clone() });
    }
}

#[test]
fn what_is_no_alias() {
    for (text, line) in [
        (".func g();\n.alias g, f;", 5),
        (".func f();\n.func g();\n.alias g, f;", 6),
        (".func f() {}\n.alias g, f;", 5),
        (".func f() {}\n.func g() {}\n.alias g, f;", 6),
        (".func f() {}\n.alias f, f;", 5),
        (".entry f() {}\n.func g();\n.alias g, f;", 6),
    ] {
        assert!(matches!(functions(text), Err(Error::Invalid { line: found, .. }) if found == line), "{text}");
    }
    let own = ".func f() { { .shared .u32 a; } }\n.func g();\n.alias g, f;";
    assert!(matches!(functions(own), Err(Error::Unsupported { line: 6, .. })));
    let many = format!(".func f() {{}}\n.func g();\n{}", ".alias g, f;\n".repeat(65));
    assert!(matches!(functions(&many), Err(Error::Invalid { line: 70, .. })));
}

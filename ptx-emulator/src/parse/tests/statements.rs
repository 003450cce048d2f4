use super::*;

fn at(instruction: Instruction, file: u32, line: u32) -> Statement {
    Statement::Instruction(Instruction { location: Some(Location { file, line, inlined_at: None }), ..instruction })
}

fn inlined(instruction: Instruction, file: u32, line: u32, caller: (u32, u32)) -> Statement {
    Statement::Instruction(Instruction {
        location: Some(Location { file, line, inlined_at: Some(caller) }),
        ..instruction
    })
}

#[test]
fn registers() {
    let declared = |ty, names: &[(&str, Option<u32>)], line| Statement::Registers {
        ty,
        vector: 1,
        names: names.iter().map(|&(name, count)| (name.to_owned(), count)).collect(),
        line,
    };
    let expected = vec![
        declared(Type::Pred, &[("%p", Some(144))], 6),
        declared(Type::B32, &[("%SPL", None)], 7),
        declared(Type::F32, &[("%f", Some(12)), ("a", None), ("$b", None), ("c", Some(0))], 8),
        declared(Type::B128, &[("%rq", Some(2))], 10),
    ];
    let text = ".reg .pred \t%p<144>;\n.reg .b32 %SPL;\n.reg .f32 %f<12>, a,\n$b, c< 0 >;\n.reg .b128 %rq<2>;";
    assert_eq!(in_body(text), Ok(expected));
}

#[test]
fn memory_of_a_body() {
    let array = |variable: Variable, extent| Statement::Variable(Variable { dims: vec![extent], ..variable });
    let expected = vec![
        array(variable(6, Space::Local, Type::B8, 8, "__local_depot0"), 16),
        array(variable(7, Space::Shared, Type::F32, 4, "tile"), 33),
        Statement::Variable(variable(8, Space::Param, Type::B32, 4, "param0")),
        Statement::Variable(variable(8, Space::Param, Type::B32, 4, "param1")),
        Statement::Variable(Variable { external: true, dims: vec![0], ..variable(9, Space::Shared, Type::B8, 1, "s") }),
    ];
    let text = ".local .align 8 .b8 \t__local_depot0[16];\n.shared .f32 tile[33];\n.param .b32 param0, param1;
.extern .shared .b8 s[];";
    assert_eq!(in_body(text), Ok(expected));
}

#[test]
fn labels_targets_and_scopes() {
    let call = instruction(13, "call.uni", vec![name("f"), Operand::List(vec![name("p")])]);
    let inner = vec![
        Statement::Variable(variable(12, Space::Param, Type::B32, 4, "p")),
        Statement::Instruction(call),
        Statement::Block(Block::default()),
    ];
    let expected = vec![
        Statement::Label("$L__func_begin0".into()),
        Statement::Label("$M".into()),
        Statement::BranchTargets {
            name: "$L_brx_0".into(),
            targets: vec!["$L__BB0_2".into(), "$L__BB0_3".into()],
            line: 7,
        },
        Statement::Instruction(instruction(10, "brx.idx", vec![name("%r1"), name("$L_brx_0")])),
        Statement::Block(Block { statements: inner }),
        Statement::Label("end".into()),
    ];
    let text = "$L__func_begin0: $M:\n$L_brx_0: .branchtargets\n$L__BB0_2,\n$L__BB0_3;\nbrx.idx %r1, $L_brx_0;
{ // callseq 0, 0\n.param .b32 p;\ncall.uni f, (p);\n{ }\n} // callseq 0\nend :";
    assert_eq!(in_body(text), Ok(expected));
}

#[test]
fn guards() {
    let guarded = |line, guard: &str, negated| {
        let bra = instruction(line, "bra", vec![name("L")]);
        Statement::Instruction(Instruction { guard: Some((guard.into(), negated)), ..bra })
    };
    let expected = vec![guarded(6, "%p1", false), guarded(7, "q", true), guarded(9, "%p1", true)];
    assert_eq!(in_body("@%p1 bra L;\n@!q bra \tL;\n@ ! %p1\nbra L;"), Ok(expected));
}

#[test]
fn modifiers() {
    for opcode in [
        "ld.param.v2.u32",
        "ld.global.nc.L1::evict_last.L2::128B.v4.b32",
        "st.shared::cta.b32",
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes",
        "cvt.rn.f16x2.e4m3x2",
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        "tcgen05.ld.sync.aligned.32x32b.x1.b32",
        "fence.proxy.tensormap::generic.acquire.gpu",
        "ret",
    ] {
        let expected = vec![Statement::Instruction(instruction(BODY, opcode, vec![name("a")]))];
        assert_eq!(in_body(&format!("{opcode} a;")), Ok(expected), "{opcode}");
    }
    let expected = vec![Statement::Instruction(instruction(BODY, "mov.u32", vec![name("a")]))];
    assert_eq!(in_body("mov .u32\na;"), Ok(expected), "a blank before a modifier");
}

#[test]
fn source_locations() {
    let ret = |line| instruction(line, "ret", vec![]);
    let expected = vec![
        Statement::Instruction(ret(6)),
        at(ret(8), 1, 320),
        Statement::Block(Block { statements: vec![inlined(ret(11), 4, 115, (1, 29))] }),
        inlined(ret(13), 4, 115, (1, 29)),
        inlined(ret(16), 2, 0, (3, 4)),
    ];
    let text = "ret;\n.loc\t1 320 91\nret;\n{\n.loc 4 115 3, function_name $L__info_string3, inlined_at 1 29 3\nret;
}\nret;\n.loc 1 1 1\n.loc 2 0 0, function_name f+12, inlined_at 3 4 5\nret;";
    assert_eq!(in_body(text), Ok(expected));
}

#[test]
fn a_location_ends_with_its_function() {
    let found = module(".func f() {\n.loc 1 2 3\n}\n.func g() { ret; }").unwrap();
    let expected = vec![Statement::Instruction(instruction(7, "ret", vec![]))];
    assert_eq!(found.functions[1].body, Some(Block { statements: expected }));
}

#[test]
fn pragmas_and_prototypes_leave_nothing() {
    let text = ".pragma \"nounroll\";
prototype_6 : .callprototype (.param .b32 _) _ (.param .b32 _, .param .align 8 .b8 _[24]) .noreturn;
p : .callprototype ()_ (.param .b32 _);";
    assert_eq!(in_body(text), Ok(vec![]));
}

#[test]
fn comments_and_line_ends() {
    let ret = |line| Statement::Instruction(instruction(line, "ret", vec![]));
    let text = "/* a\r\n { ; */ ret; // ret;\r\nret/**/; /**/ret;/***\n*/ret;";
    assert_eq!(in_body(text), Ok(vec![ret(7), ret(8), ret(8), ret(9)]));
    assert_eq!(parse(&format!("{HEADER}// no end of line\0")), module(""));
}

#[test]
fn instructions_over_several_lines_have_the_line_of_their_opcode() {
    let expected = vec![Statement::Instruction(instruction(7, "add.u32", vec![name("a"), name("b"), name("c")]))];
    assert_eq!(in_body("\nadd.u32\na,\nb,\nc\n;"), Ok(expected));
}

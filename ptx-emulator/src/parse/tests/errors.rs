use super::*;

fn syntax(line: u32, what: &str) -> Error {
    Error::Syntax { line, what: what.into() }
}

fn unsupported(line: u32, what: &str) -> Error {
    Error::Unsupported { line, what: what.into() }
}

fn invalid(line: u32, what: &str) -> Error {
    Error::Invalid { line, what: what.into() }
}

#[test]
fn text_that_is_no_module() {
    let missing = "expected `.version`, with which PTX begins, found";
    assert_eq!(parse(""), Err(syntax(1, &format!("{missing} the end of the text"))));
    assert_eq!(parse("\n\nhello"), Err(syntax(3, &format!("{missing} `hello`"))));
    assert_eq!(parse(".version 8\n.target sm_80"), Err(syntax(1, "expected a version, found `8`")));
    assert_eq!(parse(".version 8.0\n.address_size 64"), Err(syntax(2, "expected `.target`, found `.address_size`")));
    assert_eq!(parse(".version 8.0 .target sm_80, cubes"), Err(unsupported(1, "the target `cubes`")));
    assert_eq!(module(".version 8.0"), Err(syntax(4, "a second `.version`")));
    assert_eq!(module("\nret;"), Err(syntax(5, "expected a directive, found `ret`")));
}

#[test]
fn text_without_its_end() {
    assert_eq!(module("\n/* never\nending"), Err(syntax(5, "a comment without its end")));
    assert_eq!(module(".file 1 \"never\nending"), Err(syntax(4, "a string without its end")));
    assert_eq!(module(".file 1 \"never\\\nending\""), Err(syntax(4, "a string without its end")));
    assert_eq!(module(".entry k()\n{\nret;\n\n"), Err(syntax(8, "the text ends inside the `{` of line 5")));
    assert_eq!(module("\n.section .debug_str {\n.b8 1"), Err(syntax(6, "the text ends inside the section of line 5")));
    assert_eq!(in_body("ret\nadd.u32 a;"), Err(syntax(7, "expected `,` or `;`, found `.u32`")));
    assert_eq!(module("\n.visible"), Err(syntax(5, "expected a function or variable, found the end of the text")));
}

#[test]
fn marks_and_characters_out_of_place() {
    assert_eq!(in_body("ret;\nadd.u32 a, b §;"), Err(syntax(7, "the character '§' is no part of PTX")));
    assert_eq!(in_body("\n;"), Err(syntax(7, "expected a statement or `}`, found `;`")));
    assert_eq!(in_body("bar.sync 0,;"), Err(syntax(6, "expected an operand, found `;`")));
    assert_eq!(in_body("add.u32 a,\nb c;"), Err(syntax(7, "expected `,` or `;`, found `c`")));
    assert_eq!(in_body("st.u32 [a+b], 1;"), Err(syntax(6, "expected a constant, found `b`")));
    assert_eq!(in_body("st.u32 [4+a], 1;"), Err(syntax(6, "expected a constant, found `a`")));
    assert_eq!(in_body("st.u32 [_], 1;"), Err(syntax(6, "expected an address, found `_`")));
    assert_eq!(in_body("st.u32 [], 1;"), Err(syntax(6, "expected a constant, found `]`")));
    assert_eq!(in_body("mov.b64 a, {};"), Err(syntax(6, "expected an element, found `}`")));
    assert_eq!(in_body("call f, (a b);"), Err(syntax(6, "expected `,` or `)`, found `b`")));
    assert_eq!(in_body("@5 ret;"), Err(syntax(6, "expected a predicate, found `5`")));
    assert_eq!(in_body("@p { ret; }"), Err(syntax(6, "expected an instruction, found `{`")));
    assert_eq!(in_body("x \"text\";"), Err(syntax(6, "expected an operand, found \"text\"")));
    assert_eq!(in_body(".branchtargets a;"), Err(syntax(6, "`.branchtargets` without a label before it")));
    assert_eq!(in_body(".reg .b32 _;"), Err(syntax(6, "expected a register, found `_`")));
    assert_eq!(module(".entry k(.param .u64 a,) {}"), Err(syntax(4, "expected `.param`, found `)`")));
    assert_eq!(module(".entry k() ret"), Err(syntax(4, "expected `{` or `;`, found `ret`")));
}

#[test]
fn numbers_that_are_none() {
    for text in
        ["0x", "0b2", "08", "089", "0f3F80", "0f3F8000000", "0fZZZZZZZZ", "0d3FF", "12ab", "0xffu", "1e", "1.5f"]
    {
        assert_eq!(in_body(&format!("x\n{text};")), Err(syntax(7, &format!("`{text}` is not a number"))));
    }
    for text in ["18446744073709551616", "0x10000000000000000", "02000000000000000000000"] {
        assert_eq!(in_body(&format!("x {text};")), Err(invalid(6, &format!("`{text}` does not fit 64 bits"))));
    }
    assert_eq!(in_body("x 1e400;"), Err(invalid(6, "`1e400` does not fit a 64-bit float")));
    assert_eq!(in_body("x [1.5];"), Err(invalid(6, "a float as an address")));
    assert_eq!(in_body(".loc 1 4294967296 0"), Err(invalid(6, "`4294967296` does not fit 32 bits")));
    assert_eq!(module(".entry k() .maxntid 1.5 {}"), Err(syntax(4, "expected an integer, found `1.5`")));
}

#[test]
fn what_is_not_supported_is_named() {
    for (text, what) in [
        (".reg .v4 .f32 v;", "a declaration of `.v4` registers"),
        (".reg .e4m3 v;", "`.e4m3` in a declaration of registers"),
        ("mov.f32 a, v.x;", "the element `v.x`"),
        ("vadd.u32.u32.u32 a, b.h0, c;", "the element `b.h0`"),
        ("mov.u32 a, %laneid.x;", "the element `%laneid.x`"),
        ("ld.shared.u32 a, b[2];", "an array element `b[...]`"),
        ("ld.shared.u32 a, [b[2]];", "an array element in an address"),
        ("tex.2d.v4.f32.f32 {a, b, c, d}, [t, {x, y}];", "an address of several parts `[..., ...]`"),
        (".file 1 \"a\"", "the directive `.file` in a body"),
        (".maxnreg 32;", "the directive `.maxnreg` in a body"),
        (".texref t;", ".texref"),
        ("l: .calltargets f;", ".calltargets"),
    ] {
        assert_eq!(in_body(&format!("\n{text}")), Err(unsupported(7, what)), "{text}");
    }
    for (text, what) in [
        (".tex .u32 t;", ".tex"),
        (".global .texref t;", ".texref"),
        (".global .samplerref t;", ".samplerref"),
        (".surfref t;", ".surfref"),
        (".entry k(.param .texref t) {}", ".texref"),
        (".unheard of;", "the directive `.unheard`"),
        (".address_size 32", "`.address_size 32` (expected 64)"),
        (".address_size 0", "`.address_size 0` (expected 64)"),
        (".global .tf32 a;", "`.tf32` in a declaration"),
        (".global .b32 a<3>;", "a range of names in memory"),
        (".global .b8 a[2] = {0xFF(s), 0xFF00(s)};", "a mask operator in an initial value"),
        (".global .attribute(.unified(1, 2)) .u32 a;", ".attribute(`.unified`)"),
        (".func f(.reg .pred p) {}", "a predicate as a parameter"),
        (".func (.reg .pred p) f() {}", "a predicate as a parameter"),
        (".entry k() .unheard {}", "the directive `.unheard` of a function"),
    ] {
        assert_eq!(module(&format!("\n{text}")), Err(unsupported(5, what)), "{text}");
    }
}

#[test]
fn counts_of_registers_are_limited() {
    let what = "more than 1048576 registers declared";
    assert!(in_body(".reg .b32 %r<1048576>;").is_ok());
    for text in [".reg .b32 %r<4000000000>;", ".reg .b32 %r<18446744073709551615>;", ".reg .b32 %r<1048576>, a;"] {
        assert_eq!(in_body(text), Err(invalid(6, what)), "{text}");
    }
    let each = "{ .reg .b32 %r<100000>; }\n".repeat(11);
    assert_eq!(in_body(&each), Err(invalid(16, what)), "in all");
}

#[test]
fn depth_of_scopes_is_limited() {
    let nested = |depth: usize| in_body(&format!("{}\n{}", "{".repeat(depth), "}".repeat(depth)));
    assert!(nested(63).is_ok());
    for depth in [64, 1_000_000] {
        assert_eq!(nested(depth), Err(syntax(6, "nested deeper than 64 levels")));
    }
    let vectors = in_body(&format!("x {};", "{".repeat(100_000)));
    assert_eq!(vectors, Err(syntax(6, "nested deeper than 64 levels")));
    let extents = "[1]".repeat(1000);
    let values = module(&format!(".global .u32 a{extents} = {};", "{".repeat(1000)));
    assert_eq!(values, Err(syntax(4, "nested deeper than 64 levels")));
}

#[test]
fn messages_stay_short() {
    let long = "a".repeat(1_000_000);
    for text in [format!("x b {long};"), format!("x {long}.{long};"), format!("x 1{long};"), format!("x \"{long}\";")] {
        let message = in_body(&text).unwrap_err().to_string();
        assert!(message.len() < 200, "{message}");
    }
    for text in [format!(".alias {long}, {long};"), format!(".global .v4 .b64 {long};"), format!(".{long} a;")] {
        let message = module(&text).unwrap_err().to_string();
        assert!(message.len() < 300, "{message}");
    }
}

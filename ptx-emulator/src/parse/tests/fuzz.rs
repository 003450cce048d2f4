//! Text of every kind: no panic, a line that exists, and time in proportion to the text.

use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Every construct once.
const SAMPLE: &str = r#"// comment
.version 8.0
.target sm_80, debug
.address_size 64
.file 1 "a.cu", 1, 2
.func (.param .b32 r) g(.param .b32 a, .reg .f32 b) .noreturn;
.extern .func (.param .b32 r) vprintf (.param .b64 a);
.alias g, f;
.global .align 8 .u64 names[3] = {generic($str)+8, f-4, 0};
.global .attribute(.managed) .v2 .f32 m[2][2] = {{{0f3F800000, 1.5}, {-1e3}}, {}};
.const .align 4 .b8 table[] = {0, 0x3FU, 017, 0b11, WARP_SZ * (1 ? 2 : 3) / 3};
.extern .shared .align 16 .b8 smem[];
.func (.param .b32 r) f(.param .b32 a, .reg .f32 b) { ret; }
.visible .entry k(.param .u64 .ptr .global .align 16 p, .param .align 8 .b8 q[616])
.maxntid 128, 1, 1 .minnctapersm 4 .pragma "nounroll";
{
    .reg .pred %p<4>; .reg .b32 %r<12>, x; .local .align 8 .b8 depot[16]; .shared .f32 tile[4][33];
    .loc 1 20 3, function_name $L__info0+4, inlined_at 1 25 3
$L__1: ld.param.v2.u32 {%r1, _}, [q+448]; /* more */ st.shared::cta.L2::128B.f32 [%r1+-24], 0f00000000;
    @!%p1 bra.uni $L__1; setp.eq.u32 %p1|%p2, %r1, !0 << 3 & ~1; mov.u32 %r2, %tid.x; mov.u32 %r3, smem+4;
    ts: .branchtargets $L__1, end; pr: .callprototype (.param .b32 _) _ (.param .b64 _[8]);
    { .param .b32 p0; call.uni (r), f, (p0, 1, 0d3FF0000000000000); call (r), %r1, (p0), pr; brx.idx %r1, ts; }
    mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r1,%r2}, {%r3}, {%r4}, {%r5, -1}; ld.local.b8 %r1, [16];
end: ret;
}
.section .debug_str { $L__info0: .b8 95 .b32 $L__e-$L__s }
"#;

/// A kernel that a compiler made.
const KERNEL: &str = include_str!("../../../tests/ptx/softmax.ptx");

/// Parses, and checks what holds for any text.
fn check(text: &str) -> Result<(), TestCaseError> {
    let lines = text.matches('\n').count() as u32 + 1;
    if let Err(error) = parse(text) {
        let (Error::Syntax { line, .. } | Error::Unsupported { line, .. } | Error::Invalid { line, .. }) = error else {
            return Err(TestCaseError::fail(format!("{error:?}")));
        };
        prop_assert!((1..=lines).contains(&line), "line {line} of {lines}");
    }
    Ok(())
}

/// Words, numbers and marks of a text, with the blanks between them.
fn pieces(text: &str) -> Vec<&str> {
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'.' | b'%');
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let length = rest.bytes().take_while(|&byte| belongs(byte)).count().max(1);
        let (piece, behind) = rest.split_at(length);
        found.push(piece);
        rest = behind;
    }
    found
}

#[derive(Clone, Debug)]
enum Change {
    Delete,
    Duplicate,
    Swap(prop::sample::Index),
    Replace(prop::sample::Index),
}

fn change() -> impl Strategy<Value = (prop::sample::Index, Change)> {
    let change = prop_oneof![
        Just(Change::Delete),
        Just(Change::Duplicate),
        any::<prop::sample::Index>().prop_map(Change::Swap),
        any::<prop::sample::Index>().prop_map(Change::Replace),
    ];
    (any::<prop::sample::Index>(), change)
}

fn apply<T: Clone>(parts: &mut Vec<T>, changes: &[(prop::sample::Index, Change)]) {
    for (place, change) in changes {
        if parts.is_empty() {
            return;
        }
        let place = place.index(parts.len());
        match change {
            Change::Delete => {
                parts.remove(place);
            }
            Change::Duplicate => parts.insert(place, parts[place].clone()),
            Change::Swap(other) => {
                let other = other.index(parts.len());
                parts.swap(place, other);
            }
            Change::Replace(other) => parts[place] = parts[other.index(parts.len())].clone(),
        }
    }
}

#[test]
fn the_sample_parses() {
    let module = parse(SAMPLE).unwrap();
    assert_eq!((module.functions.len(), module.variables.len()), (4, 4));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        check(&text)?;
        check(&format!("{HEADER}{text}"))?;
        check(&format!("{HEADER}.entry k() {{ {text}"))?;
        check(&format!("{HEADER}.entry k() {{ x {text}"))?;
    }

    #[test]
    fn any_tokens(picks in prop::collection::vec(any::<prop::sample::Index>(), 0..60)) {
        let pieces = pieces(SAMPLE);
        let text: String = picks.iter().map(|pick| *pick.get(&pieces)).collect();
        check(&format!("{HEADER}{text}"))?;
        check(&format!("{HEADER}.entry k() {{ {text}"))?;
        check(&format!("{HEADER}.global .u32 a[2][3] = {{ {text}"))?;
    }

    #[test]
    fn any_expression(parts in prop::collection::vec(prop::sample::select(vec![
        "0", "1", "-", "+", "*", "/", "% ", "<<", ">>", "<", ">=", "==", "!", "~", "&", "|", "^", "&&", "||", "?", ":",
        "(", ")", "(.u64)", "(.s64)", "9223372036854775808", "0xFFFFFFFFFFFFFFFF", "1.5", "0f7F800000", "WARP_SZ",
    ]), 0..20)) {
        check(&format!("{HEADER}.entry k() {{ x {};", parts.concat()))?;
        check(&format!("{HEADER}.entry k() {{ x [a+{}];", parts.concat()))?;
    }

    #[test]
    fn changed_tokens(changes in prop::collection::vec(change(), 1..6)) {
        let mut pieces = pieces(SAMPLE);
        apply(&mut pieces, &changes);
        check(&pieces.concat())?;
    }

    #[test]
    fn changed_bytes(changes in prop::collection::vec(change(), 1..6), end in any::<prop::sample::Index>()) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        apply(&mut bytes, &changes);
        check(&String::from_utf8_lossy(&bytes))?;
        bytes.truncate(end.index(bytes.len()));
        check(&String::from_utf8_lossy(&bytes))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_kernels(changes in prop::collection::vec(change(), 1..6), end in any::<prop::sample::Index>()) {
        let mut pieces = pieces(KERNEL);
        apply(&mut pieces, &changes);
        let text = pieces.concat();
        check(&text)?;
        check(&text[..end.index(text.len())])?;
    }
}

/// Each would take hours, or the whole stack, if anything in it were read more than a few times.
#[test]
fn long_texts_take_time_in_proportion() {
    const MANY: usize = 200_000;
    let begun = Instant::now();
    let many = |text: &str| text.repeat(MANY);
    for body in [
        "(",
        "-",
        "!",
        "{",
        "[",
        "a|",
        "a,",
        "a+",
        "1+",
        "1?",
        "1?1:",
        "(.s64)",
        "1<<",
        "1||",
        "a.",
        "a b",
        ".x",
        "::",
        "/*",
        "/",
        "\"",
        "\\",
        "@",
        "a:",
        "0x",
        "0",
        "1.",
        "%",
        "_",
        "a[",
        ".reg .b32 a;",
        ".loc 1 1 1 ",
        "ret;",
        "{}",
        "a: .branchtargets b;",
        ".pragma \"a\";",
        ".param .b8 a[1];",
    ] {
        for before in ["", "x ", "x [a+", "x {", "call (", ".reg .b32 ", ".loc "] {
            let _ = in_body(&format!("{before}{}", many(body)));
        }
        let _ = module(&many(body));
        let _ = module(&format!(".global .b8 a[] = {{{}", many(body)));
    }
    let _ = module(&format!(".global .b8 a[1]{} = {}1", "[1]".repeat(60), "{".repeat(61)));
    let _ = module(&format!(".global .b8 a[{MANY}][4] = {{{}{{1}}}};", many("{1},")));
    let _ = module(&many(".func f() {}\n.func g();\n.alias g, f;\n"));
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

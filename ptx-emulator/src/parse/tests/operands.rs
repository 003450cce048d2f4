use super::*;

#[test]
fn names_negations_sinks_and_pairs() {
    let expected = vec![
        name("%p1"),
        Operand::Pair(Box::new(name("a")), Box::new(name("$b"))),
        Operand::Pair(Box::new(Operand::Sink), Box::new(name("%q"))),
        Operand::Pair(Box::new(name("%p")), Box::new(Operand::Sink)),
        Operand::Not("%p2".into()),
        Operand::Sink,
        name("_a"),
    ];
    assert_eq!(operands("x %p1, a|$b, _ | %q, %p|_, !%p2, _, _a;"), Ok(expected));
}

#[test]
fn special_registers_keep_their_element() {
    let expected = ["%tid.x", "%cluster_nctaid.w", "%laneid", "%clock64", "%envreg3", "%tid.y"].map(name).to_vec();
    assert_eq!(operands("x %tid.x, %cluster_nctaid.w, %laneid, %clock64, %envreg3, %tid .y;"), Ok(expected));
}

#[test]
fn addresses() {
    let expected = vec![
        address("%rd1", 0),
        address("%rd1", -24),
        address("sym", 448),
        address("sym", -4),
        address("sym", 4 - 8 + 6),
        address("p", 28),
        Operand::Address { base: None, offset: 16 },
        Operand::Address { base: None, offset: 1000 },
        Operand::Address { base: None, offset: 3 },
    ];
    let text = "x [%rd1], [%rd1+-24], [sym+448], [sym-4], [sym+4-8+2*3], [p+(4|8)+0x10], [0x10], [1000], [1+2];";
    assert_eq!(operands(text), Ok(expected));
}

#[test]
fn symbols_with_offsets_outside_brackets() {
    let expected = vec![Operand::Offset("smem".into(), 4), Operand::Offset("smem".into(), -12), name("smem")];
    assert_eq!(operands("mov.u32 smem+4, smem+-4-8, smem;"), Ok(expected));
}

#[test]
fn literals() {
    use Operand::{Float32, Float64, Integer};
    let cases = [
        ("0", Integer(0)),
        ("42", Integer(42)),
        ("-1", Integer(u64::MAX)),
        ("0xFFU", Integer(255)),
        ("0Xfe", Integer(254)),
        ("07", Integer(7)),
        ("0377", Integer(255)),
        ("012U", Integer(10)),
        ("0b1011", Integer(11)),
        ("0B11U", Integer(3)),
        ("5U", Integer(5)),
        ("18446744073709551615", Integer(u64::MAX)),
        ("-9223372036854775808", Integer(1 << 63)),
        ("0f3F800000", Float32(0x3f80_0000)),
        ("0Fffc00000", Float32(0xffc0_0000)),
        ("-0f3F800000", Float32(0xbf80_0000)),
        ("0d3FF0000000000000", Float64(0x3ff0_0000_0000_0000)),
        ("0D7ff8000000000001", Float64(0x7ff8_0000_0000_0001)),
        ("1.5", Float64(1.5_f64.to_bits())),
        ("-2.25", Float64((-2.25_f64).to_bits())),
        (".5", Float64(0.5_f64.to_bits())),
        ("1.", Float64(1_f64.to_bits())),
        ("1.e2", Float64(100_f64.to_bits())),
        ("25e-1", Float64(2.5_f64.to_bits())),
        ("1.5E+3", Float64(1500_f64.to_bits())),
        ("WARP_SZ", Integer(32)),
        ("WARP_SZ-1", Integer(31)),
    ];
    for (text, expected) in cases {
        assert_eq!(operands(&format!("mov.b64 %rd1, {text};")), Ok(vec![name("%rd1"), expected]), "{text}");
    }
}

#[test]
fn vectors() {
    let expected = vec![
        Operand::Vector(vec![name("%f1"), name("%f2")]),
        Operand::Vector(vec![Operand::Sink, name("%r2"), Operand::Integer(1), Operand::Float32(0)]),
        Operand::Vector(vec![name("%tid.x")]),
    ];
    assert_eq!(operands("x {%f1, %f2}, {_,%r2,1,0f00000000}, {%tid.x};"), Ok(expected));
}

#[test]
fn calls_have_lists() {
    let list = |names: &[&str]| Operand::List(names.iter().copied().map(name).collect());
    let whole = "call.uni (retval0), \n_Z3fibi, \n(\nparam0, \nparam1\n);";
    assert_eq!(operands(whole), Ok(vec![list(&["retval0"]), name("_Z3fibi"), list(&["param0", "param1"])]));
    assert_eq!(operands("call func, (p);"), Ok(vec![name("func"), list(&["p"])]));
    assert_eq!(operands("call.uni f, ();"), Ok(vec![name("f"), list(&[])]));
    assert_eq!(operands("call f;"), Ok(vec![name("f")]));
    let indirect = "call (r), \n%rd20, \n(\np0\n)\n, prototype_6;";
    assert_eq!(operands(indirect), Ok(vec![list(&["r"]), name("%rd20"), list(&["p0"]), name("prototype_6")]));
    let constants = vec![name("f"), Operand::List(vec![Operand::Integer(3), Operand::Integer(9), Operand::Float32(0)])];
    assert_eq!(operands("call f, (1+2, (4+5), 0f00000000);"), Ok(constants));
}

#[test]
fn parentheses_elsewhere_enclose_constants() {
    assert_eq!(operands("bar.sync (1), 32;"), Ok(vec![Operand::Integer(1), Operand::Integer(32)]));
}

#[test]
fn no_operands() {
    assert_eq!(operands("ret;"), Ok(vec![]));
}

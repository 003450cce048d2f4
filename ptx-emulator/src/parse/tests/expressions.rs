use super::*;

/// Values that `ptxas` 13.0 gives to a 64-bit variable initialised so.
const AS_PTXAS: [(&str, i64); 47] = [
    ("~0 >> 60", 15),
    ("~0U >> 60", 15),
    ("-8 >> 1", -4),
    ("(1|-8) >> 1", -4),
    ("(-8&-8)>>1", -4),
    ("(-8^0)>>1", -4),
    ("1 << 64", 1),
    ("1<<63", i64::MIN),
    ("1 << 65", 2),
    ("1<<-1", i64::MIN),
    ("-8>>64", -8),
    ("-8>>65", -4),
    ("-8/3", -2),
    ("-8/3U", 6_148_914_691_236_517_202),
    ("(-1 < 1U)", 0),
    ("(-1<1)", 1),
    ("!5", 0),
    ("!0", 1),
    ("-7 % 3", 0),
    ("0xFFFFFFFFFFFFFFFF >> 4", 1_152_921_504_606_846_975),
    ("9223372036854775808 >> 4", 576_460_752_303_423_488),
    ("(1 ? -8 : 2U) >> 1", -4),
    ("(.u64)-8 >> 1", 9_223_372_036_854_775_804),
    ("(.s64)(8U-16U) >> 1", -4),
    ("1 + 2 * 3", 7),
    ("7 - 2 - 1", 4),
    ("1 | 2 ^ 3 & 5", 3),
    ("1 ? 2 : 0 ? 4 : 5", 2),
    ("1 == 2", 0),
    ("1 != 2 || 0", 1),
    ("(-1 == 0xFFFFFFFFFFFFFFFF)", 1),
    ("-5U>>1", 9_223_372_036_854_775_805),
    ("(-2U) / 2", i64::MAX),
    ("- 5", -5),
    ("+5", 5),
    ("1.5 > 1.0", 1),
    ("(-1 >= 0U)", 1),
    ("2 * -3 / 4", -1),
    ("-9223372036854775808/-1", 0),
    ("1 << 2 + 1", 8),
    ("1 < 2 == 1", 1),
    ("5 > 3 > 0", 1),
    ("~5 & 3 == 3", 0),
    ("-8 >> 1U", -4),
    ("-!0", -1),
    ("1 <= 2 && 3", 1),
    ("WARP_SZ", 32),
];

#[test]
fn values_are_those_of_ptxas() {
    for (text, expected) in AS_PTXAS {
        let expected = Operand::Integer(expected as u64);
        assert_eq!(
            operands(&format!("bar.sync 1, {text};")).map(|found| found[1].clone()),
            Ok(expected.clone()),
            "{text}"
        );
        let declared = module(&format!(".global .u64 a = {text};"));
        let found = declared.map(|module| module.variables[0].initial.clone());
        assert_eq!(found, Ok(vec![Initial::Literal(expected)]), "{text}");
    }
}

#[test]
fn the_branch_not_taken_is_parsed_too() {
    assert_eq!(operands("x 0 ? 1 : 2;"), Ok(vec![Operand::Integer(2)]));
    let error = operands("x 1 ? 1 : 2/0;").unwrap_err();
    assert_eq!(error, Error::Invalid { line: BODY, what: "division by zero in a constant expression".into() });
}

#[test]
fn division_never_panics() {
    for text in ["1/0", "1%0", "0U/0", "1/(2-2)", "-9223372036854775808 % 0"] {
        let text = text.replace("%0", "% 0");
        assert!(matches!(operands(&format!("x {text};")), Err(Error::Invalid { line: BODY, .. })), "{text}");
    }
    assert!(matches!(operands("x 1/0\n;"), Err(Error::Invalid { line: BODY, .. })), "not the line of what follows");
    let least = "(.s64)(-9223372036854775808)";
    assert_eq!(operands(&format!("x {least}/-1;")), Ok(vec![Operand::Integer(1 << 63)]));
    assert_eq!(operands(&format!("x {least} % -1;")), Ok(vec![Operand::Integer(1 << 63)]));
}

#[test]
fn decimal_floats_compute_in_64_bits() {
    let float = |value: f64| Ok(vec![Operand::Float64(value.to_bits())]);
    assert_eq!(operands("x 1.5*2.0+0.25;"), float(3.25));
    assert_eq!(operands("x (1.0 - 3.0) / 4.0;"), float(-0.5));
    for text in ["1.5 + 1", "1.5 & 1.0", "~1.5", "!1.5", "(.s64)1.5", "1.5 ? 1 : 2", "1.5 << 1"] {
        assert!(matches!(operands(&format!("x {text};")), Err(Error::Invalid { line: BODY, .. })), "{text}");
    }
    assert!(matches!(operands("x 0f3F800000 + 0f3F800000;"), Err(Error::Unsupported { line: BODY, .. })));
}

#[test]
fn depth_is_limited() {
    for (open, close) in [("(", ")"), ("-", ""), ("~", ""), ("!", ""), ("(.s64)", ""), ("1?", ":1")] {
        let nested = |depth: usize| operands(&format!("x {}1{};", open.repeat(depth), close.repeat(depth)));
        assert!(nested(50).is_ok(), "{open}");
        for depth in [100, 100_000] {
            assert!(matches!(nested(depth), Err(Error::Syntax { line: BODY, .. })), "{open} {depth}");
        }
    }
    let long = format!("x 1{};", "+1".repeat(100_000));
    assert_eq!(operands(&long), Ok(vec![Operand::Integer(100_001)]));
}

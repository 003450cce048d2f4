//! Nominal and adversarial mode.

use ptx_emulator::{Device, Mode, Module};

/// a[i] * b[i] + c[i], said in two instructions, with or without a rounding.
fn multiply_then(opcode: &str, rounding: &str) -> Module {
    let text = format!(
        ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry kernel(.param .u64 x)\n{{
        .reg .f32 %f<6>;\n.reg .b64 %rd<4>;\n.reg .b32 %r<2>;
        ld.param.u64 %rd1, [x];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %rd2, %r1, 16;\nadd.s64 %rd3, %rd1, %rd2;
        ld.global.v4.f32 {{%f1, %f2, %f3, %f4}}, [%rd3];
        mul{rounding}.f32 %f5, %f1, %f2;\n{opcode}{rounding}.f32 %f4, {};\nst.global.f32 [%rd3+12], %f4;\nret;\n}}",
        if opcode == "from" { "%f3, %f5" } else { "%f5, %f3" }
    );
    Module::from_ptx(&text.replace("from", "sub")).unwrap()
}

/// Products that are not representable, so that fusing shows.
fn inputs() -> Vec<[f32; 4]> {
    (0..64).map(|i| [1.0 + i as f32 * 1.1e-3, 1.0 - i as f32 * 1.7e-3, -1.0 + i as f32 * 1e-4, 0.0]).collect()
}

fn run(module: &Module, mode: Mode) -> Vec<f32> {
    let device = Device::new();
    let x = device.upload(&inputs()).unwrap();
    let report = module.launch("kernel").block([64, 1, 1]).arg(x).mode(mode).run(&device).unwrap();
    assert!(report.is_clean(), "{report}");
    device.read(x).unwrap().into_iter().map(|row| row[3]).collect()
}

#[test]
fn products_and_sums_without_a_rounding_are_fused_for_some_seeds() {
    type Formula = fn([f32; 4]) -> f32;
    let cases: [(&str, Formula, Formula); 3] = [
        ("add", |[a, b, c, _]| a * b + c, |[a, b, c, _]| a.mul_add(b, c)),
        ("sub", |[a, b, c, _]| a * b - c, |[a, b, c, _]| a.mul_add(b, -c)),
        ("from", |[a, b, c, _]| c - a * b, |[a, b, c, _]| (-a).mul_add(b, c)),
    ];
    for (opcode, apart, fused) in cases {
        let module = multiply_then(opcode, "");
        let (apart, fused): (Vec<f32>, Vec<f32>) = inputs().into_iter().map(|row| (apart(row), fused(row))).unzip();
        assert_ne!(apart, fused);
        assert_eq!(run(&module, Mode::Nominal), apart, "{opcode}");
        let mut seen = [false; 2];
        for seed in 0..16 {
            let got = run(&module, Mode::Adversarial { seed });
            assert!(got == apart || got == fused, "{opcode}, seed {seed}");
            seen[usize::from(got == fused)] = true;
        }
        assert_eq!(seen, [true; 2], "{opcode}: both happen");
        // With a rounding they stay two instructions.
        let module = multiply_then(opcode, ".rn");
        (0..16).for_each(|seed| assert_eq!(run(&module, Mode::Adversarial { seed }), apart, "{opcode}.rn"));
    }
}

const EXPONENTIAL: &str = ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry kernel(.param .u64 x)\n{
    .reg .f32 %f<4>;\n.reg .b64 %rd<4>;\n.reg .b32 %r<2>;
    ld.param.u64 %rd1, [x];\nmov.u32 %r1, %tid.x;\nmul.wide.u32 %rd2, %r1, 16;\nadd.s64 %rd3, %rd1, %rd2;
    ld.global.f32 %f1, [%rd3];\nex2.approx.ftz.f32 %f2, %f1;\nst.global.f32 [%rd3+12], %f2;\nret;\n}";

#[test]
fn approximate_operations_stay_within_their_bound_and_reach_it() {
    let module = Module::from_ptx(EXPONENTIAL).unwrap();
    let nominal = run(&module, Mode::Nominal);
    for (row, &got) in inputs().iter().zip(&nominal) {
        assert_eq!(got, f64::from(row[0]).exp2() as f32);
    }
    let mut furthest = 0;
    for seed in 0..32 {
        let disturbed = run(&module, Mode::Adversarial { seed });
        assert_eq!(disturbed, run(&module, Mode::Adversarial { seed }), "the same seed gives the same run");
        assert_eq!(run(&module, Mode::Shuffled { seed }), nominal, "order alone changes no number");
        for (a, b) in nominal.iter().zip(&disturbed) {
            furthest = furthest.max((a.to_bits() as i32 - b.to_bits() as i32).abs());
        }
    }
    assert_eq!(furthest, 2, "ulp");
}

//! Calls: parameters in registers and in memory, guards, exits inside, statics.

use super::*;

#[test]
fn parameters_in_registers() {
    let module = "
        .func (.reg .b32 sum, .reg .b32 odd) f(.reg .b32 a, .reg .b64 b, .reg .f32 c) {
            .reg .b32 x; .reg .pred p;
            cvt.u32.u64 x, b; add.u32 sum, a, x; and.b32 odd, sum, 1;
            setp.gt.f32 p, c, 0f40000000; @p bra big; ret;
            big: add.u32 sum, sum, 1000;
        }";
    let body = "cvt.rn.f32.u32 %w3, %w0; cvt.u64.u32 %l2, %w0;
        call.uni (%w4, %w5), f, (7, %l2, %w3);
        st.global.v2.b32 [%l0], {%w4, %w5};
        setp.lt.u32 p2, %w0, 9; mov.u32 %w4, 5; mov.u32 %w6, %w0;
        @p2 call (%w6, _), f, (%w6, %l2, 0f3F800000);
        st.global.v2.b32 [%l0+8], {%w6, %w4};";
    let out = Kernel::new(2, body).module(module).run(&[0]);
    for (i, got) in out.chunks(2).enumerate() {
        let i = i as u64;
        let (sum, odd) = (7 + i + if i > 2 { 1000 } else { 0 }, (7 + i) % 2);
        assert_eq!(got, [sum | odd << 32, if i < 9 { 2 * i } else { i } | 5 << 32]);
    }
}

/// A structure, a part of it by the address of the parameter, and a call within a call.
#[test]
fn parameters_in_memory() {
    let module = "
        .func (.param .b64 r) inner(.param .align 8 .b8 s[16]) {
            .reg .b64 at, x, y; mov.b64 at, s; ld.param.v2.b64 {x, y}, [at]; mul.lo.u64 x, x, y; st.param.b64 [r], x;
        }
        .func (.param .align 4 .b8 r[12]) outer(.param .align 8 .b8 s[16], .param .b32 k) {
            .reg .b32 a, b; .reg .b64 x, at;
            ld.param.b32 a, [k]; mov.b64 at, s; ld.param.b32 b, [at+8];
            { .param .align 8 .b8 t[16]; .param .b64 u; cvt.u64.u32 x, a; st.param.b64 [t], x; st.param.b64 [t+8], 100;
              call.uni (u), inner, (t); ld.param.b64 x, [u]; }
            cvt.u32.u64 a, x; st.param.b32 [r], a; st.param.b32 [r+4], b; st.param.b32 [r+8], 77;
        }";
    let body = "{ .param .align 8 .b8 s[16]; .param .b32 k; .param .align 4 .b8 r[12];
          add.u32 %w2, %w0, 3; st.param.b64 [s], 1; st.param.b32 [s+8], %w2; st.param.b32 [s+12], 4; st.param.b32 [k], %w0;
          call.uni (r), outer, (s, k);
          ld.param.b32 %w3, [r]; ld.param.b32 %w4, [r+4]; ld.param.b32 %w5, [r+8]; }
        st.global.v4.b32 [%l0], {%w3, %w4, %w5, 0};";
    let out = Kernel::new(2, body).module(module).run(&[0]);
    for (i, got) in out.chunks(2).enumerate() {
        let i = i as u64;
        assert_eq!(got, [(100 * i) | ((i + 3) << 32), 77]);
    }
}

/// Returns and exits of some lanes inside a call; the rest goes on together.
#[test]
fn returns_and_exits_of_some_lanes() {
    let module = "
        .func (.reg .b32 r) f(.reg .b32 x) {
            .reg .pred p, q; mov.u32 r, 1; setp.lt.u32 p, x, 4; @p ret;
            mov.u32 r, 2; setp.gt.u32 q, x, 27; @q exit;
            mov.u32 r, 3;
        }";
    let body = "mov.u32 %w2, 9; call (%w2), f, (%w0); activemask.b32 %w3; st.global.v2.b32 [%l0], {%w2, %w3};";
    let (out, report) = Kernel::new(1, body).module(module).report(&[0], Mode::Nominal);
    assert!(report.is_clean(), "{report}");
    for (i, got) in out.into_iter().enumerate() {
        let value = if i < 4 { 1 } else { 3 };
        assert_eq!(got, if i > 27 { u64::MAX } else { value | 0x0fff_ffff << 32 }, "thread {i}");
    }
}

/// A shared variable of a function is one, however often the function is called; names of the caller are not seen.
#[test]
fn variables_of_functions() {
    let module = "
        .func (.reg .b32 r) next() { .shared .align 4 .b32 count; atom.shared.add.u32 r, [count], 1; }
        .func first() { .reg .b32 %w2; .reg .pred p1; mov.u32 %w2, %tid.x; setp.ne.u32 p1, %w2, 0; }";
    let body = "mov.u32 %w2, 5; call first; setp.ne.u32 p1, %w2, 5; @p1 trap;
        call (%w3), next; call (%w4), next; add.u32 %w3, %w3, %w4; cvt.u64.u32 %l2, %w3; st.global.u64 [%l0], %l2;";
    let (out, report) = Kernel::new(1, body).module(module).block(1).report(&[0], Mode::Nominal);
    // Never-written memory is all ones: the first call finds that, the second what the first left.
    assert_eq!(out, [u64::from(u32::MAX)]);
    assert_eq!(report.findings().len(), 1, "{report}");
    let unseen = "{ .reg .b32 hidden; call f; }";
    let module = ".func f() { mov.b32 hidden, 1; }";
    let text = Kernel::new(1, unseen).module(module).text();
    let error = Module::from_ptx(&text).unwrap().check().unwrap_err();
    assert_eq!(error.to_string(), "PTX line 4: unknown name `hidden`");
}

/// Functions that call each other twice each, without an instruction: refused, in no time.
#[test]
fn runaway_inlining_is_refused() {
    let mut module = ".func f0() { }\n".to_string();
    for i in 1..64 {
        module += &format!(".func f{i}() {{ call f{0}; call f{0}; }}\n", i - 1);
    }
    let text = Kernel::new(1, "call f63;").module(module).text();
    let error = Module::from_ptx(&text).unwrap().check().unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// Each body has a variable `own` of its own, the module one too; calls of one function share its.
#[test]
fn variables_of_one_name_in_several_bodies() {
    let function = |name: &str, first: u32| {
        format!(
            ".func (.reg .b32 r) {name}() {{
                .global .align 4 .u32 own = {first};
                ld.global.u32 r, [own]; add.u32 r, r, 1; st.global.u32 [own], r;
            }}\n"
        )
    };
    let (f, g) = (function("f", 10), function("g", 20));
    let module = format!(".global .align 4 .u32 own = 1;\n.func last() {{ .const .align 4 .u32 alone = 77; }}\n{f}{g}");
    let body = "call (%w2), f, (); call (%w3), f, (); call (%w4), g, (); ld.global.u32 %w5, [own]; call last, ();
        {
            .global .align 4 .u32 own = 30;
            ld.global.u32 %w6, [own];
        }
        {
            .global .align 4 .u32 own = 40;
            ld.global.u32 %w7, [own];
        }
        ld.global.u32 %w8, [own]; add.u32 %w8, %w8, %w7;
        st.global.v4.b32 [%l0], {%w2, %w3, %w4, %w5}; st.global.v2.b32 [%l0+16], {%w6, %w8};";
    // One launch each: the variables keep what was written.
    let kernel = Kernel::new(3, body).module(&module).block(1);
    let words = [11, 12, 21, 1, 30, 41u64];
    let want: Vec<u64> = words.chunks(2).map(|pair| pair[0] | pair[1] << 32).collect();
    assert_eq!(kernel.run(&[0]), want);

    let (module, device) = (Module::from_ptx(&kernel.text()).unwrap(), Device::new());
    let read = |name| module.variable::<u32>(&device, name).and_then(|own| device.read(own));
    assert_eq!((read("own"), read("alone")), (Ok(vec![1]), Ok(vec![77])));
    let inner = Module::from_ptx(&format!("{HEADER}{f}{g}.entry k() {{ }}")).unwrap();
    let told = |error: Error| error.to_string();
    let error = inner.variable::<u32>(&device, "own").map_err(told).unwrap_err();
    assert_eq!(error, "device memory: variable `own` is in several functions of the module");
    let error = module.variable::<u32>(&device, "none").map_err(told).unwrap_err();
    assert_eq!(error, "device memory: variable `none` is not in the module");
    let line = format!("{HEADER}.entry k() {{ .global .u32 x; {{ .global .u32 x; }} }}");
    let error = Module::from_ptx(&line).unwrap().check().map_err(told).unwrap_err();
    assert_eq!(error, "PTX line 4: a second variable `x` in one line is not supported");
    let address = format!("{HEADER}.global .u64 at = own;\n{f}{g}.entry k() {{ }}");
    let error = Module::from_ptx(&address).unwrap().check().map_err(told).unwrap_err();
    assert_eq!(error, "PTX line 4: `at` is initialised with `own`, which is in several functions of the module");
}

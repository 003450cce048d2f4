//! What is refused, in the exact words, with the line.

use super::*;

/// The error of a kernel whose body is this, in line 5.
fn refused(body: &str) -> String {
    let text = format!(
        "{HEADER}.entry k() {{ .reg .pred p; .reg .b16 h; .reg .b32 w, v; .reg .b64 l; .shared .b32 tile[4]; .local .b32 own;\n{body}\n}}\n"
    );
    match Module::from_ptx(&text).and_then(|module| module.check()) {
        Err(error) => error.to_string(),
        Ok(()) => panic!("accepted: {body}"),
    }
}

#[test]
fn exact_words() {
    for (body, want) in [
        ("frob.b32 w, v;", "`frob.b32` is not supported"),
        (
            "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {w, w}, {w}, {w}, {w};",
            "`mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32` is not supported",
        ),
        ("add.rn.u32 w, v, v;", "`add.rn.u32` is not supported"),
        ("add.f16.x w, v, v;", "`add.f16.x` is not supported"),
        ("ld.global.f16 h, [l];", "`ld.global.f16` is not supported"),
        ("ld.shared.nc.b32 w, [l];", "`ld.shared.nc.b32` is not supported"),
        ("ld.global.L2::512B.b32 w, [l];", "`ld.global.L2::512B.b32` is not supported"),
        ("ld.global.v4.b64 {l, l}, [l];", "operands of `ld.global.v4.b64` are not those of the instruction"),
        ("st.shared.v4.b64 [l], {l, l, l, l};", "`st.shared.v4.b64` is not supported"),
        ("ld.global.b64 w, [l];", "operands of `ld.global.b64` are not those of the instruction"),
        ("ld.global.b32 w, [tile];", "`tile` does not lie in the space that `ld.global.b32` names"),
        ("st.shared.b32 [own], w;", "`own` does not lie in the space that `st.shared.b32` names"),
        ("atom.add.b32 w, [l], v;", "`atom.add.b32` is not supported"),
        ("red.cas.b32 [l], w, v;", "`red.cas.b32` is not supported"),
        ("atom.local.add.u32 w, [l], v;", "`atom.local.add.u32` is not supported"),
        ("shfl.up.b32 w, v, 1, 0;", "`shfl.up.b32` is not supported"),
        ("shfl.sync.up.b64 l, l, 1, 0, -1;", "`shfl.sync.up.b64` is not supported"),
        ("bar.sync.foo 0;", "`bar.sync.foo` is not supported"),
        ("bar.arrive 0;", "operands of `bar.arrive` are not those of the instruction"),
        (
            "cp.async.cg.shared.global [w], [l], 8;",
            "operands of `cp.async.cg.shared.global` are not those of the instruction",
        ),
        ("cp.async.bulk.commit_group;", "`cp.async.bulk.commit_group` is not supported"),
        ("mbarrier.init.shared.b64 [l], 1;", "`mbarrier.init.shared.b64` is not supported"),
        ("prefetch.shared.L1 [l];", "`prefetch.shared.L1` is not supported"),
        ("prefetch.global.L2 [m];", "unknown name `m`"),
        ("add.u32 w, v, x;", "unknown name `x`"),
        ("mov.u32 w, %clusterid.x;", "unknown name `%clusterid.x`"),
        ("add.u32 w, v;", "`add.u32` has 1 sources, expected 2"),
        ("add.u32 w, v, l;", "an operand of `add.u32` has the wrong width"),
        ("add.u64 w, l, l;", "the destination of `add.u64` has the wrong width"),
        ("add.u32 5, v, v;", "operands of `add.u32` are not those of the instruction"),
        ("mov.b16 h, 0f3F800000;", "operands of `mov.b16` are not those of the instruction"),
        ("bra nowhere;", "unknown label `nowhere`"),
        ("{ here: } bra here;", "unknown label `here`"),
        ("@w add.u32 w, v, v;", "`w` is no register of the width that `add.u32` needs"),
        ("call nobody;", "a call of `nobody`, which is no function is not supported"),
        ("call l, (w);", "a call of `l`, which is no function is not supported"),
        (".reg .b128 q;", "registers of vectors or of 128 bits is not supported"),
        ("add.u32 w, v, v", "expected `,` or `;`, found `}`"),
    ] {
        let line = if body.ends_with(';') { 5 } else { 6 };
        assert_eq!(refused(body), format!("PTX line {line}: {want}"), "{body}");
    }
}

#[test]
fn of_modules_and_launches() {
    let recursive = format!("{HEADER}.func f() {{ call f; }}\n.entry k() {{ call f; }}");
    let error = Module::from_ptx(&recursive).unwrap().check().unwrap_err();
    assert_eq!(error.to_string(), "PTX line 4: the recursive function `f` is not supported");

    for (deep, refused) in [(256, false), (257, true), (5000, true)] {
        let calls: String = (1..deep).map(|i| format!(".func f{}() {{ call f{i}; }}\n", i - 1)).collect();
        let text = format!("{HEADER}{calls}.func f{}() {{ ret; }}\n.entry k() {{ call f0; }}", deep - 1);
        let checked = Module::from_ptx(&text).unwrap().check();
        assert_eq!(checked.is_err(), refused, "{deep}");
        if let Err(error) = checked {
            assert!(
                error.to_string().ends_with("a call of `f256` more than 256 calls deep is not supported"),
                "{error}"
            );
        }
    }
    let external = format!("{HEADER}.extern .func vprintf();\n.entry k() {{\ncall vprintf; }}");
    let error = Module::from_ptx(&external).unwrap().check().unwrap_err();
    assert_eq!(error.to_string(), "PTX line 6: a call of `vprintf`, which has no body here is not supported");
    let module = Module::from_ptx(&format!(
        "{HEADER}.entry k(.param .u64 x, .param .b8 s[3]) .maxntid 64 {{ }}\n.entry j() {{ }}"
    ))
    .unwrap();
    assert!(module.kernels().eq(["k", "j"]));
    let device = Device::new();
    let told = |launch: ptx_emulator::LaunchBuilder<'_>| launch.run(&device).unwrap_err().to_string();
    assert_eq!(told(module.launch("i")), "no kernel `i`: the module has `k`, `j`");
    assert_eq!(told(module.launch("k")), "kernel `k`: 0 arguments, expected 2");
    assert_eq!(told(module.launch("k").arg(1u64).bytes(&[1])), "kernel `k`: argument 1 (`s`) has 1 bytes, expected 3");
    assert_eq!(
        told(module.launch("k").arg(1u32).bytes(&[1; 3])),
        "kernel `k`: argument 0 (`x`) has 4 bytes, expected 8"
    );
    assert_eq!(
        told(module.launch("j").block([0, 1, 1])),
        "kernel `j`: block [0, 1, 1], expected 1 to [1024, 1024, 64]"
    );
    assert_eq!(
        told(module.launch("j").block([64, 32, 1])),
        "kernel `j`: block [64, 32, 1], expected at most 1024 threads"
    );
    assert_eq!(told(module.launch("k").block([65, 1, 1])), "kernel `k`: block [65, 1, 1], expected at most 64 threads");
    assert_eq!(
        told(module.launch("j").grid([1, 65536, 1])),
        "kernel `j`: grid [1, 65536, 1], expected 1 to [2147483647, 65535, 65535]"
    );
    assert_eq!(
        told(module.launch("j").shared_bytes(1 << 20)),
        "kernel `j`: 1048576 bytes of shared memory, expected at most 232448"
    );
}

#[test]
fn local_memory_beyond_what_the_host_has() {
    let text = format!("{HEADER}.entry k() {{ .local .align 4 .b8 own[1048576]; st.local.b32 [own], 1; ret; }}\n");
    let module = Module::from_ptx(&text).unwrap();
    let launch = module.launch("k").grid([64, 1, 1]).block([1000, 1, 1]).threads(8);
    let want = "1048576 bytes of local memory for each of 1024 threads in 8 blocks at once, expected at most 4294967296 bytes together";
    let error = launch.run(&Device::new()).unwrap_err().to_string();
    assert!(error.ends_with(want), "{error}");
}

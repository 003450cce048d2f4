//! Instructions that do more than compute, as a list: for the table of the documentation, and for tests.

/// A group of forms, braces holding alternatives, and their operands: `d` a destination, `p` a predicate, `a` and `b`
/// sources, `[a]` an address, other words stand for what they name.
pub(crate) type Group = (&'static str, &'static str);

/// Groups under a heading. Modifiers of loads, stores and atomics are taken in any order.
pub(crate) const KNOWN: &[(&str, &[Group])] = &[
    ("Loads and stores", MEMORY),
    ("Atomic operations", ATOMICS),
    ("Copies, fences, hints", COPIES),
    ("Moves and addresses", MOVES),
    ("Branches and calls", CONTROL),
    ("Barriers", BARRIERS),
    ("Operations between lanes", LANES),
];

const MEMORY: &[Group] = &[
    (
        "ld{,.weak,.volatile}{,.global,.shared,.shared::cta,.local,.const,.param,.param::entry,.param::func}.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}",
        "d, [a]",
    ),
    (
        "ld{,.weak,.volatile}{,.global,.shared,.shared::cta,.local,.const,.param}.v2.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}",
        "{d, d}, [a]",
    ),
    (
        "ld{,.weak,.volatile}{,.global,.shared,.shared::cta,.local,.const,.param}.v4.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32}",
        "{d, d, d, d}, [a]",
    ),
    ("ld{,.global}.v4.{b64,u64,s64,f64}", "{d, d, d, d}, [a]"),
    ("ld{,.global}.v8.{b32,u32,s32,f32}", "{d, d, d, d, d, d, d, d}, [a]"),
    (
        "ld{.relaxed,.acquire}.{cta,cluster,gpu,sys}{,.global,.shared,.shared::cta}.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}",
        "d, [a]",
    ),
    ("ld.mmio.relaxed.sys{,.global}.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}", "d, [a]"),
    (
        "ld{,.global}{,.ca,.cg,.cs,.lu,.cv}{,.L1::evict_normal,.L1::evict_unchanged,.L1::evict_first,.L1::evict_last,.L1::no_allocate}{,.L2::evict_normal,.L2::evict_first,.L2::evict_last}{,.L2::64B,.L2::128B,.L2::256B}.b32",
        "d, [a]",
    ),
    (
        "ld.global{,.ca,.cg,.cs}.nc{,.L1::evict_normal,.L1::evict_unchanged,.L1::evict_first,.L1::evict_last,.L1::no_allocate}{,.L2::64B,.L2::128B,.L2::256B}.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}",
        "d, [a]",
    ),
    ("ld.global{,.nc}.L2::cache_hint.{b32,b64}", "d, [a], policy"),
    ("ldu{,.global}.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}", "d, [a]"),
    ("ldu{,.global}.v2.{b32,u32,s32,f32,b64,u64,s64,f64}", "{d, d}, [a]"),
    ("ldu{,.global}.v4.{b32,u32,s32,f32}", "{d, d, d, d}, [a]"),
    (
        "st{,.weak,.volatile}{,.global,.shared,.shared::cta,.local,.param,.param::func}.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}",
        "[a], b",
    ),
    (
        "st{,.weak,.volatile}{,.global,.shared,.shared::cta,.local,.param}.v2.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}",
        "[a], {b, b}",
    ),
    (
        "st{,.weak,.volatile}{,.global,.shared,.shared::cta,.local,.param}.v4.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32}",
        "[a], {b, b, b, b}",
    ),
    ("st{,.global}.v4.{b64,u64,s64,f64}", "[a], {b, b, b, b}"),
    ("st{,.global}.v8.{b32,u32,s32,f32}", "[a], {b, b, b, b, b, b, b, b}"),
    (
        "st{.relaxed,.release}.{cta,cluster,gpu,sys}{,.global,.shared,.shared::cta}.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}",
        "[a], b",
    ),
    ("st.mmio.relaxed.sys{,.global}.{b8,u8,s8,b16,u16,s16,b32,u32,s32,f32,b64,u64,s64,f64}", "[a], b"),
    (
        "st{,.global}{,.wb,.cg,.cs,.wt}{,.L1::evict_normal,.L1::evict_unchanged,.L1::evict_first,.L1::evict_last,.L1::no_allocate}{,.L2::evict_normal,.L2::evict_first,.L2::evict_last}.b32",
        "[a], b",
    ),
    ("st.global.L2::cache_hint.{b32,b64}", "[a], b, policy"),
];

const ATOMICS: &[Group] = &[
    (
        "atom{,.relaxed,.acquire,.release,.acq_rel}{,.cta,.cluster,.gpu,.sys}{,.global,.shared,.shared::cta}.add.{u32,s32,u64,s64,f32,f64}",
        "d, [a], b",
    ),
    ("atom{,.relaxed}{,.gpu}{,.global,.shared,.shared::cta}.add{,.noftz}.{f16,bf16,f16x2,bf16x2}", "d, [a], b"),
    (
        "atom{,.relaxed,.acquire,.release,.acq_rel}{,.cta,.cluster,.gpu,.sys}{,.global,.shared,.shared::cta}.{min,max}.{u32,s32,u64,s64}",
        "d, [a], b",
    ),
    (
        "atom{,.relaxed,.acquire,.release,.acq_rel}{,.cta,.cluster,.gpu,.sys}{,.global,.shared,.shared::cta}.{and,or,xor,exch}.{b32,b64}",
        "d, [a], b",
    ),
    (
        "atom{,.relaxed,.acquire,.release,.acq_rel}{,.cta,.cluster,.gpu,.sys}{,.global,.shared,.shared::cta}.{inc,dec}.u32",
        "d, [a], b",
    ),
    (
        "atom{,.relaxed,.acquire,.release,.acq_rel}{,.cta,.cluster,.gpu,.sys}{,.global,.shared,.shared::cta}.cas.{b16,b32,b64}",
        "d, [a], b, b",
    ),
    (
        "red{,.relaxed,.release}{,.cta,.cluster,.gpu,.sys}{,.global,.shared,.shared::cta}.add.{u32,s32,u64,s64,f32,f64}",
        "[a], b",
    ),
    ("red{,.relaxed}{,.gpu}{,.global,.shared,.shared::cta}.add{,.noftz}.{f16,bf16,f16x2,bf16x2}", "[a], b"),
    (
        "red{,.relaxed,.release}{,.cta,.cluster,.gpu,.sys}{,.global,.shared,.shared::cta}.{min,max}.{u32,s32,u64,s64}",
        "[a], b",
    ),
    (
        "red{,.relaxed,.release}{,.cta,.cluster,.gpu,.sys}{,.global,.shared,.shared::cta}.{and,or,xor}.{b32,b64}",
        "[a], b",
    ),
    ("red{,.relaxed,.release}{,.cta,.cluster,.gpu,.sys}{,.global,.shared,.shared::cta}.{inc,dec}.u32", "[a], b"),
];

const COPIES: &[Group] = &[
    ("cp.async.{ca,cg}.{shared,shared::cta}.global{,.L2::64B,.L2::128B,.L2::256B}", "[shared], [a], 16"),
    ("cp.async.{ca,cg}.{shared,shared::cta}.global{,.L2::64B,.L2::128B,.L2::256B}", "[shared], [a], 16, count"),
    ("cp.async.{ca,cg}.{shared,shared::cta}.global{,.L2::64B,.L2::128B,.L2::256B}", "[shared], [a], 16, p"),
    ("cp.async.ca.{shared,shared::cta}.global{,.L2::64B,.L2::128B,.L2::256B}", "[shared], [a], 4"),
    ("cp.async.ca.{shared,shared::cta}.global{,.L2::64B,.L2::128B,.L2::256B}", "[shared], [a], 8, count"),
    ("cp.async.{commit_group,wait_all}", ""),
    ("cp.async.wait_group", "1"),
    ("membar.{cta,gl,sys}", ""),
    ("fence{,.sc,.acq_rel,.acquire,.release}.{cta,cluster,gpu,sys}", ""),
    ("nanosleep.u32", "count"),
    ("prefetch{,.global,.local}.{L1,L2}", "[a]"),
    ("prefetch.global.{L2::evict_last,L2::evict_normal}", "[a]"),
    ("prefetchu.L1", "[a]"),
    ("pmevent", "7"),
    ("pmevent.mask", "7"),
];

const MOVES: &[Group] = &[
    ("mov.b16", "d, {byte, byte}"),
    ("mov.b32", "d, {half, half}"),
    ("mov.b32", "d, {byte, byte, byte, byte}"),
    ("mov.b64", "d, {word, word}"),
    ("mov.b64", "d, {half, half, half, half}"),
    ("mov.b16", "{byte, byte}, b"),
    ("mov.b32", "{half, half}, b"),
    ("mov.b32", "{byte, byte, byte, byte}, b"),
    ("mov.b64", "{word, word}, b"),
    ("mov.b64", "{half, half, half, half}, b"),
    ("mov.{b64,u64}", "d, variable"),
    ("mov.{b32,u32,b64,u64}", "d, shared"),
    ("cvta.{global,const,shared,shared::cta,local,param,param::entry}.u64", "d, b"),
    ("cvta.to.{global,const,shared,shared::cta,local,param,param::entry}.u64", "d, b"),
    ("isspacep.{global,shared,shared::cta,local,param,param::entry}", "p, address"),
    ("activemask.b32", "d"),
];

const CONTROL: &[Group] = &[
    ("bra{,.uni}", "label"),
    ("brx.idx{,.uni}", "count, labels"),
    ("call{,.uni}", "function"),
    ("call{,.uni}", "(word), function_of_registers, (word, 1)"),
    ("call{,.uni}", "(result), function_of_parameters, (argument)"),
    ("ret{,.uni}", ""),
    ("exit", ""),
    ("trap", ""),
];

const BARRIERS: &[Group] = &[
    ("bar{,.cta}.sync", "0"),
    ("bar{,.cta}.sync", "count, 64"),
    ("bar{,.cta}.arrive", "1, count"),
    ("bar{,.cta}.red.popc.u32", "d, 0, p"),
    ("bar{,.cta}.red.{and,or}.pred", "p, 0, 64, !p"),
    ("barrier{,.cta}.sync{,.aligned}", "0"),
    ("barrier{,.cta}.sync{,.aligned}", "count, 64"),
    ("barrier{,.cta}.arrive{,.aligned}", "1, count"),
    ("barrier{,.cta}.red.popc{,.aligned}.u32", "d, 0, 64, p"),
    ("barrier{,.cta}.red.{and,or}{,.aligned}.pred", "p, 0, !p"),
    ("bar.warp.sync", "count"),
];

const LANES: &[Group] = &[
    ("shfl.sync.{up,down,bfly,idx}.b32", "d, b, 1, 31, count"),
    ("shfl.sync.{up,down,bfly,idx}.b32", "d|p, b, count, count, 0xffffffff"),
    ("vote.sync.{all,any,uni}.pred", "p, !p, count"),
    ("vote.sync.ballot.b32", "d, p, count"),
    ("match.any.sync.{b32,b64}", "word, b, count"),
    ("match.all.sync.{b32,b64}", "word|p, b, count"),
    ("redux.sync.{add,min,max}.{u32,s32}", "d, b, count"),
    ("redux.sync.{and,or,xor}.b32", "d, b, count"),
];

/// Special registers that `mov` and other instructions read.
pub(crate) const SPECIAL: &[&str] = &[
    "%{tid,ntid,ctaid,nctaid}.{x,y,z}",
    "%{laneid,warpid,nwarpid,smid,nsmid,gridid}",
    "%lanemask_{eq,lt,le,gt,ge}",
    "%{dynamic,total}_smem_size",
    "%{clock,clock_hi}",
    "%{clock64,globaltimer}",
];

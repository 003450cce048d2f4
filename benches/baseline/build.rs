//! Compiles the C loops twice. Without a C compiler the crate builds all the same, and has none.

const SOURCES: [&str; 6] =
    ["selective_scan.c", "discretise.c", "state_update.c", "causal_conv1d.c", "squared_attention.c", "features.c"];

fn main() {
    println!("cargo::rustc-check-cfg=cfg(c_loops)");
    println!("cargo::rerun-if-changed=baseline.h");
    SOURCES.iter().for_each(|source| println!("cargo::rerun-if-changed={source}"));
    let native = std::env::var("HOST") == std::env::var("TARGET");
    let compiled = compile("o3", &[]).and_then(|()| match native {
        true => compile("fast_math", &["-ffast-math", "-march=native"]),
        // -march=native would be the other machine's.
        false => compile("fast_math", &["-ffast-math"]),
    });
    match compiled {
        Ok(()) => {
            // The vectorised exp of -ffast-math is the mathematics library's.
            if std::env::var_os("CARGO_CFG_UNIX").is_some() {
                println!("cargo::rustc-link-lib=m");
            }
            println!("cargo::rustc-cfg=c_loops");
        }
        Err(why) => println!("cargo::warning=benches have no C loops beside them: {why}"),
    }
}

fn compile(suffix: &str, flags: &[&str]) -> Result<(), String> {
    let mut build = cc::Build::new();
    build.files(SOURCES).define("SUFFIX", suffix).opt_level(3).debug(false).warnings(false).cargo_warnings(false);
    flags.iter().for_each(|flag| {
        build.flag_if_supported(flag);
    });
    build.try_compile(&format!("ssm_baseline_{suffix}")).map_err(|error| error.to_string().replace('\n', " "))
}

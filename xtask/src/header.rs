//! The header of the C API, from the Rust that it declares.

/// cbindgen is not compiled into every xtask: this one builds the one that has it, and hands over.
#[cfg(not(feature = "header"))]
pub fn run(check: bool) -> Result<(), String> {
    crate::with_feature("header", check, &[])
}

/// Writes the header, or compares it.
#[cfg(feature = "header")]
pub fn run(check: bool) -> Result<(), String> {
    use cbindgen::{Braces, Builder, Config, DocumentationStyle, Language};

    const HEADER: &str = "c-api/include/ssm_kernels.h";
    let (folder, path) = (crate::root().join("c-api"), crate::root().join(HEADER));
    let mut config = Config {
        language: Language::C,
        cpp_compat: true,
        include_guard: Some("SSM_KERNELS_H".into()),
        sys_includes: ["stdbool.h", "stddef.h", "stdint.h"].map(String::from).to_vec(),
        no_includes: true,
        usize_is_size_t: true,
        braces: Braces::SameLine,
        documentation_style: DocumentationStyle::C99,
        line_length: 120,
        ..Config::default()
    };
    config.function.sort_by = None;
    // With the modules that it names.
    let builder = Builder::new().with_src(folder.join("src/lib.rs")).with_config(config).with_header(
        "// The operators of ssm-kernels. Made from c-api/src by `cargo xtask header`.\n\
         // Every function may be called from any thread; it returns SSM_OK, or what went wrong.",
    );
    let mut text = Vec::new();
    builder.generate().map_err(|error| format!("cbindgen: {error}"))?.write(&mut text);
    let text = String::from_utf8(text).map_err(|error| format!("cbindgen: {error}"))?;
    if !check {
        return crate::build::write(&path, &text);
    }
    match crate::build::read(&path)?.replace('\r', "") == text {
        true => Ok(()),
        false => Err(format!("not made from c-api/src as it is: {HEADER}; `cargo xtask header`")),
    }
}

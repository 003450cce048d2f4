//! `kernels-cu/params.h` for Rust, host and device, and the layout that both sides must find.

/// bindgen is not compiled into every xtask: this one builds the one that has it, and hands over.
#[cfg(not(feature = "bindings"))]
pub fn run(check: bool) -> Result<(), String> {
    crate::with_feature("bindings", check, &[])
}

#[cfg(feature = "bindings")]
pub use with_bindgen::run;

#[cfg(feature = "bindings")]
mod with_bindgen {
    use std::fmt::Write as _;

    use crate::{build, root};

    const HEADER: &str = "kernels-cu/params.h";
    const STRUCTS: &str = "kernels-rs/params.rs";
    const LAYOUT: &str = "kernels-cu/params_layout.h";

    /// Writes both files, or compares them.
    pub fn run(check: bool) -> Result<(), String> {
        let structs = structs()?;
        let layout = layout(&structs)?;
        let mut stale = Vec::new();
        for (path, text) in [(STRUCTS, structs), (LAYOUT, layout)] {
            let path = root().join(path);
            if !check {
                build::write(&path, &text)?;
            } else if build::read(&path)?.replace('\r', "") != text {
                stale.push(path.display().to_string());
            }
        }
        match stale.as_slice() {
            [] => Ok(()),
            stale => Err(format!("not made from {HEADER} as it is: {}; `cargo xtask bindings`", stale.join(", "))),
        }
    }

    /// bindgen's output.
    fn structs() -> Result<String, String> {
        let bindings = bindgen::Builder::default()
            .header(root().join(HEADER).display().to_string())
            .clang_args(["-fparse-all-comments", "--target=x86_64-unknown-linux-gnu"])
            .allowlist_type("Ssm.*")
            .allowlist_var("SSM_.*")
            .use_core()
            .derive_copy(true)
            .derive_debug(true)
            .derive_default(true)
            .layout_tests(true)
            .rust_target(bindgen::RustTarget::stable(89, 0).map_err(|e| e.to_string())?)
            .rust_edition(bindgen::RustEdition::Edition2024)
            .disable_header_comment()
            .raw_line(format!("// Made from {HEADER} by `cargo xtask bindings`."))
            .formatter(bindgen::Formatter::Rustfmt)
            .rustfmt_configuration_file(Some(root().join("rustfmt.toml")));
        let bindings = bindings.generate().map_err(|e| format!("{HEADER}: {e}"))?;
        Ok(bindings.to_string())
    }

    /// The assertions of bindgen's output, in C.
    fn layout(structs: &str) -> Result<String, String> {
        let mut text = format!(
            "// Made from {HEADER} by `cargo xtask bindings`: the layout that the Rust side has.\n\
             #pragma once\n\n#include <stddef.h>\n\n#include \"params.h\"\n\n"
        );
        let mut asserted = 0;
        // Each stands in one statement, which rustfmt may have broken: `["Size of T"][size_of::<T>() - 8usize];`
        for part in structs.split("[\"").skip(1) {
            let (Some((what, rest)), Some(number)) = (part.split_once('"'), value(part)) else { continue };
            let line = if let Some(name) = what.strip_prefix("Size of ") {
                format!("static_assert(sizeof({name}) == {number}, \"{name}\");")
            } else if let Some(name) = what.strip_prefix("Alignment of ") {
                format!("static_assert(alignof({name}) == {number}, \"{name}\");")
            } else if let Some((name, field)) = what.strip_prefix("Offset of field: ").and_then(|f| f.split_once("::"))
            {
                format!("static_assert(offsetof({name}, {field}) == {number}, \"{name}.{field}\");")
            } else {
                return Err(format!("bindgen asserts something new: {what}{}", rest.lines().next().unwrap_or("")));
            };
            let _ = writeln!(text, "{line}");
            asserted += 1;
        }
        if asserted == 0 { Err("bindgen asserts no layout".into()) } else { Ok(text) }
    }

    /// The number before the first `usize]`.
    fn value(part: &str) -> Option<&str> {
        let (before, _) = part.split_once("usize]")?;
        before.rsplit(|c: char| !c.is_ascii_digit()).next()
    }
}

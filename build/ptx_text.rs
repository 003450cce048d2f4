//! What both compilers' PTX goes through, so that the same sources give the same bytes in any folder, and so that
//! CUDA 12 drivers load it.

use std::collections::HashSet;

/// The newest PTX version that the drivers of CUDA 12.0 read.
const NEWEST: (u32, u32) = (8, 0);

/// Lowers `.version`, makes paths relative, shortens names of parameters and labels, and drops comments and what only a
/// debugger of inlined calls wants: it is half of the text. `.loc file line column` stays where the line is another than
/// before.
pub fn normalise(ptx: &str) -> String {
    let used = used_labels(ptx);
    let mut text = String::with_capacity(ptx.len());
    let mut entry = String::new();
    let mut depth: Option<i32> = None;
    let (mut place, mut next_place) = (String::new(), None);
    for line in ptx.lines() {
        // Debug sections: names of inlined functions, macros.
        if depth.is_some() || line.trim_start().starts_with(".section") {
            let braces = line.matches('{').count() as i32 - line.matches('}').count() as i32;
            let opened = depth.is_some_and(|depth| depth > 0) || line.contains('{');
            let now = depth.unwrap_or(0) + braces;
            depth = (now > 0 || !opened).then_some(now);
            continue;
        }
        let label = line.trim_end().strip_suffix(':').filter(|label| is_debug_label(label));
        if label.is_some_and(|label| !used.contains(label))
            || is_newer_hint(line)
            || line.trim_start().starts_with("//")
        {
            continue;
        }
        if let Some(name) = entries(line).first() {
            entry = format!("{name}_param_");
        }
        let line = rewrite(line, &entry);
        if line.trim_start().starts_with(".loc") {
            next_place = Some(line);
            continue;
        }
        // Only of the last place before an instruction, and only where the line is another.
        if let Some(next) = next_place.take_if(|_| !line.is_empty() && !line.ends_with(':')) {
            let line_of = |place: &str| place.split_whitespace().take(3).collect::<Vec<_>>().join(" ");
            if line_of(&next) != line_of(&place) {
                text.push_str(&next);
                text.push('\n');
            }
            place = next;
        }
        if line.is_empty() {
            continue;
        }
        text.push_str(&line);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// nvcc 13 marks wide loads of which it uses a part: a hint that means nothing to the result, and that ptxas 13 refuses
/// below version 8.3.
fn is_newer_hint(line: &str) -> bool {
    line.trim_start().starts_with(".pragma \"used_bytes_mask")
}

/// May mark nothing but a place for debug sections.
fn is_debug_label(label: &str) -> bool {
    label.starts_with("$L__tmp") || label.starts_with("$L__func_")
}

/// Labels that an instruction or a kept directive mentions.
fn used_labels(ptx: &str) -> HashSet<&str> {
    let is_label = |c: char| c == '$' || c == '_' || c.is_ascii_alphanumeric();
    let lines = ptx.lines().filter(|line| line.contains("$L__") && !line.trim_end().ends_with(':'));
    let words = lines.flat_map(|line| line.split(move |c| !is_label(c)));
    words.filter(|word| is_debug_label(word)).collect()
}

/// `entry`: what names of the entry's parameters begin with, which are its own anyway.
fn rewrite(line: &str, entry: &str) -> String {
    let body = line.trim_start();
    if let Some(version) = body.strip_prefix(".version") {
        let mut parts = version.split_whitespace().next().unwrap_or("").split('.').map(|part| part.parse().ok());
        return match (parts.next().flatten(), parts.next().flatten()) {
            (Some(major), Some(minor)) if (major, minor) > NEWEST => format!(".version {}.{}", NEWEST.0, NEWEST.1),
            _ => line.to_string(),
        };
    }
    if body.starts_with(".file")
        && let Some((head, rest)) = line.split_once('"')
        && let Some((path, tail)) = rest.rsplit_once('"')
    {
        return format!("{head}\"{}\"{tail}", relative(path));
    }
    if body.starts_with(".loc") {
        let place = body.split(", function_name").next().unwrap_or(body);
        return place.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    // Blanks between operands are a twentieth of the text.
    let line = without_path_hashes(line.trim_end()).replace("$L__BB", "$L");
    let line = if entry.is_empty() { line } else { line.replace(entry, "param_") };
    if line.ends_with(';') { line.replace(" \t", " ").replace(", ", ",") } else { line }
}

/// Relative to the repository, to the sources of Rust's library, or to the toolkit's folder of headers; of other files
/// the name.
fn relative(path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            "" | "." => {}
            part => parts.push(part),
        }
    }
    let last = |names: &[&str]| parts.iter().rposition(|part| names.contains(part));
    let own = last(&["kernels-rs", "kernels-cu"]).or_else(|| last(&["library"]).map(|at| at + 1));
    let from = own.or_else(|| last(&["include"])).unwrap_or(parts.len().saturating_sub(1));
    parts[from..].join("/")
}

/// nvcc puts hashes of the source's path into the names of file-local symbols:
/// `_GLOBAL__N__<hash>_<length>_<file>_<hash>`. They become zeros of the same length, so that mangled names stay valid.
fn without_path_hashes(line: &str) -> String {
    const DIGITS: usize = 8;
    let zeros = "0".repeat(DIGITS);
    let mut line = line.to_string();
    for marker in ["_GLOBAL__N__", "_INTERNAL_"] {
        let mut from = 0;
        while let Some(at) = line[from..].find(marker) {
            from += at + marker.len();
            let Some((length, name)) = line.get(from + DIGITS + 1..).and_then(|rest| rest.split_once('_')) else {
                break;
            };
            let Ok(size) = length.parse::<usize>() else { continue };
            let second = from + DIGITS + 1 + length.len() + 1 + size + 1;
            if name.len() > size + DIGITS {
                line.replace_range(from..from + DIGITS, &zeros);
                line.replace_range(second..second + DIGITS, &zeros);
            }
        }
    }
    line
}

/// The kernels' names.
pub fn entries(ptx: &str) -> Vec<&str> {
    let heads = ptx.lines().filter_map(|line| line.split_once(".entry ").map(|(_, rest)| rest));
    heads.map(|rest| rest.split(['(', ' ']).next().unwrap_or(rest).trim()).collect()
}

/// Functions that are declared and lie in no file of ours.
pub fn undefined_functions(ptx: &str) -> Vec<&str> {
    ptx.lines().filter_map(|line| line.trim().strip_prefix(".extern .func")).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_newer_versions_are_lowered() {
        assert_eq!(normalise(".version 9.0\n"), ".version 8.0\n");
        assert_eq!(normalise(".version 8.1\r\n"), ".version 8.0\n");
        assert_eq!(normalise(".version 7.0\n"), ".version 7.0\n");
    }

    #[test]
    fn paths_are_relative_wherever_the_tree_lies() {
        let cases = [
            ("/a/kernels-rs/b/kernels-cu/x.cu", "kernels-cu/x.cu"),
            ("/home/me/kernels-cu/math.cuh", "kernels-cu/math.cuh"),
            ("C:\\\\me\\\\kernels-cu\\\\math.cuh", "kernels-cu/math.cuh"),
            ("./kernels-rs/lib.rs", "kernels-rs/lib.rs"),
            ("/usr/lib/rustlib/src/rust/library/core/src/num/f32.rs", "core/src/num/f32.rs"),
            ("/r/library/core/src/../../stdarch/crates/nvptx/mod.rs", "stdarch/crates/nvptx/mod.rs"),
            ("/cu13/bin/..//include/crt/math_functions.hpp", "include/crt/math_functions.hpp"),
            ("/tmp/planted.rs", "planted.rs"),
        ];
        for (from, to) in cases {
            assert_eq!(normalise(&format!("\t.file\t1 \"{from}\"\n")), format!("\t.file\t1 \"{to}\"\n"));
        }
    }

    #[test]
    fn lines_stay_and_names_of_inlined_functions_go() {
        let ptx = "\t.loc\t1 7 5, function_name $L__info_string0, inlined_at 1 9 3\n$L__tmp1:\n\tret;\n}\n\
                   \t.section\t.debug_str\n\t{\n$L__info_string0:\n.b8 95,90\n\n\t}\n\t.file\t1 \"a.cu\"\n\
                   \t.section\t.debug_macinfo\t{\t}\n";
        assert_eq!(normalise(ptx), ".loc 1 7 5\n\tret;\n}\n\t.file\t1 \"a.cu\"\n");
    }

    #[test]
    fn comments_and_lines_that_repeat_themselves_go() {
        let ptx = "\t// begin inline asm\n\t.loc\t1 7 5\n\tret;\n\n\t.loc\t1 7 9\n\tret;\n\t.loc\t2 7 9\n\t.loc\t1 8 9\n\
                   $L__BB0_1:\n\tret;\n";
        assert_eq!(normalise(ptx), ".loc 1 7 5\n\tret;\n\tret;\n$L0_1:\n.loc 1 8 9\n\tret;\n");
    }

    #[test]
    fn names_that_are_an_entrys_own_are_short() {
        let ptx = ".visible .entry scan(\n\t.param .u32 scan_param_0\n)\n{\n$L__func_begin0:\n$L__BB0_1:\n\
                   \tld.param.u32 \t%r1, [scan_param_0+4];\n\tbra.uni \t$L__BB0_1;\n}\n\
                   .visible .entry scan2(\n\t.param .u32 scan2_param_0\n)\n";
        let short = ".visible .entry scan(\n\t.param .u32 param_0\n)\n{\n$L0_1:\n\
                     \tld.param.u32 %r1,[param_0+4];\n\tbra.uni $L0_1;\n}\n\
                     .visible .entry scan2(\n\t.param .u32 param_0\n)\n";
        assert_eq!(normalise(ptx), short);
    }

    #[test]
    fn labels_that_are_jumped_to_stay() {
        let ptx = "$L__tmp1:\n\tbra.uni \t$L__tmp1;\n$L__tmp12:\n\tadd.s32 \t%r1, %r2, 3;\n";
        assert_eq!(normalise(ptx), "$L__tmp1:\n\tbra.uni $L__tmp1;\n\tadd.s32 %r1,%r2,3;\n");
    }

    #[test]
    fn hints_that_the_version_does_not_have_go() {
        let ptx = "\t.pragma \"used_bytes_mask 0x0fff\";\n\t.pragma \"nounroll\";\n";
        assert_eq!(normalise(ptx), "\t.pragma \"nounroll\";\n");
    }

    #[test]
    fn hashes_of_paths_become_zeros() {
        let name = |a: &str, b: &str| {
            format!(".shared .b8 _ZN48_INTERNAL_{a}_4_a_cu_{b}50_GLOBAL__N__{a}_4_a_cu_{b}4scanE1B[{a}];\n")
        };
        assert_eq!(
            normalise(&name("fa56ca5e", "0dcb0148")),
            name("00000000", "00000000").replace("[00000000]", "[fa56ca5e]")
        );
        assert_eq!(normalise("call _INTERNAL_x;\n"), "call _INTERNAL_x;\n");
    }

    #[test]
    fn entries_and_undefined_functions_are_found() {
        let ptx = "// .globl a\n.visible .entry scan_f32(\n)\n.entry scan_f16 ()\n.extern .func  (.param .b32 r) f\n";
        assert_eq!(entries(ptx), ["scan_f32", "scan_f16"]);
        assert_eq!(undefined_functions(ptx), ["(.param .b32 r) f"]);
    }
}

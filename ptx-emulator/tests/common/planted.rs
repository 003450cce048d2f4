//! For tests of planted bugs: what was found, and on which line of the source.

use super::common::*;

/// A compiled program of planted bugs beside its source.
pub struct Planted {
    pub module: Module,
    file: String,
    source: &'static str,
}

/// `planted!("name")`: tests/ptx/name.ptx with tests/cuda/name.cu.
macro_rules! planted {
    ($name:literal) => {
        planted::Planted::new(
            ptx!($name),
            concat!("tests/cuda/", $name, ".cu"),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cuda/", $name, ".cu")),
        )
    };
}

impl Planted {
    pub fn new(ptx: &str, file: &str, source: &'static str) -> Self {
        Self { module: module(ptx), file: file.into(), source }
    }

    /// The line marked `planted: name`.
    fn line(&self, name: &str) -> u32 {
        let mark = format!("// planted: {name}");
        let marked: Vec<_> = self.source.lines().enumerate().filter(|(_, line)| line.ends_with(&mark)).collect();
        assert_eq!(marked.len(), 1, "marks of {name}");
        marked[0].0 as u32 + 1
    }

    /// Something was found, all of this kind and in this kernel.
    pub fn assert_only(&self, report: &Report, kernel: &str, kind: FindingKind) {
        assert!(!report.is_clean() && !report.findings().is_empty(), "{kernel}: nothing was found");
        for finding in report.findings() {
            assert_eq!(finding.kind, kind, "{kernel}:\n{report}");
            assert_eq!(finding.kernel, kernel);
            assert!(finding.ptx_line > 0 && !finding.instruction.is_empty(), "{kernel}:\n{report}");
        }
        let shown = report.to_string();
        assert!(shown.contains(kernel), "{shown}");
    }

    /// As `assert_only`, and one of them on the marked line.
    pub fn assert_found(&self, report: &Report, kernel: &str, kind: FindingKind) -> Finding {
        self.assert_only(report, kernel, kind);
        self.assert_line(report, kernel, kind)
    }

    /// One finding of the kind is on the marked line.
    pub fn assert_line(&self, report: &Report, kernel: &str, kind: FindingKind) -> Finding {
        let place = Some((self.file.clone(), self.line(kernel)));
        let found = report.findings().iter().find(|finding| finding.kind == kind && finding.source == place);
        found.unwrap_or_else(|| panic!("{kernel}: no {kind:?} at {place:?}:\n{report}")).clone()
    }
}

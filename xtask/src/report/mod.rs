//! `cargo xtask report`: what the kernels' machine code costs, counted without a GPU. How, its page says
//! (docs/kernel-report.md; `page.rs`).

#[cfg(feature = "report")]
mod assemble;
#[cfg(feature = "report")]
#[allow(non_snake_case)]
mod calls;
#[cfg(feature = "report")]
mod chart;
#[cfg(feature = "report")]
mod classes;
#[cfg(feature = "report")]
mod counts;
#[cfg(feature = "report")]
mod devices;
#[cfg(feature = "report")]
mod flow;
#[cfg(feature = "report")]
mod gather;
#[cfg(feature = "report")]
mod limits;
#[cfg(feature = "report")]
mod model;
#[cfg(feature = "report")]
mod original;
#[cfg(feature = "report")]
mod page;
#[cfg(feature = "report")]
mod sass;
#[cfg(feature = "report")]
mod weigh;

/// The library is not compiled into every xtask: this one builds the one that has it, and hands over. It embeds the
/// committed PTX, whatever compilers are named.
#[cfg(not(feature = "report"))]
pub fn run(check: bool) -> Result<(), String> {
    crate::with_feature("report", check, &[("SSM_PTX", "committed")])
}

#[cfg(feature = "report")]
pub use with_library::run;

#[cfg(feature = "report")]
mod with_library {
    use super::{assemble, chart, gather, limits, page};
    use crate::{build, root};

    const PAGE: &str = "docs/kernel-report.md";
    const CHART: &str = "docs/kernel-report.svg";

    /// Writes both files, or compares them; fails on what is beyond its limit.
    pub fn run(check: bool) -> Result<(), String> {
        let tools = assemble::Tools::find()?;
        let limits = limits::read()?;
        let gathered = gather::gather(&tools)?;
        let made_by = ssm_kernels::gpu::COMPILERS.join(" and ");
        let measures = gathered.measures();
        for (name, number) in &measures {
            println!("{name:<44} {number:>9.3}");
        }
        let mut wrong = limits::broken(&limits, &measures);
        let files = [(PAGE, page::page(&gathered, &limits, &made_by)), (CHART, chart::svg(&gathered))];
        for (path, text) in &files {
            match check {
                true => wrong.extend(difference(path, text, &page::compilers(&tools.versions))?),
                false => build::write(&root().join(path), text)?,
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    }

    /// None where other compilers made the committed files, which is said.
    fn difference(path: &str, text: &str, compilers: &str) -> Result<Option<String>, String> {
        let committed = build::read(&root().join(path))?.replace('\r', "");
        if !build::read(&root().join(PAGE))?.contains(compilers) {
            println!("ATTENTION: {path} is not compared. Here it would be: {compilers}");
            return Ok(None);
        }
        let mut pairs = committed.lines().zip(text.lines()).enumerate();
        Ok((committed != text).then(|| match pairs.find(|(_, (old, new))| old != new) {
            Some((i, (old, new))) => {
                format!("{path}, line {}, is not current (`cargo xtask report`):\n  {old}\n  {new}", i + 1)
            }
            None => format!("{path} is not current (`cargo xtask report`): another number of lines"),
        }))
    }
}

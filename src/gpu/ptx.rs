//! The PTX that the build script embedded.

use crate::error::{Error, Result};

/// One PTX file: an operator, a direction, a dtype.
///
/// ```
/// use ssm_kernels::gpu::MODULES;
/// let module = MODULES.iter().find(|module| module.unit == "state_update_fwd_bf16").expect("one of each dtype");
/// assert!(module.entries.contains(&"state_update_fwd_bf16_state_f32") && module.ptx.contains(".target sm_80"));
/// ```
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Module {
    /// `<op>_<fwd|bwd|update>_<dtype>`.
    pub unit: &'static str,
    /// Names of its kernels.
    pub entries: &'static [&'static str],
    /// The text.
    pub ptx: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/ptx.rs"));

/// The module and the entry that a plan names.
pub(super) fn find(op: &'static str, kernel: &str) -> Result<(&'static Module, &'static str)> {
    let mut entries = MODULES.iter().flat_map(|module| module.entries.iter().map(move |entry| (module, *entry)));
    entries.find(|(_, entry)| *entry == kernel).ok_or_else(|| Error::Unsupported {
        op,
        what: format!("kernel {kernel}"),
        expected: "one that this build embeds".into(),
    })
}

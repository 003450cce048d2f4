//! The backends that suites run on. A backend is added by its type here and one line in [`suites`].

use super::buffer::Buffer;
use super::conv::{ConvBuffers, ConvCase, ConvGradients, ConvUpstream};
use super::conv_update::ConvUpdateCase;
use super::discretise::{DiscretiseBuffers, DiscretiseCase, GradientBuffers};
use super::say;
use super::scan::{ScanBuffers, ScanCase};
use super::scan_backward::{CarryCase, ScanGradients, ScanUpstream};
use super::squared_attention::{AttentionBuffers, AttentionCase};
use super::squared_attention_backward::{AttentionGradients, AttentionUpstream};
use super::squared_attention_update::{AttentionUpdateBuffers, AttentionUpdateCase};
use super::state_update::{UpdateBuffers, UpdateCase};
use ssm_kernels::prelude::*;
use ssm_kernels::{Element, Result, WorkspaceBlock};

/// Instantiates tests, generic over backend and dtype, for every backend and dtype: `suites!(lengths, packed)`. Those of an
/// operator that some backends do not have, for one backend: `suites!(only cpu: lengths, packed)`.
#[macro_export]
macro_rules! suites {
    (only cpu: $($test:ident),+) => {
        $crate::suites!(@backend cpu, $crate::common::backends::CpuBackend, $($test),+);
    };
    (only emulator: $($test:ident),+) => {
        #[cfg(feature = "emulator")]
        $crate::suites!(@backend emulator, $crate::common::emulator::EmulatorBackend, $($test),+);
    };
    (only cuda: $($test:ident),+) => {
        #[cfg(feature = "cuda")]
        $crate::suites!(@backend cuda, $crate::common::cuda::CudaBackend, $($test),+);
    };
    (only on_cust: $($test:ident),+) => {
        #[cfg(feature = "cust")]
        $crate::suites!(@backend on_cust, $crate::common::cust::CustBackend, $($test),+);
    };
    ($($test:ident),+) => {
        $crate::suites!(only cpu: $($test),+);
        $crate::suites!(only emulator: $($test),+);
        $crate::suites!(only cuda: $($test),+);
        $crate::suites!(only on_cust: $($test),+);
    };
    (@backend $name:ident, $backend:ty, $($test:ident),+) => {
        mod $name {
            $crate::suites!(@dtype f32, f32, $backend, $($test),+);
            $crate::suites!(@dtype f16, half::f16, $backend, $($test),+);
            $crate::suites!(@dtype bf16, half::bf16, $backend, $($test),+);
        }
    };
    (@dtype $name:ident, $dtype:ty, $backend:ty, $($test:ident),+) => {
        mod $name {
            $(
                #[test]
                fn $test() {
                    super::super::$test::<$backend, $dtype>();
                }
            )+
        }
    };
}

/// What a suite needs of a backend. Buffers lie on the host; a device backend copies them both ways, surroundings
/// included.
pub trait Backend: Sized {
    const NAME: &'static str;
    /// Bound on the error of exp, softplus, its derivative and silu in f32, in ulp of the result.
    const PRIMITIVE_ULPS: f64;
    /// The backend, or why it is absent on this machine.
    fn open() -> std::result::Result<Self, String>;
    /// Drawn cases are divided by this: more than 1 for a backend that is slow.
    fn share(&self) -> u32 {
        1
    }
    /// So slow that suites leave out cases that differ in the I/O dtype alone.
    fn slow(&self) -> bool {
        false
    }
    /// The same backend in another mode, if the case of this number is to be run in it too.
    fn again(&self, _case: u64) -> Option<Self> {
        None
    }
    /// For messages: the mode, with its seed.
    fn mode(&self) -> String {
        String::new()
    }
    fn selective_scan_forward<T: Element>(&self, case: &ScanCase<T>, outputs: &mut ScanBuffers<T>) -> Result<()>;
    fn discretise_forward<T: Element>(&self, case: &DiscretiseCase<T>, outputs: &mut DiscretiseBuffers) -> Result<()>;
    fn selective_scan_backward<T: Element>(
        &self,
        case: &ScanCase<T>,
        upstream: &ScanUpstream<T>,
        gradients: &mut ScanGradients<T>,
    ) -> Result<()>;
    fn selective_scan_carry(&self, case: &CarryCase, carried: &mut Buffer<f32>) -> Result<()>;
    fn discretise_backward<T: Element>(&self, case: &DiscretiseCase<T>, outputs: &mut GradientBuffers<T>)
    -> Result<()>;
    fn causal_conv1d_forward<T: Element, W: Element>(
        &self,
        case: &ConvCase<T, W>,
        outputs: &mut ConvBuffers<T>,
    ) -> Result<()>;
    fn causal_conv1d_backward<T: Element, W: Element>(
        &self,
        case: &ConvCase<T, W>,
        upstream: &ConvUpstream<T>,
        gradients: &mut ConvGradients<T, W>,
    ) -> Result<()>;
    /// `state` holds the state before the call.
    fn causal_conv1d_update<T: Element, W: Element>(
        &self,
        case: &ConvUpdateCase<T, W>,
        out: &mut Buffer<T>,
        state: &mut Buffer<T>,
    ) -> Result<()>;
    fn state_update<T: Element, H: Element>(
        &self,
        case: &UpdateCase<T, H>,
        outputs: &mut UpdateBuffers<T, H>,
    ) -> Result<()>;
}

/// What the suites of squared attention need of a backend that has it.
pub trait SquaredAttentionBackend: Backend {
    fn squared_attention_forward<T: Element>(
        &self,
        case: &AttentionCase<T>,
        outputs: &mut AttentionBuffers<T>,
    ) -> Result<()>;
    fn squared_attention_backward<T: Element>(
        &self,
        case: &AttentionCase<T>,
        upstream: &AttentionUpstream<T>,
        gradients: &mut AttentionGradients<T>,
    ) -> Result<()>;
    /// `outputs` holds state and norm before the call.
    fn squared_attention_update<T: Element, H: Element>(
        &self,
        case: &AttentionUpdateCase<T, H>,
        outputs: &mut AttentionUpdateBuffers<T, H>,
    ) -> Result<()>;
}

/// The backend, or `None` after saying aloud that it is skipped. `SSM_REQUIRE=cpu,emulator` makes absence a failure.
pub fn open<B: Backend>() -> Option<B> {
    let required = required();
    match B::open() {
        Ok(backend) => Some(backend),
        Err(why) if required.iter().any(|name| name == B::NAME) => {
            panic!("backend {} is required by SSM_REQUIRE and absent: {why}", B::NAME)
        }
        Err(why) => {
            say(format_args!("SKIPPED: backend {} is absent: {why}", B::NAME));
            None
        }
    }
}

/// The backends that `SSM_REQUIRE` names. One that no suite runs on cannot be required: its absence is a failure too.
fn required() -> Vec<String> {
    let list = std::env::var("SSM_REQUIRE").unwrap_or_default();
    let names = list.split(',').map(|name| name.trim().to_string()).filter(|name| !name.is_empty());
    let names: Vec<String> = names.collect();
    let known = [
        CpuBackend::NAME,
        #[cfg(feature = "emulator")]
        super::emulator::EmulatorBackend::NAME,
        #[cfg(feature = "cuda")]
        super::cuda::CudaBackend::NAME,
        #[cfg(feature = "cust")]
        super::cust::CustBackend::NAME,
    ];
    for name in &names {
        let expected = known.join(", ");
        assert!(known.contains(&name.as_str()), "SSM_REQUIRE names {name}, expected a backend with suites: {expected}");
    }
    names
}

/// Runs `check` on the backend, and for some cases in its other mode too. `case` is all that makes the case: its text
/// stands in messages, and chooses.
pub fn in_modes<B: Backend>(backend: &B, case: &impl std::fmt::Debug, check: impl Fn(&B, &str)) {
    let text = format!("{case:?}");
    // FNV-1a.
    let number = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let other = backend.again(number >> 8);
    for backend in std::iter::once(backend).chain(&other) {
        check(backend, &format!("{} {} {text}", B::NAME, backend.mode()));
    }
}

/// The CPU backend in the current rayon pool.
pub struct CpuBackend;

/// Workspace of exactly the planned size, full of NaN.
pub fn dirty(plan: &Plan) -> Vec<WorkspaceBlock> {
    vec![WorkspaceBlock::filled(0xff); plan.workspace_blocks()]
}

impl Backend for CpuBackend {
    const NAME: &'static str = "cpu";
    const PRIMITIVE_ULPS: f64 = 3.0;

    fn open() -> std::result::Result<Self, String> {
        Ok(Self)
    }

    crate::host_tensors!(self => Cpu::new());
}

impl SquaredAttentionBackend for CpuBackend {
    crate::host_squared_attention!(self => Cpu::new());
}

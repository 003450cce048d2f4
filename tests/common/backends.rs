//! The backends that suites run on. A backend is added by its type here and one line in [`suites`].

use super::buffer::Buffer;
use super::conv::{ConvBuffers, ConvCase, ConvGradients, ConvUpstream};
use super::conv_update::ConvUpdateCase;
use super::discretise::{DiscretiseBuffers, DiscretiseCase, GradientBuffers};
use super::say;
use super::scan::{ScanBuffers, ScanCase};
use super::scan_backward::{CarryCase, ScanGradients, ScanUpstream};
use super::state_update::{UpdateBuffers, UpdateCase};
use ssm_kernels::prelude::*;
use ssm_kernels::{Element, Result, WorkspaceBlock};

/// Instantiates tests, generic over backend and dtype, for every backend and dtype: `suites!(lengths, packed)`.
#[macro_export]
macro_rules! suites {
    ($($test:ident),+) => {
        $crate::suites!(@backend cpu, $crate::common::backends::CpuBackend, $($test),+);
        #[cfg(feature = "emulator")]
        $crate::suites!(@backend emulator, $crate::common::emulator::EmulatorBackend, $($test),+);
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
                    $crate::$test::<$backend, $dtype>();
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
    /// Drawn cases are divided by this: more than 1 for a backend that is slow.
    const SHARE: u32 = 1;
    /// So slow that suites leave out cases that differ in the I/O dtype alone.
    const SLOW: bool = false;
    /// The backend, or why it is absent on this machine.
    fn open() -> std::result::Result<Self, String>;
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
fn dirty(plan: &Plan) -> Vec<WorkspaceBlock> {
    vec![WorkspaceBlock::filled(0xff); plan.workspace_blocks()]
}

impl Backend for CpuBackend {
    const NAME: &'static str = "cpu";
    const PRIMITIVE_ULPS: f64 = 3.0;

    fn open() -> std::result::Result<Self, String> {
        Ok(Self)
    }

    fn selective_scan_forward<T: Element>(&self, case: &ScanCase<T>, outputs: &mut ScanBuffers<T>) -> Result<()> {
        let scan = case.scan()?;
        let plan = Cpu::new().forward_plan(&scan)?;
        let (mut out, mut final_state, mut chunk_states, mut delta_sum) = (
            outputs.out.as_mut().map(Buffer::view_mut),
            outputs.final_state.as_mut().map(Buffer::view_mut),
            outputs.chunk_states.as_mut().map(|(every, buffer)| (*every, buffer.view_mut())),
            outputs.delta_sum.as_mut().map(Buffer::view_mut),
        );
        let mut wanted = match &mut out {
            Some(out) => SelectiveScanOutputs::new(out),
            None => SelectiveScanOutputs::states_only(),
        };
        if let Some(view) = &mut delta_sum {
            wanted = wanted.delta_sum(view);
        }
        if let Some(view) = &mut final_state {
            wanted = wanted.final_state(view);
        }
        if let Some((every, view)) = &mut chunk_states {
            wanted = wanted.chunk_states(*every, view);
        }
        Cpu::new().forward_with(&scan, wanted, &plan, (&mut dirty(&plan)).into())
    }

    fn discretise_forward<T: Element>(&self, case: &DiscretiseCase<T>, outputs: &mut DiscretiseBuffers) -> Result<()> {
        let op = case.op()?;
        let plan = Cpu::new().forward_plan(&op)?;
        let mut delta = outputs.delta.view_mut();
        let mut A_bar = outputs.A_bar.view_mut();
        let mut B_bar = outputs.B_bar.view_mut();
        let mut B_prev_bar = outputs.B_prev_bar.as_mut().map(Buffer::view_mut);
        let mut wanted = DiscretiseOutputs::new().delta(&mut delta).A_bar(&mut A_bar).B_bar(&mut B_bar);
        if let Some(view) = &mut B_prev_bar {
            wanted = wanted.B_prev_bar(view);
        }
        Cpu::new().forward_with(&op, wanted, &plan, (&mut dirty(&plan)).into())
    }

    fn discretise_backward<T: Element>(
        &self,
        case: &DiscretiseCase<T>,
        outputs: &mut GradientBuffers<T>,
    ) -> Result<()> {
        let op = case.op()?;
        let plan = Cpu::new().backward_plan(&op)?;
        let (mut ddt, mut ddt_bias) = (outputs.ddt.view_mut(), outputs.ddt_bias.view_mut());
        let (mut dA, mut dB) = (outputs.dA.view_mut(), outputs.dB.view_mut());
        let mut dlambda = outputs.dlambda.as_mut().map(Buffer::view_mut);
        let mut wanted = DiscretiseGradients::new().ddt(&mut ddt).ddt_bias(&mut ddt_bias).dA(&mut dA).dB(&mut dB);
        if let Some(view) = &mut dlambda {
            wanted = wanted.dlambda(view);
        }
        Cpu::new().backward_with(&op, case.upstream(), wanted, &plan, (&mut dirty(&plan)).into())
    }

    fn selective_scan_backward<T: Element>(
        &self,
        case: &ScanCase<T>,
        upstream: &ScanUpstream<T>,
        gradients: &mut ScanGradients<T>,
    ) -> Result<()> {
        let scan = case.scan()?;
        let plan = Cpu::new().backward_plan(&scan)?;
        gradients.with_views(|wanted| {
            Cpu::new().backward_with(&scan, upstream.views(), wanted, &plan, (&mut dirty(&plan)).into())
        })
    }

    fn selective_scan_carry(&self, case: &CarryCase, carried: &mut Buffer<f32>) -> Result<()> {
        Cpu::new().forward(&case.op()?, SelectiveScanCarryOutputs::new(&mut carried.view_mut()))
    }
    fn causal_conv1d_forward<T: Element, W: Element>(
        &self,
        case: &ConvCase<T, W>,
        outputs: &mut ConvBuffers<T>,
    ) -> Result<()> {
        let op = case.op()?;
        let plan = Cpu::new().forward_plan(&op)?;
        let (mut out, mut state) = (outputs.out.view_mut(), outputs.final_state.as_mut().map(Buffer::view_mut));
        let wanted = state.iter_mut().fold(CausalConv1dOutputs::new(&mut out), CausalConv1dOutputs::final_state);
        Cpu::new().forward_with(&op, wanted, &plan, (&mut dirty(&plan)).into())
    }

    fn causal_conv1d_backward<T: Element, W: Element>(
        &self,
        case: &ConvCase<T, W>,
        upstream: &ConvUpstream<T>,
        gradients: &mut ConvGradients<T, W>,
    ) -> Result<()> {
        let op = case.op()?;
        let plan = Cpu::new().backward_plan(&op)?;
        gradients.with_views(|wanted| {
            Cpu::new().backward_with(&op, upstream.views(), wanted, &plan, (&mut dirty(&plan)).into())
        })
    }

    fn causal_conv1d_update<T: Element, W: Element>(
        &self,
        case: &ConvUpdateCase<T, W>,
        out: &mut Buffer<T>,
        state: &mut Buffer<T>,
    ) -> Result<()> {
        let op = case.op()?;
        let plan = Cpu::new().forward_plan(&op)?;
        let (mut out, mut state) = (out.view_mut(), state.view_mut());
        let wanted = CausalConv1dUpdateOutputs::new(&mut out, &mut state);
        Cpu::new().forward_with(&op, wanted, &plan, (&mut dirty(&plan)).into())
    }

    fn state_update<T: Element, H: Element>(
        &self,
        case: &UpdateCase<T, H>,
        outputs: &mut UpdateBuffers<T, H>,
    ) -> Result<()> {
        let op = case.op()?;
        let plan = Cpu::new().forward_plan(&op)?;
        let (mut state, mut out) = (outputs.state.view_mut(), outputs.out.view_mut());
        let mut token_states = outputs.token_states.as_mut().map(Buffer::view_mut);
        let wanted = StateUpdateOutputs::new(&mut state, &mut out);
        let wanted = token_states.iter_mut().fold(wanted, StateUpdateOutputs::token_states);
        Cpu::new().forward_with(&op, wanted, &plan, (&mut dirty(&plan)).into())
    }
}

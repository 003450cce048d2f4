//! The backward direction of the selective scan: upstream gradients, gradients, and its naive loop.

use super::buffer::{Buffer, Order};
use super::random::Random;
use super::scan::{ProjectionBuffer, ScanCase, ScanSpec};
use proptest::strategy::Strategy;
use ssm_kernels::prelude::*;
use ssm_kernels::reference::accuracy::{Loop, Yardstick};
use ssm_kernels::reference::selective_scan::Gradients;
use ssm_kernels::reference::{Real, selective_scan as reference};
use ssm_kernels::{Element, Result};

/// The names of all gradients, in the order of everything here.
pub const GRADIENTS: [&str; 9] = ["dx", "ddt", "dz", "dA", "dB", "dC", "dD", "ddt_bias", "dinitial_state"];

/// Cases whose steps are not negative: where gradients grow to the end of the range, one element whose terms cancel
/// decides the tensor's yardstick, and luck that element. `growing` has such cases by intent.
pub fn spec() -> impl Strategy<Value = ScanSpec> {
    super::scan::spec().prop_map(|spec| {
        let dt_limit = spec.dt_limit || (spec.dt_bias && !spec.dt_softplus);
        ScanSpec { dt_limit, ..spec }
    })
}

/// What backward reads beside the inputs.
#[derive(Debug, Clone)]
pub struct ScanUpstream<T> {
    pub dout: Option<Buffer<T>>,
    pub dfinal_state: Option<Buffer<f32>>,
    pub checkpoints: Option<(usize, Buffer<f32>)>,
}

impl<T: Element> ScanUpstream<T> {
    /// Random ones; at least one of the two.
    pub fn new(case: &ScanCase<T>, dout: bool, dfinal_state: bool, order: Order, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let state = state_dims(case);
        Self {
            dout: (dout || !dfinal_state).then(|| Buffer::filled(&case.x.dims(), order, || random.normal())),
            dfinal_state: dfinal_state.then(|| Buffer::filled(&state, order, || random.normal())),
            checkpoints: None,
        }
    }

    pub fn views(&self) -> SelectiveScanUpstream<'_, T> {
        let mut upstream = SelectiveScanUpstream::new();
        if let Some(dout) = &self.dout {
            upstream = upstream.dout(dout.view());
        }
        if let Some(dfinal_state) = &self.dfinal_state {
            upstream = upstream.dfinal_state(dfinal_state.view());
        }
        if let Some((every, checkpoints)) = &self.checkpoints {
            upstream = upstream.checkpoints(*every, checkpoints.view());
        }
        upstream
    }
}

/// The dimensions of the states of a case.
pub fn state_dims<T: Element>(case: &ScanCase<T>) -> [(&'static str, usize); 3] {
    let dims = case.scan().and_then(|scan| scan.dims()).expect("a valid case");
    [("batch", dims.nseqs), ("dim", dims.dim), ("dstate", dims.dstate)]
}

/// Gradients that are asked for, NaN until a backend writes them.
#[derive(Debug, Clone)]
pub struct ScanGradients<T> {
    pub dx: Option<Buffer<T>>,
    pub ddt: Option<Buffer<T>>,
    pub dz: Option<Buffer<T>>,
    pub dA: Option<Buffer<f32>>,
    pub dB: Option<ProjectionBuffer<T>>,
    pub dC: Option<ProjectionBuffer<T>>,
    pub dD: Option<Buffer<f32>>,
    pub ddt_bias: Option<Buffer<f32>>,
    pub dinitial_state: Option<Buffer<f32>>,
}

impl<T: Element> ScanGradients<T> {
    /// Those of `wanted` that the case has.
    pub fn new(case: &ScanCase<T>, wanted: &[&str], order: Order) -> Self {
        let want = |name: &str| wanted.contains(&name);
        let io = |name: &str| want(name).then(|| Buffer::poisoned(&case.x.dims(), order));
        let channel = |name: &str, has: bool| (has && want(name)).then(|| Buffer::poisoned(&case.A.dims()[..1], order));
        let projection = |name: &str, like: &ProjectionBuffer<T>| {
            want(name).then(|| match like {
                ProjectionBuffer::Variable(b) => ProjectionBuffer::Variable(Buffer::poisoned(&b.dims(), order)),
                ProjectionBuffer::Constant(b) => ProjectionBuffer::Constant(Buffer::poisoned(&b.dims(), order)),
            })
        };
        Self {
            dx: io("dx"),
            ddt: io("ddt"),
            dz: io("dz").filter(|_| case.z.is_some()),
            dA: want("dA").then(|| Buffer::poisoned(&case.A.dims(), order)),
            dB: projection("dB", &case.B),
            dC: projection("dC", &case.C),
            dD: channel("dD", case.D.is_some()),
            ddt_bias: channel("ddt_bias", case.dt_bias.is_some()),
            dinitial_state: want("dinitial_state").then(|| Buffer::poisoned(&state_dims(case), order)),
        }
    }

    /// Calls `run` with a view of each.
    pub fn with_views<R>(&mut self, run: impl FnOnce(SelectiveScanGradients<'_, T>) -> R) -> R {
        fn projection<T: Element>(buffer: &mut ProjectionBuffer<T>) -> ProjectionMut<'_, T> {
            match buffer {
                ProjectionBuffer::Variable(buffer) => ProjectionMut::Variable(buffer.view_mut()),
                ProjectionBuffer::Constant(buffer) => ProjectionMut::Constant(buffer.view_mut()),
            }
        }
        let (dB, dC) = (self.dB.as_mut().map(projection), self.dC.as_mut().map(projection));
        let mut io = [&mut self.dx, &mut self.ddt, &mut self.dz].map(|b| b.as_mut().map(Buffer::view_mut));
        let mut wide = [&mut self.dA, &mut self.dD, &mut self.ddt_bias, &mut self.dinitial_state]
            .map(|b| b.as_mut().map(Buffer::view_mut));
        let ([dx, ddt, dz], [dA, dD, ddt_bias, dinitial_state]) = (&mut io, &mut wide);
        let mut wanted = SelectiveScanGradients::new();
        wanted = dx.iter_mut().fold(wanted, SelectiveScanGradients::dx);
        wanted = ddt.iter_mut().fold(wanted, SelectiveScanGradients::ddt);
        wanted = dz.iter_mut().fold(wanted, SelectiveScanGradients::dz);
        wanted = dA.iter_mut().fold(wanted, SelectiveScanGradients::dA);
        wanted = dB.into_iter().fold(wanted, SelectiveScanGradients::dB);
        wanted = dC.into_iter().fold(wanted, SelectiveScanGradients::dC);
        wanted = dD.iter_mut().fold(wanted, SelectiveScanGradients::dD);
        wanted = ddt_bias.iter_mut().fold(wanted, SelectiveScanGradients::ddt_bias);
        wanted = dinitial_state.iter_mut().fold(wanted, SelectiveScanGradients::dinitial_state);
        run(wanted)
    }

    pub fn is_empty(&self) -> bool {
        self.each().iter().all(Option::is_none)
    }

    /// In the order of [`GRADIENTS`].
    pub fn each(&self) -> [Option<AnyBuffer<'_, T>>; 9] {
        fn io<T>(buffer: &Option<Buffer<T>>) -> Option<AnyBuffer<'_, T>> {
            buffer.as_ref().map(AnyBuffer::Io)
        }
        fn wide<T>(buffer: &Option<Buffer<f32>>) -> Option<AnyBuffer<'_, T>> {
            buffer.as_ref().map(AnyBuffer::F32)
        }
        fn projection<T>(buffer: &Option<ProjectionBuffer<T>>) -> Option<AnyBuffer<'_, T>> {
            match buffer.as_ref()? {
                ProjectionBuffer::Variable(buffer) => Some(AnyBuffer::Io(buffer)),
                ProjectionBuffer::Constant(buffer) => Some(AnyBuffer::F32(buffer)),
            }
        }
        [
            io(&self.dx),
            io(&self.ddt),
            io(&self.dz),
            wide(&self.dA),
            projection(&self.dB),
            projection(&self.dC),
            wide(&self.dD),
            wide(&self.ddt_bias),
            wide(&self.dinitial_state),
        ]
    }
}

/// A gradient of either dtype.
#[derive(Debug, Clone, Copy)]
pub enum AnyBuffer<'b, T> {
    Io(&'b Buffer<T>),
    F32(&'b Buffer<f32>),
}

impl<T: Element> AnyBuffer<'_, T> {
    pub fn bits(&self) -> Vec<u32> {
        match self {
            Self::Io(buffer) => buffer.bits(),
            Self::F32(buffer) => buffer.bits(),
        }
    }

    pub fn dense(&self) -> Vec<f64> {
        match self {
            Self::Io(buffer) => buffer.dense(),
            Self::F32(buffer) => buffer.dense(),
        }
    }

    pub fn expect_accurate(&self, label: &str, yardstick: &Yardstick) {
        match self {
            Self::Io(buffer) => super::compare::expect_accurate(label, buffer, yardstick),
            Self::F32(buffer) => super::compare::expect_accurate(label, buffer, yardstick),
        }
    }
}

/// The naive backward direction: all gradients, in the order of [`GRADIENTS`].
pub struct NaiveScanBackward<'c, T> {
    pub case: &'c ScanCase<T>,
    pub upstream: &'c ScanUpstream<T>,
}

impl<T: Element> NaiveScanBackward<'_, T> {
    /// What the gradients are judged by, in that order.
    pub fn yardsticks(&self) -> Vec<Yardstick> {
        let dims = self.case.scan().and_then(|scan| scan.dims()).expect("a valid case");
        let projection = |projection: &ProjectionBuffer<T>| match projection {
            ProjectionBuffer::Variable(_) => dims.seqlen,
            ProjectionBuffer::Constant(_) => dims.dstate,
        };
        let (seqlen, dim, dstate) = (dims.seqlen, dims.dim, dims.dstate);
        let (dB, dC) = (projection(&self.case.B), projection(&self.case.C));
        Yardstick::measure(self, &[seqlen, seqlen, seqlen, dstate, dB, dC, dim, dim, dstate])
    }
}

impl<T: Element> Loop for NaiveScanBackward<'_, T> {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let scan = self.case.scan().expect("a valid case");
        let run = reference::backward::<R, T>(&scan, self.upstream.views()).expect("a valid case");
        let Gradients { dx, ddt, dz, dA, dB, dC, dD, ddt_bias, dinitial_state, .. } = run;
        let all = [dx, ddt, dz, dA, dB, dC, dD, ddt_bias, dinitial_state];
        all.map(|tensor| tensor.into_iter().map(R::to_f64).collect()).into()
    }
}

/// The tensors of a carry pass.
#[derive(Debug, Clone)]
pub struct CarryCase {
    pub A: Buffer<f32>,
    pub delta_sum: Buffer<f32>,
    pub states: Buffer<f32>,
    pub initial: Option<Buffer<f32>>,
    pub reverse: bool,
}

impl CarryCase {
    pub fn op(&self) -> Result<SelectiveScanCarry<'_>> {
        let op = SelectiveScanCarry::new(self.A.view(), self.delta_sum.view(), self.states.view())?;
        let op = op.reverse(self.reverse);
        Ok(match &self.initial {
            Some(initial) => op.initial(initial.view()),
            None => op,
        })
    }
}

impl Loop for CarryCase {
    fn run<R: Real>(&self) -> Vec<Vec<f64>> {
        let carried = reference::carry::<R>(&self.op().expect("a valid case")).expect("a valid case");
        vec![carried.into_iter().map(R::to_f64).collect()]
    }
}

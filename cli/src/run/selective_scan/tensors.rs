//! The inputs of a selective scan: loaded, laid out, checked against the metadata.

use super::backward::Gradient;
use super::{OP, Options};
use crate::args::Layout;
use crate::error::{CliError, Result};
use crate::input::{Input, Typed};
use crate::memory::Memory;
use crate::metadata::Metadata;
use crate::run::shaped::{converted, needed, segments};
use crate::tensor::Io;
use ssm_kernels::ops::selective_scan::Dims;
use ssm_kernels::prelude::*;
use std::borrow::Cow;

pub(crate) use crate::run::shaped::Shaped;
pub(super) use crate::run::shaped::{channel_first, sequence, sequence_view, sequence_view_mut, shaped};

/// B or C: four dimensions in the case's dtype, or two in f32.
pub(crate) enum Projected<'f, T: Clone> {
    Variable(Shaped<'f, T, 4>),
    Constant(Shaped<'f, f32, 2>),
}

/// Every input that the file has.
pub(crate) struct Tensors<'f, T: Clone> {
    pub layout: Layout,
    pub x: Shaped<'f, T, 3>,
    pub dt: Shaped<'f, T, 3>,
    pub A: Shaped<'f, f32, 2>,
    pub B: Projected<'f, T>,
    pub C: Projected<'f, T>,
    pub D: Option<Shaped<'f, f32, 1>>,
    pub z: Option<Shaped<'f, T, 3>>,
    pub dt_bias: Option<Shaped<'f, f32, 1>>,
    pub initial_state: Option<Shaped<'f, f32, 3>>,
    pub segments: Option<Segments>,
}

impl<'f, T: Io> Tensors<'f, T> {
    /// From a file, x, dt and z copied into the memory order of `layout`.
    pub fn load(input: &Input<'f>, layout: Layout, memory: &mut Memory) -> Result<Self> {
        let mut sequence = |name: &str| sequence::<T>(input, name, layout, memory);
        Ok(Self {
            layout,
            x: needed(input, "x", sequence("x")?)?,
            dt: needed(input, "dt", sequence("dt")?)?,
            A: needed(input, "A", shaped(input, "A", ["dim", "dstate"])?)?,
            B: projected(input, "B")?,
            C: projected(input, "C")?,
            D: shaped(input, "D", ["dim"])?,
            z: sequence("z")?,
            dt_bias: shaped(input, "dt_bias", ["dim"])?,
            initial_state: shaped(input, "initial_state", ["batch", "dim", "dstate"])?,
            segments: segments(input)?,
        })
    }

    /// The arguments of the call; extents are for the library to check.
    pub fn scan(&self, options: &Options) -> Result<SelectiveScan<'_, T>> {
        let sequence = |tensor| sequence_view(tensor, self.layout);
        let channel = |tensor: &'_ Shaped<'f, f32, 1>| tensor.extents[0];
        let A = View::new(&self.A.data, [("dim", self.A.extents[0]), ("dstate", self.A.extents[1])]);
        let (B, C) = (self.B.projection(), self.C.projection());
        let mut scan = SelectiveScan::new(sequence(&self.x), sequence(&self.dt), A, B, C)?
            .dt_softplus(options.dt_softplus)
            .reverse(options.reverse);
        if let Some(D) = &self.D {
            scan = scan.D(View::new(&D.data, [("dim", channel(D))]));
        }
        if let Some(z) = &self.z {
            scan = scan.z(sequence(z));
        }
        if let Some(dt_bias) = &self.dt_bias {
            scan = scan.dt_bias(View::new(&dt_bias.data, [("dim", channel(dt_bias))]));
        }
        if let Some(state) = &self.initial_state {
            scan = scan.initial_state(state_view(state));
        }
        if let Some(split) = options.split {
            scan = scan.split(split);
        }
        if let Some(segments) = &self.segments {
            scan = scan.segments(segments);
        }
        Ok(match options.dt_limit {
            Some(dt_limit) => scan.dt_limit(dt_limit),
            None => scan,
        })
    }

    /// The same with x, dt, z and variable B and C rounded to `U`.
    pub fn converted<U: Io>(&self) -> Result<Tensors<'_, U>> {
        self.mapped(&converted)
    }

    /// The same with other elements in x, dt, z and variable B and C; those in f32 are lent.
    pub fn mapped<'s, U: Io>(&'s self, elements: &impl Fn(&'s [T]) -> Result<Cow<'s, [U]>>) -> Result<Tensors<'s, U>> {
        Ok(Tensors {
            layout: self.layout,
            x: self.x.mapped(elements)?,
            dt: self.dt.mapped(elements)?,
            A: self.A.lent(),
            B: self.B.mapped(elements)?,
            C: self.C.mapped(elements)?,
            D: self.D.as_ref().map(Shaped::lent),
            z: self.z.as_ref().map(|z| z.mapped(elements)).transpose()?,
            dt_bias: self.dt_bias.as_ref().map(Shaped::lent),
            initial_state: self.initial_state.as_ref().map(Shaped::lent),
            segments: self.segments.clone(),
        })
    }

    /// Elements of the tensors in the dtype of the call.
    pub fn io_elements(&self) -> usize {
        let variable = [&self.B, &self.C].map(|projection| match projection {
            Projected::Variable(tensor) => tensor.data.len(),
            Projected::Constant(_) => 0,
        });
        let z = self.z.as_ref().map_or(0, |z| z.data.len());
        self.x.data.len() + self.dt.data.len() + z + variable[0] + variable[1]
    }

    /// The gradients that the call has: their names, and their shapes. A state before the first has one even where it is
    /// not given, if `of_state`.
    pub fn gradients(&self, dims: &Dims, of_state: bool) -> Vec<(Gradient, Vec<usize>)> {
        let Dims { batch, dim, seqlen, dstate, nseqs, .. } = *dims;
        let sequence = vec![batch, dim, seqlen];
        let projection = |projection: &Projected<'_, T>| match projection {
            Projected::Constant(tensor) => (true, tensor.extents.to_vec()),
            Projected::Variable(tensor) => (false, tensor.extents.to_vec()),
        };
        let ((constant_B, B), (constant_C, C)) = (projection(&self.B), projection(&self.C));
        let mut gradients = vec![
            (Gradient::X, sequence.clone()),
            (Gradient::Dt, sequence.clone()),
            (Gradient::A, vec![dim, dstate]),
            (Gradient::B { constant: constant_B }, B),
            (Gradient::C { constant: constant_C }, C),
        ];
        gradients.extend(self.D.iter().map(|_| (Gradient::D, vec![dim])));
        gradients.extend(self.z.iter().map(|_| (Gradient::Z, sequence.clone())));
        gradients.extend(self.dt_bias.iter().map(|_| (Gradient::DtBias, vec![dim])));
        let of_state = of_state || self.initial_state.is_some();
        gradients.extend(of_state.then(|| (Gradient::InitialState, vec![nseqs, dim, dstate])));
        gradients
    }

    /// What the metadata say of dimensions and optional tensors is so.
    pub fn check_metadata(&self, metadata: &Metadata, dims: &Dims) -> Result<()> {
        metadata.check_number("batch", dims.batch)?;
        metadata.check_number("dim", dims.dim)?;
        metadata.check_number("seqlen", dims.seqlen)?;
        metadata.check_number("dstate", dims.dstate)?;
        for projection in [&self.B, &self.C] {
            if let Projected::Variable(tensor) = projection {
                metadata.check_number("ngroups", tensor.extents[1])?;
            }
        }
        metadata.check_flag("has_D", self.D.is_some(), "`D` is")?;
        metadata.check_flag("has_z", self.z.is_some(), "`z` is")?;
        metadata.check_flag("has_dt_bias", self.dt_bias.is_some(), "`dt_bias` is")?;
        metadata.check_flag("initial_state", self.initial_state.is_some(), "`initial_state` is")?;
        metadata.check_flag("const_B", matches!(self.B, Projected::Constant(_)), "a `B` of 2 dimensions is")?;
        metadata.check_flag("const_C", matches!(self.C, Projected::Constant(_)), "a `C` of 2 dimensions is")
    }
}

impl<T: Io> Projected<'_, T> {
    fn mapped<'s, U: Io>(&'s self, elements: &impl Fn(&'s [T]) -> Result<Cow<'s, [U]>>) -> Result<Projected<'s, U>> {
        Ok(match self {
            Projected::Variable(tensor) => Projected::Variable(tensor.mapped(elements)?),
            Projected::Constant(tensor) => Projected::Constant(tensor.lent()),
        })
    }

    fn projection(&self) -> Projection<'_, T> {
        match self {
            Projected::Constant(Shaped { extents: [dim, dstate], data }) => {
                Projection::Constant(View::new(data, [("dim", *dim), ("dstate", *dstate)]))
            }
            Projected::Variable(Shaped { extents: [batch, ngroups, dstate, seqlen], data }) => {
                let dims = [("batch", *batch), ("ngroups", *ngroups), ("dstate", *dstate), ("seqlen", *seqlen)];
                Projection::Variable(View::new(data, dims))
            }
        }
    }
}

pub(super) fn state_view<'v>(tensor: &'v Shaped<'_, f32, 3>) -> View<'v, f32> {
    let [nseqs, dim, dstate] = tensor.extents;
    View::new(&tensor.data, [("batch", nseqs), ("dim", dim), ("dstate", dstate)])
}

fn projected<'f, T: Io>(input: &Input<'f>, name: &str) -> Result<Projected<'f, T>> {
    if input.required(name)?.shape.len() == 2 {
        let constant = shaped(input, name, ["dim", "dstate"])?;
        return Ok(Projected::Constant(needed(input, name, constant)?));
    }
    let Typed { shape, data } = input.typed::<T>(name)?;
    let extents = shape.as_slice().try_into().map_err(|_| {
        let expected = "4 dimensions (batch, ngroups, dstate, seqlen) or, constant, 2 (dim, dstate)";
        CliError::value(OP, name, format!("has shape {shape:?}"), expected)
    })?;
    Ok(Projected::Variable(Shaped { extents, data }))
}

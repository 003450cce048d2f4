//! The inputs of a squared attention, and of an update: loaded, laid out.

use super::Options;
use crate::args::Layout;
use crate::error::{CliError, Result};
use crate::input::Input;
use crate::memory::Memory;
use crate::run::shaped::{Shaped, list, needed, order, ordered, segments, shaped};
use crate::tensor::Io;
use ssm_kernels::prelude::*;
use std::borrow::Cow;

/// Dimensions of q and k, in files.
const KEY: [&str; 4] = ["batch", "nheads", "seqlen", "dim"];
/// Of v and out.
const VALUE: [&str; 4] = ["batch", "nheads", "seqlen", "vdim"];
/// Of log_decay.
const DECAY: [&str; 3] = ["batch", "nheads", "seqlen"];

/// q, k, v and log_decay.
pub(super) struct Rows<'f, T: Clone> {
    layout: Layout,
    q: Shaped<'f, T, 4>,
    k: Shaped<'f, T, 4>,
    v: Shaped<'f, T, 4>,
    log_decay: Shaped<'f, f32, 3>,
}

impl<'f, T: Io> Rows<'f, T> {
    /// From a file, copied into the memory order of `layout`.
    fn load(input: &Input<'f>, layout: Layout, memory: &mut Memory) -> Result<Self> {
        let mut row = |name, names| needed(input, name, ordered(input, name, names, layout, memory)?);
        let (q, k, v) = (row("q", KEY)?, row("k", KEY)?, row("v", VALUE)?);
        let log_decay = needed(input, "log_decay", ordered(input, "log_decay", DECAY, layout, memory)?)?;
        Ok(Self { layout, q, k, v, log_decay })
    }

    /// q, k and v.
    fn rows(&self) -> [View<'_, T>; 3] {
        let key = |tensor| of_keys(tensor, self.layout);
        [key(&self.q), key(&self.k), of_values(&self.v, self.layout)]
    }

    fn log_decay(&self) -> View<'_, f32> {
        View::new(&self.log_decay.data, order(DECAY, self.log_decay.extents, self.layout))
    }

    /// The extents of v and out.
    pub fn values(&self) -> [usize; 4] {
        self.v.extents
    }
}

fn of_keys<'v, T: Clone>(tensor: &'v Shaped<'_, T, 4>, layout: Layout) -> View<'v, T> {
    View::new(&tensor.data, order(KEY, tensor.extents, layout))
}

fn of_values<'v, T: Clone>(tensor: &'v Shaped<'_, T, 4>, layout: Layout) -> View<'v, T> {
    View::new(&tensor.data, order(VALUE, tensor.extents, layout))
}

/// A result that lies like q.
pub(super) fn key_mut<T>(data: &mut [T], extents: [usize; 4], layout: Layout) -> ViewMut<'_, T> {
    ViewMut::new(data, order(KEY, extents, layout))
}

/// A result that lies like v.
pub(super) fn value_mut<T>(data: &mut [T], extents: [usize; 4], layout: Layout) -> ViewMut<'_, T> {
    ViewMut::new(data, order(VALUE, extents, layout))
}

/// A result that lies like log_decay.
pub(super) fn decay_mut(data: &mut [f32], extents: [usize; 3], layout: Layout) -> ViewMut<'_, f32> {
    ViewMut::new(data, order(DECAY, extents, layout))
}

/// The dimensions of a state whose rows are called `rows`.
pub(super) fn state_dims(
    rows: &'static str,
    [count, nheads, features, vdim]: [usize; 4],
) -> [(&'static str, usize); 4] {
    [(rows, count), ("nheads", nheads), ("features", features), ("vdim", vdim)]
}

/// The dimensions of a norm.
pub(super) fn norm_dims(rows: &'static str, [count, nheads, features]: [usize; 3]) -> [(&'static str, usize); 3] {
    [(rows, count), ("nheads", nheads), ("features", features)]
}

/// A state and its norm, or their gradients.
pub(super) struct States<'f, H: Clone> {
    pub state: Shaped<'f, H, 4>,
    pub norm: Shaped<'f, f32, 3>,
}

impl<'f, H: Io> States<'f, H> {
    pub fn views(&self, rows: &'static str) -> (View<'_, H>, View<'_, f32>) {
        let state = View::new(&self.state.data, state_dims(rows, self.state.extents));
        (state, View::new(&self.norm.data, norm_dims(rows, self.norm.extents)))
    }
}

/// A state of a file.
fn state<'f, H: Io>(input: &Input<'f>, name: &str, rows: &str) -> Result<Option<Shaped<'f, H, 4>>> {
    shaped(input, name, [rows, "nheads", "features", "vdim"])
}

/// A norm of a file.
fn norm<'f>(input: &Input<'f>, name: &str, rows: &str) -> Result<Option<Shaped<'f, f32, 3>>> {
    shaped(input, name, [rows, "nheads", "features"])
}

/// Every input that the file has.
pub(super) struct Tensors<'f, T: Clone> {
    rows: Rows<'f, T>,
    initial: Option<States<'f, f32>>,
    segments: Option<Segments>,
}

impl<'f, T: Io> Tensors<'f, T> {
    /// From a file, the rows copied into the memory order of `layout`.
    pub fn load(input: &Input<'f>, layout: Layout, memory: &mut Memory) -> Result<Self> {
        let rows = Rows::load(input, layout, memory)?;
        let given = (state(input, "initial_state", "batch")?, norm(input, "initial_norm", "batch")?);
        let missing = |name, other| {
            let expected = format!("it beside `{other}`, since a state goes on only with its norm");
            Err(CliError::value(input.op(), name, "is missing", expected))
        };
        let initial = match given {
            (Some(state), Some(norm)) => Some(States { state, norm }),
            (None, None) => None,
            (Some(_), None) => return missing("initial_norm", "initial_state"),
            (None, Some(_)) => return missing("initial_state", "initial_norm"),
        };
        Ok(Self { rows, initial, segments: segments(input)? })
    }

    /// The arguments of the call; extents are for the library to check.
    pub fn op(&self, options: &Options) -> Result<SquaredAttention<'_, T>> {
        let [q, k, v] = self.rows.rows();
        let mut op = SquaredAttention::new(q, k, v, self.rows.log_decay())?;
        if let Some(scale) = options.scale {
            op = op.scale(scale);
        }
        if let Some(chunk_size) = options.chunk_size {
            op = op.chunk_size(chunk_size);
        }
        if let Some(initial) = &self.initial {
            let (state, norm) = initial.views("batch");
            op = op.initial_state(state, norm);
        }
        Ok(match &self.segments {
            Some(segments) => op.segments(segments),
            None => op,
        })
    }

    /// Whether the file has states before the first step.
    pub fn has_states(&self) -> bool {
        self.initial.is_some()
    }
}

/// The upstream gradients that the file has.
pub(super) struct Upstream<'f, T: Clone> {
    layout: Layout,
    dout: Option<Shaped<'f, T, 4>>,
    dfinal_state: Option<Shaped<'f, f32, 4>>,
    dfinal_norm: Option<Shaped<'f, f32, 3>>,
}

impl<'f, T: Io> Upstream<'f, T> {
    /// From a file that has one of them.
    pub fn load(input: &Input<'f>, layout: Layout, memory: &mut Memory) -> Result<Self> {
        let upstream = Self {
            layout,
            dout: ordered(input, "dout", VALUE, layout, memory)?,
            dfinal_state: state(input, "dfinal_state", "batch")?,
            dfinal_norm: norm(input, "dfinal_norm", "batch")?,
        };
        input.metadata.check_flag("dfinal_state", upstream.dfinal_state.is_some(), "`dfinal_state` is")?;
        if upstream.dout.is_none() && upstream.dfinal_state.is_none() && upstream.dfinal_norm.is_none() {
            let expected = "it, `dfinal_state` or `dfinal_norm` with --backward";
            return Err(CliError::value(input.op(), "dout", "is missing", expected));
        }
        Ok(upstream)
    }

    pub fn views(&self) -> SquaredAttentionUpstream<'_, T> {
        let mut upstream = SquaredAttentionUpstream::new();
        if let Some(dout) = &self.dout {
            upstream = upstream.dout(of_values(dout, self.layout));
        }
        if let Some(state) = &self.dfinal_state {
            upstream = upstream.dfinal_state(View::new(&state.data, state_dims("batch", state.extents)));
        }
        if let Some(norm) = &self.dfinal_norm {
            upstream = upstream.dfinal_norm(View::new(&norm.data, norm_dims("batch", norm.extents)));
        }
        upstream
    }
}

/// Every input that the file of an update has.
pub(super) struct UpdateTensors<'f, T: Clone, H: Clone> {
    pub rows: Rows<'f, T>,
    /// Before the call.
    pub states: States<'f, H>,
    state_indices: Option<Cow<'f, [i32]>>,
}

impl<'f, T: Io, H: Io> UpdateTensors<'f, T, H> {
    /// From a file, the rows copied into the memory order of `layout`.
    pub fn load(input: &Input<'f>, layout: Layout, memory: &mut Memory) -> Result<Self> {
        let state = needed(input, "initial_state", state(input, "initial_state", "slots")?)?;
        let norm = needed(input, "initial_norm", norm(input, "initial_norm", "slots")?)?;
        let state_indices = list(input, "state_indices", &["state_indices", "indices"])?;
        Ok(Self { rows: Rows::load(input, layout, memory)?, states: States { state, norm }, state_indices })
    }

    /// By name, as the metadata have them.
    pub fn dims(&self) -> [(&'static str, usize); 6] {
        let ([batch, nheads, seqlen, dim], slots) = (self.rows.q.extents, self.states.state.extents[0]);
        let rows = [("batch", batch), ("nheads", nheads), ("seqlen", seqlen), ("dim", dim)];
        [rows[0], rows[1], rows[2], rows[3], ("vdim", self.rows.v.extents[3]), ("slots", slots)]
    }

    /// The arguments of the call; extents are for the library to check.
    pub fn op(&self, options: &Options) -> Result<SquaredAttentionUpdate<'_, T, H>> {
        let [q, k, v] = self.rows.rows();
        let mut op = SquaredAttentionUpdate::new(q, k, v, self.rows.log_decay())?;
        if let Some(scale) = options.scale {
            op = op.scale(scale);
        }
        Ok(match &self.state_indices {
            Some(state_indices) => op.state_indices(state_indices),
            None => op,
        })
    }
}

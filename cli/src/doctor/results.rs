//! What a call computes, and what the elements of it are named by.

use super::case::{Case, Place};
use crate::run::selective_scan::{Gradient, Projected};
use ssm_kernels::ops::selective_scan::Dims;

/// How the elements of a result are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axes {
    /// Batch, channel, time.
    Sequence,
    /// Sequence, channel, state.
    State,
    /// Channel, state.
    Matrix,
    /// Channel.
    Vector,
    /// Batch, group, state, time: a sum over the channels of the group.
    Shared,
}

/// A result. Whatever its dimensions, it is (rows, units, elements) in memory; a unit is a channel, or a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub name: &'static str,
    pub axes: Axes,
    /// Has the dtype of x.
    pub io: bool,
    pub rows: usize,
    pub units: usize,
    pub elements: usize,
    /// Extent of the last dimension.
    pub last: usize,
}

/// An element of a result, in the order in which the call gets there; of one without times, that of sequences and units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub order: usize,
    /// The sequence, of a result that has some.
    pub seq: usize,
    pub unit: usize,
    pub row: usize,
    pub element: usize,
}

impl Kind {
    /// What a call of these dimensions computes forward.
    pub fn forward(dims: &Dims) -> Vec<Self> {
        let Dims { batch, dim, seqlen, dstate, nseqs, .. } = *dims;
        let out = Self {
            name: "out",
            axes: Axes::Sequence,
            io: true,
            rows: batch,
            units: dim,
            elements: seqlen,
            last: seqlen,
        };
        let state = Self { name: "final_state", axes: Axes::State, io: false, rows: nseqs, elements: dstate, ..out };
        vec![out, Self { last: dstate, ..state }]
    }

    /// A gradient of this shape.
    pub fn of_gradient((gradient, shape): &(Gradient, Vec<usize>)) -> Self {
        let axes = match gradient {
            Gradient::X | Gradient::Dt | Gradient::Z => Axes::Sequence,
            Gradient::InitialState => Axes::State,
            Gradient::B { constant: false } | Gradient::C { constant: false } => Axes::Shared,
            Gradient::A | Gradient::B { .. } | Gradient::C { .. } => Axes::Matrix,
            Gradient::D | Gradient::DtBias => Axes::Vector,
        };
        let extent = |i: usize| shape.get(i).copied().unwrap_or(1);
        let (rows, units, elements) = match axes {
            Axes::Sequence | Axes::State => (extent(0), extent(1), extent(2)),
            Axes::Matrix => (1, extent(0), extent(1)),
            Axes::Vector => (1, extent(0), 1),
            Axes::Shared => (extent(0), extent(1), extent(2) * extent(3)),
        };
        let last = shape.last().copied().unwrap_or(1);
        Self { name: gradient.name(), axes, io: gradient.is_io(), rows, units, elements, last }
    }

    /// Where an element lies among `units`.
    pub fn index(&self, units: usize, unit: usize, row: usize, element: usize) -> usize {
        (row * units + unit) * self.elements + element
    }

    /// Every element of a unit: row, element.
    pub fn each(&self, mut visit: impl FnMut(usize, usize)) {
        // Without elements there may be rows beyond counting.
        for row in 0..if self.elements == 0 { 0 } else { self.rows } {
            (0..self.elements).for_each(|element| visit(row, element));
        }
    }

    pub fn is_shared(&self) -> bool {
        self.axes == Axes::Shared
    }

    pub fn unit(&self) -> &'static str {
        if self.is_shared() { "group" } else { "channel" }
    }

    /// The time of an element.
    pub fn time(&self, element: usize) -> Option<usize> {
        match self.axes {
            Axes::Sequence => Some(element),
            Axes::Shared => Some(element % self.last),
            _ => None,
        }
    }

    /// What names an element of a unit.
    pub fn names(&self, row: usize, element: usize) -> Vec<(&'static str, usize)> {
        match self.axes {
            Axes::Sequence => vec![("batch", row), ("time", element)],
            Axes::State => vec![("sequence", row), ("state", element)],
            Axes::Matrix => vec![("state", element)],
            Axes::Vector => vec![],
            Axes::Shared => vec![("batch", row), ("state", element / self.last), ("time", element % self.last)],
        }
    }

    /// An element in the order of the call.
    pub fn spot(&self, case: &Case<'_>, unit: usize, row: usize, element: usize) -> Spot {
        let (order, seq) = match self.time(element) {
            Some(time) => {
                let Place { order, seq, .. } = case.visited(row, unit, time);
                (order, seq)
            }
            None if self.axes == Axes::State => (0, row),
            None => (0, 0),
        };
        Spot { order, seq, unit, row, element }
    }

    /// In words.
    pub fn place(&self, case: &Case<'_>, spot: &Spot) -> String {
        if self.axes == Axes::Sequence {
            return case.visited(spot.row, spot.unit, spot.element).to_string();
        }
        let mut names = self.names(spot.row, spot.element);
        names.insert(usize::from(names.len() > 1), (self.unit(), spot.unit));
        let words: Vec<String> = names.iter().map(|(name, i)| format!("{name} {i}")).collect();
        format!("({})", words.join(", "))
    }

    /// The channels that an element is made of.
    pub fn channels(&self, case: &Case<'_>, unit: usize) -> Vec<usize> {
        if !self.is_shared() {
            return vec![unit];
        }
        let shared = case.dims.dim / self.units.max(1);
        (unit * shared..(unit + 1) * shared).collect()
    }
}

/// The groups of a variable B or C that `channels` take.
pub(super) fn groups(projection: &Projected<'_, f32>, dim: usize, channels: &[usize]) -> Vec<usize> {
    let Projected::Variable(tensor) = projection else { return vec![] };
    // Without channels there may be any number of groups.
    if channels.is_empty() {
        return vec![];
    }
    if channels.iter().copied().eq(0..dim) {
        return (0..tensor.extents[1]).collect();
    }
    let shared = (dim / tensor.extents[1].max(1)).max(1);
    let mut groups: Vec<usize> = channels.iter().map(|channel| channel / shared).collect();
    // In one if the channels are of one, else with a group for each.
    if groups.iter().all(|group| Some(group) == groups.first()) {
        groups.truncate(1);
    }
    groups
}

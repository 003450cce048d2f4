//! The two forms of a call, and the one order that backends see: channels are heads, each a run that shares B and C.

use super::OP;
use crate::error::{Error, Result};
use crate::tensor::{Axes, Axis, Layout, MAX_RANK, Storage, Strided, StridedMut, View, ViewMut};

/// What x says of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    headed: bool,
    tokens: bool,
    /// nheads and headdim, in channels too.
    heads: [usize; 2],
}

/// A dimension of the canonical order.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// One of the caller's.
    One(&'static str, usize),
    /// One that callers need not have: one element.
    Absent,
    /// nheads, and headdim follows: both from dim in channels.
    Heads,
    Headdim,
}

/// Where a canonical dimension comes from.
#[derive(Debug, Clone, Copy)]
enum Source {
    Absent,
    Axis(usize),
    HeadsOf(usize),
    HeaddimOf(usize),
}

/// The dimensions of a tensor, the caller's and the canonical ones.
#[derive(Debug)]
pub(crate) struct Domain<const R: usize> {
    axes: Axes,
    sources: [Source; R],
    heads: [usize; 2],
}

/// The extent along `name`; 1 if there is none.
pub(super) fn extent(axes: &Axes, name: &str) -> usize {
    axes.as_slice().iter().find(|axis| axis.name == name).map_or(1, |axis| axis.extent)
}

pub(super) fn has(axes: &Axes, name: &str) -> bool {
    axes.as_slice().iter().any(|axis| axis.name == name)
}

pub(super) fn wrong_names<R>(arg: &'static str, axes: &Axes, expected: &[&str]) -> Result<R> {
    let got = axes.as_slice().iter().map(|axis| axis.name).collect::<Vec<_>>().join(", ");
    Err(Error::Dimensions { op: OP, arg, got, expected: expected.join(", ") })
}

impl Form {
    /// What the dimensions of x say; the heads of channels are not known yet.
    pub fn of(x: &Axes) -> Result<Self> {
        let (headed, tokens) = (has(x, "nheads") || has(x, "headdim"), has(x, "seqlen"));
        let form = Self { headed, tokens, heads: [extent(x, "nheads"), extent(x, "headdim")] };
        let names = form.names(if tokens { &["batch", "seqlen"] } else { &["batch"] }, &[]);
        let same = names.len() == x.as_slice().len() && names.iter().all(|name| has(x, name));
        if same { Ok(form) } else { wrong_names("x", x, &names) }
    }

    /// Channels as heads, each of which shares the groups that its channels share: of `groups` each of B and C.
    pub fn with_groups(mut self, x: &Axes, groups: [usize; 2]) -> Self {
        if !self.headed {
            let dim = extent(x, "dim");
            let runs = groups[0] / greatest_common_divisor(groups[0], groups[1]).max(1) * groups[1];
            // Both numbers of groups divide dim, and so does what both divide.
            self.heads = if dim == 0 { [1, 0] } else { [runs, dim / runs] };
        }
        self
    }

    /// Whether the caller's channels are heads.
    pub fn headed(&self) -> bool {
        self.headed
    }

    /// nheads and headdim.
    pub fn heads(&self) -> [usize; 2] {
        self.heads
    }

    /// What groups divide: its name and extent.
    pub fn grouped(&self, x: &Axes) -> (&'static str, usize) {
        let name = if self.headed { "nheads" } else { "dim" };
        (name, extent(x, name))
    }

    /// The names of a tensor's dimensions: some, those of channels, others.
    pub fn names(&self, before: &[&'static str], after: &[&'static str]) -> Vec<&'static str> {
        let channels: &[&str] = if self.headed { &["nheads", "headdim"] } else { &["dim"] };
        [before, channels, after].concat()
    }

    fn tokens(&self, seqlen: usize) -> Part {
        if self.tokens { Part::One("seqlen", seqlen) } else { Part::Absent }
    }

    /// (batch, seqlen, nheads, headdim).
    pub fn sequence(&self, [batch, seqlen]: [usize; 2]) -> Result<Domain<4>> {
        self.domain([Part::One("batch", batch), self.tokens(seqlen), Part::Heads, Part::Headdim])
    }

    /// (batch, seqlen, ngroups, dstate).
    pub fn rows(&self, [batch, seqlen, dstate]: [usize; 3], ngroups: Option<usize>) -> Result<Domain<4>> {
        let groups = ngroups.map_or(Part::Absent, |ngroups| Part::One("ngroups", ngroups));
        self.domain([Part::One("batch", batch), self.tokens(seqlen), groups, Part::One("dstate", dstate)])
    }

    /// (`rows`, nheads, headdim, dstate).
    pub fn states(&self, name: &'static str, rows: usize, dstate: usize) -> Result<Domain<4>> {
        self.domain([Part::One(name, rows), Part::Heads, Part::Headdim, Part::One("dstate", dstate)])
    }

    /// (nheads, headdim, dstate).
    pub fn matrix(&self, dstate: usize) -> Result<Domain<3>> {
        self.domain([Part::Heads, Part::Headdim, Part::One("dstate", dstate)])
    }

    /// (nheads, headdim).
    pub fn channels(&self) -> Result<Domain<2>> {
        self.domain([Part::Heads, Part::Headdim])
    }

    fn domain<const R: usize>(&self, parts: [Part; R]) -> Result<Domain<R>> {
        let mut axes: Vec<Axis> = Vec::with_capacity(MAX_RANK);
        let [nheads, headdim] = self.heads;
        let sources = parts.map(|part| {
            let (name, extent) = match (part, self.headed) {
                (Part::Absent, _) => return Source::Absent,
                (Part::Headdim, false) => return Source::HeaddimOf(axes.len() - 1),
                (Part::One(name, extent), _) => (name, extent),
                (Part::Heads, true) => ("nheads", nheads),
                (Part::Headdim, true) => ("headdim", headdim),
                (Part::Heads, false) => ("dim", nheads * headdim),
            };
            axes.push(Axis { name, extent, stride: 0 });
            let place = axes.len() - 1;
            if matches!(part, Part::Heads) && !self.headed { Source::HeadsOf(place) } else { Source::Axis(place) }
        });
        Ok(Domain { axes: Axes::from_slice(&axes)?, sources, heads: self.heads })
    }
}

impl<const R: usize> Domain<R> {
    /// An input, which may lack some dimensions: it then has one element for all along them.
    pub fn fit<'a, T, S: Storage>(
        &self,
        arg: &'static str,
        view: View<'a, T, S>,
        may_lack: &[&str],
    ) -> Result<Strided<'a, T, S, R>> {
        let Strided { memory, layout } = view.broadcast(OP, arg, &self.axes)?;
        let mut all = self.axes.as_slice().iter().map(|axis| axis.name);
        if !all.all(|name| has(view.axes(), name) || may_lack.contains(&name)) {
            let names: Vec<&str> = self.axes.as_slice().iter().map(|axis| axis.name).collect();
            return wrong_names(arg, view.axes(), &names);
        }
        Ok(Strided { memory, layout: self.canonical(&layout) })
    }

    /// An output.
    pub fn fit_mut<'a, T, S: Storage>(
        &self,
        arg: &'static str,
        view: ViewMut<'a, T, S>,
    ) -> Result<StridedMut<'a, T, S, R>> {
        let StridedMut { memory, layout } = view.over(OP, arg, &self.axes)?;
        Ok(StridedMut { memory, layout: self.canonical(&layout) })
    }

    fn canonical(&self, layout: &Layout<MAX_RANK>) -> Layout<R> {
        let along = |source| match source {
            Source::Absent => (1, 0),
            Source::Axis(i) => (layout.extents[i], layout.strides[i]),
            // An empty tensor may have any stride.
            Source::HeadsOf(i) => (self.heads[0], layout.strides[i].saturating_mul(self.heads[1] as i64)),
            Source::HeaddimOf(i) => (self.heads[1], layout.strides[i]),
        };
        Layout {
            extents: self.sources.map(|source| along(source).0),
            strides: self.sources.map(|source| along(source).1),
        }
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

//! The loops of squared attention.

use super::{Loops, Shape, expect};

/// The inputs of a squared attention whose values are as wide as its keys, with the usual scale.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Extents and layout: dim heads, and dstate elements of a head at a step. Dense is (batch, nheads, seqlen, dim),
    /// channel-last (batch, seqlen, nheads, dim).
    pub shape: Shape,
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// The logarithm of what a step leaves of what came before it; without the last dimension.
    pub log_decay: &'a [f32],
}

impl Attention<'_> {
    /// Elements of q, k, v and out.
    pub fn elements(&self) -> usize {
        self.shape.sequence() * self.shape.dstate
    }

    /// Products of two elements of a key: a state has a row for each.
    pub fn features(&self) -> usize {
        self.shape.dstate * (self.shape.dstate + 1) / 2
    }

    /// What [`Loops::attention_states`] needs as scratch: state and norm of a head.
    pub fn scratch(&self) -> usize {
        self.features() * (self.shape.dstate + 1)
    }

    fn check(&self) {
        [("q", self.q), ("k", self.k), ("v", self.v)].iter().for_each(|(name, t)| expect(name, t, self.elements()));
        expect("log_decay", self.log_decay, self.shape.sequence());
    }
}

impl Loops {
    /// All pairs of steps, in one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than the shape says.
    pub fn attention_pairs(&self, attention: &Attention<'_>, out: &mut [f32]) {
        attention.check();
        expect("out", out, attention.elements());
        // SAFETY: every tensor has the elements that the shape says.
        unsafe { (self.functions.attention_pairs)(&attention.raw(), out.as_mut_ptr()) }
    }

    /// The recurrence, in one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than the shape says.
    pub fn attention_states(&self, attention: &Attention<'_>, out: &mut [f32], scratch: &mut [f32]) {
        attention.check();
        expect("out", out, attention.elements());
        expect("scratch", scratch, attention.scratch());
        // SAFETY: every tensor has the elements that the shape says, and scratch those of a state and its norm.
        unsafe { (self.functions.attention_states)(&attention.raw(), out.as_mut_ptr(), scratch.as_mut_ptr()) }
    }

    /// The steps as tokens, in place in `states`, (batch, nheads, features, dim), and `norms`, (batch, nheads, features); in
    /// one thread.
    ///
    /// # Panics
    /// If a tensor has another number of elements than the shape says.
    pub fn attention_update(&self, attention: &Attention<'_>, out: &mut [f32], states: &mut [f32], norms: &mut [f32]) {
        attention.check();
        let rows = attention.shape.batch * attention.shape.dim * attention.features();
        expect("out", out, attention.elements());
        expect("states", states, rows * attention.shape.dstate);
        expect("norms", norms, rows);
        let (states, norms) = (states.as_mut_ptr(), norms.as_mut_ptr());
        // SAFETY: every tensor has the elements that the shape says.
        unsafe { (self.functions.attention_update)(&attention.raw(), out.as_mut_ptr(), states, norms) }
    }
}

//! A task: its windows from the last to the first, and in each its channels one after the other.

use super::memory::{ProjectionMemory, Task, TaskMemory, add_to_pair};
use super::{Call, Carried, ProjectionWriter, Rows};
use crate::cpu::math::silu_derivative;
use crate::cpu::selective_scan::channel::Channel;
use crate::cpu::writer::Writer;
use crate::tensor::Element;

impl<T: Element> Call<'_, '_, '_, T> {
    pub fn walk(&self, carried: Option<&Carried<'_>>, task: &mut Task<'_>) {
        if task.part > 0 && !self.wanted.all_parts {
            return;
        }
        let Task { seq, part, tile, ref mut memory, .. } = *task;
        let (dims, channels) = (self.inputs.dims, self.tiling.channels(tile));
        memory.clear();
        for (k, d) in channels.clone().enumerate() {
            let adjoint = &mut memory.adjoint[k * dims.dstate..][..dims.dstate];
            match carried.filter(|_| self.wanted.adjoints) {
                Some(carried) => {
                    let row = [seq, part, d];
                    adjoint.copy_from_slice(Rows::at(carried.adjoints, row, self.cut, [dims.dim, dims.dstate]));
                }
                None => (0..dims.dstate).for_each(|n| {
                    adjoint[n] = self.upstream.dfinal_state.map_or(0.0, |state| state.at([seq, d, n]));
                }),
            }
        }
        if self.wanted.states && self.upstream.checkpoints.is_none() {
            self.save_coarse(carried, task);
        }
        for window in (0..task.steps.len().div_ceil(self.every)).rev() {
            self.window(carried, task, window);
        }
        if let (0, Some(dinitial_state)) = (part, &self.writers.dinitial_state) {
            for (k, d) in channels.enumerate() {
                for n in 0..dims.dstate {
                    let value = task.memory.adjoint[k * dims.dstate + n];
                    // SAFETY: the index is below the extents, and only the first part of this tile writes it.
                    unsafe { dinitial_state.write([seq, d, n], value) };
                }
            }
        }
    }

    /// The states before each window of the task but its first.
    fn save_coarse(&self, carried: Option<&Carried<'_>>, task: &mut Task<'_>) {
        let (dstate, channels) = (self.inputs.dims.dstate, self.tiling.channels(task.tile));
        let windows = task.steps.len().div_ceil(self.every);
        for (k, d) in channels.clone().enumerate() {
            let channel = Channel::new(&self.inputs, task.seq, d);
            self.start(carried, task, &channel, 0, k);
            for window in 1..windows {
                let state = &mut task.memory.states[..dstate];
                let start = task.steps.start + (window - 1) * self.every;
                channel.run(start..start + self.every, state);
                task.memory.coarse[((window - 1) * channels.len() + k) * dstate..][..dstate].copy_from_slice(state);
            }
        }
    }

    /// The state before a window into the first row of the states; `k` is the channel's place in the tile.
    fn start(
        &self,
        carried: Option<&Carried<'_>>,
        task: &mut Task<'_>,
        channel: &Channel<'_, '_, T>,
        window: usize,
        k: usize,
    ) {
        let (dims, first) = (self.inputs.dims, task.steps.start / self.every + window);
        let state = &mut task.memory.states[..dims.dstate];
        match (&self.upstream.checkpoints, carried) {
            _ if first == 0 => channel.initial(state),
            (Some((_, states, offsets)), _) => {
                let row = offsets[task.seq] + first - 1;
                (0..dims.dstate).for_each(|n| state[n] = states.at([row, channel.d, n]));
            }
            (None, Some(carried)) if window == 0 => {
                let row = [task.seq, task.part, channel.d];
                state.copy_from_slice(Rows::at(carried.states, row, self.cut, [dims.dim, dims.dstate]));
            }
            (None, _) => {
                let channels = self.tiling.channels(task.tile).len();
                let row = (window - 1) * channels + k;
                state.copy_from_slice(&task.memory.coarse[row * dims.dstate..][..dims.dstate]);
            }
        }
    }

    fn window(&self, carried: Option<&Carried<'_>>, task: &mut Task<'_>, window: usize) {
        let dstate = self.inputs.dims.dstate;
        let start = task.steps.start + window * self.every;
        let steps = start..(start + self.every).min(task.steps.end);
        (task.memory.dB.clear(), task.memory.dC.clear());
        for (k, d) in self.tiling.channels(task.tile).enumerate() {
            let channel = Channel::new(&self.inputs, task.seq, d);
            if self.wanted.states {
                self.start(carried, task, &channel, window, k);
                for (local, step) in steps.clone().enumerate() {
                    let (before, after) = task.memory.states[local * dstate..].split_at_mut(dstate);
                    after[..dstate].copy_from_slice(before);
                    let t = channel.span.time(step);
                    channel.advance(t, channel.delta(t), &mut after[..dstate]);
                }
            }
            for (local, step) in steps.clone().enumerate().rev() {
                self.step(&channel, channel.span.time(step), local, k, &mut task.memory);
            }
        }
        let first_channel = self.tiling.channels(task.tile).start;
        let span = self.inputs.span(task.seq);
        for (writer, memory) in [(&self.writers.dB, &mut task.memory.dB), (&self.writers.dC, &mut task.memory.dC)] {
            let Some(ProjectionWriter::Variable { writer, channels, .. }) = writer else { continue };
            let times = steps.clone().map(|step| span.time(step));
            let from = window * self.every * dstate;
            hand_over(writer, [span.batch, first_channel / channels], times, memory, from, dstate);
        }
    }

    /// The step at `t`, back; `local` is its place in the window, `k` the channel's in the tile.
    #[inline(always)]
    fn step(&self, channel: &Channel<'_, '_, T>, t: usize, local: usize, k: usize, memory: &mut TaskMemory<'_>) {
        let (dstate, wanted, writers) = (self.inputs.dims.dstate, self.wanted, &self.writers);
        let index = [channel.span.batch, channel.d, t];
        let (x, raw) = (channel.x(t), channel.raw(t));
        let delta = self.inputs.step.apply(raw);
        let dout = channel.dout(&self.upstream, t);
        let g = dout.map(|dout| channel.gated(dout, t));
        // Rows of another window where states are not recomputed; nobody reads them then.
        let (before, after) = memory.states[if wanted.states { local * dstate } else { 0 }..].split_at(dstate);
        if let (Some(dz), Some(z)) = (&writers.dz, channel.z(t)) {
            let dz_t = dout.map_or(0.0, |dout| dout * channel.ungated(t, &after[..dstate]) * silu_derivative(z));
            // SAFETY: as for dx below.
            unsafe { dz.write(index, T::from_f32(dz_t)) };
        }
        if let Some(g) = g {
            add_to_pair(&mut memory.dD[2 * k..], f64::from(g) * f64::from(x));
            if writers.dC.is_some() {
                let row = memory.dC.row(local, k, dstate);
                row.iter_mut().zip(after).for_each(|(dC, h)| *dC += g * h);
            }
        }
        if !wanted.adjoints {
            return;
        }
        let adjoint = &mut memory.adjoint[k * dstate..][..dstate];
        if let Some(g) = g {
            channel.receive(t, g, adjoint);
        }
        if writers.dB.is_some() {
            let row = memory.dB.row(local, k, dstate);
            row.iter_mut().zip(&*adjoint).for_each(|(dB, dh)| *dB += dh * (delta * x));
        }
        let mut by_input = 0.0;
        if wanted.by_input {
            adjoint.iter().enumerate().for_each(|(n, dh)| by_input += dh * channel.B(n, t));
        }
        channel.fade(delta, adjoint);
        if writers.dA.is_some() {
            let dA = &mut memory.dA[k * dstate..][..dstate];
            dA.iter_mut().zip(adjoint.iter().zip(before)).for_each(|(dA, (dh, h))| *dA += dh * h * delta);
        }
        if let Some(dx) = &writers.dx {
            let skip = self.inputs.D.zip(g).map(|(D, g)| D.at([channel.d]) * g);
            let dx_t = skip.map_or(delta * by_input, |skip| skip + delta * by_input);
            // SAFETY: the index is below the extents, and only this task writes these steps of this channel.
            unsafe { dx.write(index, T::from_f32(dx_t)) };
        }
        if wanted.ddt {
            let mut by_decay = 0.0;
            adjoint.iter().zip(before).enumerate().for_each(|(n, (dh, h))| by_decay += dh * h * channel.A(n));
            let ddt_t = (x * by_input + by_decay) * self.inputs.step.slope(raw);
            add_to_pair(&mut memory.ddt_bias[2 * k..], ddt_t.into());
            // SAFETY: as for dx.
            writers.ddt.iter().for_each(|ddt| unsafe { ddt.write(index, T::from_f32(ddt_t)) });
        }
    }
}

/// The rows of a window to where they go: the result, or the sums that wait for other tiles, from `from` on.
fn hand_over<T: Element>(
    writer: &Writer<'_, T, 4>,
    [b, group]: [usize; 2],
    times: impl Iterator<Item = usize>,
    memory: &mut ProjectionMemory<'_>,
    from: usize,
    dstate: usize,
) {
    if !memory.partial.is_empty() {
        let floats = times.count() * dstate;
        memory.partial[from..][..floats].copy_from_slice(&memory.rows[..floats]);
        return;
    }
    for (local, t) in times.enumerate() {
        for n in 0..dstate {
            let value = memory.rows[local * dstate + n];
            // SAFETY: the index is below the extents, and the group has no other tile.
            unsafe { writer.write([b, group, n, t], T::from_f32(value)) };
        }
    }
}

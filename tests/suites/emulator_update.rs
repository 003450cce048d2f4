//! The state update's kernel on the emulated device: what it moves, and indices that only the device knows.

#![allow(non_snake_case)]

use crate::common::buffer::Order;
use crate::common::compare::expect_accurate;
use crate::common::emulator_update::{UpdateTraffic, state_update};
use crate::common::say;
use crate::common::state_update::{NaiveUpdate, UpdateBuffers, UpdateCase, UpdateSpec};
use half::bf16;
use ssm_kernels::Element;
use ssm_kernels::gpu::Emulator;

const SECTOR: u64 = 32;

fn traffic<T: Element, H: Element>(spec: &UpdateSpec) -> UpdateTraffic {
    let case = UpdateCase::<T, H>::new(spec);
    let mut outputs = UpdateBuffers::new(&case, spec.token_states, spec.order);
    state_update(&Emulator::new(), &case, &mut outputs).expect("a valid case runs")
}

/// Each state is read once and written once, in whole sectors; and what else a warp needs of the tensors is a sector each.
fn every_state_once<T: Element, H: Element>() {
    let [io, stored] = [size_of::<T>(), size_of::<H>()].map(|size| size as u64);
    for (dstate, channels_of_a_warp) in [(16, 8), (128, 1)] {
        let (batch, dim) = (2, 64);
        let spec = UpdateSpec { order: Order::Aligned, ..UpdateSpec::channels(batch as usize, dim as usize, dstate) };
        let moved = traffic::<T, H>(&spec);
        let (states, warps) = (batch * dim * dstate as u64, batch * dim / channels_of_a_warp);
        assert_eq!(moved.state, [states * stored; 2], "dstate {dstate}");
        assert_eq!((moved.A, moved.out), (states * 4, batch * dim * io), "dstate {dstate}");
        // B and C once per warp; x, dt, z, D and dt_bias.
        let read = states * (stored + 4) / SECTOR + warps * (2 * (dstate as u64 * io).div_ceil(SECTOR) + 5);
        assert_eq!(moved.sectors, [read, states * stored / SECTOR + warps], "dstate {dstate}");
        // Several tokens: the states stay in registers.
        let kept = traffic::<T, H>(&UpdateSpec { tokens: Some(4), token_states: true, ..spec });
        assert_eq!(
            (kept.state, kept.token_states),
            ([states * stored; 2], [0, 4 * states * stored]),
            "dstate {dstate}"
        );
    }
    say(format_args!("every state once {} {}", T::DTYPE, H::DTYPE));
}

#[test]
fn every_state_once_f32() {
    every_state_once::<f32, f32>();
    every_state_once::<bf16, f32>();
}

#[test]
fn every_state_once_bf16() {
    every_state_once::<f32, bf16>();
    every_state_once::<bf16, bf16>();
}

/// Heads with one A each have one exp for each lane of a channel, not one for each state.
#[test]
fn heads_read_no_matrix() {
    let spec = UpdateSpec { order: Order::Aligned, ..UpdateSpec::heads(2, 4, 16, 128) };
    let (moved, lanes) = (traffic::<f32, f32>(&spec), 2 * 4 * 16 * 32);
    assert_eq!(moved.A, lanes * 4, "each lane reads its head's");
    assert_eq!(moved.state, [2 * 4 * 16 * 128 * 4; 2]);
    // With a whole matrix each lane has four.
    let wide = traffic::<f32, f32>(&UpdateSpec { one_per_head: [true, false, true, true], ..spec });
    let more = (wide.instructions - moved.instructions) / lanes;
    assert!(more >= 3 * 15, "three exps take more than {more} instructions");
}

/// An index beyond the cache is padding for the kernel, and the flag says in which row of the batch the last of them stood.
#[test]
fn indices_of_the_device_are_checked() {
    let spec = UpdateSpec { tokens: Some(2), indices: true, ..UpdateSpec::channels(6, 40, 20) };
    let mut case = UpdateCase::<f32, f32>::new(&spec);
    let slots = case.state.dims()[0].1 as i32;
    for (indices, last) in [
        ([0, slots, 2, -1, i32::MAX, 4], 5),
        ([slots, 0, 1, 2, -7, 3], 1),
        ([0, 1, 2, 3, 4, slots], 6),
        ([0, 1, 2, 3, 4, -1], 0),
    ] {
        let padded = indices.map(|index| if index >= slots { -1 } else { index });
        case.state_indices = Some(padded.to_vec());
        let expected = NaiveUpdate(&case).yardsticks();
        case.state_indices = Some(indices.to_vec());
        let mut outputs = UpdateBuffers::new(&case, true, Order::Dense);
        let moved = state_update(&Emulator::new(), &case, &mut outputs).expect("checked by the kernel");
        assert_eq!(moved.flag, last, "{indices:?}");
        expect_accurate("out", &outputs.out, &expected[0]);
        expect_accurate("state", &outputs.state, &expected[1]);
        expect_accurate("token_states", outputs.token_states.as_ref().expect("asked for"), &expected[2]);
    }
}

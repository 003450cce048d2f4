//! The C loops on the same values.

use super::attention;
use super::backends::Runner;
use super::case::{Case, Direction};
use crate::args::Op;
use crate::error::Result;
use crate::memory::filled;
use crate::tensor::Io;
use ssm_baseline::{ConvGradients, Loops, ScanGradients};

/// A call for each compilation of the loops; none of what they have not, and none without a C compiler.
pub fn runners<'c, T: Io>(op: Op, direction: Direction, case: &'c Case<T>) -> Result<Vec<Runner<'c>>> {
    let runner = |loops: &'static Loops| match (op, direction) {
        (Op::SelectiveScan, Direction::Forward) => scan_forward(loops, case).map(Some),
        (Op::SelectiveScan, Direction::Backward) => scan_backward(loops, case).map(Some),
        (Op::Discretise, Direction::Forward) => zoh_forward(loops, case).map(Some),
        (Op::Discretise, Direction::Backward) => Ok(None),
        (Op::StateUpdate, _) => state_update(loops, case).map(Some),
        (Op::CausalConv1d, Direction::Forward) => conv_forward(loops, case).map(Some),
        (Op::CausalConv1d, Direction::Backward) => conv_backward(loops, case).map(Some),
        (Op::CausalConv1dUpdate, _) => conv_update(loops, case).map(Some),
        (Op::SquaredAttention, Direction::Forward) => attention_forward(loops, case).map(Some),
        (Op::SquaredAttention, Direction::Backward) => Ok(None),
        (Op::SquaredAttentionUpdate, _) => attention_update(loops, case).map(Some),
    };
    ssm_baseline::loops().iter().filter_map(|loops| runner(loops).transpose()).collect()
}

fn scan_forward<'c, T: Io>(loops: &'static Loops, case: &'c Case<T>) -> Result<Runner<'c>> {
    let (mut out, mut scratch) = (filled(case.shape.sequence(), 0.0)?, filled(case.shape.scratch(), 0.0)?);
    Ok(Box::new(move || {
        loops.scan_forward(&case.plain_scan(), &mut out, &mut scratch);
        Ok(())
    }))
}

fn state_update<'c, T: Io>(loops: &'static Loops, case: &'c Case<T>) -> Result<Runner<'c>> {
    let states = case.shape.batch * case.shape.states();
    let (mut out, mut states) = (filled(case.shape.sequence(), 0.0)?, filled(states, 0.0)?);
    Ok(Box::new(move || {
        loops.state_update(&case.plain_scan(), &mut out, &mut states);
        Ok(())
    }))
}

fn scan_backward<'c, T: Io>(loops: &'static Loops, case: &'c Case<T>) -> Result<Runner<'c>> {
    let shape = case.shape;
    let sequence = || filled(shape.sequence(), 0.0);
    let (mut dx, mut ddt, mut dz) = (sequence()?, sequence()?, sequence()?);
    let (mut dB, mut dC) = (filled(shape.rows(), 0.0)?, filled(shape.rows(), 0.0)?);
    let (mut dA, mut scratch) = (filled(shape.states(), 0.0)?, filled(shape.scratch(), 0.0)?);
    let (mut dD, mut ddt_bias) = (filled(shape.dim, 0.0)?, filled(shape.dim, 0.0)?);
    Ok(Box::new(move || {
        let mut gradients = ScanGradients {
            dx: &mut dx,
            ddt: &mut ddt,
            dA: &mut dA,
            dB: &mut dB,
            dC: &mut dC,
            dD: &mut dD,
            dz: &mut dz,
            ddt_bias: &mut ddt_bias,
        };
        loops.scan_backward(&case.plain_scan(), &case.plain.sequences[3], &mut gradients, &mut scratch);
        Ok(())
    }))
}

fn conv_forward<'c, T: Io>(loops: &'static Loops, case: &'c Case<T>) -> Result<Runner<'c>> {
    let mut out = filled(case.shape.sequence(), 0.0)?;
    Ok(Box::new(move || {
        loops.conv_forward(&case.plain_conv(), &mut out);
        Ok(())
    }))
}

fn conv_backward<'c, T: Io>(loops: &'static Loops, case: &'c Case<T>) -> Result<Runner<'c>> {
    let shape = case.shape;
    let (mut dx, mut dweight) = (filled(shape.sequence(), 0.0)?, filled(shape.states(), 0.0)?);
    let mut dbias = filled(shape.dim, 0.0)?;
    Ok(Box::new(move || {
        let mut gradients = ConvGradients { dx: &mut dx, dweight: &mut dweight, dbias: &mut dbias };
        loops.conv_backward(&case.plain_conv(), &case.plain.sequences[3], &mut gradients);
        Ok(())
    }))
}

fn conv_update<'c, T: Io>(loops: &'static Loops, case: &'c Case<T>) -> Result<Runner<'c>> {
    let shape = case.shape;
    let states = shape.batch * shape.dim * (shape.dstate - 1);
    let (mut out, mut states) = (filled(shape.sequence(), 0.0)?, filled(states, 0.0)?);
    Ok(Box::new(move || {
        loops.conv_update(&case.plain_conv(), &mut out, &mut states);
        Ok(())
    }))
}

/// By pairs or by states, whichever is less work.
fn attention_forward<'c, T: Io>(loops: &'static Loops, case: &'c Case<T>) -> Result<Runner<'c>> {
    let attention = case.plain_attention();
    let mut out = filled(attention.elements(), 0.0)?;
    let (pairs, states) = attention::loop_operations(&case.shape);
    if pairs <= states {
        return Ok(Box::new(move || {
            loops.attention_pairs(&attention, &mut out);
            Ok(())
        }));
    }
    let mut scratch = filled(attention.scratch(), 0.0)?;
    Ok(Box::new(move || {
        loops.attention_states(&attention, &mut out, &mut scratch);
        Ok(())
    }))
}

fn attention_update<'c, T: Io>(loops: &'static Loops, case: &'c Case<T>) -> Result<Runner<'c>> {
    let attention = case.plain_attention();
    let rows = case.shape.batch * case.shape.dim * attention.features();
    let mut out = filled(attention.elements(), 0.0)?;
    let (mut states, mut norms) = (filled(rows * case.shape.dstate, 0.0)?, filled(rows, 0.0)?);
    Ok(Box::new(move || {
        loops.attention_update(&attention, &mut out, &mut states, &mut norms);
        Ok(())
    }))
}

fn zoh_forward<'c, T: Io>(loops: &'static Loops, case: &'c Case<T>) -> Result<Runner<'c>> {
    let elements = case.shape.sequence() * case.shape.dstate;
    let (mut A_bar, mut B_bar) = (filled(elements, 0.0)?, filled(elements, 0.0)?);
    Ok(Box::new(move || {
        loops.zoh_forward(&case.plain_zoh(), &mut A_bar, &mut B_bar);
        Ok(())
    }))
}

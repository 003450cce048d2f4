//! What is compiled once for each dtype, here: as generic functions, the vector loops would be compiled again in every crate
//! that calls them.

use super::Cpu;
use super::causal_conv1d::{BackwardPass, ForwardPass, UpdatePass};
use super::selective_scan::{BackwardWorker, ForwardWorker};
use super::tasks::Tasks;
use crate::tensor::Element;

pub trait Kernels: Sized {
    fn selective_scan_forward(cpu: Cpu, worker: ForwardWorker<'_, '_, '_, Self>)
    where
        Self: Element;

    fn selective_scan_backward(cpu: Cpu, worker: BackwardWorker<'_, '_, '_, '_, '_, Self>)
    where
        Self: Element;

    fn causal_conv1d_forward(cpu: Cpu, tasks: Tasks<'_, ForwardPass<'_, '_, Self>>)
    where
        Self: Element;

    fn causal_conv1d_backward(cpu: Cpu, tasks: Tasks<'_, BackwardPass<'_, '_, Self>>)
    where
        Self: Element;

    fn causal_conv1d_update(cpu: Cpu, tasks: Tasks<'_, UpdatePass<'_, '_, Self>>)
    where
        Self: Element;
}

macro_rules! kernels {
    ($($dtype:ty),+) => {$(
        impl Kernels for $dtype {
            fn selective_scan_forward(cpu: Cpu, worker: ForwardWorker<'_, '_, '_, Self>) {
                cpu.dispatch(worker);
            }

            fn selective_scan_backward(cpu: Cpu, worker: BackwardWorker<'_, '_, '_, '_, '_, Self>) {
                cpu.dispatch(worker);
            }

            fn causal_conv1d_forward(cpu: Cpu, tasks: Tasks<'_, ForwardPass<'_, '_, Self>>) {
                cpu.dispatch(tasks);
            }

            fn causal_conv1d_backward(cpu: Cpu, tasks: Tasks<'_, BackwardPass<'_, '_, Self>>) {
                cpu.dispatch(tasks);
            }

            fn causal_conv1d_update(cpu: Cpu, tasks: Tasks<'_, UpdatePass<'_, '_, Self>>) {
                cpu.dispatch(tasks);
            }
        }
    )+};
}
kernels!(f32, half::f16, half::bf16);

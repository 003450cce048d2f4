//! What is compiled once for each dtype, here: as generic functions, the vector loops would be compiled again in every crate
//! that calls them.

use super::Cpu;
use super::selective_scan::{BackwardWorker, ForwardWorker};
use crate::tensor::Element;

pub trait Kernels: Sized {
    fn selective_scan_forward(cpu: Cpu, worker: ForwardWorker<'_, '_, '_, Self>)
    where
        Self: Element;

    fn selective_scan_backward(cpu: Cpu, worker: BackwardWorker<'_, '_, '_, '_, '_, Self>)
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
        }
    )+};
}
kernels!(f32, half::f16, half::bf16);

//! The emulated device of a run.

use crate::args::RunArgs;
use ssm_kernels::gpu::{Emulator, Mode};

/// As the command line says.
pub(super) fn device(args: &RunArgs) -> Emulator {
    let emulator = match args.threads {
        Some(threads) => Emulator::new().threads(threads.into()),
        None => Emulator::new(),
    };
    match args.adversarial {
        Some(seed) => emulator.mode(Mode::Adversarial { seed }),
        None => emulator,
    }
}

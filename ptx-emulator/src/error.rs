//! The one error type.

/// What the library returns.
pub type Result<T> = std::result::Result<T, Error>;

/// Why PTX, an argument or a launch was refused. What a running kernel does wrong is not an error but a finding.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text is not PTX.
    #[error("PTX line {line}: {what}")]
    Syntax {
        /// Line of the PTX text, from 1.
        line: u32,
        /// What was found and what was expected.
        what: String,
    },
    /// PTX that the emulator does not know: never skipped, never approximated.
    #[error("PTX line {line}: {what} is not supported")]
    Unsupported {
        /// Line of the PTX text, from 1.
        line: u32,
        /// The opcode with its modifiers, the directive or the operand.
        what: String,
    },
    /// PTX that contradicts itself: an unknown name, an operand of the wrong width.
    #[error("PTX line {line}: {what}")]
    Invalid {
        /// Line of the PTX text, from 1.
        line: u32,
        /// What is wrong.
        what: String,
    },
    /// The module has no such kernel.
    #[error("no kernel `{name}`: the module has {known}")]
    NoKernel {
        /// Name asked for.
        name: String,
        /// Names that the module has.
        known: String,
    },
    /// The arguments of a launch are not those of the kernel.
    #[error("kernel `{kernel}`: {what}")]
    Arguments {
        /// Name of the kernel.
        kernel: String,
        /// Argument, expected and got.
        what: String,
    },
    /// A grid, block or amount of shared memory that no device takes.
    #[error("kernel `{kernel}`: {what}")]
    Launch {
        /// Name of the kernel.
        kernel: String,
        /// What was asked for, and the limit.
        what: String,
    },
    /// A host access to device memory outside what is allocated.
    #[error("device memory: {what}")]
    Memory {
        /// Address, extent and what is wrong.
        what: String,
    },
}

//! Why a call was refused.

use std::fmt::Display;
use std::path::Path;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, CliError>;

/// Why a call was refused: one sentence for standard error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CliError(String);

impl CliError {
    /// An error that no argument is to blame for.
    pub fn new(message: impl Display) -> Self {
        Self(message.to_string())
    }

    /// An argument that is not what it should be, in the library's words.
    pub fn value(op: impl Display, arg: impl Display, got: impl Display, expected: impl Display) -> Self {
        Self(format!("{op}: `{arg}` {got}, expected {expected}"))
    }

    /// The same with the file's name in front.
    pub fn at(self, path: &Path) -> Self {
        Self(format!("{}: {self}", path.display()))
    }
}

impl From<ssm_kernels::Error> for CliError {
    fn from(error: ssm_kernels::Error) -> Self {
        Self::new(error)
    }
}

/// `text` without line breaks and other control characters: names in a file may hold any.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(super::one_line("a\nb\u{1b}[0m `dé`"), "a\\nb\\u{1b}[0m `dé`");
    }
}

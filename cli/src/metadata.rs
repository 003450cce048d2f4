//! The metadata strings of a file, typed.

use crate::error::{CliError, Result};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Key and value pairs of one file.
#[derive(Debug, Default)]
pub struct Metadata(BTreeMap<String, String>);

impl Metadata {
    /// From the header of a file.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The value as it is; `null` is no value.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| *text != "null")
    }

    /// `true` or `false`.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        let parse = |text: &str| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(refuse(key, text, "true or false")),
        };
        self.text(key).map(parse).transpose()
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<f32>> {
        self.text(key).map(|text| text.trim().parse().map_err(|_| refuse(key, text, "a number"))).transpose()
    }

    /// A whole number that must be `actual`.
    pub fn check_number(&self, key: &str, actual: usize) -> Result<()> {
        match self.text(key) {
            Some(text) if text.parse() != Ok(actual) => Err(refuse(key, text, format!("{actual} like the tensors"))),
            _ => Ok(()),
        }
    }

    /// A flag that must say whether something `is` so; `what` names it.
    pub fn check_flag(&self, key: &str, is: bool, what: &str) -> Result<()> {
        match self.flag(key)? {
            Some(flag) if flag != is => {
                let not = if is { "" } else { "not " };
                Err(refuse(key, &flag.to_string(), format!("{is} because {what} {not}in the file")))
            }
            _ => Ok(()),
        }
    }

    /// A text that must be `actual`.
    pub fn check_text(&self, key: &str, actual: &str, because: &str) -> Result<()> {
        match self.text(key) {
            Some(text) if text != actual => Err(refuse(key, text, format!("{actual} {because}"))),
            _ => Ok(()),
        }
    }

    /// `[1, 2]` or `(1, 2)`.
    pub fn list<T: FromStr>(&self, key: &str) -> Result<Option<Vec<T>>> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let trimmed = text.trim();
        let inner = [('[', ']'), ('(', ')')]
            .iter()
            .find_map(|&(open, close)| trimmed.strip_prefix(open)?.strip_suffix(close))
            .ok_or_else(|| refuse(key, text, "a list in brackets"))?;
        if inner.trim().is_empty() {
            return Ok(Some(vec![]));
        }
        let number = |part: &str| part.trim().parse().map_err(|_| refuse(key, text, "a list of numbers"));
        inner.split(',').map(number).collect::<Result<_>>().map(Some)
    }

    /// The clamp of delta.
    pub fn dt_limit(&self) -> Result<Option<(f32, f32)>> {
        let pair = |list: Vec<f32>| match list[..] {
            [min, max] => Ok((min, max)),
            _ => Err(refuse("dt_limit", self.text("dt_limit").unwrap_or_default(), "two numbers, [min, max]")),
        };
        self.list("dt_limit")?.map(pair).transpose()
    }

    /// No operator of this build is complex.
    pub fn check_real(&self) -> Result<()> {
        match self.flag("complex")? {
            Some(true) => Err(refuse("complex", "true", "false: complex A is not part of this operator")),
            _ => Ok(()),
        }
    }

    /// One warning for every key that is not in `known`.
    pub fn warnings(&self, op: &str, known: &[&str]) -> Vec<String> {
        let unknown = self.0.keys().filter(|key| !known.contains(&key.as_str()));
        unknown.map(|key| format!("warning: metadata key `{key}` is not known to {op}; ignored")).collect()
    }
}

/// An error about the value of a key.
pub fn refuse(key: &str, got: &str, expected: impl std::fmt::Display) -> CliError {
    CliError::new(format!("metadata key `{key}` is {got:?}, expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(key: &str, value: &str) -> Metadata {
        Metadata::new([(key.to_string(), value.to_string())])
    }

    #[test]
    fn lists_and_limits() {
        assert_eq!(metadata("k", "[0, 17, 58]").list::<i32>("k").unwrap().unwrap(), [0, 17, 58]);
        assert!(metadata("k", " ( ) ").list::<i32>("k").unwrap().unwrap().is_empty());
        assert_eq!(metadata("dt_limit", "(0.0, Infinity)").dt_limit().unwrap(), Some((0.0, f32::INFINITY)));
        for wrong in ["", "[", "1, 2", "[1, 2)", "[1,,2]", "[1, x]", "[1]", "[1, 2, 3]", "[]"] {
            assert!(metadata("dt_limit", wrong).dt_limit().is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(metadata("scale", " 2.5e-1").number("scale").unwrap(), Some(0.25));
        for wrong in ["", "one", "1,5", "[1]"] {
            assert!(metadata("scale", wrong).number("scale").is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_are_true_or_false() {
        assert_eq!(metadata("k", "true").flag("k").unwrap(), Some(true));
        for wrong in ["True", "1", "", "yes"] {
            assert!(metadata("k", wrong).flag("k").is_err());
        }
    }
}

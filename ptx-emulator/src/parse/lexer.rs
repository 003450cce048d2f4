//! Text to tokens, one at a time.

use crate::error::{Error, Result};

/// A piece of PTX, as a slice of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// `ld`, `%r1`, `$L__BB0_1`, `_`.
    Word(&'a str),
    /// `.param`, `.shared::cta`, `.2d`: without the first dot.
    Dot(&'a str),
    /// Begins with a digit or is a decimal fraction; not yet known to be well formed.
    Number(&'a str),
    /// Between quotes, escapes as they stand.
    Text(&'a str),
    /// An operator or bracket.
    Mark(&'a str),
    End,
}

impl std::fmt::Display for Token<'_> {
    /// As messages quote it; names of any length are cut.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(text) | Self::Number(text) | Self::Mark(text) => write!(f, "`{}`", cut(text)),
            Self::Dot(text) => write!(f, "`.{}`", cut(text)),
            Self::Text(text) => write!(f, "\"{}\"", cut(text)),
            Self::End => f.write_str("the end of the text"),
        }
    }
}

/// The first 80 characters: messages stay short whatever the text.
pub(super) fn cut(text: &str) -> &str {
    text.char_indices().nth(80).map_or(text, |(end, _)| &text[..end])
}

/// Reads tokens from the front of a text.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

/// May follow the first character of a name.
fn continues(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$')
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str) -> Self {
        // Drivers take PTX as a C string, so that its final zero is often part of the text.
        Self { text: text.trim_end_matches('\0'), at: 0, line: 1 }
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.at.saturating_add(ahead)).copied().unwrap_or(0)
    }

    fn syntax<T>(&self, what: String) -> Result<T> {
        Err(Error::Syntax { line: self.line, what })
    }

    /// The next token and its line.
    pub fn next(&mut self) -> Result<(Token<'a>, u32)> {
        self.skip_blanks()?;
        let (start, line) = (self.at, self.line);
        if start >= self.text.len() {
            return Ok((Token::End, line));
        }
        let token = match self.byte(0) {
            b'.' if self.byte(1).is_ascii_digit() => self.dot_or_fraction(),
            b'.' if continues(self.byte(1)) => Token::Dot(self.modifier()),
            b'0'..=b'9' => Token::Number(self.number()),
            first if first.is_ascii_alphabetic() || matches!(first, b'_' | b'$') => Token::Word(self.word(1)),
            b'%' if continues(self.byte(1)) => Token::Word(self.word(1)),
            b'"' => self.quoted()?,
            _ => self.mark()?,
        };
        Ok((token, line))
    }

    /// Skips white space and comments.
    fn skip_blanks(&mut self) -> Result<()> {
        loop {
            match (self.byte(0), self.byte(1)) {
                (b'\n', _) => {
                    self.line = self.line.saturating_add(1);
                    self.at += 1;
                }
                (b' ' | b'\t' | b'\r' | 0x0b | 0x0c, _) => self.at += 1,
                (b'/', b'/') => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                (b'/', b'*') => {
                    let rest = &self.text[self.at..];
                    let Some(length) = rest[2..].find("*/").map(|found| found + 4) else {
                        return self.syntax("a comment without its end".into());
                    };
                    self.count_lines(&rest[..length]);
                    self.at += length;
                }
                _ => return Ok(()),
            }
        }
    }

    fn count_lines(&mut self, text: &str) {
        let lines = text.bytes().filter(|&byte| byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
    }

    /// A name whose first bytes are known to belong to it.
    fn word(&mut self, known: usize) -> &'a str {
        let start = self.at;
        self.at += known;
        while continues(self.byte(0)) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    /// A modifier from its dot on; `::` joins its parts.
    fn modifier(&mut self) -> &'a str {
        let start = self.at + 1;
        self.word(1);
        while self.byte(0) == b':' && self.byte(1) == b':' && continues(self.byte(2)) {
            self.word(2);
        }
        &self.text[start..self.at]
    }

    /// `.2d` after an opcode, `.5` after a blank or operator: what stands before tells them apart.
    fn dot_or_fraction(&mut self) -> Token<'a> {
        let before = self.at.checked_sub(1).and_then(|at| self.text.as_bytes().get(at));
        if before.is_some_and(|&byte| continues(byte)) {
            Token::Dot(self.modifier())
        } else {
            Token::Number(self.number())
        }
    }

    /// An integer, a hexadecimal float, or decimal digits with a point and an exponent.
    fn number(&mut self) -> &'a str {
        let start = self.at;
        self.word(0);
        let bytes = self.text.as_bytes();
        if self.byte(0) == b'.' && bytes[start..self.at].iter().all(u8::is_ascii_digit) {
            self.word(1);
        }
        let so_far = &bytes[start..self.at];
        let decimal = !matches!(so_far, [b'0', b'x' | b'X' | b'b' | b'B' | b'f' | b'F' | b'd' | b'D', ..]);
        if decimal && so_far.last().is_some_and(|&last| last | 32 == b'e') && matches!(self.byte(0), b'+' | b'-') {
            self.word(1);
        }
        &self.text[start..self.at]
    }

    /// A string, which stays on its line.
    fn quoted(&mut self) -> Result<Token<'a>> {
        let start = self.at + 1;
        let mut end = start;
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') if bytes.get(end + 1) != Some(&b'\n') => end += 2,
                None | Some(b'\n') => return self.syntax("a string without its end".into()),
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        // A backslash before a character of several bytes leaves no boundary behind, but a quote always is one.
        Ok(Token::Text(&self.text[start..end]))
    }

    fn mark(&mut self) -> Result<Token<'a>> {
        let pair = &self.text.as_bytes()[self.at..self.text.len().min(self.at + 2)];
        let length = match pair {
            b"<<" | b">>" | b"==" | b"!=" | b"<=" | b">=" | b"&&" | b"||" => 2,
            [
                b'{' | b'}' | b'(' | b')' | b'[' | b']' | b'<' | b'>' | b',' | b';' | b':' | b'@' | b'!' | b'|' | b'+'
                | b'-' | b'*' | b'/' | b'%' | b'&' | b'^' | b'~' | b'?' | b'=',
                ..,
            ] => 1,
            _ => {
                let found = self.text[self.at..].chars().next().unwrap_or_default();
                return self.syntax(format!("the character {found:?} is no part of PTX"));
            }
        };
        let start = self.at;
        self.at += length;
        Ok(Token::Mark(&self.text[start..self.at]))
    }
}

//! The place in the text, and what a parser asks of it.

use super::lexer::{Lexer, Token, cut};
use crate::error::{Error, Result};

/// How deep scopes, expressions and initialisers may nest together.
const DEPTH: u32 = 64;
/// Registers that a module may declare.
const REGISTERS: u32 = 1 << 20;
/// Zeros that the initialisers of a module may leave out before what they give.
const ZEROS: u32 = 1 << 20;

/// One token ahead of what is parsed.
pub(super) struct Cursor<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    line: u32,
    /// Line of the token before.
    passed: u32,
    depth: u32,
    registers: u32,
    zeros: u32,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Result<Self> {
        let mut lexer = Lexer::new(text);
        let (token, line) = lexer.next()?;
        Ok(Self { lexer, token, line, passed: line, depth: 0, registers: 0, zeros: 0 })
    }

    /// The token that comes next.
    pub fn peek(&self) -> Token<'a> {
        self.token
    }

    /// Its line.
    pub fn line(&self) -> u32 {
        self.line
    }

    pub fn advance(&mut self) -> Result<Token<'a>> {
        let token = self.token;
        self.passed = self.line;
        (self.token, self.line) = self.lexer.next()?;
        Ok(token)
    }

    pub fn at(&self, mark: &str) -> bool {
        self.token == Token::Mark(mark)
    }

    /// Takes the mark if it comes next.
    pub fn eat(&mut self, mark: &str) -> Result<bool> {
        let found = self.at(mark);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub fn expect(&mut self, mark: &str) -> Result<()> {
        if self.eat(mark)? { Ok(()) } else { Err(self.unexpected(&format!("`{mark}`"))) }
    }

    /// Takes the word of that text if it comes next.
    pub fn eat_word(&mut self, word: &str) -> Result<bool> {
        let found = self.token == Token::Word(word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    /// Takes the directive or modifier if it comes next.
    pub fn eat_dot(&mut self, name: &str) -> Result<bool> {
        let found = self.token == Token::Dot(name);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    pub fn word(&mut self, wanted: &str) -> Result<&'a str> {
        match self.token {
            Token::Word(word) => {
                self.advance()?;
                Ok(word)
            }
            _ => Err(self.unexpected(wanted)),
        }
    }

    /// A word that declares something.
    pub fn new_name(&mut self, wanted: &str) -> Result<&'a str> {
        match self.token {
            Token::Word("_" | "WARP_SZ") => Err(self.unexpected(wanted)),
            _ => self.word(wanted),
        }
    }

    pub fn text(&mut self) -> Result<&'a str> {
        match self.token {
            Token::Text(text) => {
                self.advance()?;
                Ok(text)
            }
            _ => Err(self.unexpected("a string")),
        }
    }

    /// Parses one level deeper.
    pub fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH {
            return Err(self.syntax(format!("nested deeper than {DEPTH} levels")));
        }
        self.depth += 1;
        let parsed = parse(self)?;
        self.depth -= 1;
        Ok(parsed)
    }

    /// Counts declared registers.
    pub fn count_registers(&mut self, count: u32) -> Result<()> {
        self.registers = self.registers.saturating_add(count);
        if self.registers > REGISTERS {
            return Err(self.invalid(format!("more than {REGISTERS} registers declared")));
        }
        Ok(())
    }

    /// Counts zeros that initialisers imply.
    pub fn count_zeros(&mut self, count: u64) -> Result<()> {
        self.zeros = self.zeros.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        if self.zeros > ZEROS {
            return Err(self.invalid(format!("initialisers leave out more than {ZEROS} elements")));
        }
        Ok(())
    }

    /// An error at the next token, quoting it.
    pub fn unexpected(&self, wanted: &str) -> Error {
        self.syntax(format!("expected {wanted}, found {}", self.token))
    }

    /// An error at the next token.
    pub fn syntax(&self, what: impl Into<String>) -> Error {
        Error::Syntax { line: self.line, what: what.into() }
    }

    /// An error in what has been read.
    pub fn invalid(&self, what: impl Into<String>) -> Error {
        Error::Invalid { line: self.passed, what: what.into() }
    }

    /// An error that names a construct, cut to a sensible length.
    pub fn unsupported(&self, what: &str) -> Error {
        Error::Unsupported { line: self.line, what: cut(what).into() }
    }
}

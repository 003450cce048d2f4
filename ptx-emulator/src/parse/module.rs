//! Directives of a module, and functions down to their bodies.

use super::alias::resolve;
use super::ast::{Function, Module};
use super::cursor::Cursor;
use super::lexer::Token;
use super::number::{integer, small_integer};
use super::statements::body;
use super::variables::{attribute, is_opaque, parameters, space, variables};
use crate::error::{Error, Result};

/// Characters of a message: names may have any length.
const MESSAGE: usize = 240;

/// Parses PTX.
pub(crate) fn parse(text: &str) -> Result<Module> {
    whole(text).map_err(|mut error| {
        if let Error::Syntax { what, .. } | Error::Unsupported { what, .. } | Error::Invalid { what, .. } = &mut error
            && let Some((end, _)) = what.char_indices().nth(MESSAGE)
        {
            what.truncate(end);
            what.push('…');
        }
        error
    })
}

fn whole(text: &str) -> Result<Module> {
    let mut cursor = Cursor::new(text)?;
    let cursor = &mut cursor;
    if !cursor.eat_dot("version")? {
        return Err(cursor.unexpected("`.version`, with which PTX begins"));
    }
    let mut module = Module { version: version(cursor)?, address_size: 64, ..Module::default() };
    if !cursor.eat_dot("target")? {
        return Err(cursor.unexpected("`.target`"));
    }
    module.target = target(cursor)?;
    let mut aliases = Vec::new();
    loop {
        match cursor.peek() {
            Token::End => break,
            Token::Dot("alias") => {
                let line = cursor.line();
                cursor.advance()?;
                let name = cursor.word("a function")?;
                cursor.expect(",")?;
                aliases.push((name, cursor.word("a function")?, line));
                cursor.expect(";")?;
            }
            Token::Dot(name) => directive(cursor, &mut module, name)?,
            _ => return Err(cursor.unexpected("a directive")),
        }
    }
    resolve(&mut module.functions, &aliases)?;
    Ok(module)
}

fn directive(cursor: &mut Cursor, module: &mut Module, name: &str) -> Result<()> {
    match name {
        "address_size" => {
            cursor.advance()?;
            let line = cursor.line();
            module.address_size = small_integer(cursor)?;
            if module.address_size != 64 {
                let what = format!("`.address_size {}` (expected 64)", module.address_size);
                return Err(Error::Unsupported { line, what });
            }
        }
        "file" => {
            cursor.advance()?;
            module.files.push(file(cursor)?);
        }
        "section" => section(cursor)?,
        "pragma" => pragma(cursor)?,
        "version" | "target" => return Err(cursor.syntax(format!("a second `.{name}`"))),
        _ => definition(cursor, module)?,
    }
    Ok(())
}

/// Major and minor.
fn version(cursor: &mut Cursor) -> Result<(u32, u32)> {
    let Token::Number(text) = cursor.peek() else { return Err(cursor.unexpected("a version")) };
    let part = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    let parts = text.split_once('.').and_then(|(major, minor)| Some((part(major)?, part(minor)?)));
    let Some(parts) = parts else { return Err(cursor.unexpected("a version")) };
    cursor.advance()?;
    Ok(parts)
}

/// The architecture; words behind it say how textures are addressed and that there is debug information.
fn target(cursor: &mut Cursor) -> Result<String> {
    let target = cursor.word("an architecture")?.into();
    while cursor.eat(",")? {
        match cursor.peek() {
            Token::Word("debug" | "texmode_unified" | "texmode_independent" | "map_f64_to_f32") => cursor.advance()?,
            other => return Err(cursor.unsupported(&format!("the target {other}"))),
        };
    }
    Ok(target)
}

/// `.file 1 "path", time, size`
fn file(cursor: &mut Cursor) -> Result<(u32, String)> {
    let index = small_integer(cursor)?;
    let path = unescaped(cursor.text()?);
    while cursor.eat(",")? {
        integer(cursor)?;
    }
    Ok((index, path))
}

/// Backslashes and quotes without the backslash before them.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        match (character, rest.as_str().chars().next()) {
            ('\\', Some(next @ ('\\' | '"'))) => {
                plain.push(next);
                rest.next();
            }
            _ => plain.push(character),
        }
    }
    plain
}

/// Debug data: no code, and no brace inside.
fn section(cursor: &mut Cursor) -> Result<()> {
    let opened = cursor.line();
    cursor.advance()?;
    match cursor.peek() {
        Token::Dot(_) | Token::Word(_) => cursor.advance()?,
        _ => return Err(cursor.unexpected("the name of a section")),
    };
    cursor.expect("{")?;
    loop {
        match cursor.peek() {
            Token::End => return Err(cursor.syntax(format!("the text ends inside the section of line {opened}"))),
            Token::Mark("{") => return Err(cursor.unexpected("data")),
            _ => {}
        }
        if cursor.advance()? == Token::Mark("}") {
            return Ok(());
        }
    }
}

/// `.pragma "nounroll";`: hints to the compiler that come next.
pub(super) fn pragma(cursor: &mut Cursor) -> Result<()> {
    cursor.advance()?;
    cursor.text()?;
    while cursor.eat(",")? {
        cursor.text()?;
    }
    cursor.expect(";")
}

/// A function or variable, with how it is linked.
fn definition(cursor: &mut Cursor, module: &mut Module) -> Result<()> {
    let mut external = false;
    let mut linkage = None;
    loop {
        let line = cursor.line();
        match cursor.peek() {
            Token::Dot(name @ ("visible" | "extern" | "weak" | "common")) => {
                if linkage.is_some() {
                    return Err(cursor.syntax(format!("`.{name}` behind another linkage")));
                }
                external = name == "extern";
                linkage = Some(name);
                cursor.advance()?;
            }
            Token::Dot("attribute") => attribute(cursor)?,
            Token::Dot(name @ ("entry" | "func")) => {
                cursor.advance()?;
                let function = function(cursor, name == "entry", external, line)?;
                module.functions.push(function);
                return Ok(());
            }
            Token::Dot(name) => {
                let Some(space) = space(name) else {
                    let what = if is_opaque(name) { format!(".{name}") } else { format!("the directive `.{name}`") };
                    return Err(cursor.unsupported(&what));
                };
                cursor.advance()?;
                module.variables.extend(variables(cursor, space, external)?);
                return Ok(());
            }
            _ => return Err(cursor.unexpected("a function or variable")),
        }
    }
}

/// From behind `.entry` or `.func` on.
fn function(cursor: &mut Cursor, entry: bool, external: bool, line: u32) -> Result<Function> {
    let mut function = signature(cursor, entry, line)?;
    if function.name == "_" {
        return Err(cursor.invalid("a function without a name"));
    }
    function.external = external;
    if cursor.at("{") {
        if external {
            return Err(cursor.invalid(format!("`{}` is external and has a body", function.name)));
        }
        function.body = Some(body(cursor)?);
    } else if !cursor.eat(";")? {
        return Err(cursor.unexpected("`{` or `;`"));
    }
    Ok(function)
}

/// Results, name, parameters and directives.
fn signature(cursor: &mut Cursor, entry: bool, line: u32) -> Result<Function> {
    let returns = if !entry && cursor.at("(") { parameters(cursor)? } else { Vec::new() };
    let name = cursor.word("a name")?.into();
    let params = if cursor.at("(") { parameters(cursor)? } else { Vec::new() };
    let mut directives = Vec::new();
    while let Token::Dot(name) = cursor.peek() {
        let most = match name {
            "pragma" => {
                pragma(cursor)?;
                continue;
            }
            "noreturn" | "explicitcluster" | "blocksareclusters" => 0,
            "minnctapersm"
            | "maxnctapersm"
            | "maxnreg"
            | "maxclusterrank"
            | "abi_preserve"
            | "abi_preserve_control" => 1,
            "maxntid" | "reqntid" | "reqnctapercluster" => 3,
            _ => return Err(cursor.unsupported(&format!("the directive `.{name}` of a function"))),
        };
        cursor.advance()?;
        let mut values = Vec::new();
        if most > 0 {
            values.push(integer(cursor)?);
            while values.len() < most && cursor.eat(",")? {
                values.push(integer(cursor)?);
            }
        }
        directives.push((name.into(), values));
    }
    Ok(Function { entry, external: false, name, returns, params, directives, body: None, line })
}

/// `.callprototype (.param .b32 _) _ (.param .b64 _);`
pub(super) fn prototype(cursor: &mut Cursor) -> Result<()> {
    let line = cursor.line();
    cursor.advance()?;
    signature(cursor, false, line)?;
    cursor.expect(";")
}

//! `.alias`: a function under a second name.

use super::ast::{Block, Function, Space, Statement};
use crate::error::{Error, Result};

/// Each alias is a copy of its function.
const MOST: usize = 64;

/// Gives the declared `name` of every `(name, function, line)` the function's body.
pub(super) fn resolve(functions: &mut [Function], aliases: &[(&str, &str, u32)]) -> Result<()> {
    if let Some(&(_, _, line)) = aliases.get(MOST) {
        return Err(Error::Invalid { line, what: format!("more than {MOST} aliases") });
    }
    for &(name, original, line) in aliases {
        let invalid = |what: String| Error::Invalid { line, what };
        let Some(copy) = functions.iter().find(|function| function.name == original && function.body.is_some()) else {
            return Err(invalid(format!("`{original}` has no body, so that `{name}` is no alias of it")));
        };
        if copy.entry {
            return Err(invalid(format!("`{original}` is a kernel, which has no alias")));
        }
        if copy.body.as_ref().is_some_and(has_own_memory) {
            let what = format!("an alias of `{original}`, which declares memory of its own,");
            return Err(Error::Unsupported { line, what });
        }
        let copy = copy.clone();
        let mut declared = functions.iter_mut().filter(|function| function.name == name && function.body.is_none());
        let Some(alias) = declared.next() else {
            return Err(invalid(format!("`{name}` is no declared function without a body")));
        };
        *alias = Function { name: name.into(), line: alias.line, ..copy };
    }
    Ok(())
}

/// A copy would have memory of its own too, where an alias shares it.
fn has_own_memory(block: &Block) -> bool {
    block.statements.iter().any(|statement| match statement {
        Statement::Variable(variable) => !variable.external && !matches!(variable.space, Space::Local | Space::Param),
        Statement::Block(block) => has_own_memory(block),
        _ => false,
    })
}

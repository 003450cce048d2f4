//! The text that nvdisasm writes with `-c -g`: functions, basic blocks, loops.

/// One machine instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// Issued whether its predicate holds or not; without it only if it is a branch.
    pub predicated: bool,
    /// With its modifiers: `MUFU.EX2`.
    pub opcode: String,
    pub operands: String,
    /// Line of the PTX that it was made from; 0 if unknown.
    pub line: u32,
}

impl Instruction {
    /// The opcode without modifiers.
    pub fn stem(&self) -> &str {
        self.opcode.split('.').next().unwrap_or_default()
    }

    /// ptxas also jumps by calls that never return.
    pub fn is_branch(&self) -> bool {
        self.stem() == "BRA" || (self.stem() == "CALL" && self.operands.contains("`(.L_"))
    }

    pub fn is_call(&self) -> bool {
        self.stem() == "CALL" && !self.is_branch()
    }

    pub fn is_exponential(&self) -> bool {
        self.opcode.starts_with("MUFU.EX2")
    }
}

/// Instructions that are entered at the first and left at the last.
#[derive(Debug, Default)]
pub struct Block {
    pub instructions: Vec<Instruction>,
    pub successors: Vec<usize>,
    /// The kernel may end here.
    pub exits: bool,
    /// A way that ptxas adds to an instruction (division, mostly) for operands that are rare: it calls a function of
    /// ptxas's own, and a branch leads around it.
    pub is_rare: bool,
}

/// A kernel, without the functions that ptxas adds behind it.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub blocks: Vec<Block>,
}

/// A natural loop: its first block, and all blocks, the first included, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Loop {
    pub first: usize,
    pub blocks: Vec<usize>,
}

/// All kernels of a listing.
pub fn parse(listing: &str) -> Result<Vec<Function>, String> {
    let mut functions = Vec::new();
    let mut lines: Option<(String, Vec<&str>)> = None;
    for line in listing.lines() {
        if let Some(name) = line.strip_prefix(".text.").and_then(|rest| rest.strip_suffix(':')) {
            finish(&mut functions, lines.take())?;
            lines = Some((name.to_string(), Vec::new()));
        } else if line.starts_with("$__internal") || line.trim_start().starts_with(".section") {
            finish(&mut functions, lines.take())?;
        } else if let Some((_, lines)) = &mut lines {
            lines.push(line);
        }
    }
    finish(&mut functions, lines)?;
    Ok(functions)
}

fn finish(functions: &mut Vec<Function>, lines: Option<(String, Vec<&str>)>) -> Result<(), String> {
    if let Some((name, lines)) = lines {
        let blocks = blocks(&lines).map_err(|message| format!("{name}: {message}"))?;
        functions.push(Function { name, blocks });
    }
    Ok(())
}

/// Blocks end before labels, and behind what may go elsewhere.
fn blocks(lines: &[&str]) -> Result<Vec<Block>, String> {
    let mut blocks: Vec<Block> = vec![Block::default()];
    let mut labels: Vec<(&str, usize)> = Vec::new();
    let mut labelled = vec![true];
    let mut line_of_ptx = 0;
    for line in lines {
        let text = line.trim();
        let begins = |blocks: &mut Vec<Block>, labelled: &mut Vec<bool>, has_label: bool| {
            if blocks.last().is_some_and(|block| !block.instructions.is_empty()) {
                blocks.push(Block::default());
                labelled.push(has_label);
            } else if let Some(last) = labelled.last_mut() {
                *last |= has_label;
            }
        };
        if let Some(rest) = text.strip_prefix("//## File ") {
            line_of_ptx = rest.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        } else if let Some(label) = text.strip_suffix(':').filter(|label| label.starts_with(".L_")) {
            begins(&mut blocks, &mut labelled, true);
            labels.push((label, blocks.len() - 1));
        } else if let Some(instruction) = instruction(text, line_of_ptx) {
            let ends = instruction.is_branch() || matches!(instruction.stem(), "EXIT" | "RET" | "BRX" | "JMP");
            let block = blocks.last_mut().expect("there is always one");
            block.instructions.push(instruction);
            if ends {
                begins(&mut blocks, &mut labelled, false);
            }
        }
    }
    if blocks.last().is_some_and(|block| block.instructions.is_empty()) {
        blocks.pop();
        labels.retain(|(_, block)| *block < blocks.len());
    }
    link(&mut blocks, &labels)?;
    mark_rare(&mut blocks, &labelled);
    Ok(blocks)
}

/// `/*0150*/ @P0 IADD3 R3, R3, 0x1, RZ ;`
fn instruction(text: &str, line: u32) -> Option<Instruction> {
    let (_, rest) = text.strip_prefix("/*")?.split_once("*/")?;
    let rest = rest.split(';').next()?.trim();
    let (predicated, rest) = match rest.strip_prefix('@') {
        Some(rest) => (true, rest.split_once(' ')?.1.trim()),
        None => (false, rest),
    };
    let (opcode, operands) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_opcode = opcode.starts_with(|c: char| c.is_ascii_uppercase());
    let (opcode, operands) = (opcode.to_string(), operands.trim().to_string());
    is_opcode.then_some(Instruction { predicated, opcode, operands, line })
}

fn link(blocks: &mut [Block], labels: &[(&str, usize)]) -> Result<(), String> {
    let count = blocks.len();
    for (i, block) in blocks.iter_mut().enumerate() {
        let Some(last) = block.instructions.last() else { continue };
        // `BRA P1, label` and `BRA !UP0, label` have a second condition.
        let conditional = last.predicated || last.operands.contains(',');
        let leaves = last.is_branch() || matches!(last.stem(), "EXIT" | "RET");
        match last.stem() {
            _ if last.is_branch() => {
                let target = last.operands.split_once("`(").and_then(|(_, rest)| rest.split(')').next());
                let found = target.and_then(|target| labels.iter().find(|(label, _)| *label == target));
                let (_, to) = found.ok_or_else(|| format!("a branch to nowhere known: {}", last.operands))?;
                block.successors.push(*to);
            }
            "BRX" | "JMP" => return Err(format!("{} is not understood", last.opcode)),
            _ => {}
        }
        block.exits = last.stem() == "EXIT";
        if (conditional || !leaves) && i + 1 < count {
            block.successors.push(i + 1);
        }
    }
    Ok(())
}

/// Calls that a branch leads around, and that nothing else leads to, are rare.
fn mark_rare(blocks: &mut [Block], labelled: &[bool]) {
    for i in 1..blocks.len() {
        let calls = blocks[i].instructions.iter().any(Instruction::is_call);
        blocks[i].is_rare = calls && blocks[i - 1].successors.len() == 2 && !labelled[i];
    }
}

impl Function {
    /// The innermost loop around each block, by the block.
    pub fn innermost_loops(&self) -> Vec<Option<usize>> {
        let loops = self.loops();
        let smallest = |block: usize| {
            let around = loops.iter().enumerate().filter(|(_, one)| one.blocks.contains(&block));
            around.min_by_key(|(_, one)| one.blocks.len()).map(|(i, _)| i)
        };
        (0..self.blocks.len()).map(smallest).collect()
    }

    /// From branches back to an earlier block, or the same; those that go back to one block are one loop.
    pub fn loops(&self) -> Vec<Loop> {
        let mut before = vec![Vec::new(); self.blocks.len()];
        for (i, block) in self.blocks.iter().enumerate() {
            block.successors.iter().for_each(|&to| before[to].push(i));
        }
        let mut loops = Vec::new();
        for first in 0..self.blocks.len() {
            let mut open: Vec<usize> = before[first].iter().copied().filter(|&from| from >= first).collect();
            // `BRA` to itself stands behind the end of every kernel.
            let is_end = self.blocks[first].instructions.len() == 1;
            if open.is_empty() || is_end {
                continue;
            }
            let mut inside = vec![first];
            while let Some(block) = open.pop() {
                if !inside.contains(&block) {
                    inside.push(block);
                    open.extend(&before[block]);
                }
            }
            inside.sort_unstable();
            loops.push(Loop { first, blocks: inside });
        }
        loops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = include_str!("../../fixtures/loop.sass");

    #[test]
    fn blocks_and_loops() {
        let functions = parse(LISTING).expect("a listing");
        assert_eq!(functions.len(), 1);
        let function = &functions[0];
        assert_eq!(function.name, "small");
        let sizes: Vec<usize> = function.blocks.iter().map(|block| block.instructions.len()).collect();
        assert_eq!(sizes, [4, 3, 2, 12, 2, 2, 1]);
        assert_eq!(function.loops(), [Loop { first: 1, blocks: vec![1, 2, 3] }]);
        assert_eq!(function.innermost_loops(), [None, Some(0), Some(0), Some(0), None, None, None]);
        let rare: Vec<bool> = function.blocks.iter().map(|block| block.is_rare).collect();
        assert_eq!(rare, [false, false, true, false, false, false, false]);
    }

    #[test]
    fn instructions() {
        let one = instruction("/*0150*/              @!P0 IADD3 R3, R3, 0x1, RZ ;", 7).expect("an instruction");
        assert!(one.predicated && one.opcode == "IADD3" && one.operands == "R3, R3, 0x1, RZ" && one.line == 7);
        assert!(instruction(".L_x_1:", 7).is_none());
    }
}

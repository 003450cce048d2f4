//! How often the blocks of a function were executed, from votes that may be wrong: of all ways in which control can have gone
//! from its entry to its exits, those that contradict the fewest votes.
//!
//! Control that goes into a block comes out of it, so counts are a circulation over the function's graph, its exits joined
//! to its entry. A block with count x and votes v costs the sum of |x - v|, which is convex: the best circulation is found
//! by pushing control around cycles that lower the cost until there is none. The arms of a branch that splits a
//! warp would count twice, which a circulation cannot say: one of them is then told too low.

/// A count, and how much it weighs.
pub type Vote = (u64, i64);

struct Arc {
    from: usize,
    to: usize,
    flow: u64,
    /// The block whose count it is; none if control just passes from one to the next.
    block: Option<usize>,
}

/// More control along an arc, or less: how much the cost grows by each unit, and for how many units it does.
#[derive(Clone, Copy)]
struct Change {
    arc: usize,
    more: bool,
    cost: i64,
    room: u64,
}

/// The count of each block. The first is the entry, to which exits lead back.
pub fn fit(successors: &[Vec<usize>], votes: &[Vec<Vote>]) -> Vec<u64> {
    let count = successors.len();
    let (into, out_of) = (|block: usize| 2 * block, |block: usize| 2 * block + 1);
    let mut arcs: Vec<Arc> =
        (0..count).map(|b| Arc { from: into(b), to: out_of(b), flow: 0, block: Some(b) }).collect();
    for (block, next) in successors.iter().enumerate() {
        arcs.extend(next.iter().map(|&to| Arc { from: out_of(block), to: into(to), flow: 0, block: None }));
    }
    while let Some(cycle) = lowering_cycle(&arcs, votes, 2 * count) {
        let room = cycle.iter().map(|change| change.room).min().unwrap_or(0);
        for change in &cycle {
            let flow = &mut arcs[change.arc].flow;
            *flow = if change.more { *flow + room } else { *flow - room };
        }
    }
    arcs.iter().take(count).map(|arc| arc.flow).collect()
}

/// What may change along an arc.
fn changes(index: usize, arc: &Arc, votes: &[Vec<Vote>]) -> [Option<Change>; 2] {
    let flow = arc.flow;
    let (mut more, mut less) = ((0, u64::MAX), (0, flow));
    for &(vote, weight) in arc.block.map_or(&[][..], |block| &votes[block]) {
        more.0 += if vote > flow { -weight } else { weight };
        less.0 += if vote < flow { -weight } else { weight };
        // As far as the next vote.
        more.1 = if vote > flow { more.1.min(vote - flow) } else { more.1 };
        less.1 = if vote < flow { less.1.min(flow - vote) } else { less.1 };
    }
    let change = |more, (cost, room): (i64, u64)| (room > 0).then_some(Change { arc: index, more, cost, room });
    [change(true, more), change(false, less)]
}

/// By Bellman and Ford, from all nodes at once: a cycle of changes along which the cost falls.
fn lowering_cycle(arcs: &[Arc], votes: &[Vec<Vote>], nodes: usize) -> Option<Vec<Change>> {
    let each = arcs.iter().enumerate();
    let all: Vec<Change> = each.flat_map(|(i, arc)| changes(i, arc, votes)).flatten().collect();
    let ends = |change: &Change| match (&arcs[change.arc], change.more) {
        (arc, true) => (arc.from, arc.to),
        (arc, false) => (arc.to, arc.from),
    };
    let mut distance = vec![0i64; nodes];
    let mut by: Vec<Option<Change>> = vec![None; nodes];
    loop {
        let mut changed = false;
        for change in &all {
            let (from, to) = ends(change);
            // An arc's own way back is no cycle: together they cost nothing or more.
            if distance[from] + change.cost < distance[to] {
                (distance[to], by[to], changed) = (distance[from] + change.cost, Some(*change), true);
            }
        }
        if !changed {
            return None;
        }
        let cycle = cycle_of(&by, nodes, |change| ends(change).0);
        if cycle.is_some() {
            return cycle;
        }
    }
}

/// A cycle among the changes by which nodes were reached.
fn cycle_of(by: &[Option<Change>], nodes: usize, from: impl Fn(&Change) -> usize) -> Option<Vec<Change>> {
    let mut seen_from = vec![usize::MAX; nodes];
    for start in 0..nodes {
        let mut node = start;
        while seen_from[node] == usize::MAX {
            seen_from[node] = start;
            let Some(change) = &by[node] else { break };
            node = from(change);
        }
        // Seen on this very walk, and reached by something: round it goes.
        if seen_from[node] == start && by[node].is_some() {
            let (mut cycle, first) = (Vec::new(), node);
            loop {
                let change = by[node]?;
                cycle.push(change);
                node = from(&change);
                if node == first {
                    return Some(cycle);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop (1, 2) with a preheader 0 into which much was moved, and a rare way 3 around.
    #[test]
    fn what_was_moved_is_outvoted() {
        let successors = [vec![1, 3], vec![2], vec![1, 3], vec![0]];
        let votes =
            [vec![(100, 1), (100, 1), (100, 1), (2, 1)], vec![(100, 1); 9], vec![(100, 4), (100, 1)], vec![(2, 4)]];
        assert_eq!(fit(&successors, &votes), [2, 100, 100, 2]);
    }

    #[test]
    fn a_block_without_votes_takes_what_is_left() {
        let successors = [vec![1, 2], vec![3], vec![3], vec![0]];
        let votes = [vec![(50, 4)], vec![], vec![(20, 1)], vec![(50, 1)]];
        assert_eq!(fit(&successors, &votes), [50, 30, 20, 50]);
    }

    #[test]
    fn what_nothing_leads_to_is_not_executed() {
        assert_eq!(fit(&[vec![0], vec![1], vec![0]], &[vec![(7, 1)], vec![], vec![(5, 1)]]), [7, 0, 0]);
    }
}

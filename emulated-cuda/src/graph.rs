//! Graphs, which captures make, and their launches.

use crate::codes::{Code, Result};
use crate::edge::{Handle, Out, exports};
use crate::queue::submit;
use crate::state::{State, lock};
use crate::work::Work;
use std::ffi::c_char;
use std::sync::Arc;
use std::thread::ThreadId;

/// Where a captured stream, or an event recorded there, is: the nodes that come next wait for these.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    pub capture: u64,
    pub after: Vec<usize>,
}

/// A capture that is under way.
#[derive(Debug)]
pub(crate) struct Capture {
    pub number: u64,
    pub origin: Handle,
    pub mode: u32,
    pub thread: ThreadId,
    pub nodes: Vec<Node>,
    pub invalid: bool,
}

/// A node: work, and the nodes before it.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub work: Work,
    pub after: Vec<usize>,
}

/// What a capture made.
#[derive(Debug)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    handles: Vec<Handle>,
    /// Allocations that begin and end in it.
    owned: Vec<u64>,
}

/// A graph that can be launched.
#[derive(Debug)]
pub(crate) struct GraphExec {
    pub graph: Arc<Graph>,
    pub context: Handle,
}

impl Graph {
    /// A graph of these nodes.
    pub fn new(state: &mut State, nodes: Vec<Node>) -> Self {
        let handles = nodes.iter().map(|_| state.handle()).collect();
        let owned = nodes.iter().filter_map(|node| if let Work::Enter(at) = node.work { Some(at) } else { None });
        Self { owned: owned.collect(), handles, nodes }
    }

    /// Runs the nodes: of those that may run, the one that was captured last, so that an order that nobody asked for shows.
    pub fn run(&self) -> Result<()> {
        let mut left: Vec<usize> = self.nodes.iter().map(|node| node.after.len()).collect();
        let mut ready: Vec<usize> = (0..left.len()).filter(|&node| left[node] == 0).collect();
        while let Some(last) = (0..ready.len()).max_by_key(|&at| ready[at]) {
            let node = ready.swap_remove(last);
            self.nodes[node].work.run()?;
            for (later, left) in left.iter_mut().enumerate() {
                let waited = self.nodes[later].after.iter().filter(|&&one| one == node).count();
                *left -= waited;
                if waited > 0 && *left == 0 {
                    ready.push(later);
                }
            }
        }
        Ok(())
    }

    /// What kind a node is (`CUgraphNodeType`).
    fn kind(&self, node: usize) -> u32 {
        match self.nodes[node].work {
            Work::Kernel(_) => 0,
            Work::Fill { .. } => 2,
            Work::Host { .. } => 3,
            Work::Graph(_) => 4,
            Work::Enter(_) => 10,
            Work::Leave(_) => 11,
            _ => 1,
        }
    }
}

impl State {
    /// Frees what a graph allocated.
    pub fn release_graph(&mut self, graph: Graph) {
        for address in graph.owned {
            self.release(address);
        }
    }

    /// The same, if nothing else knows the graph.
    pub fn drop_graph(&mut self, graph: Arc<Graph>) {
        if let Some(graph) = Arc::into_inner(graph) {
            self.release_graph(graph);
        }
    }

    fn graph(&self, graph: Handle) -> Result<&Arc<Graph>> {
        self.graphs.get(&graph).ok_or(Code::INVALID_VALUE)
    }
}

fn instantiate(place: Out<Handle>, graph: Handle) -> Result<()> {
    let mut state = lock();
    let context = state.current()?;
    let graph = state.graph(graph)?.clone();
    if place.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    let handle = state.handle();
    state.execs.insert(handle, GraphExec { graph, context });
    place.put(handle)
}

/// As many handles as there is room for, and how many there are.
fn list(handles: Vec<Handle>, places: Out<Handle>, count: Out<usize>) -> Result<()> {
    if places.is_null() {
        return count.put(handles.len());
    }
    let room = count.get()?;
    let given = room.min(handles.len());
    places.put_all(&handles[..given]);
    // The places beyond are null.
    (given..room).for_each(|at| places.at(at).put_if_wanted(0));
    count.put(given)
}

exports! {
    /// A graph that can be launched; the flags change nothing.
    fn cuGraphInstantiateWithFlags(exec: Out<Handle>, graph: Handle, _flags: u64) { instantiate(exec, graph) }

    /// The same, as of CUDA 11.
    fn cuGraphInstantiate_v2(exec: Out<Handle>, graph: Handle, _node: Out<Handle>, _log: Out<c_char>, _room: usize) {
        instantiate(exec, graph)
    }

    /// Nothing needs to be brought to a device before.
    fn cuGraphUpload(exec: Handle, stream: Handle) {
        let mut state = lock();
        state.stream_of(stream)?;
        state.execs.get(&exec).map(drop).ok_or(Code::INVALID_VALUE)
    }

    /// Enqueues all of a graph.
    fn cuGraphLaunch(exec: Handle, stream: Handle) {
        let mut state = lock();
        let stream = state.stream_of(stream)?;
        let found = state.execs.get(&exec).ok_or(Code::INVALID_VALUE)?;
        state.context(found.context)?;
        let work = Work::Graph(found.graph.clone());
        submit(state, stream, work)
    }

    /// Destroys what can be launched.
    fn cuGraphExecDestroy(exec: Handle) {
        let mut state = lock();
        let gone = state.execs.remove(&exec).ok_or(Code::INVALID_VALUE)?;
        state.drop_graph(gone.graph);
        Ok(())
    }

    /// Destroys a graph; what was made of it stays.
    fn cuGraphDestroy(graph: Handle) {
        let mut state = lock();
        let gone = state.graphs.remove(&graph).ok_or(Code::INVALID_VALUE)?;
        state.drop_graph(gone);
        Ok(())
    }

    /// A graph with the same nodes; not of one that allocates.
    fn cuGraphClone(clone: Out<Handle>, graph: Handle) {
        let mut state = lock();
        let graph = state.graph(graph)?.clone();
        if !graph.owned.is_empty() {
            return Err(Code::NOT_SUPPORTED);
        }
        let handle = state.handle();
        clone.put(handle)?;
        state.graphs.insert(handle, graph);
        Ok(())
    }

    /// The nodes, or their number.
    fn cuGraphGetNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let state = lock();
        let handles = state.graph(graph)?.handles.clone();
        list(handles, nodes, count)
    }

    /// The nodes that wait for no other, or their number.
    fn cuGraphGetRootNodes(graph: Handle, nodes: Out<Handle>, count: Out<usize>) {
        let state = lock();
        let found = state.graph(graph)?;
        let all = found.handles.iter().zip(&found.nodes).filter(|(_, node)| node.after.is_empty());
        list(all.map(|(&handle, _)| handle).collect(), nodes, count)
    }

    /// The pairs of nodes of which one waits for the other, or their number.
    fn cuGraphGetEdges(graph: Handle, from: Out<Handle>, to: Out<Handle>, count: Out<usize>) {
        let state = lock();
        let found = state.graph(graph)?;
        let edges = found.nodes.iter().enumerate().flat_map(|(to, node)| node.after.iter().map(move |&from| (from, to)));
        let (first, second): (Vec<Handle>, Vec<Handle>) =
            edges.map(|(from, to)| (found.handles[from], found.handles[to])).unzip();
        if from.is_null() != to.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        if !from.is_null() {
            let room = count.get()?;
            second.iter().take(room).enumerate().for_each(|(at, &node)| to.at(at).put_if_wanted(node));
        }
        list(first, from, count)
    }

    /// What kind a node is.
    fn cuGraphNodeGetType(node: Handle, kind: Out<u32>) {
        let state = lock();
        let place = |graph: &Arc<Graph>| graph.handles.iter().position(|&handle| handle == node);
        let found = state.graphs.values().find_map(|graph| Some(graph.kind(place(graph)?)));
        kind.put(found.ok_or(Code::INVALID_VALUE)?)
    }
}

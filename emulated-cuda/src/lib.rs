#![doc = include_str!("../README.md")]

pub mod capture;
pub mod codes;
pub mod context;
pub mod copy;
mod counters;
pub mod device;
pub mod edge;
pub mod event;
pub mod function;
pub mod graph;
pub mod init;
pub mod launch;
pub mod memory;
pub mod module;
pub mod pool;
mod queue;
mod report;
mod settings;
mod state;
pub mod stream;
pub mod stubs;
mod work;

pub use codes::{Code, Result};

/// Every exported function of the driver that does something, with its address.
pub(crate) fn table() -> Vec<(&'static str, usize)> {
    let rooms = [
        capture::table,
        context::table,
        copy::table,
        device::table,
        event::table,
        function::table,
        graph::table,
        init::table,
        launch::table,
        memory::table,
        module::table,
        pool::table,
        stream::table,
    ];
    rooms.into_iter().flat_map(|room| room()).collect()
}

/// The names of all functions of the driver that do something.
pub fn names() -> Vec<&'static str> {
    table().into_iter().map(|entry| entry.0).collect()
}

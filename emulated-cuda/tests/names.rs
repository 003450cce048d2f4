//! The library exports every function that cudarc and cust know, and lists what it exports.

#![allow(missing_docs)]
#![cfg(target_os = "linux")]

#[allow(dead_code)]
mod common;

use emulated_cuda::{names, stubs};
use std::collections::BTreeSet;

fn listed(text: &str) -> BTreeSet<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn exported() {
    let (cudarc, cust) = (listed(include_str!("names/cudarc.txt")), listed(include_str!("names/cust.txt")));
    assert_eq!((cudarc.len(), cust.len()), (514, 353));
    // SAFETY: loading the library runs nothing of its own.
    let library = unsafe { libloading::Library::new(common::library()) }.expect("the library loads");
    for name in cudarc.union(&cust) {
        // SAFETY: the symbol is looked up, not called.
        let found = unsafe { library.get::<*const ()>(name.as_bytes()) };
        assert!(found.is_ok(), "{name} is not exported");
    }
    let (works, refused): (BTreeSet<&str>, BTreeSet<&str>) =
        (names().into_iter().collect(), stubs::NAMES.iter().copied().collect());
    let both: Vec<_> = works.intersection(&refused).collect();
    assert_eq!(both, [&""; 0], "either it works or it is refused");
    let all: BTreeSet<&str> = works.union(&refused).copied().collect();
    let unlisted: Vec<_> = cudarc.union(&cust).filter(|name| !all.contains(*name)).collect();
    assert_eq!(unlisted, [&""; 0]);
    // What the safe halves of the two crates call works, but for what is not emulated at all.
    println!("{} functions work, {} are refused", works.len(), refused.len());
}

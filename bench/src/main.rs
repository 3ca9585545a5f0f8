//! Measures roomcast beside other servers, and beside the least that the work can cost.

#![allow(unreachable_pub, reason = "a program has no outside")]

mod floor;

/// Errors of a run are for a person to read, and nobody tells one from another.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> Result<()> { let a: Vec<String> = std::env::args().collect(); floor::run(a[1].parse()?, a.get(2).and_then(|p| p.parse().ok())) }

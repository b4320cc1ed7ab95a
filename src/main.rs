//! The `honeycast` binary.

fn main() {}

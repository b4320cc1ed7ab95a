//! The command line.

#[cfg_attr(not(test), expect(dead_code, reason = "the subcommand is wired up with the others"))]
mod simulate;

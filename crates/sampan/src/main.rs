//! The program. `cli` says what can be typed, `command` does it, `error` says how it ends.
//!
//! The modules of the library (`lib.rs`) know no flags and print nothing; the modules named here do.

mod chat;
mod cli;
mod command;
mod environment;
mod error;
mod flags;
mod render;
mod replace;
mod stats;

fn main() -> std::process::ExitCode {
    cli::main()
}

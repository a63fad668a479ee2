//! The program as its users see it: each test runs the real binary in a folder of its own.

mod bad_input;
mod commands;
mod mini;
mod run;
mod support;

//! The program as its users see it: each test runs the real binary in a folder of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod adapters;
mod bad_input;
mod bench;
mod commands;
mod convert;
mod fit;
mod hub;
mod memory;
mod mini;
mod quant;
mod quantize;
mod run;
mod serve;
mod speculation;
mod support;
mod vectors;

//! The engine behind the APIs that programs already speak.
//!
//! A request's way: `edge` (may it come in), `openai` (what does it want, as a `Job`), `registry` (which model), `generate`
//! (prompt, engine, pieces), and back out as one object or as a `stream`. Everything between the first and the last is free
//! of any dialect, so that nothing that a model does is written twice.
#![forbid(unsafe_code)]

mod adapters;
mod answer;
mod anthropic;
mod app;
mod budget;
mod edge;
mod failure;
mod fields;
mod filter;
mod generate;
mod job;
mod loaded;
mod messages;
mod metrics;
mod ollama;
mod openai;
mod options;
mod page;
mod rank;
mod registry;
mod routes;
mod server;
mod service;
mod shape;
mod stream;
mod telemetry;
mod thinking;
mod tools;
mod wire;
mod words;
mod worker;

#[cfg(test)]
mod tests;

pub use adapters::NamedAdapter;
pub use edge::Key;
pub use options::{Limits, ServeOptions, TlsFiles};
pub use registry::{KeepAlive, Named};
pub use server::{ServeError, routes, run};
pub use telemetry::{Traces, not_traces};

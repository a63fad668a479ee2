//! Requests, scheduler, paged KV pool, sampler, speculation. Token ids in, token ids out.
//!
//! [`Engine::submit`] takes a request on, [`Engine::step`] runs the model once for all of them and says what has
//! happened. The engine has no thread and no clock of its own: whoever owns it calls `step` until it is idle.
//!
//! The way of a request: `request` (what is asked for), `sequence` (what is under way), `scheduler` (what the next step
//! runs), `kv` (in which pages), `forward` (the model), `sampler` (which token), and back out of `engine` as events.
//!
//! A request's tokens are a function of the request and the model: the load, the sizes in [`EngineOptions`], cache
//! hits, preemption and speculation change when they come, and not which.

#![forbid(unsafe_code)]

mod check;
mod engine;
mod fairness;
mod filter;
mod forward;
mod kv;
mod options;
mod pace;
mod request;
mod sampler;
mod scheduler;
mod scoring;
mod sequence;
mod speculation;
mod submit;

#[cfg(test)]
mod tests;

pub use engine::Engine;
pub use filter::{FilterError, TokenFilter};
pub use options::{EngineOptions, EngineStats};
pub use request::{BadLogits, Event, FinishReason, Logprob, PromptLogprobs, Request, RequestId, Usage};
pub use sampan_kernels::attention::{KvFormat, PAGE};
pub use sampan_model::Adapter;
pub use sampler::{Dry, Sampling};
pub use submit::SubmitError;

//! HTTP: who is asked, which redirects are followed, when it is tried again.

mod address;
mod client;
mod guard;
mod retry;
mod tls;

pub(crate) use address::{authority, encode, encode_part, host};
pub(crate) use client::{Asked, Client, Response};
pub(crate) use retry::{Failure, Retry};
pub use tls::check_cpu as check_https;

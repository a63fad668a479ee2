//! Who may ask, from where, and over which connections.

mod keys;
mod listen;
mod origin;
mod tls;

pub use keys::Key;
pub(crate) use keys::{Client, Keys, Pass};
pub(crate) use listen::Door;
pub(crate) use origin::Origins;
pub(crate) use tls::Certificate;

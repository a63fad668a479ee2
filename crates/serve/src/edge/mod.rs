//! Who may ask, from where, and over which connections.

mod keys;
mod listen;
mod origin;

pub use keys::Key;
pub(crate) use keys::{Client, Keys, Pass};
pub(crate) use listen::listen;
pub(crate) use origin::Origins;

//! Run open-weight language models on an ordinary CPU: the library.
//!
//! ```no_run
//! use sampan::{Conversation, LoadOptions, Part, Session, Source};
//! use std::ops::ControlFlow;
//!
//! # fn main() -> Result<(), sampan::Error> {
//! let mut session = Session::open(&Source::parse("mini"), &LoadOptions::default(), &mut |_, _| {})?;
//! let settings = session.settings().clone();
//! let mut conversation = Conversation::new(None);
//! conversation.user("3 + 4");
//! let answer = session.reply(&mut conversation, &settings, &mut |part: Part, text: &str| {
//!     if part == Part::Answer {
//!         print!("{text}");
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! assert_eq!(answer.text, "7");
//! # Ok(())
//! # }
//! ```
//!
//! [`Session`] is enough for talking to a model. For many requests at a time use [`sampan_engine::Engine`] with the
//! [`Model`] that [`Prepared::load`] gives; for numbers instead of text, [`Model::forward`] itself.
#![forbid(unsafe_code)]

pub use sampan_facade::*;

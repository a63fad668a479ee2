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

mod conversation;
mod embedding;
mod encoder;
mod failure;
mod load;
pub mod machine;
mod reranking;
mod seed;
mod session;
mod settings;
mod source;
pub mod speech;
mod stop;

pub use conversation::{Conversation, Message, Role};
pub use embedding::{EmbedOptions, Embedder, Embedding, Pooling};
pub use failure::Error;
pub use load::{DEFAULT_CONTEXT, DEFAULT_SPECULATE, LoadOptions, MemoryShortage, Prepared};
pub use reranking::{DEFAULT_INSTRUCT, Reranker, Score};
pub use sampan_engine::Usage;
pub use sampan_model::{KvFormat, Memory, Model, Plan, Quant};
pub use sampan_text::Start;
pub use session::{Answer, Encoded, Finish, Listener, Part, Session};
pub use settings::Settings;
pub use source::{Source, nearest_name};

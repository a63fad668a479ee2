//! A named model opened and put to work: what it needs of memory, its weights, its words, and conversations, vectors and
//! rankings on top of them. The crate `sampan` hands all of it on to users of the library.
#![forbid(unsafe_code)]

mod conversation;
pub mod damage;
mod embedding;
mod encoder;
mod failure;
pub mod fit;
mod load;
pub mod machine;
pub mod rates;
mod reader;
mod reranking;
mod seed;
mod session;
mod settings;
mod source;
pub mod speech;
mod stop;
pub mod trial;

pub use conversation::{Conversation, Message, Role};
pub use embedding::{EmbedOptions, Embedder, Embedding, Pooling};
pub use encoder::encoder_bytes;
pub use failure::Error;
pub use load::{
    DEFAULT_CONTEXT, DEFAULT_SHARES, DEFAULT_SPECULATE, LoadOptions, MemoryShortage, PROGRAM_BYTES, Prepared,
};
pub use reader::{EVALUATION, Reader, Thought, Windows};
pub use reranking::{DEFAULT_INSTRUCT, Reranker, Score};
pub use sampan_engine::Usage;
pub use sampan_hub::nearest_name;
pub use sampan_model::{KvFormat, Memory, Model, Plan, Quant};
pub use sampan_text::Start;
pub use seed::random_seed;
pub use session::{Answer, Finish, Listener, Part, Session};
pub use settings::Settings;
pub use source::Source;
pub use speech::{Encoded, Speech};
pub use stop::StopMatcher;

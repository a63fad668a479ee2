//! Run open-weight language models on an ordinary CPU.

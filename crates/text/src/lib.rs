//! Tokens and words: tokenizer, chat template, reasoning. Pure, no IO.

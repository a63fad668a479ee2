//! The tags that models write around their reasoning, and where an answer begins.

/// The texts around a piece of reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasoningTags {
    /// Written before the reasoning.
    pub open: &'static str,
    /// Written after it.
    pub close: &'static str,
}

impl ReasoningTags {
    /// Qwen, DeepSeek and most others.
    pub const THINK: Self = Self { open: "<think>", close: "</think>" };
    /// Gemma 4. Both are special tokens: stream with [`crate::Tokenizer::stream_with_special`].
    pub const GEMMA4: Self = Self { open: "<|channel>thought", close: "<channel|>" };

    /// The tags that a chat template writes or looks for; none if its model does not reason, or not in tags.
    pub fn of_template(source: &str) -> Option<Self> {
        [Self::GEMMA4, Self::THINK]
            .into_iter()
            .find(|tags| source.contains(tags.open) || source.contains(tags.close))
    }

    /// Where the answer to a rendered prompt begins: inside reasoning if the prompt ends with an open tag.
    pub fn start_after(&self, prompt: &str) -> Start {
        match prompt.trim_end().ends_with(self.open) {
            true => Start::Inside,
            false => Start::Either,
        }
    }
}

/// What an output begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The prompt opened the reasoning: it goes on until the closing tag.
    Inside,
    /// The output may open reasoning itself, or close one that it never opened.
    Either,
    /// There is no reasoning; tags are ordinary text.
    Answer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prompt_tells_where_the_output_begins() {
        let tags = ReasoningTags::THINK;
        assert_eq!(tags.start_after("<|im_start|>assistant\n<think>\n"), Start::Inside);
        assert_eq!(tags.start_after("<|im_start|>assistant\n<think>\n\n</think>\n\n"), Start::Either);
    }
}

//! Separates a model's reasoning from its answer while both stream in.

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

/// What a [`ReasoningSplitter`] expects first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The prompt opened the reasoning: it goes on until the closing tag.
    Inside,
    /// The output may open reasoning itself, or close one that it never opened.
    Either,
    /// There is no reasoning; tags are ordinary text.
    Answer,
}

/// What a piece of output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Thought, not meant for the reader.
    Reasoning,
    /// Meant for the reader.
    Answer,
    /// A tag with the line breaks around it: shown to nobody, kept so that nothing is lost.
    Tag,
    /// A closing tag that nothing opened: the answer given so far was reasoning all along.
    LateTag,
}

/// A piece of output. All texts in a row are the output, character by character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is.
    pub kind: Kind,
    /// Its text, never empty.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Only white space so far.
    Begin,
    Reasoning,
    /// `late` tells whether a closing tag would still mean something.
    Answer {
        late: bool,
    },
    /// Line breaks right after a tag belong to it.
    AfterOpen,
    AfterClose,
}

/// Splits output into reasoning and answer. The result does not depend on how the output is cut into pushes.
#[derive(Clone, Debug)]
pub struct ReasoningSplitter {
    tags: ReasoningTags,
    state: State,
    /// Text that may turn out to be part of a tag.
    held: String,
}

impl ReasoningSplitter {
    /// A splitter at the beginning of an output.
    pub fn new(tags: ReasoningTags, start: Start) -> Self {
        let state = match start {
            Start::Inside => State::AfterOpen,
            Start::Either => State::Begin,
            Start::Answer => State::Answer { late: false },
        };
        Self { tags, state, held: String::new() }
    }

    /// Takes the next text and gives the pieces that are certain now.
    pub fn push(&mut self, text: &str) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while !self.held.is_empty() && self.step(&mut pieces) {}
        pieces
    }

    /// Gives what is left at the end of the output.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let kind = match self.state {
            State::Reasoning => Kind::Reasoning,
            State::Begin | State::Answer { .. } => Kind::Answer,
            State::AfterOpen | State::AfterClose => Kind::Tag,
        };
        let rest = self.held.len();
        self.give(kind, rest, &mut pieces);
        pieces
    }

    /// Whether the output so far ends inside reasoning.
    pub fn in_reasoning(&self) -> bool {
        matches!(self.state, State::Reasoning | State::AfterOpen)
    }

    /// Splits a whole output into reasoning and answer, without tags.
    pub fn split(tags: ReasoningTags, start: Start, output: &str) -> (String, String) {
        let mut splitter = Self::new(tags, start);
        let mut pieces = splitter.push(output);
        pieces.extend(splitter.finish());
        let (mut reasoning, mut answer) = (String::new(), String::new());
        for piece in pieces {
            match piece.kind {
                Kind::Reasoning => reasoning.push_str(&piece.text),
                Kind::Answer => answer.push_str(&piece.text),
                Kind::Tag => {}
                Kind::LateTag => reasoning = std::mem::take(&mut answer),
            }
        }
        (reasoning, answer)
    }

    /// One move of the automaton; false when more text is needed.
    fn step(&mut self, pieces: &mut Vec<Piece>) -> bool {
        match self.state {
            State::Begin => self.begin(pieces),
            State::AfterOpen => self.after_tag(State::Reasoning, pieces),
            State::AfterClose => self.after_tag(State::Answer { late: false }, pieces),
            State::Reasoning => self.until_close(Kind::Reasoning, Kind::Tag, pieces),
            State::Answer { late: true } => self.until_close(Kind::Answer, Kind::LateTag, pieces),
            State::Answer { late: false } => {
                let all = self.held.len();
                self.give(Kind::Answer, all, pieces);
                false
            }
        }
    }

    fn begin(&mut self, pieces: &mut Vec<Piece>) -> bool {
        let text = self.held.trim_start();
        let blank = self.held.len() - text.len();
        for (tag, next) in [(self.tags.open, State::AfterOpen), (self.tags.close, State::AfterClose)] {
            if text.starts_with(tag) {
                self.give(Kind::Tag, blank + tag.len(), pieces);
                self.state = next;
                return true;
            }
        }
        if self.tags.open.starts_with(text) || self.tags.close.starts_with(text) {
            return false;
        }
        self.state = State::Answer { late: true };
        true
    }

    fn after_tag(&mut self, next: State, pieces: &mut Vec<Piece>) -> bool {
        let breaks = self.held.len() - self.held.trim_start_matches(BREAKS).len();
        self.give(Kind::Tag, breaks, pieces);
        if self.held.is_empty() {
            return false;
        }
        self.state = next;
        true
    }

    fn until_close(&mut self, kind: Kind, tag: Kind, pieces: &mut Vec<Piece>) -> bool {
        if let Some(at) = self.held.find(self.tags.close) {
            let body = self.held[..at].trim_end_matches(BREAKS).len();
            self.give(kind, body, pieces);
            self.give(tag, at - body + self.tags.close.len(), pieces);
            self.state = State::AfterClose;
            return true;
        }
        // Keep line breaks at the end, and the beginning of a closing tag.
        let mut keep = self.held.len();
        for (at, _) in self.held.char_indices().rev().take(self.tags.close.len()) {
            if self.tags.close.starts_with(&self.held[at..]) {
                keep = at;
            }
        }
        let body = self.held[..keep].trim_end_matches(BREAKS).len();
        self.give(kind, body, pieces);
        false
    }

    fn give(&mut self, kind: Kind, bytes: usize, pieces: &mut Vec<Piece>) {
        if bytes == 0 {
            return;
        }
        let text: String = self.held.drain(..bytes).collect();
        match pieces.last_mut() {
            Some(last) if last.kind == kind => last.text.push_str(&text),
            _ => pieces.push(Piece { kind, text }),
        }
    }
}

const BREAKS: [char; 2] = ['\n', '\r'];

#[cfg(test)]
mod tests {
    use super::*;

    fn join(pieces: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            match joined.last_mut() {
                Some(last) if last.kind == piece.kind => last.text.push_str(&piece.text),
                _ => joined.push(piece),
            }
        }
        joined
    }

    /// Feeds `output` whole, character by character and cut in two at every place: always the same pieces, nothing lost.
    fn check(tags: ReasoningTags, start: Start, output: &str, want: &[(Kind, &str)]) {
        let run = |parts: &[&str]| {
            let mut splitter = ReasoningSplitter::new(tags, start);
            let mut pieces: Vec<Piece> = parts.iter().flat_map(|p| splitter.push(p)).collect();
            pieces.extend(splitter.finish());
            join(pieces)
        };
        let want: Vec<_> =
            want.iter().map(|(kind, text)| Piece { kind: *kind, text: (*text).into() }).collect();
        let whole: String = want.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(whole, output, "the expectation itself loses text");
        for (at, _) in output.char_indices() {
            assert_eq!(run(&[&output[..at], &output[at..]]), want, "{output:?} cut at {at}");
        }
        let chars: Vec<String> = output.chars().map(String::from).collect();
        assert_eq!(
            run(&chars.iter().map(String::as_str).collect::<Vec<_>>()),
            want,
            "{output:?} by characters"
        );
    }

    use Kind::{Answer, LateTag, Reasoning, Tag};

    #[test]
    fn reasoning_then_answer() {
        check(
            ReasoningTags::THINK,
            Start::Either,
            "<think>\nHm,\n\nlet me <thin see.\n</think>\n\nFour.\n",
            &[
                (Tag, "<think>\n"),
                (Reasoning, "Hm,\n\nlet me <thin see."),
                (Tag, "\n</think>\n\n"),
                (Answer, "Four.\n"),
            ],
        );
    }

    #[test]
    fn output_that_begins_inside_reasoning() {
        let want = [(Reasoning, "Hm. </thin"), (Tag, "</think>"), (Answer, "Four. </think> is a tag.")];
        check(ReasoningTags::THINK, Start::Inside, "Hm. </thin</think>Four. </think> is a tag.", &want);
    }

    #[test]
    fn a_closing_tag_without_opener_turns_what_came_before_into_reasoning() {
        let output = "Hm, 2 + 2 < 5\n</think>\n\nFour.";
        let want = [(Answer, "Hm, 2 + 2 < 5"), (LateTag, "\n</think>"), (Tag, "\n\n"), (Answer, "Four.")];
        check(ReasoningTags::THINK, Start::Either, output, &want);
        let split = ReasoningSplitter::split(ReasoningTags::THINK, Start::Either, output);
        assert_eq!(split, ("Hm, 2 + 2 < 5".into(), "Four.".into()));
    }

    #[test]
    fn no_reasoning_at_all() {
        check(
            ReasoningTags::THINK,
            Start::Either,
            " <b>Four</b>, I <think>.",
            &[(Answer, " <b>Four</b>, I <think>.")],
        );
        check(ReasoningTags::THINK, Start::Either, "  \n", &[(Answer, "  \n")]);
        check(ReasoningTags::THINK, Start::Either, "<thi", &[(Answer, "<thi")]);
    }

    #[test]
    fn empty_and_unfinished_reasoning() {
        let want = [(Tag, "<think>\n\n</think>\n\n"), (Answer, "Four.")];
        check(ReasoningTags::THINK, Start::Either, "<think>\n\n</think>\n\nFour.", &want);
        let want = [(Tag, "\n <think>"), (Reasoning, " Hm.\n")];
        check(ReasoningTags::THINK, Start::Either, "\n <think> Hm.\n", &want);
        check(ReasoningTags::THINK, Start::Inside, "\n\n", &[(Tag, "\n\n")]);
    }

    #[test]
    fn tags_are_text_where_there_is_no_reasoning() {
        let output = "<think> and </think> are tags.";
        check(ReasoningTags::THINK, Start::Answer, output, &[(Answer, output)]);
    }

    #[test]
    fn gemma_writes_its_own_tags() {
        let want =
            [(Tag, "<|channel>thought\n"), (Reasoning, "Hm."), (Tag, "\n<channel|>"), (Answer, "Four.")];
        check(ReasoningTags::GEMMA4, Start::Either, "<|channel>thought\nHm.\n<channel|>Four.", &want);
    }

    #[test]
    fn the_prompt_tells_where_the_output_begins() {
        let tags = ReasoningTags::THINK;
        assert_eq!(tags.start_after("<|im_start|>assistant\n<think>\n"), Start::Inside);
        assert_eq!(tags.start_after("<|im_start|>assistant\n<think>\n\n</think>\n\n"), Start::Either);
    }
}

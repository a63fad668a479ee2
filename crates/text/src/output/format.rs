//! Which format a model writes, told by its chat template.

use super::probe::Shape;
use crate::reasoning::{ReasoningTags, Start};

/// How a model writes tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`: Hermes, Qwen 2.5, Qwen3, mini.
    Hermes,
    /// `<tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>`: Qwen3-Coder, Qwen3.5.
    QwenXml,
    /// `<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME`, arguments in a fence: DeepSeek V3 and R1.
    DeepSeekV3,
    /// `<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>ARGUMENTS`: DeepSeek V3.1.
    DeepSeekV31,
    /// `<｜DSML｜function_calls>`: DeepSeek V3.2.
    DeepSeekV32,
    /// `<｜DSML｜tool_calls>`: DeepSeek V4.
    DeepSeekV4,
    /// Messages in channels with a recipient: gpt-oss.
    Harmony,
    /// `<|tool_call>call:NAME{key:value}<tool_call|>`: Gemma 4.
    Gemma4,
    /// `<start_function_call>call:NAME{key:value}<end_function_call>`: FunctionGemma.
    FunctionGemma,
    /// `{"name": ..., "parameters": {...}}`, perhaps behind `<|python_tag|>`: Llama 3.
    Llama,
    /// No syntax of its own, so JSON or Python as a prompt asks for it: Gemma 3 and others.
    Plain,
}

/// A way to tell a format by what its template contains.
const SIGNS: [(&[&str], ToolFormat); 11] = [
    (&["<|channel|>", "<|message|>"], ToolFormat::Harmony),
    (&["｜DSML｜", "function_calls>"], ToolFormat::DeepSeekV32),
    (&["｜DSML｜"], ToolFormat::DeepSeekV4),
    (&["tool▁call▁begin", "```json"], ToolFormat::DeepSeekV3),
    (&["tool▁call▁begin"], ToolFormat::DeepSeekV31),
    (&["<|tool_call>call:"], ToolFormat::Gemma4),
    (&["<start_function_call>"], ToolFormat::FunctionGemma),
    (&["<function="], ToolFormat::QwenXml),
    (&["<tool_call>"], ToolFormat::Hermes),
    (&["<|python_tag|>"], ToolFormat::Llama),
    (&["<|start_header_id|>"], ToolFormat::Llama),
];

/// Where a call without any markup may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    Never,
    /// Before anything else is said.
    First,
    /// On any line.
    Lines,
}

/// What begins a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opener {
    pub(super) text: &'static str,
    pub(super) shape: Shape,
    /// Only at the beginning of a line.
    pub(super) line: bool,
}

const fn opener(text: &'static str, shape: Shape) -> Opener {
    Opener { text, shape, line: false }
}

const QWEN: [Opener; 2] = [
    opener("<tool_call>", Shape::Tagged),
    // Quantised models leave the outer tag out.
    Opener { text: "<function=", shape: Shape::Function, line: true },
];
const DEEPSEEK: [Opener; 2] = [
    opener("<｜tool▁calls▁begin｜>", Shape::DeepSeekBlock),
    opener("<｜tool▁call▁begin｜>", Shape::DeepSeekCall),
];
const DSML: [Opener; 3] = [
    opener("<｜DSML｜function_calls>", Shape::DsmlBlock("<｜DSML｜function_calls>")),
    opener("<｜DSML｜tool_calls>", Shape::DsmlBlock("<｜DSML｜tool_calls>")),
    opener("<｜DSML｜invoke", Shape::DsmlInvoke),
];
const GEMMA4: [Opener; 1] = [opener(
    "<|tool_call>",
    Shape::Literal { open: "<|tool_call>", close: &["<tool_call|>"], mark: "<|\"|>" },
)];
const FUNCTION_GEMMA: [Opener; 1] = [opener(
    "<start_function_call>",
    Shape::Literal { open: "<start_function_call>", close: &["<end_function_call>"], mark: "<escape>" },
)];
const LLAMA: [Opener; 1] = [opener("<|python_tag|>", Shape::PythonTag)];

impl ToolFormat {
    /// The format of the model whose chat template this is.
    pub fn of_template(source: &str) -> Self {
        let found = SIGNS.iter().find(|(signs, _)| signs.iter().all(|sign| source.contains(sign)));
        found.map_or(Self::Plain, |(_, format)| *format)
    }

    pub(super) fn openers(self) -> &'static [Opener] {
        match self {
            Self::Hermes | Self::QwenXml => &QWEN,
            Self::DeepSeekV3 | Self::DeepSeekV31 => &DEEPSEEK,
            Self::DeepSeekV32 | Self::DeepSeekV4 => &DSML,
            Self::Gemma4 => &GEMMA4,
            Self::FunctionGemma => &FUNCTION_GEMMA,
            Self::Llama => &LLAMA,
            Self::Harmony | Self::Plain => &[],
        }
    }

    /// What may stand after a call and belongs to it.
    pub(super) fn closers(self) -> &'static [&'static str] {
        match self {
            Self::Hermes | Self::QwenXml => &["</tool_call>"],
            Self::DeepSeekV3 | Self::DeepSeekV31 => &["<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"],
            Self::DeepSeekV32 | Self::DeepSeekV4 => &["</｜DSML｜tool_calls>", "</｜DSML｜function_calls>"],
            Self::Gemma4 => &["<tool_call|>"],
            Self::FunctionGemma => &["<end_function_call>"],
            Self::Llama => &[";", "<|eom_id|>"],
            Self::Harmony | Self::Plain => &[],
        }
    }

    pub(super) fn bare(self) -> Bare {
        match self {
            Self::Llama | Self::Plain => Bare::Lines,
            Self::Hermes => Bare::First,
            _ => Bare::Never,
        }
    }

    fn has_special_markup(self) -> bool {
        !matches!(self, Self::Hermes | Self::QwenXml | Self::Plain)
    }
}

/// How a model writes reasoning and tool calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputFormat {
    /// The tags around reasoning; none if the model writes none, or has channels.
    pub reasoning: Option<ReasoningTags>,
    /// The tool calls.
    pub tools: ToolFormat,
}

impl OutputFormat {
    /// Text without calls, with reasoning in `<think>`, for models without a template.
    pub const TEXT: Self = Self { reasoning: Some(ReasoningTags::THINK), tools: ToolFormat::Plain };

    /// The format of the model whose chat template this is.
    pub fn of_template(source: &str) -> Self {
        let tools = ToolFormat::of_template(source);
        let reasoning = match tools {
            ToolFormat::Harmony => None,
            _ => ReasoningTags::of_template(source),
        };
        Self { reasoning, tools }
    }

    /// Whether the markup consists of special tokens (with tool calls or without), so that output must be decoded with them:
    /// [`crate::Tokenizer::stream_with_special`]. Tokens that end the generation need not be passed on.
    pub fn needs_special(&self, with_tools: bool) -> bool {
        self.tools == ToolFormat::Harmony
            || self.reasoning == Some(ReasoningTags::GEMMA4)
            || (with_tools && self.tools.has_special_markup())
    }

    /// Where the answer to a rendered prompt begins.
    pub fn start_after(&self, prompt: &str) -> Start {
        match (self.reasoning, self.tools) {
            // Channels whose header the prompt has written.
            (_, ToolFormat::Harmony) if prompt.ends_with("<|channel|>analysis<|message|>") => Start::Inside,
            (_, ToolFormat::Harmony) if prompt.ends_with("<|message|>") => Start::Answer,
            (Some(tags), _) => tags.start_after(prompt),
            (None, _) => Start::Either,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_tells_the_format() {
        for (source, tools, reasoning) in [
            ("<|start|>assistant<|channel|>final<|message|>", ToolFormat::Harmony, None),
            ("'<｜DSML｜' + 'function_calls>' </think>", ToolFormat::DeepSeekV32, Some(ReasoningTags::THINK)),
            ("'<｜DSML｜tool_calls>' <think>", ToolFormat::DeepSeekV4, Some(ReasoningTags::THINK)),
            ("<｜tool▁call▁begin｜>function\n```json", ToolFormat::DeepSeekV3, None),
            ("<｜tool▁call▁begin｜>", ToolFormat::DeepSeekV31, None),
            ("<|channel>thought <|tool_call>call:", ToolFormat::Gemma4, Some(ReasoningTags::GEMMA4)),
            ("<start_function_call>", ToolFormat::FunctionGemma, None),
            ("<tool_call>\n<function=", ToolFormat::QwenXml, None),
            ("<tool_call> <think>", ToolFormat::Hermes, Some(ReasoningTags::THINK)),
            ("<|start_header_id|>", ToolFormat::Llama, None),
            ("<start_of_turn>", ToolFormat::Plain, None),
        ] {
            assert_eq!(OutputFormat::of_template(source), OutputFormat { tools, reasoning }, "{source}");
        }
    }
}

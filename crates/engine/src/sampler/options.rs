//! How a token is chosen: what a request may ask for.

/// How a token is chosen. The default is greedy.
///
/// The stages come always in this order: what the request's filter forbids; logit bias; repetition, presence and frequency penalties; DRY; temperature;
/// top-k; typical; top-p; min-p; draw. Each filter sees the distribution that the one before it left, renormalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits. 0: greedy, the largest logit (of equal ones the lowest id).
    pub temperature: f32,
    /// Keep the `top_k` most likely tokens; 0: all.
    pub top_k: usize,
    /// Keep the fewest most likely tokens with at least this probability together; 1: all.
    pub top_p: f32,
    /// Keep tokens at least this fraction as likely as the most likely one; 0: all.
    pub min_p: f32,
    /// Keep the fewest tokens of most typical surprise with at least this probability together; 1: all.
    pub typical_p: f32,
    /// Divides positive and multiplies negative logits of tokens among the last `repeat_last_n`; 1: off.
    pub repeat_penalty: f32,
    /// How many of the last tokens of prompt and answer `repeat_penalty` looks at.
    pub repeat_last_n: usize,
    /// Subtracted from the logits of tokens that the answer already has.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit once for each time that the answer already has it.
    pub frequency_penalty: f32,
    /// Added to the logits of single tokens; minus infinity forbids one.
    pub logit_bias: Vec<(u32, f32)>,
    /// Penalises tokens that would continue a repetition.
    pub dry: Option<Dry>,
    /// Two answers with the same seed, prompt and settings are equal, whatever else the engine is doing.
    pub seed: u64,
    /// Report the log-probability of each token, and of this many most likely ones.
    pub logprobs: Option<usize>,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            dry: None,
            seed: 0,
            logprobs: None,
        }
    }
}

/// The DRY ("don't repeat yourself") penalty: a token that would make a repeated sequence `n` tokens long, `n` at
/// least `allowed_length`, loses `multiplier * base^(n - allowed_length)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dry {
    /// 0: off.
    pub multiplier: f32,
    /// Growth of the penalty per repeated token; at least 1.
    pub base: f32,
    /// Length of a repetition from which on the penalty applies.
    pub allowed_length: usize,
    /// How many of the last tokens of prompt and answer are searched.
    pub last_n: usize,
    /// Tokens that no repetition reaches across.
    pub breakers: Vec<u32>,
}

//! How likely a prompt's own tokens are.

use crate::request::{BadLogits, Event};
use crate::sampler::Sampler;
use crate::sequence::Sequence;

/// Scores the tokens of the prompt that follow the rows' positions, which begin where the sequence has been computed to,
/// and moves it on. `None` where the rows are not there for that.
///
/// # Errors
/// If a row is not made of numbers.
pub(crate) fn score(
    seq: &mut Sequence,
    rows: &[&[f32]],
    sampler: &mut Sampler,
) -> Result<Option<Event>, BadLogits> {
    if !seq.is_scoring() {
        return Ok(None);
    }
    let first = seq.scored;
    let mut logprobs = Vec::new();
    // The last row of a prompt is the first token's of the answer.
    for (row, &token) in rows.iter().zip(&seq.tokens[first..seq.prompt]) {
        let position = first + logprobs.len();
        logprobs.push(sampler.score(&row[..seq.vocab_limit], token, position, seq.prompt_top)?);
    }
    seq.scored += logprobs.len();
    Ok(Some(Event::Prompt { id: seq.id, first, logprobs }))
}

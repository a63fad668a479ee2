//! From a prompt to an answer: render, encode, step the engine, decode.

use super::output::Output;
use super::{Answer, Finish, Listener, Session};
use crate::conversation::Conversation;
use crate::settings::Settings;
use crate::speech::Encoded;
use crate::{Error, Role};
use sampan_engine::{Engine, Event, FinishReason, Request, RequestId, Usage};
use sampan_text::{Start, Tokenizer};

impl Session {
    /// Continues a prompt, telling `listener` as the answer comes.
    ///
    /// # Errors
    /// When the prompt is longer than the context (nothing is cut), a setting is out of range, or the model computes
    /// something that is not a number.
    pub fn answer(
        &mut self,
        prompt: &Encoded,
        settings: &Settings,
        listener: &mut dyn Listener,
    ) -> Result<Answer, Error> {
        let seed = settings.seed.unwrap_or_else(crate::seed::random_seed);
        let id = self.engine.submit(Request {
            sampling: settings.sampling(seed),
            max_tokens: settings.max_tokens,
            stop_tokens: self.speech.stop_tokens.clone(),
            adapter: self.adapter.clone(),
            ..Request::new(prompt.ids.clone(), self.context, self.speech.tokenizer.vocab_size())
        })?;
        let mut output = Output::new(prompt.format, prompt.start, &settings.stop, listener);
        let (reason, usage) = run(&mut self.engine, &self.speech.tokenizer, id, prompt, &mut output);
        let finish = match reason {
            FinishReason::Failed(bad) => return Err(bad.into()),
            FinishReason::Filter(bad) => return Err(bad.into()),
            _ if output.stop.stopped() => Finish::Stop,
            FinishReason::Stop(_) | FinishReason::Complete => Finish::Stop,
            FinishReason::Length => Finish::Length,
            FinishReason::Context => Finish::Context,
            FinishReason::Cancelled => Finish::Cancelled,
        };
        let Output { text, reasoning, .. } = output;
        Ok(Answer { text, reasoning, finish, usage, seed })
    }

    /// Adds the model's answer to a conversation that a user's message ends.
    ///
    /// # Errors
    /// As [`Speech::encode_messages`](crate::speech::Speech::encode_messages) and [`Session::answer`]; the conversation is then as it was.
    pub fn reply(
        &mut self,
        conversation: &mut Conversation,
        settings: &Settings,
        listener: &mut dyn Listener,
    ) -> Result<Answer, Error> {
        debug_assert!(conversation.turns().last().is_some_and(|m| m.role == Role::User));
        let prompt =
            self.speech.encode_messages(&conversation.to_json(), None, &settings.template_variables())?;
        let answer = self.answer(&prompt, settings, listener)?;
        conversation.assistant(answer.text.trim_end(), answer.reasoning.as_str());
        Ok(answer)
    }
}

/// Steps the engine until the request has ended.
fn run(
    engine: &mut Engine,
    tokenizer: &Tokenizer,
    id: RequestId,
    prompt: &Encoded,
    output: &mut Output<'_>,
) -> (FinishReason, Usage) {
    let mut decoder = match prompt.start {
        _ if prompt.format.needs_special(false) => tokenizer.stream_with_special(),
        Start::Answer => tokenizer.stream_continued(),
        _ => tokenizer.stream(),
    };
    let (mut piece, mut taken, mut ended) = (String::new(), 0, false);
    loop {
        if output.listener.step().is_break() {
            engine.cancel(id);
        }
        for event in engine.step() {
            match event {
                Event::Token { token, .. } if !ended => {
                    taken += 1;
                    piece.clear();
                    decoder.push_into(token, &mut piece);
                    ended = output.push(&piece).is_break();
                    if ended {
                        engine.cancel(id);
                    }
                }
                Event::Started { .. } | Event::Prompt { .. } | Event::Token { .. } => {}
                Event::Finished { mut reason, mut usage, .. } => {
                    // A step can bring several tokens; those behind the end are none of the answer.
                    let late = if ended { usage.generated_tokens - taken } else { 0 };
                    if late > 0 {
                        reason = FinishReason::Cancelled;
                        usage.generated_tokens = taken;
                        usage.accepted_tokens = usage.accepted_tokens.saturating_sub(late);
                    }
                    let _ = output.push(&decoder.finish());
                    output.finish();
                    return (reason, usage);
                }
            }
        }
    }
}

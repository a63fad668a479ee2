//! The times of one answer.

use super::{ModelName, Reason, Requests};
use crate::budget::Share;
use std::time::{Duration, Instant};
use tracing::Span;

/// The times of one answer, and what it holds of the memory. An answer that ends without a word (its client has gone
/// before the engine took it on) is not counted.
#[derive(Debug)]
pub(crate) struct Clock {
    requests: Requests,
    model: ModelName,
    prompt: usize,
    generated: u64,
    begun: Instant,
    started: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
    span: Span,
    _share: Share,
}

impl Clock {
    pub(super) fn new(
        requests: Requests,
        model_name: String,
        prompt: usize,
        share: Share,
        span: Span,
    ) -> Clock {
        Clock {
            requests,
            model: ModelName { model_name },
            prompt,
            generated: 0,
            begun: Instant::now(),
            started: None,
            first: None,
            last: None,
            span,
            _share: share,
        }
    }

    /// The engine has begun with it after some time in its queue, and found so many tokens of the prompt in the cache. (This
    /// is heard after the first step, which for a short prompt is the only one.)
    pub(crate) fn started(&mut self, cached: usize, queued: Duration) {
        if self.started.replace(self.begun + queued).is_none() {
            let waited = queued.as_secs_f64();
            self.span.record("gen_ai.latency.time_in_queue", waited);
            self.span.record("gen_ai.usage.cache_read.input_tokens", cached);
            self.requests.queue.get_or_create(&self.model).observe(waited);
            self.requests.prompt.get_or_create(&self.model).observe(self.prompt as f64);
            self.requests.prompt_tokens.get_or_create(&self.model).inc_by(self.prompt as u64);
        }
    }

    /// A token has come.
    pub(crate) fn token(&mut self) {
        let now = Instant::now();
        self.generated += 1;
        self.requests.generated_tokens.get_or_create(&self.model).inc();
        match self.last.replace(now) {
            Some(last) => {
                let between = (now - last).as_secs_f64();
                self.requests.between_tokens.get_or_create(&self.model).observe(between);
            }
            None => {
                self.first = Some(now);
                let since_start = now.saturating_duration_since(self.started.unwrap_or(self.begun));
                let whole = (now - self.begun).as_secs_f64();
                self.span.record("gen_ai.latency.time_to_first_token", whole);
                self.requests.first_token.get_or_create(&self.model).observe(whole);
                self.requests.prefill.get_or_create(&self.model).observe(since_start.as_secs_f64());
            }
        }
    }

    /// The answer has ended: `stop`, `length`, `tool_calls`, `abort` or `error`.
    pub(crate) fn ended(self, reason: &str) {
        let Clock { requests, model, span, .. } = &self;
        let whole = self.begun.elapsed().as_secs_f64();
        span.record("gen_ai.latency.e2e", whole);
        span.record("gen_ai.usage.output_tokens", self.generated);
        span.record("gen_ai.response.finish_reasons", reason);
        if reason == "error" {
            span.record("otel.status_code", "ERROR");
        }
        requests.whole.get_or_create(model).observe(whole);
        requests.generated.get_or_create(model).observe(self.generated as f64);
        if let (Some(first), Some(last)) = (self.first, self.last) {
            requests.decode.get_or_create(model).observe((last - first).as_secs_f64());
        }
        let reason = Reason { model_name: model.model_name.clone(), finished_reason: reason.to_owned() };
        requests.success.get_or_create(&reason).inc();
    }
}

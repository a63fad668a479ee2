//! What dashboards are drawn from: Prometheus text under the names that vLLM's dashboards use, and this machine's
//! memory and bandwidth beside them.

mod clock;
mod engines;

pub(crate) use clock::Clock;

use crate::budget::Share;
use crate::loaded::Loaded;
use crate::registry::Registry;
use engines::Engines;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::Registry as Names;
use sampan_kernels::{Kernels, limits};

use std::time::Instant;
use tracing::Span;

/// Upper ends of the buckets for times, in seconds.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Upper ends of the buckets for counts of tokens.
const TOKENS: [f64; 14] =
    [1.0, 4.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 131072.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    model_name: String,
    finished_reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    handler: &'static str,
    method: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    handler: &'static str,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelName {
    model_name: String,
}

/// A histogram for each set of labels.
type Spread<L> = Family<L, Histogram, fn() -> Histogram>;

fn seconds<L: Clone + std::hash::Hash + Eq>() -> Spread<L> {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

fn tokens() -> Spread<ModelName> {
    Family::new_with_constructor(|| Histogram::new(TOKENS))
}

/// Counters of this server. What engines count is read from them when it is asked for.
#[derive(Debug)]
pub(crate) struct Metrics {
    names: Names,
    requests: Requests,
    http: Family<Answered, Counter>,
    http_seconds: Spread<Route>,
    in_flight: Gauge,
    engines: Engines,
}

/// What is counted of answers.
#[derive(Clone, Debug)]
struct Requests {
    success: Family<Reason, Counter>,
    first_token: Spread<ModelName>,
    between_tokens: Spread<ModelName>,
    whole: Spread<ModelName>,
    queue: Spread<ModelName>,
    prefill: Spread<ModelName>,
    decode: Spread<ModelName>,
    prompt: Spread<ModelName>,
    generated: Spread<ModelName>,
    prompt_tokens: Family<ModelName, Counter>,
    generated_tokens: Family<ModelName, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let mut names = Names::default();
        let requests = Requests::register(&mut names);
        let (http, http_seconds, in_flight) = (Family::default(), seconds(), Gauge::default());
        names.register("http_requests", "Requests by route and status", http.clone());
        names.register(
            "http_request_duration_seconds",
            "From a request's head to the last byte of its answer",
            http_seconds.clone(),
        );
        names.register("http_requests_in_flight", "Requests being answered", in_flight.clone());
        Metrics { names, requests, http, http_seconds, in_flight, engines: Engines::default() }
    }

    /// Counts a request that has come in.
    pub(crate) fn exchange(&self, handler: &'static str, method: &str) -> Exchange {
        self.in_flight.inc();
        let route = Route { handler, method: method.to_owned() };
        Exchange {
            begun: Instant::now(),
            in_flight: self.in_flight.clone(),
            http: self.http.clone(),
            seconds: self.http_seconds.clone(),
            route,
        }
    }

    /// Measures what engines' reading of memory is compared with. Takes a fifth of a second and 256 MiB.
    pub(crate) fn measure(&self, kernels: &Kernels) {
        self.engines.set_limit(limits::measure_read_bandwidth(kernels.pool()));
    }

    /// Notes what the engines have done so far, so that there are shares of the last seconds. To be called every second.
    pub(crate) fn sample(&self, registry: &Registry) {
        self.engines.sample(registry);
    }

    /// The times of an answer of `loaded` that begins now.
    pub(crate) fn clock(&self, loaded: &Loaded, prompt: usize, share: Share, span: Span) -> Clock {
        Clock::new(self.requests.clone(), loaded.name.clone(), prompt, share, span)
    }

    /// The text for Prometheus.
    pub(crate) fn text(&self, registry: &Registry) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode_registry(&mut out, &self.names);
        let _ = text::encode_registry(&mut out, &self.engines.names(registry));
        let _ = text::encode_eof(&mut out);
        out
    }
}

impl Requests {
    fn register(names: &mut Names) -> Requests {
        let made = Requests {
            success: Family::default(),
            first_token: seconds(),
            between_tokens: seconds(),
            whole: seconds(),
            queue: seconds(),
            prefill: seconds(),
            decode: seconds(),
            prompt: tokens(),
            generated: tokens(),
            prompt_tokens: Family::default(),
            generated_tokens: Family::default(),
        };
        names.register("vllm:request_success", "Answers by how they ended", made.success.clone());
        for (name, help, spread) in [
            ("vllm:time_to_first_token_seconds", "From request to first token", &made.first_token),
            ("vllm:inter_token_latency_seconds", "Between two tokens", &made.between_tokens),
            ("vllm:e2e_request_latency_seconds", "From request to the end", &made.whole),
            ("vllm:request_queue_time_seconds", "From request to its first step", &made.queue),
            ("vllm:request_prefill_time_seconds", "From the first step to the first token", &made.prefill),
            ("vllm:request_decode_time_seconds", "From the first token to the last", &made.decode),
            ("vllm:request_prompt_tokens", "Tokens of a prompt", &made.prompt),
            ("vllm:request_generation_tokens", "Tokens of an answer", &made.generated),
        ] {
            names.register(name, help, spread.clone());
        }
        names.register("vllm:prompt_tokens", "Tokens of prompts", made.prompt_tokens.clone());
        names.register("vllm:generation_tokens", "Tokens generated", made.generated_tokens.clone());
        made
    }
}

/// A request that is being answered. It has ended when this is dropped: after the last byte.
#[derive(Debug)]
pub(crate) struct Exchange {
    begun: Instant,
    in_flight: Gauge,
    http: Family<Answered, Counter>,
    seconds: Spread<Route>,
    route: Route,
}

impl Exchange {
    /// The status is known, and the answer (or its stream) begins.
    pub(crate) fn answered(&self, status: u16) {
        let Route { handler, ref method } = self.route;
        self.http.get_or_create(&Answered { handler, method: method.clone(), status }).inc();
    }

    /// Milliseconds so far.
    pub(crate) fn millis(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.in_flight.dec();
        self.seconds.get_or_create(&self.route).observe(self.begun.elapsed().as_secs_f64());
    }
}

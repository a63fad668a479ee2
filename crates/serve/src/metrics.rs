//! What dashboards are drawn from: Prometheus text under the names that vLLM's dashboards use, and memory beside
//! them.

use crate::registry::Registry;
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::Registry as Names;
use sampan_facade::machine;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Upper ends of the buckets for times, in seconds.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    finished_reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    handler: String,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ModelName {
    model_name: String,
}

/// Counters of this server. What engines count is read from them when it is asked for.
#[derive(Debug)]
pub(crate) struct Metrics {
    names: Names,
    success: Family<Reason, Counter>,
    http: Family<Route, Counter>,
    first_token: Histogram,
    between_tokens: Histogram,
    whole: Histogram,
    prompt_tokens: Counter,
    generated_tokens: Counter,
    in_flight: Gauge,
    gauges: Gauges,
}

type Of<T> = Family<ModelName, T>;
type Share = Gauge<f64, AtomicU64>;

/// What is read from the engines at the moment of asking.
#[derive(Clone, Debug, Default)]
struct Gauges {
    running: Of<Gauge>,
    waiting: Of<Gauge>,
    cache: Of<Share>,
    cache_queries: Of<Gauge>,
    cache_hits: Of<Gauge>,
    preemptions: Of<Gauge>,
    drafted: Of<Gauge>,
    accepted: Of<Gauge>,
    steps: Of<Gauge>,
    planned: Of<Gauge>,
    resident: Gauge,
    peak: Gauge,
    available: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let seconds = || Histogram::new(SECONDS);
        let mut metrics = Metrics {
            names: Names::default(),
            success: Family::default(),
            http: Family::default(),
            first_token: seconds(),
            between_tokens: seconds(),
            whole: seconds(),
            prompt_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            in_flight: Gauge::default(),
            gauges: Gauges::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let (names, g) = (&mut self.names, &self.gauges);
        names.register("vllm:request_success", "Answers by how they ended", self.success.clone());
        names.register(
            "vllm:time_to_first_token_seconds",
            "From request to first token",
            self.first_token.clone(),
        );
        names.register("vllm:inter_token_latency_seconds", "Between two tokens", self.between_tokens.clone());
        names.register("vllm:e2e_request_latency_seconds", "From request to the end", self.whole.clone());
        names.register("vllm:prompt_tokens", "Tokens of prompts", self.prompt_tokens.clone());
        names.register("vllm:generation_tokens", "Tokens generated", self.generated_tokens.clone());
        names.register("vllm:num_requests_running", "Requests being computed", g.running.clone());
        names.register("vllm:num_requests_waiting", "Requests waiting", g.waiting.clone());
        names.register("vllm:kv_cache_usage_perc", "Part of the cache in use, from 0 to 1", g.cache.clone());
        names.register(
            "vllm:prefix_cache_queries_total",
            "Prompt tokens looked for in the cache",
            g.cache_queries.clone(),
        );
        names.register(
            "vllm:prefix_cache_hits_total",
            "Prompt tokens found in the cache",
            g.cache_hits.clone(),
        );
        names.register("vllm:num_preemptions_total", "Requests that lost their pages", g.preemptions.clone());
        names.register("vllm:spec_decode_num_draft_tokens_total", "Tokens proposed", g.drafted.clone());
        names.register(
            "vllm:spec_decode_num_accepted_tokens_total",
            "Proposed tokens that were right",
            g.accepted.clone(),
        );
        names.register("sampan_engine_steps_total", "Forward passes", g.steps.clone());
        names.register("sampan_planned_bytes", "Memory that the plan says", g.planned.clone());
        names.register("sampan_resident_bytes", "Memory of this process", g.resident.clone());
        names.register("sampan_resident_peak_bytes", "The most memory of this process", g.peak.clone());
        names.register("sampan_available_bytes", "Memory that can still be taken", g.available.clone());
        names.register("http_requests", "Requests by route and status", self.http.clone());
        names.register("http_requests_in_flight", "Requests being answered", self.in_flight.clone());
    }

    /// A request has been answered (or its stream has begun).
    pub(crate) fn http(&self, handler: &str, method: &str, status: u16) {
        let route = Route { handler: handler.to_owned(), method: method.to_owned(), status };
        self.http.get_or_create(&route).inc();
    }

    /// Counts a request while it lives.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// The times of an answer that begins now.
    pub(crate) fn clock(&self, prompt_tokens: usize) -> Clock<'_> {
        self.prompt_tokens.inc_by(prompt_tokens as u64);
        Clock { metrics: self, begun: Instant::now(), last: None }
    }

    /// The text for Prometheus.
    pub(crate) fn text(&self, registry: &Registry) -> String {
        let g = &self.gauges;
        for listed in registry.list() {
            let label = ModelName { model_name: listed.name.clone() };
            let planned = listed.loaded.as_ref().map_or(0, |l| l.prepared.memory.total());
            g.planned.get_or_create(&label).set(planned as i64);
            let stats =
                listed.loaded.as_ref().and_then(|l| l.engine()).map(|e| e.stats()).unwrap_or_default();
            g.running.get_or_create(&label).set(stats.running as i64);
            g.waiting.get_or_create(&label).set(stats.waiting as i64);
            let used = stats.pages_used as f64 / stats.pages.max(1) as f64;
            g.cache.get_or_create(&label).set(used);
            g.cache_queries.get_or_create(&label).set(stats.prompt_tokens as i64);
            g.cache_hits.get_or_create(&label).set(stats.cached_tokens as i64);
            g.preemptions.get_or_create(&label).set(stats.preemptions as i64);
            g.drafted.get_or_create(&label).set(stats.drafted_tokens as i64);
            g.accepted.get_or_create(&label).set(stats.accepted_tokens as i64);
            g.steps.get_or_create(&label).set(stats.steps as i64);
        }
        g.resident.set(machine::resident().unwrap_or(0) as i64);
        g.peak.set(machine::peak_resident().unwrap_or(0) as i64);
        g.available.set(machine::available_memory().map_or(0, |m| m.bytes) as i64);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.names);
        text
    }
}

/// Counts down when it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The times of one answer.
#[derive(Debug)]
pub(crate) struct Clock<'a> {
    metrics: &'a Metrics,
    begun: Instant,
    last: Option<Instant>,
}

impl Clock<'_> {
    /// A token has come.
    pub(crate) fn token(&mut self) {
        let now = Instant::now();
        match self.last.replace(now) {
            None => self.metrics.first_token.observe((now - self.begun).as_secs_f64()),
            Some(last) => self.metrics.between_tokens.observe((now - last).as_secs_f64()),
        }
        self.metrics.generated_tokens.inc();
    }

    /// The answer has ended: `stop`, `length`, `abort` or `error`.
    pub(crate) fn ended(self, reason: &str) {
        self.metrics.whole.observe(self.begun.elapsed().as_secs_f64());
        self.metrics.success.get_or_create(&Reason { finished_reason: reason.to_owned() }).inc();
    }
}

//! What is read from the engines and from the system at the moment of asking.

use super::ModelName;
use crate::loaded::Loaded;
use crate::registry::Registry;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry as Names;
use sampan_engine::EngineStats;
use sampan_facade::machine;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

type Real = Gauge<f64, AtomicU64>;
type RealCounter = Counter<f64, AtomicU64>;

/// Over how long shares of the machine's limits are taken.
const WINDOW: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    model_name: String,
    kind: &'static str,
}

/// What has to be remembered between two moments of asking.
#[derive(Debug, Default)]
pub(super) struct Engines(Mutex<Past>);

#[derive(Debug, Default)]
struct Past {
    /// Bytes per second at which this machine reads memory; not known before it is measured.
    limit: Option<f64>,
    models: HashMap<String, Sample>,
}

/// What a model's engines have read so far, and the share of the limit in the last window.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// The engine's numbers when it was last looked at.
    stats: EngineStats,
    /// Bytes read until then.
    read: f64,
    /// The beginning of the window, and the bytes until there.
    since: (Instant, f64),
    share: f64,
}

impl Sample {
    fn new() -> Sample {
        Sample { stats: EngineStats::default(), read: 0.0, since: (Instant::now(), 0.0), share: 0.0 }
    }

    /// Adds what was read since the last look, by the plan: the weights of each step, and the caches of the sequences in
    /// it.
    fn note(&mut self, loaded: &Loaded, now: EngineStats) {
        // A model that was loaded anew begins at nothing.
        let before = if now.steps < self.stats.steps { EngineStats::default() } else { self.stats };
        self.stats = now;
        let (steps, sequences) = (now.steps - before.steps, now.sequence_steps - before.sequence_steps);
        if steps > 0 {
            let context = (now.context_steps - before.context_steps) / sequences.max(1);
            let streams = (sequences as f64 / steps as f64).round().max(1.0);
            let prepared = &loaded.prepared;
            let step =
                prepared.plan.step_bytes(&prepared.kernels, prepared.kv, context as usize, streams as usize);
            self.read += steps as f64 * step as f64;
        }
    }

    /// Closes the window, if it is long enough.
    fn share(&mut self, limit: f64) {
        let (begun, read) = self.since;
        let time = begun.elapsed();
        if time >= WINDOW {
            self.share = (self.read - read) / time.as_secs_f64() / limit;
            self.since = (Instant::now(), self.read);
        }
    }
}

impl Past {
    /// The sample of a model that is in memory, as of now.
    fn look(&mut self, name: &str, loaded: &Loaded) -> &mut Sample {
        let sample = self.models.entry(name.to_owned()).or_insert_with(Sample::new);
        if let Some(engine) = loaded.engine() {
            sample.note(loaded, engine.stats());
        }
        sample
    }
}

impl Engines {
    fn past(&self) -> MutexGuard<'_, Past> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_limit(&self, bytes_per_s: f64) {
        self.past().limit = Some(bytes_per_s);
    }

    pub(super) fn sample(&self, registry: &Registry) {
        let mut past = self.past();
        let Some(limit) = past.limit else { return };
        for listed in registry.list() {
            match &listed.loaded {
                Some(loaded) => past.look(&listed.name, loaded).share(limit),
                None => past.models.get_mut(&listed.name).into_iter().for_each(|sample| sample.share = 0.0),
            }
        }
    }

    /// Everything under its name, as it is now.
    pub(super) fn names(&self, registry: &Registry) -> Names {
        let mut names = Names::default();
        let scrape = Scrape::register(&mut names);
        let mut past = self.past();
        for listed in registry.list() {
            let model = ModelName { model_name: listed.name.clone() };
            scrape.loaded.get_or_create(&model).set(i64::from(listed.loaded.is_some()));
            if let Some(loaded) = &listed.loaded {
                scrape.model(&model, loaded, past.look(&listed.name, loaded));
            }
        }
        scrape.limit.set(past.limit.unwrap_or(0.0));
        scrape.resident.set(machine::resident().unwrap_or(0) as i64);
        scrape.peak.set(machine::peak_resident().unwrap_or(0) as i64);
        scrape.available.set(machine::available_memory().map_or(0, |m| m.bytes) as i64);
        names
    }
}

macro_rules! scrape {
    ($($field:ident: $type:ty, $name:literal, $help:literal;)*) => {
        /// What is read from the engines; made anew each time, so that what engines count is a counter here too.
        #[derive(Debug, Default)]
        struct Scrape { $($field: $type,)* }

        impl Scrape {
            fn register(names: &mut Names) -> Scrape {
                let scrape = Scrape::default();
                $(names.register($name, $help, scrape.$field.clone());)*
                scrape
            }
        }
    };
}

scrape! {
    loaded: Family<ModelName, Gauge>, "sampan_model_loaded", "Whether the model is in memory";
    running: Family<ModelName, Gauge>, "vllm:num_requests_running", "Requests being computed";
    waiting: Family<ModelName, Gauge>, "vllm:num_requests_waiting", "Requests waiting for their turn";
    cache: Family<ModelName, Real>, "vllm:kv_cache_usage_perc", "Part of the cache in use, from 0 to 1";
    queries: Family<ModelName, Counter>, "vllm:prefix_cache_queries", "Prompt tokens looked for in the cache";
    hits: Family<ModelName, Counter>, "vllm:prefix_cache_hits", "Prompt tokens found in the cache";
    preemptions: Family<ModelName, Counter>, "vllm:num_preemptions", "Requests that lost their pages to older ones";
    drafted: Family<ModelName, Counter>, "vllm:spec_decode_num_draft_tokens", "Tokens proposed";
    accepted: Family<ModelName, Counter>, "vllm:spec_decode_num_accepted_tokens", "Proposed tokens that were right";
    steps: Family<ModelName, Counter>, "sampan_engine_steps", "Forward passes";
    computed: Family<ModelName, Counter>, "sampan_computed_tokens", "Tokens run through the model";
    busy: Family<ModelName, RealCounter>, "sampan_engine_busy_seconds", "Time in forward passes";
    read: Family<ModelName, RealCounter>, "sampan_read_bytes", "Bytes that forward passes read, by the plan";
    share: Family<ModelName, Real>, "sampan_bandwidth_share", "Part of the measured bandwidth that was read at, over some seconds";
    planned: Family<Kind, Gauge>, "sampan_planned_bytes", "The most memory that the plan says";
    memory: Family<Kind, Gauge>, "sampan_memory_bytes", "Memory by what it is for: weights, kv (of requests), cache (kept for later ones), scratch, adapters, encoders (of vectors and scores)";
    limit: Real, "sampan_read_bandwidth_bytes_per_second", "How fast this machine reads memory, measured at the start";
    resident: Gauge, "sampan_resident_bytes", "Memory of this process";
    peak: Gauge, "sampan_resident_peak_bytes", "The most memory of this process";
    available: Gauge, "sampan_available_bytes", "Memory that can still be taken";
}

impl Scrape {
    fn model(&self, model: &ModelName, loaded: &Loaded, sample: &Sample) {
        let (planned, stats) = (loaded.prepared.memory, sample.stats);
        let page = loaded.prepared.plan.kv_bytes_per_page(loaded.prepared.kv);
        let kind = |kind| Kind { model_name: model.model_name.clone(), kind };
        let encoders = loaded.room.encoders() as usize;
        for (name, planned, now) in [
            ("weights", planned.weights, planned.weights),
            ("kv", planned.kv, stats.pages_used * page),
            ("cache", 0, stats.pages_cached * page + stats.snapshot_bytes),
            ("scratch", planned.scratch, planned.scratch),
            ("adapters", loaded.adapters.bytes(), loaded.adapters.bytes()),
            ("encoders", encoders, encoders),
        ] {
            self.memory.get_or_create(&kind(name)).set(now as i64);
            if planned > 0 {
                self.planned.get_or_create(&kind(name)).set(planned as i64);
            }
        }
        self.running.get_or_create(model).set(stats.running as i64);
        self.waiting.get_or_create(model).set(stats.waiting as i64);
        let used = stats.pages_used as f64 / stats.pages.max(1) as f64;
        self.cache.get_or_create(model).set(used);
        for (counter, count) in [
            (&self.queries, stats.prompt_tokens),
            (&self.hits, stats.cached_tokens),
            (&self.preemptions, stats.preemptions),
            (&self.drafted, stats.drafted_tokens),
            (&self.accepted, stats.accepted_tokens),
            (&self.steps, stats.steps),
            (&self.computed, stats.computed_tokens),
        ] {
            counter.get_or_create(model).inc_by(count);
        }
        self.busy.get_or_create(model).inc_by(stats.busy.as_secs_f64());
        self.read.get_or_create(model).inc_by(sample.read);
        self.share.get_or_create(model).set(sample.share);
    }
}

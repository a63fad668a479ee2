//! A model in memory, and everything that can be asked of it.

use crate::failure::Failure;
use crate::worker::Worker;
use sampan_engine::Engine;
use sampan_facade::{EmbedOptions, Embedder, Embedding, Prepared, Reranker, Score, Speech};
use sampan_model::Model;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A model in memory. Whoever uses it holds an [`Arc`]: it goes when the registry and the last request let go of it.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The name by which requests call it.
    pub(crate) name: String,
    pub(crate) speech: Speech,
    /// Files and plan; the weights themselves are in `model`.
    pub(crate) prepared: Prepared,
    pub(crate) model: Arc<Model>,
    /// The engine; not there for models that generate nothing.
    worker: Option<Worker>,
    embedder: Mutex<Option<Embedder>>,
    reranker: Mutex<Option<Reranker>>,
    pub(crate) load_time: Duration,
}

impl Loaded {
    /// Brings a model into memory. Takes long: not for a thread that others wait for.
    pub(crate) fn load(name: String, prepared: Prepared) -> Result<Loaded, Failure> {
        let begin = std::time::Instant::now();
        let speech = Speech::of(&prepared)?;
        let model = Arc::new(prepared.load(&mut |_, _| {})?);
        let worker = match prepared.check_generates() {
            Err(_) => None,
            Ok(()) => {
                let engine = Engine::new(model.clone(), prepared.engine.clone());
                let start = Worker::start(engine);
                Some(start.map_err(|e| Failure::internal(format!("no thread for the engine: {e}")))?)
            }
        };
        let (embedder, reranker) = (Mutex::default(), Mutex::default());
        Ok(Loaded { name, speech, prepared, model, worker, embedder, reranker, load_time: begin.elapsed() })
    }

    /// The engine, of a model that generates.
    pub(crate) fn worker(&self) -> Result<&Worker, Failure> {
        match &self.worker {
            Some(worker) => Ok(worker),
            None => Err(self
                .prepared
                .check_generates()
                .err()
                .map_or_else(|| Failure::internal("the engine is not there"), Failure::from)),
        }
    }

    /// The engine, if there is one.
    pub(crate) fn engine(&self) -> Option<&Worker> {
        self.worker.as_ref()
    }

    /// Whether it still answers.
    pub(crate) fn is_alive(&self) -> bool {
        self.worker.as_ref().is_none_or(Worker::is_alive)
    }

    /// Vectors of texts; one caller after the other. Blocks.
    pub(crate) fn embed(&self, texts: &[String], options: &EmbedOptions) -> Result<Vec<Embedding>, Failure> {
        let mut slot = self.embedder.lock().unwrap_or_else(PoisonError::into_inner);
        let embedder = match &mut *slot {
            Some(embedder) => embedder,
            None => slot.insert(Embedder::over(&self.prepared, self.model.clone(), None)?),
        };
        Ok(embedder.embed(texts, options)?)
    }

    /// Scores of documents; one caller after the other. Blocks.
    pub(crate) fn rerank(
        &self,
        instruct: &str,
        query: &str,
        documents: &[String],
    ) -> Result<Vec<Score>, Failure> {
        let mut slot = self.reranker.lock().unwrap_or_else(PoisonError::into_inner);
        let reranker = match &mut *slot {
            Some(reranker) => reranker,
            None => slot.insert(Reranker::over(&self.prepared, self.model.clone())?),
        };
        Ok(reranker.scores(instruct, query, documents)?)
    }
}

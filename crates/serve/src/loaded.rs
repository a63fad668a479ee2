//! A model in memory, and everything that can be asked of it.

use crate::adapters::Adapters;
use crate::budget::Room;
use crate::failure::Failure;
use crate::worker::Worker;
use sampan_engine::{Adapter, Engine};
use sampan_facade::{EmbedOptions, Embedder, Embedding, Prepared, Reranker, Score, Speech, encoder_bytes};
use sampan_model::Model;
use sampan_text::{ConstraintError, Constraints};
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A model as a request calls it: by itself, or changed by an adapter. Whoever uses it holds an [`Arc`]: the model goes when
/// the registry and the last request let go of it.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    /// The name by which requests call it.
    pub(crate) name: String,
    /// What changes it.
    pub(crate) adapter: Option<Arc<Adapter>>,
    base: Arc<Base>,
}

/// A model in memory, shared by all that is made of it.
#[derive(Debug)]
pub(crate) struct Base {
    pub(crate) speech: Speech,
    /// Files and plan; the weights themselves are in `model`.
    pub(crate) prepared: Prepared,
    pub(crate) model: Arc<Model>,
    pub(crate) adapters: Adapters,
    pub(crate) room: Arc<Room>,
    /// The engine; not there for models that generate nothing.
    worker: Option<Worker>,
    embedder: Mutex<Option<Embedder>>,
    reranker: Mutex<Option<Reranker>>,
    /// Made when the first constraint is asked for.
    constraints: OnceLock<Result<Constraints, ConstraintError>>,
    pub(crate) load_time: Duration,
}

impl Deref for Loaded {
    type Target = Base;

    fn deref(&self) -> &Base {
        &self.base
    }
}

impl Base {
    /// Brings a model into memory. `room`: bytes that it leaves. `progress` gets the bytes done and the bytes in all.
    /// Takes long: not for a thread that others wait for.
    pub(crate) fn load(
        prepared: Prepared,
        room: Option<u64>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Base, Failure> {
        let begin = std::time::Instant::now();
        let room = Arc::new(Room::new(room));
        let speech = Speech::of(&prepared)?;
        let model = Arc::new(prepared.load(progress)?);
        let worker = match prepared.check_generates() {
            Err(_) => None,
            Ok(()) => {
                let engine = Engine::new(model.clone(), prepared.engine.clone());
                let start = Worker::start(engine);
                Some(start.map_err(|e| Failure::internal(format!("no thread for the engine: {e}")))?)
            }
        };
        Ok(Base {
            speech,
            prepared,
            model,
            adapters: Adapters::new(room.clone()),
            room,
            worker,
            embedder: Mutex::default(),
            reranker: Mutex::default(),
            constraints: OnceLock::new(),
            load_time: begin.elapsed(),
        })
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

    /// Bytes that the model may take, with what has come into memory beside it.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.prepared.memory.total() + self.adapters.bytes() + self.room.encoders() as usize
    }

    /// Takes the memory in which vectors or scores are computed; of a model that generates nothing it is in its plan.
    fn take_encoder(&self, what: &str) -> Result<(), Failure> {
        match self.worker {
            None => Ok(()),
            Some(_) => {
                let bytes = encoder_bytes(&self.prepared) as u64;
                self.room.take(&format!("computing {what}"), bytes, self.adapters.bytes() as u64)
            }
        }
    }

    /// What compiles constraints on answers. The first time takes long.
    pub(crate) fn constraints(&self) -> Result<&Constraints, Failure> {
        let make = || Constraints::new(self.speech.tokenizer.clone(), &self.speech.stop_tokens);
        let made = self.constraints.get_or_init(make);
        made.as_ref().map_err(|error| Failure::internal(error.to_string()))
    }
}

impl Loaded {
    pub(crate) fn new(name: String, base: Arc<Base>, adapter: Option<Arc<Adapter>>) -> Loaded {
        Loaded { name, adapter, base }
    }

    /// Vectors of texts; one caller after the other. Blocks.
    pub(crate) fn embed(&self, texts: &[String], options: &EmbedOptions) -> Result<Vec<Embedding>, Failure> {
        self.check_plain("vectors")?;
        let mut slot = self.embedder.lock().unwrap_or_else(PoisonError::into_inner);
        let embedder = match &mut *slot {
            Some(embedder) => embedder,
            None => {
                let embedder = Embedder::over(&self.prepared, self.model.clone(), None)?;
                self.take_encoder("vectors")?;
                slot.insert(embedder)
            }
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
        self.check_plain("scores")?;
        let mut slot = self.reranker.lock().unwrap_or_else(PoisonError::into_inner);
        let reranker = match &mut *slot {
            Some(reranker) => reranker,
            None => {
                let reranker = Reranker::over(&self.prepared, self.model.clone())?;
                self.take_encoder("scores")?;
                slot.insert(reranker)
            }
        };
        Ok(reranker.scores(instruct, query, documents)?)
    }

    /// Refuses what is made without the adapter that was asked for.
    fn check_plain(&self, what: &str) -> Result<(), Failure> {
        match self.adapter {
            None => Ok(()),
            Some(_) => {
                let why =
                    format!("model {:?} has an adapter, and {what} are only made without one", self.name);
                Err(Failure::field("model", "unsuited_model", why))
            }
        }
    }
}

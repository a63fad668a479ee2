//! Which models there are, which of them are in memory, and for how long.

use crate::adapters::{self, NamedAdapter};
use crate::failure::Failure;
use crate::loaded::{Base, Loaded};
use axum::http::StatusCode;
use sampan_facade::{Error, LoadOptions, Prepared, Source, machine};
use sampan_kernels::Kernels;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Mutex as Turns;

/// How long a model stays in memory after its last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// Until the server ends or memory is needed for another model.
    Forever,
    /// So long; not at all if zero.
    For(Duration),
}

/// A model that the server may load.
#[derive(Clone, Debug)]
pub struct Named {
    /// What requests call it.
    pub name: String,
    /// Where it is.
    pub source: Source,
}

impl Named {
    /// `NAME=MODEL`, or `MODEL`, which is then called by its file name without the ending.
    pub fn parse(text: &str) -> Named {
        match text.split_once('=') {
            Some((name, model)) if !name.is_empty() && !name.contains(['/', '\\']) => {
                Named { name: name.to_owned(), source: Source::parse(model) }
            }
            _ => Named { name: base_name(text).to_owned(), source: Source::parse(text) },
        }
    }
}

fn base_name(model: &str) -> &str {
    let name = model.trim_end_matches('/').rsplit('/').next().unwrap_or(model);
    name.strip_suffix(".gguf").or_else(|| name.strip_suffix(".safetensors")).unwrap_or(name)
}

/// What is known of a model.
#[derive(Debug)]
struct Entry {
    named: Named,
    /// Held while the model is loaded, so that it is loaded once.
    turn: Turns<()>,
    state: Mutex<State>,
    progress: Progress,
}

/// How far a model is that is being loaded: bytes done, and bytes in all.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU64, AtomicU64);

impl Progress {
    fn set(&self, done: u64, all: u64) {
        self.0.store(done, Ordering::Relaxed);
        self.1.store(all, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (self.0.load(Ordering::Relaxed), self.1.load(Ordering::Relaxed))
    }
}

#[derive(Debug)]
struct State {
    loaded: Option<Arc<Base>>,
    used: Instant,
    keep: KeepAlive,
    /// Why it could not be loaded the last time.
    failed: Option<Failure>,
    /// Whether it has been in memory.
    seen: bool,
}

/// What is known of an adapter.
#[derive(Debug)]
struct AdapterEntry {
    named: NamedAdapter,
    /// Whether it has been in memory.
    seen: bool,
    /// Why it could not be loaded the last time.
    failed: Option<Failure>,
}

impl AdapterEntry {
    fn new(named: NamedAdapter) -> AdapterEntry {
        AdapterEntry { named, seen: false, failed: None }
    }
}

/// An adapter as lists show it.
#[derive(Debug)]
pub(crate) struct ListedAdapter {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// The model that it was named for; `None`: the first.
    pub(crate) wanted: Option<String>,
    /// The model that it changes, if there is such a one.
    pub(crate) model: Option<String>,
    pub(crate) loaded: bool,
    /// Why it could not be loaded the last time.
    pub(crate) failed: Option<Failure>,
    /// Whether it has been in memory since the start.
    pub(crate) seen: bool,
}

/// Every model of the server.
#[derive(Debug)]
pub(crate) struct Registry {
    entries: RwLock<Vec<Arc<Entry>>>,
    /// Models with adapters; each tells its model.
    adapters: RwLock<Vec<AdapterEntry>>,
    pub(crate) options: LoadOptions,
    keep: KeepAlive,
    /// One set of threads for all models.
    kernels: Arc<Kernels>,
    pub(crate) created: u64,
}

/// A model as lists show it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) loaded: Option<Arc<Loaded>>,
    /// Why it could not be loaded the last time, or answers no more.
    pub(crate) failed: Option<Failure>,
    pub(crate) loading: bool,
    /// Bytes loaded, and bytes in all, while it is loading.
    pub(crate) progress: (u64, u64),
    /// Whether it has been in memory since the start.
    pub(crate) seen: bool,
    /// Where it is.
    pub(crate) source: Source,
    /// How long it stays in memory after its last request.
    pub(crate) keep: KeepAlive,
    /// Time until it is unloaded if nobody asks for it.
    pub(crate) unloads_in: Option<Duration>,
}

impl Registry {
    pub(crate) fn new(
        models: Vec<Named>,
        adapters: Vec<NamedAdapter>,
        options: LoadOptions,
        keep: KeepAlive,
    ) -> Result<Registry, Error> {
        let kernels = Arc::new(options.kernels()?);
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let entries = models.into_iter().map(|named| Entry::new(named, keep)).collect();
        let adapters = RwLock::new(adapters.into_iter().map(AdapterEntry::new).collect());
        let entries = RwLock::new(entries);
        Ok(Registry { entries, adapters, options, keep, kernels, created })
    }

    /// The threads that all models compute on.
    pub(crate) fn kernels(&self) -> &Arc<Kernels> {
        &self.kernels
    }

    fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that the models in memory may still take: what their plans say, less what is resident.
    pub(crate) fn uncommitted(&self) -> u64 {
        let planned = |entry: &Arc<Entry>| {
            entry.state().loaded.as_ref().map_or(0, |loaded| loaded.memory_bytes() as u64)
        };
        let planned: u64 = self.entries().iter().map(planned).sum();
        planned.saturating_sub(machine::resident().unwrap_or(0))
    }

    /// The model of that name, loaded if it is not in memory. Without a name: the first.
    pub(crate) async fn get(&self, name: Option<&str>) -> Result<Arc<Loaded>, Failure> {
        match name.and_then(|name| self.adapter(name)) {
            Some(named) => self.with_adapter(named).await,
            None => {
                let entry = self.entry(name)?;
                let base = self.base(&entry).await?;
                Ok(Arc::new(Loaded::new(entry.named.name.clone(), base, None)))
            }
        }
    }

    async fn base(&self, entry: &Arc<Entry>) -> Result<Arc<Base>, Failure> {
        if let Some(loaded) = entry.touch() {
            return Ok(loaded);
        }
        let _turn = entry.turn.lock().await;
        if let Some(loaded) = entry.touch() {
            return Ok(loaded);
        }
        let outcome = self.load(entry).await;
        let mut state = entry.state();
        state.used = Instant::now();
        let model = &entry.named.name;
        match outcome {
            Ok(loaded) => {
                tracing::info!(model, seconds = loaded.load_time.as_secs_f64(), "loaded");
                state.failed = None;
                state.seen = true;
                // What a request said of an earlier time in memory was said of that.
                state.keep = self.keep;
                state.loaded = Some(loaded.clone());
                Ok(loaded)
            }
            Err(failure) => {
                tracing::error!(model, error = failure.message, "cannot load");
                state.failed = Some(failure.clone());
                Err(failure)
            }
        }
    }

    /// A model with an adapter, both loaded if they are not in memory.
    async fn with_adapter(&self, named: NamedAdapter) -> Result<Arc<Loaded>, Failure> {
        let name = named.name.clone();
        let outcome = self.load_adapter(named).await;
        let mut adapters = self.adapters.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = adapters.iter_mut().find(|known| known.named.name == name) {
            known.seen |= outcome.is_ok();
            known.failed = outcome.as_ref().err().cloned();
        }
        outcome
    }

    async fn load_adapter(&self, named: NamedAdapter) -> Result<Arc<Loaded>, Failure> {
        let entry = self.entry(named.model.as_deref())?;
        let base = self.base(&entry).await?;
        let adapter = match base.adapters.get(&named.name) {
            Some(adapter) => adapter,
            None => {
                let _turn = entry.turn.lock().await;
                let (shared, wanted) = (base.clone(), named.clone());
                let load = move || shared.adapters.load(&wanted, &shared.model, &shared.prepared.checkpoint);
                let loaded = tokio::task::spawn_blocking(load).await;
                let loaded =
                    loaded.unwrap_or_else(|e| Err(Failure::internal(format!("loading failed: {e}"))));
                let adapter = &named.name;
                match &loaded {
                    Ok(_) => tracing::info!(adapter, "loaded"),
                    Err(failure) => tracing::error!(adapter, error = failure.message, "cannot load"),
                }
                loaded?
            }
        };
        Ok(Arc::new(Loaded::new(named.name, base, Some(adapter))))
    }

    /// Takes an adapter on, once it has proved to go with its model.
    pub(crate) async fn add_adapter(&self, named: NamedAdapter) -> Result<Arc<Loaded>, Failure> {
        let taken = || {
            let why = format!("lora_name is {:?}, which is already the name of a model here", named.name);
            Failure::field("lora_name", "name_taken", why)
        };
        if self.entry(Some(&named.name)).is_ok() || self.adapter(&named.name).is_some() {
            return Err(taken());
        }
        let loaded = self.with_adapter(named.clone()).await?;
        let mut adapters = self.adapters.write().unwrap_or_else(PoisonError::into_inner);
        if adapters.iter().any(|other| other.named.name == named.name) {
            return Err(taken());
        }
        adapters.push(AdapterEntry { seen: true, ..AdapterEntry::new(named) });
        Ok(loaded)
    }

    /// Lets go of an adapter. Requests under way end with it.
    pub(crate) fn remove_adapter(&self, name: &str) -> Result<(), Failure> {
        let Some(named) = self.adapter(name) else {
            let known: Vec<String> = self.adapters().into_iter().map(|(name, _)| name).collect();
            let message = format!("there is no adapter {name:?} here; there are: {}", known.join(", "));
            return Err(Failure {
                param: Some("lora_name".into()),
                ..Failure::new(StatusCode::NOT_FOUND, "adapter_not_found", message)
            });
        };
        self.adapters
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|other| other.named.name != name);
        let entry = self.entry(named.model.as_deref())?;
        let base = entry.state().loaded.clone();
        if let Some(base) = base {
            base.adapters.remove(name);
        }
        tracing::info!(adapter = name, "unloaded");
        Ok(())
    }

    /// Names of adapters, and of the models that they change.
    pub(crate) fn adapters(&self) -> Vec<(String, String)> {
        let adapters = self.adapters.read().unwrap_or_else(PoisonError::into_inner);
        let model = |AdapterEntry { named, .. }: &AdapterEntry| {
            let entry = self.find(named.model.as_deref())?;
            Some((named.name.clone(), entry.named.name.clone()))
        };
        adapters.iter().filter_map(model).collect()
    }

    /// Adapters and how they are.
    pub(crate) fn list_adapters(&self) -> Vec<ListedAdapter> {
        let adapters = self.adapters.read().unwrap_or_else(PoisonError::into_inner);
        let listed = |AdapterEntry { named, seen, failed }: &AdapterEntry| {
            let entry = self.find(named.model.as_deref());
            let base = entry.as_ref().and_then(|entry| entry.state().loaded.clone());
            ListedAdapter {
                name: named.name.clone(),
                path: named.path.clone(),
                wanted: named.model.clone(),
                model: entry.map(|entry| entry.named.name.clone()),
                loaded: base.is_some_and(|base| base.adapters.get(&named.name).is_some()),
                failed: failed.clone(),
                seen: *seen,
            }
        };
        adapters.iter().map(listed).collect()
    }

    fn adapter(&self, name: &str) -> Option<NamedAdapter> {
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        let adapters = self.adapters.read().unwrap_or_else(PoisonError::into_inner);
        let mut named = adapters.iter().map(|adapter| &adapter.named);
        named.find(|adapter| adapter.name == name || adapter.name == plain).cloned()
    }

    /// The model of that name; without a name, the first.
    fn find(&self, name: Option<&str>) -> Option<Arc<Entry>> {
        let entries = self.entries();
        let Some(name) = name else { return entries.into_iter().next() };
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        entries.into_iter().find(|e| e.named.name == name || e.named.name == plain)
    }

    fn entry(&self, name: Option<&str>) -> Result<Arc<Entry>, Failure> {
        self.find(name).ok_or_else(|| {
            let Some(name) = name else { return Failure::internal("there is no model") };
            let mut known: Vec<String> = self.entries().iter().map(|e| e.named.name.clone()).collect();
            let adapters = self.adapters.read().unwrap_or_else(PoisonError::into_inner);
            known.extend(adapters.iter().map(|adapter| adapter.named.name.clone()));
            Failure {
                param: Some("model".into()),
                ..Failure::new(
                    StatusCode::NOT_FOUND,
                    "model_not_found",
                    format!("there is no model {name:?} here; there are: {}", known.join(", ")),
                )
            }
        })
    }

    /// Bytes of the adapters that a model has from the start. What is wrong with them is told when they are loaded.
    fn reserve(&self, entry: &Entry) -> u64 {
        let adapters = self.adapters.read().unwrap_or_else(PoisonError::into_inner);
        let of_entry = |AdapterEntry { named, .. }: &&AdapterEntry| {
            self.find(named.model.as_deref()).is_some_and(|other| other.named.name == entry.named.name)
        };
        let bytes = |adapter: &AdapterEntry| adapters::bytes_of(&adapter.named.path).unwrap_or(0);
        adapters.iter().filter(of_entry).map(bytes).sum()
    }

    /// Loads a model; if memory is short, after unloading those that nobody uses, the longest unused first.
    async fn load(&self, entry: &Arc<Entry>) -> Result<Arc<Base>, Failure> {
        loop {
            let (entry, kernels) = (entry.clone(), self.kernels.clone());
            let promised = self.uncommitted();
            let options = LoadOptions { reserve: self.reserve(&entry) + promised, ..self.options.clone() };
            let load = move || {
                let named = entry.named.clone();
                entry.progress.set(0, 0);
                // Adapters that come later may take what is left, those of the start included.
                let available = LoadOptions { reserve: promised, ..options.clone() }.available();
                let prepared = Prepared::on(&named.source, &options, Some(kernels))?;
                for notice in &prepared.notices {
                    tracing::info!(model = named.name, "{notice}");
                }
                let planned = prepared.memory.total() as u64;
                let room = available.map(|a| a.bytes.saturating_sub(planned));
                Base::load(prepared, room, &mut |done, all| entry.progress.set(done, all)).map(Arc::new)
            };
            let outcome = tokio::task::spawn_blocking(load).await;
            let outcome = outcome.unwrap_or_else(|e| Err(Failure::internal(format!("loading failed: {e}"))));
            match outcome {
                Err(failure) if failure.code == "out_of_memory" && self.make_room() => {}
                other => return other,
            }
        }
    }

    /// Lets go of the model that has been idle longest; whether there was one.
    fn make_room(&self) -> bool {
        let entries = self.entries();
        let idle = entries.iter().filter(|entry| entry.state().is_idle());
        match idle.min_by_key(|entry| entry.state().used) {
            Some(entry) => entry.unload("memory is needed"),
            None => false,
        }
    }

    /// Lets go of the models whose time has come.
    pub(crate) fn sweep(&self) {
        for entry in &self.entries() {
            if entry.state().unloads_in() == Some(Duration::ZERO) {
                entry.unload("keep-alive");
            }
        }
    }

    /// Loads the models again whose engines have failed, so that the next request need not wait for it.
    pub(crate) async fn revive(&self) {
        for entry in self.entries() {
            if entry.state().is_dead() {
                // Why it cannot be loaded is logged, and told by /health.
                let _ = self.get(Some(&entry.named.name)).await;
            }
        }
    }

    /// Adds a model, or puts it in the place of the one with its name.
    pub(crate) fn add(&self, named: Named) {
        let entry = Entry::new(named, self.keep);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        match entries.iter_mut().find(|old| old.named.name == entry.named.name) {
            // What is loaded already stays until it is unloaded: requests have it.
            Some(old) if old.named.source == entry.named.source => {}
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }

    /// Forgets a model. Requests under way end with it.
    pub(crate) fn forget(&self, name: &str) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| entry.named.name != name);
    }

    /// The model of that name as it was named at the start or when it was pulled.
    pub(crate) fn named(&self, name: &str) -> Result<Named, Failure> {
        Ok(self.entry(Some(name))?.named.clone())
    }

    /// Sets how long a model stays after this request.
    pub(crate) fn keep(&self, name: Option<&str>, keep: Option<KeepAlive>) -> Result<(), Failure> {
        let model = name.and_then(|name| self.adapter(name)).map(|adapter| adapter.model);
        let entry = self.entry(model.as_ref().map_or(name, Option::as_deref))?;
        let mut state = entry.state();
        state.keep = keep.unwrap_or(self.keep);
        state.used = Instant::now();
        Ok(())
    }

    pub(crate) fn list(&self) -> Vec<Listed> {
        let listed = |entry: &Arc<Entry>| {
            let state = entry.state();
            // Before what is listed is a hold on the model itself.
            let unloads_in = state.unloads_in();
            let dead =
                state.is_dead().then(|| Failure::internal("its engine has failed; it is loaded again"));
            let alive = state.loaded.clone().filter(|base| base.is_alive());
            let loaded = |base| Arc::new(Loaded::new(entry.named.name.clone(), base, None));
            Listed {
                name: entry.named.name.clone(),
                loaded: alive.map(loaded),
                failed: dead.or(state.failed.clone()),
                loading: entry.turn.try_lock().is_err(),
                progress: entry.progress.get(),
                seen: state.seen,
                source: entry.named.source.clone(),
                keep: state.keep,
                unloads_in,
            }
        };
        self.entries().iter().map(listed).collect()
    }

    /// The model of that name as lists show it.
    pub(crate) fn listed(&self, name: &str) -> Result<Listed, Failure> {
        let name = self.entry(Some(name))?.named.name.clone();
        self.list().into_iter().find(|l| l.name == name).ok_or_else(|| Failure::internal("the model is gone"))
    }
}

impl Entry {
    fn new(named: Named, keep: KeepAlive) -> Arc<Entry> {
        let state = State { loaded: None, used: Instant::now(), keep, failed: None, seen: false };
        Arc::new(Entry {
            named,
            turn: Turns::new(()),
            state: Mutex::new(state),
            progress: Progress::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model if it is in memory; its time begins anew. One whose engine has failed is let go, to be loaded again.
    fn touch(&self) -> Option<Arc<Base>> {
        let mut state = self.state();
        state.used = Instant::now();
        if state.is_dead() {
            tracing::error!(model = self.named.name, "the engine has failed; loading again");
            state.loaded = None;
        }
        state.loaded.clone()
    }

    fn unload(&self, why: &str) -> bool {
        let gone = self.state().loaded.take();
        if gone.is_some() {
            tracing::info!(model = self.named.name, why, "unloaded");
        }
        gone.is_some()
    }
}

impl State {
    /// In memory, with an engine whose thread has ended.
    fn is_dead(&self) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| !loaded.is_alive())
    }

    /// In memory, and no request has it.
    fn is_idle(&self) -> bool {
        self.loaded.as_ref().is_some_and(|loaded| Arc::strong_count(loaded) == 1)
    }

    fn unloads_in(&self) -> Option<Duration> {
        match self.keep {
            KeepAlive::For(time) if self.is_idle() => Some(time.saturating_sub(self.used.elapsed())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_by_their_files_or_as_asked() {
        for (text, name, source) in [
            ("mini", "mini", Source::Mini),
            ("dir/Qwen3-0.6B-Q8_0.gguf", "Qwen3-0.6B-Q8_0", Source::Path("dir/Qwen3-0.6B-Q8_0.gguf".into())),
            ("dir/Qwen3-0.6B/", "Qwen3-0.6B", Source::Path("dir/Qwen3-0.6B/".into())),
            ("fast=dir/x.gguf", "fast", Source::Path("dir/x.gguf".into())),
            ("dir/a=b.gguf", "a=b", Source::Path("dir/a=b.gguf".into())),
        ] {
            let named = Named::parse(text);
            assert_eq!((named.name.as_str(), &named.source), (name, &source), "{text}");
        }
    }
}

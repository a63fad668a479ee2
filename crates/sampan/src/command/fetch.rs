//! From what is typed for a model to a source: found, or pulled with a bar that shows how far it is.

use super::say;
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::flags::{HubArgs, ModelArgs};
use crate::render::{Terminal, bytes};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sampan::Source;
use sampan_hub::{Error as HubError, Event, Hub, HubOptions, Local, ModelName, NameError, Origin, Store};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What a hub or the store refuses is for the user to put right; it says how.
impl From<HubError> for AppError {
    fn from(error: HubError) -> AppError {
        AppError::user(&error).hint(error.hint())
    }
}

impl From<NameError> for AppError {
    fn from(error: NameError) -> AppError {
        AppError::user(&error).hint(error.hint())
    }
}

impl HubArgs {
    fn origin(&self) -> Origin {
        if self.modelscope { Origin::ModelScope } else { Origin::HuggingFace }
    }

    /// The names of models that are pulled or removed; what is near one that is none, `meant` says.
    pub(crate) fn names(
        &self,
        typed: &[String],
        meant: impl Fn(&str) -> Vec<String>,
    ) -> Result<Vec<ModelName>> {
        let parse = |typed: &String| match ModelName::parse(typed, self.origin()) {
            Err(_) if Source::parse(typed) == Source::Mini => Err(AppError::user(format!(
                "{typed} is part of the program: it is neither fetched nor removed"
            ))
            .hint("`sampan run mini` talks to it")),
            Err(NameError::Unknown { name, .. }) => {
                let nearest = meant(&name);
                Err(NameError::Unknown { name, nearest }.into())
            }
            other => Ok(other?),
        };
        typed.iter().map(parse).collect()
    }

    /// What the environment says, and the flags over it.
    pub(crate) fn options(&self, context: &Context) -> HubOptions {
        let mut options = context.environment.hub();
        options.offline |= self.offline;
        options
    }
}

impl ModelArgs {
    /// The model that is meant, pulled if it has to be.
    pub(crate) fn source(&self, context: &Context, quiet: bool) -> Result<Source> {
        source(&self.model, &self.hub, context, quiet)
    }
}

/// The model that is meant: the one in the program, a path, or a name; what has a name and is not here is pulled, after
/// saying what and how much.
pub(crate) fn source(model: &str, hub: &HubArgs, context: &Context, quiet: bool) -> Result<Source> {
    let options = hub.options(context);
    let Some((name, store)) = only_name(model, hub, &options)? else { return Ok(Source::parse(model)) };
    let found = match store.find(&name) {
        Some(local) => local,
        None if hub.no_pull => {
            let nearest = match store.meant(model, &OWN) {
                none if none.is_empty() => String::new(),
                names => format!("; or did you mean {}?", names.join(" or ")),
            };
            let error = HubError::NotHere { name: model.into(), nearest: Vec::new() };
            let pull =
                format!("`sampan pull {model}` fetches it; so does this command without --no-pull{nearest}");
            return Err(AppError::from(error).hint(pull));
        }
        None => pull(&name, &options, &store, context.terminal, quiet)?,
    };
    store.used(&name, &found);
    Ok(Source::Named { name: model.into(), path: found.path })
}

/// Names that are no files and in no catalogue.
const OWN: [&str; 1] = ["mini"];

/// The name that is meant, and the store to look in, if it is neither the model in the program nor a path.
pub(crate) fn only_name(
    model: &str,
    hub: &HubArgs,
    options: &HubOptions,
) -> Result<Option<(ModelName, Store)>> {
    let source = Source::parse(model);
    let parsed = ModelName::parse(model, hub.origin());
    match &source {
        Source::Path(path) if !path.exists() => match &parsed {
            // A path, or a file of a repository with a slash too many.
            Err(error @ NameError::FileAfterSlash { .. }) => match source.open() {
                Err(missing) if !missing.hint().starts_with("did you mean") => {
                    let instead = format!("{}; for a file of a repository {}", missing.hint(), error.hint());
                    return Err(AppError::user(missing).hint(instead));
                }
                _ => return Ok(None),
            },
            _ if looks_like_path(model) => return Ok(None),
            _ => {}
        },
        _ => return Ok(None),
    }
    match parsed {
        Ok(name) => Ok(Some((name, Store::new(options)?))),
        // A word may be a folder's name as well; whichever is nearer is proposed.
        Err(NameError::Unknown { name, .. }) => match source.open() {
            Err(missing) if !missing.hint().starts_with("did you mean") => {
                let nearest = Store::new(options)?.meant(model, &OWN);
                let error = NameError::Unknown { name, nearest };
                let what = format!("there is no model at {model}, and {error}");
                let path =
                    if error.hint().starts_with("give") { ", or the path of a file or folder" } else { "" };
                Err(AppError::user(what).hint(format!("{}{path}", error.hint())))
            }
            other => other.map(|_| None).map_err(AppError::from),
        },
        Err(error) => Err(error.into()),
    }
}

/// Whether a path was meant, although nothing is there.
fn looks_like_path(model: &str) -> bool {
    let ends = [".gguf", ".safetensors", ".json", ".jinja"];
    let on_hub = model.contains("://") || model.starts_with("hf.co/") || model.contains(':');
    let slashes = model.matches('/').count();
    model.starts_with(['.', '/', '~', '\\'])
        || model.contains('\\')
        || (!on_hub
            && (ends.iter().any(|end| model.ends_with(end)) || (slashes > 1 && !model.contains(".co/"))))
}

/// Pulls a model, and says so.
pub(crate) fn pull(
    name: &ModelName,
    options: &HubOptions,
    store: &Store,
    terminal: Terminal,
    quiet: bool,
) -> Result<Local> {
    let bars = Bars::new(terminal, quiet);
    let listener = |event: Event<'_>| bars.hear(event);
    let hub = Hub::new(options, store);
    let plan = hub.plan(name, &listener)?;
    if plan.missing_files > 0 {
        let files = if plan.missing_files == 1 { "1 file" } else { &format!("{} files", plan.missing_files) };
        let part =
            if plan.missing < plan.bytes { format!(" of {}", bytes(plan.bytes)) } else { String::new() };
        let commit = &plan.commit()[..12];
        bars.say(&format!(
            "pulling {name}: {files}, {}{part}, from {} at {commit}",
            bytes(plan.missing),
            match plan.repository() {
                url if url.contains("://") => plan.host(),
                repository => format!("{}/{repository}", plan.host()),
            },
        ));
    }
    bars.begin(plan.missing);
    let local = hub.pull(name, &plan, &listener)?;
    if plan.missing_files > 0 {
        match plan.has_digests() {
            true => bars.say(&format!("pulled {name}: every file is what the hub says it is")),
            false => bars.say(&format!("pulled {name}: as it came; see the note above")),
        }
    }
    Ok(local)
}

/// Progress on stderr: a bar for the file and one for all of them; lines where stderr is no terminal.
struct Bars {
    quiet: bool,
    drawn: Option<MultiProgress>,
    state: Mutex<State>,
}

struct State {
    file: ProgressBar,
    total: ProgressBar,
    /// When a failed request was last told of: several parts fail at a time.
    told: Option<Instant>,
}

impl Bars {
    fn new(terminal: Terminal, quiet: bool) -> Bars {
        let drawn = (terminal.stderr && !quiet)
            .then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)));
        let state = State { file: ProgressBar::hidden(), total: ProgressBar::hidden(), told: None };
        Bars { quiet, drawn, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn bar(&self, bytes: u64, template: &str) -> ProgressBar {
        let Some(drawn) = &self.drawn else { return ProgressBar::hidden() };
        let bar = drawn.add(ProgressBar::new(bytes));
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    }

    fn begin(&self, bytes: u64) {
        if bytes > 0 {
            self.lock().total = self
                .bar(bytes, "total {bar:24} {bytes:>10} / {total_bytes}  {binary_bytes_per_sec}  {eta} left");
        }
    }

    fn say(&self, line: &str) {
        match &self.drawn {
            _ if self.quiet => {}
            Some(drawn) => drop(drawn.println(line)),
            None => say(line),
        }
    }

    fn hear(&self, event: Event<'_>) {
        match event {
            Event::Waiting => self.say("another pull from this repository is running; waiting for it"),
            Event::File { path, bytes: size } => {
                self.lock().file.finish_and_clear();
                match self.drawn {
                    Some(_) => {
                        let bar = self.bar(size, "{bar:30} {bytes:>10} / {total_bytes}  {wide_msg}");
                        bar.set_message(path.to_owned());
                        self.lock().file = bar;
                    }
                    None => self.say(&format!("  {path}  {}", bytes(size))),
                }
            }
            Event::Bytes(n) => {
                let state = self.lock();
                for bar in [&state.file, &state.total] {
                    match u64::try_from(n) {
                        Ok(n) => bar.inc(n),
                        Err(_) => bar.dec(n.unsigned_abs().min(bar.position())),
                    }
                }
            }
            Event::Verify { path, .. } => self.lock().file.set_message(format!("{path}: verifying")),
            Event::Unverified { path, digest } => self.say(&format!(
                "note: the server names no digest of {path} to compare with; its sha256 is {}",
                digest.hex()
            )),
            Event::Retry { why, wait } => {
                let often = Duration::from_secs(1);
                let told = self.lock().told.replace(Instant::now());
                if told.is_none_or(|told| told.elapsed() > often) {
                    self.say(&format!("{why}; again in {:.1} s", wait.as_secs_f64()));
                }
            }
            _ => {}
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        let state = self.lock();
        state.file.finish_and_clear();
        state.total.finish_and_clear();
    }
}

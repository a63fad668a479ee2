//! `sampan serve`: models behind the APIs that programs already speak.

use super::fetch::source;
use super::say;
use crate::cli::Context;
use crate::environment::Environment;
use crate::error::{AppError, Result};
use crate::flags::{HubArgs, LoadArgs};
use clap::{Args, ValueEnum};
use sampan::{DEFAULT_SPECULATE, LoadOptions, Source};
use sampan_serve::{
    KeepAlive, Key, Limits, Named, NamedAdapter, ServeError, ServeOptions, TlsFiles, Traces, not_traces,
};
use sampan_weights::AdapterFiles;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{FilterExt, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Answer programs over HTTP: the APIs of OpenAI, Anthropic and Ollama.
///
/// Listens on this machine only, unless --host says otherwise; then clients need an API key.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Models to serve: files, folders, names as for `sampan pull`, or `mini`; `NAME=MODEL` gives one another name. The
    /// first answers requests that name none
    #[arg(value_name = "MODEL", default_value = "mini")]
    models: Vec<String>,
    /// A LoRA adapter, served as a model of its own: a folder as PEFT saves it, or a GGUF file. NAME@MODEL=PATH for another
    /// model than the first; can be given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = NamedAdapter::parse)]
    adapter: Vec<NamedAdapter>,
    /// A folder from which requests may load more adapters (/v1/load_lora_adapter)
    #[arg(long, value_name = "FOLDER")]
    adapter_dir: Option<PathBuf>,
    #[command(flatten)]
    load: LoadArgs,
    /// Sequences that are computed at the same time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    streams: u16,
    /// Tokens that the cache holds of all requests together [default: four full contexts, or what fits]
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(32..))]
    cache: Option<u32>,
    /// Propose at most so many tokens from the text so far and check them in one pass; 0 is off
    #[arg(long, value_name = "TOKENS", default_value_t = DEFAULT_SPECULATE)]
    speculate: usize,
    /// Load each model when it is first asked for
    #[arg(long)]
    lazy: bool,
    /// Seconds that a model stays in memory after its last request [default: for ever]
    #[arg(long, value_name = "SECONDS")]
    keep_alive: Option<u64>,
    /// Mebibytes that the server may take of this machine [default: all that is available]
    #[arg(long, value_name = "MIB")]
    memory: Option<u64>,
    #[command(flatten)]
    hub: HubArgs,
    #[command(flatten)]
    edge: EdgeArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    watch: WatchArgs,
}

/// What whoever runs the server sees of it, beside /metrics and /health.
#[derive(Args, Debug)]
#[command(next_help_heading = "Observing")]
struct WatchArgs {
    /// How the log on stderr is written
    #[arg(long, value_name = "FORM", default_value = "text")]
    log: LogForm,
    /// Write what clients send into the log too
    #[arg(long)]
    log_prompts: bool,
    /// Send traces to a collector of OpenTelemetry: the URL of its OTLP over HTTP, such as http://localhost:4318
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
}

/// Who may ask, and from where.
#[derive(Args, Debug)]
#[command(next_help_heading = "Access")]
struct EdgeArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    /// A file with API keys, one in a line; behind it, if wanted, name=NAME per-minute=N concurrent=N
    /// admin (may pull and delete models). (One key can be
    /// given as SAMPAN_API_KEY in the environment)
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// A name by which clients may call this server, beside localhost and addresses; can be given several times
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// Speak TLS with the certificate in this file (PEM), behind it those between it and a root. The files are read again
    /// when they change, and at SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The origin of web pages that may use this server, such as https://chat.example; can be given several times
    #[arg(long, value_name = "ORIGIN")]
    origin: Vec<String>,
}

/// What a request may take.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Mebibytes of a request
    #[arg(long, value_name = "MIB", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    max_body: u32,
    /// Tokens of a prompt [default: what the context holds]
    #[arg(long, value_name = "TOKENS")]
    max_prompt: Option<usize>,
    /// Requests that may wait besides those that are computed; more are refused
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_waiting: u16,
    /// Seconds that an answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    max_time: u64,
    /// Connections at the same time; more wait
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u16).range(1..))]
    max_connections: u16,
    /// Seconds that requests under way have to end when the server is told to
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
}

/// How a log is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogForm {
    /// For people.
    Text,
    /// One JSON object in a line.
    Json,
    /// Not at all.
    Off,
}

pub(crate) fn run(args: ServeArgs, context: &Context) -> Result<()> {
    let keys = keys(&args, &context.environment)?;
    let traces = args.watch.otlp.as_deref().map(Traces::to).transpose()?;
    let _written = log(args.watch.log, context.terminal.stderr && context.terminal.colour, traces.as_ref());
    let mut models: Vec<Named> = args.models.iter().map(|text| Named::parse(text)).collect();
    for model in &mut models {
        if let Source::Path(path) = &model.source {
            model.source = source(&path.to_string_lossy(), &args.hub, context, false)?;
        }
    }
    for (at, model) in models.iter().enumerate() {
        if models[..at].iter().any(|other| other.name == model.name) {
            return Err(AppError::user(format!("two models are called {:?}", model.name))
                .hint("give one of them another name: NAME=MODEL"));
        }
        // A model that is not there is known at once, and not when it is first asked for.
        model.source.open()?;
    }
    check_adapters(&args, &models)?;
    let options = ServeOptions {
        models,
        adapters: args.adapter,
        adapter_folder: args.adapter_dir,
        load: LoadOptions {
            speculate: args.speculate,
            streams: args.streams.into(),
            waiting: args.limits.max_waiting.into(),
            memory: args.memory.map(|mib| mib.saturating_mul(1 << 20)),
            pool: args.cache.map(|n| n as usize),
            ..args.load.options()
        },
        keep: args.keep_alive.map_or(KeepAlive::Forever, |s| KeepAlive::For(Duration::from_secs(s))),
        lazy: args.lazy,
        address: SocketAddr::new(args.edge.host, args.edge.port),
        tls: args
            .edge
            .tls_cert
            .zip(args.edge.tls_key)
            .map(|(certificate, key)| TlsFiles { certificate, key }),
        log_prompts: args.watch.log_prompts,
        hub: Some(args.hub.options(context)),
        keys,
        hosts: args.edge.host_name,
        origins: args.edge.origin,
        limits: Limits {
            body: args.limits.max_body as usize * (1 << 20),
            prompt: args.limits.max_prompt,
            answer_time: Duration::from_secs(args.limits.max_time),
            connections: args.limits.max_connections.into(),
            grace: Duration::from_secs(args.limits.grace),
            ..Limits::default()
        },
    };
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let outcome =
        sampan_serve::run(options, &mut |address| say(&format!("listening on {scheme}://{address}")));
    if let Some(traces) = traces {
        traces.end();
    }
    Ok(outcome?)
}

/// What can be known of adapters before their models are loaded.
fn check_adapters(args: &ServeArgs, models: &[Named]) -> Result<()> {
    for (at, adapter) in args.adapter.iter().enumerate() {
        let name = &adapter.name;
        let taken = models.iter().any(|model| model.name == *name)
            || args.adapter[..at].iter().any(|other| other.name == *name);
        if taken {
            return Err(AppError::user(format!("adapter {name:?} has the name of another model"))
                .hint("give it another: --adapter NAME=PATH"));
        }
        if let Some(model) = adapter.model.as_ref().filter(|&name| !models.iter().any(|m| m.name == *name)) {
            let known: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            return Err(AppError::user(format!("adapter {name:?} is for {model:?}, which is not served"))
                .hint(format!("served are: {}", known.join(", "))));
        }
        AdapterFiles::open(&adapter.path)?;
    }
    match &args.adapter_dir {
        Some(folder) if !folder.is_dir() => {
            Err(AppError::user(format!("--adapter-dir {} is no folder", folder.display()))
                .hint("name the folder that holds the adapters"))
        }
        _ => Ok(()),
    }
}

/// The keys of the file and of the environment.
fn keys(args: &ServeArgs, environment: &Environment) -> Result<Vec<Key>> {
    let mut keys = Vec::new();
    if let Some(path) = &args.edge.api_key_file {
        let text = std::fs::read_to_string(path).map_err(|e| AppError::file("read", path, &e))?;
        keys = Key::parse_all(&text)
            .map_err(|why| AppError::user(format!("{}: {why}", path.display())).hint("one key in a line"))?;
        if keys.is_empty() {
            return Err(AppError::user(format!("{} holds no key", path.display())).hint("one key in a line"));
        }
    }
    keys.extend(environment.api_key.as_ref().map(|key| Key::new("environment", &key.0)));
    Ok(keys)
}

/// Writes what happens to stderr. A log that cannot be written is no reason to stop serving, and neither is one that
/// nobody reads: lines that find no room are left out. What is returned writes the last ones when it is dropped.
fn log(form: LogForm, colour: bool, traces: Option<&Traces>) -> WorkerGuard {
    let (writer, written) = NonBlockingBuilder::default().lossy(true).finish(std::io::stderr());
    let lines = || {
        tracing_subscriber::fmt::layer()
            .with_writer(writer.clone())
            .with_ansi(colour)
            .with_target(false)
            .log_internal_errors(false)
    };
    let filter = not_traces().and(LevelFilter::INFO);
    let log = match form {
        LogForm::Text => Some(lines().with_filter(filter).boxed()),
        LogForm::Json => {
            Some(lines().json().with_current_span(false).with_span_list(false).with_filter(filter).boxed())
        }
        LogForm::Off => None,
    };
    tracing_subscriber::registry().with(log).with(traces.map(Traces::layer)).init();
    written
}

impl From<ServeError> for AppError {
    fn from(error: ServeError) -> AppError {
        AppError::user(&error).hint(error.hint())
    }
}

//! Models pulled and deleted by request, in Ollama's words. What that takes from a machine is its owner's to give: from other
//! machines it needs a key that says so.

use super::name;
use crate::app::{App, Asked};
use crate::edge::Client;
use crate::failure::Failure;
use crate::registry::Named;
use crate::service::json_body;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use sampan_facade::Source;
use sampan_hub::{Event, Hub, HubOptions, ModelName, Origin, Store};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often progress is told at the most.
const OFTEN: Duration = Duration::from_millis(100);

/// `{model, stream}`: the model from its hub onto this machine and into the list; with `stream` an object in a line for each
/// step, and at last `success` or an error. A pull goes on when its client has gone, and is there for the next.
pub(crate) async fn pull(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let typed = name(&mut fields)?;
    fields.only("insecure", &[json!(false)])?;
    let stream = fields.flag("stream")?.unwrap_or(true);
    fields.finish()?;
    let options = allowed(&app, &asked.client)?;
    let model = ModelName::parse(&typed, Origin::HuggingFace)
        .map_err(|error| Failure::field("model", "bad_name", format!("{error}; {}", error.hint())))?;
    let (to, mut steps) = mpsc::unbounded_channel();
    tracing::info!(model = typed, client = asked.client.name, "pulling");
    tokio::task::spawn_blocking(move || {
        let teller = Teller::new(to);
        match fetch(&app, &options, &model, &typed, &teller) {
            Ok(()) => teller.say(json!({"status": "success"})),
            Err(failure) => {
                tracing::warn!(model = typed, error = failure.message, "cannot pull");
                teller.end(Err(failure));
            }
        }
    });
    if !stream {
        while let Some(step) = steps.recv().await {
            step?;
        }
        return Ok(json_body(&json!({"status": "success"})));
    }
    let lines = stream::unfold(steps, |mut steps| async {
        let line = match steps.recv().await? {
            Ok(value) => value,
            Err(failure) => json!({"error": failure.message}),
        };
        Some((Ok::<_, Infallible>(Bytes::from(format!("{line}\n"))), steps))
    });
    let mut response = Body::from_stream(lines).into_response();
    let kind = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// `{model}`: out of the list, out of memory when its last request has ended, and its files off the disk.
pub(crate) async fn delete(State(app): State<Arc<App>>, asked: Asked) -> Result<Response, Failure> {
    let mut fields = asked.fields;
    let typed = name(&mut fields)?;
    fields.finish()?;
    let options = allowed(&app, &asked.client)?;
    // A model that was pulled before this server started is not in the list, but can be deleted.
    let listed = app.registry.named(&typed).ok();
    let known = match &listed {
        Some(Named { source: Source::Named { name, .. }, .. }) => name.clone(),
        Some(Named { source, .. }) => {
            let why = format!("{typed} was not pulled and is not deleted; it is served from {source}");
            return Err(Failure::field("model", "not_pulled", why));
        }
        None => typed.clone(),
    };
    let Ok(model) = ModelName::parse(&known, Origin::HuggingFace) else {
        // What is no name is the name of nothing.
        let message = format!("there is no model {typed:?} here");
        return Err(Failure::new(StatusCode::NOT_FOUND, "model_not_found", message));
    };
    let removed = tokio::task::spawn_blocking(move || Store::new(&options)?.remove(&model, false)).await;
    let removed = removed.map_err(|error| Failure::internal(format!("deleting failed: {error}")))??;
    if let Some(listed) = listed {
        app.registry.forget(&listed.name);
    }
    let (files, bytes) = (removed.files, removed.bytes);
    tracing::info!(model = typed, client = asked.client.name, files, bytes, "deleted");
    Ok(StatusCode::OK.into_response())
}

/// What Ollama does with models of its own making.
pub(crate) async fn not_here(request: Request) -> Failure {
    let path = request.uri().path();
    let instead = match path {
        "/api/copy" => "start the server with NAME=MODEL to give a model another name",
        "/api/create" => {
            "use `sampan quantize` or `sampan convert`, and name what they write when the server starts"
        }
        _ => "upload the files to a hub with its own tools",
    };
    Failure::new(
        StatusCode::NOT_IMPLEMENTED,
        "not_implemented",
        format!("{path} is not done here: {instead}"),
    )
}

/// Where models are, if this client may change them.
fn allowed(app: &App, client: &Client) -> Result<HubOptions, Failure> {
    if !app.local && !client.admin {
        let message = "models are pulled and deleted by this machine alone, or with a key that has the word admin \
                       behind it in the server's file of keys";
        return Err(Failure::new(StatusCode::FORBIDDEN, "admin_key_needed", message));
    }
    app.hub.clone().ok_or_else(|| {
        Failure::new(
            StatusCode::NOT_IMPLEMENTED,
            "no_store",
            "this server was started without a store of models",
        )
    })
}

/// Fetches what is missing, and puts the model into the list.
fn fetch(
    app: &App,
    options: &HubOptions,
    model: &ModelName,
    typed: &str,
    teller: &Teller,
) -> Result<(), Failure> {
    let store = Store::new(options)?;
    teller.say(json!({"status": "pulling manifest"}));
    let listener = |event: Event<'_>| teller.hear(event);
    let hub = Hub::new(options, &store);
    let plan = hub.plan(model, &listener)?;
    let local = hub.pull(model, &plan, &listener)?;
    teller.say(json!({"status": "writing manifest"}));
    let source = Source::Named { name: typed.to_owned(), path: local.path };
    // A model that cannot be opened is told of now, and not when it is first asked for.
    source.open()?;
    app.registry.add(Named { name: typed.to_owned(), source });
    Ok(())
}

type Step = Result<Value, Failure>;

/// Says how far a pull is. Whoever listens may have gone.
struct Teller {
    to: mpsc::UnboundedSender<Step>,
    file: Mutex<File>,
}

/// The file that is being fetched.
struct File {
    path: String,
    bytes: u64,
    done: u64,
    told: Instant,
}

impl Teller {
    fn new(to: mpsc::UnboundedSender<Step>) -> Teller {
        let file = File { path: String::new(), bytes: 0, done: 0, told: Instant::now() };
        Teller { to, file: Mutex::new(file) }
    }

    fn say(&self, value: Value) {
        self.end(Ok(value));
    }

    fn end(&self, step: Step) {
        let _ = self.to.send(step);
    }

    fn hear(&self, event: Event<'_>) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Waiting => self.say(json!({"status": "waiting for another pull from this repository"})),
            Event::File { path, bytes } => {
                *file = File { path: path.to_owned(), bytes, done: 0, told: Instant::now() };
                self.say(file.line());
            }
            Event::Bytes(n) => {
                file.done = file.done.saturating_add_signed(n);
                if file.done == file.bytes || file.told.elapsed() > OFTEN {
                    file.told = Instant::now();
                    self.say(file.line());
                }
            }
            Event::Verify { path, .. } => self.say(json!({"status": format!("verifying {path}")})),
            Event::Retry { why, wait } => {
                let status = format!("{why}; again in {:.1} s", wait.as_secs_f64());
                self.say(json!({"status": status}));
            }
            _ => {}
        }
    }
}

impl File {
    /// Clients draw one bar for each `digest`.
    fn line(&self) -> Value {
        json!({
            "status": format!("pulling {}", self.path),
            "digest": self.path,
            "total": self.bytes,
            "completed": self.done,
        })
    }
}

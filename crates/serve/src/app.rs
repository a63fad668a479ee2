//! What all routes share, and the way from a request to its route and back.

use crate::budget::{self, Budget};
use crate::edge::{Client, Keys, Origins};
use crate::failure::{Dialect, Failure, in_dialect};
use crate::fields::Fields;
use crate::job::{Input, Job};
use crate::loaded::Loaded;
use crate::metrics::{Clock, Metrics};
use crate::options::{Limits, ServeOptions};
use crate::registry::Registry;
use crate::{anthropic, routes, telemetry};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use sampan_engine::PAGE;
use sampan_hub::HubOptions;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

/// What all routes share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) registry: Registry,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) limits: Limits,
    /// Where requests may load adapters from.
    pub(crate) adapter_folder: Option<PathBuf>,
    budget: Budget,
    /// Models are loaded when they are first asked for.
    pub(crate) lazy: bool,
    /// Nobody but this machine can reach the server.
    pub(crate) local: bool,
    pub(crate) hub: Option<HubOptions>,
    log_prompts: bool,
    keys: Keys,
    origins: Origins,
    /// Becomes true when answers under way must end.
    pub(crate) stop: watch::Receiver<bool>,
}

impl App {
    pub(crate) fn new(
        options: &ServeOptions,
        stop: watch::Receiver<bool>,
    ) -> Result<App, sampan_facade::Error> {
        Ok(App {
            registry: Registry::new(
                options.models.clone(),
                options.adapters.clone(),
                options.load.clone(),
                options.keep,
            )?,
            adapter_folder: options.adapter_folder.clone(),
            metrics: Arc::new(Metrics::new()),
            limits: options.limits.clone(),
            budget: Budget::default(),
            lazy: options.lazy,
            local: options.address.ip().is_loopback(),
            hub: options.hub.clone(),
            log_prompts: options.log_prompts,
            keys: Keys::new(options.keys.clone()),
            origins: Origins { hosts: options.hosts.clone(), origins: options.origins.clone() },
            stop,
        })
    }
}

impl App {
    /// Lets an answer to a prompt of so many tokens begin, if the server's own limit and the memory allow it.
    pub(crate) fn admit(&self, loaded: &Loaded, job: &Job, prompt: usize) -> Result<Clock, Failure> {
        if let Some(most) = self.limits.prompt.filter(|most| prompt > *most) {
            let message = format!("the prompt has {prompt} tokens and this server takes {most}; shorten it");
            return Err(Failure::new(StatusCode::BAD_REQUEST, "prompt_too_long", message));
        }
        let prepared = &loaded.prepared;
        let tokens = budget::tokens(prompt, job.asked.max_tokens, job.context(loaded));
        let bytes = tokens.div_ceil(PAGE) * prepared.plan.kv_bytes_per_page(prepared.kv);
        let registry = &self.registry;
        let share = self.budget.admit(&registry.options, bytes as u64, registry.uncommitted())?;
        let operation = if matches!(job.input, Input::Chat { .. }) { "chat" } else { "text_completion" };
        let span = telemetry::answer(operation, &loaded.name, prompt, job.asked.max_tokens);
        Ok(self.metrics.clock(loaded, prompt, share, span))
    }
}

/// All routes behind the checks of the edge.
pub(crate) fn router(app: Arc<App>) -> Router {
    routes::all()
        .fallback(async |request: Request| unknown_route(request.uri().path()))
        .method_not_allowed_fallback(async |request: Request| {
            let (path, method) = (request.uri().path(), request.method());
            // Every path can be asked of the page, which says of most that they are not here.
            if routes::name(path) == "other" {
                return unknown_route(path);
            }
            let message = format!("{path} does not take {method}");
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", message)
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), edge))
        .with_state(app)
}

/// A path that means nothing here.
pub(crate) fn unknown_route(path: &str) -> Failure {
    let meant = routes::meant(path).map(|meant| format!("; {meant} is what you may mean"));
    let message =
        format!("there is no {path} here{}; /openapi.json lists what there is", meant.unwrap_or_default());
    Failure::new(StatusCode::NOT_FOUND, "unknown_route", message)
}

/// A panic in a handler: one request fails, and the server goes on.
fn panicked(cause: Box<dyn std::any::Any + Send>) -> Response {
    let text = cause.downcast_ref::<String>().map(String::as_str).or(cause.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("unknown"), "a request failed");
    Failure::internal("the server failed at this request; please report it").into_response()
}

/// Checks who asks and from where, counts and logs the request without what it says.
async fn edge(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let handler = routes::name(&path);
    let dialect = Dialect::of(&path, anthropic::asks(request.headers()));
    let exchange = Arc::new(app.metrics.exchange(handler, method.as_str()));
    let span = telemetry::request(method.as_str(), handler, request.headers());
    let (client, response) = match admit(&app, &request) {
        Err(failure) => (None, failure.into_response()),
        Ok(Admitted { origin, .. }) if method == Method::OPTIONS => {
            (None, preflight(origin.as_deref(), request.headers()))
        }
        Ok(Admitted { origin, pass }) => {
            let client = pass.client().clone();
            request.extensions_mut().insert(client.clone());
            let mut response = next.run(request).instrument(span.clone()).await;
            if let Some(origin) = origin.and_then(|o| HeaderValue::try_from(o).ok()) {
                let headers = response.headers_mut();
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers
                    .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
                headers.insert(header::VARY, HeaderValue::from_static("origin"));
            }
            // The pass is given back when the last byte has been sent, or nobody wants it any more.
            let held = (pass, exchange.clone(), span.clone());
            let response = response.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &held;
                    frame
                }))
            });
            (Some(client), response)
        }
    };
    let mut response = in_dialect(dialect, response);
    secure(&mut response);
    let status = response.status().as_u16();
    exchange.answered(status);
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
        span.record("error.type", status);
    }
    let client = client.map(|c| c.name).unwrap_or_default();
    tracing::info!(%method, path = handler, status, client, ms = exchange.millis(), "request");
    response
}

struct Admitted {
    origin: Option<String>,
    pass: crate::edge::Pass,
}

fn admit(app: &App, request: &Request) -> Result<Admitted, Failure> {
    let origin = app.origins.check(request.headers(), request.uri())?;
    let path = request.uri().path();
    // The page's own files hold no secrets, and a browser has no key before it has the page.
    let open = request.method() == Method::OPTIONS || crate::page::is_file(path);
    let pass = if open { crate::edge::Pass::open() } else { app.keys.admit(request.headers())? };
    if *app.stop.borrow() {
        return Err(Failure::shutdown());
    }
    Ok(Admitted { origin, pass })
}

/// What a browser asks before it lets a page of another origin ask.
fn preflight(origin: Option<&str>, asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if let Some(origin) = origin.and_then(|o| HeaderValue::try_from(o).ok()) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
        // An origin that is allowed may send what its client sends: those of OpenAI and Anthropic tell about themselves.
        if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        // A page of the web may ask a machine of its own network, once it has been allowed.
        if asked.contains_key("access-control-request-private-network") {
            headers.insert("access-control-allow-private-network", HeaderValue::from_static("true"));
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        headers.insert(header::VARY, HeaderValue::from_static("origin, access-control-request-headers"));
    }
    response
}

/// No answer is to be guessed at, framed, or kept.
fn secure(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    );
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// The fields of a request's body, and who sent it.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) fields: Fields,
    pub(crate) client: Client,
}

impl FromRequest<Arc<App>> for Asked {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Asked, Failure> {
        let client = request.extensions().get::<Client>().cloned().unwrap_or_default();
        let bytes = read(request, &app.limits).await?;
        if app.log_prompts {
            tracing::info!(client = client.name, body = %String::from_utf8_lossy(&bytes), "asked");
        }
        Ok(Asked { fields: Fields::parse(&bytes)?, client })
    }
}

/// Reads a body within the limits of size and time.
async fn read(request: Request, limits: &Limits) -> Result<Bytes, Failure> {
    let too_large = || {
        let message = format!("the body is larger than {} bytes, which is this server's limit", limits.body);
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    };
    let coded = |coding: &&HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if let Some(coding) = request.headers().get(header::CONTENT_ENCODING).filter(coded) {
        let message = format!("the body is coded as {coding:?}; send it as it is, without content-encoding");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding", message));
    }
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let body = request.into_body();
    if length.is_some_and(|n| n > limits.body as u64) {
        drain(body).await;
        return Err(too_large());
    }
    let read = tokio::time::timeout(limits.read_time, Limited::new(body, limits.body).collect()).await;
    match read {
        Err(_) => {
            Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", "the body did not come in time"))
        }
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Failure::invalid(format!("the body cannot be read: {error}"))),
    }
}

/// Throws a body away, so that a client that sends before it reads gets its answer; but not for long.
async fn drain(mut body: Body) {
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(Duration::from_secs(5), all).await;
}

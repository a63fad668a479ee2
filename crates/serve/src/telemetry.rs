//! Traces for OpenTelemetry: a span for each request, and in it one for each answer, with the attributes that the
//! conventions for generative AI name. Sent in the background; a collector that does not answer is no reason to wait.

use crate::server::ServeError;
use axum::body::Bytes;
use axum::http::{HeaderMap, Request, Response};
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HeaderExtractor, HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tracing::{Metadata, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter::FilterExt};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// How long the collector may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The target of the spans that are sent.
pub(crate) const TARGET: &str = "sampan::trace";

/// A way to a collector.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// A way to the collector at `endpoint`: the URL of its OTLP over HTTP, such as `http://localhost:4318`.
    ///
    /// # Errors
    /// When that is no such URL.
    pub fn to(endpoint: &str) -> Result<Traces, ServeError> {
        let wrong = |why: String| ServeError::Collector { endpoint: endpoint.to_owned(), why };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(wrong("it is no http:// or https:// URL".into()));
        }
        let whole = match endpoint.trim_end_matches('/') {
            whole if whole.ends_with("/v1/traces") => whole.to_owned(),
            base => format!("{base}/v1/traces"),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new())
            .with_endpoint(whole)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let resource = Resource::builder().with_service_name("sampan").build();
        Ok(Traces(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
    }

    /// What turns this server's spans into those that are sent.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("sampan"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false)
            .with_level(false)
            .with_filter(filter_fn(is_trace))
    }

    /// Sends what is left, for some seconds at the most.
    pub fn end(self) {
        // A collector that has gone away takes nothing, and there is nobody else to tell.
        let _ = self.0.shutdown_with_timeout(PATIENCE / 2);
    }
}

/// Whether this is for the collector, and not for the log.
fn is_trace(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == TARGET
}

/// For a log that tells of events only.
pub fn not_traces<S: Subscriber>() -> impl tracing_subscriber::layer::Filter<S> {
    filter_fn(is_trace).not()
}

/// The span of a request, below that of who asks, if they say so.
pub(crate) fn request(method: &str, route: &str, headers: &HeaderMap) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = tracing::field::Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
        error.type = tracing::field::Empty,
    );
    if !span.is_disabled() && headers.contains_key("traceparent") {
        let parent = TraceContextPropagator::new().extract(&HeaderExtractor(headers));
        // Without its parent the span is one of its own.
        let _ = span.set_parent(parent);
    }
    span
}

/// The span of one answer, below the request's.
pub(crate) fn answer(operation: &str, model: &str, prompt: usize, most: Option<usize>) -> Span {
    let span = tracing::info_span!(
        target: TARGET,
        "answer",
        otel.name = format!("{operation} {model}"),
        otel.kind = "internal",
        otel.status_code = tracing::field::Empty,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = "sampan",
        gen_ai.request.model = model,
        gen_ai.response.model = model,
        gen_ai.request.max_tokens = tracing::field::Empty,
        gen_ai.usage.input_tokens = prompt,
        gen_ai.usage.cache_read.input_tokens = tracing::field::Empty,
        gen_ai.usage.output_tokens = tracing::field::Empty,
        gen_ai.response.finish_reasons = tracing::field::Empty,
        gen_ai.latency.time_in_queue = tracing::field::Empty,
        gen_ai.latency.time_to_first_token = tracing::field::Empty,
        gen_ai.latency.e2e = tracing::field::Empty,
    );
    if let Some(most) = most {
        span.record("gen_ai.request.max_tokens", most);
    }
    span
}

/// Speaks HTTP to the collector with the client and the TLS that models are fetched with.
#[derive(Clone, Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Client {
        let provider = Arc::new(rustls_graviola::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::WebPki)
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            // The environment is read in one place only, and not here.
            .proxy(None)
            .build();
        Client(config.into())
    }

    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let mut answer = self.0.run(Request::from_parts(parts, &body[..]))?;
        let bytes = answer.body_mut().with_config().limit(1 << 20).read_to_vec()?;
        let mut response = Response::new(bytes.into());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        Ok(response)
    }
}

impl HttpClient for Client {
    // Called on the thread that sends spans, which does nothing else: it may block.
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.send(request) })
    }
}

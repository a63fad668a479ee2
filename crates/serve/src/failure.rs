//! What a request is told when it cannot be done, in the words of whoever asks.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sampan_engine::SubmitError;
use serde_json::{Value, json};

/// Why a request was not done. The HTTP status says whose fault it is; `param` names the field.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    pub(crate) code: &'static str,
    /// Seconds after which another attempt makes sense.
    pub(crate) retry_after: Option<u64>,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Failure {
        Failure { status, message: message.into(), param: None, code, retry_after: None }
    }

    /// The request cannot be done as it is.
    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// A field that cannot be honoured.
    pub(crate) fn field(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Failure {
        Failure { param: Some(param.into()), ..Failure::new(StatusCode::BAD_REQUEST, code, message) }
    }

    /// The server is at fault.
    pub(crate) fn internal(message: impl Into<String>) -> Failure {
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// The server is going away.
    pub(crate) fn shutdown() -> Failure {
        Failure {
            retry_after: Some(10),
            ..Failure::new(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the server is shutting down")
        }
    }

    /// The same of the field that this route has in place of another.
    #[must_use]
    pub(crate) fn renamed(mut self, from: &str, to: &str) -> Failure {
        if self.param.as_deref() == Some(from) {
            self.param = Some(to.to_owned());
        }
        self
    }

    #[must_use]
    pub(crate) fn after(mut self, seconds: u64) -> Failure {
        self.retry_after = Some(seconds);
        self
    }

    /// The kind of error as OpenAI's clients know it.
    fn openai_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            503 => "unavailable_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The kind of error as Anthropic's clients know it.
    fn anthropic_type(&self) -> &'static str {
        match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            503 => "overloaded_error",
            500.. => "api_error",
            _ => "invalid_request_error",
        }
    }

    /// The error as a body.
    pub(crate) fn body(&self, dialect: Dialect) -> Value {
        match dialect {
            Dialect::OpenAi => json!({"error": {
                "message": self.message,
                "type": self.openai_type(),
                "param": self.param,
                "code": self.code,
            }}),
            Dialect::Anthropic => {
                // By these words clients see that they have to shorten a conversation.
                let long = if self.code == "context_length_exceeded" { "prompt is too long: " } else { "" };
                let message = format!("{long}{}", self.message);
                json!({"type": "error", "error": {"type": self.anthropic_type(), "message": message}})
            }
            Dialect::Ollama => json!({"error": self.message}),
        }
    }

    pub(crate) fn response(self, dialect: Dialect) -> Response {
        let mut response = (self.status, Body::from(self.body(dialect).to_string())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE].contains(&self.status) {
            // What is left of the body is not waited for: whoever does not send it would keep the connection's place.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Handlers know nothing of dialects: [`in_dialect`] says it again in the right one.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        self.response(Dialect::OpenAi)
    }
}

/// Whose clients are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Anthropic,
    Ollama,
}

impl Dialect {
    /// The dialect of a route; `anthropic`: it is asked by one of Anthropic's clients.
    pub(crate) fn of(path: &str, anthropic: bool) -> Dialect {
        match path {
            _ if anthropic && path.starts_with("/v1/models") => Dialect::Anthropic,
            _ if path.starts_with("/api/") => Dialect::Ollama,
            _ if path.starts_with("/v1/messages") => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }
}

/// Says a failure in the dialect of the route that it came from.
pub(crate) fn in_dialect(dialect: Dialect, response: Response) -> Response {
    match response.extensions().get::<Failure>() {
        Some(failure) if dialect != Dialect::OpenAi => failure.clone().response(dialect),
        _ => response,
    }
}

/// What the engine refuses.
impl From<SubmitError> for Failure {
    fn from(error: SubmitError) -> Failure {
        let message = error.to_string();
        match error {
            SubmitError::QueueFull { .. } => {
                Failure::new(StatusCode::TOO_MANY_REQUESTS, "queue_full", message).after(2)
            }
            SubmitError::ContextExceeded { .. } | SubmitError::PoolTooSmall { .. } => {
                Failure::field("messages", "context_length_exceeded", message)
            }
            SubmitError::NoPromptLogprobs => Failure::invalid(
                "a server with one stream computes no log-probabilities of prompts; start it with --streams 2 or more",
            ),
            SubmitError::EmptyPrompt => Failure::field("prompt", "empty_prompt", message),
            SubmitError::TokenOutOfRange { .. } => Failure::field("prompt", "token_out_of_range", message),
            SubmitError::BadSampling { field, .. } => {
                let field = field.split(' ').next().unwrap_or(field);
                Failure::field(field, "out_of_range", message)
            }
            _ => Failure::invalid(message),
        }
    }
}

/// What keeps a model from answering.
impl From<sampan_facade::Error> for Failure {
    fn from(error: sampan_facade::Error) -> Failure {
        use sampan_facade::Error as E;
        let message = format!("{error}; {}", error.hint());
        match error {
            E::Submit(error) => error.into(),
            E::Template(error) if error.refused => {
                Failure::field("messages", "template_refused", error.to_string())
            }
            E::Template(error) => Failure::field("messages", "template_failed", error.to_string()),
            E::TextTooLong { .. } => Failure::field("input", "context_length_exceeded", error.to_string()),
            E::EmptyText => Failure::field("input", "empty_text", error.to_string()),
            E::Dimensions { .. } => Failure::field("dimensions", "out_of_range", error.to_string()),
            E::NoFill { .. } => Failure::field("suffix", "unsuited_model", format!("suffix: {message}")),
            E::NoTemplate { .. } | E::Unsuited { .. } | E::Encode(_) => {
                Failure::field("model", "unsuited_model", message)
            }
            E::Memory { .. } => {
                Failure::new(StatusCode::SERVICE_UNAVAILABLE, "out_of_memory", message).after(30)
            }
            _ => Failure::internal(message),
        }
    }
}

/// What a hub or the store of models refuses.
impl From<sampan_hub::Error> for Failure {
    fn from(error: sampan_hub::Error) -> Failure {
        use sampan_hub::Error as E;
        let message = format!("{error}; {}", error.hint());
        match error {
            E::Name(_) | E::NoSuchFormat { .. } | E::NoModel { .. } | E::NotOurs { .. } => {
                Failure::field("model", "bad_model", message)
            }
            E::NotFound { .. } | E::NotHere { .. } => Failure {
                param: Some("model".into()),
                ..Failure::new(StatusCode::NOT_FOUND, "model_not_found", message)
            },
            E::Unreachable { .. } | E::Status { .. } | E::BadAnswer { .. } => {
                Failure::new(StatusCode::BAD_GATEWAY, "hub_unreachable", message)
            }
            E::NoSpace { .. } => Failure::new(StatusCode::INSUFFICIENT_STORAGE, "no_space", message),
            _ => Failure::internal(message),
        }
    }
}

//! Answers as they come: server-sent events, or one JSON object in a line.

use crate::answer::{Answer, Piece};
use crate::failure::Failure;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use std::convert::Infallible;
use std::fmt::Write;
use std::time::Duration;

/// Silence after which a comment is sent, so that nobody on the way gives the connection up.
const PING: Duration = Duration::from_secs(15);

/// One message of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// The name of the event, in dialects that name them.
    pub(crate) event: Option<&'static str>,
    pub(crate) data: String,
}

impl Frame {
    pub(crate) fn data(data: impl ToString) -> Frame {
        Frame { event: None, data: data.to_string() }
    }

    pub(crate) fn event(event: &'static str, data: impl ToString) -> Frame {
        Frame { event: Some(event), data: data.to_string() }
    }
}

/// How a dialect says the pieces of an answer. No IO and no waiting: what comes in, what goes out.
pub(crate) trait Frames: Send + 'static {
    /// What is said before the first piece.
    fn begin(&mut self) -> Vec<Frame> {
        Vec::new()
    }
    /// What a piece of a choice becomes. Never gets [`Piece::Failed`].
    fn piece(&mut self, choice: usize, piece: Piece) -> Vec<Frame>;
    /// What is said when all choices have ended.
    fn end(&mut self) -> Vec<Frame>;
    /// How a failure is said, after which nothing comes.
    fn failed(&mut self, failure: &Failure) -> Vec<Frame>;
}

/// How frames are put on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `data: {...}` and an empty line.
    Events,
    /// An object in a line.
    Lines,
}

impl Form {
    fn write(self, frames: &[Frame]) -> Bytes {
        let mut text = String::new();
        for frame in frames {
            // Writing to a string cannot fail.
            let _ = match (self, frame.event) {
                (Form::Lines, _) => writeln!(text, "{}", frame.data),
                (Form::Events, None) => write!(text, "data: {}\n\n", frame.data),
                (Form::Events, Some(event)) => write!(text, "event: {event}\ndata: {}\n\n", frame.data),
            };
        }
        text.into()
    }
}

struct Under<F> {
    answer: Answer,
    frames: F,
    form: Form,
    begun: bool,
    /// Choices that have not ended.
    left: usize,
    over: bool,
}

/// The response that streams an answer. When its body is dropped, the answer is cancelled.
pub(crate) fn respond(answer: Answer, frames: impl Frames, form: Form) -> Response {
    let left = answer.choices;
    let under = Under { answer, frames, form, begun: false, left, over: false };
    let body = Body::from_stream(stream::unfold(under, async |mut under| {
        let bytes = under.next().await?;
        Some((Ok::<_, Infallible>(bytes), under))
    }));
    let mut response = body.into_response();
    let kind = match form {
        Form::Events => "text/event-stream",
        Form::Lines => "application/x-ndjson",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl<F: Frames> Under<F> {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            let frames = self.frames.begin();
            if !frames.is_empty() {
                return Some(self.form.write(&frames));
            }
        }
        loop {
            let Ok(received) = tokio::time::timeout(PING, self.answer.pieces.recv()).await else {
                match self.form {
                    Form::Events => return Some(Bytes::from_static(b": waiting\n\n")),
                    Form::Lines => continue,
                }
            };
            let frames = match received {
                None => self.fail(&Failure::internal("the engine ended before the answer did")),
                Some((_, Piece::Failed(failure))) => self.fail(&failure),
                Some((choice, piece)) => {
                    self.left -= usize::from(matches!(piece, Piece::Ended(_)));
                    let mut frames = self.frames.piece(choice, piece);
                    if self.left == 0 {
                        self.over = true;
                        frames.extend(self.frames.end());
                    }
                    frames
                }
            };
            if !frames.is_empty() || self.over {
                return Some(self.form.write(&frames));
            }
        }
    }

    fn fail(&mut self, failure: &Failure) -> Vec<Frame> {
        self.over = true;
        self.frames.failed(failure)
    }
}

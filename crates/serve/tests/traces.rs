//! What a collector of OpenTelemetry gets to see, and what a log says. In a process of its own: which events are wanted is
//! remembered for the whole process.

#![allow(clippy::unwrap_used)]

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use sampan_facade::LoadOptions;
use sampan_serve::{Named, ServeOptions, Traces, not_traces};
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, mpsc};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::SubscriberExt;

/// A collector that keeps what it is sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Sent>>>);

/// A path, and spans.
type Sent = (String, Vec<Span>);

impl Collector {
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = self.0.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut text, mut byte) = (Vec::new(), [0]);
                while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    text.push(byte[0]);
                }
                let head = String::from_utf8(text).unwrap().to_lowercase();
                let length =
                    head.split("content-length: ").nth(1).and_then(|r| r.lines().next()?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                stream.read_exact(&mut body).unwrap();
                let spans = ExportTraceServiceRequest::decode(&body[..]).unwrap();
                let spans =
                    spans.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans);
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                kept.lock().unwrap().push((path, spans.collect()));
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                    .unwrap();
            }
        });
        format!("http://{address}")
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let value = span.attributes.iter().find(|a| a.key == key).and_then(|a| a.value.clone()?.value);
    match value {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(n)) => n.to_string(),
        Some(Any::DoubleValue(x)) => x.to_string(),
        other => format!("{other:?}"),
    }
}

/// What a log writes.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A server with `mini` on a free port, until this process ends; its URL.
fn server(log_prompts: bool) -> String {
    let load = LoadOptions { streams: 4, threads: Some(1), check_memory: false, ..LoadOptions::default() };
    let options =
        ServeOptions { lazy: true, log_prompts, ..ServeOptions::new(vec![Named::parse("mini")], load) };
    let (to, address) = mpsc::channel();
    std::thread::spawn(move || sampan_serve::run(options, &mut |address| to.send(address).unwrap()));
    format!("http://{}", address.recv().unwrap())
}

/// Asks for two answers as part of a trace; the status.
fn ask(base: &str) -> u16 {
    let question = r#"{"model": "mini", "messages": [{"role": "user", "content": "3 + 4"}], "temperature": 0, "n": 2, "max_tokens": 60}"#;
    let request = ureq::post(format!("{base}/v1/chat/completions")).header("traceparent", PARENT);
    let mut answer = request.send(question).unwrap();
    answer.body_mut().read_to_string().unwrap();
    answer.status().as_u16()
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_collector_gets_a_span_of_each_request_and_each_answer_and_no_word_of_what_was_said() {
    let (collector, lines) = (Collector::default(), Lines::default());
    let traces = Traces::to(&collector.start()).unwrap();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt::layer().json().with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(log.with_filter(not_traces())).with(traces.layer());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let base = server(false);
    assert_eq!(ask(&base), 200);
    assert!(matches!(ureq::get(format!("{base}/nowhere/secret")).call(), Err(ureq::Error::StatusCode(404))));
    let text = lines.text();
    let line = text.lines().find(|line| line.contains("/v1/chat/completions")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["fields"]["status"], &line["fields"]["method"]), (&200.into(), &"POST".into()));
    assert!(!text.contains("3 + 4") && !text.contains("secret"), "{text}");
    // Only who asks for it gets that.
    assert_eq!(ask(&server(true)), 200);
    assert!(lines.text().contains("3 + 4"), "{}", lines.text());
    traces.end();

    let kept = collector.0.lock().unwrap();
    assert!(kept.iter().all(|(path, _)| path == "/v1/traces"));
    let spans: Vec<&Span> = kept.iter().flat_map(|(_, spans)| spans).collect();
    let named = |name: &str| spans.iter().filter(|s| s.name == name).copied().collect::<Vec<_>>();
    let (requests, answers) = (named("POST /v1/chat/completions"), named("chat mini"));
    assert_eq!((requests.len(), answers.len()), (2, 4), "{spans:?}");
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    for request in &requests {
        assert_eq!(hex(&request.trace_id), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(hex(&request.parent_span_id), "b7ad6b7169203331");
        assert_eq!(attribute(request, "http.response.status_code"), "200");
        let own = answers.iter().filter(|answer| answer.parent_span_id == request.span_id);
        assert_eq!(own.count(), 2);
    }
    for answer in answers {
        for (key, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.request.model", "mini"),
            ("gen_ai.request.max_tokens", "60"),
            ("gen_ai.usage.output_tokens", "39"),
            ("gen_ai.response.finish_reasons", "stop"),
        ] {
            assert_eq!(attribute(answer, key), value, "{key}");
        }
        assert!(attribute(answer, "gen_ai.usage.input_tokens").parse::<u32>().unwrap() > 5);
        let first: f64 = attribute(answer, "gen_ai.latency.time_to_first_token").parse().unwrap();
        let whole: f64 = attribute(answer, "gen_ai.latency.e2e").parse().unwrap();
        assert!(0.0 < first && first < whole);
    }
    // What strangers make up is not repeated, and nothing that was said is told.
    assert_eq!(named("GET other").len(), 1);
    assert!(!format!("{spans:?}").contains("3 + 4") && !format!("{spans:?}").contains("secret"));
}

#[test]
fn a_collector_that_is_none_is_refused_and_one_that_is_away_harms_nobody() {
    for bad in ["localhost:4318", "ftp://x", "http://"] {
        let error = Traces::to(bad).unwrap_err();
        assert!(error.to_string().contains(bad) && error.hint().contains("http://localhost:4318"), "{error}");
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    Traces::to(&format!("http://{address}/v1/traces")).unwrap().end();
}

//! Whatever is sent to a server with `mini`, it answers, and is never at fault. Through a socket, as strangers send it.

use sampan_facade::LoadOptions;
use sampan_serve::{KeepAlive, Limits, Named, ServeOptions, run};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

const ROUTES: &[&str] = &[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/chat",
    "/api/generate",
    "/api/show",
    "/api/embed",
    "/v1/embeddings",
    "/v1/rerank",
    "/tokenize",
    "/detokenize",
    "/apply-template",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
];

/// What bodies are made of: a byte of input below the count stands for a piece, the others for themselves.
const PIECES: &[&str] = &[
    "{\"model\": \"mini\", \"max_tokens\": 2, \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]",
    "{\"prompt\": \"hi\", \"max_tokens\": 2",
    "{\"input\": \"hi\", \"max_output_tokens\": 2",
    ", \"stream\": true",
    ", \"temperature\": 0",
    ", \"logprobs\": 1",
    ", \"logprobs\": true",
    ", \"echo\": true",
    ", \"n\": 2",
    ", \"stop\": ",
    ", \"tools\": ",
    ", \"tool_choice\": ",
    ", \"guided_json\": ",
    ", \"guided_regex\": ",
    ", \"guided_grammar\": ",
    ", \"response_format\": ",
    ", \"format\": ",
    ", \"options\": ",
    ", \"reasoning_effort\": \"none\"",
    ", \"max_reasoning_tokens\": 1",
    ", \"thinking\": ",
    ", \"truncation\": \"auto\"",
    "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": ",
    "{\"type\": \"object\", \"properties\": {\"a\": ",
    "{\"type\": \"integer\"}",
    "{\"$ref\": \"#\"}",
    "{\"enum\": [1, \"x\"]}",
    "{\"num_predict\": 2}",
    "\"required\"",
    "\"[a-z]{2}\"",
    "\"start: \\\"x\\\"\"",
    "null",
    "-1",
    "1e999",
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "<think>",
    "</think>",
    "<tool_call>",
    "<|im_end|>",
    "\\u0000",
    "\\ud800",
];

fn start() -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let load = LoadOptions {
            context: Some(512),
            streams: 4,
            threads: Some(1),
            check_memory: false,
            ..LoadOptions::default()
        };
        let options = ServeOptions {
            models: vec![Named::parse("mini")],
            adapters: Vec::new(),
            adapter_folder: None,
            load,
            keep: KeepAlive::Forever,
            lazy: false,
            address: ([127, 0, 0, 1], 0).into(),
            tls: None,
            log_prompts: false,
            hub: None,
            keys: Vec::new(),
            hosts: Vec::new(),
            origins: Vec::new(),
            limits: Limits { answer_time: Duration::from_secs(20), ..Limits::default() },
        };
        run(options, &mut |address| tell.send(address).expect("somebody waits")).expect("a server");
    });
    told.recv().expect("it listens")
}

/// Status and body of the answer, all of it.
fn ask(address: SocketAddr, path: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("a server that listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).expect("a server that reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer that ends");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, answer)
}

#[test]
fn requests() {
    let address = start();
    bolero::check!().with_max_len(48).with_iterations(3_000).for_each(|input: &[u8]| {
        let Some((&route, input)) = input.split_first() else { return };
        let path = ROUTES[usize::from(route) % ROUTES.len()];
        let piece = |&b: &u8| PIECES.get(usize::from(b)).map_or(vec![b], |piece| piece.as_bytes().to_vec());
        let body: Vec<u8> = input.iter().flat_map(piece).collect();
        let (status, answer) = ask(address, path, &body);
        let shown = String::from_utf8_lossy(&body);
        assert!(status < 500 && !answer.contains("internal_error"), "{path} {shown}: {answer}");
        // What it can read, it has read; and it reads on.
        let (status, answer) = ask(address, "/v1/completions", b"{\"prompt\": \"a\", \"max_tokens\": 1}");
        assert!(status == 200, "after {path} {shown}: {answer}");
    });
}

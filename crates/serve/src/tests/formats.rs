//! Shapes, calls and limits in the formats of other models. Their weights are random: what holds is held by the server.

use super::{Server, with};
use crate::registry::Named;
use sampan_facade::Source;
use sampan_fixtures::Family;
use serde_json::{Value, json};

/// A format: its name, tokens of its own, what its template has beside the messages, and how the prompt ends.
type Format = (&'static str, &'static [&'static str], &'static str, &'static str);

const FORMATS: &[Format] = &[
    ("hermes", &["<tool_call>", "</tool_call>", "<think>", "</think>"], "<tool_call> <think>", "assistant\n"),
    (
        "hermes, thought begun",
        &["<tool_call>", "</tool_call>", "<think>", "</think>"],
        "<tool_call>",
        "assistant\n<think>\n",
    ),
    (
        "hermes, no thought",
        &["<tool_call>", "</tool_call>", "<think>", "</think>"],
        "<tool_call>",
        "assistant\n<think>\n\n</think>\n\n",
    ),
    ("hermes, tags in letters", &[], "<tool_call> <think>", "assistant\n"),
    (
        "qwen xml",
        &["<tool_call>", "</tool_call>", "<think>", "</think>"],
        "<tool_call>\n<function= <think>",
        "assistant\n<think>\n",
    ),
    (
        "deepseek v3.1",
        &[
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁calls▁end｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁sep｜>",
            "<think>",
            "</think>",
        ],
        "<｜tool▁call▁begin｜> </think>",
        "<think>",
    ),
    ("deepseek v3.2", &["｜DSML｜", "<think>", "</think>"], "<｜DSML｜function_calls> </think>", "</think>"),
    (
        "harmony",
        &["<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|call|>", "<|return|>"],
        "<|channel|> <|message|>",
        "<|start|>assistant",
    ),
    (
        "gemma 4",
        &["<|tool_call>", "<tool_call|>", "<|\"|>", "<|channel>", "<channel|>", "<turn|>"],
        "<|tool_call>call: <|channel>thought",
        "<|turn>model\n",
    ),
    ("llama", &["<|start_header_id|>", "<|eot_id|>"], "<|start_header_id|> <|python_tag|>", "assistant\n\n"),
    ("plain", &[], "", "model\n"),
];

fn tokenizer(more: &[&str]) -> Value {
    let printable = |b: &u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut shifted = 256..;
    let spell = |b: u32| char::from_u32(if printable(&b) { b } else { shifted.next().unwrap() }).unwrap();
    let vocab: serde_json::Map<String, Value> =
        (0..256).map(spell).enumerate().map(|(id, c)| (c.to_string(), json!(id))).collect();
    let added: Vec<Value> = ["<|im_end|>"].iter().chain(more).enumerate().map(|(n, text)| {
        let special = !["<tool_call>", "</tool_call>", "<think>", "</think>"].contains(text);
        json!({"id": 256 + n, "content": text, "special": special, "normalized": false, "single_word": false, "lstrip": false, "rstrip": false})
    }).collect();
    let bytes =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                  "vocab": vocab, "merges": []},
    })
}

/// A server with a model of this format.
fn server(&(_, tokens, signs, end): &Format) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(folder.path().join(name), text).unwrap();
    Family::load("qwen3").unwrap().with_vocab(320).write_checkpoint(folder.path()).unwrap();
    write("tokenizer.json", tokenizer(tokens).to_string());
    write("tokenizer_config.json", json!({"eos_token": "<|im_end|>"}).to_string());
    let end = json!(end);
    write(
        "chat_template.jinja",
        format!(
            "{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}{{% set _ = {} %}}{{{{ {end} }}}}",
            json!(signs)
        ),
    );
    let source = Source::Path(folder.path().to_owned());
    let server = Server::with(|options| options.models = vec![Named { name: "random".into(), source }]);
    (folder, server)
}

fn ask(more: Value) -> Value {
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "temperature": 1, "seed": 5, "n": 3, "max_tokens": 1500, "max_reasoning_tokens": 7, "logprobs": true});
    with(&body, more)
}

#[tokio::test]
async fn shapes_and_calls_hold_in_every_format() {
    let parameters = json!({"type": "object", "properties": {"a": {"enum": [1, 22]}, "b": {"type": "boolean"}}, "required": ["a", "b"], "additionalProperties": false});
    let fits = |v: &Value| [json!(1), json!(22)].contains(&v["a"]) && v["b"].is_boolean();
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    for format in FORMATS {
        let (_folder, server) = server(format);
        let answer =
            server.post("/v1/chat/completions", ask(json!({"guided_json": parameters}))).await.json();
        for choice in answer["choices"].as_array().unwrap_or_else(|| panic!("{}: {answer}", format.0)) {
            let text = choice["message"]["content"].as_str().unwrap();
            let value: Value =
                serde_json::from_str(text).unwrap_or_else(|e| panic!("{}: {e}: {choice}", format.0));
            assert!(fits(&value) && choice["finish_reason"] == "stop", "{}: {choice}", format.0);
        }
        let body = ask(
            json!({"tools": [tool("f"), tool("g")], "tool_choice": "required", "parallel_tool_calls": false}),
        );
        let answer = server.post("/v1/chat/completions", &body).await.json();
        for choice in answer["choices"].as_array().unwrap_or_else(|| panic!("{}: {answer}", format.0)) {
            let calls = choice["message"]["tool_calls"]
                .as_array()
                .unwrap_or_else(|| panic!("{}: {choice}", format.0));
            let arguments = calls[0]["function"]["arguments"].as_str().unwrap();
            assert!(
                calls.len() == 1 && fits(&serde_json::from_str(arguments).unwrap()),
                "{}: {choice}",
                format.0
            );
            assert_eq!(choice["finish_reason"], "tool_calls", "{}: {choice}", format.0);
        }
        assert_eq!(answer.get("warnings"), None, "{}: {answer}", format.0);
        let tokens = answer["usage"]["completion_tokens_details"]["reasoning_tokens"].as_u64().unwrap();
        // What closes reasoning may count too.
        assert!(tokens <= 3 * (7 + 12), "{}: {tokens}", format.0);
    }
}

#[tokio::test]
async fn a_switch_that_a_template_does_not_have_is_refused_by_name() {
    for (at, thinks) in [(0, true), (10, false)] {
        let (_folder, server) = server(&FORMATS[at]);
        for effort in ["none", "minimal", "high"] {
            let body = ask(json!({"reasoning_effort": effort, "max_tokens": 1, "n": 1}));
            let reply = server.post("/v1/chat/completions", body).await;
            let expected = if thinks && effort == "high" { 200 } else { 400 };
            assert_eq!(reply.status, expected, "{} {effort}: {reply:?}", FORMATS[at].0);
            assert!(expected == 200 || reply.json()["error"]["param"] == "reasoning_effort", "{reply:?}");
        }
    }
}

#[tokio::test]
async fn what_belongs_between_two_texts_is_filled_in() {
    let tokens: &[&str] = &["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"];
    let (_folder, server) = server(&("coder", tokens, "", ""));
    let body =
        json!({"prompt": "a = ", "suffix": "\nprint(a)", "max_tokens": 5, "temperature": 0, "logprobs": 0});
    let filled = server.post("/v1/completions", &body).await.json();
    assert_eq!(filled["usage"]["prompt_tokens"], "a = \nprint(a)".len() + 3, "{filled}");
    let plain = server.post("/v1/completions", with(&body, json!({"suffix": ""}))).await.json();
    assert_ne!(filled["choices"], plain["choices"]);
    let body = json!({"model": "random", "prompt": "a = ", "suffix": "\nprint(a)", "stream": false, "options": {"num_predict": 5, "temperature": 0}});
    let ollama = server.post("/api/generate", body).await.json();
    assert_eq!(ollama["response"], filled["choices"][0]["text"], "{ollama}");
}

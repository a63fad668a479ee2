//! Adapters: names for a model with changes, together and each for itself.

use super::{Server, key, request, with};
use crate::adapters::NamedAdapter;
use axum::body::Body;
use sampan_kernels::Format;
use sampan_weights::gguf::Writer;
use sampan_weights::{Checkpoint, Dtype, Value as Entry};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// Writes an adapter for `mini` that changes every query by numbers from a seed; of another width for another model.
fn write(path: &Path, seed: u32, wider: usize) {
    let folder = tempfile::tempdir().unwrap();
    let mini = folder.path().join("mini.gguf");
    std::fs::write(&mini, include_bytes!("../../../facade/assets/mini.gguf")).unwrap();
    let mini = Checkpoint::open(&mini).unwrap();
    let mut writer = Writer::new();
    for (key, value) in [("general.type", "adapter"), ("adapter.type", "lora")] {
        writer.set(key, Entry::Str(value.into())).unwrap();
    }
    writer.set("adapter.lora.alpha", Entry::F32(2.0)).unwrap();
    let mut sizes = HashMap::new();
    for tensor in mini.tensors().filter(|tensor| tensor.name.ends_with("attn_q.weight")) {
        let [outputs, inputs] = tensor.shape[..] else { panic!("a matrix") };
        for (half, shape) in [("lora_a", [2, inputs + wider]), ("lora_b", [outputs, 2])] {
            let name = format!("{}.{half}", tensor.name);
            writer.tensor(&name, &shape, Dtype::Block(Format::F32)).unwrap();
            sizes.insert(name, shape[0] * shape[1]);
        }
    }
    let mut state = seed;
    let mut number = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 24) as f32 - 0.5) * 2.0
    };
    let bytes =
        writer.to_bytes(|name| (0..sizes[name]).map(&mut number).flat_map(f32::to_le_bytes).collect());
    std::fs::write(path, bytes.unwrap()).unwrap();
}

fn named(name: &str, folder: &Path) -> NamedAdapter {
    NamedAdapter { name: name.into(), model: None, path: folder.join(format!("{name}.gguf")) }
}

fn ask(model: &str) -> Value {
    let messages = json!([{"role": "user", "content": "Tell me a story"}]);
    json!({"model": model, "messages": messages, "temperature": 0, "max_tokens": 24, "ignore_eos": true, "logprobs": true})
}

#[tokio::test]
async fn adapters_answer_together_as_each_does_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (name, seed) in [("poet", 1), ("clerk", 2)] {
        write(&folder.path().join(format!("{name}.gguf")), seed, 0);
    }
    let server = Server::with(|options| {
        options.adapters = vec![named("poet", folder.path()), named("clerk", folder.path())];
    });
    let mut alone = Vec::new();
    for model in ["mini", "poet", "clerk"] {
        let answer = server.post("/v1/chat/completions", ask(model)).await.json();
        assert_eq!(answer["model"], model, "{answer}");
        alone.push(answer["choices"].clone());
    }
    assert!(alone[0] != alone[1] && alone[1] != alone[2] && alone[0] != alone[2], "{alone:?}");
    let models = ["clerk", "mini", "poet", "mini", "clerk", "poet"];
    let asked = models.map(|model| server.post("/v1/chat/completions", ask(model)));
    for (model, reply) in models.iter().zip(futures_util::future::join_all(asked).await) {
        let at = ["mini", "poet", "clerk"].iter().position(|name| name == model).unwrap();
        assert_eq!(reply.json()["choices"], alone[at], "{model}");
    }
    let list = server.get("/v1/models").await.json();
    let of = |id: &str| list["data"].as_array().unwrap().iter().find(|m| m["id"] == id).unwrap().clone();
    assert_eq!((&of("poet")["parent"], &of("mini")["parent"]), (&json!("mini"), &Value::Null));
    let (base, adapter) = (of("mini")["memory_bytes"].as_u64(), of("poet")["memory_bytes"].as_u64());
    let planned = server.app.registry.get(None).await.unwrap().prepared.memory.total() as u64;
    assert_eq!(base, adapter.map(|bytes| planned + 2 * bytes));
    let metrics = server.get("/metrics").await.body;
    let line = "sampan_planned_bytes{model_name=\"mini\",kind=\"adapters\"}";
    assert!(metrics.contains(&format!("{line} {}", 2 * adapter.unwrap())), "{metrics}");
    assert_eq!(server.get("/v1/models/clerk").await.json(), of("clerk"));
    let reply = server.post("/v1/embeddings", json!({"model": "poet", "input": "a"})).await;
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("model")), "{reply:?}");
}

#[tokio::test]
async fn adapters_come_and_go_by_request() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("poet.gguf"), 1, 0);
    write(&folder.path().join("alien.gguf"), 1, 8);
    std::fs::write(folder.path().join("junk.gguf"), "no adapter").unwrap();
    let server = Server::with(|options| options.adapter_folder = Some(folder.path().into()));
    let (load, unload) = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter");
    let poet = json!({"lora_name": "poet", "lora_path": "poet.gguf"});
    let loaded = server.post(load, &poet).await.json();
    assert_eq!(
        (&loaded["id"], &loaded["parent"], &loaded["loaded"]),
        (&json!("poet"), &json!("mini"), &json!(true))
    );
    let first = server.post("/v1/chat/completions", ask("poet")).await.json()["choices"].clone();
    let other = |name: &str, path: &str| json!({"lora_name": name, "lora_path": path});
    for (path, body, status, code) in [
        (load, poet.clone(), 400, "name_taken"),
        (load, other("mini", "poet.gguf"), 400, "name_taken"),
        (load, other("x", "../poet.gguf"), 400, "unsupported_value"),
        (load, other("x", "alien.gguf"), 400, "unsuited_adapter"),
        (load, other("x", "junk.gguf"), 400, "unsuited_adapter"),
        (load, with(&poet, json!({"lora_name": "x", "base_model_name": "maxi"})), 404, "model_not_found"),
        (unload, json!({"lora_name": "x"}), 404, "adapter_not_found"),
    ] {
        let reply = server.post(path, &body).await;
        assert_eq!(
            (reply.status, &reply.json()["error"]["code"]),
            (status, &json!(code)),
            "{body}: {reply:?}"
        );
    }
    let reply = server.post(load, other("x", "alien.gguf")).await.json();
    assert!(reply["error"]["message"].as_str().unwrap().contains("\"x\""), "{reply}");
    assert_eq!(server.post(unload, json!({"lora_name": "poet"})).await.status, 200);
    assert_eq!(server.post("/v1/chat/completions", ask("poet")).await.status, 404);
    // What its prefixes left in the cache is not taken for those of another.
    write(&folder.path().join("poet.gguf"), 7, 0);
    assert_eq!(server.post(load, &poet).await.status, 200);
    assert_ne!(server.post("/v1/chat/completions", ask("poet")).await.json()["choices"], first);
    let closed = Server::new();
    let reply = closed.post(load, &poet).await;
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("lora_path")), "{reply:?}");
}

#[tokio::test]
async fn adapters_that_cannot_be_used_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("poet.gguf"), 1, 0);
    write(&folder.path().join("alien.gguf"), 1, 8);
    let stray = NamedAdapter { model: Some("maxi".into()), ..named("stray", folder.path()) };
    for (adapter, state, word) in [
        (named("poet", folder.path()), "ok", "loaded"),
        (named("alien", folder.path()), "failed", "made for another model"),
        (named("missing", folder.path()), "failed", "missing.gguf"),
        (stray, "failed", "maxi"),
    ] {
        let name = adapter.name.clone();
        let server = Server::with(|options| {
            options.lazy = false;
            options.adapters = vec![adapter];
        });
        server.app.registry.get(None).await.unwrap();
        if name != "stray" {
            assert_eq!(server.get("/health").await.json()["status"], "loading", "{name}");
        }
        let _ = server.app.registry.get(Some(&name)).await;
        let reply = server.get("/health").await;
        let body = reply.json();
        assert_eq!((&body["status"], &body["models"]["mini"]), (&json!(state), &json!("loaded")), "{body}");
        assert_eq!(reply.status, if state == "ok" { 200 } else { 503 });
        assert!(body["adapters"][&name].to_string().contains(word), "{body} lacks {word}");
    }
}

#[tokio::test]
async fn a_client_with_many_requests_waits_for_himself() {
    let server = Server::with(|options| {
        options.load.streams = 1;
        options.keys = vec![key(), crate::edge::Key::new("ben", "other")];
    });
    let send = |secret: &'static str, tokens: usize| {
        let body = json!({"prompt": "x", "max_tokens": tokens, "ignore_eos": true}).to_string();
        let request = request("POST", "/v1/completions").header("x-api-key", secret);
        server.send(request.body(Body::from(body)).unwrap())
    };
    let mut many: Vec<_> = (0..6).map(|_| Box::pin(send("secret", 400))).collect();
    // All of the first one's requests are there before the other comes.
    let waiting = async {
        loop {
            let stats = server.app.registry.get(None).await.unwrap().engine().unwrap().stats();
            if stats.running + stats.waiting == 6 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all(many.iter_mut()) => panic!("too fast to tell"),
        () = waiting => {}
    }
    let other = Box::pin(send("other", 4));
    let all = async {
        futures_util::future::join_all(many).await;
        std::time::Instant::now()
    };
    let one = async {
        assert_eq!(other.await.status, 200);
        std::time::Instant::now()
    };
    let (one, all) = tokio::join!(one, all);
    assert!(one < all, "the only request of a client came after six of another");
}

//! Log-probabilities of prompts.

use super::{Server, sum, with};
use serde_json::{Value, json};

fn scores(answer: &Value) -> (Vec<Value>, Vec<Value>) {
    let logprobs = &answer["choices"][0]["logprobs"];
    let list = |name: &str| logprobs[name].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
    (list("tokens"), list("token_logprobs"))
}

#[tokio::test]
async fn a_text_has_the_same_scores_as_when_it_was_written() {
    let server = Server::new();
    let body = json!({"prompt": "Once upon a", "max_tokens": 12, "temperature": 0, "logprobs": 2, "ignore_eos": true});
    let written = server.post("/v1/completions", &body).await.json();
    let text = format!("Once upon a{}", written["choices"][0]["text"].as_str().unwrap());
    let body = json!({"prompt": text, "max_tokens": 0, "echo": true, "logprobs": 2});
    let read = server.post("/v1/completions", &body).await.json();
    assert_eq!(read["choices"][0]["text"], text.as_str());
    assert_eq!(
        (&read["choices"][0]["finish_reason"], &read["usage"]["completion_tokens"]),
        (&json!("length"), &json!(0))
    );
    let ((new, new_scores), (all, all_scores)) = (scores(&written), scores(&read));
    assert_eq!(all.iter().map(|t| t.as_str().unwrap()).collect::<String>(), text);
    assert_eq!(all_scores[0], Value::Null);
    let from = all.len() - new.len();
    assert_eq!((&all[from..], &all_scores[from..]), (&new[..], &new_scores[..]));
    let logprobs = &read["choices"][0]["logprobs"];
    assert_eq!(
        (&logprobs["top_logprobs"][0], &logprobs["text_offset"][1]),
        (&Value::Null, &json!(all[0].as_str().unwrap().len()))
    );
    assert!(logprobs["top_logprobs"][1].as_object().is_some_and(|top| (2..=3).contains(&top.len())));

    let streamed =
        server.post("/v1/completions", with(&body, json!({"stream": true, "max_tokens": 3}))).await;
    let frames = streamed.frames();
    let whole = server.post("/v1/completions", with(&body, json!({"max_tokens": 3}))).await.json();
    let join = |name: &str| -> Vec<Value> {
        let list = |f: &Value| f["choices"][0]["logprobs"][name].as_array().cloned().unwrap_or_default();
        frames.iter().flat_map(list).collect()
    };
    for name in ["tokens", "token_logprobs", "text_offset", "top_logprobs"] {
        assert_eq!(json!(join(name)), whole["choices"][0]["logprobs"][name], "{name}");
    }
    let text: String = frames.iter().filter_map(|f| f["choices"][0]["text"].as_str()).collect();
    assert_eq!(whole["choices"][0]["text"], text);
}

/// What a log-likelihood is computed from: one score for each token of the prompt, and one for the token after it, even
/// where that ends the answer.
#[tokio::test]
async fn every_token_has_a_score_and_the_last_one_too() {
    let server = Server::new();
    let prompts = ["3 + 4 =", "a", "What is the capital of France? Paris."];
    let body = json!({"prompt": prompts, "max_tokens": 1, "temperature": 0, "echo": true, "logprobs": 1});
    let answer = server.post("/v1/completions", body).await.json();
    for (prompt, choice) in prompts.iter().zip(answer["choices"].as_array().unwrap()) {
        let body = json!({"prompt": prompt});
        let tokens = server.post("/tokenize", body).await.json()["count"].as_u64().unwrap() as usize;
        for name in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(choice["logprobs"][name].as_array().unwrap().len(), tokens + 1, "{prompt:?} {name}");
        }
    }
    let chat =
        json!({"prompt": "<|im_start|>", "max_tokens": 4, "logprobs": 1, "logit_bias": {}, "temperature": 0});
    let eos = server.app.registry.get(None).await.unwrap().speech.stop_tokens[0];
    let ended = with(&chat, json!({"logit_bias": {eos.to_string(): 100}}));
    let choice = server.post("/v1/completions", ended).await.json()["choices"][0].clone();
    assert_eq!((&choice["finish_reason"], &choice["text"]), (&json!("stop"), &json!("")), "{choice}");
    assert_eq!(choice["logprobs"]["tokens"].as_array().unwrap().len(), 1, "{choice}");
}

#[tokio::test]
async fn scores_of_prompts_as_vllm_gives_them() {
    let server = Server::new();
    let body = json!({"prompt": "3 + 4 =", "max_tokens": 1, "prompt_logprobs": 2, "n": 2});
    let answer = server.post("/v1/completions", body).await.json();
    let list = answer["choices"][1]["prompt_logprobs"].as_array().unwrap();
    assert_eq!(list[0], Value::Null);
    for token in &list[1..] {
        let best = token.as_object().unwrap().values().find(|t| t["rank"] == 1).unwrap();
        assert!(best["logprob"].as_f64().unwrap() <= 0.0 && best["decoded_token"].is_string(), "{token}");
    }
    let answer = server
        .post("/v1/chat/completions", with(&sum(), json!({"prompt_logprobs": 0, "max_tokens": 1})))
        .await
        .json();
    let list = answer["prompt_logprobs"].as_array().unwrap();
    assert_eq!(list.len() as u64, answer["usage"]["prompt_tokens"].as_u64().unwrap());
}

//! Answers that must have a shape: in every dialect, with thinking on and off.

use super::{Server, sum, with};
use serde_json::{Value, json};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {"answer": {"type": "integer", "minimum": 0, "maximum": 99}, "sure": {"type": "boolean"}},
        "required": ["answer", "sure"],
        "additionalProperties": false,
    })
}

fn is_of_schema(text: &str) -> bool {
    let Ok(Value::Object(map)) = serde_json::from_str(text) else { return false };
    map.len() == 2 && map["answer"].as_u64().is_some_and(|n| n < 100) && map["sure"].is_boolean()
}

fn tools(strict: bool) -> Value {
    let one = |name: &str, key: &str| {
        let parameters = json!({
            "type": "object",
            "properties": {key: {"type": "integer", "minimum": 0, "maximum": 99}},
            "required": [key],
        });
        json!({"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict}})
    };
    json!([one("add", "a"), one("halve", "b")])
}

/// The name of a call whose arguments are what its tool takes.
fn called(call: &Value) -> Option<&str> {
    let function = &call["function"];
    let arguments: Value = match &function["arguments"] {
        Value::String(text) => serde_json::from_str(text).ok()?,
        other => other.clone(),
    };
    let key = if function["name"] == "add" { "a" } else { "b" };
    let fits = arguments.as_object()?.len() == 1 && arguments[key].as_u64()? < 100;
    function["name"].as_str().filter(|_| fits)
}

/// What is asked for beside a question, and whether an answer's text is that.
type Case = (Value, fn(&str) -> bool);

fn cases() -> Vec<Case> {
    vec![
        (json!({"response_format": {"type": "json_object"}}), |text| {
            serde_json::from_str::<Value>(text).is_ok_and(|v| v.is_object())
        }),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema()}}}),
            is_of_schema,
        ),
        (json!({"guided_json": schema()}), is_of_schema),
        (json!({"structured_outputs": {"regex": "[a-c]{3}[0-9]"}}), |text| {
            text.len() == 4 && text[..3].bytes().all(|b| (b'a'..=b'c').contains(&b))
        }),
        (json!({"structured_outputs": {"choice": ["yes", "no way"]}}), |text| {
            text == "yes" || text == "no way"
        }),
        (json!({"guided_grammar": "start: \"<\" (\"x\" | \"yy\") \">\""}), |text| {
            text == "<x>" || text == "<yy>"
        }),
    ]
}

#[tokio::test]
async fn shapes_hold_with_thinking_on_and_off_and_for_every_choice() {
    let server = Server::new();
    for effort in ["none", "medium"] {
        for (more, fits) in cases() {
            let body = with(
                &sum(),
                json!({"reasoning_effort": effort, "max_tokens": 300, "temperature": 0.8, "seed": 3, "n": 2, "logprobs": true}),
            );
            let answer = server.post("/v1/chat/completions", with(&body, more.clone())).await.json();
            for choice in answer["choices"].as_array().unwrap_or_else(|| panic!("{more}: {answer}")) {
                let text = choice["message"]["content"].as_str().unwrap();
                let ended = choice["finish_reason"] == "stop";
                assert!(!ended || fits(text), "{effort} {more}: {choice}");
                assert!(
                    ended || more["response_format"]["type"] == "json_object",
                    "{effort} {more}: {choice}"
                );
                let thought = choice["message"].get("reasoning_content").is_some();
                assert_eq!(thought, effort == "medium", "{effort} {more}: {choice}");
                assert!(choice["logprobs"]["content"].as_array().is_some_and(|list| !list.is_empty()));
            }
        }
    }
}

#[tokio::test]
async fn a_streamed_answer_of_a_shape_is_the_same() {
    let server = Server::new();
    let more = json!({"guided_json": schema(), "logprobs": true, "n": 2, "temperature": 0.9, "seed": 4});
    let body = with(&sum(), more);
    let whole = server.post("/v1/chat/completions", &body).await.json();
    let frames = server.post("/v1/chat/completions", with(&body, json!({"stream": true}))).await.frames();
    for index in 0..2 {
        let whole = json!({"choices": [whole["choices"][index]]});
        let own = |f: &&Value| f["choices"][0]["index"] == index;
        check_stream(&whole, &frames.iter().filter(own).collect::<Vec<_>>());
    }
}

/// The frames of a choice say what the whole choice says.
fn check_stream(whole: &Value, frames: &[&Value]) {
    let join = |place: &str| -> String { frames.iter().filter_map(|f| f.pointer(place)?.as_str()).collect() };
    assert_eq!(join("/choices/0/delta/content"), whole["choices"][0]["message"]["content"]);
    let scores = |v: &Value| v.pointer("/choices/0/logprobs/content").and_then(Value::as_array).cloned();
    let streamed: Vec<Value> = frames.iter().filter_map(|f| scores(f)).flatten().collect();
    assert_eq!(Some(streamed), scores(whole));
}

#[tokio::test]
async fn tools_are_called_as_the_request_says() {
    let server = Server::new();
    let named = json!({"type": "function", "function": {"name": "halve"}});
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}});
    for effort in ["none", "medium"] {
        for (choice, parallel, names) in [
            (json!("required"), false, &["add", "halve"][..]),
            (named.clone(), true, &["halve"]),
            (allowed.clone(), false, &["halve"]),
        ] {
            let body = json!({"tools": tools(false), "tool_choice": choice, "parallel_tool_calls": parallel, "reasoning_effort": effort, "logprobs": true, "max_tokens": 400});
            let body = with(&sum(), body);
            let whole = server.post("/v1/chat/completions", &body).await.json();
            let message = &whole["choices"][0]["message"];
            let calls = message["tool_calls"].as_array().unwrap_or_else(|| panic!("{choice}: {whole}"));
            assert_eq!((calls.len(), &message["content"]), (1, &Value::Null), "{choice}: {whole}");
            assert!(called(&calls[0]).is_some_and(|name| names.contains(&name)), "{choice}: {whole}");
            assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
            let frames =
                server.post("/v1/chat/completions", with(&body, json!({"stream": true}))).await.frames();
            let join = |place: &str| -> String {
                frames.iter().filter_map(|f| f.pointer(place)?.as_str()).collect()
            };
            let function = &calls[0]["function"];
            assert_eq!(
                join("/choices/0/delta/tool_calls/0/function/name"),
                *function["name"].as_str().unwrap()
            );
            assert_eq!(
                join("/choices/0/delta/tool_calls/0/function/arguments"),
                *function["arguments"].as_str().unwrap()
            );
            let scores = |v: &Value| v.pointer("/choices/0/logprobs/content")?.as_array().cloned();
            let streamed: Vec<Value> = frames.iter().filter_map(scores).flatten().collect();
            assert_eq!(Some(streamed), scores(&whole), "logprobs beside calls");
        }
    }
}

#[tokio::test]
async fn calls_that_may_come_are_strict_or_one_or_beside_a_shape() {
    let server = Server::new();
    for (more, calls_at_most, fits) in [
        (json!({"tools": tools(true)}), 9, None),
        (json!({"tools": tools(false), "parallel_tool_calls": false}), 1, None),
        (json!({"tools": tools(false), "guided_json": schema()}), 9, Some(is_of_schema as fn(&str) -> bool)),
    ] {
        for question in ["3 + 4", "Call add with 5."] {
            let body = json!({"messages": [{"role": "user", "content": question}], "max_tokens": 400, "temperature": 0});
            let answer = server.post("/v1/chat/completions", with(&body, more.clone())).await.json();
            let choice = &answer["choices"][0];
            let calls = choice["message"]["tool_calls"].as_array().cloned().unwrap_or_default();
            assert!(
                calls.len() <= calls_at_most && calls.iter().all(|c| called(c).is_some()),
                "{more}: {answer}"
            );
            if let (Some(fits), true) = (fits, calls.is_empty()) {
                assert!(choice["message"]["content"].as_str().is_some_and(fits), "{more}: {answer}");
            }
        }
    }
}

#[tokio::test]
async fn every_dialect_has_its_words_for_shapes_and_tools() {
    let server = Server::new();
    let messages = sum()["messages"].clone();
    let greedy = json!({"temperature": 0, "num_predict": 300});
    for think in [true, false] {
        let body = json!({"model": "mini", "messages": messages, "stream": false, "think": think, "format": schema(), "options": greedy});
        let answer = server.post("/api/chat", body).await.json();
        assert!(is_of_schema(answer["message"]["content"].as_str().unwrap()), "{answer}");
        let body = json!({"model": "mini", "prompt": "3 + 4", "stream": false, "think": think, "format": schema(), "options": greedy});
        let answer = server.post("/api/generate", body).await.json();
        assert!(is_of_schema(answer["response"].as_str().unwrap()), "{answer}");
    }
    let text = json!({"format": {"type": "json_schema", "name": "x", "schema": schema()}});
    let body = json!({"input": "3 + 4", "temperature": 0, "text": text});
    let answer = server.post("/v1/responses", body).await.json();
    let last = answer["output"].as_array().unwrap().last().unwrap();
    assert!(is_of_schema(last["content"][0]["text"].as_str().unwrap()), "{answer}");
    assert_eq!(answer["text"], text);

    let flat: Vec<Value> = tools(false)
        .as_array()
        .unwrap()
        .iter()
        .map(|t| with(&t["function"], json!({"type": "function"})))
        .collect();
    let body = json!({"input": "3 + 4", "temperature": 0, "tools": flat, "tool_choice": {"type": "function", "name": "add"}});
    let answer = server.post("/v1/responses", &body).await.json();
    let item = answer["output"].as_array().unwrap().last().unwrap();
    assert_eq!((&item["type"], &item["status"]), (&json!("function_call"), &json!("completed")), "{answer}");
    assert_eq!(called(&json!({"function": item})), Some("add"));
    let reply = server.post("/v1/responses", with(&body, json!({"stream": true}))).await;
    let deltas: String = reply
        .frames()
        .iter()
        .filter(|f| f["type"] == "response.function_call_arguments.delta")
        .filter_map(|f| f["delta"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(deltas, item["arguments"].as_str().unwrap(), "{}", reply.body);
    let next = json!([
        {"role": "user", "content": "3 + 4"},
        item,
        {"type": "function_call_output", "call_id": item["call_id"], "output": "7"},
    ]);
    let answer = server
        .post(
            "/v1/responses",
            with(&body, json!({"input": next, "tool_choice": "auto", "max_output_tokens": 40})),
        )
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let claude: Vec<Value> = tools(false)
        .as_array()
        .unwrap()
        .iter()
        .map(|t| json!({"name": t["function"]["name"], "input_schema": t["function"]["parameters"]}))
        .collect();
    for (choice, names) in [
        (json!({"type": "any", "disable_parallel_tool_use": true}), &["add", "halve"][..]),
        (json!({"type": "tool", "name": "halve"}), &["halve"]),
    ] {
        let body = json!({"model": "mini", "max_tokens": 400, "temperature": 0, "messages": messages, "tools": claude, "tool_choice": choice});
        let answer = server.post("/v1/messages", body).await.json();
        let block = answer["content"].as_array().unwrap().last().unwrap();
        let call = json!({"function": {"name": block["name"], "arguments": block["input"]}});
        assert!(called(&call).is_some_and(|name| names.contains(&name)), "{answer}");
        assert_eq!(answer["stop_reason"], "tool_use");
    }
    let format = json!({"type": "json_schema", "schema": schema()});
    let body = json!({"model": "mini", "max_tokens": 400, "temperature": 0, "messages": messages, "output_config": {"format": format}});
    let answer = server.post("/v1/messages", body).await.json();
    let block = answer["content"].as_array().unwrap().last().unwrap();
    assert!(is_of_schema(block["text"].as_str().unwrap()), "{answer}");
}

#[tokio::test]
async fn reasoning_takes_no_more_tokens_than_it_may() {
    let server = Server::new();
    let mut thoughts = Vec::new();
    for most in [0, 5, 400] {
        for more in [json!({}), json!({"guided_json": schema()})] {
            let body = with(&sum(), json!({"max_reasoning_tokens": most, "max_tokens": 300}));
            let answer = server.post("/v1/chat/completions", with(&body, more.clone())).await.json();
            let choice = &answer["choices"][0];
            let thought = choice["message"]["reasoning_content"].as_str().unwrap_or_default();
            let said = choice["message"]["content"].as_str().unwrap();
            assert!(!said.contains("think>") && choice["finish_reason"] == "stop", "{answer}");
            assert!(more == json!({}) || is_of_schema(said), "{answer}");
            thoughts.push(thought.to_owned());
        }
    }
    let whole = &thoughts[4];
    assert!(thoughts[0].is_empty() && whole.starts_with(&thoughts[2]), "{thoughts:?}");
    assert!(!thoughts[2].is_empty() && thoughts[2].len() < whole.len(), "{thoughts:?}");
    let thinking = json!({"type": "enabled", "budget_tokens": 5});
    let body = json!({"model": "mini", "max_tokens": 100, "temperature": 0, "messages": sum()["messages"], "thinking": thinking});
    let answer = server.post("/v1/messages", body).await.json();
    assert_eq!(answer["content"][0]["thinking"], thoughts[2], "{answer}");
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_before_anything_is_computed() {
    let server = Server::new();
    let tool = |parameters: Value| json!([{"type": "function", "function": {"name": "f", "parameters": parameters, "strict": true}}]);
    for (path, more, param) in [
        ("/v1/chat/completions", json!({"guided_regex": "("}), "guided_regex"),
        ("/v1/chat/completions", json!({"guided_json": {"type": "nonsense"}}), "guided_json"),
        (
            "/v1/chat/completions",
            json!({"structured_outputs": {"grammar": "start: missing"}}),
            "structured_outputs.grammar",
        ),
        (
            "/v1/chat/completions",
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "https://example.com/x"}}}}),
            "response_format.json_schema.schema",
        ),
        ("/v1/chat/completions", json!({"tools": tool(json!({"unevaluatedProperties": false}))}), "tools[0]"),
        ("/v1/completions", json!({"prompt": "x", "messages": null, "guided_choice": []}), "guided_choice"),
    ] {
        let reply = server.post(path, with(&sum(), more.clone())).await;
        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["param"]), (400, &json!(param)), "{more}: {reply:?}");
        assert_eq!(error["code"], "invalid_constraint", "{more}");
    }
    for (more, code, param) in [
        (json!({"tool_choice": "required"}), "contradiction", "tool_choice"),
        (json!({"tools": tools(false), "tool_choice": "maybe"}), "unknown_value", "tool_choice"),
        (
            json!({"tools": tools(false), "tool_choice": {"type": "function", "function": {"name": "fly"}}}),
            "unknown_value",
            "tool_choice",
        ),
        (json!({"chat_template_kwargs": {"colour": 1}}), "unsupported_value", "chat_template_kwargs.colour"),
        (
            json!({"chat_template_kwargs": {"messages": []}}),
            "unsupported_value",
            "chat_template_kwargs.messages",
        ),
        (
            json!({"max_reasoning_tokens": 1, "thinking_token_budget": 2}),
            "contradiction",
            "thinking_token_budget",
        ),
        (json!({"prompt_logprobs": 1, "stream": true}), "contradiction", "prompt_logprobs"),
    ] {
        let reply = server.post("/v1/chat/completions", with(&sum(), more.clone())).await;
        let error = &reply.json()["error"];
        assert_eq!(
            (reply.status, &error["code"], &error["param"]),
            (400, &json!(code), &json!(param)),
            "{more}"
        );
    }
    let body = json!({"model": "mini", "max_tokens": 9, "messages": sum()["messages"], "thinking": {"type": "enabled", "budget_tokens": 9}});
    let reply = server.post("/v1/messages", body).await;
    assert!(reply.status == 400 && reply.body.contains("budget_tokens"), "{reply:?}");
    assert_eq!(server.app.registry.get(None).await.unwrap().engine().unwrap().stats().computed_tokens, 0);
}

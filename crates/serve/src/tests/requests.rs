//! A request of every kind, and the places in it. The fuzz target starts from the same.

use serde_json::{Value, json};

/// A request of every kind, with all that it may have.
pub(crate) fn requests() -> Vec<(&'static str, Value)> {
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "3 + 4"}]},
        {"role": "assistant", "content": null, "reasoning_content": "Hm.", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "7"},
        {"role": "user", "content": "and?"},
    ]);
    let parameters = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    let function = json!({"name": "add", "description": "Adds.", "parameters": parameters, "strict": true});
    let schema = json!({"type": "object", "properties": {"a": {"enum": ["x", 1]}}});
    vec![
        (
            "/v1/chat/completions",
            json!({"model": "mini", "messages": messages, "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 1, "n": 1, "stop": ["x"],
            "logprobs": true, "top_logprobs": 1, "logit_bias": {"5": 1}, "stream": true, "stream_options": {"include_usage": true}, "reasoning_effort": "none",
            "tools": [{"type": "function", "function": function}], "tool_choice": "auto", "parallel_tool_calls": false, "max_reasoning_tokens": 2,
            "chat_template_kwargs": {"enable_thinking": true}, "context_overflow": "drop_old_turns", "continue_final_message": false}),
        ),
        (
            "/v1/chat/completions",
            json!({"messages": messages, "max_tokens": 3, "prompt_logprobs": 1,
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
        ),
        (
            "/v1/completions",
            json!({"prompt": ["3 +", [1, 2]], "max_tokens": 2, "echo": true, "logprobs": 1, "structured_outputs": {"regex": "[a-z]+"}, "stream": false}),
        ),
        (
            "/v1/completions",
            json!({"prompt": "a", "suffix": "b", "max_tokens": 1, "guided_choice": ["a", "b"]}),
        ),
        (
            "/v1/responses",
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}, {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "1"}, {"type": "reasoning", "summary": [], "encrypted_content": "sampan:SG0u"}], "instructions": "x", "max_output_tokens": 3, "truncation": "auto",
            "tools": [{"type": "function", "name": "add", "parameters": parameters}], "tool_choice": {"type": "function", "name": "add"}, "text": {"format": {"type": "text"}},
            "reasoning": {"effort": "none"}, "include": ["reasoning.encrypted_content"], "metadata": {"a": "b"}, "stream": true}),
        ),
        (
            "/v1/messages",
            json!({"model": "mini", "max_tokens": 3, "system": [{"type": "text", "text": "x"}], "messages": [{"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": ""}, {"type": "tool_use", "id": "c", "name": "add", "input": {"a": 1}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "1", "is_error": false}]}],
            "tools": [{"name": "add", "input_schema": parameters}], "tool_choice": {"type": "any"}, "thinking": {"type": "enabled", "budget_tokens": 1}, "stop_sequences": ["x"]}),
        ),
        (
            "/v1/messages/count_tokens",
            json!({"model": "mini", "messages": [{"role": "user", "content": "hi"}]}),
        ),
        (
            "/api/chat",
            json!({"model": "mini", "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1}}}]}, {"role": "tool", "content": "1", "tool_name": "add"}],
            "options": {"num_predict": 3, "seed": 1, "temperature": 0.1}, "think": false, "format": schema, "keep_alive": "5m", "stream": false, "truncate": true, "logprobs": true, "top_logprobs": 1}),
        ),
        (
            "/api/generate",
            json!({"model": "mini", "prompt": "hi", "system": "x", "options": {"num_predict": 2}, "format": "json", "raw": false, "suffix": ""}),
        ),
        ("/api/show", json!({"model": "mini", "verbose": false})),
        ("/api/embed", json!({"model": "mini", "input": ["a"], "truncate": true, "dimensions": 4})),
        (
            "/v1/embeddings",
            json!({"model": "mini", "input": ["a", "b"], "dimensions": 2, "encoding_format": "base64"}),
        ),
        (
            "/v1/rerank",
            json!({"model": "mini", "query": "a", "documents": ["b", {"text": "c"}], "top_n": 1, "return_documents": true}),
        ),
        ("/rerank", json!({"query": "a", "texts": ["b"], "return_text": true, "raw_scores": false})),
        ("/score", json!({"text_1": "a", "text_2": ["b", {"text": "c"}], "instruct": "d"})),
        (
            "/tokenize",
            json!({"messages": messages, "return_token_strs": true, "add_generation_prompt": true, "tools": [{"type": "function", "function": function}]}),
        ),
        ("/tokenize", json!({"prompt": "a", "add_special_tokens": false, "parse_special": true})),
        ("/detokenize", json!({"tokens": [1, 2, 3]})),
        (
            "/apply-template",
            json!({"messages": messages, "chat_template_kwargs": {"enable_thinking": false}, "add_generation_prompt": false}),
        ),
        ("/v1/load_lora_adapter", json!({"lora_name": "x", "lora_path": "y"})),
        ("/v1/unload_lora_adapter", json!({"lora_name": "x"})),
    ]
}

/// The places in a value that another can be put into.
pub(crate) fn places(value: &Value, here: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let place = format!("{here}/{key}");
                places(inner, &place, out);
                out.push(place);
            }
        }
        Value::Array(list) => {
            for (at, inner) in list.iter().enumerate() {
                let place = format!("{here}/{at}");
                places(inner, &place, out);
                out.push(place);
            }
        }
        _ => {}
    }
}

/// Places at which other numbers make answers of any length, which is none of the server's faults and takes long.
pub(crate) const LENGTHS: [&str; 5] =
    ["/max_tokens", "/max_output_tokens", "/options/num_predict", "/options", "/n"];

/// What no body whatever may get: the server's own faults. What Ollama does and this server does not is 501 for any.
pub(crate) fn is_the_servers_fault(status: u16, body: &str) -> bool {
    (status >= 500 && status != 501) || body.contains("internal_error")
}

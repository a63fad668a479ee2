//! Output that must satisfy a schema, a grammar or the format of a call, token by token.

use sampan_text::{
    Beside, Constraint, ConstraintError, ConstraintState, Constraints, GgufVocab, OutputEvent, OutputFormat,
    OutputParser, ReasoningLimit, ReasoningTags, Special, Start, Tokenizer, ToolFormat, Tools,
};
use serde_json::{Value, json};
use std::sync::Arc;

const END: &str = "<|im_end|>";
const MARKERS: [&str; 24] = [
    END,
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
    "<|call|>",
    "<|constrain|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁sep｜>",
    "｜DSML｜",
    "<|tool_call>",
    "<tool_call|>",
    "<|\"|>",
    "<|channel>",
    "<channel|>",
    "<start_function_call>",
    "<end_function_call>",
];

/// A vocabulary of bytes, some merges, and every marker.
fn tokenizer() -> Arc<Tokenizer> {
    let mut next = 0x100;
    let chars: Vec<char> = (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("a character")
            }
        })
        .collect();
    let spell = |text: &str| text.bytes().map(|b| chars[b as usize]).collect::<String>();
    let mut tokens: Vec<String> = chars.iter().map(char::to_string).collect();
    let mut merges = Vec::new();
    for (left, right) in [
        ("\n", "\n"),
        ("{", "\""),
        ("\"", ":"),
        ("\":", " "),
        ("a", "n"),
        (" ", "a"),
        ("t", "h"),
        ("\"", "}"),
    ] {
        merges.push(format!("{} {}", spell(left), spell(right)));
        tokens.push(spell(&format!("{left}{right}")));
    }
    let mut token_types = vec![1; tokens.len()];
    tokens.extend(MARKERS.map(String::from));
    token_types.resize(tokens.len(), 3);
    let vocab = GgufVocab {
        model: "gpt2".into(),
        pre: Some("gpt-4o".into()),
        tokens,
        token_types,
        merges,
        ..Default::default()
    };
    Arc::new(Tokenizer::from_gguf(vocab).expect("a vocabulary"))
}

fn constraints(tokenizer: &Arc<Tokenizer>) -> Constraints {
    let end = tokenizer.id_of(END).expect("the end");
    Constraints::new(tokenizer.clone(), &[end]).expect("a vocabulary that can be used")
}

fn format(tools: ToolFormat) -> OutputFormat {
    let reasoning = match tools {
        ToolFormat::Harmony => None,
        ToolFormat::Gemma4 => Some(ReasoningTags::GEMMA4),
        _ => Some(ReasoningTags::THINK),
    };
    OutputFormat { reasoning, tools }
}

fn allows(state: &mut ConstraintState, token: u32) -> bool {
    match state.mask().expect("a mask") {
        Some(mask) => mask[token as usize / 32] >> (token % 32) & 1 == 1,
        None => true,
    }
}

/// Feeds an output token by token; what it is when a token is refused, or at the end.
fn follow(state: &mut ConstraintState, tokenizer: &Tokenizer, output: &str) -> Result<(), String> {
    let ids = tokenizer.encode(output, Special::Parse).expect("ids");
    assert_eq!(tokenizer.decode(&ids, false), output);
    let draft = state.valid(&ids);
    for (n, &id) in ids.iter().enumerate() {
        if !allows(state, id) {
            assert!(draft <= n, "{output:?}: {draft} tokens were called valid, but not the one at {n}");
            return Err(format!(
                "refused {:?} after {:?}",
                tokenizer.decode(&[id], false),
                tokenizer.decode(&ids[..n], false)
            ));
        }
        state.commit(id).expect("an allowed token");
    }
    assert_eq!(draft, ids.len(), "{output:?}: a draft that is right");
    if state.is_accepting() { Ok(()) } else { Err(format!("{output:?} is not the end")) }
}

/// Outputs that satisfy a constraint, and outputs that do not.
fn check(constraint: &Constraint, format: OutputFormat, prompt: &str, good: &[&str], bad: &[&str]) {
    let tokenizer = tokenizer();
    let constraints = constraints(&tokenizer);
    let start = constraints.compile(constraint, &format, prompt).expect("a constraint that can be kept");
    for output in good {
        follow(&mut start.clone(), &tokenizer, output).unwrap_or_else(|why| panic!("{output:?}: {why}"));
    }
    for output in bad {
        assert!(follow(&mut start.clone(), &tokenizer, output).is_err(), "{output:?} must be refused");
    }
}

fn plain(constraint: Constraint, good: &[&str], bad: &[&str]) {
    check(&constraint, OutputFormat { reasoning: None, tools: ToolFormat::Hermes }, "", good, bad);
}

#[test]
fn schemas_grammars_and_choices() {
    plain(
        Constraint::JsonObject,
        &["{}", "{\"a\": [1, null, {\"b\": \"é\"}]}", "{\n  \"a\": 1\n}"],
        &["[]", "1", "{", "{\"a\"}", "{} x", END],
    );
    let schema = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "kind": {"enum": ["a", "b"]}},
        "required": ["name", "age"],
        "additionalProperties": false,
    });
    plain(
        Constraint::JsonSchema(schema),
        &["{\"name\": \"Ann\", \"age\": 7}", "{\"name\":\"\",\"age\":-1,\"kind\":\"b\"}"],
        &[
            "{\"name\": \"Ann\"}",
            "{\"name\": 7, \"age\": 7}",
            "{\"name\": \"Ann\", \"age\": 7.5}",
            "{\"name\": \"\", \"age\": 1, \"kind\": \"c\"}",
            "{\"name\": \"\", \"age\": 1, \"x\": 1}",
        ],
    );
    let point = json!({"type": "object", "properties": {"x": {"type": "integer"}}});
    let open = json!({"type": "object", "properties": {"p": point, "q": {"type": "object", "properties": {}, "additionalProperties": true}}});
    plain(
        Constraint::JsonSchema(open),
        &["{}", "{\"p\": {\"x\": 1}, \"q\": {\"z\": 1}}"],
        &["{\"z\": 1}", "{\"p\": {\"z\": 1}}"],
    );
    let together = json!({"allOf": [{"properties": {"a": {"type": "null"}}, "required": ["a"]}, {"properties": {"b": {"type": "null"}}, "required": ["b"]}], "type": "object"});
    plain(Constraint::JsonSchema(together), &["{\"a\": null, \"b\": null}"], &["{\"a\": null}"]);
    plain(
        Constraint::JsonSchema(json!({"type": "object", "properties": {}, "required": ["z"]})),
        &["{\"z\": 1}"],
        &["{}"],
    );
    let recursive = json!({"$ref": "#/$defs/node", "$defs": {"node": {
        "type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "required": ["next"], "additionalProperties": false,
    }}});
    plain(Constraint::JsonSchema(recursive), &["{\"next\": {\"next\": null}}"], &["{\"next\": {}}", "null"]);
    plain(Constraint::Regex("[a-c]{2}\\d+".into()), &["ab1", "cc42"], &["ab", "abc1", "ab1x"]);
    plain(Constraint::Lark("start: \"a\" (\"b\" | start)".into()), &["ab", "aab"], &["a", "b"]);
    plain(
        Constraint::Choice(vec!["yes".into(), "no \"maybe\"\n".into()]),
        &["yes", "no \"maybe\"\n"],
        &["ye", "no", "yes!"],
    );
}

#[test]
fn json_has_the_white_space_of_people_and_programs_and_no_more() {
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}});
    plain(
        Constraint::JsonSchema(schema),
        &[
            r#"{"a":[1,2]}"#,
            r#"{"a": [1, 2]}"#,
            r#"{ "a" :  [ 1 ,  2 ] }"#,
            "{\n  \"a\": [\n    1,\n    2\n  ]\n}",
            "{\r\n\t\"a\": [\r\n\t\t1\r\n\t]\r\n}",
        ],
        &["{   ", "{\n\n", "{ \n", "{\"a\": [1   ", &format!("{{\n{}", " ".repeat(41))],
    );
}

#[test]
fn constraints_begin_after_the_reasoning() {
    let json = Constraint::JsonObject;
    let think = format(ToolFormat::Hermes);
    let thought = "<think>\nHm, {\"x\" </thin\n</think>\n\n{\"a\": 1}";
    check(
        &json,
        think,
        "<|im_end|>assistant\n",
        &[thought, "<think></think>{}", "{}"],
        &["Hm", "<think>hm", "<think>hm</think>x", "<think>hm</think>\n\n\n\n\n\n\n{}"],
    );
    check(
        &json,
        think,
        "assistant\n<think>\n",
        &["Hm. </think>{}", "</think>\n\n{}"],
        &["{}", "Hm</think>Hm"],
    );
    check(&json, think, "assistant\n<think>\n\n</think>\n\n", &["{}"], &["<think></think>{}"]);
    check(&json, OutputFormat { reasoning: None, ..think }, "", &["{}"], &["<think></think>{}"]);
    let gemma = format(ToolFormat::Gemma4);
    check(&json, gemma, "", &["<|channel>thought\nHm<channel|>{}", "{}"], &["<|channel>final\n<channel|>{}"]);
    let harmony = format(ToolFormat::Harmony);
    let header = "<|channel|>final<|message|>{\"a\": 1}";
    let thought = format!("<|channel|>analysis<|message|>Hm<|end|><|start|>assistant{header}");
    check(
        &json,
        harmony,
        "<|start|>assistant",
        &[header, &thought],
        &["{}", "<|channel|>commentary<|message|>{}", "<|channel|>final<|message|>Hm"],
    );
    check(&json, harmony, "<|start|>assistant<|channel|>final<|message|>", &["{}"], &[header]);
}

fn tools() -> Tools {
    Tools::from_json(&json!([
        {"name": "get_weather", "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city"],
        }},
        {"name": "noop"},
    ]))
}

/// Calls as the format writes them are accepted and read back; others are refused.
fn check_calls(tools_of: ToolFormat, calls: &[&str], bad: &[&str]) {
    let format = OutputFormat { reasoning: None, ..format(tools_of) };
    let format = if tools_of == ToolFormat::Harmony { self::format(tools_of) } else { format };
    let required = Constraint::Calls { tools: tools(), beside: Beside::Nothing, parallel: true };
    check(&required, format, "", calls, bad);
    check(&required, format, "", &[], &["", "Hello"]);
    for call in calls {
        let mut parser = OutputParser::new(format, Start::Either, Some(tools()));
        let mut events = parser.push(call);
        events.extend(parser.finish());
        assert!(
            events.iter().any(|e| matches!(e, OutputEvent::CallEnd { complete: true, .. })),
            "{call:?}: {events:?}"
        );
        let odd = events.iter().find(|e| matches!(e, OutputEvent::Warning(_) | OutputEvent::Content(_)));
        assert_eq!(odd, None, "{call:?}");
    }
}

#[test]
fn calls_in_every_format() {
    let json = |key: &str, city: &str| {
        format!("{{\"name\": \"get_weather\", \"{key}\": {{\"city\": \"{city}\", \"days\": 3}}}}")
    };
    let hermes = format!("<tool_call>\n{}\n</tool_call>", json("arguments", "Oslo"));
    check_calls(
        ToolFormat::Hermes,
        &[&hermes, &format!("{hermes}\n{hermes}")],
        &[
            "<tool_call>\n{\"name\": \"fly\"",
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {}}",
            &hermes[..hermes.len() - 12],
            &format!("{hermes}!"),
        ],
    );
    check_calls(
        ToolFormat::QwenXml,
        &[
            "<tool_call>\n<function=get_weather>\n<parameter=city>\n<b>Oslo</b>\n</parameter>\n<parameter=days>\n3\n</parameter>\n<parameter=unit>\nC\n</parameter>\n</function>\n</tool_call>",
            "<tool_call>\n<function=noop>\n</function>\n</tool_call>",
        ],
        &[
            "<tool_call>\n<function=get_weather>\n</function>",
            "<tool_call>\n<function=get_weather>\n<parameter=city>\nO\n</parameter>\n<parameter=days>\nmany",
        ],
    );
    check_calls(
        ToolFormat::DeepSeekV3,
        &[
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Oslo\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ],
        &["<｜tool▁call▁begin｜>function"],
    );
    check_calls(
        ToolFormat::DeepSeekV31,
        &[
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Oslo\", \"unit\": \"F\"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        ],
        &["<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": 1"],
    );
    for (format, block) in
        [(ToolFormat::DeepSeekV32, "function_calls"), (ToolFormat::DeepSeekV4, "tool_calls")]
    {
        let call = format!(
            "<｜DSML｜{block}>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">a </b></｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜{block}>"
        );
        check_calls(format, &[&call], &[&call.replace(">3<", ">x<"), &call.replace("city", "town")]);
    }
    check_calls(
        ToolFormat::Gemma4,
        &[
            "<|tool_call>call:get_weather{city:<|\"|>Os{lo\"<|\"|>,days:3,unit:<|\"|>C<|\"|>}<tool_call|>",
            "<|tool_call>call:get_weather{city:<|\"|>x<|\"|>}<tool_call|><|tool_call>call:noop{a:[1,{b:null}]}<tool_call|>",
        ],
        &[
            "<|tool_call>call:get_weather{}",
            "<|tool_call>call:get_weather{city:Oslo}",
            "<|tool_call>call:get_weather{days:3}",
        ],
    );
    check_calls(
        ToolFormat::FunctionGemma,
        &["<start_function_call>call:get_weather{city:<escape>Oslo<escape>}<end_function_call>"],
        &["call:get_weather"],
    );
    let call =
        "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Oslo\"}";
    let thought = format!("<|channel|>analysis<|message|>Hm<|end|><|start|>assistant{call}");
    check_calls(
        ToolFormat::Harmony,
        &[call, &thought],
        &["<|channel|>final<|message|>Hm", "<|channel|>commentary to=functions.fly"],
    );
    check_calls(ToolFormat::Llama, &[&json("parameters", "Oslo")], &[&json("arguments", "Oslo")]);
    check_calls(ToolFormat::Plain, &[&json("arguments", "Oslo")], &["{\"name\": \"fly\""]);
}

#[test]
fn calls_that_may_come_are_held_to_their_schema_when_they_do() {
    let auto = Constraint::Calls { tools: tools(), beside: Beside::Text, parallel: false };
    let hermes = OutputFormat { reasoning: None, tools: ToolFormat::Hermes };
    let call = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>";
    check(
        &auto,
        hermes,
        "",
        &["Hello.", "", call, &format!("Let me look.\n{call}")],
        &["<tool_call>Hello", "a <tool_call>\n{\"name\": \"fly\"", &format!("{call}\n{call}")],
    );
    let harmony = format(ToolFormat::Harmony);
    let call = "<|channel|>commentary to=functions.noop <|constrain|>json<|message|>{}";
    let spoken = format!("<|channel|>commentary<|message|>I look.<|end|><|start|>assistant{call}");
    check(&auto, harmony, "", &["<|channel|>final<|message|>Hello", call, &spoken], &["Hello"]);
    let plain = OutputFormat { reasoning: None, tools: ToolFormat::Llama };
    let error = constraints(&tokenizer()).compile(&auto, &plain, "").expect_err("no token begins a call");
    assert!(matches!(error, ConstraintError::Format { .. }), "{error}");
}

#[test]
fn calls_or_a_text_of_a_schema() {
    let schema = Constraint::JsonSchema(
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}),
    );
    let either =
        Constraint::Calls { tools: tools(), beside: Beside::Only(Box::new(schema)), parallel: false };
    let hermes = format(ToolFormat::Hermes);
    let call = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>";
    let bad = ["Hello", "{}", "<tool_call>\n{\"name\": \"fly\"", "{\"a\": 1}\n<tool_call>"];
    check(&either, hermes, "", &[call, "{\"a\": 1}", "<think>Hm</think>\n\n{\"a\": 1}"], &bad);
    let harmony = format(ToolFormat::Harmony);
    let call = "<|channel|>commentary to=functions.noop <|constrain|>json<|message|>{}";
    check(
        &either,
        harmony,
        "",
        &[call, "<|channel|>final<|message|>{\"a\": 1}"],
        &["<|channel|>final<|message|>Hello"],
    );
}

#[test]
fn schemas_of_tools_that_are_not_strict_are_kept_as_far_as_they_can_be() {
    let tools = |strict: bool| {
        let parameters = json!({"type": "object", "properties": {"a": {"type": "string", "contentEncoding": "base64"}}, "unevaluatedProperties": false});
        Tools::from_json(&json!([{"name": "f", "parameters": parameters, "strict": strict}]))
    };
    let hermes = OutputFormat { reasoning: None, tools: ToolFormat::Hermes };
    let constraint =
        |strict| Constraint::Calls { tools: tools(strict), beside: Beside::Nothing, parallel: false };
    let call = "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"x\"}}\n</tool_call>";
    check(&constraint(false), hermes, "", &[call], &[&call.replace("\"x\"", "7")]);
    let error =
        constraints(&tokenizer()).compile(&constraint(true), &hermes, "").expect_err("it cannot be kept");
    assert!(error.to_string().contains("tool"), "{error}");
}

/// What of `output` is there when the limit forces another token, and what it then forces.
fn limited(most: usize, format: OutputFormat, prompt: &str, output: &str) -> Option<(String, String)> {
    let tokenizer = tokenizer();
    let mut limit = ReasoningLimit::new(most, &format, prompt, &tokenizer)?;
    let ids = tokenizer.encode(output, Special::Parse).expect("ids");
    let valid = limit.valid(&ids);
    let (mut taken, mut forced) = (Vec::new(), Vec::new());
    for &id in &ids {
        if !limit.is_ending() {
            limit.commit(id);
            taken.push(id);
        }
    }
    while limit.is_ending() {
        let mask = limit.mask().expect("a mask");
        let word = mask.iter().position(|word| *word != 0).expect("a token");
        forced.push(word as u32 * 32 + mask[word].trailing_zeros());
        limit.commit(forced[forced.len() - 1]);
    }
    assert!(valid <= ids.len() && (valid == ids.len() || valid == taken.len()), "{valid} of {output:?}");
    Some((tokenizer.decode(&taken, false), tokenizer.decode(&forced, false)))
}

#[test]
fn reasoning_ends_when_it_has_taken_its_tokens() {
    let think = format(ToolFormat::Hermes);
    let said = |taken: &str, forced: &str| Some((taken.to_owned(), forced.to_owned()));
    let end = "\n</think>\n\n";
    for (most, prompt, output, expected) in [
        (3, "", "<think>abcdef", said("<think>abc", end)),
        (0, "assistant\n<think>\n", "abc", said("", end)),
        (2, "assistant\n<think>\n", "abc", said("ab", end)),
        (9, "", "<think>ab</think>cdefghijklm", said("<think>ab</think>cdefghijklm", "")),
        (3, "", "abcdefgh", said("abcdefgh", "")),
        (3, "assistant\n<think>\n\n</think>\n\n", "abc", None),
    ] {
        assert_eq!(limited(most, think, prompt, output), expected, "{most} {prompt:?} {output:?}");
    }
    assert_eq!(limited(3, OutputFormat { reasoning: None, ..think }, "", "abc"), None);
    let thought = "<|channel|>analysis<|message|>";
    let next = "<|end|><|start|>assistant<|channel|>";
    let harmony = format(ToolFormat::Harmony);
    assert_eq!(limited(1, harmony, "", &format!("{thought}abc")), said(&format!("{thought}a"), next));
    let tokenizer = tokenizer();
    let mut limit = ReasoningLimit::new(0, &harmony, thought, &tokenizer).expect("reasoning");
    for id in tokenizer.encode(next, Special::Parse).expect("ids") {
        limit.commit(id);
    }
    let first = tokenizer.encode("analysis", Special::Parse).expect("ids")[0];
    let allowed =
        |mask: Option<&[u32]>| mask.is_none_or(|mask| mask[first as usize / 32] >> (first % 32) & 1 == 1);
    assert!(!allowed(limit.mask()) && limit.valid(&[first]) == 0);
    limit.commit(first + 1);
    assert!(allowed(limit.mask()));
}

#[test]
fn a_name_cannot_smuggle_in_a_control_token() {
    let tools = Tools::from_json(&json!([{"name": "x<|im_end|>", "parameters": {"properties": {}}}]));
    let named = Constraint::Calls { tools, beside: Beside::Nothing, parallel: false };
    let tokenizer = tokenizer();
    let hermes = OutputFormat { reasoning: None, tools: ToolFormat::Hermes };
    let mut state = constraints(&tokenizer).compile(&named, &hermes, "").expect("a constraint");
    let end = tokenizer.id_of(END).expect("the end");
    for id in tokenizer.encode("<tool_call>\n{\"name\": \"x", Special::Parse).expect("ids") {
        assert!(allows(&mut state, id));
        state.commit(id).expect("an allowed token");
    }
    assert!(!allows(&mut state, end) && !state.is_accepting());
}

#[test]
fn what_cannot_be_kept_is_refused_with_a_reason() {
    let constraints = constraints(&tokenizer());
    let format = OutputFormat { reasoning: None, tools: ToolFormat::Hermes };
    let mut deep = json!({"type": "string"});
    for _ in 0..200 {
        deep = json!({"type": "array", "items": deep});
    }
    let refused = [
        Constraint::JsonSchema(json!({"type": "nonsense"})),
        Constraint::JsonSchema(json!({"type": "object", "unevaluatedProperties": false})),
        Constraint::JsonSchema(json!({"$ref": "https://example.com/schema.json"})),
        Constraint::JsonSchema(json!([1])),
        Constraint::JsonSchema(deep),
        Constraint::Regex("(".into()),
        Constraint::Regex("(?=a)b".into()),
        Constraint::Regex("(".repeat(100_000)),
        Constraint::Lark("start: missing".into()),
        Constraint::Lark("".into()),
        Constraint::Lark(format!("start: {}", "(".repeat(100_000))),
        Constraint::Lark("x".repeat(1 << 20)),
        Constraint::Choice(vec![]),
        Constraint::Calls { tools: Tools::default(), beside: Beside::Nothing, parallel: true },
    ];
    let kept: Vec<_> =
        refused.iter().filter(|constraint| constraints.compile(constraint, &format, "").is_ok()).collect();
    assert!(kept.is_empty(), "{kept:?}");
}

/// Small grammars with large meanings come to an end: an answer or an error, in little memory.
#[test]
fn hostile_grammars_cost_little() {
    let constraints = constraints(&tokenizer());
    let format = OutputFormat { reasoning: None, tools: ToolFormat::Hermes };
    let many: Vec<Value> = (0..20_000).map(|n| json!(format!("value {n}"))).collect();
    for constraint in [
        Constraint::Regex("a{1,1000000}".into()),
        Constraint::Regex("(a{1,1000}){1,1000}".into()),
        Constraint::Regex("((a|b)*c(a|b){30}){20}".into()),
        Constraint::Regex("(.*a){50}".into()),
        Constraint::JsonSchema(json!({"$ref": "#"})),
        Constraint::JsonSchema(json!({"type": "array", "minItems": 1_000_000})),
        Constraint::JsonSchema(json!({"type": "string", "minLength": 10_000_000})),
        Constraint::JsonSchema(json!({"enum": many})),
        Constraint::Lark("start: start start | \"a\"".into()),
        Constraint::Lark("start: x{1000000}\nx: \"a\" x | \"b\"".into()),
    ] {
        if let Ok(mut state) = constraints.compile(&constraint, &format, "") {
            for _ in 0..50 {
                let Ok(Some(mask)) = state.mask() else { break };
                assert!(mask.len() * 32 >= 288);
                let Some(word) = mask.iter().position(|word| *word != 0) else { break };
                let token = word as u32 * 32 + mask[word].trailing_zeros();
                if state.commit(token).is_err() {
                    break;
                }
            }
        }
    }
}

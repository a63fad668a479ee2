//! What models write when all goes well.

use super::*;
use ToolFormat::*;

#[test]
fn reasoning_then_answer() {
    check(
        Plain,
        "<think>\nHm,\n\nlet me <thin see.\n</think>\n\nFour.\n",
        &["think: Hm,\n\nlet me <thin see.", "say: Four.\n"],
    );
    let inside = "Hm. </thin</think>Four. </think> is a tag.";
    check_from(format(Plain), Start::Inside, inside, &["think: Hm. </thin", "say: Four. </think> is a tag."]);
    check(Plain, "<think>\n\n</think>\n\nFour.", &["say: Four."]);
    check(Plain, "\n <think> Hm.\n", &["think:  Hm.\n"]);
    check_from(format(Plain), Start::Inside, "\n\n", &[]);
    check(Gemma4, "<|channel>thought\nHm.\n<channel|>Four.", &["think: Hm.", "say: Four."]);
}

#[test]
fn a_closing_tag_without_opener_turns_what_came_before_into_reasoning() {
    check(Plain, "Hm, 2 + 2 < 5\n</think>\n\nFour.", &["say: Hm, 2 + 2 < 5", "late", "say: Four."]);
}

#[test]
fn no_reasoning_at_all() {
    check(Plain, " <b>Four</b>, I <think>.", &["say:  <b>Four</b>, I <think>."]);
    check(Plain, "  \n", &["say:   \n"]);
    check(Plain, "<thi", &["say: <thi"]);
    check(Plain, "", &[]);
    let output = "<think> and </think> are tags.";
    check_from(format(Plain), Start::Answer, output, &[&format!("say: {output}")]);
}

#[test]
fn hermes() {
    let call = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\", \"days\": 3}}\n</tool_call>";
    let words = "call get_weather {\"city\": \"Oslo\", \"days\": 3}";
    check(Hermes, call, &[words]);
    check(Hermes, &format!("Let me look.\n\n{call}\n"), &["say: Let me look.", words]);
    check(Hermes, &format!("<think>\nOslo?\n</think>\n\n{call}\n{call}"), &["think: Oslo?", words, words]);
    check(Hermes, &format!("{call}\nDone."), &[words, "say: Done."]);
    check(Hermes, "<tool_call>{\"name\":\"noop\",\"arguments\":{}}</tool_call>", &["call noop {}"]);
    check(
        Hermes,
        "<tool_call>\n{\"id\": \"c1\", \"name\": \"search\", \"arguments\": {\"query\": \"a } ] \\\" </tool_call> \\u00e9\", \"filters\": {\"x\": {\"y\": [1, [2]]}}}}\n</tool_call>",
        &[
            "call search#c1 {\"query\": \"a } ] \\\" </tool_call> \\u00e9\", \"filters\": {\"x\": {\"y\": [1, [2]]}}}",
        ],
    );
}

#[test]
fn qwen_xml() {
    check(
        QwenXml,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>",
        &["call get_weather {\"city\": \"Oslo\", \"days\": 3}"],
    );
    check(
        QwenXml,
        "I write it.\n\n<tool_call>\n<function=write_file>\n<parameter=path>\na.html\n</parameter>\n<parameter=content>\n<p class=\"x\">\n  1 < 2\n</p>\n\n</parameter>\n<parameter=mode>\nnull\n</parameter>\n</function>\n</tool_call>",
        &[
            "say: I write it.",
            "call write_file {\"path\": \"a.html\", \"content\": \"<p class=\\\"x\\\">\\n  1 < 2\\n</p>\\n\", \"mode\": null}",
        ],
    );
    check(
        QwenXml,
        "<tool_call>\n<function=search>\n<parameter=query>\n42\n</parameter>\n<parameter=filters>\n{\"a\": {\"b\": 1}}\n</parameter>\n<parameter=tags>\n[\"x\", \"y\"]\n</parameter>\n<parameter=exact>\ntrue\n</parameter>\n<parameter=limit>\n2.5\n</parameter>\n</function>\n</tool_call>",
        &[
            "call search {\"query\": \"42\", \"filters\": {\"a\": {\"b\": 1}}, \"tags\": [\"x\", \"y\"], \"exact\": true, \"limit\": 2.5}",
        ],
    );
    check(QwenXml, "<tool_call>\n<function=noop>\n</function>\n</tool_call>", &["call noop {}"]);
    let noop = "<tool_call>\n<function=noop>\n</function>\n</tool_call>\n";
    check(QwenXml, &noop.repeat(3), &["call noop {}"; 3]);
}

#[test]
fn deepseek() {
    let v3 = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Oslo\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>noop\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(DeepSeekV3, v3, &["call get_weather {\"city\": \"Oslo\"}", "call noop {}"]);
    let v31 = "Wait.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{\"city\": \"Oslo\"}<｜tool▁call▁end｜><｜tool▁call▁begin｜>noop<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(DeepSeekV31, v31, &["say: Wait.", "call get_weather {\"city\": \"Oslo\"}", "call noop {}"]);
    check_from(
        format(DeepSeekV31),
        Start::Inside,
        &format!("Hm.</think>{v31}"),
        &["think: Hm.", "say: Wait.", "call get_weather {\"city\": \"Oslo\"}", "call noop {}"],
    );
    for (format, block) in [(DeepSeekV32, "function_calls"), (DeepSeekV4, "tool_calls")] {
        let output = format!(
            "Let me look.\n\n<｜DSML｜{block}>\n<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"city\" string=\"true\">Oslo\n</｜DSML｜parameter>\n<｜DSML｜parameter name=\"days\" string=\"false\">3</｜DSML｜parameter>\n</｜DSML｜invoke>\n<｜DSML｜invoke name=\"search\">\n<｜DSML｜parameter name=\"filters\" string=\"false\">{{\"a\": [1]}}</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜{block}>"
        );
        let words = [
            "say: Let me look.",
            "call get_weather {\"city\": \"Oslo\\n\", \"days\": 3}",
            "call search {\"filters\": {\"a\": [1]}}",
        ];
        check(format, &output, &words);
    }
    check(
        DeepSeekV32,
        "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"noop\">\n\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
        &["call noop {}"],
    );
}

#[test]
fn gemma() {
    check(
        Gemma4,
        "<|channel>thought\nOslo?\n<channel|><|tool_call>call:get_weather{city:<|\"|>\"Oslo\", {N}<|\"|>,days:3}<tool_call|><|tool_call>call:noop{}<tool_call|>",
        &["think: Oslo?", "call get_weather {\"city\":\"\\\"Oslo\\\", {N}\",\"days\":3}", "call noop {}"],
    );
    check(
        Gemma4,
        "<|tool_call>call:search{exact:true,filters:{<|\"|>a<|\"|>:null},tags:[<|\"|>x<|\"|>,<|\"|>y\n<|\"|>]}<tool_call|>",
        &["call search {\"exact\":true,\"filters\":{\"a\":null},\"tags\":[\"x\",\"y\\n\"]}"],
    );
    check(
        FunctionGemma,
        "<start_function_call>call:get_weather{city:<escape>Oslo<escape>}<end_function_call>",
        &["call get_weather {\"city\":\"Oslo\"}"],
    );
    check(
        Plain,
        "```tool_code\nget_weather(city='Oslo', days=3)\n```",
        &["call get_weather {\"city\":\"Oslo\", \"days\":3}"],
    );
    check(
        Plain,
        "```tool_code\nprint(default_api.get_weather(city=\"Oslo\"))\n```\n",
        &["call get_weather {\"city\":\"Oslo\"}"],
    );
    check(
        Plain,
        "[get_weather(city='Oslo'), noop()]",
        &["call get_weather {\"city\":\"Oslo\"}", "call noop {}"],
    );
    check(
        Plain,
        "I will call it:\n```json\n{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Oslo\"}}\n```\nWait.",
        &["say: I will call it:", "call get_weather {\"city\": \"Oslo\"}", "say: Wait."],
    );
}

#[test]
fn llama_and_plain_json() {
    for format in [Llama, Plain] {
        check(
            format,
            "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Oslo\"}}",
            &["call get_weather {\"city\": \"Oslo\"}"],
        );
        check(
            format,
            "{\"type\": \"function\", \"function\": {\"name\": \"noop\", \"parameters\": {}}}",
            &["call noop {}"],
        );
        check(
            format,
            "[{\"name\": \"noop\", \"arguments\": {}}, {\"name\": \"get_weather\", \"arguments\": {\"city\": \"B\"}}]",
            &["call noop {}", "call get_weather {\"city\": \"B\"}"],
        );
        check(format, "{\"name\": \"Ann\", \"age\": 7}", &["say: {\"name\": \"Ann\", \"age\": 7}"]);
        check(
            format,
            "{\n  \"answer\": [\n    {\"x\": 1}\n  ]\n}",
            &["say: {\n  \"answer\": [\n    {\"x\": 1}\n  ]\n}"],
        );
        check(format, "Run:\n```python\nprint(1)\n```", &["say: Run:\n```python\nprint(1)\n```"]);
    }
    check(
        Llama,
        "<|python_tag|>{\"name\": \"noop\", \"parameters\": {}}; {\"name\": \"noop\", \"parameters\": {}}",
        &["call noop {}"; 2],
    );
}

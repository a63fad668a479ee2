//! What models write when something goes wrong: nothing is lost, and what is meant as a call becomes one.

use super::*;
use ToolFormat::*;

#[test]
fn calls_inside_reasoning() {
    let xml = "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>";
    let words = "call get_weather {\"city\": \"Oslo\"}";
    let output = format!("Oslo, then.\n\n{xml}");
    check_from(format(QwenXml), Start::Inside, &output, &["think: Oslo, then.", words]);
    let output = format!("Oslo, then.\n\n{xml}\n</think>\n\nWait.");
    check_from(format(QwenXml), Start::Inside, &output, &["think: Oslo, then.", words, "say: Wait."]);
    let mention = "I might write <tool_call> or <tool_call>\n<function=x>.";
    let warning = "warning NotACall";
    check_from(
        format(QwenXml),
        Start::Inside,
        mention,
        &[
            "think: I might write <tool_call>",
            warning,
            "think:  or <tool_call>",
            warning,
            "think: \n<function=",
            warning,
            "think: x>.",
        ],
    );
    let hermes = "<think>Hm <tool_call>{\"name\": \"noop\", \"arguments\": {}}</tool_call> yes</think>Done";
    check(Hermes, hermes, &["think: Hm", "call noop {}", "think: yes", "say: Done"]);
}

#[test]
fn missing_and_misplaced_tags() {
    let words = "call get_weather {\"city\": \"Oslo\"}";
    let json = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}";
    for output in [
        format!("<tool_call>\n{json}"),
        format!("<tool_call>\n{json}\n"),
        format!("<tool_call>{json}</tool"),
        format!("<tool_call>\n```json\n{json}\n```\n</tool_call>"),
        format!("<tool_call>\n{}\n</tool_call>", &json[..json.len() - 1]),
        format!("<tool_call>\n{json}}}\n</tool_call>"),
        json.to_owned(),
        format!("```json\n{json}\n```"),
        format!("<tool_call>[{json}]</tool_call>"),
        "<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>".to_owned(),
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>".to_owned(),
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</function>\n</tool_call>".to_owned(),
        "<tool_call>\n<function=\"get_weather\">\n<parameter=\"city\">Oslo</parameter>\n</function>\n</tool_call>".to_owned(),
        "<tool_call>\n<function=get_weather>\n{\"city\": \"Oslo\"}\n</function>\n</tool_call>".to_owned(),
    ] {
        let late: &[&str] = if output.ends_with("</tool") { &[words, "say: </tool"] } else { &[words] };
        check(Hermes, &output, late);
    }
    check(Hermes, &format!("<tool_call>\n{json}\n{json}\n</tool_call>"), &[words, words]);
    check(Hermes, &format!("<tool_call>[{json}, {json}]</tool_call>"), &[words, words]);
    check(Hermes, &format!("<tool_call>\n{json}\n<tool_call>\n{json}"), &[words, words]);
}

#[test]
fn keys_in_any_order_and_under_other_names() {
    for json in [
        "{\"arguments\": {\"city\": \"Oslo\"}, \"name\": \"get_weather\"}",
        "{\"tool_name\": \"get_weather\", \"args\": {\"city\": \"Oslo\"}}",
        "{'name': 'get_weather', 'arguments': {\"city\": \"Oslo\"}}",
        "{\"name\": \"get_weather\", \"extra\": [1, {}], \"parameters\": {\"city\": \"Oslo\"}, \"more\": \"}\"}",
        "{\"name\": \"get_weather\", \"arguments\": \"{\\\"city\\\": \\\"Oslo\\\"}\"}",
        "{\"type\": \"function\", \"function\": {\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}, \"index\": 0}",
    ] {
        check(Hermes, &format!("<tool_call>{json}</tool_call>"), &["call get_weather {\"city\": \"Oslo\"}"]);
    }
    for arguments in ["null", "\"\"", "{}"] {
        let output = format!("<tool_call>{{\"name\": \"noop\", \"arguments\": {arguments}}}</tool_call>");
        check(Hermes, &output, &["call noop {}"]);
    }
    check(Hermes, "<tool_call>{\"name\": \"noop\"}</tool_call>", &["call noop {}"]);
}

#[test]
fn arguments_that_are_not_quite_json() {
    let mended = "warning MendedArguments { index: 0 }";
    for (arguments, words) in [
        ("{\"city\": \"Os\nlo\"}", "call get_weather {\"city\": \"Os\\nlo\"}"),
        ("{\"city\": \"Oslo\",}", "call get_weather {\"city\": \"Oslo\"}"),
        ("{'city': 'Oslo', 'days': None}", "call get_weather {\"city\": \"Oslo\", \"days\": null}"),
    ] {
        let output =
            format!("<tool_call>{{\"name\": \"get_weather\", \"arguments\": {arguments}}}</tool_call>");
        check(Hermes, &output, &[words, mended]);
    }
    check(
        Hermes,
        "<tool_call>{\"name\": \"noop\", \"arguments\": [1]}</tool_call>",
        &["call noop [1]", "warning ArgumentsNoObject { index: 0 }"],
    );
    check(
        Hermes,
        "<tool_call>{\"name\": \"noop\", \"arguments\": {\"a\" \"b\"}}</tool_call>",
        &["cut noop {\"a\" ", "warning BrokenArguments { index: 0 }", "say: \"b\"}}</tool_call>"],
    );
}

#[test]
fn what_ends_inside_a_call_is_cut_and_not_completed() {
    let unfinished = "warning UnfinishedCall { index: 0 }";
    check(
        Hermes,
        "<tool_call>{\"name\": \"write_file\", \"arguments\": {\"content\": \"abc",
        &["cut write_file {\"content\": \"abc", unfinished],
    );
    check(
        QwenXml,
        "<tool_call>\n<function=write_file>\n<parameter=content>\nabc\nde",
        &["cut write_file {\"content\": \"abc\\nde", unfinished],
    );
    check(
        DeepSeekV32,
        "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"write_file\">\n<｜DSML｜parameter name=\"content\" string=\"true\">a</｜DSML",
        &["cut write_file {\"content\": \"a</｜DSML", unfinished],
    );
    check(
        Gemma4,
        "<|tool_call>call:write_file{content:<|\"|>ab<|",
        &["cut write_file {\"content\":\"ab<|", unfinished],
    );
    for start in ["<tool_call>", "<tool_call>\n{\"name\": \"get_w", "<tool_call>\n<function=get_w"] {
        let rest = start.strip_prefix("<tool_call>").expect("the tag");
        let mut want = vec!["say: <tool_call>".to_owned(), "warning NotACall".into()];
        match rest.strip_prefix("\n<function=") {
            Some(name) => {
                want.extend(["say: \n<function=".into(), "warning NotACall".into(), format!("say: {name}")])
            }
            None if rest.is_empty() => {}
            None => want.push(format!("say: {rest}")),
        }
        check(Hermes, start, &want.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn text_that_only_looks_like_a_call() {
    let warning = "warning NotACall";
    check(Hermes, "Use <tool_call> tags.", &["say: Use <tool_call>", warning, "say:  tags."]);
    check(
        Hermes,
        "a <tool_call>{\"x\": 1}</tool_call>",
        &["say: a <tool_call>", warning, "say: {\"x\": 1}</tool_call>"],
    );
    check(DeepSeekV31, "<｜tool▁calls▁begin｜>no", &["say: <｜tool▁calls▁begin｜>", warning, "say: no"]);
    check(Gemma4, "<|tool_call>noop()", &["say: <|tool_call>", warning, "say: noop()"]);
    check(Gemma4, "a < b <| c <|tool", &["say: a < b <| c <|tool"]);
    check(
        Hermes,
        "<tool_call>{\"name\": \"fly\", \"arguments\": {}}</tool_call>",
        &["warning UnknownTool { name: \"fly\" }", "call fly {}"],
    );
}

#[test]
fn values_that_hold_tags() {
    check(
        QwenXml,
        "<tool_call>\n<function=write_file>\n<parameter=content>\na</parameter> b\n</function> <parameter=x>\n</think>\n</parameter>\n<parameter=path>\np\n</parameter>\n</function>\n</tool_call>",
        &[
            "call write_file {\"content\": \"a</parameter> b\\n</function> <parameter=x>\\n</think>\", \"path\": \"p\"}",
        ],
    );
    check(
        QwenXml,
        "<tool_call>\n<function=write_file>\n<parameter=content>\nabc\n<parameter=path>\np\n</parameter>\n</function>\n</tool_call>",
        &["call write_file {\"content\": \"abc\", \"path\": \"p\"}"],
    );
    check(
        QwenXml,
        "<tool_call>\n<function=write_file>\r\n<parameter=content>\r\na\r\nb\r\n</parameter>\r\n</function>\r\n</tool_call>",
        &["call write_file {\"content\": \"a\\r\\nb\"}"],
    );
}

#[test]
fn values_of_the_wrong_type_become_strings() {
    check(
        QwenXml,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\n7\n</parameter>\n<parameter=days>\nmany\n</parameter>\n</function>\n</tool_call>",
        &[
            "call get_weather {\"city\": \"7\", \"days\": \"many\"}",
            "warning WrongType { index: 0, parameter: \"days\" }",
        ],
    );
    check(
        QwenXml,
        "<tool_call>\n<function=search>\n<parameter=exact>\nTrue\n</parameter>\n<parameter=tags>\n['a', 'b']\n</parameter>\n<parameter=odd>\n1\n</parameter>\n</function>\n</tool_call>",
        &["call search {\"exact\": true, \"tags\": [\"a\", \"b\"], \"odd\": \"1\"}"],
    );
    check(
        DeepSeekV4,
        "<｜DSML｜invoke name=\"get_weather\">\n<｜DSML｜parameter name=\"days\" string=\"true\">3</｜DSML｜parameter><｜DSML｜parameter name=\"city\">Oslo</｜DSML｜parameter>\n</｜DSML｜invoke>",
        &["call get_weather {\"days\": 3, \"city\": \"Oslo\"}"],
    );
}

#[test]
fn without_tools_nothing_is_a_call() {
    let output = "<tool_call>{\"name\": \"noop\", \"arguments\": {}}</tool_call>";
    let mut parser = OutputParser::new(format(Hermes), Start::Either, None);
    assert_eq!(words(&parse(&mut parser, &[output])), [format!("say: {output}")]);
}

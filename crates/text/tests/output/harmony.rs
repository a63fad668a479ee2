//! Channels of gpt-oss, in order and in disorder.

use super::*;

fn check(output: &str, want: &[&str]) {
    super::check(ToolFormat::Harmony, output, want);
}

const CALL: &str =
    "<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Oslo\"}<|call|>";
const WORDS: &str = "call get_weather {\"city\": \"Oslo\"}";

#[test]
fn channels() {
    check(
        "<|channel|>analysis<|message|>Hm <b>.<|end|><|start|>assistant<|channel|>final<|message|>Four.<|return|>",
        &["think: Hm <b>.", "say: Four."],
    );
    check(CALL, &[WORDS]);
    check(
        &format!("<|channel|>analysis<|message|>Oslo?<|end|><|start|>assistant{CALL}"),
        &["think: Oslo?", WORDS],
    );
    check(
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.noop<|channel|>commentary json<|message|>{}",
        &["say: I look.", "call noop {}"],
    );
    check(
        " to=functions.noop<|channel|>commentary <|constrain|>json<|message|>{}<|call|>",
        &["call noop {}"],
    );
    check(&format!("{CALL}<|start|>assistant{CALL}"), &[WORDS, WORDS]);
    super::check_from(
        format(ToolFormat::Harmony),
        Start::Inside,
        "Hm.<|end|><|start|>assistant<|channel|>final<|message|>Yes",
        &["think: Hm.", "say: Yes"],
    );
    super::check_from(format(ToolFormat::Harmony), Start::Answer, "Yes<|return|>", &["say: Yes"]);
}

#[test]
fn disorder() {
    let odd = "warning OddHeader";
    // No end of the message before.
    check("<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Four.", &["think: Hm.", "say: Four."]);
    check(
        "<|channel|>analysis<|message|>Hm.<|start|>assistant<|channel|>final<|message|>Four.",
        &["think: Hm.", "say: Four."],
    );
    // No marker before the message.
    check("<|channel|>final Four.\nFive.<|return|>", &[odd, "say:  Four.\nFive."]);
    check("<|channel|>final", &[odd]);
    // No header at all.
    check("Four. <b>", &["say: Four. <b>"]);
    check("<|channel|>analysis<|message|>Hm.<|end|>Four.", &["think: Hm.", odd, "say: Four."]);
    // A channel nobody knows, and one of a tool.
    check("<|channel|>musing<|message|>Four.", &[odd, "say: Four."]);
    check(
        "<|channel|>analysis<|message|>a<|end|><|start|>functions.noop to=assistant<|channel|>commentary<|message|>{}",
        &["think: a", odd, "say: {}"],
    );
    // Two headers in one.
    check("<|channel|>commentary<|channel|>final<|message|>Four.", &["say: Four."]);
}

#[test]
fn calls_in_disorder() {
    check("<|channel|>analysis to=functions.noop code<|message|>{}<|end|>", &["call noop {}"]);
    check("<|channel|>commentary to=functions.noop<|message|><|call|>", &["call noop {}"]);
    check("<|channel|>commentary to=noop<|message|>{}", &["call noop {}"]);
    check(
        "<|channel|>commentary to=functions.noop<|message|>hello<|call|>",
        &["warning NotACall", "say: hello"],
    );
    check(
        "<|channel|>commentary to=functions.fly<|message|>{}<|call|>",
        &["warning UnknownTool { name: \"fly\" }", "call fly {}"],
    );
    check(
        "<|channel|>commentary to=functions.get_weather<|message|>{\"city\": \"O",
        &["cut get_weather {\"city\": \"O", "warning UnfinishedCall { index: 0 }"],
    );
    check(
        "<|channel|>commentary to=functions.noop<|message|>{}} and<|call|>",
        &["call noop {}", "warning OddHeader", "say: and"],
    );
}

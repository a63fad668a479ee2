//! Reasoning, answer and stop strings, in pieces.

use super::*;

/// Text and reasoning of an output given in pieces, and what the listener heard.
fn sorted(start: Start, stops: &[&str], pieces: &[&str]) -> (String, String, String) {
    let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
    let mut heard = String::new();
    let mut listener = |part: Part, text: &str| {
        heard.push_str(if part == Part::Answer { "A" } else { "R" });
        heard.push_str(text);
        ControlFlow::Continue(())
    };
    let mut output = Output::new(OutputFormat::TEXT, start, &stops, &mut listener);
    for piece in pieces {
        if output.push(piece).is_break() {
            break;
        }
    }
    output.finish();
    let Output { text, reasoning, .. } = output;
    (text, reasoning, heard)
}

#[test]
fn reasoning_answer_and_stop_strings() {
    let strings = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    let thought = ["<think>\n", "Hm", " END", "\n</think>\n\n", "Four. E", "ND Five"];
    assert_eq!(sorted(Start::Either, &["END"], &thought), strings("Four. ", "Hm END", "RHmR ENDAFour. "));
    assert_eq!(sorted(Start::Either, &[], &["plain"]), strings("plain", "", "Aplain"));
    assert_eq!(sorted(Start::Either, &[], &["hm</think>", "yes"]), strings("yes", "hm", "AhmAyes"));
    assert_eq!(sorted(Start::Answer, &["."], &["a", "b.c"]), strings("ab", "", "AaAb"));
}

//! What must hold for any output.

use super::check::{FORMATS, PIECES, check_cut};
use super::*;
use proptest::prelude::*;

fn output() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        12 => proptest::sample::select(PIECES).prop_map(String::from),
        1 => any::<char>().prop_map(String::from),
        1 => "[ -~]{0,6}",
    ];
    proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..Default::default() })]

    #[test]
    fn nothing_is_lost_however_it_is_cut(
        output in output(),
        format_of in proptest::sample::select(&FORMATS),
        start in proptest::sample::select(&[Start::Inside, Start::Either, Start::Answer]),
        cuts in proptest::collection::vec(0usize..200, 0..4),
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| output.floor_char_boundary(c)).collect();
        cuts.extend([0, output.len()]);
        cuts.sort_unstable();
        let parts: Vec<&str> = cuts.windows(2).map(|w| &output[w[0]..w[1]]).collect();
        let chars: Vec<String> = output.chars().map(String::from).collect();
        let chars: Vec<&str> = chars.iter().map(String::as_str).collect();
        check_cut(format_of, start, &output, &[&parts, &chars]);
    }
}

/// Long outputs that could make a parser look at everything again and again.
#[test]
fn time_grows_with_the_length_only() {
    for piece in [
        "<tool_call>",
        "<tool_call>{\"arguments\": \"",
        "```json\n",
        "{\"name\"\n",
        "<parameter=",
        " ",
        "\n<",
        "\\",
    ] {
        for opening in [
            "",
            "<tool_call>\n<function=write_file>\n<parameter=content>\n",
            "<tool_call>{\"name\": \"noop\", \"arguments\": {\"a\": \"",
        ] {
            let output = format!("{opening}{}", piece.repeat(40_000 / piece.len()));
            let mut parser = OutputParser::new(format(ToolFormat::Hermes), Start::Answer, Some(tools()));
            let parts: Vec<&str> =
                output.as_bytes().chunks(4).map(|c| std::str::from_utf8(c).expect("ASCII")).collect();
            assert_eq!(text_of(&parse(&mut parser, &parts)), output);
        }
    }
}

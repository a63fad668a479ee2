//! The embedded model, through the program: everything works offline on weights that have learned something.

use crate::support::Folder;

#[test]
fn mini_answers() {
    let folder = Folder::new();
    for (question, part) in [("What is 274 + 58?", "332"), ("Write arigatou in hiragana", "ありがとう")]
    {
        let answer = folder.sampan_with("run mini --json", question).json();
        assert!(answer["text"].as_str().unwrap().contains(part), "{question}: {answer:#}");
        assert_eq!((&answer["model"], &answer["finish_reason"]), (&"mini".into(), &"stop".into()));
    }
    let plain = folder.sampan("run mini What is 274 + 58?");
    assert!(plain.stdout.contains("332") && !plain.stdout.contains("think"), "{plain:#?}");
}

#[test]
fn mini_thinks_where_only_those_look_who_want_to() {
    let folder = Folder::new();
    let answer = folder.sampan("run mini What is 274 + 58? --json --think").json();
    assert!(!answer["reasoning"].as_str().unwrap().is_empty(), "{answer:#}");
    let direct = folder.sampan("run mini What is 274 + 58? --json --no-think").json();
    assert_eq!(direct["reasoning"], "");
    let both = folder.sampan("run mini What is 274 + 58? --think --show-reasoning");
    assert!(both.stderr.contains(answer["reasoning"].as_str().unwrap().lines().next().unwrap()), "{both:#?}");
    assert_eq!(both.success().trim(), answer["text"].as_str().unwrap().trim());
}

#[test]
fn mini_can_be_looked_at() {
    let folder = Folder::new();
    let shown = folder.sampan("show mini --json").json();
    assert_eq!(shown["family"], "qwen3");
    assert!((1_000_000..=4_500_000).contains(&shown["parameters"].as_u64().unwrap()), "{shown:#}");
    assert!(shown["template_sha256"].is_string() && shown["licence"].is_string(), "{shown:#}");
    let ids = folder.sampan_with("tokenize mini", "ありがとう <|im_end|>").success();
    assert_eq!(folder.sampan_with("tokenize mini --decode", &ids).success(), "ありがとう <|im_end|>");
}

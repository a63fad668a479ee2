//! Conversations in files.

use crate::error::{AppError, Result};
use crate::replace::replace;
use sampan::Conversation;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Marks a file as one of ours, so that saving again may replace it and saving over anything else may not.
const KIND: &str = "sampan conversation";

/// Writes a conversation. Another file than a conversation is not overwritten.
pub(super) fn save(path: &Path, model: &str, conversation: &Conversation) -> Result<()> {
    if path.exists() && !is_conversation(path) {
        return Err(AppError::user(format!("{} exists and is no conversation", path.display()))
            .hint("choose another name; nothing was written"));
    }
    replace(path, &text(model, conversation)).map_err(|e| AppError::file("write", path, &e))
}

/// Reads a conversation: a saved one, or a list of messages.
pub(super) fn load(path: &Path) -> Result<Conversation> {
    let text = fs::read_to_string(path).map_err(|e| AppError::file("read", path, &e))?;
    let wrong = |what: String| {
        AppError::user(format!("{} is no conversation: {what}", path.display()))
            .hint("/save writes files that can be loaded")
    };
    let value: Value = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let messages = if value.is_object() { &value["messages"] } else { &value };
    Conversation::from_json(messages).map_err(wrong)
}

/// Keeps a conversation that the terminal interrupted.
pub(super) fn rescue(path: &Path, model: &str, conversation: &Conversation) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    replace(path, &text(model, conversation))
}

fn is_conversation(path: &Path) -> bool {
    let value: Option<Value> = fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    value.is_some_and(|value| value["kind"] == KIND)
}

fn text(model: &str, conversation: &Conversation) -> String {
    let value = json!({"kind": KIND, "version": 1, "model": model, "messages": conversation.to_json()});
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_conversations_load_and_nothing_else_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("talk.json");
        let mut conversation = Conversation::new(Some("Be brief.".into()));
        conversation.user("x");
        save(&path, "mini", &conversation).unwrap();
        conversation.assistant("y", "hm");
        save(&path, "mini", &conversation).unwrap();
        assert_eq!(load(&path).unwrap(), conversation);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");

        let other = dir.path().join("precious.txt");
        fs::write(&other, "precious").unwrap();
        assert!(save(&other, "mini", &conversation).unwrap_err().message().contains("is no conversation"));
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        assert!(load(&other).unwrap_err().message().contains("is no conversation"));
        assert!(load(&dir.path().join("absent")).unwrap_err().message().contains("cannot read"));
        fs::write(&other, r#"[{"role": "user", "content": "bare list"}]"#).unwrap();
        assert_eq!(load(&other).unwrap().turns().len(), 1);
    }
}

//! What has been said so far.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who said it.
    pub role: Role,
    /// What was said.
    pub content: String,
    /// What the model thought before it said it.
    #[serde(default, skip_serializing_if = "String::is_empty", rename = "reasoning_content")]
    pub reasoning: String,
}

/// What has been said so far, with at most one system message, at the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    system: Option<String>,
    turns: Vec<Message>,
}

impl Conversation {
    /// Nothing said yet.
    pub fn new(system: Option<String>) -> Conversation {
        Conversation { system, turns: Vec::new() }
    }

    /// The instructions.
    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    /// Replaces the instructions; what was said stays.
    pub fn set_system(&mut self, system: Option<String>) {
        self.system = system;
    }

    /// What was said, without the instructions.
    pub fn turns(&self) -> &[Message] {
        &self.turns
    }

    /// Adds what the person says.
    pub fn user(&mut self, content: impl Into<String>) {
        self.turns.push(Message { role: Role::User, content: content.into(), reasoning: String::new() });
    }

    /// Adds what the model says.
    pub fn assistant(&mut self, content: impl Into<String>, reasoning: impl Into<String>) {
        self.turns.push(Message {
            role: Role::Assistant,
            content: content.into(),
            reasoning: reasoning.into(),
        });
    }

    /// Takes the last turn back if it is `role`'s.
    pub fn take_back(&mut self, role: Role) -> Option<Message> {
        self.turns.pop_if(|message| message.role == role)
    }

    /// Forgets what was said; the instructions stay.
    pub fn clear(&mut self) {
        self.turns.clear();
    }

    /// The messages as chat templates want them.
    pub fn to_json(&self) -> Value {
        let system = self.system.iter().map(|text| json!({"role": "system", "content": text}));
        let turns = self.turns.iter().map(|message| json!(message));
        system.chain(turns).collect()
    }

    /// The reverse of [`Conversation::to_json`].
    ///
    /// # Errors
    /// What is not a message, and which one.
    pub fn from_json(messages: &Value) -> Result<Conversation, String> {
        let list = messages.as_array().ok_or("the messages are not a list")?;
        let mut conversation = Conversation::default();
        for (index, value) in list.iter().enumerate() {
            let message: Message =
                serde_json::from_value(value.clone()).map_err(|e| format!("message {}: {e}", index + 1))?;
            match message.role {
                Role::System if index == 0 => conversation.system = Some(message.content),
                Role::System => {
                    return Err(format!("message {}: a system message after the first", index + 1));
                }
                _ => conversation.turns.push(message),
            }
        }
        Ok(conversation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_survives_json() {
        let mut conversation = Conversation::new(Some("Be brief.".into()));
        conversation.user("2+2?");
        conversation.assistant("4", "Two and two.");
        let messages = conversation.to_json();
        assert_eq!(
            messages[2],
            json!({"role": "assistant", "content": "4", "reasoning_content": "Two and two."})
        );
        assert_eq!(Conversation::from_json(&messages), Ok(conversation.clone()));
        assert_eq!(conversation.take_back(Role::User), None);
        assert_eq!(conversation.take_back(Role::Assistant).map(|m| m.content), Some("4".into()));
        conversation.clear();
        assert_eq!((conversation.turns().len(), conversation.system()), (0, Some("Be brief.")));
    }

    #[test]
    fn what_is_no_conversation_is_refused() {
        for (messages, why) in [
            (json!({}), "not a list"),
            (json!([{"role": "user"}]), "message 1: missing field"),
            (
                json!([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}]),
                "message 2: a system",
            ),
            (json!([{"role": "wizard", "content": "x"}]), "unknown variant"),
        ] {
            let error = Conversation::from_json(&messages).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}

//! What a line typed in a conversation means.

use sampan::nearest_name;

/// A line typed in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing but white space.
    Nothing,
    /// Text for the model.
    Say(String),
    /// A command.
    Command(Command),
    /// Something that looks like a command, and what to tell about it.
    Mistake(String),
}

/// What can be done besides talking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Help,
    /// Show the system message, replace it, or remove it.
    System(Option<String>),
    /// List the settings, show one, or change one.
    Set(Option<String>, Option<String>),
    Clear,
    Retry,
    Save(String),
    Load(String),
    Bye,
}

/// Name, arguments, purpose.
const COMMANDS: [(&str, &str, &str); 8] = [
    ("help", "", "this list"),
    ("system", "[TEXT|none]", "show or change the instructions for the model"),
    ("set", "[NAME [VALUE]]", "show or change settings, such as temperature"),
    ("clear", "", "forget the conversation"),
    ("retry", "", "let the model answer the last message again"),
    ("save", "FILE", "write the conversation to a file"),
    ("load", "FILE", "go on with a conversation from a file"),
    ("bye", "", "leave (also Ctrl-D)"),
];

/// Understands a line (which may hold line breaks).
pub(super) fn parse(line: &str) -> Entry {
    let trimmed = line.trim();
    if trimmed.is_empty() {
        return Entry::Nothing;
    }
    if let Some(text) = trimmed.strip_prefix("//") {
        return Entry::Say(format!("/{text}"));
    }
    match trimmed.strip_prefix('/') {
        Some(command) => parse_command(command),
        None => Entry::Say(unfold(line)),
    }
}

fn parse_command(text: &str) -> Entry {
    let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let words: Vec<&str> = rest.split_whitespace().collect();
    let lone = |command| match rest.is_empty() {
        true => Entry::Command(command),
        false => Entry::Mistake(format!("/{name} takes nothing after it")),
    };
    let with_file = |command: fn(String) -> Command| match rest.is_empty() {
        true => Entry::Mistake(format!("/{name} needs the name of a file: /{name} conversation.json")),
        false => Entry::Command(command(rest.to_owned())),
    };
    match name {
        "help" | "?" => lone(Command::Help),
        "bye" | "exit" | "quit" => lone(Command::Bye),
        "clear" => lone(Command::Clear),
        "retry" => lone(Command::Retry),
        "save" => with_file(Command::Save),
        "load" => with_file(Command::Load),
        "system" => Entry::Command(Command::System((!rest.is_empty()).then(|| unfold(rest)))),
        "set" => match words[..] {
            [] => Entry::Command(Command::Set(None, None)),
            [name] => Entry::Command(Command::Set(Some(name.into()), None)),
            [name, value] => Entry::Command(Command::Set(Some(name.into()), Some(value.into()))),
            _ => Entry::Mistake("/set takes a name and a value: /set temperature 0.7".into()),
        },
        _ => {
            let known = COMMANDS.iter().map(|(name, ..)| *name);
            let nearest =
                nearest_name(name, known).map(|n| format!("; did you mean /{n}?")).unwrap_or_default();
            Entry::Mistake(format!(
                "there is no /{name}{nearest} (/help lists all; // begins a message with /)"
            ))
        }
    }
}

/// Whether Enter should start another line instead of sending.
pub(super) fn is_incomplete(line: &str) -> bool {
    let text = line.trim_start();
    // Of a command, what comes after its name counts: /system """ begins several lines too.
    let text = match text.strip_prefix('/') {
        Some(command) => command.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start()),
        None => text,
    };
    match text.strip_prefix("\"\"\"") {
        Some(rest) => !rest.contains("\"\"\""),
        None => line.ends_with('\\'),
    }
}

/// The text that was meant: without the quotes and backslashes that only served to type several lines.
fn unfold(line: &str) -> String {
    if let Some(rest) = line.trim_start().strip_prefix("\"\"\"")
        && let Some((inside, after)) = rest.split_once("\"\"\"")
    {
        let inside = inside.strip_prefix('\n').unwrap_or(inside);
        return format!("{}{}", inside.strip_suffix('\n').unwrap_or(inside), after.trim_end());
    }
    line.replace("\\\n", "\n").trim_end().to_owned()
}

/// The list that /help prints.
pub(super) fn help() -> String {
    let mut text = String::new();
    for (name, arguments, purpose) in COMMANDS {
        text.push_str(&format!("{:<22} {purpose}\n", format!("/{name} {arguments}")));
    }
    text.push_str(
        "\nSeveral lines: Alt-Enter (Shift-Enter where the terminal tells it apart), a \\ at the end of a\n",
    );
    text.push_str("line, or \"\"\" before and after. Ctrl-C stops the answer. A message that begins with /: write //.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let say = |text: &str| Entry::Say(text.into());
        let command = Entry::Command;
        for (line, entry) in [
            ("", Entry::Nothing),
            ("  \n ", Entry::Nothing),
            ("hello there ", say("hello there")),
            ("//etc/passwd", say("/etc/passwd")),
            ("one \\\ntwo", say("one \ntwo")),
            ("\"\"\"\none\n two\n\"\"\"", say("one\n two")),
            ("\"\"\"one\"\"\" two", say("one two")),
            ("/help", command(Command::Help)),
            (" /? ", command(Command::Help)),
            ("/set", command(Command::Set(None, None))),
            ("/set seed", command(Command::Set(Some("seed".into()), None))),
            ("/set seed  7", command(Command::Set(Some("seed".into()), Some("7".into())))),
            ("/system Be brief.", command(Command::System(Some("Be brief.".into())))),
            ("/system \"\"\"Be\nbrief.\"\"\"", command(Command::System(Some("Be\nbrief.".into())))),
            ("/save a file.json", command(Command::Save("a file.json".into()))),
            ("/quit", command(Command::Bye)),
        ] {
            assert_eq!(parse(line), entry, "{line:?}");
        }
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, part) in [
            ("/hlep", "did you mean /help?"),
            ("/xyzzy", "there is no /xyzzy (/help"),
            ("/save", "/save needs the name of a file"),
            ("/clear all", "/clear takes nothing"),
            ("/set a b c", "/set takes a name and a value"),
        ] {
            let Entry::Mistake(text) = parse(line) else { panic!("{line} was understood") };
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn several_lines() {
        for (line, incomplete) in [
            ("hello", false),
            ("hello \\", true),
            ("hello \\\nyou", false),
            ("\"\"\"hello", true),
            ("\"\"\"hello\n\"\"\"", false),
            ("say \"\"\"", false),
            ("/system \"\"\"be", true),
            ("/system \"\"\"be\nbrief\"\"\"", false),
        ] {
            assert_eq!(is_incomplete(line), incomplete, "{line:?}");
        }
    }
}

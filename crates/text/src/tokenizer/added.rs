//! Tokens that were added to a vocabulary by hand, found in text before the model sees it.

use crate::Error;
use ahash::AHashMap;
use aho_corasick::{AhoCorasick, MatchKind};
use std::ops::Range;

/// One added token and how it matches.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddedToken {
    pub(crate) id: u32,
    pub(crate) text: String,
    /// Left out of decoded text.
    pub(crate) special: bool,
    /// Swallows white space before it.
    pub(crate) lstrip: bool,
    /// Swallows white space after it.
    pub(crate) rstrip: bool,
    /// Matches only between non-word characters.
    pub(crate) single_word: bool,
}

/// Which added tokens a search honours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// All of them.
    All,
    /// Only those that are ordinary writing.
    Plain,
}

/// A match: the id and the bytes it replaces.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) id: u32,
    pub(crate) range: Range<usize>,
}

#[derive(Debug)]
struct Search {
    automaton: AhoCorasick,
    tokens: Vec<AddedToken>,
}

/// All added tokens of a vocabulary.
#[derive(Debug)]
pub(crate) struct AddedTokens {
    all: Search,
    plain: Search,
    ids: AHashMap<String, u32>,
    /// Sorted ids of everything that is not plain.
    markers: Vec<u32>,
}

impl AddedTokens {
    pub(crate) fn new(tokens: Vec<AddedToken>) -> Result<Self, Error> {
        let tokens: Vec<_> = tokens.into_iter().filter(|t| !t.text.is_empty()).collect();
        let plain: Vec<_> = tokens.iter().filter(|t| is_plain(t)).cloned().collect();
        let mut markers: Vec<u32> = tokens.iter().filter(|t| !is_plain(t)).map(|t| t.id).collect();
        markers.sort_unstable();
        let ids = tokens.iter().map(|t| (t.text.clone(), t.id)).collect();
        Ok(Self { all: Search::new(tokens)?, plain: Search::new(plain)?, ids, markers })
    }

    pub(crate) fn id_of(&self, text: &str) -> Option<u32> {
        self.ids.get(text).copied()
    }

    pub(crate) fn is_marker(&self, id: u32) -> bool {
        self.markers.binary_search(&id).is_ok()
    }

    pub(crate) fn markers(&self) -> Vec<String> {
        self.all.tokens.iter().filter(|t| self.is_marker(t.id)).map(|t| t.text.clone()).collect()
    }

    /// Matches from left to right, the longest at each place, skipping those that `refuse` names.
    pub(crate) fn find(
        &self,
        text: &str,
        which: Which,
        refuse: impl Fn(&Range<usize>) -> bool,
    ) -> Vec<Found> {
        let search = match which {
            Which::All => &self.all,
            Which::Plain => &self.plain,
        };
        let mut found: Vec<Found> = Vec::new();
        let mut at = 0;
        while let Some(m) = search.automaton.find(aho_corasick::Input::new(text).range(at..)) {
            let token = &search.tokens[m.pattern().as_usize()];
            let mut range = m.range();
            if refuse(&range) {
                // A shorter token, or one that starts inside, may still be allowed.
                at = range.start + text[range.start..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            at = range.end;
            if token.single_word && !stands_alone(text, &range) {
                continue;
            }
            let done = found.last().map_or(0, |f| f.range.end);
            if token.lstrip {
                range.start = text[..range.start].trim_end().len().max(done);
            }
            if token.rstrip {
                range.end = text.len() - text[range.end..].trim_start().len();
                at = at.max(range.end);
            }
            found.push(Found { id: token.id, range });
        }
        found
    }
}

impl Search {
    fn new(tokens: Vec<AddedToken>) -> Result<Self, Error> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|t| &t.text))
            .map_err(|e| Error::Encode { message: format!("added tokens: {e}") })?;
        Ok(Self { automaton, tokens })
    }
}

fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    !text[..range.start].chars().next_back().is_some_and(word)
        && !text[range.end..].chars().next().is_some_and(word)
}

/// Ordinary writing that a vocabulary keeps as one token: white space, letters, digits, or an HTML element (Gemma). Anything
/// else with brackets or bars is markup that a template or a model writes, and so is everything flagged special.
fn is_plain(token: &AddedToken) -> bool {
    if token.special {
        return false;
    }
    let text = token.text.as_str();
    let element = text.strip_prefix('<').and_then(|t| t.strip_suffix('>'));
    if let Some(name) = element {
        return HTML.contains(&name.strip_prefix('/').unwrap_or(name));
    }
    !text.contains(['<', '>', '[', ']', '{', '}', '|', '｜'])
}

/// The elements that Gemma's vocabularies hold as user-defined pieces (`s` is not among them: elsewhere it ends a text).
const HTML: [&str; 24] = [
    "table",
    "caption",
    "thead",
    "tbody",
    "tfoot",
    "tr",
    "th",
    "td",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "blockquote",
    "strong",
    "em",
    "b",
    "i",
    "u",
    "sub",
    "sup",
    "code",
    "a",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, text: &str) -> AddedToken {
        AddedToken { id, text: text.into(), ..Default::default() }
    }

    fn check(tokens: Vec<AddedToken>, text: &str, want: &[(u32, &str)]) {
        let added = AddedTokens::new(tokens).unwrap();
        let got: Vec<_> =
            added.find(text, Which::All, |_| false).iter().map(|f| (f.id, &text[f.range.clone()])).collect();
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn the_longest_token_at_a_place_wins() {
        check(vec![token(1, "<a"), token(2, "<a>")], "x<a><a", &[(2, "<a>"), (1, "<a")]);
    }

    #[test]
    fn white_space_around_is_swallowed_only_where_asked() {
        let strip = AddedToken { lstrip: true, rstrip: true, ..token(1, "<m>") };
        check(vec![strip, token(2, "<n>")], "a <m> \n<n> b", &[(1, " <m> \n"), (2, "<n>")]);
    }

    #[test]
    fn single_words_do_not_match_inside_words() {
        let word = AddedToken { single_word: true, ..token(1, "cat") };
        check(vec![word], "cat concat cat_ (cat)", &[(1, "cat"), (1, "cat")]);
    }

    #[test]
    fn a_refused_match_leaves_room_for_the_one_inside() {
        let added = AddedTokens::new(vec![token(1, "<|x|>"), token(2, "|>")]).unwrap();
        let found = added.find("<|x|>", Which::All, |r| r.start == 0);
        assert_eq!(found, [Found { id: 2, range: 3..5 }]);
    }

    #[test]
    fn markup_is_not_plain_but_writing_is() {
        for (text, plain) in [
            ("\n\n", true),
            ("ø", true),
            ("▁▁", true),
            ("<table>", true),
            ("</td>", true),
            ("<think>", false),
            ("</s>", false),
            ("<|im_end|>", false),
            ("<｜User｜>", false),
            ("[INST]", false),
            ("｜DSML｜", false),
        ] {
            assert_eq!(is_plain(&token(1, text)), plain, "{text:?}");
        }
    }
}

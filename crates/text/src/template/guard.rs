//! Keeps control tokens that are spelled out in messages from becoming control tokens.
//!
//! The template is rendered once with the data as it is: that text is the truth. If some string of the data spells a
//! marker (or the beginning or end of one, which a neighbour could complete), it is rendered again with sentinels, code
//! points that occur nowhere else, set into those places. Where they come out, the text is a user's. A template may look at
//! the very characters that a sentinel parts (`content.startswith('<tool_response>')`); then the two texts differ, and each
//! group of places is tried again with the sentinels beside the marker. What still cannot be told apart is protected
//! wherever it occurs: safe, if not always what the template meant.

use crate::Prompt;
use aho_corasick::AhoCorasick;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::ops::Range;

/// Finds markers in data and in rendered text.
#[derive(Debug)]
pub(super) struct Guard {
    search: Option<AhoCorasick>,
    /// Proper prefixes and suffixes of markers, and the length of the longest one in bytes.
    heads: HashSet<Box<str>>,
    tails: HashSet<Box<str>>,
    longest: usize,
}

/// Where the sentinels of a group of places go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// Behind the first character of the marker.
    Inside,
    After,
    Before,
    /// Nowhere.
    None,
}

/// Two code points that the data and the template do not contain.
#[derive(Clone, Copy)]
struct Sentinels {
    open: char,
    close: char,
}

/// More groups than this are not tried one by one.
const MAX_GROUPS: usize = 64;

impl Guard {
    pub(super) fn new(markers: Vec<String>) -> Self {
        let markers: Vec<String> = markers.into_iter().filter(|m| !m.is_empty()).collect();
        // Standard matching, because overlapping occurrences count as well.
        let search = (!markers.is_empty()).then(|| AhoCorasick::new(&markers).ok()).flatten();
        let heads = markers.iter().flat_map(|m| cuts(m).map(|(head, _)| Box::from(head))).collect();
        let tails = markers.iter().flat_map(|m| cuts(m).map(|(_, tail)| Box::from(tail))).collect();
        let longest = markers.iter().map(String::len).max().unwrap_or(0);
        Self { search, heads, tails, longest }
    }

    /// Renders `context` with `render` and finds out which markers in the text came from the data.
    pub(super) fn render<E>(
        &self,
        source: &str,
        context: &Map<String, Value>,
        render: impl Fn(&Map<String, Value>) -> Result<String, E>,
    ) -> Result<Prompt, E> {
        let truth = render(context)?;
        if self.search.is_none() || !self.occurs(&truth) {
            return Ok(prompt(truth, Vec::new()));
        }
        let sentinels = Sentinels::choose(source, context, &truth);
        let count = self.mark(context, sentinels, &[]).groups;
        let mut ranges = Vec::new();
        if count > 0 {
            let (styles, unclear) = self.find_styles(context, sentinels, count, &truth, &render);
            let marked = self.mark(context, sentinels, &styles);
            match render(&marked.context).ok().map(|text| sentinels.strip(&text)) {
                Some((text, places)) if text == truth => {
                    ranges.extend(self.matches(&truth).filter(|m| from_data(m, &places)));
                    ranges.extend(self.spelling(&truth, &unclear));
                }
                _ => ranges.extend(self.spelling(&truth, &self.mark(context, sentinels, &[]).spelled)),
            }
        }
        ranges.extend(self.put_together(source, context, &truth));
        Ok(prompt(truth, ranges))
    }

    fn occurs(&self, text: &str) -> bool {
        self.search.as_ref().is_some_and(|s| s.is_match(text))
    }

    fn matches<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        self.search.iter().flat_map(move |s| s.find_overlapping_iter(text)).map(|m| m.range())
    }

    /// Whether `text` starts with the end of a marker.
    fn begins_with_tail(&self, text: &str) -> bool {
        let ends = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|&end| end < self.longest);
        ends.into_iter().any(|end| self.tails.contains(&text[..end]))
    }

    /// Whether `text` ends with the beginning of a marker.
    fn ends_with_head(&self, text: &str) -> bool {
        let starts =
            text.char_indices().rev().map(|(at, _)| at).take_while(|&at| text.len() - at < self.longest);
        starts.into_iter().any(|at| self.heads.contains(&text[at..]))
    }

    /// All occurrences of the given markers.
    fn spelling<'a>(
        &'a self,
        text: &'a str,
        markers: &'a HashSet<String>,
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        self.matches(text).filter(|m| markers.contains(&text[m.clone()]))
    }

    /// A style for every group, and the markers for which there is none.
    fn find_styles<E>(
        &self,
        context: &Map<String, Value>,
        sentinels: Sentinels,
        count: usize,
        truth: &str,
        render: &impl Fn(&Map<String, Value>) -> Result<String, E>,
    ) -> (Vec<Style>, HashSet<String>) {
        let harmless = |styles: &[Style]| {
            let text = render(&self.mark(context, sentinels, styles).context);
            text.is_ok_and(|text| sentinels.strip(&text).0 == truth)
        };
        let inside = vec![Style::Inside; count];
        if harmless(&inside) || count > MAX_GROUPS {
            return (inside, HashSet::new());
        }
        let mut chosen = vec![Style::None; count];
        let mut unclear = HashSet::new();
        for group in 0..count {
            let fitting = [Style::Inside, Style::After, Style::Before].into_iter().find(|&style| {
                let mut alone = vec![Style::None; count];
                alone[group] = style;
                harmless(&alone)
            });
            match fitting {
                Some(style) => chosen[group] = style,
                None => {
                    let mut alone = vec![Style::None; count];
                    alone[group] = Style::Inside;
                    unclear.extend(self.mark(context, sentinels, &alone).spelled_in(group));
                }
            }
        }
        (chosen, unclear)
    }

    /// Markers that no one wrote as a whole: the template put them together around a piece of data. Built from a role they
    /// are meant (`'<|' + message.role + '|>'`); around anything else they are not.
    fn put_together(&self, source: &str, context: &Map<String, Value>, text: &str) -> Vec<Range<usize>> {
        let trusted: Vec<&str> =
            ["bos_token", "eos_token"].iter().filter_map(|k| context.get(*k)?.as_str()).collect();
        let suspects: Vec<_> = self
            .matches(text)
            .filter(|m| {
                let marker = &text[m.clone()];
                !source.contains(marker) && !trusted.iter().any(|t| t.contains(marker))
            })
            .collect();
        if suspects.is_empty() {
            return suspects;
        }
        let mut data = HashSet::new();
        for (name, value) in context {
            visit(value, name == "messages", &mut |s, place| {
                if !s.is_empty() && place != Place::Role {
                    data.insert(s.to_owned());
                }
            });
        }
        let inside =
            |marker: &str| data.iter().any(|d| d.len() < marker.len() && marker.contains(d.as_str()));
        suspects.into_iter().filter(|m| inside(&text[m.clone()])).collect()
    }

    fn mark(&self, context: &Map<String, Value>, sentinels: Sentinels, styles: &[Style]) -> Marked {
        let mut marking = Marking { guard: self, sentinels, styles, groups: 0, spelled: Vec::new() };
        let context = context
            .iter()
            .map(|(name, value)| {
                let trusted = matches!(name.as_str(), "bos_token" | "eos_token");
                let value = if trusted { value.clone() } else { marking.value(value, name == "messages") };
                (name.clone(), value)
            })
            .collect();
        let spelled = marking.spelled.iter().map(|(_, marker)| marker.clone()).collect();
        Marked { context, groups: marking.groups, spelled, by_group: marking.spelled }
    }
}

fn prompt(text: String, mut ranges: Vec<Range<usize>>) -> Prompt {
    ranges.sort_by_key(|r| r.start);
    let mut prompt = Prompt::new();
    prompt.push_template(&text);
    for range in ranges {
        prompt.protect(range);
    }
    prompt
}

/// Whether a sentinel tells that the marker at `range` is not the template's.
fn from_data(range: &Range<usize>, places: &[(usize, bool)]) -> bool {
    let first = places.partition_point(|(at, _)| *at < range.start);
    places[first..].iter().take_while(|(at, _)| *at <= range.end).any(|&(at, open)| {
        (range.start < at && at < range.end) || (open && at == range.start) || (!open && at == range.end)
    })
}

impl Sentinels {
    /// Noncharacters, which no text should contain, and if one does, others.
    fn choose(source: &str, context: &Map<String, Value>, truth: &str) -> Self {
        let candidate =
            |c: char| ('\u{fdd0}'..='\u{fdef}').contains(&c) || ('\u{f0000}'..='\u{ffffd}').contains(&c);
        let mut seen: HashSet<char> = source.chars().chain(truth.chars()).filter(|c| candidate(*c)).collect();
        for value in context.values() {
            visit(value, false, &mut |s, _| seen.extend(s.chars().filter(|c| candidate(*c))));
        }
        let mut free =
            ('\u{fdd0}'..='\u{fdef}').chain('\u{f0000}'..='\u{ffffd}').filter(|c| !seen.contains(c));
        // 65,000 different private characters in one conversation would be needed to use them up.
        Self { open: free.next().unwrap_or('\u{fdd0}'), close: free.next().unwrap_or('\u{fdd1}') }
    }

    /// The text without sentinels, and where they were (true: an opening one).
    fn strip(self, marked: &str) -> (String, Vec<(usize, bool)>) {
        let mut text = String::with_capacity(marked.len());
        let mut places = Vec::new();
        for c in marked.chars() {
            match c {
                c if c == self.open => places.push((text.len(), true)),
                c if c == self.close => places.push((text.len(), false)),
                c => text.push(c),
            }
        }
        (text, places)
    }
}

/// What a string of the data is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The role of a message: templates build markers from it.
    Role,
    /// What an assistant said: its reasoning tags are its own.
    Assistant,
    Other,
}

/// What a model writes around its reasoning, and templates look for in what it wrote.
const REASONING: [&str; 4] = ["<think>", "</think>", "<|channel>", "<channel|>"];

fn visit(value: &Value, messages: bool, each: &mut impl FnMut(&str, Place)) {
    match value {
        Value::String(s) => each(s, Place::Other),
        Value::Array(items) => {
            for item in items {
                match item.as_object().filter(|_| messages) {
                    Some(message) => visit_message(message, each),
                    None => visit(item, false, each),
                }
            }
        }
        Value::Object(map) => {
            for (key, value) in map {
                each(key, Place::Other);
                visit(value, false, each);
            }
        }
        _ => {}
    }
}

fn visit_message(message: &Map<String, Value>, each: &mut impl FnMut(&str, Place)) {
    for (key, value) in message {
        match value {
            Value::String(s) => each(s, place(message, key)),
            _ => visit(value, false, each),
        }
    }
}

fn place(message: &Map<String, Value>, key: &str) -> Place {
    let role = message.get("role").and_then(Value::as_str);
    match key {
        "role" => Place::Role,
        "content" | "reasoning_content" | "reasoning" | "thinking"
            if matches!(role, Some("assistant" | "model")) =>
        {
            Place::Assistant
        }
        _ => Place::Other,
    }
}

struct Marked {
    context: Map<String, Value>,
    groups: usize,
    spelled: HashSet<String>,
    by_group: Vec<(usize, String)>,
}

impl Marked {
    fn spelled_in(&self, group: usize) -> impl Iterator<Item = String> + '_ {
        self.by_group.iter().filter(move |(g, _)| *g == group).map(|(_, marker)| marker.clone())
    }
}

/// One walk through the data that sets sentinels. Places are grouped in the order of the walk, so that every walk over the
/// same data numbers them alike.
struct Marking<'a> {
    guard: &'a Guard,
    sentinels: Sentinels,
    styles: &'a [Style],
    groups: usize,
    spelled: Vec<(usize, String)>,
}

impl Marking<'_> {
    fn value(&mut self, value: &Value, messages: bool) -> Value {
        match value {
            Value::String(s) => Value::String(self.string(s, Place::Other)),
            Value::Array(items) => items
                .iter()
                .map(|item| match item.as_object().filter(|_| messages) {
                    Some(message) => Value::Object(self.message(message)),
                    None => self.value(item, false),
                })
                .collect(),
            Value::Object(map) => {
                map.iter().map(|(k, v)| (self.string(k, Place::Other), self.value(v, false))).collect()
            }
            other => other.clone(),
        }
    }

    fn message(&mut self, message: &Map<String, Value>) -> Map<String, Value> {
        message
            .iter()
            .map(|(key, value)| {
                let value = match value {
                    Value::String(s) => Value::String(self.string(s, place(message, key))),
                    other => self.value(other, false),
                };
                (key.clone(), value)
            })
            .collect()
    }

    fn string(&mut self, s: &str, place: Place) -> String {
        if place == Place::Role {
            return s.to_owned();
        }
        let mut inserts: Vec<(usize, char)> = Vec::new();
        for piece in pieces(s, place) {
            self.piece(s, piece, &mut inserts);
        }
        if inserts.is_empty() {
            return s.to_owned();
        }
        inserts.sort_unstable();
        inserts.dedup();
        let mut out = String::with_capacity(s.len() + 4 * inserts.len());
        let mut done = 0;
        for (at, sentinel) in inserts {
            out.push_str(&s[done..at]);
            out.push(sentinel);
            done = at;
        }
        out.push_str(&s[done..]);
        out
    }

    fn piece(&mut self, s: &str, piece: Range<usize>, inserts: &mut Vec<(usize, char)>) {
        let start = piece.start + s[piece.clone()].len() - s[piece.clone()].trim_start().len();
        let end = start + s[start..piece.end].trim_end().len();
        let text = &s[start..end];
        if text.is_empty() {
            return;
        }
        let (mut middle, mut edges) = (None, None);
        for found in self.guard.matches(text) {
            let whole = start + found.start..start + found.end;
            let at_edge = whole.start == start || whole.end == end;
            let group =
                if at_edge { self.new_group() } else { *middle.get_or_insert_with(|| self.new_group()) };
            self.spelled.push((group, s[whole.clone()].to_owned()));
            match self.style(group) {
                Style::Inside => {
                    let behind = s[whole.clone()]
                        .char_indices()
                        .nth(1)
                        .map_or(whole.start, |(at, _)| whole.start + at);
                    inserts.push((behind, self.sentinels.open));
                }
                Style::After => inserts.push((whole.end, self.sentinels.close)),
                Style::Before => inserts.push((whole.start, self.sentinels.open)),
                Style::None => {}
            }
        }
        let (head, tail) = (self.guard.begins_with_tail(text), self.guard.ends_with_head(text));
        for (wanted, at, sentinel) in [(head, start, self.sentinels.open), (tail, end, self.sentinels.close)]
        {
            if wanted {
                let group = *edges.get_or_insert_with(|| self.new_group());
                if self.style(group) != Style::None {
                    inserts.push((at, sentinel));
                }
            }
        }
    }

    fn new_group(&mut self) -> usize {
        self.groups += 1;
        self.groups - 1
    }

    fn style(&self, group: usize) -> Style {
        self.styles.get(group).copied().unwrap_or(Style::None)
    }
}

/// The parts of a string that are looked at: what an assistant said is cut at its reasoning tags.
fn pieces(s: &str, place: Place) -> Vec<Range<usize>> {
    let tags: &[&str] = if place == Place::Assistant { &REASONING } else { &[] };
    let mut pieces = Vec::new();
    let mut done = 0;
    let next =
        |from: usize| tags.iter().filter_map(|tag| Some((s[from..].find(tag)? + from, tag.len()))).min();
    while let Some((at, len)) = next(done) {
        pieces.push(done..at);
        done = at + len;
    }
    pieces.push(done..s.len());
    pieces
}

/// Every way to cut a marker in two.
fn cuts(marker: &str) -> impl Iterator<Item = (&str, &str)> {
    marker.char_indices().skip(1).map(|(at, _)| marker.split_at(at))
}

//! A rendered prompt that remembers which characters must stay plain text.

use std::ops::Range;

/// Prompt text plus the byte ranges in it that came from users, tools or other data and that spell a control token.
///
/// [`Prompt::text`] is exactly what Jinja2 would have rendered. When a prompt is encoded, a control token in the text is
/// recognised only where it does not overlap a protected range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    text: String,
    /// Sorted, disjoint, on character borders.
    protected: Vec<Range<usize>>,
}

impl Prompt {
    /// An empty prompt; fill it with [`Prompt::push_template`] and [`Prompt::push_user`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends text whose control tokens count: a template's, never a user's.
    pub fn push_template(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Appends text in which nothing is a control token.
    pub fn push_user(&mut self, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.protect(start..self.text.len());
    }

    /// The whole rendered text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Byte ranges of [`Prompt::text`] that no control token may overlap: sorted and disjoint.
    pub fn protected(&self) -> &[Range<usize>] {
        &self.protected
    }

    /// Marks the end of what is there so far: `range` must not start before the last protected range ends.
    pub(crate) fn protect(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        match self.protected.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => self.protected.push(range),
        }
    }

    /// Whether `range` overlaps a protected one.
    pub(crate) fn is_protected(&self, range: &Range<usize>) -> bool {
        let after = self.protected.partition_point(|p| p.end <= range.start);
        self.protected.get(after).is_some_and(|p| p.start < range.end)
    }
}

impl std::fmt::Display for Prompt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

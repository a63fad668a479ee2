//! Text that has arrived and is not sorted yet.

/// Whether a text begins with a marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    Yes,
    No,
    /// The text ends inside the marker, and more may come.
    Perhaps,
}

/// Whether `text` begins with `marker`; `ended` says that nothing follows `text`.
pub(super) fn begins(text: &str, marker: &str, ended: bool) -> Begins {
    if text.starts_with(marker) {
        Begins::Yes
    } else if !ended && marker.starts_with(text) {
        Begins::Perhaps
    } else {
        Begins::No
    }
}

/// The first of `markers` that `text` begins with.
pub(super) fn begins_with_any(text: &str, markers: &[&'static str], ended: bool) -> Option<&'static str> {
    markers.iter().copied().find(|marker| begins(text, marker, ended) == Begins::Yes)
}

/// Whether `text` may yet turn out to begin with one of `markers`.
pub(super) fn may_begin(text: &str, markers: &[&str], ended: bool) -> bool {
    markers.iter().any(|marker| begins(text, marker, ended) == Begins::Perhaps)
}

/// A queue of text: pushed at the end, taken from the front.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    text: String,
    at: usize,
    /// Nothing will be pushed any more.
    pub(super) ended: bool,
}

impl Held {
    pub(super) fn push(&mut self, text: &str) {
        // What was taken is let go of here and not at every taking, which would be quadratic.
        self.text.drain(..self.at);
        self.at = 0;
        self.text.push_str(text);
    }

    pub(super) fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at == self.text.len()
    }

    /// Takes `bytes` from the front; they must end on a character border.
    pub(super) fn take(&mut self, bytes: usize) -> &str {
        let start = self.at;
        self.at += bytes;
        &self.text[start..self.at]
    }

    /// How many bytes of white space are in front.
    pub(super) fn blank(&self) -> usize {
        self.rest().len() - self.rest().trim_start().len()
    }
}

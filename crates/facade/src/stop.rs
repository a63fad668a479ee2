//! Ends a streamed text before a stop string, even when the string arrives in pieces.

/// Looks for stop strings in a text that arrives piece by piece.
#[derive(Debug)]
pub struct StopMatcher {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
    /// Which of them was found.
    found: Option<usize>,
}

impl StopMatcher {
    /// A matcher at the beginning of a text; empty stop strings are left out.
    pub fn new(stops: &[String]) -> StopMatcher {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        StopMatcher { stops, held: String::new(), found: None }
    }

    /// Whether a stop string was found; what comes later is not part of the answer.
    pub fn stopped(&self) -> bool {
        self.found.is_some()
    }

    /// The stop string that was found.
    pub fn found(&self) -> Option<&str> {
        Some(&self.stops[self.found?])
    }

    /// The text that is certain not to belong to a stop string.
    pub fn push(&mut self, piece: &str) -> String {
        if self.stopped() {
            return String::new();
        }
        if self.stops.is_empty() {
            return piece.to_owned();
        }
        self.held.push_str(piece);
        let places = self.stops.iter().enumerate();
        let found = places.filter_map(|(i, stop)| Some((self.held.find(stop.as_str())?, i))).min();
        if let Some((at, which)) = found {
            self.found = Some(which);
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        self.held.drain(..self.held.len() - keep).collect()
    }

    /// What was held back, when no more text comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    let fits = |&n: &usize| {
        text.is_char_boundary(text.len() - n)
            && stop.as_bytes().starts_with(&text.as_bytes()[text.len() - n..])
    };
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text let through, with its pieces cut at every place.
    fn run(text: &str, stops: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|s| s.to_string()).collect();
        let mut outcomes = Vec::new();
        for size in 1..=text.chars().count().max(1) {
            let mut matcher = StopMatcher::new(&stops);
            let mut out = String::new();
            let chars: Vec<char> = text.chars().collect();
            for piece in chars.chunks(size) {
                out.push_str(&matcher.push(&piece.iter().collect::<String>()));
            }
            out.push_str(&matcher.finish());
            outcomes.push((out, matcher.stopped()));
        }
        outcomes.dedup();
        assert_eq!(outcomes.len(), 1, "depends on how the text is cut: {outcomes:?}");
        outcomes.swap_remove(0)
    }

    #[test]
    fn the_answer_ends_before_the_first_stop_string() {
        for (text, stops, expected) in [
            ("one END two", &["END"][..], ("one ", true)),
            ("one EN", &["END"], ("one EN", false)),
            ("aab", &["ab"], ("a", true)),
            ("あい。う", &["。"], ("あい", true)),
            ("x\n\nUser: y", &["User:", "\n\n"], ("x", true)),
            ("plain", &[], ("plain", false)),
            ("plain", &[""], ("plain", false)),
        ] {
            assert_eq!(run(text, stops), (expected.0.to_owned(), expected.1), "{text:?} {stops:?}");
        }
    }
}

//! Looking ahead into text that may not be complete.

/// Why a scan has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The next text decides.
    More,
    /// This is not what was looked for.
    No,
}

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scan<'t> {
    text: &'t str,
    at: usize,
    ended: bool,
}

impl<'t> Scan<'t> {
    pub(super) fn new(text: &'t str, ended: bool) -> Self {
        Self { text, at: 0, ended }
    }

    /// How many bytes were passed.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// The text is too short: wait, unless nothing will come.
    fn short<T>(&self) -> Result<T, Stop> {
        Err(if self.ended { Stop::No } else { Stop::More })
    }

    pub(super) fn skip_blank(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// The next character, not passed.
    pub(super) fn peek(&self) -> Result<char, Stop> {
        self.rest().chars().next().map_or_else(|| self.short(), Ok)
    }

    /// The next character behind white space, not passed.
    pub(super) fn peek_past_blank(&mut self) -> Result<char, Stop> {
        self.skip_blank();
        self.peek()
    }

    /// Passes `marker`, or says that it is not there.
    pub(super) fn accept(&mut self, marker: &str) -> Result<bool, Stop> {
        match super::held::begins(self.rest(), marker, self.ended) {
            super::held::Begins::Yes => {
                self.at += marker.len();
                Ok(true)
            }
            super::held::Begins::No => Ok(false),
            super::held::Begins::Perhaps => Err(Stop::More),
        }
    }

    pub(super) fn expect(&mut self, marker: &str) -> Result<(), Stop> {
        if self.accept(marker)? { Ok(()) } else { Err(Stop::No) }
    }

    /// Passes characters as long as `inside` holds; at least one more character must follow.
    pub(super) fn run(&mut self, inside: impl Fn(char) -> bool) -> Result<&'t str, Stop> {
        match self.rest().find(|c| !inside(c)) {
            Some(end) => {
                let run = &self.rest()[..end];
                self.at += end;
                Ok(run)
            }
            None => self.short(),
        }
    }

    /// Passes everything up to `end` and `end` itself; gives what is between.
    pub(super) fn until(&mut self, end: &str) -> Result<&'t str, Stop> {
        match self.rest().find(end) {
            Some(n) => {
                let run = &self.rest()[..n];
                self.at += n + end.len();
                Ok(run)
            }
            None => self.short(),
        }
    }

    /// Passes a quoted string and gives what it says.
    pub(super) fn string(&mut self) -> Result<String, Stop> {
        let start = self.at;
        if !matches!(self.peek()?, '"' | '\'') {
            return Err(Stop::No);
        }
        self.value()?;
        let mut json = String::new();
        super::mender::Mender::new(super::mender::Dialect::Json).push(
            &self.text[start..self.at],
            true,
            &mut json,
        );
        serde_json::from_str(&json).map_err(|_| Stop::No)
    }

    /// Passes one value in JSON, brackets and quotes considered.
    pub(super) fn value(&mut self) -> Result<&'t str, Stop> {
        let start = self.at;
        let (mut depth, mut quote) = (0usize, None);
        let mut chars = self.rest().char_indices();
        while let Some((n, c)) = chars.next() {
            let after = start + n + c.len_utf8();
            match (quote, c) {
                (Some(_), '\\') => {
                    chars.next();
                    continue;
                }
                (Some(q), c) if c == q => quote = None,
                (Some(_), _) => continue,
                (None, '"' | '\'') => {
                    quote = Some(c);
                    continue;
                }
                (None, '{' | '[' | '(') => {
                    depth += 1;
                    continue;
                }
                (None, '}' | ']' | ')') if depth > 0 => depth -= 1,
                (None, ',' | '}' | ']' | ')') if depth == 0 => {
                    self.at = start + n;
                    return Ok(&self.text[start..self.at]);
                }
                _ => continue,
            }
            if depth == 0 {
                self.at = after;
                return Ok(&self.text[start..after]);
            }
        }
        self.short()
    }
}

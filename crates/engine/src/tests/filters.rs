//! What a filter forbids is not chosen, and where it allows nothing the answer ends for a stated reason.

use super::fake::alone;
use super::*;
use crate::{FilterError, TokenFilter};

/// Allows about two thirds of all tokens, others after each token.
#[derive(Clone, Debug, Default)]
pub(super) struct Rhythm {
    /// Tokens that come before it restricts any.
    pub(super) dormant: usize,
    /// After so many it allows none any more.
    pub(super) ends: Option<usize>,
    /// Whether the answer may end then.
    pub(super) closes: bool,
    pub(super) tokens: Vec<u32>,
    pub(super) mask: Vec<u32>,
}

impl Rhythm {
    fn allows(&self, token: u32) -> bool {
        let n = self.tokens.len();
        let last = self.tokens.last().copied().unwrap_or(0);
        n < self.dormant || (!self.ended() && !(token + last + n as u32).is_multiple_of(3))
    }

    fn ended(&self) -> bool {
        self.ends.is_some_and(|ends| self.tokens.len() >= ends)
    }
}

impl TokenFilter for Rhythm {
    fn mask(&mut self) -> Result<Option<&[u32]>, String> {
        if self.tokens.len() < self.dormant {
            return Ok(None);
        }
        // One word only: tokens from 32 on are forbidden.
        self.mask = vec![(0..32).filter(|&t| self.allows(t)).map(|t| 1 << t).sum()];
        Ok(Some(&self.mask))
    }

    fn accepts(&mut self) -> bool {
        if self.ended() { self.closes } else { self.tokens.len().is_multiple_of(4) }
    }

    fn commit(&mut self, token: u32) -> Result<(), String> {
        assert!(self.allows(token), "token {token} was forbidden");
        self.tokens.push(token);
        if self.tokens.ends_with(&[13, 14]) { Err("knows no further".into()) } else { Ok(()) }
    }

    fn valid(&mut self, draft: &[u32]) -> usize {
        let mut ahead = self.clone();
        draft
            .iter()
            .take_while(|&&token| {
                let allowed = ahead.allows(token);
                ahead.tokens.push(token);
                allowed
            })
            .count()
    }

    fn boxed_clone(&self) -> Box<dyn TokenFilter> {
        Box::new(self.clone())
    }
}

fn filtered(filter: Rhythm, stop_tokens: Vec<u32>) -> Request {
    Request { filter: Some(Box::new(filter)), stop_tokens, ..request(prompt(1, 44), 60) }
}

#[test]
fn an_answer_ends_only_where_the_filter_accepts() {
    // Every token but two is a stop token: an answer without a filter ends soon.
    let stops: Vec<u32> = (0..30).filter(|t| ![5, 6].contains(t)).collect();
    let free = Request { filter: None, ..filtered(Rhythm::default(), stops.clone()) };
    assert!(alone(&free, 640).0.len() < 3);
    for dormant in [0, 3, 100] {
        let mut engine = engine(options(20, 512, 4));
        let request = filtered(Rhythm { dormant, ..Rhythm::default() }, stops.clone());
        let id = engine.submit(request.clone()).expect("fits");
        let log = run_all(&mut engine);
        let (tokens, reason) = alone(&request, 640);
        assert_eq!((&log.0[&id].tokens, log.end(id).0), (&tokens, &reason));
        assert!(matches!(reason, FinishReason::Stop(_)) && tokens.len() % 4 == 0, "{reason:?}: {tokens:?}");
    }
}

#[test]
fn where_nothing_is_allowed_the_answer_ends_for_a_stated_reason() {
    let ends = |closes| Rhythm { ends: Some(5), closes, ..Rhythm::default() };
    for (filter, stops, tokens, want) in [
        (ends(true), vec![], 5, "Complete"),
        (ends(true), vec![33, 2], 5, "Stop("),
        (ends(false), vec![33, 2], 5, "allows no token, and the answer cannot end here"),
    ] {
        let mut engine = engine(options(20, 512, 4));
        let mut request = filtered(filter, stops);
        request.sampling.logit_bias = vec![(2, -100.0), (33, -100.0), (13, f32::NEG_INFINITY)];
        let id = engine.submit(request).expect("fits");
        let other = engine.submit(super::request(prompt(2, 10), 30)).expect("fits");
        let log = run_all(&mut engine);
        let reason = format!("{:?}", log.end(id).0);
        assert_eq!((log.0[&id].tokens.len(), log.0[&other].tokens.len()), (tokens, 30), "{reason}");
        assert!(reason.contains(want), "{reason}");
    }
}

#[test]
fn a_filter_that_fails_says_why() {
    let mut request = filtered(Rhythm { dormant: 100, ..Rhythm::default() }, vec![]);
    request.sampling.logit_bias = vec![(13, 100.0), (14, 99.0)];
    request.sampling.presence_penalty = 5.0;
    let mut engine = engine(options(20, 512, 4));
    let id = engine.submit(request).expect("fits");
    let log = run_all(&mut engine);
    let error = FilterError { position: 45, cause: "knows no further".into() };
    assert_eq!(error.to_string(), "at position 45 the filter knows no further");
    assert_eq!((log.0[&id].tokens.as_slice(), log.end(id).0), (&[13][..], &FinishReason::Filter(error)));
}

#[test]
fn what_filter_and_bias_forbid_together_is_a_stated_failure() {
    let mut request = filtered(Rhythm::default(), vec![]);
    request.sampling.logit_bias = (0..VOCAB as u32).map(|t| (t, f32::NEG_INFINITY)).collect();
    let mut engine = engine(options(20, 512, 4));
    let id = engine.submit(request).expect("fits");
    let log = run_all(&mut engine);
    assert!(format!("{:?}", log.end(id).0).contains("filter allows are minus infinity"));
}

//! How many tokens of prompts fit into a time, from how long steps have taken.

use sampan_kernels::attention::PAGE;
use std::time::Duration;

/// Tokens of a step from which on its time is that of its tokens; with fewer, it is that of reading the weights.
const TELLING: usize = 64;

/// The fewest tokens that a time is cut to: parts of prompts smaller than that cost nearly as much as parts of this size.
const LEAST: usize = 64;

/// The share of the newest step in what is known.
const NEWS: f64 = 0.25;

#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// `None` as long as no step has told.
    seconds_per_token: Option<f64>,
}

impl Pace {
    /// A step of so many tokens took so long.
    pub(crate) fn learn(&mut self, tokens: usize, time: Duration) {
        if tokens >= TELLING {
            let now = time.as_secs_f64() / tokens as f64;
            let before = self.seconds_per_token.unwrap_or(now);
            self.seconds_per_token = Some(before + NEWS * (now - before));
        }
    }

    /// How many tokens fit into `time`, in whole pages and at most `most`; `None` where that is not known.
    pub(crate) fn tokens_in(&self, time: Duration, most: usize) -> Option<usize> {
        let fit = (time.as_secs_f64() / self.seconds_per_token?).min(most as f64) as usize;
        Some((fit / PAGE * PAGE).max(LEAST).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_as_long_as_the_last_ones_say() {
        let (mut pace, half) = (Pace::default(), Duration::from_millis(500));
        assert_eq!(pace.tokens_in(half, 512), None);
        // What a step of few tokens takes says nothing of tokens.
        pace.learn(16, Duration::from_secs(1));
        assert_eq!(pace.tokens_in(half, 512), None);
        pace.learn(100, Duration::from_millis(250));
        assert_eq!(pace.tokens_in(half, 512), Some(192));
        assert_eq!(pace.tokens_in(half, 100), Some(96));
        for _ in 0..50 {
            pace.learn(100, Duration::from_secs(2));
        }
        assert_eq!((pace.tokens_in(half, 512), pace.tokens_in(half, 8)), (Some(64), Some(8)));
        for _ in 0..100 {
            pace.learn(100, Duration::ZERO);
        }
        assert_eq!(pace.tokens_in(half, 500), Some(480));
    }
}

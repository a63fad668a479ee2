//! When it is tried again.

use crate::Error;
use std::time::Duration;

/// How a request failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It would fail again.
    Final(Error),
    /// It may succeed later; `wait` is what the server asks for.
    Again {
        /// What to say if it never does.
        error: Error,
        /// The server's wish.
        wait: Option<Duration>,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Final(error)
    }
}

/// How often, and after which waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    /// Requests without any progress before it is given up.
    pub(crate) attempts: u32,
    /// The first wait; each further one is twice as long.
    pub(crate) first_wait: Duration,
}

impl Retry {
    /// No wait of ours is longer.
    const LONGEST: Duration = Duration::from_secs(20);
    /// A server that wants longer is told to the user instead.
    const PATIENCE: Duration = Duration::from_secs(300);

    /// How long to wait after `failed` requests without progress.
    ///
    /// # Errors
    /// When it is not worth trying again.
    pub(crate) fn wait(&self, failure: Failure, failed: u32) -> Result<(Error, Duration), Error> {
        match failure {
            Failure::Final(error) => Err(error),
            Failure::Again { error, .. } if failed >= self.attempts => Err(error),
            Failure::Again { error, wait } => {
                let doubled = self.first_wait.saturating_mul(1 << failed.saturating_sub(1).min(16));
                let wait = wait.unwrap_or_default().max(doubled.min(Self::LONGEST));
                if wait <= Self::PATIENCE {
                    return Ok((error, wait));
                }
                Err(match error {
                    Error::Status { host, .. } => Error::RateLimited { host, seconds: wait.as_secs() },
                    error => error,
                })
            }
        }
    }

    /// Tries until it succeeds, is final, or has been tried often enough. `say` hears of every wait.
    ///
    /// # Errors
    /// The last one.
    pub(crate) fn run<T>(
        &self,
        say: &dyn Fn(&Error, Duration),
        mut attempt: impl FnMut() -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let mut failed = 0;
        loop {
            match attempt() {
                Ok(value) => return Ok(value),
                Err(failure) => {
                    failed += 1;
                    let (error, wait) = self.wait(failure, failed)?;
                    say(&error, wait);
                    std::thread::sleep(wait);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_a_servers_wish_counts() {
        let retry = Retry { attempts: 4, first_wait: Duration::from_millis(200) };
        let again = |wait: Option<u64>| Failure::Again {
            error: Error::Status { host: "h".into(), status: 429, what: "w".into() },
            wait: wait.map(Duration::from_secs),
        };
        for (wish, failed, expected) in [
            (None, 1, Ok(200)),
            (None, 3, Ok(800)),
            (Some(7), 1, Ok(7000)),
            (None, 4, Err("429")),
            (Some(3600), 1, Err("3600 seconds")),
        ] {
            match (retry.wait(again(wish), failed), expected) {
                (Ok((_, wait)), Ok(millis)) => assert_eq!(wait, Duration::from_millis(millis)),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (found, _) => panic!("{wish:?} {failed}: {found:?}"),
            }
        }
    }
}

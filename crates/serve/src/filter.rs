//! What restricts an answer, as the engine asks it: the shape that was asked for, a limit on reasoning, or both.

use sampan_engine::TokenFilter;
use sampan_text::{ConstraintError, ConstraintState, ReasoningLimit};

/// A shape and a limit on reasoning. While reasoning goes on the shape allows everything, and afterwards the limit does;
/// only where reasoning is being ended does the limit say what comes.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    shape: Option<ConstraintState>,
    limit: Option<ReasoningLimit>,
}

impl Filter {
    /// A filter, if there is anything to restrict.
    pub(crate) fn boxed(
        shape: Option<ConstraintState>,
        limit: Option<ReasoningLimit>,
    ) -> Option<Box<dyn TokenFilter>> {
        (shape.is_some() || limit.is_some())
            .then(|| Box::new(Filter { shape, limit }) as Box<dyn TokenFilter>)
    }

    fn is_ending(&self) -> bool {
        self.limit.as_ref().is_some_and(ReasoningLimit::is_ending)
    }
}

impl TokenFilter for Filter {
    fn mask(&mut self) -> Result<Option<&[u32]>, String> {
        match (&mut self.shape, &mut self.limit) {
            (Some(shape), limit) if !limit.as_ref().is_some_and(ReasoningLimit::is_ending) => {
                match shape.mask().map_err(cause)? {
                    // The shape is what comes after reasoning, so that it does not begin any again.
                    Some(mask) => Ok(Some(mask)),
                    None => Ok(limit.as_mut().and_then(ReasoningLimit::mask)),
                }
            }
            (_, limit) => Ok(limit.as_mut().and_then(ReasoningLimit::mask)),
        }
    }

    fn accepts(&mut self) -> bool {
        !self.is_ending() && self.shape.as_mut().is_none_or(ConstraintState::is_accepting)
    }

    fn commit(&mut self, token: u32) -> Result<(), String> {
        if let Some(limit) = &mut self.limit {
            limit.commit(token);
        }
        self.shape.as_mut().map_or(Ok(()), |shape| shape.commit(token).map_err(cause))
    }

    fn valid(&mut self, draft: &[u32]) -> usize {
        let most = self.limit.as_ref().map_or(draft.len(), |limit| limit.valid(draft));
        self.shape.as_mut().map_or(most, |shape| shape.valid(&draft[..most]))
    }

    fn boxed_clone(&self) -> Box<dyn TokenFilter> {
        Box::new(self.clone())
    }
}

fn cause(error: ConstraintError) -> String {
    format!("cannot go on: {error}")
}

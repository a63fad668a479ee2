//! How well documents answer a query, with the prompt of Qwen3-Reranker (arXiv 2506.05176, appendix).

use crate::Error;
use crate::encoder::{Encoder, Output};
use crate::load::Prepared;
use sampan_model::{Logits, Model, labels};
use sampan_text::Special;
use std::sync::Arc;

/// What documents are for when nothing else is said.
pub const DEFAULT_INSTRUCT: &str =
    "Given a web search query, retrieve relevant passages that answer the query";

const BEFORE: &str = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and \
    the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n";

const AFTER: &str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

/// A document's relevance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Tokens of the whole prompt.
    pub tokens: usize,
    /// Probability of `yes` against `no`, from 0 to 1.
    pub score: f32,
}

/// A loaded model that says how well documents answer a query.
#[derive(Debug)]
pub struct Reranker {
    encoder: Encoder,
    /// The row of the head that says yes.
    yes: usize,
    /// The row that says no; without one, the other says both.
    no: Option<usize>,
}

impl Reranker {
    /// Loads a model: a causal one whose vocabulary has the words `yes` and `no`, or one with a head of those two rows or of
    /// their difference.
    ///
    /// # Errors
    /// What is wrong with the files, or a model that cannot say `yes` and `no`.
    pub fn load(prepared: Prepared, progress: &mut dyn FnMut(u64, u64)) -> Result<Reranker, Error> {
        own_labels(&prepared)?;
        let model = Encoder::load(&prepared, progress)?;
        Reranker::over(&prepared, model)
    }

    /// The same over weights that are in memory already.
    ///
    /// # Errors
    /// As [`Reranker::load`].
    pub fn over(prepared: &Prepared, model: Arc<Model>) -> Result<Reranker, Error> {
        let labels = own_labels(prepared)?;
        let encoder = Encoder::over(prepared, model)?;
        let place = |word: &str| match &labels {
            None => encoder.tokenizer.id_of(word).map(|id| id as usize),
            Some(labels) => labels.iter().position(|label| label == word),
        };
        if labels.as_ref().is_some_and(|labels| labels.len() == 1) {
            return Ok(Reranker { encoder, yes: 0, no: None });
        }
        match (place("yes"), place("no")) {
            (Some(yes), no @ Some(_)) => Ok(Reranker { encoder, yes, no }),
            _ => Err(unsuited(&encoder.name, "it has no outputs for the words `yes` and `no`")),
        }
    }

    /// The model as it was named.
    pub fn name(&self) -> &str {
        &self.encoder.name
    }

    /// The score of each document.
    ///
    /// # Errors
    /// A query and document longer than the context (nothing is cut), weights that are damaged.
    pub fn scores<S: AsRef<str>>(
        &mut self,
        instruct: &str,
        query: &str,
        documents: &[S],
    ) -> Result<Vec<Score>, Error> {
        let fixed = |text| self.encoder.tokenizer.encode(text, Special::Parse).map_err(Error::Encode);
        let (before, after) = (fixed(BEFORE)?, fixed(AFTER)?);
        let prompt = |document: &S| {
            let document = document.as_ref();
            let text = format!("<Instruct>: {instruct}\n<Query>: {query}\n<Document>: {document}");
            Ok([&before[..], &self.encoder.encode(&text)?, &after].concat())
        };
        let ids: Vec<Vec<u32>> = documents.iter().map(prompt).collect::<Result<_, Error>>()?;
        self.encoder.check_lengths(&ids, |at| format!("the query with document {}", at + 1))?;
        let mut scores = vec![f32::NAN; ids.len()];
        let (yes, no) = (self.yes, self.no);
        self.encoder.run(&ids, Output::Logits, Logits::Last, &mut |at, logits| {
            if !logits.is_empty() {
                // Softmax over two logits, of which only their difference counts.
                let against = no.map_or(0.0, |no| logits[no]);
                scores[at] = 1.0 / (1.0 + (against - logits[yes]).exp());
            }
        });
        if scores.iter().any(|score| score.is_nan()) {
            return Err(Error::NotFinite { model: self.encoder.name.clone() });
        }
        Ok(scores.into_iter().zip(ids).map(|(score, ids)| Score { tokens: ids.len(), score }).collect())
    }
}

fn unsuited(model: &str, why: &str) -> Error {
    Error::Unsuited {
        model: model.to_owned(),
        why: why.to_owned(),
        instead: "choose a model of the kind of Qwen3-Reranker".into(),
    }
}

/// What the rows of the head mean, if they are no tokens.
fn own_labels(prepared: &Prepared) -> Result<Option<Vec<String>>, Error> {
    match prepared.plan.head {
        None => Err(unsuited(&prepared.name, "it has no head: it makes vectors")),
        Some(head) if head.rows == prepared.plan.vocab => Ok(None),
        Some(_) => labels(&prepared.checkpoint, &prepared.plan)
            .map_err(|source| Error::Plan { model: prepared.name.clone(), source }),
    }
}

//! Text in, vectors out.

use crate::Error;
use crate::encoder::{Encoder, Output};
use crate::load::Prepared;
use sampan_model::{Logits, Model};
use sampan_weights::{Checkpoint, Kind};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// How the tokens' hidden states become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The last token's, which is the end-of-text token.
    Last,
    /// The mean of all.
    Mean,
    /// The first token's.
    First,
}

impl Pooling {
    /// GGUF's number for it, under `{architecture}.pooling_type`.
    pub fn number(self) -> u32 {
        match self {
            Pooling::Mean => 1,
            Pooling::First => 2,
            Pooling::Last => 3,
        }
    }

    /// The kind that has this number in GGUF.
    pub fn of_number(number: u64) -> Option<Pooling> {
        [Pooling::Mean, Pooling::First, Pooling::Last]
            .into_iter()
            .find(|kind| u64::from(kind.number()) == number)
    }

    /// What sentence-transformers call it in `1_Pooling/config.json`.
    pub fn mode(self) -> &'static str {
        match self {
            Pooling::Last => "pooling_mode_lasttoken",
            Pooling::Mean => "pooling_mode_mean_tokens",
            Pooling::First => "pooling_mode_cls_token",
        }
    }

    /// What the files of a model say: `{architecture}.pooling_type` of GGUF, `1_Pooling/config.json` of sentence-transformers;
    /// `None`: nothing.
    ///
    /// # Errors
    /// A kind that is not known, or a model that makes no vectors.
    pub fn stated(model: &str, checkpoint: &Checkpoint) -> Result<Option<Pooling>, Error> {
        let unsuited = |why: String, instead: &str| {
            Err(Error::Unsuited { model: model.to_owned(), why, instead: instead.to_owned() })
        };
        if checkpoint.kind() == Kind::Gguf {
            let metadata = checkpoint.metadata();
            let key = format!("{}.pooling_type", metadata.need_str("general.architecture")?);
            return match metadata.u64(&key)? {
                None => Ok(None),
                Some(0) => {
                    unsuited(format!("{key} = 0: it makes no vector of a text"), "name one with --pooling")
                }
                Some(4) => unsuited(format!("{key} = 4: it ranks documents"), "use `sampan rerank`"),
                Some(number) => match Pooling::of_number(number) {
                    None => unsuited(
                        format!("{key} = {number} is no known kind of pooling"),
                        "name one with --pooling",
                    ),
                    known => Ok(known),
                },
            };
        }
        let folder =
            if checkpoint.path().is_dir() { Some(checkpoint.path()) } else { checkpoint.path().parent() };
        let Some(path) =
            folder.map(|folder| folder.join("1_Pooling/config.json")).filter(|path| path.is_file())
        else {
            return Ok(None);
        };
        let read = std::fs::read(&path).ok();
        let config: Option<serde_json::Value> = read.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let on = |key: &str| config.as_ref().is_some_and(|config| config[key] == true);
        let mut named =
            [Pooling::Last, Pooling::Mean, Pooling::First].into_iter().filter(|kind| on(kind.mode()));
        match (named.next(), named.next()) {
            (Some(pooling), None) => Ok(Some(pooling)),
            _ => unsuited(
                format!("{} names no single known kind of pooling", path.display()),
                "name one with --pooling",
            ),
        }
    }
}

impl FromStr for Pooling {
    type Err = String;

    fn from_str(text: &str) -> Result<Pooling, String> {
        match text {
            "last" => Ok(Pooling::Last),
            "mean" => Ok(Pooling::Mean),
            "first" | "cls" => Ok(Pooling::First),
            _ => Err("known: last, mean, first".to_owned()),
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pooling::Last => "last",
            Pooling::Mean => "mean",
            Pooling::First => "first",
        })
    }
}

/// What is asked of the vectors.
#[derive(Clone, Debug)]
pub struct EmbedOptions {
    /// Written before every text as `Instruct: {task}\nQuery:{text}`. Queries get one, documents none.
    pub instruct: Option<String>,
    /// Only so many numbers of each vector (Matryoshka representation learning, arXiv 2205.13147).
    pub dimensions: Option<usize>,
    /// Scale vectors to length 1, after they were cut.
    pub normalize: bool,
    /// Leave out the end of a text that is longer than the context, instead of refusing it.
    pub truncate: bool,
}

impl Default for EmbedOptions {
    fn default() -> EmbedOptions {
        EmbedOptions { instruct: None, dimensions: None, normalize: true, truncate: false }
    }
}

/// A text's vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Tokens of the text, with what was put around it.
    pub tokens: usize,
    /// Tokens that were left out because the context had no room for them.
    pub left_out: usize,
    /// The numbers.
    pub vector: Vec<f32>,
}

/// A loaded model that makes vectors.
#[derive(Debug)]
pub struct Embedder {
    encoder: Encoder,
    pooling: Pooling,
    end: Option<u32>,
}

impl Embedder {
    /// Loads a model. `pooling`: instead of what the files say, which is [`Pooling::Last`] where they say nothing.
    ///
    /// # Errors
    /// What is wrong with the files, a model that is made for something else, a kind of pooling that is not known.
    pub fn load(
        prepared: Prepared,
        pooling: Option<Pooling>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Embedder, Error> {
        let pooling = pooling_of(&prepared, pooling)?;
        let model = Encoder::load(&prepared, progress)?;
        Embedder::over(&prepared, model, Some(pooling))
    }

    /// The same over weights that are in memory already.
    ///
    /// # Errors
    /// As [`Embedder::load`].
    pub fn over(prepared: &Prepared, model: Arc<Model>, pooling: Option<Pooling>) -> Result<Embedder, Error> {
        let pooling = pooling_of(prepared, pooling)?;
        let encoder = Encoder::over(prepared, model)?;
        let tokenizer = &encoder.tokenizer;
        let stated = tokenizer.eos().first().copied().filter(|_| tokenizer.add_eos());
        let end = stated.or_else(|| {
            tokenizer
                .id_of("<|endoftext|>")
                .filter(|&id| pooling == Pooling::Last && tokenizer.is_special(id))
        });
        Ok(Embedder { encoder, pooling, end })
    }

    /// The model as it was named.
    pub fn name(&self) -> &str {
        &self.encoder.name
    }

    /// How hidden states become a vector.
    pub fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Numbers in a whole vector.
    pub fn dimensions(&self) -> usize {
        self.encoder.model.plan().hidden
    }

    /// A vector for each text.
    ///
    /// # Errors
    /// A text longer than the context, unless it may be cut; more dimensions than there are, weights that are damaged.
    pub fn embed<S: AsRef<str>>(
        &mut self,
        texts: &[S],
        options: &EmbedOptions,
    ) -> Result<Vec<Embedding>, Error> {
        let whole = self.dimensions();
        let dimensions = options.dimensions.unwrap_or(whole);
        if dimensions == 0 || dimensions > whole {
            return Err(Error::Dimensions { asked: dimensions, whole });
        }
        let mut ids: Vec<Vec<u32>> =
            texts.iter().map(|text| self.ids(text.as_ref(), options)).collect::<Result<_, _>>()?;
        let cut = |ids: &mut Vec<u32>| if options.truncate { self.cut(ids) } else { 0 };
        let left_out: Vec<usize> = ids.iter_mut().map(cut).collect();
        self.encoder.check_lengths(&ids, |at| format!("text {}", at + 1))?;
        let mut vectors = vec![Vec::new(); ids.len()];
        let pooling = self.pooling;
        let wanted = if pooling == Pooling::Last { Logits::Last } else { Logits::All };
        self.encoder.run(&ids, Output::Hidden, wanted, &mut |at, rows| {
            let vector: &mut Vec<f32> = &mut vectors[at];
            for row in rows.chunks_exact(whole) {
                match pooling {
                    Pooling::Mean if !vector.is_empty() => {
                        vector.iter_mut().zip(row).for_each(|(v, x)| *v += x)
                    }
                    Pooling::First if !vector.is_empty() => {}
                    _ => *vector = row.to_vec(),
                }
            }
        });
        let finish = |((mut vector, ids), left_out): ((Vec<f32>, Vec<u32>), usize)| {
            if pooling == Pooling::Mean {
                vector.iter_mut().for_each(|x| *x /= ids.len() as f32);
            }
            vector.truncate(dimensions);
            if vector.iter().any(|x| !x.is_finite()) {
                return Err(Error::NotFinite { model: self.encoder.name.clone() });
            }
            if options.normalize {
                normalize(&mut vector);
            }
            Ok(Embedding { tokens: ids.len(), left_out, vector })
        };
        vectors.into_iter().zip(ids).zip(left_out).map(finish).collect()
    }

    /// Leaves out the end of a text that is too long, but not the token that the model expects there. Gives the number of
    /// tokens that are gone.
    fn cut(&self, ids: &mut Vec<u32>) -> usize {
        let left_out = ids.len().saturating_sub(self.encoder.context);
        ids.truncate(ids.len() - left_out);
        if let (true, Some(last), Some(end)) = (left_out > 0, ids.last_mut(), self.end) {
            *last = end;
        }
        left_out
    }

    fn ids(&self, text: &str, options: &EmbedOptions) -> Result<Vec<u32>, Error> {
        let tokenizer = &self.encoder.tokenizer;
        let mut ids: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.add_bos()).into_iter().collect();
        ids.extend(match &options.instruct {
            None => self.encoder.encode(text)?,
            Some(task) => self.encoder.encode(&format!("Instruct: {task}\nQuery:{text}"))?,
        });
        ids.extend(self.end);
        match ids.is_empty() {
            true => Err(Error::EmptyText),
            false => Ok(ids),
        }
    }
}

/// The pooling that was asked for, or that the files state, or that of most models.
fn pooling_of(prepared: &Prepared, asked: Option<Pooling>) -> Result<Pooling, Error> {
    match asked {
        Some(pooling) => Ok(pooling),
        None => Ok(Pooling::stated(&prepared.name, &prepared.checkpoint)?.unwrap_or(Pooling::Last)),
    }
}

/// Scales to length 1; a vector of zeros stays what it is.
fn normalize(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    if square > 0.0 {
        let factor = 1.0 / square.sqrt();
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_become_one_and_zeros_stay() {
        let mut vector = vec![3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zeros = vec![0.0; 3];
        normalize(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }
}

//! What a change to a model did to what it thinks: the distance between two distributions after every token of a text.

use crate::Error;
use crate::reader::{Reader, Thought, Windows};
use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What a model thought of a text, on disk: a row of logarithms of probabilities for every token that was predicted.
/// The file is gone with this.
#[derive(Debug)]
pub struct Recorded {
    path: PathBuf,
    file: File,
    /// Sum of the logarithms of the probabilities of what came.
    seen: f64,
    tokens: usize,
}

/// How far a model is from the one that was recorded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Damage {
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Perplexity of the original: the exponential of the mean surprise.
    pub perplexity_before: f64,
    /// And of the changed model.
    pub perplexity_after: f64,
    /// Mean of the Kullback-Leibler divergence of the changed distribution from the original, in nats.
    pub mean_kl: f64,
    /// Standard error of that mean.
    pub mean_kl_error: f64,
    /// The largest.
    pub max_kl: f64,
    /// Share of tokens after which both find the same token likeliest, in 0..=1.
    pub same_top: f64,
}

impl Recorded {
    /// Reads the text and writes what the model thinks to a new file at `path`.
    ///
    /// # Errors
    /// Logits that are not finite; a file that cannot be written.
    pub fn record(reader: &mut Reader, windows: &Windows, path: &Path) -> Result<Recorded, Error> {
        let open = OpenOptions::new().read(true).write(true).create_new(true).open(path);
        let file = open.map_err(|source| failed(path, source))?;
        let mut recorded = Recorded { path: path.to_path_buf(), file, seen: 0.0, tokens: 0 };
        let mut out = BufWriter::with_capacity(1 << 20, &recorded.file);
        let (mut seen, mut tokens, mut row) = (0.0, 0, Vec::new());
        reader.read(windows, &mut |Thought { logits, next }| {
            log_probabilities(logits, &mut row);
            seen += f64::from(row[next as usize]);
            tokens += 1;
            row.iter().try_for_each(|x| out.write_all(&x.to_le_bytes())).map_err(|e| failed(path, e))
        })?;
        out.flush().map_err(|source| failed(path, source))?;
        drop(out);
        (recorded.seen, recorded.tokens) = (seen, tokens);
        Ok(recorded)
    }

    /// Reads the same text with the changed model.
    ///
    /// # Errors
    /// Logits that are not finite; the file cannot be read back.
    pub fn compare(&mut self, reader: &mut Reader, windows: &Windows) -> Result<Damage, Error> {
        let path = self.path.clone();
        self.file.seek(SeekFrom::Start(0)).map_err(|source| failed(&path, source))?;
        let mut file = BufReader::with_capacity(1 << 20, &self.file);
        let (mut after, mut sum, mut squares, mut max, mut same) = (0.0, 0.0, 0.0, 0.0f64, 0usize);
        let (mut p, mut q, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        reader.read(windows, &mut |Thought { logits, next }| {
            log_probabilities(logits, &mut q);
            bytes.resize(4 * q.len(), 0);
            file.read_exact(&mut bytes).map_err(|source| failed(&path, source))?;
            p.clear();
            p.extend(bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)));
            let kl = divergence(&p, &q);
            (sum, squares, max) = (sum + kl, squares + kl * kl, max.max(kl));
            same += usize::from(top(&p) == top(&q));
            after += f64::from(q[next as usize]);
            Ok(())
        })?;
        let n = self.tokens.max(1) as f64;
        let mean = sum / n;
        Ok(Damage {
            tokens: self.tokens,
            perplexity_before: (-self.seen / n).exp(),
            perplexity_after: (-after / n).exp(),
            mean_kl: mean,
            mean_kl_error: ((squares / n - mean * mean).max(0.0) / n).sqrt(),
            max_kl: max,
            same_top: same as f64 / n,
        })
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Weights(sampan_weights::Error::Io { path: path.to_path_buf(), source })
}

/// `log(softmax(logits))`
fn log_probabilities(logits: &[f32], out: &mut Vec<f32>) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from((x - max).exp())).sum();
    let log = f64::from(max) + sum.ln();
    out.clear();
    out.extend(logits.iter().map(|&x| (f64::from(x) - log) as f32));
}

/// `sum p (log p - log q)`, from logarithms.
fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let term = |(&p, &q): (&f32, &f32)| f64::from(p.exp()) * (f64::from(p) - f64::from(q));
    // Rounding may take a sum of next to nothing below it.
    p.iter().zip(q).map(term).sum::<f64>().max(0.0)
}

fn top(row: &[f32]) -> Option<usize> {
    (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergences_are_those_of_the_book() {
        let logs = |probabilities: &[f32]| probabilities.iter().map(|p| p.ln()).collect::<Vec<f32>>();
        for (p, q, expected) in [
            (&[0.5, 0.5][..], &[0.5, 0.5][..], 0.0),
            (&[0.5, 0.5], &[0.25, 0.75], 0.5 * 2f64.ln() + 0.5 * (0.5f64 / 0.75).ln()),
            (&[0.9, 0.1], &[0.1, 0.9], 0.8 * 9f64.ln()),
        ] {
            assert!((divergence(&logs(p), &logs(q)) - expected).abs() < 1e-6, "{p:?} {q:?}");
        }
        let mut out = Vec::new();
        log_probabilities(&[1000.0, 1000.0 + 3f32.ln()], &mut out);
        assert!((out[0].exp() - 0.25).abs() < 1e-4 && (out[1].exp() - 0.75).abs() < 1e-4, "{out:?}");
        assert_eq!(top(&[1.0, 3.0, 3.0, 2.0]), Some(1));
    }
}

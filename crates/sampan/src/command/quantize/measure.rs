//! What the original thinks of texts before it is quantised, and how far the result is from it afterwards.

use super::super::{LoadingBar, say};
use super::QuantizeArgs;
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::render::{table, three_digits};
use sampan::damage::{Damage, Recorded};
use sampan::{EVALUATION, Error, Reader, Source, Windows};
use sampan_model::Importance;
use serde_json::{Value, json};
use std::path::Path;

/// What was asked of the original.
pub(super) struct Original {
    pub(super) importance: Option<Importance>,
    thoughts: Option<(Windows, Recorded)>,
}

impl Original {
    /// Reads the texts with the original, if any are to be read.
    pub(super) fn ask(args: &QuantizeArgs, source: &Source, context: &Context) -> Result<Original> {
        let nothing = Original { importance: None, thoughts: None };
        if args.calibrate.is_none() && args.no_report {
            return Ok(nothing);
        }
        let calibration = args.calibrate.as_deref().map(read_text).transpose()?;
        let evaluation = args.eval.as_deref().map(read_text).transpose()?;
        let mut reader = match load(args, source, context) {
            Ok(reader) => reader,
            // Nobody asked for it: what cannot be measured is no reason not to quantise.
            Err(
                error @ (Error::NoTokenizer { .. }
                | Error::Unsuited { .. }
                | Error::Memory { .. }
                | Error::Tokenizer { .. }),
            ) if calibration.is_none() && evaluation.is_none() => {
                if !args.quiet {
                    say(&format!("note: what is lost is not measured: {error}"));
                }
                return Ok(nothing);
            }
            Err(error) => return Err(error.into()),
        };
        let importance = match calibration {
            None => None,
            Some(text) => {
                let windows = reader.windows(&text)?;
                let mut bar = LoadingBar::counting("calibrating: token", context.terminal, args.quiet);
                Some(reader.importance(&windows, &mut |done, total| bar.update(done, total))?)
            }
        };
        let thoughts = match args.no_report {
            true => None,
            false => {
                let windows = reader.windows(evaluation.as_deref().unwrap_or(EVALUATION))?;
                let recorded = Recorded::record(&mut reader, &windows, &beside(&args.to.path))?;
                Some((windows, recorded))
            }
        };
        Ok(Original { importance, thoughts })
    }

    /// Reads the text again with the result.
    pub(super) fn compare(self, args: &QuantizeArgs, context: &Context) -> Result<Option<Damage>> {
        let Some((windows, mut recorded)) = self.thoughts else { return Ok(None) };
        let mut reader = load(args, &Source::Path(args.to.path.clone()), context)?;
        Ok(Some(recorded.compare(&mut reader, &windows)?))
    }
}

fn load(args: &QuantizeArgs, source: &Source, context: &Context) -> Result<Reader, Error> {
    let mut bar = LoadingBar::new(context.terminal, args.quiet);
    Reader::load(source, &args.machine.options(), &mut |done, total| bar.update(done, total))
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|e| AppError::file("read", path, &e))?;
    super::super::utf8(bytes, &path.display().to_string())
}

/// A hidden name beside the result.
fn beside(path: &Path) -> std::path::PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}-thoughts.part", std::process::id()))
}

/// The figures as a small table.
pub(super) fn text(damage: &Damage, mix: &str) -> String {
    let row = |what: &str, before: String, after: String| vec![what.to_owned(), before, after];
    let kl = format!(
        "{:.5} +- {:.5}, at most {}",
        damage.mean_kl,
        damage.mean_kl_error,
        three_digits(damage.max_kl)
    );
    let rows = [
        row(
            "perplexity",
            format!("{:.3}", damage.perplexity_before),
            format!("{:.3}", damage.perplexity_after),
        ),
        row("KL divergence", String::new(), kl),
        row("same likeliest token", String::new(), format!("{:.1} %", 100.0 * damage.same_top)),
    ];
    let header = format!("after {} tokens", damage.tokens);
    table(&[&header, "original", mix], &rows)
}

/// The figures for programs.
pub(super) fn json(damage: &Damage) -> Value {
    json!({
        "tokens": damage.tokens,
        "perplexity_before": damage.perplexity_before,
        "perplexity_after": damage.perplexity_after,
        "mean_kl": damage.mean_kl,
        "mean_kl_error": damage.mean_kl_error,
        "max_kl": damage.max_kl,
        "same_top": damage.same_top,
    })
}

//! What the rows of a head mean that ranks texts instead of predicting tokens.

use crate::error::PlanError;
use crate::plan::Plan;
use sampan_weights::{Checkpoint, Kind};

/// The key below `{arch}.` in GGUF metadata.
pub(crate) const GGUF_LABELS: &str = "classifier.output_labels";

/// A name for every row of the head of a model that ranks (`{arch}.classifier.output_labels` of GGUF, `id2label` of
/// config.json); `None` where the rows are those of tokens, or there is no head. A single row needs no name.
///
/// # Errors
/// When there are several rows and not as many names.
pub fn labels(checkpoint: &Checkpoint, plan: &Plan) -> Result<Option<Vec<String>>, PlanError> {
    let Some(head) = plan.head.filter(|head| head.rows != plan.vocab) else { return Ok(None) };
    let (key, named) = match checkpoint.kind() {
        Kind::Gguf => {
            let metadata = checkpoint.metadata();
            let key = format!("{}.{GGUF_LABELS}", metadata.need_str("general.architecture")?);
            let named = metadata.strs(&key)?.map(<[String]>::to_vec);
            (key, named)
        }
        _ => ("id2label".to_owned(), id2label(checkpoint, head.rows)),
    };
    match named {
        Some(labels) if labels.len() == head.rows => Ok(Some(labels)),
        None if head.rows == 1 => Ok(Some(vec!["LABEL_0".to_owned()])),
        named => Err(PlanError::Labels { key, labels: named.map_or(0, |list| list.len()), rows: head.rows }),
    }
}

/// The names of rows 0 and up to the first that has none.
fn id2label(checkpoint: &Checkpoint, rows: usize) -> Option<Vec<String>> {
    let names = checkpoint.config()?.get("id2label")?.as_object()?;
    let name = |row: usize| names.get(&row.to_string())?.as_str().map(str::to_owned);
    Some((0..rows.max(names.len())).map_while(name).collect())
}

//! `sampan rerank`: which documents answer a query best.

use super::{LoadingBar, announce, print, print_json, texts};
use crate::cli::Context;
use crate::error::Result;
use crate::flags::ModelArgs;
use crate::render;
use clap::Args;
use sampan::{DEFAULT_INSTRUCT, Prepared, Reranker};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Sort documents by how well they answer a query.
///
/// Documents come from the command line and from the lines of --file; where neither is given, from the lines of
/// stdin. The score is the probability that a reranking model gives to `yes` against `no`.
#[derive(Args, Debug)]
pub(crate) struct RerankArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The query
    #[arg(value_name = "QUERY")]
    query: String,
    /// The documents
    #[arg(value_name = "DOC")]
    documents: Vec<String>,
    /// A file whose lines are documents
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What documents are wanted for
    #[arg(long, value_name = "TASK", default_value = DEFAULT_INSTRUCT)]
    instruct: String,
    /// Print only the best N
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: RerankArgs, context: &Context) -> Result<()> {
    let documents = texts(args.documents, args.file.as_deref())?;
    let prepared = Prepared::new(&args.model.source(context, false)?, &args.model.load.options())?;
    announce(&prepared);
    let mut bar = LoadingBar::new(context.terminal, args.json);
    let mut reranker = Reranker::load(prepared, &mut |done, total| bar.update(done, total))?;
    drop(bar);
    let scores = reranker.scores(&args.instruct, &args.query, &documents)?;
    let mut order: Vec<usize> = (0..documents.len()).collect();
    order.sort_by(|&a, &b| scores[b].score.total_cmp(&scores[a].score)); // stable: equal scores keep their order
    order.truncate(args.top.unwrap_or(usize::MAX));
    if args.json {
        let item = |&index: &usize| {
            json!({"index": index, "score": scores[index].score, "tokens": scores[index].tokens,
                   "document": documents[index]})
        };
        let results: Vec<Value> = order.iter().map(item).collect();
        let name = reranker.name();
        return print_json(&json!({"model": name, "query": args.query, "results": results}));
    }
    let row = |&index: &usize| {
        let document = render::harmless(&documents[index]).into_owned();
        vec![format!("{:.4}", scores[index].score), (index + 1).to_string(), document]
    };
    let rows: Vec<Vec<String>> = order.iter().map(row).collect();
    print(&render::table(&["score", "number", "document"], &rows))
}

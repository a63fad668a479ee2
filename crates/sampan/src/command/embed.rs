//! `sampan embed`: text in, vectors out.

use super::{LoadingBar, announce, print, texts};
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::flags::ModelArgs;
use clap::{Args, ValueEnum};
use sampan::{EmbedOptions, Embedder, Embedding, Pooling, Prepared};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Turn texts into vectors, so that texts of like meaning have like vectors.
///
/// Texts come from the command line and from the lines of --file; where neither is given, from the lines of stdin.
/// An empty line is a text too, so that vector n belongs to line n.
#[derive(Args, Debug)]
pub(crate) struct EmbedArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// The texts
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    /// A file whose lines are texts
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What queries are for; written before every text as `Instruct: TASK` and `Query:` (documents need none)
    #[arg(long, value_name = "TASK")]
    instruct: Option<String>,
    /// Keep only the first N numbers of each vector (for models trained so that these suffice)
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// Leave vectors as long as they are instead of scaling them to length 1
    #[arg(long)]
    no_normalize: bool,
    /// Which token speaks for the text: last, mean (of all) or first [default: what the model's files say, or last]
    #[arg(long, value_name = "KIND")]
    pooling: Option<Pooling>,
    /// How vectors are written
    #[arg(long, value_name = "FORMAT", default_value = "json", requires_if("npy", "output"))]
    format: Format,
    /// Write to a file instead of stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One object with the model's name, the dimensions and the data
    Json,
    /// NumPy's format: f32, one row for each text; needs --output
    Npy,
}

pub(crate) fn run(args: EmbedArgs, context: &Context) -> Result<()> {
    let texts = texts(args.texts, args.file.as_deref())?;
    let prepared = Prepared::new(&args.model.source(context, false)?, &args.model.load.options())?;
    announce(&prepared);
    let mut bar = LoadingBar::new(context.terminal, false);
    let mut embedder = Embedder::load(prepared, args.pooling, &mut |done, total| bar.update(done, total))?;
    drop(bar);
    let options = EmbedOptions {
        instruct: args.instruct,
        dimensions: args.dimensions,
        normalize: !args.no_normalize,
        ..EmbedOptions::default()
    };
    let data = embedder.embed(&texts, &options)?;
    let dimensions = options.dimensions.unwrap_or(embedder.dimensions());
    let bytes = match args.format {
        Format::Json => json(embedder.name(), dimensions, &data)?.into_bytes(),
        Format::Npy => npy(dimensions, &data),
    };
    match (&args.output, String::from_utf8(bytes)) {
        (Some(path), Ok(text)) => write(path, text.as_bytes()),
        (Some(path), Err(bytes)) => write(path, bytes.as_bytes()),
        (None, Ok(text)) => print(&text),
        (None, Err(_)) => Err(AppError::internal("numbers for stdout that are no text")),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).map_err(|e| AppError::file("write", path, &e))
}

/// One object; each vector on a line of its own.
fn json(model: &str, dimensions: usize, data: &[Embedding]) -> Result<String> {
    #[derive(Serialize)]
    struct Item<'a> {
        index: usize,
        tokens: usize,
        embedding: &'a [f32],
    }
    let wrong = |e: serde_json::Error| AppError::internal(e);
    let model = serde_json::to_string(model).map_err(wrong)?;
    let mut text = format!("{{\"model\": {model}, \"dimensions\": {dimensions}, \"data\": [\n");
    for (index, Embedding { tokens, vector, .. }) in data.iter().enumerate() {
        let item = Item { index, tokens: *tokens, embedding: vector };
        let comma = if index + 1 < data.len() { "," } else { "" };
        let _ = writeln!(text, "{}{comma}", serde_json::to_string(&item).map_err(wrong)?);
    }
    text.push_str("]}\n");
    Ok(text)
}

/// NumPy's format, version 1.0: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
fn npy(dimensions: usize, data: &[Embedding]) -> Vec<u8> {
    /// Magic, version and length of the header.
    const BEGIN: usize = 10;
    let shape = format!("({}, {dimensions})", data.len());
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let padding = (BEGIN + header.len() + 1).next_multiple_of(64) - BEGIN - header.len() - 1;
    header.push_str(&" ".repeat(padding));
    header.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.as_bytes());
    out.extend(data.iter().flat_map(|item| &item.vector).flat_map(|x| x.to_le_bytes()));
    out
}

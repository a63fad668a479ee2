//! `sampan tokenize`: text to ids and back, as the model would get them.

use super::fetch::source;
use super::{print, read_stdin};
use crate::cli::Context;
use crate::error::{AppError, Result};
use crate::flags::HubArgs;
use clap::Args;
use sampan::{Error, speech};
use sampan_text::Special;

/// Turn text on stdin into a JSON array of token ids, or ids back into text.
#[derive(Args, Debug)]
pub(crate) struct TokenizeArgs {
    /// A model, a vocabulary-only GGUF file, or a tokenizer.json
    #[arg(value_name = "MODEL")]
    model: String,
    /// Turn a JSON array of ids on stdin into text
    #[arg(long)]
    decode: bool,
    /// Let control tokens in the text (such as <|im_end|>) count; with --decode, print them
    #[arg(long)]
    special: bool,
    #[command(flatten)]
    hub: HubArgs,
}

pub(crate) fn run(args: TokenizeArgs, context: &Context) -> Result<()> {
    let checkpoint = source(&args.model, &args.hub, context, false)?.open()?;
    let tokenizer = speech::tokenizer(&args.model, &checkpoint)?;
    let input = read_stdin()?;
    if args.decode {
        let ids = parse_ids(&input)?;
        let size = tokenizer.vocab_size();
        if let Some((at, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= size) {
            let what =
                format!("id {id} (number {} in the list) is outside the vocabulary of {size} tokens", at + 1);
            return Err(AppError::user(what).hint("the ids may belong to another model"));
        }
        return print(&tokenizer.decode(&ids, !args.special));
    }
    let special = if args.special { Special::Parse } else { Special::AsText };
    let ids = tokenizer.encode(&input, special).map_err(Error::Encode)?;
    let list: Vec<String> = ids.iter().map(u32::to_string).collect();
    print(&format!("[{}]\n", list.join(", ")))
}

fn parse_ids(input: &str) -> Result<Vec<u32>> {
    serde_json::from_str(input).map_err(|e| {
        AppError::user(format!("stdin is not a JSON array of token ids: {e}"))
            .hint("write for example [1, 15043]")
    })
}

//! What can be typed, and the way from there to an exit code.

use crate::command::{
    bench, check, convert, doctor, embed, fit, list, pull, quantize, rerank, rm, run, serve, show, template,
    tokenize,
};
use crate::environment::Environment;
use crate::error::{AppError, Exit};
use crate::render::Terminal;
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Run open-weight language models on an ordinary CPU.
#[derive(Debug, Parser)]
#[command(name = "sampan", version, about, disable_help_subcommand = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str =
    "Exit codes: 0 all done; 1 the input cannot be used, with a hint; 2 sampan's own fault.
Try it without any download: sampan run mini \"three plus four\"";

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "made once, when the program starts")]
enum Command {
    /// Talk to a model, or pipe text through it
    Run(run::RunArgs),
    /// Answer programs over HTTP: the APIs of OpenAI, Anthropic and Ollama
    Serve(serve::ServeArgs),
    /// Fetch a model, verify it and keep it
    Pull(pull::PullArgs),
    /// List the models on this machine
    List(list::ListArgs),
    /// Remove models
    Rm(rm::RmArgs),
    /// Remove what is left of interrupted pulls, and what no model uses
    Gc(rm::GcArgs),
    /// Turn texts into vectors
    Embed(embed::EmbedArgs),
    /// Sort documents by how well they answer a query
    Rerank(rerank::RerankArgs),
    /// Compare a model with recorded logits, to prove that a conversion is faithful
    Check(check::CheckArgs),
    /// Write a safetensors checkpoint as one GGUF file
    Convert(convert::ConvertArgs),
    /// Write a model with fewer bits per weight
    Quantize(quantize::QuantizeArgs),
    /// Turn text on stdin into token ids, or ids back into text
    Tokenize(tokenize::TokenizeArgs),
    /// Print the prompt that a chat template makes of messages
    Template(template::TemplateArgs),
    /// Say what a model is, how large, and what memory it needs
    Show(show::ShowArgs),
    /// Say which formats of a model suit this machine, before it is loaded
    Fit(fit::FitArgs),
    /// Say what was found of this machine and what was chosen for it
    Doctor(doctor::DoctorArgs),
    /// Measure prompt and generation speed against this machine's limit
    Bench(bench::BenchArgs),
}

/// What every command gets besides its flags.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) environment: Environment,
    pub(crate) terminal: Terminal,
}

/// Parses the command line, does what it says, and reports how that ended.
pub(crate) fn main() -> ExitCode {
    let environment = Environment::read();
    let terminal = Terminal::detect(&environment);
    let context = Context { environment, terminal };
    quiet_panics();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command, &context),
        Err(error) => usage(&error, context.terminal),
    }));
    let error = match outcome {
        Ok(Ok(())) => return Exit::Success.into(),
        Ok(Err(error)) => error,
        Err(_) => AppError::silent(Exit::Internal),
    };
    // When stderr itself is gone there is nobody to tell; the exit code still tells.
    let _ = std::io::stderr().write_all(error.render(terminal.stderr && terminal.colour).as_bytes());
    error.exit().into()
}

fn dispatch(command: Command, context: &Context) -> Result<(), AppError> {
    match command {
        Command::Run(args) => run::run(args, context),
        Command::Serve(args) => serve::run(args, context),
        Command::Pull(args) => pull::run(args, context),
        Command::List(args) => list::run(args, context),
        Command::Rm(args) => rm::rm(args, context),
        Command::Gc(args) => rm::gc(args, context),
        Command::Embed(args) => embed::run(args, context),
        Command::Rerank(args) => rerank::run(args, context),
        Command::Check(args) => check::run(args, context),
        Command::Convert(args) => convert::run(args, context),
        Command::Tokenize(args) => tokenize::run(args, context),
        Command::Template(args) => template::run(args, context),
        Command::Show(args) => show::run(args, context),
        Command::Quantize(args) => quantize::run(args, context),
        Command::Fit(args) => fit::run(args, context),
        Command::Doctor(args) => doctor::run(args),
        Command::Bench(args) => bench::run(args, context),
    }
}

/// A panic is our fault: say where, in one line, and let [`main`] turn it into an exit code.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
        let what = info.payload_as_str().unwrap_or("panic");
        let error = AppError::internal(format!("{what}{place}"));
        let _ = std::io::stderr().write_all(error.render(false).as_bytes());
    }));
}

/// Help and version go to stdout and are no mistake; everything else that clap says is the user's.
fn usage(error: &clap::Error, terminal: Terminal) -> Result<(), AppError> {
    let plain = error.render();
    let text = |decorated: bool| if decorated { plain.ansi().to_string() } else { plain.to_string() };
    if !error.use_stderr() {
        std::io::stdout().write_all(text(terminal.stdout && terminal.colour).as_bytes())?;
        return Ok(());
    }
    let shown = text(terminal.stderr && terminal.colour);
    let body = shown.split("\nFor more information").next().unwrap_or_default();
    let _ = std::io::stderr().write_all(body.trim_end().as_bytes());
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = std::io::stderr().write_all(b"\nhint: name a command, for example: sampan run mini\n");
    } else {
        let typed = std::env::args().nth(1).unwrap_or_default();
        let known = Cli::command().find_subcommand(&typed).is_some();
        let command = if known { format!(" {typed}") } else { String::new() };
        let _ = writeln!(std::io::stderr(), "\nhint: `sampan{command} --help` lists what can be given");
    }
    Err(AppError::silent(Exit::User))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! llama.cpp's turns: a Python process that waits for its turn at its standard input.
//!
//! A line asks, a line of JSON answers: `open`, `prompt TOKENS`, `generate DEPTH TOKENS STREAMS`, `first TOKENS`,
//! `memory`. Before the first question the process says who it is. `{"error": ..., "hint": ...}` ends it.

use super::Runner;
use super::row::{Kind, Row};
use crate::error::{AppError, Result};
use sampan::{KvFormat, Prepared};
use sampan_weights::Kind as FileKind;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// The other side.
const SCRIPT: &str = include_str!("peer.py");

const INSTALL: &str = "`pip install llama-cpp-python` builds it; --python names the interpreter that has it";

/// The file that both measure.
pub(super) fn gguf(model: &str, prepared: &Prepared) -> Result<PathBuf> {
    let path = PathBuf::from(model);
    if prepared.checkpoint.kind() == FileKind::Gguf && path.is_file() {
        return Ok(path);
    }
    Err(AppError::user(format!(
        "--compare needs a GGUF file, for llama.cpp reads nothing else; {model} is none"
    ))
    .hint("`sampan convert FOLDER model.gguf` makes one"))
}

/// Who the peer is, and what it took.
#[derive(Debug)]
pub(super) struct About {
    pub(super) version: String,
    /// What it says about its build and this machine.
    pub(super) system: String,
    pub(super) peak_memory: Option<u64>,
}

/// The peer's format of keys and values that is as large as ours.
pub(super) fn cache_format(kv: KvFormat) -> &'static str {
    match kv {
        KvFormat::F32 => "f32",
        KvFormat::Bf16 => "bf16",
        KvFormat::F16 | KvFormat::I16 => "f16",
        KvFormat::Q8_0 => "q8_0",
    }
}

/// A running peer.
pub(super) struct Peer {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Gives the last line that it wrote to stderr, when it has ended.
    last_words: Option<JoinHandle<String>>,
    about: About,
}

impl Peer {
    /// Starts the interpreter; the model is not loaded yet. `cells`: tokens that its cache must hold, in the peer's format
    /// `cache`.
    pub(super) fn start(
        python: &Path,
        file: &Path,
        threads: usize,
        (cells, cache): (usize, &'static str),
        streams: usize,
    ) -> Result<Peer> {
        let mut command = Command::new(python);
        command.args(["-u", "-c", SCRIPT]).arg(file);
        command.args([threads, cells, streams].map(|n| n.to_string())).arg(cache);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let missing = |e: std::io::Error| {
            let what = format!("cannot start the Python interpreter {}: {e}", python.display());
            AppError::user(what).hint(format!("install Python 3 and llama.cpp's package: {INSTALL}"))
        };
        let mut child = command.spawn().map_err(missing)?;
        let questions = child.stdin.take();
        let answers = child.stdout.take().map(BufReader::new);
        let answers = answers.ok_or_else(|| AppError::internal("a child without stdout"))?;
        let last_words = child.stderr.take().map(|stderr| std::thread::spawn(|| last_line(stderr)));
        let about = About { version: String::new(), system: String::new(), peak_memory: None };
        let mut peer = Peer { child, questions, answers, last_words, about };
        let said = peer.answer()?;
        let text = |key: &str| said[key].as_str().unwrap_or("unknown").to_owned();
        (peer.about.version, peer.about.system) = (text("version"), text("system"));
        Ok(peer)
    }

    /// Loads the model.
    pub(super) fn open(&mut self) -> Result<()> {
        self.ask("open").map(drop)
    }

    /// Loads the model, reads some tokens and generates one.
    pub(super) fn first_token(&mut self, prompt: usize) -> Result<()> {
        self.ask(&format!("first {prompt}")).map(drop)
    }

    /// Ends the process.
    pub(super) fn close(mut self) -> Result<About> {
        let memory = self.ask("memory")?;
        self.questions = None;
        let _ = self.child.wait();
        let none = About { version: String::new(), system: String::new(), peak_memory: None };
        Ok(About { peak_memory: memory["peak_bytes"].as_u64(), ..std::mem::replace(&mut self.about, none) })
    }

    fn ask(&mut self, question: &str) -> Result<Value> {
        if let Some(questions) = &mut self.questions {
            // Where nobody listens, the answer will be missing, and says why.
            let _ = questions.write_all(format!("{question}\n").as_bytes());
        }
        self.answer()
    }

    /// The next line that is an object; libraries may have written others.
    fn answer(&mut self) -> Result<Value> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if self.answers.read_until(b'\n', &mut line).unwrap_or(0) == 0 {
                return Err(self.gone());
            }
            let Ok(answer @ Value::Object(_)) = serde_json::from_slice::<Value>(&line) else { continue };
            return match answer["error"].as_str() {
                Some(error) => Err(AppError::user(error).hint(answer["hint"].as_str().unwrap_or(INSTALL))),
                None => Ok(answer),
            };
        }
    }

    /// The process has ended in the middle of it.
    fn gone(&mut self) -> AppError {
        self.questions = None;
        // It has closed its output; it gets a second to end in its own way.
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let status = self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
        let words = self.last_words.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let last = if words.is_empty() { "it said nothing" } else { &words };
        AppError::user(format!("the process that runs llama.cpp has ended ({status}): {last}"))
            .hint(format!("see that it runs by itself, and is no other Python: {INSTALL}"))
    }
}

/// Reads to the end, so that nobody waits for a full pipe, and keeps the last line that says something.
fn last_line(stderr: ChildStderr) -> String {
    let lines = BufReader::new(stderr).split(b'\n').map_while(Result::ok);
    let last = lines.filter(|line| !line.trim_ascii().is_empty()).last().unwrap_or_default();
    String::from_utf8_lossy(&last).trim().to_owned()
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.questions = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Runner for Peer {
    fn name(&self) -> &str {
        "llama.cpp"
    }

    fn warm_up(&mut self) -> Result<()> {
        self.ask("generate 8 2 1").map(drop)
    }

    fn measure(&mut self, row: &Row) -> Result<f64> {
        let Row { tokens, depth, streams, .. } = row;
        let answer = self.ask(&match row.kind {
            Kind::Prompt => format!("prompt {tokens}"),
            Kind::Generate => format!("generate {depth} {tokens} {streams}"),
        })?;
        let seconds = answer["seconds"].as_f64().filter(|&s| s > 0.0);
        let seconds = seconds.ok_or_else(|| AppError::internal(format!("llama.cpp's side said {answer}")))?;
        Ok((tokens * streams) as f64 / seconds)
    }
}

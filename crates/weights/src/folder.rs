//! Finding a model's files: in a folder, beside a file.

use crate::file::ModelFile;
use crate::json::{Unique, read_config, read_text};
use crate::split::PartName;
use crate::tokenizer::ChatTemplateSource;
use crate::{Error, checkpoint, sniff};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// The file that leads to the tensors.
#[derive(Debug)]
pub(crate) enum Weights {
    /// The first or only file.
    Gguf(PathBuf),
    Safetensors(PathBuf),
    /// `model.safetensors.index.json`.
    Index(PathBuf),
    None,
}

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";

/// Decides what `path` means.
pub(crate) fn find(path: &Path) -> Result<(Weights, Sidecars), Error> {
    let kind = std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
    if kind.is_dir() {
        return find_in_folder(path);
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    // The parent of a bare file name is "", which no system call accepts.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if name == CONFIG {
        return find_in_folder(folder);
    }
    if name.ends_with(".safetensors.index.json") {
        return Ok((Weights::Index(path.to_path_buf()), Sidecars::read(folder)?));
    }
    if name.ends_with(".json") {
        return Ok((Weights::None, Sidecars::around_tokenizer(path, folder, name == TOKENIZER)?));
    }
    let weights = match checkpoint::weights_of_file(path)? {
        Weights::Gguf(file) => Weights::Gguf(first_part(file)?),
        other => other,
    };
    let with_folder = name == SINGLE && folder.join(CONFIG).is_file();
    let sidecars = if with_folder { Sidecars::read(folder)? } else { Sidecars::default() };
    Ok((weights, sidecars))
}

fn first_part(file: PathBuf) -> Result<PathBuf, Error> {
    let Some(name) = PartName::of(&file) else { return Ok(file) };
    let first = name.sibling(&file, 1);
    if !first.is_file() {
        let what = format!("missing: part 1 of the {} that {} belongs to", name.count, file.display());
        return Err(Error::not_a_model(&first, what));
    }
    Ok(first)
}

fn find_in_folder(folder: &Path) -> Result<(Weights, Sidecars), Error> {
    let names = list(folder)?;
    let has = |name: &str| names.iter().any(|n| n == name);
    let with = |end: &str| names.iter().filter(|n| n.ends_with(end)).collect::<Vec<_>>();
    let (safetensors, ggufs) = (with(".safetensors"), gguf_sets(folder, &names));
    let pickles: Vec<_> = [".bin", ".pt", ".pth", ".ckpt"].iter().flat_map(|end| with(end)).collect();

    let weights = if has(INDEX) {
        Weights::Index(folder.join(INDEX))
    } else if has(SINGLE) {
        Weights::Safetensors(folder.join(SINGLE))
    } else if has(CONFIG) && safetensors.len() == 1 {
        Weights::Safetensors(folder.join(safetensors[0]))
    } else if has(CONFIG) && safetensors.len() > 1 {
        let what = format!("{} safetensors files, but no {INDEX} that joins them", safetensors.len());
        return Err(Error::not_a_model(folder, what));
    } else if let [set] = ggufs.as_slice() {
        return Ok((Weights::Gguf(first_part(folder.join(set))?), Sidecars::default()));
    } else if !ggufs.is_empty() {
        let what = format!("several models: {}; name one of them", some(&ggufs));
        return Err(Error::not_a_model(folder, what));
    } else if let Some(pickle) = pickles.iter().find(|n| !n.starts_with("training_args")) {
        return Err(Error::not_a_model(&folder.join(pickle), sniff::PICKLE));
    } else if has(CONFIG) || has(TOKENIZER) {
        Weights::None
    } else {
        let what = format!(
            "no model in this folder; looked for {CONFIG} with {SINGLE} or {INDEX}, for a .gguf file, \
             and for {TOKENIZER}; there is {}",
            some(&names)
        );
        return Err(Error::not_a_model(folder, what));
    };
    if !matches!(weights, Weights::None) && !has(CONFIG) {
        let what = format!("weights without {CONFIG}; download it too, or name the weight file itself");
        return Err(Error::not_a_model(folder, what));
    }
    Ok((weights, Sidecars::read(folder)?))
}

/// The names in a folder, sorted; those that are not Unicode are none of ours.
fn list(folder: &Path) -> Result<Vec<String>, Error> {
    let io = |e| Error::io(folder, e);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        if let Ok(name) = entry.map_err(io)?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// One name per GGUF model; projectors of images and sound belong to a model and are none.
fn gguf_sets(folder: &Path, names: &[String]) -> Vec<String> {
    let mut sets = BTreeMap::new();
    for name in names.iter().filter(|n| n.ends_with(".gguf") && !n.starts_with("mmproj")) {
        let path = folder.join(name);
        let set = PartName::of(&path).map_or_else(|| path.clone(), |part| part.sibling(&path, 1));
        sets.entry(set).or_insert_with(|| name.clone());
    }
    sets.into_values().collect()
}

fn some(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => "nothing".into(),
        n if n <= SHOWN => names.join(", "),
        n => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
    }
}

/// The shards of an index, and for each tensor the position of its shard.
pub(crate) fn read_index(index: &Path) -> Result<(Vec<PathBuf>, BTreeMap<String, usize>), Error> {
    #[derive(Deserialize)]
    struct Raw {
        weight_map: Unique<String>,
    }
    let limit = crate::safetensors::MAX_HEADER as u64;
    let text = read_text(index, limit)?.unwrap_or_default();
    let raw: Raw = serde_json::from_str(&text)
        .map_err(|e| Error::json(index, format!("not a safetensors index: {e}")))?;
    let map = raw.weight_map.0;
    let mut shards: Vec<&String> = map.values().collect();
    shards.sort();
    shards.dedup();
    for shard in &shards {
        let mut parts = Path::new(shard).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
        if !plain || shard.contains(['/', '\\', ':', '\0']) {
            return Err(Error::json(index, format!("the shard {shard:?} is not a file of the same folder")));
        }
        if !shard.ends_with(".safetensors") {
            return Err(Error::json(index, format!("the shard {shard:?} is not a .safetensors file")));
        }
    }
    if shards.is_empty() {
        return Err(Error::json(index, "weight_map names no tensors"));
    }
    let paths = shards.iter().map(|shard| index.with_file_name(shard)).collect();
    let positions: BTreeMap<&str, usize> = shards.iter().enumerate().map(|(i, s)| (s.as_str(), i)).collect();
    let placed = map.iter().map(|(tensor, shard)| (tensor.clone(), positions[shard.as_str()])).collect();
    Ok((paths, placed))
}

/// The files beside safetensors weights.
#[derive(Debug, Default)]
pub(crate) struct Sidecars {
    pub(crate) config: Option<Value>,
    pub(crate) generation_config: Option<Value>,
    tokenizer_json: Option<ModelFile>,
    pub(crate) tokenizer_config: Option<Value>,
    /// `chat_template.jinja`, or the text in the older `chat_template.json`.
    template_file: Option<(PathBuf, String)>,
    /// `additional_chat_templates/NAME.jinja`.
    more_templates: Vec<(String, String)>,
    tokenizer_config_path: PathBuf,
    pub(crate) licence: Option<String>,
}

const MAX_TEMPLATE: u64 = 4 << 20;

/// The longest tokenizer.json that is read: ten times that of the largest vocabularies.
const MAX_TOKENIZER: usize = 512 << 20;

impl Sidecars {
    /// A configuration and nothing else.
    pub(crate) fn of_config(config: Value) -> Sidecars {
        Sidecars { config: Some(config), ..Sidecars::default() }
    }

    fn read(folder: &Path) -> Result<Sidecars, Error> {
        let mut sidecars = Sidecars {
            config: read_config(&folder.join(CONFIG))?,
            generation_config: read_config(&folder.join("generation_config.json"))?,
            licence: licence(&folder.join("README.md")),
            ..Sidecars::default()
        };
        sidecars.read_tokenizer(&folder.join(TOKENIZER), folder)?;
        Ok(sidecars)
    }

    /// For a tokenizer alone; the files beside it count only when it has its usual name.
    fn around_tokenizer(path: &Path, folder: &Path, usual: bool) -> Result<Sidecars, Error> {
        let mut sidecars = Sidecars::default();
        if usual {
            sidecars.read_tokenizer(path, folder)?;
        } else {
            sidecars.tokenizer_json = Some(ModelFile::open(path)?);
        }
        Ok(sidecars)
    }

    fn read_tokenizer(&mut self, tokenizer: &Path, folder: &Path) -> Result<(), Error> {
        if tokenizer.exists() {
            self.tokenizer_json = Some(ModelFile::open(tokenizer)?);
        }
        self.tokenizer_config_path = folder.join("tokenizer_config.json");
        self.tokenizer_config = read_config(&self.tokenizer_config_path)?;
        let jinja = folder.join("chat_template.jinja");
        if let Some(text) = read_text(&jinja, MAX_TEMPLATE)? {
            self.template_file = Some((jinja, text));
        } else {
            let json = folder.join("chat_template.json");
            if let Some(value) = read_config(&json)? {
                let text = value.get("chat_template").and_then(Value::as_str).map(str::to_owned);
                let text = text.ok_or_else(|| Error::json(&json, "chat_template is not a string"))?;
                self.template_file = Some((json, text));
            }
        }
        let more = folder.join("additional_chat_templates");
        if more.is_dir() {
            for name in list(&more)? {
                if let Some(stem) = name.strip_suffix(".jinja")
                    && let Some(text) = read_text(&more.join(&name), MAX_TEMPLATE)?
                {
                    self.more_templates.push((stem.to_owned(), text));
                }
            }
        }
        Ok(())
    }

    /// The bytes of `tokenizer.json`.
    pub(crate) fn tokenizer_json(&self) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = &self.tokenizer_json else { return Ok(None) };
        if file.len() > MAX_TOKENIZER {
            let what = format!("{} bytes; at most {MAX_TOKENIZER} are read", file.len());
            return Err(Error::json(file.path(), what));
        }
        Ok(Some(file.read(&"all of it", 0..file.len())?.into_owned()))
    }

    /// A file of its own wins over `tokenizer_config.json`, as in transformers.
    pub(crate) fn chat_template(&self) -> Result<Option<ChatTemplateSource>, Error> {
        let named = self.more_templates.clone();
        if let Some((path, text)) = &self.template_file {
            let origin = path.display().to_string();
            return Ok(Some(ChatTemplateSource { default: Some(text.clone()), named, origin }));
        }
        let path = &self.tokenizer_config_path;
        let mut source = ChatTemplateSource { default: None, named, origin: path.display().to_string() };
        let wrong = || Error::json(path, "chat_template is neither a string nor a list of {name, template}");
        match self.tokenizer_config.as_ref().and_then(|config| config.get("chat_template")) {
            None | Some(Value::Null) if source.named.is_empty() => return Ok(None),
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => source.default = Some(text.clone()),
            Some(Value::Array(list)) => {
                for item in list {
                    let text = |field| item.get(field).and_then(Value::as_str).map(str::to_owned);
                    let (name, text) = text("name").zip(text("template")).ok_or_else(wrong)?;
                    if name == "default" {
                        source.default = Some(text);
                    } else {
                        source.named.push((name, text));
                    }
                }
            }
            Some(_) => return Err(wrong()),
        }
        Ok(Some(source))
    }
}

/// `license:` in the front matter of a README. A courtesy for `show`: whatever is odd gives nothing.
fn licence(readme: &Path) -> Option<String> {
    let text = read_text(readme, 4 << 20).ok()??;
    let front = text.trim_start_matches('\u{feff}').strip_prefix("---")?.split("\n---").next()?;
    let field = |name: &str| {
        let mut lines = front.lines();
        let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.trim();
        let value = if rest.is_empty() { lines.next()?.trim().strip_prefix("- ")? } else { rest };
        let value = value.trim().trim_matches(['"', '\'']);
        (!value.is_empty()).then(|| value.to_owned())
    };
    let licence = field("license")?;
    if licence == "other" { field("license_name").or(Some(licence)) } else { Some(licence) }
}

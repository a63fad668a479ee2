//! One view over the files of a model.

use crate::error::Quoted;
use crate::file::ModelFile;
use crate::folder::{Sidecars, Weights};
use crate::index::NameIndex;
use crate::metadata::Metadata;
use crate::split::{self, Split};
use crate::tensor::{Tensor, TensorInfo};
use crate::tokenizer::{self, ChatTemplateSource, GgufVocab, TokenizerFiles};
use crate::{Error, folder, gguf, safetensors, sniff};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a model's tensors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One GGUF file, or a split set of them.
    Gguf,
    /// One safetensors file, or the shards of an index.
    Safetensors,
    /// A configuration or a tokenizer without weights.
    NoWeights,
}

/// A model on disk (or embedded in the program): tensors, metadata, configuration, vocabulary.
///
/// Weight files stay open for as long as this lives, so that their tensors can be read even when the files have been
/// deleted or replaced by renaming (as the writers here do). Of a file that another program shortens or writes over, reading
/// fails or gives the new bytes.
#[derive(Debug)]
pub struct Checkpoint {
    kind: Kind,
    path: PathBuf,
    files: Vec<ModelFile>,
    /// Each tensor with the position of its file.
    tensors: Vec<(u32, TensorInfo)>,
    index: NameIndex,
    metadata: Metadata,
    sidecars: Sidecars,
}

impl Checkpoint {
    /// Opens a `.gguf` or `.safetensors` file (told apart by content), a `model.safetensors.index.json`, a
    /// `tokenizer.json`, or a folder.
    ///
    /// - Of a split GGUF set any part may be named; the others are found beside it.
    /// - `model.safetensors` stands for its folder when that has a `config.json`.
    /// - A folder holds `config.json` with safetensors weights, or exactly one GGUF (set).
    ///
    /// Every size and offset is checked here, so that nothing can go out of bounds later.
    ///
    /// # Errors
    /// What is missing, wrong or contradictory, with the file, the field and the byte offset.
    pub fn open(path: &Path) -> Result<Checkpoint, Error> {
        let (weights, sidecars) = folder::find(path)?;
        let mut checkpoint = match weights {
            Weights::Gguf(first) => Self::open_gguf(path, &first)?,
            Weights::Safetensors(file) => Self::open_safetensors(path, &[file], None)?,
            Weights::Index(index) => {
                let (shards, placed) = folder::read_index(&index)?;
                Self::open_safetensors(path, &shards, Some((&index, placed)))?
            }
            Weights::None => Self::assemble(Kind::NoWeights, path, vec![], vec![], Metadata::default())?,
        };
        checkpoint.sidecars = sidecars;
        Ok(checkpoint)
    }

    /// Opens a GGUF file that is part of the program. `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_gguf_bytes(name: &str, bytes: &'static [u8]) -> Result<Checkpoint, Error> {
        let file = ModelFile::embedded(name, bytes);
        let header = gguf::header(&file)?;
        let split = Split::of(&header.metadata)?;
        if split.count > 1 {
            let what = format!("part of a set of {} files, which only files on disk can be", split.count);
            return Err(header.metadata.error(split::COUNT, what));
        }
        let tensors = header.tensors.into_iter().map(|tensor| (0, tensor)).collect();
        Self::assemble(Kind::Gguf, Path::new(name), vec![file], tensors, header.metadata)
    }

    /// A configuration alone, as if a folder held nothing else. `name` stands for the folder in messages.
    pub fn from_config(name: &str, config: serde_json::Value) -> Checkpoint {
        let (path, index) = (PathBuf::from(name), NameIndex::default());
        let sidecars = Sidecars::of_config(config);
        let (files, tensors, metadata) = (Vec::new(), Vec::new(), Metadata::default());
        Checkpoint { kind: Kind::NoWeights, path, files, tensors, index, metadata, sidecars }
    }

    fn open_gguf(path: &Path, first: &Path) -> Result<Checkpoint, Error> {
        let file = ModelFile::open(first)?;
        let header = gguf::header(&file)?;
        let split = Split::of(&header.metadata)?;
        let parts = split.parts(first, &header.metadata)?;
        let metadata = header.metadata;
        let mut files = vec![file];
        let mut tensors: Vec<_> = header.tensors.into_iter().map(|tensor| (0, tensor)).collect();
        for (number, part) in parts.iter().enumerate().skip(1) {
            let file = ModelFile::open(part)?;
            let header = gguf::header(&file)?;
            split.check_part(number, &metadata, &header.metadata)?;
            tensors.extend(header.tensors.into_iter().map(|tensor| (number as u32, tensor)));
            files.push(file);
        }
        split.check_total(&metadata, tensors.len())?;
        Self::assemble(Kind::Gguf, path, files, tensors, metadata)
    }

    /// `placed`: the index and, per tensor, the position of the shard it names.
    fn open_safetensors(
        path: &Path,
        shards: &[PathBuf],
        placed: Option<(&Path, BTreeMap<String, usize>)>,
    ) -> Result<Checkpoint, Error> {
        let mut files = Vec::new();
        let mut tensors = Vec::new();
        for (number, shard) in shards.iter().enumerate() {
            let file = ModelFile::open(shard).map_err(|e| match (&placed, e) {
                (Some((index, _)), Error::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    let what = format!("missing, although {} names it; download it again", index.display());
                    Error::not_a_model(shard, what)
                }
                (_, e) => e,
            })?;
            let header = safetensors::header(&file)?;
            tensors.extend(header.tensors.into_iter().map(|tensor| (number as u32, tensor)));
            files.push(file);
        }
        let checkpoint = Self::assemble(Kind::Safetensors, path, files, tensors, Metadata::default())?;
        if let Some((index, placed)) = placed {
            for (name, number) in placed {
                let at = checkpoint.position(&name).map(|i| checkpoint.tensors[i].0 as usize);
                if at != Some(number) {
                    let found = at.map_or("nowhere".into(), |i| shards[i].display().to_string());
                    let what = format!(
                        "tensor {} should be in {}; it is {found}",
                        Quoted(&name),
                        shards[number].display()
                    );
                    return Err(Error::json(index, what));
                }
            }
        }
        Ok(checkpoint)
    }

    fn assemble(
        kind: Kind,
        path: &Path,
        files: Vec<ModelFile>,
        tensors: Vec<(u32, TensorInfo)>,
        metadata: Metadata,
    ) -> Result<Checkpoint, Error> {
        let index = NameIndex::new(tensors.len(), |i| &tensors[i].1.name).map_err(|(first, second)| {
            let (file, tensor) = &tensors[second];
            let other = files[tensors[first].0 as usize].path().display();
            let field = format!("tensor {}", Quoted(&tensor.name));
            Error::malformed(
                files[*file as usize].path(),
                field,
                tensor.offset,
                format!("{other} holds one of that name too"),
            )
        })?;
        let path = path.to_path_buf();
        Ok(Checkpoint { kind, path, files, tensors, index, metadata, sidecars: Sidecars::default() })
    }

    /// What kind of files the tensors come from.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The path that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size of all weight files together, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }

    /// The weight files, in order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(ModelFile::path)
    }

    /// All tensors, in file order.
    pub fn tensors(&self) -> impl Iterator<Item = Tensor<'_>> {
        (0..self.tensors.len()).map(|i| self.at(i))
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.position(name).map(|i| self.at(i))
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.index.find(name, |i| &self.tensors[i].1.name)
    }

    fn at(&self, i: usize) -> Tensor<'_> {
        let (number, info) = &self.tensors[i];
        Tensor::of(&self.files[*number as usize], info)
    }

    /// The key-values of the (first) GGUF file; empty for safetensors.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// `config.json`.
    pub fn config(&self) -> Option<&serde_json::Value> {
        self.sidecars.config.as_ref()
    }

    /// `generation_config.json`.
    pub fn generation_config(&self) -> Option<&serde_json::Value> {
        self.sidecars.generation_config.as_ref()
    }

    /// What tokenizers are made from: the folder's files, or the GGUF vocabulary.
    ///
    /// # Errors
    /// When `tokenizer.json` cannot be read, or the GGUF vocabulary contradicts itself: arrays of different lengths, ids
    /// outside of it.
    pub fn tokenizer(&self) -> Result<TokenizerFiles<'_>, Error> {
        Ok(TokenizerFiles {
            tokenizer_json: self.sidecars.tokenizer_json()?,
            tokenizer_config: self.sidecars.tokenizer_config.as_ref(),
            gguf: GgufVocab::read(&self.metadata)?,
        })
    }

    /// The chat templates that come with the model.
    ///
    /// # Errors
    /// When the key or field that should hold one holds something else.
    pub fn chat_template(&self) -> Result<Option<ChatTemplateSource>, Error> {
        match tokenizer::gguf_template(&self.metadata)? {
            Some(template) => Ok(Some(template)),
            None => self.sidecars.chat_template(),
        }
    }

    /// The licence: `general.license` of a GGUF file, or `license:` in the README of a folder.
    pub fn licence(&self) -> Option<String> {
        let stated = |key| self.metadata.str(key).ok().flatten().map(str::to_owned);
        let short = stated("general.license");
        let named =
            if short.as_deref().is_none_or(|l| l == "other") { stated("general.license.name") } else { None };
        named.or(short).or_else(|| self.sidecars.licence.clone())
    }
}

/// Refuses what is neither, by content.
pub(crate) fn weights_of_file(path: &Path) -> Result<Weights, Error> {
    let file = ModelFile::open(path)?;
    let head = &*file.head(sniff::HEAD)?;
    let named = |end: &str| path.extension().is_some_and(|ext| ext.eq_ignore_ascii_case(end));
    if head.starts_with(&gguf::MAGIC) || named("gguf") {
        Ok(Weights::Gguf(path.to_path_buf()))
    } else if sniff::looks_like_safetensors(head, file.len()) || named("safetensors") {
        Ok(Weights::Safetensors(path.to_path_buf()))
    } else {
        let what = format!("neither GGUF nor safetensors: {}", sniff::describe(head, file.len()));
        Err(Error::not_a_model(path, what))
    }
}

//! Which of a repository's files make the model that was asked for.

use crate::Error;
use crate::name::{Pick, RepoPath, is_pickle};
use crate::nearest::nearest_names;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// The files of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// What is opened: a GGUF file, or the folder when `None`.
    pub(crate) entry: Option<RepoPath>,
    /// All that are needed, the small ones first: when the last is there, all are.
    pub(crate) files: Vec<RepoPath>,
}

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// What is read beside safetensors weights.
const BESIDE: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
];

/// Quantisations in the order in which they are taken when none is named.
const USUAL: &[&str] = &["Q4_K_M", "MXFP4", "Q4_K_S", "Q5_K_M", "Q4_0", "Q6_K", "Q8_0", "BF16", "F16", "F32"];

/// Chooses among `paths`. `read` gets the text of a small file (the index of the shards).
///
/// # Errors
/// What is missing, or not safe to load.
pub(crate) fn select(
    repo: &str,
    paths: &[RepoPath],
    pick: &Pick,
    read: &mut dyn FnMut(&RepoPath) -> Result<Vec<u8>, Error>,
) -> Result<Selection, Error> {
    let no_model = |why: String| Error::NoModel { repo: repo.into(), why };
    match pick {
        Pick::File(file) => match paths.contains(file) {
            true => gguf(repo, paths, file),
            false => Err(no_file(repo, file, paths)),
        },
        Pick::Format(format) => {
            let found = formats(paths);
            match best(&found, format) {
                Some(file) => gguf(repo, paths, file),
                None => {
                    let have: Vec<String> = found.keys().cloned().collect();
                    match have.is_empty() {
                        true => {
                            Err(no_model(format!("no GGUF files, and {format} is a format of GGUF files")))
                        }
                        false => Err(Error::NoSuchFormat { repo: repo.into(), wanted: format.clone(), have }),
                    }
                }
            }
        }
        Pick::Usual => {
            if let Some(weights) = safetensors(repo, paths, read)? {
                let beside = BESIDE.iter().filter_map(|name| paths.iter().find(|p| p.as_str() == *name));
                return Ok(Selection { entry: None, files: beside.cloned().chain(weights).collect() });
            }
            let found = formats(paths);
            let usual = USUAL.iter().find_map(|format| best(&found, format));
            if let Some(file) = usual.or_else(|| found.values().flatten().next().copied()) {
                return gguf(repo, paths, file);
            }
            match paths.iter().find(|path| is_pickle(path.file_name())) {
                Some(file) => Err(Error::Pickle { repo: repo.into(), file: file.to_string() }),
                None => Err(no_model("no safetensors with a config.json, and no GGUF files".into())),
            }
        }
    }
}

/// The GGUF files that there are instead of the one that was named, the likeliest first.
fn no_file(repo: &str, file: &RepoPath, paths: &[RepoPath]) -> Error {
    /// More are not read.
    const SHOWN: usize = 12;
    let there =
        || paths.iter().map(RepoPath::as_str).filter(|path| path.to_ascii_lowercase().ends_with(".gguf"));
    let mut have: Vec<String> =
        nearest_names(file.as_str(), there(), 3).into_iter().map(str::to_owned).collect();
    have.extend(
        there().filter(|path| !have.iter().any(|near| near == path)).map(str::to_owned).collect::<Vec<_>>(),
    );
    match have.len() {
        0 => Error::NoModel { repo: repo.into(), why: "it has no GGUF files".into() },
        all => {
            have.truncate(SHOWN);
            have.extend((all > SHOWN).then(|| format!("{} more", all - SHOWN)));
            Error::NoSuchFormat { repo: repo.into(), wanted: format!("file {file}"), have }
        }
    }
}

/// The weights of a safetensors model, the index before its shards.
fn safetensors(
    repo: &str,
    paths: &[RepoPath],
    read: &mut dyn FnMut(&RepoPath) -> Result<Vec<u8>, Error>,
) -> Result<Option<Vec<RepoPath>>, Error> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let find = |name: &str| paths.iter().find(|path| path.as_str() == name);
    if find("config.json").is_none() {
        return Ok(None);
    }
    let Some(index) = find(INDEX) else {
        let mut tops =
            paths.iter().filter(|p| !p.as_str().contains('/') && p.as_str().ends_with(".safetensors"));
        let only = match (tops.next(), tops.next()) {
            (Some(only), None) => Some(only),
            _ => None,
        };
        return Ok(find(SINGLE).or(only).map(|file| vec![file.clone()]));
    };
    let no_model = |why: String| Error::NoModel { repo: repo.into(), why };
    let parsed: Index = serde_json::from_slice(&read(index)?)
        .map_err(|e| no_model(format!("{INDEX} cannot be read: {e}")))?;
    let shards: BTreeSet<&String> = parsed.weight_map.values().collect();
    let mut files = vec![index.clone()];
    for shard in shards {
        let file =
            find(shard).ok_or_else(|| no_model(format!("{INDEX} names {shard:?}, which is not there")))?;
        files.push(file.clone());
    }
    Ok(Some(files))
}

/// The first files of the GGUF models in a repository, by quantisation.
fn formats(paths: &[RepoPath]) -> BTreeMap<String, Vec<&RepoPath>> {
    let mut found: BTreeMap<String, Vec<&RepoPath>> = BTreeMap::new();
    for path in paths {
        let name = path.file_name().to_ascii_lowercase();
        let Some(stem) = name.strip_suffix(".gguf") else { continue };
        // Projectors of pictures, importance matrices and drafts are no models of their own.
        if ["mmproj", "imatrix", "draft-"].iter().any(|other| stem.contains(other)) {
            continue;
        }
        let (stem, part) = split_part(stem);
        if part.is_none_or(|(number, _)| number == 1) {
            let format = stem.rsplit(['-', '.']).next().unwrap_or(stem).to_ascii_uppercase();
            found.entry(format).or_default().push(path);
        }
    }
    found
}

/// The quantisations in which a repository has GGUF models.
pub(crate) fn formats_of(paths: &[RepoPath]) -> Vec<String> {
    formats(paths).into_keys().collect()
}

/// Of the files in a format the one with the plainest name, whole rather than split.
fn best<'a>(found: &BTreeMap<String, Vec<&'a RepoPath>>, format: &str) -> Option<&'a RepoPath> {
    let plain = format.rsplit('-').next().unwrap_or(format); // UD-Q4_K_XL is Q4_K_XL, made by UD
    let fits = |path: &&&RepoPath| {
        plain == format || path.file_name().to_ascii_uppercase().contains(&format!("-{format}"))
    };
    let name = |path: &&&RepoPath| (split_part(path.as_str()).1.is_some(), path.as_str().len());
    found.get(plain)?.iter().filter(fits).min_by_key(name).copied()
}

/// A GGUF file, or the whole set that it is the first of.
fn gguf(repo: &str, paths: &[RepoPath], file: &RepoPath) -> Result<Selection, Error> {
    let stem = file.as_str().strip_suffix(".gguf").unwrap_or(file.as_str());
    let (prefix, Some((_, count))) = split_part(stem) else {
        return Ok(Selection { entry: Some(file.clone()), files: vec![file.clone()] });
    };
    let part = |number: usize| {
        let name = format!("{prefix}-{number:05}-of-{count:05}.gguf");
        let why = format!("{name} is missing, one of the {count} parts");
        let found = paths.iter().find(|path| path.as_str() == name);
        found.cloned().ok_or_else(|| Error::NoModel { repo: repo.into(), why })
    };
    let files = (1..=count).map(part).collect::<Result<Vec<_>, _>>()?;
    Ok(Selection { entry: files.first().cloned(), files })
}

/// `NAME-00001-of-00003` taken apart: the name, and which of how many.
fn split_part(stem: &str) -> (&str, Option<(usize, usize)>) {
    let parsed = || {
        let (rest, count) = stem.strip_suffix(".gguf").unwrap_or(stem).rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let five = |text: &str| if text.len() == 5 { text.parse::<usize>().ok() } else { None };
        let (number, count) = (five(number)?, five(count)?);
        (1..=count).contains(&number).then_some((prefix, (number, count)))
    };
    match parsed() {
        Some((prefix, part)) => (prefix, Some(part)),
        None => (stem, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files chosen, separated by spaces, or the error.
    fn chosen(pick: &str, paths: &[&str]) -> String {
        let paths: Vec<RepoPath> = paths.iter().map(|path| RepoPath::new(path).unwrap()).collect();
        let pick = if pick.is_empty() { Pick::Usual } else { crate::name::parse_pick(pick).unwrap() };
        let index =
            br#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors", "c": "m-1.safetensors"}}"#;
        match select("a/b", &paths, &pick, &mut |_| Ok(index.to_vec())) {
            Ok(selection) => selection.files.iter().map(RepoPath::as_str).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn only_the_files_needed_are_chosen() {
        let shards =
            &["config.json", INDEX, "m-1.safetensors", "m-2.safetensors", "original/m-1.safetensors"];
        let quants = &["x-Q8_0.gguf", "x-Q4_K_M.gguf", "mmproj-x-f16.gguf", "x-UD-Q4_K_XL.gguf", "README.md"];
        let splits =
            &["Q4_K_M/x-Q4_K_M-00001-of-00002.gguf", "Q4_K_M/x-Q4_K_M-00002-of-00002.gguf", "x-BF16.gguf"];
        let both = &["x-q4_k_m-00001-of-00002.gguf", "x-q4_k_m-00002-of-00002.gguf", "x-q4_k_m.gguf"];
        for (pick, paths, expected) in [
            (
                "",
                &["config.json", SINGLE, "tokenizer.json", "x.msgpack", "pytorch_model.bin"][..],
                "config.json tokenizer.json model.safetensors",
            ),
            ("", shards, "config.json model.safetensors.index.json m-1.safetensors m-2.safetensors"),
            ("", &["config.json", SINGLE, "consolidated.safetensors"], "config.json model.safetensors"),
            ("", &["config.json", "weights.safetensors"], "config.json weights.safetensors"),
            ("", &shards[..3], "! names \"m-2.safetensors\", which is not there"),
            ("", quants, "x-Q4_K_M.gguf"),
            ("Q8_0", quants, "x-Q8_0.gguf"),
            ("q4_k_xl", quants, "x-UD-Q4_K_XL.gguf"),
            ("UD-Q4_K_XL", quants, "x-UD-Q4_K_XL.gguf"),
            ("UD-Q4_K_M", quants, "! has no UD-Q4_K_M; it has Q4_K_M, Q4_K_XL, Q8_0"),
            ("Q2_K", quants, "! has no Q2_K; it has Q4_K_M, Q4_K_XL, Q8_0"),
            ("mmproj-x-f16.gguf", quants, "mmproj-x-f16.gguf"),
            ("", splits, "Q4_K_M/x-Q4_K_M-00001-of-00002.gguf Q4_K_M/x-Q4_K_M-00002-of-00002.gguf"),
            ("Q4_K_M", &splits[..1], "! 00002-of-00002.gguf is missing"),
            ("Q4_K_M", both, "x-q4_k_m.gguf"),
            ("Q4_K_M", &["config.json", SINGLE], "! no GGUF files"),
            ("absent.gguf", quants, "! has no file absent.gguf; it has x-Q8_0.gguf, x-Q4_K_M.gguf, "),
            ("x-Q4_K_S.gguf", quants, "! has no file x-Q4_K_S.gguf; it has x-Q4_K_M.gguf, x-Q8_0.gguf"),
            ("absent.gguf", &["config.json", SINGLE], "! no GGUF files"),
            ("", &["config.json", "pytorch_model.bin"], "! pickle checkpoint (pytorch_model.bin)"),
            ("", &["README.md"], "! no safetensors with a config.json, and no GGUF files"),
        ] {
            let found = chosen(pick, paths);
            let good = match expected.strip_prefix("! ") {
                Some(part) => found.contains(part),
                None => found == expected,
            };
            assert!(good, "{pick} of {paths:?}: {found}");
        }
    }
}

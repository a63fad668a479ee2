//! Short names of well-known releases.

use crate::name::{Origin, Pick, Place, Repo, Revision, parse_pick};
use crate::nearest::meant;
use serde_json::Value;

/// One line for each release; the file's head says what the columns are.
const DATA: &str = include_str!("../data/catalogue.txt");
/// What releases' configurations say about size: `families` has what the shapes of one have in common, `shapes` the family
/// and the rest.
const SHAPES: &str = include_str!("../data/shapes.json");

/// A release: what its short name stands for.
#[derive(Clone, Debug)]
pub struct Release {
    /// `qwen3:4b`
    pub name: &'static str,
    /// The repository.
    pub repo: Repo,
    /// Which of its files.
    pub pick: Pick,
    /// A commit or a tag that is always meant, or `None`: the newest state, pinned when it is pulled.
    pub revision: Option<Revision>,
    /// Parameters; for a mixture of experts the active ones too, as in `30.5B-A3.3B`.
    pub parameters: &'static str,
    /// The name of its shape.
    shape: &'static str,
    /// About how many bytes are downloaded.
    pub bytes: u64,
    /// The licence as the hub names it.
    pub licence: &'static str,
    /// Tokens of context that it was trained for.
    pub context: u32,
    /// Languages: a number, or codes.
    pub languages: &'static str,
}

/// The releases that have short names.
#[derive(Clone, Debug)]
pub struct Catalogue {
    releases: Vec<Release>,
}

impl Catalogue {
    /// The catalogue that is part of the program.
    pub fn builtin() -> Catalogue {
        let lines = DATA.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        // A line that does not parse would be missing here; a test counts them.
        Catalogue { releases: lines.filter_map(parse).collect() }
    }

    /// All of them, in the order of the file.
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// What a short name stands for; `NAME-q8_0` is the same release in another quantisation. Words that other programs put
    /// in between, or leave out, make no difference: `qwen3:30b` is `qwen3:30b-a3b`.
    pub fn find(&self, name: &str) -> Option<Place> {
        let place = |release: &Release, pick: Pick| Place::Repo {
            repo: release.repo.clone(),
            pick,
            revision: release.revision.clone(),
        };
        if let Some(release) = self.exact(name) {
            return Some(place(release, release.pick.clone()));
        }
        let (name, format) = name.rsplit_once('-')?;
        let release = self.exact(name).filter(|release| release.pick != Pick::Usual)?;
        match parse_pick(format)? {
            pick @ Pick::Format(_) => Some(place(release, pick)),
            _ => None,
        }
    }

    /// The release that is called so, else the one that is when only what tells releases apart is compared.
    fn exact(&self, name: &str) -> Option<&Release> {
        let same = |release: &&Release| release.name.eq_ignore_ascii_case(name);
        let alike = |idle: &[&str]| {
            let wanted = essence(name, idle);
            self.releases.iter().find(|release| essence(release.name, &[]) == wanted)
        };
        self.releases.iter().find(same).or_else(|| alike(&[])).or_else(|| alike(&["instruct", "chat"]))
    }

    /// The release with a name, or the first with the files of a repository.
    pub fn release(&self, place: &Place) -> Option<&Release> {
        let Place::Repo { repo: wanted, pick, .. } = place else { return None };
        let same = |release: &&Release| release.repo == *wanted;
        let exact = self.releases.iter().find(|release| same(release) && release.pick == *pick);
        exact.or_else(|| self.releases.iter().find(same))
    }

    /// What may have been meant: the sizes of a family, or names that are nearly the same.
    pub fn nearest(&self, name: &str) -> Vec<String> {
        let names: Vec<String> = self.releases.iter().map(|release| release.name.to_owned()).collect();
        meant(name, &names)
    }
}

impl Release {
    /// What its config.json says about size, without the rest. `None` only if the program's data is wrong.
    pub fn config(&self) -> Option<Value> {
        let data: Value = serde_json::from_str(SHAPES).ok()?;
        let shape = data["shapes"][self.shape].as_array()?;
        let mut config = data["families"][shape.first()?.as_str()?].as_object()?.clone();
        config.extend(shape.get(1)?.as_object()?.clone());
        Some(Value::Object(config))
    }

    /// What it is made for, as far as its name says.
    pub fn purpose(&self) -> Purpose {
        let family = self.name.split(':').next().unwrap_or_default();
        match family {
            _ if family.contains("-embedding") => Purpose::Embedding,
            _ if family.contains("-reranker") => Purpose::Reranking,
            _ if family.contains("-coder") => Purpose::Code,
            _ => Purpose::Conversation,
        }
    }

    /// Whether it is for a language, by its code; of those with many languages only how many is known.
    pub fn speaks(&self, language: &str) -> bool {
        let listed = self.languages.split(',').any(|code| code.eq_ignore_ascii_case(language));
        listed || self.languages.parse::<u32>().is_ok()
    }
}

/// What a release is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Conversation and everything else that texts are asked for.
    Conversation,
    /// Programs.
    Code,
    /// Vectors.
    Embedding,
    /// The order of documents.
    Reranking,
}

/// A name without words that tell no releases apart: the active parameters (`a3b`), a date, `it`, and those that are `idle`
/// besides.
fn essence(name: &str, idle: &[&str]) -> String {
    let active = |word: &str| {
        let number = word.strip_prefix('a').and_then(|word| word.strip_suffix('b')).unwrap_or_default();
        number.parse::<f32>().is_ok()
    };
    let tells = |word: &&str| !active(word) && !["2507", "it"].contains(word) && !idle.contains(word);
    name.to_ascii_lowercase().split('-').filter(tells).collect::<Vec<_>>().join("-")
}

fn parse(line: &'static str) -> Option<Release> {
    let columns: Vec<&'static str> = line.split('|').map(str::trim).collect();
    let [name, place, revision, parameters, shape, gigabytes, licence, context, languages] = columns[..]
    else {
        return None;
    };
    let (repo, pick) = match place.split_once(':') {
        Some((repo, pick)) => (repo, parse_pick(pick)?),
        None => (place, Pick::Usual),
    };
    let (owner, repo) = repo.split_once('/')?;
    let bytes = gigabytes.parse::<f64>().ok().filter(|g| *g > 0.0)? * 1e9;
    Some(Release {
        name,
        repo: Repo::new(Origin::HuggingFace, owner, repo)?,
        pick,
        revision: if revision == "newest" { None } else { Some(Revision::new(revision)?) },
        parameters,
        shape,
        bytes: bytes as u64,
        licence,
        context: context.parse().ok()?,
        languages,
    })
}

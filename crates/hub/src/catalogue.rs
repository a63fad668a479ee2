//! Short names of well-known releases.

use crate::name::{Origin, Pick, Place, Repo, Revision, parse_pick};
use crate::nearest::nearest_names;

/// One line for each release; the file's head says what the columns are.
const DATA: &str = include_str!("../data/catalogue.txt");

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

    /// What a short name stands for; `NAME-q8_0` is the same release in another quantisation.
    pub fn find(&self, name: &str) -> Option<Place> {
        let exact = |name: &str| self.releases.iter().find(|r| r.name.eq_ignore_ascii_case(name));
        let place = |release: &Release, pick: Pick| Place::Repo {
            repo: release.repo.clone(),
            pick,
            revision: release.revision.clone(),
        };
        if let Some(release) = exact(name) {
            return Some(place(release, release.pick.clone()));
        }
        let (at, _) = name.match_indices('-').find(|(at, _)| exact(&name[..*at]).is_some())?;
        let release = exact(&name[..at]).filter(|release| release.pick != Pick::Usual)?;
        match parse_pick(&name[at + 1..])? {
            pick @ Pick::Format(_) => Some(place(release, pick)),
            _ => None,
        }
    }

    /// What may have been meant: the sizes of a family, or names that are nearly the same.
    pub fn nearest(&self, name: &str) -> Vec<String> {
        let names = || self.releases.iter().map(|release| release.name);
        let family = format!("{}:", name.split(':').next().unwrap_or(name).to_lowercase());
        let sizes: Vec<_> = names().filter(|known| known.starts_with(&family)).map(str::to_owned).collect();
        if !sizes.is_empty() {
            return sizes;
        }
        nearest_names(name, names(), 3).into_iter().map(str::to_owned).collect()
    }
}

fn parse(line: &'static str) -> Option<Release> {
    let columns: Vec<&'static str> = line.split('|').map(str::trim).collect();
    let [name, place, revision, parameters, gigabytes, licence, context, languages] = columns[..] else {
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
        bytes: bytes as u64,
        licence,
        context: context.parse().ok()?,
        languages,
    })
}

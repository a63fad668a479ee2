//! What has to hold of every name, for tests and for fuzzing.

use sampan_hub::{ModelName, Origin, Pick, Place, Repo};
use std::path::{Component, Path};

/// Parses a name. Whatever it is, nothing panics, and nothing that it leads to lies outside the store.
/// Returns whether it is a name.
pub(crate) fn name(text: &str) -> bool {
    let mut any = false;
    for origin in [Origin::HuggingFace, Origin::ModelScope] {
        match ModelName::parse(text, origin) {
            Ok(name) => {
                any = true;
                stays_inside(name.place());
            }
            Err(error) => assert!(!error.to_string().is_empty() && !error.hint().is_empty()),
        }
    }
    any
}

fn stays_inside(place: &Place) {
    match place {
        Place::Repo { repo, pick, revision } => {
            assert_eq!(ordinary(&repo.folder()), 1, "{repo:?}");
            assert_eq!(Repo::from_folder(repo.origin(), &repo.folder()).as_ref(), Some(repo));
            if let Some(revision) = revision {
                assert!(ordinary(revision.as_str()) > 0);
            }
            if let Pick::File(file) = pick {
                assert!(ordinary(file.as_str()) > 0 && !file.as_str().contains('\\'));
            }
        }
        Place::Url(url) => assert!(url.starts_with("http://") || url.starts_with("https://")),
    }
}

/// How many parts a relative path has, each of them the ordinary name of a file.
fn ordinary(path: &str) -> usize {
    let parts: Vec<_> = Path::new(path).components().collect();
    assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
    parts.len()
}
